//! What the allocator holds of each agent, framework, role, and framework within a role.

use apportion_types::{AgentId, FrameworkId, Role, Time};

use crate::{
    amount::Amount,
    bits::BitSet,
    filters::Filters,
    room::Limit,
    slab::{AgentKey, ClientKey, FrameworkKey, NodeKey, RoleKey},
    sorter::Sorter,
};

#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) active: bool,
    pub(crate) total: Amount,
    /// None when nothing is.
    pub(crate) free: Option<Amount>,
    /// Sorted by client; no empty amount.
    pub(crate) allocated: Vec<(ClientKey, Amount)>,
    /// None until somebody refuses.
    pub(crate) filters: Option<Box<Filters>>,
    /// What stands for this agent among the deadlines.
    pub(crate) deadline: Option<Time>,
}

impl Agent {
    pub(crate) fn find(&self, client: ClientKey) -> Result<usize, usize> {
        self.allocated.binary_search_by_key(&client, |(known, _)| *known)
    }

    /// What may be offered of it now.
    pub(crate) fn offerable(&self) -> Option<&Amount> {
        self.free.as_ref().filter(|free| self.active && free.is_allocatable())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Framework {
    pub(crate) id: FrameworkId,
    pub(crate) active: bool,
    /// Sorted by role: those that it subscribes to, and those under which it still holds something.
    pub(crate) clients: Vec<(Role, ClientKey)>,
}

impl Framework {
    pub(crate) fn find(&self, role: &Role) -> Result<usize, usize> {
        self.clients.binary_search_by(|(known, _)| known.cmp(role))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct RoleState {
    pub(crate) name: Role,
    /// Its place among the roles.
    pub(crate) node: NodeKey,
    /// Its frameworks.
    pub(crate) frameworks: Sorter<FrameworkId, ClientKey>,
    /// The most that it may have; whatever there is when none.
    pub(crate) limit: Option<Limit>,
    /// Its limit has kept free resources from it since its room last grew.
    pub(crate) short: bool,
    pub(crate) clients: usize,
    /// How many of them may be given something.
    pub(crate) eligible: usize,
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
    /// The agents on which it holds something.
    pub(crate) holds: BitSet<AgentKey>,
    /// The agents on which it may have filters: all on which it has some, and perhaps others.
    pub(crate) filtered: BitSet<AgentKey>,
}
