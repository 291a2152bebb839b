//! A registry in a file of the master's work directory, for a master that is alone.
//!
//! The file is a [redb](https://docs.rs/redb) database: a commit is on the disk before it returns, and one that was cut off never
//! happened. It is judged whole before anything is written to it: what is damaged, foreign or of a later version is left as it is. It
//! never goes back to the commit before the newest, which the file still holds, on its own.

use std::{
    error::Error as StdError,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use apportion_master_core::RegistryOp;
use apportion_proto::v1;
use async_trait::async_trait;
use prost::Message as _;
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable as _, StorageBackend, TableDefinition, TableError,
    backends::{FileBackend, InMemoryBackend},
};

use super::{
    Contents, Registry, RegistryError,
    entry::{Key, layout},
};

/// The layout of what is in the tables that this master knows, see [`layout`]. The least that may write is that of what was ever kept.
const VERSION: u64 = 2;

/// What the least writer of an empty registry is.
const LEAST_WRITER: u64 = 1;

/// A [`v1::RegistryEntry`] under the text of each [`Key`].
const ENTRIES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("entries");

const ABOUT: TableDefinition<'static, &str, u64> = TableDefinition::new("about");

const ABOUT_VERSION: &str = "version";

const ABOUT_LEAST_WRITER: &str = "least writer";

/// How often something was written: tells which of the file's two commits is the newer.
const ABOUT_COMMITS: &str = "commits";

/// Which of the two commits that a file of redb holds is the newest, and that it was written in two phases: it was on the disk before this
/// bit named it. No checksum covers this byte.
const FLAGS_AT: usize = 9;
const NEWEST_BIT: u8 = 1;
const TWO_PHASES: u8 = 4;

/// How often a file that changed meanwhile is read anew: a reading takes a fraction of the time that two commits take.
const READINGS: u32 = 10;

/// A registry is small, and read once.
const CACHE_BYTES: usize = 16 << 20;

/// Why a registry cannot be opened. Nothing was written to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The work directory, or a file in it, cannot be used.
    #[error(
        "{path:?} cannot be used; name a work directory on a local disk with room, and writable for the master's user"
    )]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process holds it.
    #[error(
        "the registry in {path:?} is in use by another master; stop it, or give this one a work directory of its own"
    )]
    InUse {
        /// The work directory.
        path: PathBuf,
    },
    /// There is none.
    #[error("there is no registry in {path:?}; name the work directory of a master")]
    Missing {
        /// The work directory.
        path: PathBuf,
    },
    /// Its bytes are not what was written.
    #[error(
        "the registry {path:?} is damaged, and left as it is; move it away, and import a backup with `apportion registry import`, or begin anew without one"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A later version wrote it.
    #[error(
        "the registry {path:?} has what this version of the master would lose (its layout needs {version}, this one is {VERSION}); start the version that wrote it last, or give this one another work directory and import a backup of its own there"
    )]
    Later {
        /// The file.
        path: PathBuf,
        /// The least version of the layout that may write it.
        version: u64,
    },
}

/// What is wrong with the bytes of a registry.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error(transparent)]
    Store(#[from] redb::Error),
    #[error("entry {key:?} cannot be understood")]
    Entry { key: String, source: Box<dyn StdError + Send + Sync> },
    #[error("entry {key:?} is about {about}")]
    Misplaced { key: String, about: String },
    #[error("it does not say which version wrote it")]
    Unversioned,
    #[error("its layout needs version {0}")]
    Later(u64),
}

impl Wrong {
    fn of(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Wrong::Later(version) => OpenError::Later { path, version },
            wrong => OpenError::Damaged { path, source: wrong.into() },
        }
    }
}

/// What the store says of a file whose bytes are good.
fn failed(error: impl Into<redb::Error>, path: &Path) -> OpenError {
    match error.into() {
        redb::Error::Io(source) => OpenError::Io { path: path.to_owned(), source },
        error => Wrong::from(error).of(path),
    }
}

/// Where the registry is in a work directory.
fn file(work_dir: &Path) -> PathBuf {
    work_dir.join("registry")
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// A registry that outlives the process and the machine's power.
pub struct Embedded {
    pub(super) store: Arc<Store>,
}

pub(super) struct Store {
    path: PathBuf,
    database: Database,
    /// As they are in the file.
    contents: Mutex<Contents>,
    /// Held as long as the file is.
    _lock: File,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("path", &self.store.path).finish()
    }
}

