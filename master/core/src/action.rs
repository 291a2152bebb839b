//! Everything that a master can want done: the closed list of what comes out of [`crate::Master::handle`].

use std::sync::Arc;

use apportion_allocator::{Explanation, Share};
use apportion_types::{
    Activation, AgentId, AgentInfo, FrameworkId, FrameworkInfo, Role, Time,
    protocol::{agent::MasterMessage, scheduler::Event as SchedulerEvent},
};

use crate::{
    event::{CommitId, ConnId, RequestId},
    maintenance::Maintenance,
    recovered::RemovedAgent,
    view::RoleSettings,
};

/// Something to be done, in the order given. Nothing here can fail back into the decision that made it: what goes wrong comes
/// in as a later [`crate::Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Queue an event to a scheduler. A stream that is already gone swallows it.
    ToScheduler {
        /// Its stream.
        conn: ConnId,
        /// The event.
        event: SchedulerEvent,
    },
    /// End a scheduler's stream after what is queued.
    CloseScheduler {
        /// The stream.
        conn: ConnId,
    },
    /// Queue a message to an agent. A stream that is already gone swallows it.
    ToAgent {
        /// Its stream.
        conn: ConnId,
        /// The message.
        message: MasterMessage,
    },
    /// End an agent's stream after what is queued.
    CloseAgent {
        /// The stream.
        conn: ConnId,
    },
    /// Write to the registry; answered by [`crate::Event::Committed`]. A failure ends the process: it has promised nothing yet.
    Commit {
        /// Which.
        commit: CommitId,
        /// What.
        op: RegistryOp,
    },
    /// Answer an operator.
    Reply {
        /// Which request.
        request: RequestId,
        /// The answer.
        result: Result<OperatorReply, OperatorError>,
    },
}

/// A change of the registry, idempotent: doing it twice is doing it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryOp {
    /// An agent takes part.
    AdmitAgent {
        /// Its id.
        agent_id: AgentId,
        /// As it described itself.
        info: AgentInfo,
    },
    /// An agent cannot be reached.
    MarkUnreachable {
        /// Its id.
        agent_id: AgentId,
        /// Since when; the first time that is written stays. None when nobody knows.
        at: Option<Time>,
    },
    /// An agent has unregistered, or is gone; its id is refused from now on.
    RemoveAgent {
        /// Its id.
        agent_id: AgentId,
        /// How that came.
        removed: RemovedAgent,
    },
    /// An operator lets an agent be offered, or not.
    SetActivation {
        /// Its id.
        agent_id: AgentId,
        /// Whether.
        activation: Activation,
    },
    /// Nothing is known any more of an agent that cannot be reached or was removed.
    ForgetAgent {
        /// Its id.
        agent_id: AgentId,
    },
    /// A framework takes part, or has changed.
    AdmitFramework {
        /// Its id.
        framework_id: FrameworkId,
        /// As it described itself.
        info: FrameworkInfo,
    },
    /// What is set for a role; the default for each is none.
    SetRole {
        /// The role.
        role: Role,
        /// All that is set for it.
        settings: RoleSettings,
    },
    /// All that is planned of maintenance.
    SetMaintenance {
        /// What is.
        maintenance: Arc<Maintenance>,
    },
    /// A framework is gone for ever; its id is refused from now on.
    RemoveFramework {
        /// Its id.
        framework_id: FrameworkId,
    },
    /// Nothing is known any more of a framework that was removed.
    ForgetFramework {
        /// Its id.
        framework_id: FrameworkId,
    },
}

/// What an operator is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorReply {
    /// The wish to kill is recorded and sent.
    KillRequested {
        /// Whose task it is.
        framework_id: FrameworkId,
    },
    /// The framework is removed.
    TornDown,
    /// The roles are changed, and that is written.
    RolesUpdated,
    /// What is planned of maintenance is changed, and that is written.
    MaintenanceUpdated,
    /// The operation is sent to its agent.
    Operated,
    /// What was wished of the agent is written.
    AgentUpdated,
    /// Why.
    Explained(Box<Explanation>),
    /// In order of fairness.
    Shares(Vec<Share>),
}

/// Why an operator is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// It does not exist.
    #[error("{what} does not exist")]
    NotFound {
        /// Such as "task `x`".
        what: String,
    },
    /// Several frameworks have a task of this name.
    #[error("task `{task_id}` is one of several frameworks: {frameworks}; name the framework")]
    Ambiguous {
        /// The task.
        task_id: String,
        /// Their ids.
        frameworks: String,
    },
    /// It cannot be done as things are.
    #[error("{why}")]
    Conflict {
        /// What is in the way, and the remedy.
        why: String,
    },
    /// It makes no sense, whatever the state.
    #[error("{why}")]
    Invalid {
        /// What is wrong with it.
        why: String,
    },
    /// It has already ended.
    #[error("{what} has already ended")]
    Ended {
        /// Such as "task `x`".
        what: String,
    },
}

/// Where the core puts its actions.
pub type Actions = Vec<Action>;
