//! The agent's work directory: made, and held by one process.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::{master_link::random, paths::Paths};

/// Two numbers of 64 bits each.
const NAME_BYTES: usize = 32;

/// Why a work directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkDirError {
    /// It, or a folder in it, cannot be made.
    #[error(
        "folder {path:?} of the work directory cannot be made; name a folder that the agent's user may write to"
    )]
    Make {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its lock cannot be taken for another reason than another agent.
    #[error(
        "lock file {path:?} cannot be used; the work directory must be on a local disk and writable for the agent's user"
    )]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its name can be neither read nor given.
    #[error(
        "the name of the work directory cannot be kept in {path:?}; the work directory must be on a local disk with room, and writable for the agent's user"
    )]
    Name {
        /// Where it is kept.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another agent runs in it.
    #[error("work directory {path:?} is in use by another agent{}; stop it, or give this one a work directory of its own", process(.pid))]
    InUse {
        /// The work directory.
        path: PathBuf,
        /// The other agent's process, if it left its number.
        pid: Option<u32>,
    },
}

fn process(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// A work directory that is this process's until the value is dropped.
#[derive(Debug)]
pub(crate) struct WorkDir {
    pub(crate) paths: Paths,
    /// By which masters know an agent that has not its id yet.
    pub(crate) id: String,
    lock: File,
}

impl Drop for WorkDir {
    /// Closing it would not do: a process that is just being started holds a copy of each descriptor for a moment.
    fn drop(&mut self) {
        _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl WorkDir {
    /// Makes the work directory if it is missing, and takes it.
    pub(crate) fn open(path: &Path) -> Result<Self, WorkDirError> {
        make(path)?;
        // Links may change later; containers and sandboxes are named by what the path means now.
        let path =
            path.canonicalize().map_err(|source| WorkDirError::Make { path: path.to_owned(), source })?;
        let paths = Paths::new(path);
        let lock = lock(&paths)?;
        make(&paths.sandboxes())?;
        let id = name(&paths).map_err(|source| WorkDirError::Name { path: paths.work_dir_id(), source })?;
        Ok(Self { paths, id, lock })
    }
}

/// Makes a folder, and those above it, that only the agent's user may enter. One that is there is left as it is, except that others
/// may not write to it.
fn make(path: &Path) -> Result<(), WorkDirError> {
    let error = |source| WorkDirError::Make { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(error)?;
    let mode = fs::metadata(path).map_err(error)?.permissions().mode();
    if mode & 0o022 != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode & 0o7755)).map_err(error)?;
    }
    Ok(())
}

/// Its name, given once by chance. It is on the disk before anybody hears it.
fn name(paths: &Paths) -> io::Result<String> {
    let path = paths.work_dir_id();
    match fs::read(&path) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let name = text.trim();
            if name.len() == NAME_BYTES && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Ok(name.to_owned());
            }
            // An agent that has lost its id too then comes as another.
            if !name.is_empty() {
                tracing::warn!(file = ?path, "the name of the work directory is damaged; it is given a new one");
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let name = format!("{:016x}{:016x}", random(), random());
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    fs::rename(draft, path)?;
    File::open(paths.root())?.sync_all()?;
    Ok(name)
}

fn lock(paths: &Paths) -> Result<File, WorkDirError> {
    let path = paths.lock();
    let error = |source| WorkDirError::Lock { path: path.clone(), source };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(error)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(WorkDirError::InUse { path: paths.root().to_owned(), pid });
        }
        Err(errno) => return Err(error(errno.into())),
    }
    file.set_len(0).map_err(error)?;
    file.rewind().map_err(error)?;
    writeln!(file, "{}", std::process::id()).map_err(error)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let held = WorkDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let error = WorkDir::open(&path).unwrap_err();
        let message = error.to_string();
        assert!(
            matches!(error, WorkDirError::InUse { pid: Some(pid), .. } if pid == std::process::id()),
            "{message}"
        );
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        let id = held.id.clone();
        let _of_a_child = held.lock.try_clone().unwrap();
        drop(held);
        assert_eq!(WorkDir::open(&path).unwrap().id, id, "it keeps its name");
        fs::write(path.join("work_dir_id"), format!("{id}\n")).unwrap();
        assert_eq!(WorkDir::open(&path).unwrap().id, id, "an editor has written it");
        fs::write(path.join("work_dir_id"), "damaged").unwrap();
        let another = WorkDir::open(&path).unwrap().id.clone();
        assert!(another != id && another.len() == NAME_BYTES, "{another}");
    }

    #[test]
    fn others_may_not_write_to_a_folder_that_was_there() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        WorkDir::open(folder.path()).unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_path_that_cannot_be_a_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let message = WorkDir::open(&file.join("agent")).unwrap_err().to_string();
        assert!(message.contains("file/agent") && message.contains("may write"), "{message}");
    }
}
