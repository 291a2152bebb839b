//! What readers see: a snapshot that costs nothing to take, since its maps share structure with the core's own.

use std::{collections::BTreeMap, sync::Arc};

use apportion_allocator::{Quota, Weight};
use apportion_types::{
    Activation, AgentId, AgentInfo, FrameworkId, FrameworkInfo, FrameworkOptions, Offer, OfferId, Resources,
    Role, TaskId, TaskInfo, TaskState, TaskStatus, Time, Unavailability,
    protocol::scheduler::{DeclineReason, ResourceRequest},
};
use imbl::OrdMap;

use crate::maintenance::Maintenance;

/// A snapshot of the master, published after each batch of events; while more of them wait already, every few milliseconds.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The master's process.
    pub master_id: String,
    /// When the master started.
    pub started_at: Time,
    /// Every agent that is not removed.
    pub agents: OrdMap<AgentId, Arc<AgentView>>,
    /// Every framework, the removed ones too while they are remembered.
    pub frameworks: OrdMap<FrameworkId, Arc<FrameworkView>>,
    /// Tasks that are not yet acknowledged as ended, by framework and name. Tasks of a removed framework are among them while they
    /// hold resources.
    pub tasks: OrdMap<(FrameworkId, TaskId), Arc<TaskView>>,
    /// Ended and acknowledged tasks, oldest first, as far as they are remembered; keyed by the order in which they ended. A task
    /// whose framework was removed while its agent could not be reached is among them as unreachable.
    pub completed: OrdMap<u64, Arc<TaskView>>,
    /// Outstanding offers, in the order made.
    pub offers: OrdMap<OfferId, Arc<OfferView>>,
    /// What is planned of maintenance, without what is over.
    pub maintenance: Arc<Maintenance>,
    /// Of each agent whose machine has a window: the frameworks that are to leave it, as their tasks hold something there.
    pub inverse_offers: OrdMap<AgentId, Arc<BTreeMap<FrameworkId, InverseOfferView>>>,
    /// What is set for roles; a role without anything set is not among them.
    pub roles: OrdMap<Role, RoleSettings>,
    /// Counts since the start.
    pub counters: Counters,
}

/// What an operator has set for a role.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoleSettings {
    /// How much it counts beside others.
    pub weight: Weight,
    /// What it is sure of, and the most that it may have.
    pub quota: Quota,
    /// Whom it may preempt: those of lower priority; roles without one have 0.
    pub priority: i32,
}

/// An offer that was declined, kept as a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclineSample {
    /// When.
    pub at: Time,
    /// Why.
    pub reason: DeclineReason,
    /// Whose resources they were.
    pub agent_id: AgentId,
    /// For which role.
    pub role: Role,
    /// What was offered.
    pub offered: Resources,
}

/// An agent as the master sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentView {
    /// Its id.
    pub agent_id: AgentId,
    /// As it described itself.
    pub info: Arc<AgentInfo>,
    /// What it has now, as operations have changed what it says of itself; without what it lends.
    pub total: Resources,
    /// What it lends.
    pub revocable: Resources,
    /// Whether it takes part.
    pub state: AgentState,
    /// Whether an operator lets it be offered.
    pub activation: Activation,
    /// When it was registered first.
    pub registered_at: Time,
    /// Held by tasks.
    pub allocated: Resources,
    /// In outstanding offers.
    pub offered: Resources,
    /// Tasks that have not ended.
    pub tasks: usize,
}

impl AgentView {
    /// True while what is free of it may be given: it is connected, and no operator has taken it out of use.
    pub fn is_in_use(&self) -> bool {
        self.state == AgentState::Active && self.activation == Activation::Active
    }
}

/// Whether an agent takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgentState {
    /// Connected.
    Active,
    /// Its stream ended; its tasks are believed to run.
    Disconnected,
    /// It did not return in time.
    Unreachable,
    /// An earlier master knew it, and it has not returned yet; its tasks, which are not known, are believed to run.
    Recovered,
}

impl AgentState {
    /// True while what it has counts: in shares, for quotas, and to be offered once it is connected.
    pub fn takes_part(self) -> bool {
        matches!(self, AgentState::Active | AgentState::Disconnected)
    }
}

