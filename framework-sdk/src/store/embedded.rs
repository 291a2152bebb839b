//! A store in a folder of a local disk.

#![expect(
    clippy::disallowed_types,
    reason = "the one place of this crate with files; its feature `store` brings it in"
)]

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use apportion_types::FrameworkId;
use redb::{
    Builder, Database, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition,
    backends::{FileBackend, InMemoryBackend},
};

use super::{Changes, Kept, Store, StoreError};

/// The layout of the tables. One that is higher is of a later version.
pub(super) const VERSION: &str = "1";

pub(super) const RECORDS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("records");

/// What is known of the store itself, and of its framework.
pub(super) const ABOUT: TableDefinition<'static, &str, &str> = TableDefinition::new("about");

pub(super) const ABOUT_VERSION: &str = "version";
pub(super) const ABOUT_OWNER: &str = "owner";
const ABOUT_FRAMEWORK_ID: &str = "framework_id";

/// How often something was saved: tells which of the two saves that the file holds is the newer.
const ABOUT_SAVES: &str = "saves";

/// Which of the two saves that a file of redb holds is the newest, and that it was written in two phases: it was on the disk before this
/// bit named it. No checksum covers this byte.
const FLAGS_AT: usize = 9;
const NEWEST_BIT: u8 = 1;
const TWO_PHASES: u8 = 4;

/// What one scheduler keeps is small, and read once.
const CACHE_BYTES: usize = 16 << 20;

/// A [`Store`] in a folder, which survives the end of the process and of the machine's power: a [redb](https://docs.rs/redb)
/// database, in which each save is on the disk before it returns, and one that was cut off never happened. It never goes back to the save
/// before the newest, which the file still holds, on its own: a newest one that is damaged is refused.
#[derive(Debug)]
pub struct Embedded {
    folder: PathBuf,
    database: Database,
    /// Held for as long as it is open; the system unlocks it when the process ends, however that happens.
    _lock: File,
}

impl Embedded {
    /// Opens what is kept in a folder, which is made if it is missing, and keeps every other process from it. `owner` says whose it
    /// is, such as `batch job checksum`: what another owner keeps is refused.
    pub fn open(folder: &Path, owner: &str) -> Result<Self, StoreError> {
        let lock = lock(folder)?;
        let path = file(folder);
        if !path.try_exists().map_err(|source| io_error(&path, source))? {
            create(&path, owner)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| io_error(&path, e))?;
        let storage = FileBackend::new(file).map_err(|error| failed(error, &path))?;
        Self::in_storage(folder, storage, lock, owner)
    }

    /// Opens what is kept in a storage that nobody else uses.
    pub(super) fn in_storage(
        folder: &Path,
        storage: impl StorageBackend,
        lock: File,
        owner: &str,
    ) -> Result<Self, StoreError> {
        let path = file(folder);
        let io_error = |source| io_error(&path, source);
        let mut bytes = vec![0; usize::try_from(storage.len().map_err(io_error)?).unwrap_or(usize::MAX)];
        storage.read(0, &mut bytes).map_err(io_error)?;
        let Some(flags) = bytes.get(FLAGS_AT) else { return Err(damaged(&path, "it is too short")) };
        let wanted = newest(&bytes, *flags).map_err(|error| failed(error, &path))?;
        if wanted != *flags {
            // The newest save is named as such, once it is on the disk: of a process that was killed it may be in memory only.
            storage.sync_data().map_err(io_error)?;
            storage.write(FLAGS_AT as u64, &[wanted]).map_err(io_error)?;
            storage.sync_data().map_err(io_error)?;
        }
        let database = builder().create_with_backend(storage).map_err(|error| failed(error, &path))?;
        let store = Self { folder: folder.to_owned(), database, _lock: lock };
        let about = |key| store.about(key);
        match about(ABOUT_VERSION)?.as_deref() {
            Some(VERSION) => {}
            Some(version) if version.parse::<u64>().is_ok() => {
                return Err(StoreError::Later { folder: folder.to_owned() });
            }
            _ => return Err(damaged(&path, "it does not say which version wrote it")),
        }
        match about(ABOUT_OWNER)? {
            Some(found) if found == owner => Ok(store),
            Some(found) => {
                Err(StoreError::OtherOwner { folder: folder.to_owned(), found, owner: owner.to_owned() })
            }
            None => Err(damaged(&path, "it does not say whose it is")),
        }
    }

    /// Forgets everything, the folder too if that can be removed and nothing else is in it.
    pub fn remove(self) -> Result<(), StoreError> {
        let Self { folder, database, _lock: lock } = self;
        drop(database);
        for path in [file(&folder), folder.join("lock")] {
            fs::remove_file(&path).map_err(|source| io_error(&path, source))?;
        }
        drop(lock);
        // It may hold more, be where something is mounted, or stand in a folder of somebody else's.
        let _ = fs::remove_dir(&folder);
        Ok(())
    }

    fn about(&self, key: &str) -> Result<Option<String>, StoreError> {
        about(&self.database, key).map_err(|error| failed(error, &file(&self.folder)))
    }
}

