//! The service's table on disk.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    spec::REPLICAS_MAX,
    state::{Table, VERSION},
};

/// The file within the state folder.
const FILE: &str = "service.json";

/// Between two looks whether the folder is free.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Held locked by the scheduler that uses the folder.
const LOCK: &str = "lock";

/// A folder that holds one service's table.
///
/// The file is replaced as a whole: written beside its place, synced, moved there, and the folder synced. So after a crash
/// at any moment there is either the old table or the new one.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Locked for as long as it is open; the system unlocks it when the process ends, however that happens.
    _lock: Option<File>,
}

/// Why the table could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The folder or a file in it could not be used.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another scheduler of this machine uses the folder.
    #[error("the state in {} is used by another run of this service; end that one first, or use another --state", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The file is not what was written.
    #[error(
        "{} is damaged: {why}; its replicas run on until the failover time-out, `apportion frameworks` lists them; remove the \
         file to begin anew",
        file.display()
    )]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file is of another service.
    #[error("{} is the state of service `{found}`, not of `{service}`; use another --state", file.display())]
    OtherService {
        /// The file.
        file: PathBuf,
        /// Its service.
        found: String,
        /// The one that was to be run.
        service: String,
    },
}

impl Store {
    /// Opens the folder for a scheduler, which must be the only one: makes the folder when there is none.
    pub fn open(folder: &Path) -> Result<Store, StoreError> {
        fs::create_dir_all(folder).map_err(|source| io_error("make the folder", folder, source))?;
        let path = folder.join(LOCK);
        let lock = File::create(&path).map_err(|source| io_error("open", &path, source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Store { folder: folder.to_owned(), _lock: Some(lock) }),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse { folder: folder.to_owned() }),
            Err(fs::TryLockError::Error(source)) => Err(io_error("lock", &path, source)),
        }
    }

    /// Opens the folder once no other scheduler uses it, or fails as [`open`](Store::open) does when one still does after that time.
    pub fn open_within(folder: &Path, timeout: Duration) -> Result<Store, StoreError> {
        let begun = Instant::now();
        loop {
            match Store::open(folder) {
                Err(StoreError::InUse { .. }) if begun.elapsed() < timeout => thread::sleep(RETRY_PAUSE),
                done => return done,
            }
        }
    }

    /// Opens the folder to end the service, be its scheduler running or not: the master ends that one when another takes over.
    pub fn open_to_stop(folder: &Path) -> Store {
        Store { folder: folder.to_owned(), _lock: None }
    }

    /// The table of a service; none when it never ran, or was stopped.
    pub fn load(&self, service: &str) -> Result<Option<Table>, StoreError> {
        let file = self.folder.join(FILE);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("read", &file, source)),
        };
        let corrupt = |why: String| StoreError::Corrupt { file: file.clone(), why };
        let table: Table = serde_json::from_slice(&text).map_err(|error| corrupt(error.to_string()))?;
        if table.version != VERSION {
            return Err(corrupt(format!("version {} instead of {VERSION}", table.version)));
        }
        if let Some(scaled) = table.scaled.filter(|scaled| scaled.replicas > REPLICAS_MAX) {
            return Err(corrupt(format!("{} replicas instead of at most {REPLICAS_MAX}", scaled.replicas)));
        }
        if table.service != service {
            return Err(StoreError::OtherService { file, found: table.service, service: service.to_owned() });
        }
        Ok(Some(table))
    }

    /// Replaces the table. When this returns it survives a crash.
    pub fn save(&self, table: &Table) -> Result<(), StoreError> {
        let (file, beside) = (self.folder.join(FILE), self.folder.join("service.json.new"));
        let text = serde_json::to_vec_pretty(table).expect("a table has texts and numbers as keys");
        let mut new = File::create(&beside).map_err(|source| io_error("make", &beside, source))?;
        let written = new.write_all(&text).and_then(|()| new.sync_all());
        written.map_err(|source| io_error("write", &beside, source))?;
        fs::rename(&beside, &file).map_err(|source| io_error("replace", &file, source))?;
        // Only this makes the new name last.
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| io_error("sync", &self.folder, source))
    }

    /// Forgets the service.
    pub fn remove(&self) -> Result<(), StoreError> {
        let file = self.folder.join(FILE);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &file, error)),
            _ => Ok(()),
        }
    }
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use apportion_sdk::{AgentId, FrameworkId, TaskId};

    use super::*;
    use crate::state::{Placed, Scaled};

    fn table() -> Table {
        let mut table = Table::new("web");
        table.framework_id = Some(FrameworkId::new("f1").unwrap());
        table.launches = 7;
        table.scaled = Some(Scaled { described: 3, replicas: 5 });
        table.placed.insert(
            2,
            Placed {
                task_id: TaskId::new("web.2.7").unwrap(),
                agent_id: AgentId::new("a1").unwrap(),
                hostname: "one".into(),
                ports: vec![31000],
            },
        );
        table.strays.insert(TaskId::new("web.1.3").unwrap());
        table
    }

    #[test]
    fn a_table_comes_back_as_it_was_stored() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("deep/er");
        let store = Store::open(&folder).unwrap();
        assert_eq!(store.load("web").unwrap(), None);
        store.save(&Table::new("web")).unwrap();
        store.save(&table()).unwrap();
        drop(store);
        let store = Store::open(&folder).unwrap();
        assert_eq!(store.load("web").unwrap(), Some(table()));
        store.remove().unwrap();
        store.remove().unwrap();
        assert_eq!(store.load("web").unwrap(), None);
    }

    #[test]
    fn one_scheduler_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(folder.path()).unwrap();
        first.save(&table()).unwrap();
        let message = Store::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("is used by another run of this service; end that one first"), "{message}");
        assert_eq!(
            Store::open_to_stop(folder.path()).load("web").unwrap(),
            Some(table()),
            "stopping is always possible"
        );
        drop(first);
        Store::open(folder.path()).unwrap();
    }

    #[test]
    fn what_is_no_table_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let good = serde_json::to_string(&table()).unwrap();
        let bad = [
            good[..good.len() / 2].to_owned(),
            String::new(),
            "[]".to_owned(),
            good.replace("\"version\":1", "\"version\":2"),
            good.replace("\"launches\":7", "\"launches\":-7"),
            good.replace("\"replicas\":5", "\"replicas\":1001"),
            good.replace("web.2.7", "web/2"),
        ];
        for text in bad {
            assert_ne!(text, good);
            fs::write(folder.path().join(FILE), &text).unwrap();
            let message = store.load("web").unwrap_err().to_string();
            assert!(
                message.contains("service.json is damaged: ")
                    && message.contains("remove the file to begin anew"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_table_from_before_services_were_scaled_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let old = serde_json::to_string(&Table { scaled: None, ..table() }).unwrap();
        assert!(!old.contains("scaled"), "{old}");
        fs::write(folder.path().join(FILE), old).unwrap();
        assert_eq!(store.load("web").unwrap().unwrap().scaled, None);
    }

    #[test]
    fn the_state_of_another_service_is_not_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.save(&table()).unwrap();
        let message = store.load("shop").unwrap_err().to_string();
        assert!(
            message.ends_with("is the state of service `web`, not of `shop`; use another --state"),
            "{message}"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let message = Store::open(&file.join("state")).unwrap_err().to_string();
        assert!(message.starts_with("cannot make the folder "), "{message}");
    }
}
