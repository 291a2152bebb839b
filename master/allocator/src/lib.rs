//! Who is offered what: dominant-resource fairness over roles and frameworks, with filters.
//!
//! Knows agents, frameworks, roles and amounts; knows nothing of offer ids, the wire, or a clock. Follows Mesos'
//! src/master/allocator/mesos/hierarchical.cpp and sorter/drf/sorter.cpp, driven by events instead of a tick.

mod admission;
mod agents;
mod amount;
mod answer;
mod bits;
mod check;
mod claim;
mod compare;
mod config;
mod cycle;
mod expected;
mod explain;
mod filters;
mod frameworks;
mod headroom;
mod hierarchical;
mod index;
mod judge;
mod ledger;
mod quantities;
mod quota;
mod quota_limit;
mod reconfigure;
mod room;
mod share;
mod shares;
mod slab;
mod sorter;
mod state;
mod tree;
mod weight;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use apportion_types::{
    AgentId, FrameworkId, FrameworkOptions, Place, Resources, Role, Time, operation::Conversion,
};

pub use claim::ClaimDenied;
pub use compare::{Compared, Difference};
pub use config::{HierarchicalConfig, SorterKind};
pub use explain::{Explanation, Inactive, Obstacle, Question, RoleExplanation, Verdict};
pub use hierarchical::Hierarchical;
pub use quota::Quota;
pub use quota_limit::{QuotaLimit, QuotaLimitError};
pub use weight::{Weight, WeightError};

/// What one cycle gives: resources of one agent to one framework for one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// To whom.
    pub framework: FrameworkId,
    /// For which role.
    pub role: Role,
    /// Whose resources.
    pub agent: AgentId,
    /// What; counted as allocated from now on.
    pub resources: Resources,
}

/// What a framework wants of offers.
#[derive(Debug, Clone, Copy)]
pub struct Wants<'a> {
    /// The roles for which it takes offers.
    pub roles: &'a [Role],
    /// Those of them for which it wants none now.
    pub suppressed: &'a BTreeSet<Role>,
    /// Its wishes.
    pub options: &'a FrameworkOptions,
}

/// The share of a role or framework, for listings and explanations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The role.
    pub role: Role,
    /// The framework within the role; none for the role as a whole.
    pub framework: Option<FrameworkId>,
    /// What it is given, offered or used: scalars only, for ports of different agents do not add up.
    pub allocated: Resources,
    /// Its dominant share, in millionths of the cluster.
    pub dominant_share_ppm: u64,
    /// How many allocations it was given since it was added; breaks ties.
    pub allocations: u64,
}

/// Decides who is offered what. `offered` and `used` are both *allocated* here.
///
/// The caller keeps the books straight: what it names exists, and it gives back no more than was given. Breaking that is a
/// bug of the caller and panics. Every law is on exact integers and every order is determined by the calls alone.
pub trait Allocator: Send {
    /// Adds an agent, active, with nothing allocated. `total` is what it has after all operations; what it lends comes by
    /// [`Allocator::set_revocable`]. By its place it is judged who may be offered it: attributes, host, fault domain.
    fn add_agent(&mut self, agent: &AgentId, place: &Arc<Place>, total: &Resources);

    /// Removes an agent, everything allocated on it, and every filter about it.
    fn remove_agent(&mut self, agent: &AgentId);

    /// Makes an agent inactive, for a reason, or active. Offers of an inactive agent are not made; what is allocated on it stays so.
    fn set_agent_inactive(&mut self, agent: &AgentId, why: Option<Inactive>);

    /// Counts an agent that is in no books yet, and what of `total` is allocated on it unknown, against every quota limit as if all of
    /// it were used there. Until it is added, or [`Allocator::expect_agent_no_more`].
    fn expect_agent(&mut self, agent: &AgentId, total: &Resources);

    /// The agent that was expected does not come; it need not be expected.
    fn expect_agent_no_more(&mut self, agent: &AgentId);

    /// Changes what an agent lends: all of it revocable, given or not. What is given beyond it stays given until it is recovered. It
    /// counts as part of the cluster for shares, of which none is more than the whole; guarantees cannot rest on it.
    fn set_revocable(&mut self, agent: &AgentId, revocable: &Resources);

    /// Does an operation with what is free on an agent; false, and nothing is changed, when it is not all free.
    fn convert_free(&mut self, agent: &AgentId, conversion: &Conversion) -> bool;

    /// Does an operation with what a framework has allocated for a role on an agent, which holds what is consumed.
    fn convert_allocated(
        &mut self,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        conversion: &Conversion,
    );

