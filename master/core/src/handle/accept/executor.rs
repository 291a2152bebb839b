//! Who may be run by which executor.

use std::collections::BTreeMap;

use apportion_types::{AgentCapability, AgentId, Execution, FrameworkId, TaskId, TaskInfo, limits};

use crate::state::State;

/// The executors of one call, and the tasks that it gives to executors.
#[derive(Default)]
pub(crate) struct Executors {
    /// Those that are launched, with their agents.
    launched: BTreeMap<TaskId, AgentId>,
    /// How many tasks each is given.
    given: BTreeMap<TaskId, usize>,
}

impl Executors {
    /// A task of the call is launched.
    pub(super) fn launch(&mut self, agent_id: &AgentId, info: &TaskInfo) {
        match &info.execution {
            Execution::Agent => {}
            Execution::Executor => _ = self.launched.insert(info.task_id.clone(), agent_id.clone()),
            Execution::By(executor) => *self.given.entry(executor.clone()).or_default() += 1,
        }
    }
}

impl State {
    /// Judges whether an agent knows executors, where a task is one or names one.
    pub(super) fn judge_executor_support(&self, agent_id: &AgentId, info: &TaskInfo) -> Result<(), String> {
        let agent = &self.view.agents[agent_id].info;
        if info.execution == Execution::Agent || agent.capabilities.contains(&AgentCapability::Executors) {
            return Ok(());
        }
        Err(format!(
            "agent {agent_id} does not know executors; its version `{}` is older than they are: upgrade it, or take another",
            agent.version
        ))
    }

    /// Judges whether a task can be run by the executor that it names, if it names one.
    pub(super) fn judge_executor(
        &self,
        id: &FrameworkId,
        agent_id: &AgentId,
        info: &TaskInfo,
        call: &Executors,
    ) -> Result<(), String> {
        let Some(executor) = info.executor() else { return Ok(()) };
        let key = (id.clone(), executor.clone());
        let known = self.view.tasks.get(&key);
        let problem = match (call.launched.get(executor), known) {
            (Some(other), _) if other != agent_id => Some(format!("is launched on agent {other}")),
            (Some(_), _) => None,
            (None, None) => Some("is not known".to_owned()),
            (None, Some(task)) if task.agent_id != *agent_id => {
                Some(format!("is on agent {}", task.agent_id))
            }
            (None, Some(task)) if !task.info.is_executor() => {
                Some("is no executor; it would have to be described as one".to_owned())
            }
            (None, Some(task)) if !task.state.holds_resources() => Some(format!("is {}", task.state)),
            (None, Some(_)) if self.is_ending(&key) => Some("is asked to end".to_owned()),
            (None, Some(_)) => None,
        };
        if let Some(problem) = problem {
            return Err(format!(
                "task `{}` is to be run on agent {agent_id} by executor `{executor}`, which {problem}; name an executor that runs there, \
                 or launch one before it in the same call",
                info.task_id
            ));
        }
        let of_framework = self.frameworks[id].executed.get(executor).copied().unwrap_or(0);
        let tasks = of_framework + call.given.get(executor).copied().unwrap_or(0);
        match tasks >= limits::EXECUTOR_TASKS_MAX {
            true => Err(format!(
                "task `{}` is to be run by executor `{executor}`, which has {tasks} tasks already, the most that is allowed; \
                 launch another executor",
                info.task_id
            )),
            false => Ok(()),
        }
    }
}
