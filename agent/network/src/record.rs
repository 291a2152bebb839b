//! What is kept of an owner on disk: enough to detach it, however far the attaching had come.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use apportion_containerizer::NetworkNamespaces;
use apportion_types::{Network, Role};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{list::List, processes::Mark};

const RECORD: &str = "record.json";
const NAMESPACE: &str = "ns";
const LEAVING: &str = "leaving";

/// An owner, and what it is attached to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) role: Role,
    pub(crate) network: Network,
    /// As it was when the attaching began: plugins are to detach by what they have attached by.
    pub(crate) list: List,
    pub(crate) mark: Mark,
    /// What the plugins have answered; null until all have.
    pub(crate) result: Value,
}

/// The folder of an owner.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn of(all: &Path, owner: &str) -> Folder {
        Folder(all.join(owner))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The file that is the network's namespace.
    pub(crate) fn namespace(&self) -> PathBuf {
        self.0.join(NAMESPACE)
    }

    pub(crate) fn make(&self) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.0)
    }

    /// Writes what is known, so that it survives a crash of the machine, in place of what was known before.
    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        let (path, draft) = (self.0.join(RECORD), self.0.join("record.draft"));
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.sync_all()?;
        fs::rename(draft, path)?;
        File::open(&self.0)?.sync_all()?;
        self.0.parent().map_or(Ok(()), |all| File::open(all)?.sync_all())
    }

    /// What is known; none when nothing was attached yet.
    pub(crate) fn read(&self) -> io::Result<Option<Record>> {
        match fs::read(self.0.join(RECORD)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes that plugins are to detach it from now on. That need not survive a crash of the machine: the namespace does not either.
    pub(crate) fn leave(&self) -> io::Result<()> {
        File::create(self.0.join(LEAVING)).map(drop)
    }

    /// True once plugins may have begun to detach it.
    pub(crate) fn is_leaving(&self) -> bool {
        self.0.join(LEAVING).exists()
    }

    /// Removes the namespace, and what else is there; what is known last.
    pub(crate) fn remove(&self) -> io::Result<()> {
        NetworkNamespaces::remove(&self.namespace())?;
        let record = self.0.join(RECORD);
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path != record {
                fs::remove_file(path)?;
            }
        }
        match fs::remove_file(record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::remove_dir(&self.0)
    }
}
