//! Between executors and their agent; `executor.proto` says what each promises.

use std::time::Duration;

use crate::{AgentId, FrameworkId, Reason, RunId, TaskId, TaskInfo, TaskState, UpdateId};

/// A message by an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutorCall {
    /// The first message of a stream.
    Subscribe {
        /// What it runs. What has ended, and is told below, need not be here.
        runs: Vec<RunId>,
        /// Updates that are not acknowledged, the oldest first.
        unacknowledged: Vec<ExecutorUpdate>,
    },
    /// What has become of a task.
    Update(ExecutorUpdate),
}

/// What has become of a task, said by its executor until it is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorUpdate {
    /// Which run of it.
    pub run_id: RunId,
    /// The executor's own name of this update.
    pub update_id: UpdateId,
    /// One of [`ExecutorUpdate::STATES`].
    pub state: TaskState,
    /// For people.
    pub message: String,
    /// Whether it does its work; as it was said before when none.
    pub healthy: Option<bool>,
}

impl ExecutorUpdate {
    /// The states that are an executor's to tell.
    pub const STATES: [TaskState; 4] =
        [TaskState::Running, TaskState::Finished, TaskState::Failed, TaskState::Killed];
}

/// A message to an executor.
#[allow(
    clippy::large_enum_variant,
    reason = "moved once, from the core to its stream; a box would cost more"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutorEvent {
    /// The subscription stands; launches and kills follow.
    Subscribed {
        /// The executor's framework.
        framework_id: FrameworkId,
        /// The executor's own task.
        executor: TaskId,
        /// Its agent, once that was registered.
        agent_id: Option<AgentId>,
    },
    /// A task is to be run; said again of a run that is known, it changes nothing.
    Launch {
        /// Names this run of it.
        run_id: RunId,
        /// The task.
        info: TaskInfo,
    },
    /// A task is to end; said again, it can only shorten the grace.
    Kill {
        /// Its run.
        run_id: RunId,
        /// From now.
        grace: Duration,
        /// Why.
        reason: Reason,
    },
    /// An update is on disk.
    Acknowledge {
        /// The executor's own name of the update.
        update_id: UpdateId,
    },
    /// The stream ends.
    Refuse {
        /// Why, for programs.
        code: ExecutorRefuseCode,
        /// Why and what to do, for people.
        message: String,
    },
}

/// Why the stream of an executor is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExecutorRefuseCode {
    /// A message breaks its rule; coming back unchanged is pointless.
    Invalid,
    /// A newer stream has taken its place.
    Replaced,
    /// Messages were not read in time.
    TooSlow,
    /// The agent ends; another process of it follows.
    ShuttingDown,
    /// The executor is over for its agent.
    Ended,
}
