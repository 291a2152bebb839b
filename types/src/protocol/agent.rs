//! Between agents and the master; `agent.proto` says what each promises.

use std::time::Duration;

use crate::{
    AgentId, AgentInfo, FrameworkId, FrameworkInfo, Reason, Role, TaskId, TaskInfo, TaskState, TaskStatus,
    UpdateId,
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
        /// Its tasks, but for those whose end is acknowledged.
        tasks: Vec<AgentTask>,
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
    },
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
        framework_info: FrameworkInfo,
        /// The role whose resources they hold.
        role: Role,
        /// The tasks, in order.
        tasks: Vec<TaskInfo>,
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
}
