//! Between agents and the master; `agent.proto` says what each promises.

use std::{sync::Arc, time::Duration};

use crate::{
    AgentId, AgentInfo, Drain, FrameworkId, FrameworkInfo, Operation, OperationId, OperationStatus, Reason,
    Resources, Role, TaskId, TaskInfo, TaskState, TaskStatus, UpdateId,
};

/// A message by an agent.
#[allow(
    clippy::large_enum_variant,
    reason = "moved once, from its stream to the core; a box would cost more"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentMessage {
    /// The first message of a stream.
    Register {
        /// The agent.
        info: AgentInfo,
        /// Its id, when it has registered before.
        agent_id: Option<AgentId>,
        /// What it has now, its settings as operations have changed them; without what it lends.
        total: Resources,
        /// Its tasks, but for those whose end is acknowledged.
        tasks: Vec<AgentTask>,
        /// What became of operations, as far as it is not acknowledged.
        operations: Vec<AgentOperation>,
    },
    /// The head of a task's update stream.
    StatusUpdate {
        /// The task's framework.
        framework_id: FrameworkId,
        /// The status.
        status: TaskStatus,
        /// The newest state of the task.
        latest_state: TaskState,
    },
    /// What became of an operation that its framework named; repeated until it is acknowledged.
    OperationUpdate(AgentOperation),
    /// What it has after an operation that it could not do as it was told: the master's books follow.
    Total {
        /// All, without what it lends.
        total: Resources,
        /// How many operations of this stream it takes in.
        applied: u64,
    },
    /// What it could lend now, all of it revocable; replaces what it said before.
    Oversubscribed {
        /// All that there is to lend, whether tasks use it already or not.
        revocable: Resources,
    },
    /// Answers a ping.
    Pong {
        /// The ping's number.
        sequence: u64,
    },
    /// The agent ends for good.
    Unregister {
        /// For people.
        message: String,
    },
}

impl AgentMessage {
    /// Its name in the protocol.
    pub fn name(&self) -> &'static str {
        match self {
            AgentMessage::Register { .. } => "register",
            AgentMessage::StatusUpdate { .. } => "status_update",
            AgentMessage::OperationUpdate(_) => "operation_update",
            AgentMessage::Total { .. } => "total",
            AgentMessage::Oversubscribed { .. } => "oversubscribed",
            AgentMessage::Pong { .. } => "pong",
            AgentMessage::Unregister { .. } => "unregister",
        }
    }
}

/// A task as its agent knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentTask {
    /// Its framework.
    pub framework_id: FrameworkId,
    /// The framework as it was when the task was accepted.
    pub framework_info: FrameworkInfo,
    /// The role whose resources it holds.
    pub role: Role,
    /// Its description.
    pub info: TaskInfo,
    /// Its newest state.
    pub state: TaskState,
    /// The head of its update stream.
    pub unacknowledged: Option<TaskStatus>,
}

/// What became of an operation, as its agent knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentOperation {
    /// Who asked for it.
    pub framework_id: FrameworkId,
    /// What became of it.
    pub status: OperationStatus,
}

/// A message to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterMessage {
    /// The registration stands.
    Registered {
        /// The agent's id.
        agent_id: AgentId,
        /// The master's process.
        master_id: String,
        /// How long the agent waits for a ping before it opens a new stream.
        ping_timeout: Duration,
        /// Tasks that the master believes on the agent and that it did not name.
        missing_tasks: Vec<(FrameworkId, TaskId)>,
        /// How the agent is drained; none where it is not, whatever was said before.
        drain: Option<Drain>,
    },
    /// The agent is drained from now on, or in another way than before; or, when none, not any more.
    Drain(Option<Drain>),
    /// Asks for a sign of life.
    Ping {
        /// Its number.
        sequence: u64,
    },
    /// The tasks of one accept.
    RunTasks {
        /// The framework.
        framework_id: FrameworkId,
        /// As it is now.
        framework_info: Arc<FrameworkInfo>,
        /// The role whose resources they hold.
        role: Role,
        /// The tasks, in order; shared with what the master knows of them.
        tasks: Vec<Arc<TaskInfo>>,
    },
    /// Changes what the agent has. In order with [`MasterMessage::RunTasks`]: what follows may use what it makes.
    Apply {
        /// Who asked for it; none for an operator.
        framework_id: Option<FrameworkId>,
        /// How it wants to hear what became of it; not at all when none.
        operation_id: Option<OperationId>,
        /// What is done.
        operation: Operation,
    },
    /// The framework's acknowledgement of what became of an operation.
    AcknowledgeOperation {
        /// The framework.
        framework_id: FrameworkId,
        /// The operation.
        operation_id: OperationId,
        /// The update.
        update_id: UpdateId,
    },
    /// Asks for a task to end.
    KillTask {
        /// Its framework.
        framework_id: FrameworkId,
        /// The task.
        task_id: TaskId,
        /// From TERM to KILL; the task's own when none.
        grace: Option<Duration>,
        /// Whose wish it is.
        reason: Reason,
    },
    /// The scheduler's acknowledgement.
    AcknowledgeUpdate {
        /// The framework.
        framework_id: FrameworkId,
        /// The task.
        task_id: TaskId,
        /// The update.
        update_id: UpdateId,
    },
    /// The framework is gone for ever.
    RemoveFramework {
        /// The framework.
        framework_id: FrameworkId,
    },
    /// The registration is refused, or the agent is to end.
    Refuse {
        /// Why, for programs.
        code: RefuseCode,
        /// Why, for people.
        message: String,
    },
}

/// Why an agent is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefuseCode {
    /// A field is missing or breaks its rule.
    Invalid,
    /// The agent id was removed.
    Removed,
    /// Another agent has registered with this id.
    Replaced,
    /// Messages were not read in time.
    TooSlow,
    /// The master ends.
    ShuttingDown,
    /// An operator has declared the agent gone for ever.
    Gone,
    /// The agent's machine is down for maintenance: the agent is to end, with its tasks.
    Maintenance,
}