impl Embedded {
    /// Opens the registry in a work directory, which is made if it is missing, and keeps every other master from it. Blocks for as long
    /// as the disk takes to read it.
    pub fn open(work_dir: &Path) -> Result<Self, OpenError> {
        let lock = lock(work_dir)?;
        let path = file(work_dir);
        if !path.try_exists().map_err(|source| OpenError::Io { path: path.clone(), source })? {
            create(&path)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let storage = FileBackend::new(file).map_err(|error| failed(error, &path))?;
        Ok(Self { store: Arc::new(Store::open(path, storage, lock)?) })
    }

    pub(super) fn contents(&self) -> Contents {
        self.store.contents()
    }
}

/// What the registry of a work directory keeps, read without changing it, also beside the master that has it.
pub fn read(work_dir: &Path) -> Result<Contents, OpenError> {
    let path = file(work_dir);
    if !path.exists() {
        return Err(OpenError::Missing { path: work_dir.to_owned() });
    }
    Ok(judged(&path)?.contents)
}

/// Makes the work directory, and takes it for this process.
fn lock(work_dir: &Path) -> Result<File, OpenError> {
    let failed = |path: &Path, source| OpenError::Io { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(work_dir).map_err(|e| failed(work_dir, e))?;
    let path = work_dir.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|e| failed(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: work_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(&path, source)),
    }
}

/// Makes an empty registry, which is there as a whole or not at all.
fn create(path: &Path) -> Result<(), OpenError> {
    let draft = path.with_extension("new");
    let failed = |source| OpenError::Io { path: draft.clone(), source };
    // Of a master that was killed here.
    let _ = fs::remove_file(&draft);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&draft);
    let storage = FileBackend::new(file.map_err(failed)?).map_err(|error| self::failed(error, &draft))?;
    initialize(storage).map_err(|error| self::failed(error, &draft))?;
    fs::rename(&draft, path).map_err(failed)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Writes an empty registry, which lasts when this returns.
pub(super) fn initialize(storage: impl StorageBackend) -> Result<(), redb::Error> {
    let database = builder().create_with_backend(storage)?;
    let mut writing = database.begin_write()?;
    writing.set_two_phase_commit(true);
    writing.open_table(ENTRIES)?;
    {
        let mut about = writing.open_table(ABOUT)?;
        about.insert(ABOUT_VERSION, VERSION)?;
        about.insert(ABOUT_LEAST_WRITER, LEAST_WRITER)?;
    }
    writing.commit()?;
    Ok(())
}

/// What a file is found to keep.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) contents: Contents,
    /// What the file's flags are to be, if not what they are.
    mended: Option<u8>,
}

/// Judges a file, which may be a running master's.
fn judged(path: &Path) -> Result<Judged, OpenError> {
    let read = || fs::read(path).map_err(|source| OpenError::Io { path: path.to_owned(), source });
    let mut bytes = read()?;
    for _ in 1..READINGS {
        let judged = judge(path, &bytes);
        if judged.is_ok() {
            return judged;
        }
        // A commit while it was read, or one that went while the one before was read.
        let again = read()?;
        if again == bytes {
            return judged;
        }
        bytes = again;
    }
    judge(path, &bytes)
}

/// What a file keeps, read from a copy in memory: opening the file itself would mend it where it can, and what cannot be used is to stay as it is.
///
/// The commit that the file names as its newest is whole, for it was on the disk before it was named; if it is not, it is damaged. If the
/// other one is whole and newer, the machine stopped before it was named, and nobody was told of it, or the name is damaged; it is taken.
pub(super) fn judge(path: &Path, bytes: &[u8]) -> Result<Judged, OpenError> {
    let Some(flags) = bytes.get(FLAGS_AT) else { return Err(Wrong::Unversioned.of(path)) };
    let (named, other) = (flags | TWO_PHASES, (flags ^ NEWEST_BIT) | TWO_PHASES);
    let newest = taken(bytes, named).map_err(|wrong| wrong.of(path))?;
    let (newest, wanted) = match taken(bytes, other) {
        Ok(newer) if newer.commits > newest.commits => (newer, other),
        _ => (newest, named),
    };
    Ok(Judged { contents: newest.contents, mended: (wanted != *flags).then_some(wanted) })
}

/// Reads the commit that these flags name as the newest.
fn taken(bytes: &[u8], flags: u8) -> Result<Kept, Wrong> {
    let copy = InMemoryBackend::new();
    let filled = copy.set_len(bytes.len() as u64).and_then(|()| copy.write(0, bytes));
    let filled = filled.and_then(|()| copy.write(FLAGS_AT as u64, &[flags]));
    filled.map_err(|error| redb::Error::from(redb::StorageError::from(error)))?;
    contents(&builder().create_with_backend(copy).map_err(redb::Error::from)?)
}

/// What is in the tables.
struct Kept {
    contents: Contents,
    commits: u64,
}

