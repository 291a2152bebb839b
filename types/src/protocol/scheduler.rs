//! Between schedulers and the master; `scheduler.proto` says what each promises.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    AgentId, FrameworkId, FrameworkInfo, FrameworkOptions, InverseOffer, Offer, OfferId, Operation,
    OperationId, OperationStatus, Place, Resources, Role, TaskId, TaskInfo, TaskStatus, Time, UpdateId,
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
        /// What it wishes of offers.
        options: Box<FrameworkOptions>,
    },
    /// Changes its description and its wishes, all at once or not at all.
    UpdateFramework {
        /// As it is from now on; the principal must stay.
        info: FrameworkInfo,
        /// Roles for which it wants no offers from now on; all others are revived.
        suppressed: Vec<Role>,
        /// What it wishes of offers from now on.
        options: Box<FrameworkOptions>,
    },
    /// Ends the framework for ever.
    Teardown,
    /// Uses offers.
    Accept(Accept),
    /// Uses offers of several agents, all or nothing.
    Gang {
        /// What to do on each agent.
        accepts: Vec<Accept>,
    },
    /// Asks to hold offers longer than their time-out.
    Lease {
        /// The offers.
        offers: Vec<OfferId>,
        /// From now on.
        hold: Duration,
    },
    /// Gives offers back.
    Decline {
        /// The offers.
        offers: Vec<OfferId>,
        /// How long they are not made again; the default when none.
        refuse: Option<Duration>,
        /// Why, in the framework's words.
        reason: DeclineReason,
    },
    /// Says that it will have left the agents of these inverse offers in time.
    AcceptInverseOffers {
        /// The inverse offers.
        inverse_offers: Vec<OfferId>,
        /// After how long it is asked again; not for the same window when none.
        refuse: Option<Duration>,
    },
    /// Says that it will not, or cannot, leave the agents of these inverse offers in time.
    DeclineInverseOffers {
        /// The inverse offers.
        inverse_offers: Vec<OfferId>,
        /// After how long it is asked again; the default when none.
        refuse: Option<Duration>,
        /// Why, for people.
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
    /// Confirms what became of an operation.
    AcknowledgeOperation {
        /// The agent that said it.
        agent_id: AgentId,
        /// The operation.
        operation_id: OperationId,
        /// The update.
        update_id: UpdateId,
    },
    /// Asks for the state of operations; of all when empty.
    ReconcileOperations {
        /// The operations, each with its agent where known.
        operations: Vec<(OperationId, Option<AgentId>)>,
    },
    /// Says what it waits to place for a role; replaces what it said before.
    Request {
        /// The role.
        role: Role,
        /// Nothing when it waits for nothing.
        requests: Vec<ResourceRequest>,
    },
    /// Asks to be told what is free in the cluster, and every change of it; or no longer.
    WatchFree {
        /// Whether it wants to be told.
        on: bool,
    },
    /// Uses free resources that were not offered, for a framework that chooses by what it is told of the free state.
    Commit {
        /// For which role.
        role: Role,
        /// What to do on each agent.
        claims: Vec<Claim>,
        /// All claims or none.
        all_or_nothing: bool,
    },
}

impl Call {
    /// Every task that it describes, in order.
    pub fn tasks(&self) -> Vec<&Result<TaskInfo, InvalidTask>> {
        match self {
            Call::Accept(accept) => accept.tasks().collect(),
            Call::Gang { accepts } => accepts.iter().flat_map(Accept::tasks).collect(),
            Call::Commit { claims, .. } => claims.iter().flat_map(|claim| &claim.tasks).collect(),
            _ => Vec::new(),
        }
    }

    /// Every task that it describes, in order, to be changed.
    pub fn tasks_mut(&mut self) -> Vec<&mut Result<TaskInfo, InvalidTask>> {
        match self {
            Call::Accept(accept) => accept.tasks_mut().collect(),
            Call::Gang { accepts } => accepts.iter_mut().flat_map(Accept::tasks_mut).collect(),
            Call::Commit { claims, .. } => claims.iter_mut().flat_map(|claim| &mut claim.tasks).collect(),
            _ => Vec::new(),
        }
    }
}

