//! Backups: what a registry keeps as a file of its own, which any store can take on.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use apportion_master_core::{Recovered, RecoveredAgent, RegistryOp};
use apportion_proto::v1::{self, registry_entry::Entry as WireEntry};
use apportion_types::Activation;
use prost::Message as _;

use super::{Contents, Registry, RegistryError, entry::layout};
use crate::frame::{self, Frame};

/// The start of the first line of every export, whatever its format.
const MAGIC: &[u8] = b"apportion registry ";

/// The first line of an export by the layout of what is in it, which is that of a registry.
const LINES: [&[u8]; 2] = [b"apportion registry 1\n", b"apportion registry 2\n"];

/// Why a backup cannot be made, or not be taken on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file cannot be used.
    #[error(
        "the export {path:?} cannot be used; name a file in a folder that is there, and that you may read and write"
    )]
    Io {
        /// The file, or its folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What is to become the export cannot be written.
    #[error(
        "{path:?}, which is to become the export, cannot be written; name a file in a folder that is there, with room, and that you may write"
    )]
    Draft {
        /// The draft.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something would be lost.
    #[error("{path:?} is something else than an export; name another file")]
    Occupied {
        /// What is there.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{path:?} is no export of a registry; name a file that `apportion registry export` wrote")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A later version wrote it.
    #[error("the export {path:?} was written by a later version; import it with that version")]
    Later {
        /// The file.
        path: PathBuf,
    },
    /// It is not whole.
    #[error(
        "the export {path:?} is damaged or cut off behind entry {entries}; nothing was imported, use another one"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How many entries are whole.
        entries: u64,
    },
    /// The registry that is to take it on has something.
    #[error(
        "the registry is not empty, and nothing was imported; name another work directory, or move the registry in it away"
    )]
    NotEmpty,
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Writes all that is kept to a file, which is there as a whole or not at all, and is its owner's alone. An export that is there is replaced,
/// and nothing else is.
pub fn export(contents: &Contents, path: &Path) -> Result<(), BackupError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let draft = path.with_file_name(name);
    // One that is empty is of an export that was cut off.
    for (path, may_be_empty) in [(path, false), (draft.as_path(), true)] {
        if !replaceable(path, may_be_empty)
            .map_err(|source| BackupError::Io { path: path.to_owned(), source })?
        {
            return Err(BackupError::Occupied { path: path.to_owned() });
        }
    }
    let entries: Vec<_> = contents.keys().filter_map(|key| contents.entry(&key)).collect();
    let later = entries.iter().any(|entry| layout(entry) > 1);
    let mut bytes = LINES[usize::from(later)].to_vec();
    for entry in &entries {
        assert!(frame::append(entry, &mut bytes), "an entry is bounded by the limits of what it holds");
    }
    let count = entries.len() as u64;
    let end = v1::RegistryEntry { entry: Some(WireEntry::End(count)) };
    assert!(frame::append(&end, &mut bytes), "an end is short");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&bytes)?;
        file.sync_all()
    };
    let cleared = |error| {
        let _ = fs::remove_file(&draft);
        error
    };
    write().map_err(|source| cleared(BackupError::Draft { path: draft.clone(), source }))?;
    let named = fs::rename(&draft, path);
    named.map_err(|source| cleared(BackupError::Io { path: path.to_owned(), source }))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| BackupError::Io { path: folder.to_owned(), source })
}

/// True when there is nothing, or an export.
fn replaceable(path: &Path, may_be_empty: bool) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        // What is no file is not even opened: a pipe would wait.
        Ok(found) if !found.is_file() => return Ok(false),
        found => found?,
    };
    let start = frame::up_to(&mut File::open(path)?, MAGIC.len())?;
    Ok(start == MAGIC || may_be_empty && start.is_empty())
}

/// An export that was read, and is whole.
#[derive(Debug, Clone)]
pub struct Backup {
    contents: Contents,
}

impl Backup {
    /// Reads an export, and judges all of it.
    pub fn read(path: &Path) -> Result<Self, BackupError> {
        Ok(Self { contents: read(path)? })
    }

    /// Takes it on in an empty registry, all or nothing, and returns what that keeps then.
    pub async fn import(self, registry: &dyn Registry) -> Result<Contents, BackupError> {
        if !registry.load().await?.is_empty() {
            return Err(BackupError::NotEmpty);
        }
        registry.commit(ops(&self.contents)).await?;
        Ok(self.contents)
    }
}

/// Reads an export.
fn read(path: &Path) -> Result<Contents, BackupError> {
    let failed = |source| BackupError::Io { path: path.to_owned(), source };
    let mut input = BufReader::new(File::open(path).map_err(failed)?);
    let line = frame::up_to(&mut input, LINES[0].len()).map_err(failed)?;
    if !LINES.contains(&line.as_slice()) {
        let path = path.to_owned();
        return Err(match line.strip_prefix(MAGIC) {
            Some(_) => BackupError::Later { path },
            None => BackupError::Foreign { path },
        });
    }
    let (mut contents, mut entries) = (Contents::default(), 0);
    loop {
        let damaged = || BackupError::Damaged { path: path.to_owned(), entries };
        let Frame::Payload(payload) = frame::read(&mut input).map_err(failed)? else { return Err(damaged()) };
        let entry = v1::RegistryEntry::decode(payload.as_slice()).map_err(|_| damaged())?;
        if let Some(WireEntry::End(count)) = entry.entry {
            let behind = frame::read(&mut input).map_err(failed)?;
            return if count == entries && matches!(behind, Frame::End) {
                Ok(contents)
            } else {
                Err(damaged())
            };
        }
        contents.insert(entry).map_err(|_| damaged())?;
        entries += 1;
    }
}

/// The changes that make an empty registry this.
fn ops(contents: &Contents) -> Vec<RegistryOp> {
    let Contents { recovered, roles } = contents.clone();
    let Recovered { agents, removed_agents, frameworks, removed_frameworks, maintenance } = recovered;
    let mut ops = Vec::new();
    for (agent_id, agent) in agents {
        ops.push(RegistryOp::AdmitAgent { agent_id: agent_id.clone(), info: agent.info });
        let RecoveredAgent { unreachable, unreachable_at: at, activation, .. } = agent;
        let unreachable = unreachable.then(|| RegistryOp::MarkUnreachable { agent_id: agent_id.clone(), at });
        ops.extend(unreachable);
        let inactive = activation != Activation::Active;
        ops.extend(inactive.then_some(RegistryOp::SetActivation { agent_id, activation }));
    }
    let removed = removed_agents.into_iter();
    ops.extend(removed.map(|(agent_id, removed)| RegistryOp::RemoveAgent { agent_id, removed }));
    let admitted = frameworks.into_iter();
    ops.extend(admitted.map(|(framework_id, info)| RegistryOp::AdmitFramework { framework_id, info }));
    let removed = removed_frameworks.into_iter();
    ops.extend(removed.map(|framework_id| RegistryOp::RemoveFramework { framework_id }));
    ops.extend(roles.into_iter().map(|(role, settings)| RegistryOp::SetRole { role, settings }));
    if !maintenance.is_empty() {
        ops.push(RegistryOp::SetMaintenance { maintenance: Arc::new(maintenance) });
    }
    ops
}