/// A framework as the master sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameworkView {
    /// Its id.
    pub framework_id: FrameworkId,
    /// As it described itself.
    pub info: Arc<FrameworkInfo>,
    /// Whether it takes part.
    pub state: FrameworkState,
    /// When it subscribed first.
    pub subscribed_at: Time,
    /// Roles for which it wants no offers.
    pub suppressed: Vec<Role>,
    /// What it wishes of offers.
    pub options: Arc<FrameworkOptions>,
    /// Held by its tasks. Scalars only: ranges and sets of different agents are different things and have no sum.
    pub allocated: Resources,
    /// In its outstanding offers; scalars only.
    pub offered: Resources,
    /// Tasks that have not ended.
    pub tasks: usize,
    /// Why it declined offers; at most 32 different reasons, the rest under `other`.
    pub declined: BTreeMap<String, u64>,
    /// The newest declines of each reason, oldest first; at most four of each.
    pub decline_samples: Vec<DeclineSample>,
    /// Calls that were refused because its principal makes too many.
    pub calls_rate_limited: u64,
    /// What it waits to place, by role.
    pub requests: BTreeMap<Role, Vec<ResourceRequest>>,
}

/// Whether a framework takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrameworkState {
    /// Connected.
    Active,
    /// Its failover time-out is running.
    Disconnected,
    /// Torn down or timed out.
    Removed,
}

/// A task as the master sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskView {
    /// Its framework.
    pub framework_id: FrameworkId,
    /// Its agent.
    pub agent_id: AgentId,
    /// The role whose resources it holds.
    pub role: Role,
    /// As described.
    pub info: Arc<TaskInfo>,
    /// Its newest state.
    pub state: TaskState,
    /// The newest status.
    pub status: Option<Arc<TaskStatus>>,
    /// When its accept was taken.
    pub accepted_at: Time,
}

/// An outstanding offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferView {
    /// The offer as it was sent.
    pub offer: Offer,
    /// When it was made.
    pub made_at: Time,
    /// When it will be rescinded.
    pub expires_at: Time,
}

/// What is known of a framework that is to leave an agent before a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InverseOfferView {
    /// The window.
    pub unavailability: Unavailability,
    /// What its tasks hold there.
    pub resources: Resources,
    /// The inverse offer that is outstanding.
    pub outstanding: Option<OfferId>,
    /// When that will be rescinded.
    pub expires_at: Option<Time>,
    /// What it has answered last, about this window.
    pub answer: Option<InverseAnswer>,
    /// When it is asked again.
    pub asked_again: AskedAgain,
}

impl InverseOfferView {
    /// Of one that was not asked yet.
    pub(crate) fn new(unavailability: Unavailability) -> Self {
        Self {
            unavailability,
            resources: Resources::new(),
            outstanding: None,
            expires_at: None,
            answer: None,
            asked_again: AskedAgain::Now,
        }
    }
}

/// What a framework has answered to an inverse offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InverseAnswer {
    /// Whether it will have left in time.
    pub accepted: bool,
    /// Why not, in its words.
    pub reason: String,
    /// When it said so.
    pub at: Time,
}

/// When a framework is asked again to leave an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedAgain {
    /// At once, if it is not being asked.
    Now,
    /// Then.
    At(Time),
    /// Not for this window.
    Never,
}

/// Counts since the master's start; they only grow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Allocation cycles.
    pub allocation_cycles: u64,
    /// Offers made.
    pub offers_made: u64,
    /// Offers consumed by accepts that launched something.
    pub offers_accepted: u64,
    /// Claims of free resources that were taken.
    pub claims_taken: u64,
    /// Claims of free resources that were refused.
    pub claims_refused: u64,
    /// Tasks that were killed for a role of higher priority.
    pub tasks_preempted: u64,
    /// Offers given back: declined, accepted without a task, or used in an accept of which nothing was launched.
    pub offers_declined: u64,
    /// Offers that became void: held too long, agent lost, framework gone or subscribed anew.
    pub offers_rescinded: u64,
    /// Offers of those that were rescinded because they were held too long.
    pub offers_timed_out: u64,
    /// Tasks launched.
    pub tasks_launched: u64,
    /// Terminal tasks by state name.
    pub tasks_ended: BTreeMap<&'static str, u64>,
    /// Updates forwarded to schedulers.
    pub updates_forwarded: u64,
    /// Acknowledgements taken, and passed on where the agent is connected.
    pub acknowledgements: u64,
    /// Acknowledgements of nothing that waits for one: repeated, or of an earlier update.
    pub acknowledgements_ignored: u64,
    /// Calls refused.
    pub calls_refused: u64,
    /// Agents declared unreachable.
    pub agents_unreachable: u64,
    /// Inverse offers made.
    pub inverse_offers_made: u64,
    /// Inverse offers whose frameworks will leave.
    pub inverse_offers_accepted: u64,
    /// Inverse offers whose frameworks will not.
    pub inverse_offers_declined: u64,
    /// Inverse offers that ask no more: not answered, window changed, nothing left there, agent or framework away.
    pub inverse_offers_rescinded: u64,
}
