//! Everything that can happen to a master: the closed list of what goes into [`crate::Master::handle`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apportion_allocator::{Question, Quota, Weight};
use apportion_types::{
    AgentId, Drain, FrameworkId, MachineId, Operation, Role, TaskId, Window,
    protocol::{agent::AgentMessage, scheduler::Call},
};

/// One stream of one peer, numbered by the shell in the order in which streams are opened, and never reused.
///
/// Of two streams of one peer the one that was opened later counts, also when the other speaks last: a peer gives a stream up before it
/// opens another, and what the first still holds may come late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// One operator's request, numbered by the shell; answered by exactly one [`crate::Action::Reply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One write to the registry, numbered by the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub u64);

/// Something that happened.
///
/// Events of one connection come in the order in which the peer sent them; after its closing event none comes any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A scheduler called. A call that could not be converted never gets here: the shell refuses it by itself.
    SchedulerCall {
        /// Its stream.
        conn: ConnId,
        /// The scheduler's number of the call.
        call_id: u64,
        /// What it wants.
        call: Call,
    },
    /// A scheduler's stream ended, for whatever reason, also when the core closed it.
    SchedulerClosed {
        /// The stream.
        conn: ConnId,
    },
    /// An agent spoke.
    AgentMessage {
        /// Its stream.
        conn: ConnId,
        /// What it says.
        message: AgentMessage,
    },
    /// An agent's stream ended, for whatever reason, also when the core closed it.
    AgentClosed {
        /// The stream.
        conn: ConnId,
    },
    /// An operator asks.
    Operator {
        /// Its number.
        request: RequestId,
        /// What is asked.
        call: OperatorCall,
    },
    /// A write is in the registry. Writes come back in the order in which they were asked for.
    Committed {
        /// Which.
        commit: CommitId,
    },
    /// The deadline of [`crate::Master::next_deadline`] is reached.
    Tick,
    /// The process is asked to end: every peer is told.
    Shutdown,
}

/// What an operator asks the deciding core; reads are served from the view instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorCall {
    /// Asks for a task to end.
    KillTask {
        /// Its framework; may be left out when the name is unique.
        framework_id: Option<FrameworkId>,
        /// The task.
        task_id: TaskId,
        /// From TERM to KILL; the task's own when none.
        grace: Option<Duration>,
    },
    /// Ends a framework for ever.
    TeardownFramework {
        /// The framework.
        framework_id: FrameworkId,
    },
    /// Changes what is set for roles, all together or not at all.
    UpdateRoles {
        /// By role; what is not named of it stays.
        changes: BTreeMap<Role, RoleChange>,
        /// Also where guarantees exceed the cluster, or a role has more than its new limit.
        force: bool,
    },
    /// Reserves resources of an agent, makes or ends volumes on it. What is needed and offered is rescinded.
    Operate {
        /// The agent.
        agent_id: AgentId,
        /// What is done.
        operation: Operation,
    },
    /// Has nothing of an agent offered any more; its tasks run on.
    DeactivateAgent {
        /// The agent.
        agent_id: AgentId,
    },
    /// Has an agent offered again.
    ReactivateAgent {
        /// The agent.
        agent_id: AgentId,
    },
    /// Has nothing of an agent offered any more, and its tasks killed.
    DrainAgent {
        /// The agent.
        agent_id: AgentId,
        /// How.
        drain: Drain,
    },
    /// Declares an agent gone for ever.
    MarkAgentGone {
        /// The agent.
        agent_id: AgentId,
    },
    /// Replaces the whole maintenance schedule.
    UpdateSchedule {
        /// All of it.
        windows: Vec<Window>,
    },
    /// Takes machines down, all or none.
    StartMaintenance {
        /// Which; each has a window.
        machines: BTreeSet<MachineId>,
    },
    /// Lets machines be up again, all or none.
    StopMaintenance {
        /// Which; each is down.
        machines: BTreeSet<MachineId>,
    },
    /// Asks why a framework is, or is not, offered something.
    Explain(Question),
    /// Asks for the shares of all roles and frameworks.
    Shares,
}

/// What is to change of what is set for a role.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoleChange {
    /// How much it counts beside others.
    pub weight: Option<Weight>,
    /// What it is sure of, and the most that it may have.
    pub quota: Option<Quota>,
    /// Whom it may preempt: those of lower priority.
    pub priority: Option<i32>,
}