/// Tells whether what is saved can still be found by whoever opens the folder next: a file that was removed under a process that has it
/// open takes what is written, and is gone with that process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    path: PathBuf,
    /// The device and the number of the file there.
    file: (u64, u64),
}

impl Presence {
    /// Of the store in a folder, which this process has open.
    pub fn of(folder: &Path) -> Result<Presence, StoreError> {
        Self::at(file(folder))
    }

    /// Of another file beside it.
    pub fn at(path: impl Into<PathBuf>) -> Result<Presence, StoreError> {
        let path = path.into();
        let file = Self::file_at(&path).map_err(|source| io_error(&path, source))?;
        Ok(Presence { path, file })
    }

    /// Whether it is where it was. Asks the file system, which may block.
    pub fn is_there(&self) -> bool {
        match Self::file_at(&self.path) {
            Ok(file) => file == self.file,
            // Of one that cannot be asked nothing is known.
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }

    fn file_at(path: &Path) -> io::Result<(u64, u64)> {
        fs::metadata(path).map(|file| (file.dev(), file.ino()))
    }
}

impl Store for Embedded {
    fn load(&self) -> Result<Kept, StoreError> {
        let path = file(&self.folder);
        let framework_id = self.about(ABOUT_FRAMEWORK_ID)?.map(FrameworkId::new).transpose();
        let framework_id = framework_id.map_err(|error| damaged(&path, &error.to_string()))?;
        let read = || -> Result<_, redb::Error> {
            let records = self.database.begin_read()?.open_table(RECORDS)?;
            let all = records.iter()?.map(|record| {
                let (key, value) = record?;
                Ok((key.value().to_owned(), value.value().to_vec()))
            });
            all.collect::<Result<_, redb::StorageError>>().map_err(redb::Error::from)
        };
        Ok(Kept { framework_id, records: read().map_err(|error| failed(error, &path))? })
    }

    fn save(&mut self, changes: Changes) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let write = || -> Result<(), redb::Error> {
            let mut writing = self.database.begin_write()?;
            writing.set_two_phase_commit(true);
            {
                let mut about = writing.open_table(ABOUT)?;
                let saves = number(about.get(ABOUT_SAVES)?.map(|saves| saves.value().to_owned())) + 1;
                about.insert(ABOUT_SAVES, saves.to_string().as_str())?;
                match &changes.framework_id {
                    Some(Some(id)) => _ = about.insert(ABOUT_FRAMEWORK_ID, id.as_str())?,
                    Some(None) => _ = about.remove(ABOUT_FRAMEWORK_ID)?,
                    None => {}
                }
            }
            if !changes.records.is_empty() {
                let mut records = writing.open_table(RECORDS)?;
                for (key, value) in &changes.records {
                    match value {
                        Some(value) => records.insert(key.as_str(), value.as_slice())?,
                        None => records.remove(key.as_str())?,
                    };
                }
            }
            Ok(writing.commit()?)
        };
        write().map_err(|error| failed(error, &file(&self.folder)))
    }
}

fn about(database: &Database, key: &str) -> Result<Option<String>, redb::Error> {
    let about = database.begin_read()?.open_table(ABOUT)?;
    Ok(about.get(key)?.map(|value| value.value().to_owned()))
}

fn number(saves: Option<String>) -> u64 {
    saves.and_then(|saves| saves.parse().ok()).unwrap_or_default()
}

/// The flags that name the newest save of a file, found in copies of it: redb itself would take the save before one that is damaged.
///
/// The save that the file names was on the disk before it was named; if it is not whole, it is damaged. If the other one is whole and
/// newer, the machine stopped before it was named, and nobody was told of it, or the name is damaged.
fn newest(bytes: &[u8], flags: u8) -> Result<u8, redb::Error> {
    let (named, other) = (flags | TWO_PHASES, (flags ^ NEWEST_BIT) | TWO_PHASES);
    match (saves(bytes, named), saves(bytes, other)) {
        (Ok(saves), Ok(others)) if others > saves => Ok(other),
        // Once saves were written in one phase, and such a one may have been cut off.
        (Err(_), Ok(_)) if flags & TWO_PHASES == 0 => Ok(other),
        (saves, _) => saves.map(|_| named),
    }
}

/// How often something was saved up to the save that these flags name as the newest, if that is whole.
fn saves(bytes: &[u8], flags: u8) -> Result<u64, redb::Error> {
    let copy = InMemoryBackend::new();
    let filled = copy.set_len(bytes.len() as u64).and_then(|()| copy.write(0, bytes));
    filled.and_then(|()| copy.write(FLAGS_AT as u64, &[flags])).map_err(redb::StorageError::from)?;
    Ok(number(about(&builder().create_with_backend(copy)?, ABOUT_SAVES)?))
}

fn file(folder: &Path) -> PathBuf {
    folder.join("state")
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Makes the folder, and takes it for this process.
fn lock(folder: &Path) -> Result<File, StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| io_error(folder, e))?;
    let path = folder.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|e| io_error(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io_error(&path, source)),
    }
}