/// Uses offers of one agent and one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// The offers.
    pub offers: Vec<OfferId>,
    /// What to do, in order.
    pub operations: Vec<OfferOperation>,
    /// How long what is left over is not offered again; the default when none.
    pub refuse: Option<Duration>,
}

impl Accept {
    /// One that launches tasks.
    pub fn launch(offers: Vec<OfferId>, tasks: Vec<TaskInfo>, refuse: Option<Duration>) -> Self {
        let operations = match tasks.is_empty() {
            true => Vec::new(),
            false => vec![OfferOperation::Launch(tasks.into_iter().map(Ok).collect())],
        };
        Self { offers, operations, refuse }
    }

    /// The tasks of all its launches, in order.
    pub fn tasks(&self) -> impl Iterator<Item = &Result<TaskInfo, InvalidTask>> {
        self.operations.iter().flat_map(|operation| match operation {
            OfferOperation::Launch(tasks) | OfferOperation::LaunchGroup(tasks) => tasks.as_slice(),
            OfferOperation::Convert { .. } => &[],
        })
    }

    fn tasks_mut(&mut self) -> impl Iterator<Item = &mut Result<TaskInfo, InvalidTask>> {
        self.operations.iter_mut().flat_map(|operation| match operation {
            OfferOperation::Launch(tasks) | OfferOperation::LaunchGroup(tasks) => tasks.as_mut_slice(),
            OfferOperation::Convert { .. } => &mut [],
        })
    }
}

/// One thing to do with the resources of an accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfferOperation {
    /// Launches tasks, in order. A task whose description breaks a rule of its form keeps its place as the error.
    Launch(Vec<Result<TaskInfo, InvalidTask>>),
    /// Launches the tasks of one task group, by their places; all or none.
    LaunchGroup(Vec<Result<TaskInfo, InvalidTask>>),
    /// Makes others of them.
    Convert {
        /// How the framework wants to hear what became of it; not at all when none.
        id: Option<OperationId>,
        /// What is done.
        operation: Operation,
    },
}

/// A kind of task that a framework waits to place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRequest {
    /// What one needs.
    pub resources: Resources,
    /// How many; at least one.
    pub count: u32,
}

/// Free resources of one agent that a framework wants to use as if they had been offered to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The agent.
    pub agent_id: AgentId,
    /// The tasks, in order. What they need is what is claimed.
    pub tasks: Vec<Result<TaskInfo, InvalidTask>>,
}

/// Why offers are given back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeclineReason {
    /// For programs.
    pub code: DeclineCode,
    /// For people, such as what was missing; counted apart for [`DeclineCode::Other`] alone.
    pub detail: String,
}

impl DeclineReason {
    /// A reason without a word more.
    pub fn new(code: DeclineCode) -> Self {
        Self { code, detail: String::new() }
    }
}

/// Why offers are given back, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeclineCode {
    /// It does not say.
    NotSaid,
    /// Nothing waits to be placed.
    NoWork,
    /// Nothing that waits fits in.
    TooSmall,
    /// The agent is not what is wanted.
    Constraint,
    /// There are enough tasks on this agent.
    Spread,
    /// It waits for something better, such as more agents at once.
    Waiting,
    /// What the detail says.
    Other,
}

impl DeclineCode {
    /// Every code.
    pub const ALL: [DeclineCode; 7] = [
        DeclineCode::NotSaid,
        DeclineCode::NoWork,
        DeclineCode::TooSmall,
        DeclineCode::Constraint,
        DeclineCode::Spread,
        DeclineCode::Waiting,
        DeclineCode::Other,
    ];

    /// As it is shown and counted.
    pub fn as_str(self) -> &'static str {
        match self {
            DeclineCode::NotSaid => "not said",
            DeclineCode::NoWork => "no work",
            DeclineCode::TooSmall => "too small",
            DeclineCode::Constraint => "constraint",
            DeclineCode::Spread => "spread",
            DeclineCode::Waiting => "waiting",
            DeclineCode::Other => "other",
        }
    }
}

