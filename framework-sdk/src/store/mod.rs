//! What a scheduler keeps beyond its own end: its framework's id, and a record of each thing that it must not forget.
//!
//! A scheduler that is killed at any moment loses no task and runs none twice if it saves, before each callback returns, what it has
//! learned and done in it: the framework's id in [`subscribed`](crate::Scheduler::subscribed), a task that it launches in
//! [`offers`](crate::Scheduler::offers), what became of one in [`update`](crate::Scheduler::update). What it cannot save must not have
//! happened: it ends with [`Stop::Abort`](crate::Stop::Abort). The next one loads what was kept, subscribes with the
//! [id](crate::driver::Builder::framework_id), and names the tasks in [`tasks`](crate::Scheduler::tasks): the driver reconciles them.
//!
//! ```
//! use apportion_sdk::{FrameworkId, store::{Changes, Memory, Store}};
//!
//! let mut store = Memory::default();
//! let mut changes = Changes::default();
//! changes.framework_id(Some(FrameworkId::new("f-1")?));
//! changes.put("task/1", b"launched on agent-7".to_vec());
//! store.save(changes)?;
//!
//! let kept = store.load()?;
//! assert_eq!(kept.framework_id.unwrap().as_str(), "f-1");
//! assert_eq!(kept.records["task/1"], b"launched on agent-7");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(test)]
#[cfg(feature = "store")]
mod crashes;
#[cfg(feature = "store")]
mod embedded;
mod memory;
#[cfg(test)]
#[cfg(feature = "store")]
#[path = "../../../tests/power.rs"]
mod power;
#[cfg(test)]
#[cfg(feature = "store")]
#[path = "../../../tests/power_redb.rs"]
mod power_redb;

use std::{collections::BTreeMap, path::PathBuf};

use apportion_types::FrameworkId;

#[cfg(feature = "store")]
pub use self::embedded::{Embedded, Presence};
pub use self::memory::Memory;

/// All that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// The framework's id; none before the first subscription, or once it is of no use any more.
    pub framework_id: Option<FrameworkId>,
    /// The scheduler's own records, by their keys.
    pub records: BTreeMap<String, Vec<u8>>,
}

impl Kept {
    /// True when nothing is kept.
    pub fn is_empty(&self) -> bool {
        *self == Kept::default()
    }

    fn apply(&mut self, changes: Changes) {
        if let Some(framework_id) = changes.framework_id {
            self.framework_id = framework_id;
        }
        for (key, value) in changes.records {
            match value {
                Some(value) => _ = self.records.insert(key, value),
                None => _ = self.records.remove(&key),
            }
        }
    }
}

/// What is to be kept from now on, and what no longer; of one key, what was said last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    framework_id: Option<Option<FrameworkId>>,
    records: BTreeMap<String, Option<Vec<u8>>>,
}

impl Changes {
    /// Keeps this as the framework's id, or none.
    pub fn framework_id(&mut self, framework_id: Option<FrameworkId>) -> &mut Self {
        self.framework_id = Some(framework_id);
        self
    }

    /// Keeps a record, in the place of one with the same key.
    pub fn put(&mut self, key: impl Into<String>, value: Vec<u8>) -> &mut Self {
        self.records.insert(key.into(), Some(value));
        self
    }

    /// Forgets a record, if there is one.
    pub fn remove(&mut self, key: impl Into<String>) -> &mut Self {
        self.records.insert(key.into(), None);
        self
    }

    /// True when there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

/// Where a scheduler keeps what must outlive it. One scheduler at a time uses it.
pub trait Store: Send {
    /// All that is kept.
    fn load(&self) -> Result<Kept, StoreError>;

    /// Makes the changes, all or nothing. When this returns they last; it may block for as long as a disk takes for that.
    ///
    /// After an error nothing is known of what was written: a scheduler ends then, and does not do what it could not keep.
    fn save(&mut self, changes: Changes) -> Result<(), StoreError>;
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn load(&self) -> Result<Kept, StoreError> {
        (**self).load()
    }

    fn save(&mut self, changes: Changes) -> Result<(), StoreError> {
        (**self).save(changes)
    }
}

/// Why nothing can be kept, or what was kept cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The folder, or a file in it, cannot be used.
    #[error("{path:?} cannot be used: {source}; {}", remedy(source))]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process has the store open.
    #[error(
        "what is kept in {folder:?} is in use by another run; end that one first, or name another folder"
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// Something else is kept there.
    #[error("{folder:?} keeps `{found}`, not `{owner}`; name another folder")]
    OtherOwner {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it was to be.
        owner: String,
    },
    /// A later version wrote it.
    #[error("what is kept in {folder:?} was written by a later version; use that version, or another folder")]
    Later {
        /// The folder.
        folder: PathBuf,
    },
    /// Its bytes are not what was written.
    #[error(
        "{path:?} is damaged, and left as it is: {why}; tasks run on until the failover time-out; move the file away to begin anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// What to do when the system refuses. What is kept is on this disk: another folder would forget it.
fn remedy(source: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match source.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => {
            "make room there, and start again: what was kept before is whole, and what could not be kept was not done"
        }
        _ => "name a folder on a local disk with room, and writable for this user",
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_disk_that_is_full_is_no_reason_to_keep_things_elsewhere() {
        let said = |kind: ErrorKind| StoreError::Io { path: "state".into(), source: kind.into() }.to_string();
        for full in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            let said = said(full);
            assert!(
                said.contains("make room there, and start again") && !said.contains("name a folder"),
                "{said}"
            );
        }
        assert!(said(ErrorKind::PermissionDenied).contains("name a folder"));
    }
}
