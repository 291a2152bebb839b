//! Frameworks and agents as they describe themselves, and what is offered to whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    constraints::OfferConstraints,
    container::Unenforced,
    ids::{AgentId, FrameworkId, OfferId, Role},
    maintenance::Unavailability,
    resources::Resources,
};

/// A framework as it describes itself at subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameworkInfo {
    /// For people; need not be unique.
    pub name: String,
    /// Who runs it; does not change over re-subscriptions.
    pub principal: String,
    /// The roles for which it takes offers; at least one, none twice.
    pub roles: Vec<Role>,
    /// How long its tasks run on while it is disconnected.
    pub failover_timeout: Duration,
    /// Free text for people and tools.
    pub labels: BTreeMap<String, String>,
}

/// What a framework wishes of offers. Told at subscription, changed while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FrameworkOptions {
    /// What it can deal with; what it cannot is not offered to it.
    pub capabilities: BTreeSet<Capability>,
    /// By role: which agents it wants offers of; all, for a role without.
    pub constraints: BTreeMap<Role, OfferConstraints>,
    /// By role: an offer must contain one of these whole; the master's own minimum, for a role without. An empty list is no minimum.
    pub min_allocatable: BTreeMap<Role, Vec<Resources>>,
    /// The most offers that it wants to hold at once; the master's own bound when none or when that is less.
    pub offers_max: Option<u32>,
    /// It has several schedulers, of which one is subscribed and the others stand by: the name of this one among them.
    pub stand_by: Option<String>,
}

/// Something that not every framework is prepared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Its tasks may be killed at any time to give back what was only lent.
    RevocableResources,
    /// Several of its tasks may use one volume at once.
    SharedResources,
    /// It uses gpus. Where the master is so configured, agents with gpus are offered to no other.
    GpuResources,
    /// It knows that agents of other regions than the master's are far away.
    RegionAware,
    /// It is asked to leave agents whose machines will be taken away.
    InverseOffers,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Capability; 5] = [
        Capability::RevocableResources,
        Capability::SharedResources,
        Capability::GpuResources,
        Capability::RegionAware,
        Capability::InverseOffers,
    ];
}

/// Where a machine stands: what fails together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FaultDomain {
    /// Far from others: latency matters between regions.
    pub region: String,
    /// Within its region.
    pub zone: String,
}

/// An agent as it describes itself at registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// Its host's name, for people and placement.
    pub hostname: String,
    /// `host:port` of its own services (sandbox, health, metrics).
    pub address: String,
    /// All that it has to offer by its own settings, with the reservations that stand there. What operations made of it is told beside
    /// it.
    pub resources: Resources,
    /// What frameworks may place by.
    pub attributes: BTreeMap<String, String>,
    /// Where it stands, if that is known.
    pub domain: Option<FaultDomain>,
    /// What it cannot hold tasks to, and why.
    pub unenforced: Vec<Unenforced>,
    /// The version of its software.
    pub version: String,
    /// What its software knows.
    pub capabilities: BTreeSet<AgentCapability>,
    /// Names its work directory, and is never another's; empty when it has no name. An agent that lost its id before it was on its disk is
    /// known by it, with its hostname and address: a copy of the directory on another machine is another's.
    pub work_dir_id: String,
}

/// Something that not every version of an agent knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentCapability {
    /// It takes all or none of a task group on, launches its tasks in their order, and ends them together.
    TaskGroups,
    /// It has executors run tasks.
    Executors,
    /// It has the tasks of a group share a network.
    GroupNetworks,
    /// It gives tasks cores of their own.
    ExclusiveCpus,
    /// It can be drained, and ends what it runs when it is told that it is gone.
    Drain,
}

impl AgentCapability {
    /// Every capability: those of an agent of this version.
    pub const ALL: [AgentCapability; 5] = [
        AgentCapability::TaskGroups,
        AgentCapability::Executors,
        AgentCapability::GroupNetworks,
        AgentCapability::ExclusiveCpus,
        AgentCapability::Drain,
    ];
}

/// Resources of one agent, for one role of one framework, until used, declined or rescinded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its name.
    pub offer_id: OfferId,
    /// To whom.
    pub framework_id: FrameworkId,
    /// Whose resources.
    pub agent_id: AgentId,
    /// For which role.
    pub role: Role,
    /// What is offered.
    pub resources: Resources,
    /// Where the agent is; shared by all offers of it.
    #[serde(flatten)]
    pub place: Arc<Place>,
    /// When the agent's machine is to be taken away, if that is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailability: Option<Unavailability>,
}

/// What is known of where an agent is: by this tasks are placed, and it is judged who may be offered the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// Its host.
    pub hostname: String,
    /// Its own services, `host:port`.
    pub address: String,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Its fault domain, if that is known.
    pub domain: Option<FaultDomain>,
}

impl AgentInfo {
    /// Where it is.
    pub fn place(&self) -> Place {
        Place {
            hostname: self.hostname.clone(),
            address: self.address.clone(),
            attributes: self.attributes.clone(),
            domain: self.domain.clone(),
        }
    }
}