/// Reads all that there is.
fn contents(database: &impl ReadableDatabase) -> Result<Kept, Wrong> {
    let reading = database.begin_read().map_err(redb::Error::from)?;
    let about = match reading.open_table(ABOUT) {
        Err(TableError::TableDoesNotExist(_)) => return Err(Wrong::Unversioned),
        table => table.map_err(redb::Error::from)?,
    };
    let number = |name| -> Result<Option<u64>, Wrong> {
        Ok(about.get(name).map_err(redb::Error::from)?.map(|number| number.value()))
    };
    number(ABOUT_VERSION)?.ok_or(Wrong::Unversioned)?;
    let least = number(ABOUT_LEAST_WRITER)?.ok_or(Wrong::Unversioned)?;
    if least > VERSION {
        return Err(Wrong::Later(least));
    }
    let mut contents = Contents::default();
    let entries = reading.open_table(ENTRIES).map_err(redb::Error::from)?;
    for entry in entries.iter().map_err(redb::Error::from)? {
        let (key, value) = entry.map_err(redb::Error::from)?;
        let key = key.value();
        let wrong = |source| Wrong::Entry { key: key.to_owned(), source };
        let entry = v1::RegistryEntry::decode(value.value()).map_err(|error| wrong(error.into()))?;
        let about = contents.insert(entry).map_err(|error| wrong(error.into()))?.to_string();
        if about != key {
            return Err(Wrong::Misplaced { key: key.to_owned(), about });
        }
    }
    Ok(Kept { contents, commits: number(ABOUT_COMMITS)?.unwrap_or_default() })
}

impl Store {
    /// Opens the registry in a storage that nobody else uses.
    pub(super) fn open(path: PathBuf, storage: impl StorageBackend, lock: File) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { path: path.clone(), source };
        let mut bytes = vec![0; usize::try_from(storage.len().map_err(failed)?).unwrap_or(usize::MAX)];
        storage.read(0, &mut bytes).map_err(failed)?;
        if let Some(flags) = judge(&path, &bytes)?.mended {
            // The newest commit is named as such, once it is on the disk: of a master that was killed it may be in memory only.
            storage.sync_data().map_err(failed)?;
            storage.write(FLAGS_AT as u64, &[flags]).map_err(failed)?;
            storage.sync_data().map_err(failed)?;
        }
        let database = builder().create_with_backend(storage).map_err(|error| self::failed(error, &path))?;
        let contents = contents(&database).map_err(|wrong| wrong.of(&path))?.contents;
        Ok(Self { path, database, contents: Mutex::new(contents), _lock: lock })
    }

    pub(super) fn contents(&self) -> Contents {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes what a change of the contents has changed.
    pub(super) fn commit(&self, ops: Vec<RegistryOp>) -> Result<(), redb::Error> {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys: Vec<Key> = ops.iter().map(Key::of).collect();
        ops.into_iter().for_each(|op| contents.apply(op));
        keys.sort();
        keys.dedup();
        let mut writing = self.database.begin_write()?;
        writing.set_two_phase_commit(true);
        {
            let mut about = writing.open_table(ABOUT)?;
            let commits = about.get(ABOUT_COMMITS)?.map_or(0, |commits| commits.value());
            about.insert(ABOUT_COMMITS, commits + 1)?;
            let changed: Vec<_> = keys.iter().map(|key| (key, contents.entry(key))).collect();
            let needed = changed.iter().filter_map(|(_, entry)| entry.as_ref()).map(layout).max();
            let least = about.get(ABOUT_LEAST_WRITER)?.map_or(LEAST_WRITER, |least| least.value());
            if let Some(needed) = needed.filter(|needed| least < *needed) {
                about.insert(ABOUT_VERSION, VERSION)?;
                about.insert(ABOUT_LEAST_WRITER, needed)?;
            }
            let mut entries = writing.open_table(ENTRIES)?;
            for (key, entry) in changed {
                let text = key.to_string();
                match entry {
                    Some(entry) => entries.insert(text.as_str(), entry.encode_to_vec().as_slice())?,
                    None => entries.remove(text.as_str())?,
                };
            }
        }
        Ok(writing.commit()?)
    }
}

#[async_trait]
impl Registry for Embedded {
    async fn commit(&self, ops: Vec<RegistryOp>) -> Result<(), RegistryError> {
        let (count, store) = (ops.len(), Arc::clone(&self.store));
        let written = tokio::task::spawn_blocking(move || store.commit(ops));
        let written = written.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
        written.map_err(|source| RegistryError::Write { count, source: source.into() })
    }

    async fn load(&self) -> Result<Contents, RegistryError> {
        Ok(self.contents())
    }
}
