//! Writes to the registry that are asked for and not yet done, and what follows when they are.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use apportion_types::{
    Activation, AgentId, AgentInfo, FrameworkId, FrameworkInfo, FrameworkOptions, Resources, Role, Time,
    protocol::agent::{AgentOperation, AgentTask},
};

use crate::{
    action::{Action, RegistryOp},
    event::{CommitId, ConnId, RequestId},
    maintenance::Maintenance,
    recovered::RemovedAgent,
    turn::Turn,
    view::RoleSettings,
};

/// What is to be done when a write is in the registry.
#[derive(Debug)]
pub(crate) enum Then {
    /// Register the agent.
    Register(Box<Registration>),
    /// Give the agent up, unless it was heard meanwhile.
    LoseAgent {
        /// Which.
        agent_id: AgentId,
        /// Since when it cannot be reached.
        at: Time,
    },
    /// Take the agent out of the books.
    RemoveAgent(Box<Removal>),
    /// Let the agent be offered, or not.
    SetActivation {
        /// Which.
        agent_id: AgentId,
        /// Whether.
        activation: Activation,
        /// The operator who asked.
        request: Option<RequestId>,
    },
    /// Let the framework in.
    Subscribe(Box<Subscription>),
    /// Take over what the framework says of itself.
    UpdateFramework(Box<FrameworkUpdate>),
    /// Take over what is set for roles, when the last of them is written.
    UpdateRoles(Box<RolesUpdate>),
    /// Go by what is planned of maintenance.
    Maintenance(MaintenanceUpdate),
    /// Tell those who asked that the framework is removed.
    FrameworkRemoved {
        /// Its stream, and those of who stood by, to be ended.
        conns: Vec<ConnId>,
        /// For people.
        message: String,
        /// The operator who asked.
        request: Option<RequestId>,
    },
    /// Nothing: the write only keeps the registry true.
    Nothing,
}

/// An agent's wish to register.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) conn: ConnId,
    pub(crate) agent_id: AgentId,
    /// The id was made for it; nobody knows it yet.
    pub(crate) fresh: bool,
    pub(crate) info: AgentInfo,
    pub(crate) total: Resources,
    pub(crate) tasks: Vec<AgentTask>,
    pub(crate) operations: Vec<AgentOperation>,
}

/// How an agent goes for ever.
#[derive(Debug)]
pub(crate) struct Removal {
    pub(crate) agent_id: AgentId,
    /// How, as it is written.
    pub(crate) removed: RemovedAgent,
    /// Its stream, to be ended.
    pub(crate) conn: Option<ConnId>,
    /// For people.
    pub(crate) message: String,
    /// The operator who asked.
    pub(crate) request: Option<RequestId>,
}

/// A framework's wish to subscribe.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) conn: ConnId,
    pub(crate) framework_id: FrameworkId,
    /// The id was made for it; nobody knows it yet.
    pub(crate) fresh: bool,
    pub(crate) info: FrameworkInfo,
    pub(crate) suppressed: Vec<Role>,
    pub(crate) options: Box<FrameworkOptions>,
}

/// A framework's wish to be known otherwise.
#[derive(Debug)]
pub(crate) struct FrameworkUpdate {
    pub(crate) framework_id: FrameworkId,
    pub(crate) info: FrameworkInfo,
    pub(crate) suppressed: Vec<Role>,
    pub(crate) options: Box<FrameworkOptions>,
}

/// An operator's wish for roles.
#[derive(Debug)]
pub(crate) struct RolesUpdate {
    pub(crate) request: RequestId,
    pub(crate) settings: BTreeMap<Role, RoleSettings>,
}

/// An operator's wish for maintenance.
#[derive(Debug)]
pub(crate) struct MaintenanceUpdate {
    pub(crate) request: RequestId,
    pub(crate) maintenance: Arc<Maintenance>,
}

/// Writes that are asked for, in order.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    last: u64,
    outstanding: VecDeque<(CommitId, Then)>,
}

impl Commits {
    /// Asks for a write.
    pub(crate) fn ask(&mut self, turn: &mut Turn<'_>, op: RegistryOp, then: Then) -> CommitId {
        self.last += 1;
        let commit = CommitId(self.last);
        self.outstanding.push_back((commit, then));
        turn.actions.push(Action::Commit { commit, op });
        commit
    }

    /// A write is done; they are done in the order asked, anything else is the shell's bug.
    pub(crate) fn done(&mut self, commit: CommitId) -> Then {
        let (first, then) = self.outstanding.pop_front().expect("a write was asked for");
        assert_eq!(first, commit, "writes come back in the order in which they were asked for");
        then
    }
}
