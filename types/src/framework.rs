//! Frameworks and agents as they describe themselves, and what is offered to whom.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    container::Unenforced,
    ids::{AgentId, FrameworkId, OfferId, Role},
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

/// An agent as it describes itself at registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// Its host's name, for people and placement.
    pub hostname: String,
    /// `host:port` of its own services (sandbox, health, metrics).
    pub address: String,
    /// All that it has to offer.
    pub resources: Resources,
    /// What frameworks may place by.
    pub attributes: BTreeMap<String, String>,
    /// What it cannot hold tasks to, and why.
    pub unenforced: Vec<Unenforced>,
    /// The version of its software.
    pub version: String,
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
    /// The agent's host.
    pub hostname: String,
    /// The agent's own services, `host:port`.
    pub address: String,
    /// The agent's attributes.
    pub attributes: BTreeMap<String, String>,
}