impl Call {
    /// Its name in the protocol.
    pub fn name(&self) -> &'static str {
        match self {
            Call::Subscribe { .. } => "subscribe",
            Call::Teardown => "teardown",
            Call::UpdateFramework { .. } => "update_framework",
            Call::Accept(_) => "accept",
            Call::Gang { .. } => "gang",
            Call::Lease { .. } => "lease",
            Call::Decline { .. } => "decline",
            Call::Suppress { .. } => "suppress",
            Call::Revive { .. } => "revive",
            Call::Kill { .. } => "kill",
            Call::Acknowledge { .. } => "acknowledge",
            Call::Reconcile { .. } => "reconcile",
            Call::AcknowledgeOperation { .. } => "acknowledge_operation",
            Call::ReconcileOperations { .. } => "reconcile_operations",
            Call::Request { .. } => "request",
            Call::WatchFree { .. } => "watch_free",
            Call::Commit { .. } => "commit",
            Call::AcceptInverseOffers { .. } => "accept_inverse_offers",
            Call::DeclineInverseOffers { .. } => "decline_inverse_offers",
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
    /// Asks to leave agents whose machines will be taken away.
    InverseOffers(Vec<InverseOffer>),
    /// An inverse offer does not ask any more.
    RescindInverseOffer(OfferId),
    /// A task's status.
    Update(TaskStatus),
    /// What became of an operation.
    OperationUpdate(OperationStatus),
    /// Tasks of it will be killed for a role that goes before theirs, unless as much is given back before.
    Preempt(Preemption),
    /// What is free in the cluster, or what has changed of it.
    Free(FreeState),
    /// What became of a commit.
    Committed {
        /// The commit.
        call_id: u64,
        /// Of each claim, in order.
        claims: Vec<ClaimResult>,
    },
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
    /// Another scheduler of the framework is subscribed; this one takes its place when that one's stream has ended.
    StandingBy {
        /// The framework.
        framework_id: FrameworkId,
        /// As in `Subscribed`.
        heartbeat_interval: Duration,
    },
}

/// Notice of a preemption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preemption {
    /// On which agent.
    pub agent_id: AgentId,
    /// How much must be given back.
    pub resources: Resources,
    /// The tasks that will be killed if it is not.
    pub tasks: Vec<TaskId>,
    /// When.
    pub at: Time,
    /// The role that needs it.
    pub for_role: Role,
}

/// What is free and could be claimed, as far as it changed since the version before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeState {
    /// Counts the messages of one watch from 1; a version that is missing means that some were lost: watch anew.
    pub version: u64,
    /// True for the first: it names every agent that has something free.
    pub snapshot: bool,
    /// What each agent has free now; nothing for one that has none any more.
    pub agents: Vec<FreeAgent>,
}

/// What one agent has free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeAgent {
    /// The agent.
    pub agent_id: AgentId,
    /// What is free on it.
    pub free: Resources,
    /// Its host and attributes; none where nothing is free.
    pub place: Option<Arc<Place>>,
}

/// What became of one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimResult {
    /// Its tasks are launched, but for those that are answered one by one.
    Taken,
    /// Nothing of it was done.
    Refused {
        /// Why, for programs.
        code: ClaimRefusal,
        /// Why, for people.
        message: String,
        /// Who has, or goes before it for, what it wanted; where it is one.
        winner: Option<FrameworkId>,
    },
}

/// Why a claim is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimRefusal {
    /// It is not free: offered, used, or not there.
    NotFree,
    /// Somebody else is before it in the order of fairness and wants it.
    Fairness,
    /// The role's quota limit, or what is kept for others' guarantees.
    Quota,
    /// The framework may not have it: its role, constraints, capabilities.
    NotAllowed,
    /// Another claim of the same commit was refused.
    AllOrNothing,
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
    /// More calls than its principal may make; the message says when to try again.
    RateLimited,
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
