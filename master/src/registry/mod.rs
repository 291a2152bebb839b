//! Where slow facts are kept: which agents and frameworks take part, which are gone for ever, and what is set for roles.

mod backup;
#[cfg(test)]
mod crashes;
mod embedded;
mod entry;
mod etcd;
mod inspect;
mod memory;
#[cfg(test)]
#[path = "../../../tests/power.rs"]
mod power;
#[cfg(test)]
#[path = "../../../tests/power_redb.rs"]
mod power_redb;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use apportion_master_core::{Recovered, RegistryOp, view::RoleSettings};
use apportion_types::Role;
use async_trait::async_trait;

pub(crate) use self::etcd::leader_key;
pub use self::{
    backup::{Backup, BackupError, export},
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
    /// Agents and frameworks that take part, and the ids of those that were removed.
    pub recovered: Recovered,
    /// What is set for roles; one for which nothing is set is not among them.
    pub roles: BTreeMap<Role, RoleSettings>,
}

impl Contents {
    /// True when nothing was ever written.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes one change. What is removed stays so: an admission of a removed id changes nothing.
    pub fn apply(&mut self, op: RegistryOp) {
        match op {
            RegistryOp::SetRole { role, settings } if settings == RoleSettings::default() => {
                self.roles.remove(&role);
            }
            RegistryOp::SetRole { role, settings } => {
                self.roles.insert(role, settings);
            }
            op => self.recovered.apply(op),
        }
    }
}
