//! Custom executors: tasks that run other tasks in their own container.

use serde::{Deserialize, Serialize};

use crate::{ids::TaskId, task::TaskInfo};

/// What runs a task, and whether it runs others. An executor is run by no other: one value says both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Execution {
    /// Its agent, in a container of its own.
    #[default]
    Agent,
    /// The same, and it is an executor: it runs the tasks that name it.
    Executor,
    /// This executor, a task of the same framework on the same agent, in its container.
    By(TaskId),
}

impl TaskInfo {
    /// True when it may run other tasks.
    pub fn is_executor(&self) -> bool {
        self.execution == Execution::Executor
    }

    /// The task that runs it, if that is not its agent.
    pub fn executor(&self) -> Option<&TaskId> {
        match &self.execution {
            Execution::By(executor) => Some(executor),
            Execution::Agent | Execution::Executor => None,
        }
    }
}
