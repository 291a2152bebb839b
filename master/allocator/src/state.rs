//! What the allocator holds of each agent, framework, role, and framework within a role.

use std::sync::Arc;

use apportion_types::{AgentId, FrameworkId, FrameworkOptions, Place, Resources, Role, Time};

use crate::{
    amount::Amount,
    bits::BitSet,
    explain::Inactive,
    filters::Filters,
    quantities::Quantities,
    room::Bounds,
    slab::{AgentKey, ClientKey, FrameworkKey, NodeKey, RoleKey},
    sorter::Sorter,
};

#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    /// That by which constraints judge it.
    pub(crate) place: Arc<Place>,
    pub(crate) has_gpus: bool,
    /// None while it is active.
    pub(crate) inactive: Option<Inactive>,
    /// All that it has but what it lends.
    pub(crate) total: Amount,
    /// What it lends; none while it never lent any, nor is any that it lent given.
    pub(crate) lent: Option<Resources>,
    /// None when nothing is.
    pub(crate) free: Option<Amount>,
    /// Sorted by client; no empty amount.
    pub(crate) allocated: Vec<(ClientKey, Amount)>,
    /// How many copies of each shared volume a client holds.
    pub(crate) copies: Vec<(ClientKey, Resources, u32)>,
    /// None until somebody refuses. Shared with copies of the allocator until they change it.
    pub(crate) filters: Option<Arc<Filters>>,
    /// The clients that are not to be offered any of it; none when all are.
    pub(crate) barred: Option<Box<BitSet<ClientKey>>>,
    /// What stands for this agent among the deadlines.
    pub(crate) deadline: Option<Time>,
}

impl Agent {
    pub(crate) fn is_active(&self) -> bool {
        self.inactive.is_none()
    }

    pub(crate) fn find(&self, client: ClientKey) -> Result<usize, usize> {
        self.allocated.binary_search_by_key(&client, |(known, _)| *known)
    }

    /// Those who have refused all that is free, as far as that was learned.
    pub(crate) fn blocked(&self) -> Option<&BitSet<ClientKey>> {
        self.filters.as_deref().filter(|filters| !filters.is_empty()).map(Filters::blocked)
    }

    /// Something of it is free while it is given, or may be given beyond what there is: free is not total less allocated.
    pub(crate) fn is_apart(&self) -> bool {
        self.lent.is_some() || self.total.shares()
    }

    /// How many copies of a shared volume the client holds.
    pub(crate) fn copies_of(&mut self, client: ClientKey, volume: &Resources) -> Option<&mut u32> {
        let same = |(holder, held, _): &&mut (ClientKey, Resources, u32)| *holder == client && held == volume;
        self.copies.iter_mut().find(same).map(|(_, _, copies)| copies)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Framework {
    pub(crate) id: FrameworkId,
    pub(crate) active: bool,
    pub(crate) options: FrameworkOptions,
    /// Offers that it holds.
    pub(crate) outstanding: u32,
    /// The most that it may.
    pub(crate) offers_max: u32,
    /// Sorted by role: those that it subscribes to, and those under which it still holds something.
    pub(crate) clients: Vec<(Role, ClientKey)>,
}

impl Framework {
    pub(crate) fn find(&self, role: &Role) -> Result<usize, usize> {
        self.clients.binary_search_by(|(known, _)| known.cmp(role))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.outstanding >= self.offers_max
    }
}

/// A role: a node of the tree. It is known while it, or one below it, has frameworks or reservations, and while it has a quota.
#[derive(Debug, Clone)]
pub(crate) struct RoleState {
    pub(crate) name: Role,
    /// None at the top.
    pub(crate) parent: Option<RoleKey>,
    /// Its place among its siblings, while there are clients in its subtree.
    pub(crate) node: Option<NodeKey>,
    /// The place of its own frameworks, as one, among the roles below it, while it has some.
    pub(crate) own: Option<NodeKey>,
    /// The roles below it, and itself for its own frameworks.
    pub(crate) below: Sorter<Role, RoleKey>,
    /// Its own frameworks.
    pub(crate) frameworks: Sorter<FrameworkId, ClientKey>,
    /// How many known roles are directly below it.
    pub(crate) children: usize,
    /// How many frameworks it has itself.
    pub(crate) clients: usize,
    /// With those of the roles below it.
    pub(crate) tenants: usize,
    /// How many of its own may be given something.
    pub(crate) own_eligible: usize,
    /// With those of the roles below it.
    pub(crate) eligible: usize,
    /// The most that it may consume; whatever there is when none.
    pub(crate) limit: Option<Bounds>,
    /// It, or one above it, has a limit.
    pub(crate) limited: bool,
    /// Its limit has kept free resources from somebody since its room last grew.
    pub(crate) short: bool,
    /// What it is sure of; only at the top.
    pub(crate) guarantee: Option<Bounds>,
    /// What it lacks of that.
    pub(crate) unmet: Quantities,
    /// What is given in its subtree of unreserved scalars that are not lent.
    pub(crate) used: Quantities,
    /// What is reserved for its subtree, given or not.
    pub(crate) reserved: Quantities,
}

impl RoleState {
    /// What counts against its quota.
    pub(crate) fn consumed(&self, kind: usize) -> i64 {
        self.used.of(kind).saturating_add(self.reserved.of(kind))
    }
}

/// A framework within a role.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) framework: FrameworkKey,
    pub(crate) framework_id: FrameworkId,
    pub(crate) role: RoleKey,
    pub(crate) role_name: Role,
    /// Its place among the role's frameworks.
    pub(crate) node: NodeKey,
    /// The role is among the framework's.
    pub(crate) subscribed: bool,
    pub(crate) suppressed: bool,
    /// It can deal with what is only lent.
    pub(crate) borrows: bool,
    /// It can deal with shared volumes.
    pub(crate) shares: bool,
    /// What an offer must hold one of; that of all when none.
    pub(crate) minimums: Option<Arc<[Resources]>>,
    /// The agents on which it holds something.
    pub(crate) holds: BitSet<AgentKey>,
    /// The agents on which it may have filters: all on which it has some, and perhaps others.
    pub(crate) filtered: BitSet<AgentKey>,
}