    /// Adds a framework, active, that wants this.
    fn add_framework(&mut self, framework: &FrameworkId, wants: Wants<'_>);

    /// Removes a framework, everything allocated to it, and its filters.
    fn remove_framework(&mut self, framework: &FrameworkId);

    /// An inactive framework is given nothing and its filters are forgotten; what is allocated to it stays so.
    fn set_framework_active(&mut self, framework: &FrameworkId, active: bool);

    /// Changes what a framework wants. Filters of a role that stays are kept, unless it was suppressed and is not any more: then they
    /// are forgotten. Allocations under a role that goes stay counted until they are recovered.
    fn set_framework_wants(&mut self, framework: &FrameworkId, wants: Wants<'_>);

    /// Gives the framework nothing more for these of its roles; all when empty.
    fn suppress(&mut self, framework: &FrameworkId, roles: &[Role]);

    /// Ends suppression and forgets the filters for these of its roles; all when empty.
    fn revive(&mut self, framework: &FrameworkId, roles: &[Role]);

    /// Changes how much a role counts beside others. It need not be known: what is set holds for when it comes, and when it goes
    /// and returns.
    fn set_weight(&mut self, role: &Role, weight: Weight);

    /// Changes the quota of a role. It need not be known, as for a weight. What it has already is not taken from it.
    fn set_quota(&mut self, role: &Role, quota: Quota);

    /// Counts resources as allocated that were not given by a cycle: tasks of an agent that returned. The role need not be among
    /// the framework's, and may exceed its quota limit. The caller has checked that the agent has them free.
    fn charge(&mut self, framework: &FrameworkId, role: &Role, agent: &AgentId, resources: &Resources);

    /// Takes back resources; until `refuse_until`, no subset of them on this agent is given to this framework for this role
    /// (Mesos' refuse filter: refused ⊇ offered). However short, a filter holds until somebody else had a chance: for one cycle,
    /// if another could be given them. No filter is made for a framework that is inactive, or for a role that it has left.
    fn recover(
        &mut self,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        resources: &Resources,
        refuse_until: Option<Time>,
    );

    /// Notes that offers of a framework were closed, whatever became of their resources: each allocation of a cycle is one offer until
    /// then.
    fn offers_closed(&mut self, framework: &FrameworkId, offers: u32);

    /// True when something changed since the last cycle that may let the next one give something. A refusal by the last who
    /// could want an agent is no such change.
    fn is_dirty(&self) -> bool;

    /// When the next filter expires on an agent that has something to offer; a cycle is due then, at once if it is past. It
    /// may be early, after filters were forgotten.
    fn next_deadline(&self) -> Option<Time>;

    /// Runs one cycle and returns at most about `allocations_max` allocations, in the order made. When it stops at the bound,
    /// [`Allocator::is_dirty`] stays true. Each agent's free resources go to the first in order of share who may have them, shares
    /// being counted anew after each; what is left goes to the next, until nobody takes any of it. When nobody may be given more, as
    /// each holds as many offers as it may, the cycle ends: the agents that it did not reach count as not considered, and a later cycle
    /// looks at them. In a first round over the agents only those are asked whose role at the top of the tree lacks something of its
    /// guarantee that the agent has free and unreserved.
    ///
    /// In order: at every level of the tree, the roles below one by dominant share divided by weight, then fewer allocations, then
    /// name; among them, as one more of weight 1 with the name of the role above, the frameworks of that role itself, in the same order.
    ///
    /// A client is given what is open to its role ([`Resources::open_to`]), less what is revocable or shared when it cannot deal with
    /// it, less shared volumes of which it holds a copy on this agent. Of unreserved scalars that are not revocable, and of nothing
    /// else, it is given no more than the room that each limit on its path leaves (limit less consumption, less what agents that are
    /// expected have), and no more than its top
    /// role lacks of its guarantee plus the headroom: what is free of such scalars on all active agents less what all guarantees
    /// lack. A role consumes what of such scalars is allocated in its subtree, and what is reserved for a role of its subtree, given
    /// or not.
    ///
    /// It is passed over when what is open to it holds no minimum of its own (the sums of scalars on whatever terms count), when a
    /// limit or headroom leaves it less than a minimum that it would else hold whole, or when it refused all of it.
    fn allocate(&mut self, now: Time, allocations_max: usize) -> Vec<Allocation>;

    /// Gives a framework what it claims of an agent, if all of it is free and a cycle for this agent would give it to nobody before it:
    /// under the same quotas, headroom, constraints and order: nobody who stands before it would take some of it now. It counts as an
    /// allocation, but not as an offer. The framework need not take offers for the role, which must be among its own; its filters, its
    /// suppression, the bound of its offers and minimums do not matter.
    fn claim(
        &mut self,
        now: Time,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        resources: &Resources,
    ) -> Result<(), ClaimDenied>;

    /// What the next cycle, were it now, would do for a framework, and what is in its way. Asked of nothing that is not known.
    fn explain(&self, now: Time, question: &Question) -> Explanation;

    /// Why these quotas cannot stand together with the others, if so: the first role whose limit is below its guarantee, or whose
    /// guarantee is that of no top-level role, or guarantees that together exceed the cluster, or a role that consumes more than its
    /// limit already.
    /// What is only offered, by role, does not count as had: it can be taken back.
    fn judge_quotas(
        &self,
        quotas: &BTreeMap<Role, Quota>,
        offered: &BTreeMap<Role, Resources>,
    ) -> Result<(), String>;

    /// What a role, with those below it, has above its quota limit; nothing when it has no limit.
    fn over_limit(&self, role: &Role) -> Resources;

    /// What is missing, of free resources, to fulfil every guarantee that has somebody who could be offered it: what those guarantees
    /// lack, less what is free of unreserved scalars on active agents, lent ones apart; plain scalars.
    fn short_of_guarantees(&self) -> Resources;

    /// Begins to note on which agents what is free changes, or whether they are active, or ceases to.
    fn watch_free(&mut self, on: bool);

    /// The agents on which what is free has changed since this was asked last, in the order of their keys; those that are gone among
    /// them. Nothing while it is not noted.
    fn free_changes(&mut self) -> Vec<AgentId>;

    /// What is free on an agent, active or not; nothing when it is not known.
    fn free(&self, agent: &AgentId) -> Resources;

    /// Shares of every role that has frameworks or is above one that has, and of every framework in it, in order of fairness: a role,
    /// its frameworks, the roles below it. Shared volumes count for nobody.
    fn shares(&self) -> Vec<Share>;
}
