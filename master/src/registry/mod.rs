//! Where slow facts are kept: which agents and frameworks take part, which are gone for ever, and what is set for roles.

mod backup;
mod embedded;
mod entry;
mod etcd;
mod inspect;
mod memory;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use apportion_master_core::{RegistryOp, view::RoleSettings};
use apportion_types::{AgentId, AgentInfo, FrameworkId, FrameworkInfo, Role};
use async_trait::async_trait;

pub(crate) use self::etcd::leader_key;
pub use self::{
    backup::{BackupError, export, import},
    embedded::{Embedded, OpenError, read},
    etcd::{Etcd, EtcdError, read_etcd},
    memory::InMemory,
};

/// A store of slow facts. One writer at a time calls it, and waits for each commit before the next.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Applies the changes in order, all or nothing, and returns when they last. Doing it twice is doing it once.
    ///
    /// After an error nothing is known of what was written; the master ends rather than guess.
    async fn commit(&self, ops: Vec<RegistryOp>) -> Result<(), RegistryError>;

    /// All that is kept.
    async fn load(&self) -> Result<Contents, RegistryError>;
}

/// Why a registry does not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Something could not be written.
    #[error("writing {count} changes to the registry")]
    Write {
        /// How many changes were to be written.
        count: usize,
        /// What the store says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The leadership for which the registry was opened has ended; nothing was written.
    #[error("another master leads since ({leader})")]
    Deposed {
        /// Who leads now, if anybody does.
        leader: String,
    },
    /// What is kept could not be read.
    #[error("reading the registry")]
    Read {
        /// What the store says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What a registry keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// Agents that take part.
    pub agents: BTreeMap<AgentId, Agent>,
    /// Ids of agents that were removed; refused for ever.
    pub removed_agents: BTreeSet<AgentId>,
    /// What is set for roles; one for which nothing is set is not among them.
    pub roles: BTreeMap<Role, RoleSettings>,
    /// Frameworks that take part.
    pub frameworks: BTreeMap<FrameworkId, FrameworkInfo>,
    /// Ids of frameworks that were removed; refused for ever.
    pub removed_frameworks: BTreeSet<FrameworkId>,
}

/// An agent as a registry keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// As it described itself last.
    pub info: AgentInfo,
    /// It did not return in time.
    pub unreachable: bool,
}

impl Contents {
    /// True when nothing was ever written.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes one change. What is removed stays so: an admission of a removed id changes nothing.
    pub fn apply(&mut self, op: RegistryOp) {
        match op {
            RegistryOp::AdmitAgent { agent_id, info } => {
                if !self.removed_agents.contains(&agent_id) {
                    self.agents.insert(agent_id, Agent { info, unreachable: false });
                }
            }
            RegistryOp::MarkUnreachable { agent_id } => {
                if let Some(agent) = self.agents.get_mut(&agent_id) {
                    agent.unreachable = true;
                }
            }
            RegistryOp::RemoveAgent { agent_id } => {
                self.agents.remove(&agent_id);
                self.removed_agents.insert(agent_id);
            }
            RegistryOp::AdmitFramework { framework_id, info } => {
                if !self.removed_frameworks.contains(&framework_id) {
                    self.frameworks.insert(framework_id, info);
                }
            }
            RegistryOp::SetRole { role, settings } => {
                if settings == RoleSettings::default() {
                    self.roles.remove(&role);
                } else {
                    self.roles.insert(role, settings);
                }
            }
            RegistryOp::RemoveFramework { framework_id } => {
                self.frameworks.remove(&framework_id);
                self.removed_frameworks.insert(framework_id);
            }
        }
    }
}
