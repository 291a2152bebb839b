//! What the allocator holds of each agent, framework, role, and framework within a role.

use apportion_types::{AgentId, FrameworkId, Resources, Role, Time};

use crate::{
    bits::BitSet,
    filters::Filters,
    slab::{AgentKey, ClientKey, FrameworkKey, NodeKey, RoleKey},
    sorter::Sorter,
};

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) active: bool,
    pub(crate) total: Resources,
    pub(crate) free: Resources,
    /// Sorted by client; no empty amount.
    allocated: Vec<(ClientKey, Resources)>,
    /// None until somebody refuses.
    pub(crate) filters: Option<Box<Filters>>,
    /// What stands for this agent among the deadlines.
    pub(crate) deadline: Option<Time>,
}

impl Agent {
    pub(crate) fn new(id: AgentId, total: Resources) -> Self {
        Self {
            id,
            active: true,
            free: total.clone(),
            total,
            allocated: Vec::new(),
            filters: None,
            deadline: None,
        }
    }

    /// Moves free resources to a client. They are free: the caller has seen to it.
    pub(crate) fn allocate(&mut self, client: ClientKey, resources: &Resources) {
        self.free.saturating_sub(resources);
        self.changed();
        match self.allocated.binary_search_by_key(&client, |(known, _)| *known) {
            Ok(index) => self.allocated[index].1 += resources,
            Err(index) => self.allocated.insert(index, (client, resources.clone())),
        }
    }

    /// Moves all that is free to a client, and says what it was.
    pub(crate) fn allocate_free(&mut self, client: ClientKey) -> Resources {
        let given = std::mem::take(&mut self.free);
        self.allocate(client, &given);
        given
    }

    /// Frees some of a client's resources; true when it has none left here.
    pub(crate) fn recover(&mut self, client: ClientKey, resources: &Resources) -> bool {
        let found = self.allocated.binary_search_by_key(&client, |(known, _)| *known);
        let Ok(index) = found else {
            panic!("agent {}: {resources} recovered, nothing is allocated", self.id)
        };
        let held = &mut self.allocated[index].1;
        assert!(held.contains(resources), "agent {}: {resources} recovered of {held}", self.id);
        held.saturating_sub(resources);
        let last = held.is_empty();
        if last {
            self.allocated.remove(index);
        }
        self.free += resources;
        self.changed();
        last
    }

    fn changed(&mut self) {
        if let Some(filters) = &mut self.filters {
            filters.outdate();
        }
    }

    pub(crate) fn allocated(&self) -> &[(ClientKey, Resources)] {
        &self.allocated
    }

    pub(crate) fn allocated_to(&self, client: ClientKey) -> Option<&Resources> {
        let index = self.allocated.binary_search_by_key(&client, |(known, _)| *known).ok()?;
        Some(&self.allocated[index].1)
    }
}

#[derive(Debug)]
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

#[derive(Debug)]
pub(crate) struct RoleState {
    pub(crate) name: Role,
    /// Its place among the roles.
    pub(crate) node: NodeKey,
    /// Its frameworks.
    pub(crate) frameworks: Sorter<FrameworkId, ClientKey>,
    pub(crate) clients: usize,
    /// How many of them may be given something.
    pub(crate) eligible: usize,
}

/// A framework within a role.
#[derive(Debug)]
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
