//! A registry in a file of the master's work directory, for a master that is alone.
//!
//! The file is a [redb](https://docs.rs/redb) database: a commit is on the disk before it returns, and one that was cut off never
//! happened. It is judged whole before anything is written to it: what is damaged, foreign or of a later version is left as it is.

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
    Builder, ConcurrencyMode, Database, DatabaseError, ReadableDatabase, ReadableTable as _, StorageBackend,
    TableDefinition, TableError, backends::InMemoryBackend,
};

use super::{Contents, Registry, RegistryError, entry::Key};

/// The layout of what is in the tables. One that is higher is of a later version of the master.
const VERSION: u64 = 1;

/// A [`v1::RegistryEntry`] under the text of each [`Key`].
const ENTRIES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("entries");

const ABOUT: TableDefinition<'static, &str, u64> = TableDefinition::new("about");

const ABOUT_VERSION: &str = "version";

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
        "the registry {path:?} was written by a later version of the master (its layout is {version}, this one knows {VERSION}); start that version"
    )]
    Later {
        /// The file.
        path: PathBuf,
        /// The version of its layout.
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
    #[error("its layout is of version {0}")]
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

/// `ConcurrencyMode::SingleWriter` for a file: a backup reads beside the master.
fn builder(mode: ConcurrencyMode) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_concurrency_mode(mode).set_check_integrity_on_open(true);
    builder
}

/// A registry that outlives the process and the machine's power.
pub struct Embedded {
    store: Arc<Store>,
}

struct Store {
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
        judged(&path)?;
        let database =
            builder(ConcurrencyMode::SingleWriter).open(&path).map_err(|error| failed(error, &path))?;
        let contents = contents(&database).map_err(|wrong| wrong.of(&path))?;
        Ok(Self { store: Arc::new(Store { path, database, contents: Mutex::new(contents), _lock: lock }) })
    }
}

/// What the registry of a work directory keeps, read without changing it, also beside the master that has it.
pub fn read(work_dir: &Path) -> Result<Contents, OpenError> {
    let path = file(work_dir);
    match builder(ConcurrencyMode::SingleWriter).open_read_only(&path) {
        Ok(database) => contents(&database).map_err(|wrong| wrong.of(&path)),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(OpenError::InUse { path: work_dir.to_owned() }),
        Err(_) if !path.exists() => Err(OpenError::Missing { path: work_dir.to_owned() }),
        // Of a master that was killed: its file is mended when the next one opens it.
        Err(_) => judged(&path),
    }
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
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
    let made = || -> Result<(), redb::Error> {
        let database = builder(ConcurrencyMode::SingleWriter).create(&draft)?;
        let writing = database.begin_write()?;
        writing.open_table(ENTRIES)?;
        writing.open_table(ABOUT)?.insert(ABOUT_VERSION, VERSION)?;
        writing.commit()?;
        Ok(())
    };
    made().map_err(|error| self::failed(error, &draft))?;
    fs::rename(&draft, path).map_err(failed)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// What a file keeps, read from a copy in memory: opening the file itself would mend it where it can, and what cannot be used is to stay as it is.
pub(super) fn judged(path: &Path) -> Result<Contents, OpenError> {
    let bytes = fs::read(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let read = || -> Result<Contents, Wrong> {
        let copy = InMemoryBackend::new();
        let filled = copy.set_len(bytes.len() as u64).and_then(|()| copy.write(0, &bytes));
        filled.map_err(|error| redb::Error::from(redb::StorageError::from(error)))?;
        // An empty file would become an empty registry.
        if bytes.is_empty() {
            return Err(Wrong::Unversioned);
        }
        contents(
            &builder(ConcurrencyMode::ExclusiveWriter)
                .create_with_backend(copy)
                .map_err(redb::Error::from)?,
        )
    };
    read().map_err(|wrong| wrong.of(path))
}

/// Reads all that there is.
fn contents(database: &impl ReadableDatabase) -> Result<Contents, Wrong> {
    let reading = database.begin_read().map_err(redb::Error::from)?;
    let about = match reading.open_table(ABOUT) {
        Err(TableError::TableDoesNotExist(_)) => return Err(Wrong::Unversioned),
        table => table.map_err(redb::Error::from)?,
    };
    match about.get(ABOUT_VERSION).map_err(redb::Error::from)?.map(|version| version.value()) {
        Some(VERSION) => {}
        Some(version) if version > VERSION => return Err(Wrong::Later(version)),
        _ => return Err(Wrong::Unversioned),
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
    Ok(contents)
}

impl Store {
    /// Writes what a change of the contents has changed.
    fn commit(&self, ops: Vec<RegistryOp>) -> Result<(), redb::Error> {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys: Vec<Key> = ops.iter().map(Key::of).collect();
        ops.into_iter().for_each(|op| contents.apply(op));
        keys.sort();
        keys.dedup();
        let writing = self.database.begin_write()?;
        {
            let mut entries = writing.open_table(ENTRIES)?;
            for key in &keys {
                let text = key.to_string();
                match contents.entry(key) {
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
        Ok(self.store.contents.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}
