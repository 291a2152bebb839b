//! Between schedulers and the master; `scheduler.proto` says what each promises.

use std::{fmt, time::Duration};

use crate::{
    AgentId, FrameworkId, FrameworkInfo, Offer, OfferId, Role, TaskId, TaskInfo, TaskStatus, UpdateId,
};

/// A call by a scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// The first call of a stream.
    Subscribe {
        /// The framework.
        info: FrameworkInfo,
        /// Its id, when it has subscribed before.
        framework_id: Option<FrameworkId>,
        /// Roles for which it wants no offers yet.
        suppressed: Vec<Role>,
    },
    /// Ends the framework for ever.
    Teardown,
    /// Uses offers.
    Accept {
        /// The offers: of one agent and one role.
        offers: Vec<OfferId>,
        /// What to launch, in order. A task whose description breaks a rule of its form keeps its place as the error.
        tasks: Vec<Result<TaskInfo, InvalidTask>>,
        /// How long what is left over is not offered again; the default when none.
        refuse: Option<Duration>,
    },
    /// Gives offers back.
    Decline {
        /// The offers.
        offers: Vec<OfferId>,
        /// How long they are not made again; the default when none.
        refuse: Option<Duration>,
        /// Why, in the framework's words.
        reason: String,
    },
    /// No more offers for these roles; all when empty.
    Suppress {
        /// The roles.
        roles: Vec<Role>,
    },
    /// Offers for these roles again, filters forgotten; all when empty.
    Revive {
        /// The roles.
        roles: Vec<Role>,
    },
    /// Asks for a task to end.
    Kill {
        /// The task.
        task_id: TaskId,
        /// From TERM to KILL; the task's own when none.
        grace: Option<Duration>,
    },
    /// Confirms an update.
    Acknowledge {
        /// The agent that made it.
        agent_id: AgentId,
        /// The task.
        task_id: TaskId,
        /// The update.
        update_id: UpdateId,
    },
    /// Asks for the state of tasks; of all when empty.
    Reconcile {
        /// The tasks, each with its agent where known.
        tasks: Vec<(TaskId, Option<AgentId>)>,
    },
}

impl Call {
    /// Its name in the protocol.
    pub fn name(&self) -> &'static str {
        match self {
            Call::Subscribe { .. } => "subscribe",
            Call::Teardown => "teardown",
            Call::Accept { .. } => "accept",
            Call::Decline { .. } => "decline",
            Call::Suppress { .. } => "suppress",
            Call::Revive { .. } => "revive",
            Call::Kill { .. } => "kill",
            Call::Acknowledge { .. } => "acknowledge",
            Call::Reconcile { .. } => "reconcile",
        }
    }
}

/// A task whose description could not be taken: what is needed to answer with `TaskState::Error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidTask {
    /// Its id, where at least that is one.
    pub task_id: Option<TaskId>,
    /// What is wrong with it.
    pub message: String,
}

/// An event for a scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The subscription stands.
    Subscribed {
        /// The framework's id.
        framework_id: FrameworkId,
        /// How often a heartbeat comes.
        heartbeat_interval: Duration,
        /// The master's process.
        master_id: String,
    },
    /// Offers of one cycle.
    Offers(Vec<Offer>),
    /// An offer is no longer valid.
    Rescind(OfferId),
    /// A task's status.
    Update(TaskStatus),
    /// An agent cannot be reached any more or was removed.
    AgentLost {
        /// The agent.
        agent_id: AgentId,
        /// For people.
        message: String,
    },
    /// A call was refused.
    Refused {
        /// The call.
        call_id: u64,
        /// Why, for programs.
        code: Refusal,
        /// Why, for people.
        message: String,
    },
    /// The stream ends.
    Error {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        message: String,
    },
    /// A sign of life.
    Heartbeat,
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A field is missing or breaks its rule.
    Invalid,
    /// It cannot be called now.
    OutOfOrder,
    /// Offers that are not outstanding or not the caller's.
    InvalidOffers,
    /// Over a limit.
    Limit,
    /// It names something that does not exist.
    NotFound,
}

/// Why a scheduler's stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The framework has subscribed on another stream.
    FailedOver,
    /// The framework is gone for ever.
    Removed,
    /// The subscription was refused.
    Refused,
    /// Events were not read in time.
    TooSlow,
    /// The master ends.
    ShuttingDown,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ErrorCode::FailedOver => "failed over",
            ErrorCode::Removed => "removed",
            ErrorCode::Refused => "refused",
            ErrorCode::TooSlow => "too slow",
            ErrorCode::ShuttingDown => "shutting down",
        })
    }
}