/// Makes an empty store, which is there as a whole or not at all.
fn create(path: &Path, owner: &str) -> Result<(), StoreError> {
    let draft = path.with_extension("new");
    // Of a process that was killed here.
    let _ = fs::remove_file(&draft);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&draft);
    let storage = FileBackend::new(file.map_err(|e| io_error(&draft, e))?);
    let made = storage.map_err(redb::Error::from).and_then(|storage| initialize(storage, owner));
    made.map_err(|error| failed(error, &draft))?;
    fs::rename(&draft, path).map_err(|e| io_error(&draft, e))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| io_error(folder, e))
}

/// Writes an empty store, which lasts when this returns.
pub(super) fn initialize(storage: impl StorageBackend, owner: &str) -> Result<(), redb::Error> {
    let database = builder().create_with_backend(storage)?;
    let mut writing = database.begin_write()?;
    writing.set_two_phase_commit(true);
    writing.open_table(RECORDS)?;
    let mut about = writing.open_table(ABOUT)?;
    about.insert(ABOUT_VERSION, VERSION)?;
    about.insert(ABOUT_OWNER, owner)?;
    drop(about);
    Ok(writing.commit()?)
}

fn failed(error: impl Into<redb::Error>, path: &Path) -> StoreError {
    match error.into() {
        // Why was said then.
        redb::Error::PreviousIo => io_error(path, io::Error::other("a write before this one failed")),
        redb::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => io_error(path, source),
        error => damaged(path, &error.to_string()),
    }
}

fn io_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), source }
}

fn damaged(path: &Path, why: &str) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(store: &Embedded) -> Vec<(String, Vec<u8>)> {
        store.load().unwrap().records.into_iter().collect()
    }

    #[test]
    fn what_was_saved_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("deep/er");
        let mut store = Embedded::open(&folder, "job a").unwrap();
        assert!(store.load().unwrap().is_empty());
        let mut changes = Changes::default();
        changes.framework_id(Some(FrameworkId::new("f1").unwrap())).put("1", vec![1]).put("2", vec![2]);
        store.save(changes).unwrap();
        let mut changes = Changes::default();
        changes.remove("1").remove("9").put("2", vec![3]);
        store.save(changes).unwrap();
        store.save(Changes::default()).unwrap();
        drop(store);
        let store = Embedded::open(&folder, "job a").unwrap();
        assert_eq!(store.load().unwrap().framework_id.unwrap().as_str(), "f1");
        assert_eq!(kept(&store), [("2".to_owned(), vec![3])]);
        store.remove().unwrap();
        assert!(!folder.exists() && dir.path().join("deep").exists());
    }

    #[test]
    fn one_scheduler_at_a_time_and_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(dir.path(), "job a").unwrap();
        let message = Embedded::open(dir.path(), "job a").unwrap_err().to_string();
        assert!(message.contains("is in use by another run; end that one first"), "{message}");
        drop(store);
        let message = Embedded::open(dir.path(), "job b").unwrap_err().to_string();
        assert!(message.ends_with("keeps `job a`, not `job b`; name another folder"), "{message}");
        Embedded::open(dir.path(), "job a").unwrap();
    }

    #[test]
    fn what_is_damaged_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        drop(Embedded::open(dir.path(), "job a").unwrap());
        let path = file(dir.path());
        for bytes in [&b"no store"[..], &[0; 8192]] {
            fs::write(&path, bytes).unwrap();
            let message = Embedded::open(dir.path(), "job a").unwrap_err().to_string();
            assert!(message.contains("is damaged, and left as it is"), "{message}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn a_later_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(dir.path(), "job a").unwrap();
        let writing = store.database.begin_write().unwrap();
        writing.open_table(ABOUT).unwrap().insert(ABOUT_VERSION, "2").unwrap();
        writing.commit().unwrap();
        drop(store);
        let message = Embedded::open(dir.path(), "job a").unwrap_err().to_string();
        assert!(message.contains("was written by a later version"), "{message}");
    }

    #[test]
    fn a_store_that_is_taken_away_under_its_process_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, aside) = (dir.path().join("a"), dir.path().join("b"));
        let store = Embedded::open(&folder, "job a").unwrap();
        let presence = Presence::of(&folder).unwrap();
        assert!(presence.is_there());
        fs::rename(&folder, &aside).unwrap();
        assert!(!presence.is_there());
        let other = Embedded::open(&folder, "job a").unwrap();
        assert!(!presence.is_there(), "it is that of somebody else");
        other.remove().unwrap();
        fs::rename(&aside, &folder).unwrap();
        assert!(presence.is_there());
        store.remove().unwrap();
        assert!(!presence.is_there());
        assert!(Presence::of(&folder).is_err());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let message = Embedded::open(&dir.path().join("file/state"), "job a").unwrap_err().to_string();
        assert!(message.contains("file/state") && message.contains("cannot be used"), "{message}");
    }
}
