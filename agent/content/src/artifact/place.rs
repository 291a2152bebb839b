//! Artifacts put into a sandbox, and taken from this machine.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::{fs::OFlags, io::Errno};
use tokio_util::sync::CancellationToken;

use super::{ArtifactError, ArtifactsConfig, Owner, cache::Held};
use crate::{
    digest::{Digest, Hashing},
    tree::{Attributes, Links, Tree},
    unpack::{Bounded, Budget, UnpackError},
};

/// A file of this machine, as far as a task of this user may have it.
pub(super) fn local(
    path: &Path,
    reader: Option<Owner>,
    checksum: Option<Digest>,
    config: &ArtifactsConfig,
) -> Result<Held, ArtifactError> {
    let refuse = |why: String| ArtifactError::File { path: path.to_owned(), why };
    let cannot = |error: io::Error| refuse(format!("cannot be read: {error}"));
    let real = path.canonicalize().map_err(cannot)?;
    if config.hidden.iter().any(|hidden| real.starts_with(hidden)) {
        return Err(refuse("lies in the agent's own folders, where other tasks' files are".to_owned()));
    }
    if let Some(reader) = reader.filter(|(user, _)| *user != 0) {
        for above in real.ancestors().skip(1) {
            if !may(&fs::metadata(above).map_err(cannot)?, reader, 0o1) {
                return Err(refuse(format!(
                    "may not be reached by the task's user {}: {above:?} is closed to it",
                    reader.0
                )));
            }
        }
    }
    // Opening a pipe would wait for its writer.
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits()).expect("a small number");
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&real).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err(refuse("is not a regular file".to_owned()));
    }
    if reader.is_some_and(|reader| reader.0 != 0 && !may(&metadata, reader, 0o4)) {
        return Err(refuse("may not be read by the task's user".to_owned()));
    }
    if metadata.len() > config.artifact_bytes_max {
        return Err(ArtifactError::TooLarge { bytes_max: config.artifact_bytes_max });
    }
    if let Some(expected) = checksum {
        let found = Hashing::new(file.take(config.artifact_bytes_max)).finish().map_err(cannot)?;
        if found != expected {
            return Err(ArtifactError::Digest { expected, found });
        }
    }
    Ok(Held::foreign(real))
}

/// True when somebody of this user and group alone may do this (4 read, 1 enter).
fn may(metadata: &fs::Metadata, (user, group): Owner, right: u32) -> bool {
    let shift = match (metadata.uid() == user, metadata.gid() == group) {
        (true, _) => 6,
        (false, true) => 3,
        (false, false) => 0,
    };
    metadata.mode() >> shift & right == right
}

/// Puts a file into the sandbox.
pub(super) fn put(
    held: &Held,
    sandbox: &Path,
    name: &str,
    executable: bool,
    cancel: &CancellationToken,
) -> Result<(), ArtifactError> {
    let failed = |source: io::Error| ArtifactError::Place { path: name.to_owned(), source };
    let file = File::open(held.path()).map_err(ArtifactError::store)?;
    let bytes = file.metadata().map_err(ArtifactError::store)?.len();
    let mut content = Bounded { inner: file, budget: Budget::new(bytes), cancel };
    let mut tree = open(sandbox).map_err(failed)?;
    let mode = if executable { 0o755 } else { 0o644 };
    let attributes = Attributes { mode, owner: None, modified: None, xattrs: &[] };
    let copied =
        tree.file(name.as_bytes(), &attributes, &mut content).map_err(|error| failed(explained(error)))?;
    copied.map_err(failed)?;
    tree.finish().map(drop).map_err(|error| failed(error.into()))
}

/// A sandbox to write to.
pub(super) fn open(sandbox: &Path) -> io::Result<Tree> {
    Tree::open(sandbox, Links::Beneath)
}

fn explained(error: Errno) -> io::Error {
    match error {
        Errno::XDEV | Errno::LOOP => io::Error::other("a link on the way leads out of the sandbox"),
        Errno::NOTDIR => io::Error::other("something on the way is not a folder"),
        error => error.into(),
    }
}

/// What the failure of an entry of an archive means.
pub(super) fn entry_failure(path: &[u8], error: Errno) -> UnpackError {
    match error {
        Errno::XDEV | Errno::LOOP => {
            UnpackError::entry(path, "lies below a link that leads out of the sandbox")
        }
        Errno::NOTDIR => UnpackError::entry(path, "lies below something that is not a folder"),
        Errno::ISDIR => UnpackError::entry(path, "would take the place of the sandbox itself"),
        Errno::NAMETOOLONG => UnpackError::entry(path, "has a name that is too long"),
        Errno::EXIST => UnpackError::entry(path, "lies below a link that leads nowhere"),
        Errno::NOENT | Errno::INVAL => UnpackError::entry(path, "cannot be made as it is described"),
        error => UnpackError::write(path, error),
    }
}
