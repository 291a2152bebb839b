//! The folder of one `apportion dev`: fresh and removed at the end, or one that is kept.
//!
//! Whoever works in a folder holds a lock on it, which the kernel releases however the process ends. So a fresh folder
//! whose lock is free belongs to nobody any more, and the next `apportion dev` removes it.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

const PREFIX: &str = "apportion-dev-";

/// How many remove sandboxes at once.
const REMOVERS: usize = 8;

/// A folder that is locked while this lives.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
    keep: bool,
    inode: u64,
    _lock: File,
}

/// Why there is no folder to work in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkFolderError {
    #[error("making a folder in {}; set TMPDIR or --work-dir to a place that can be written", .path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("opening the work folder {}; name another with --work-dir", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("locking the work folder {}; name one on a local file system with --work-dir", .path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("the work folder {} is used by another `apportion dev`; end that one, or name another with --work-dir", .path.display())]
    Used { path: PathBuf },
    #[error("removing the work folder {}", .path.display())]
    Remove { path: PathBuf, source: io::Error },
}

impl WorkFolder {
    /// A fresh folder in `parent`, removed by [`WorkFolder::close`].
    pub(crate) fn fresh(parent: &Path) -> Result<WorkFolder, WorkFolderError> {
        let make = |source| WorkFolderError::Make { path: parent.to_owned(), source };
        loop {
            let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent).map_err(make)?.keep();
            // Somebody who looks for stale folders may come between the making and the locking; then we take another.
            let lock = match lock(&path) {
                Ok(lock) => lock,
                Err(WorkFolderError::Used { .. }) => continue,
                Err(WorkFolderError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    continue;
                }
                Err(e) => return Err(e),
            };
            let held = lock.metadata().map_err(make)?;
            if fs::symlink_metadata(&path)
                .is_ok_and(|there| there.ino() == held.ino() && there.dev() == held.dev())
            {
                return Ok(WorkFolder { path, keep: false, inode: held.ino(), _lock: lock });
            }
        }
    }

    /// A folder that stays, made if it is not there.
    pub(crate) fn kept(path: &Path) -> Result<WorkFolder, WorkFolderError> {
        let open = |source| WorkFolderError::Open { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(open)?;
        let path = path.canonicalize().map_err(open)?;
        // What cannot be written would be found out only by the first agent; say it here, with the remedy.
        tempfile::tempfile_in(&path).map_err(open)?;
        let lock = lock(&path)?;
        let inode = lock.metadata().map_err(open)?.ino();
        Ok(WorkFolder { path, keep: true, inode, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// True when it stays.
    pub(crate) fn is_kept(&self) -> bool {
        self.keep
    }

    /// Removes it, unless it is kept.
    pub(crate) fn close(self) -> Result<(), WorkFolderError> {
        if self.keep {
            return Ok(());
        }
        remove(&self.path).map_err(|source| WorkFolderError::Remove { path: self.path.clone(), source })
    }

    /// A name that no other folder in use on this machine has, and that this one has every time.
    pub(crate) fn name(&self) -> String {
        match self.path.file_name() {
            Some(name) if !self.keep => name.to_string_lossy().into_owned(),
            _ => format!("{PREFIX}{:x}", self.inode),
        }
    }

    /// Fresh folders beside this one that a killed `apportion dev` of the same user has left; they are this process's now.
    pub(crate) fn stale(&self) -> Vec<WorkFolder> {
        let Some(parent) = self.path.parent().filter(|_| !self.keep) else { return Vec::new() };
        let (Ok(own), Ok(entries)) = (fs::symlink_metadata(&self.path), fs::read_dir(parent)) else {
            return Vec::new();
        };
        let mut stale = Vec::new();
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
        {
            let path = entry.path();
            let ours = |found: &fs::Metadata| found.is_dir() && found.uid() == own.uid();
            let Some(found) = fs::symlink_metadata(&path).ok().filter(ours).filter(|_| path != self.path)
            else {
                continue;
            };
            if let Ok(lock) = lock(&path) {
                stale.push(WorkFolder { path, keep: false, inode: found.ino(), _lock: lock });
            }
        }
        stale
    }
}

/// Removes a folder with all that is in it, the sandboxes of several tasks at once: a disk may make each removal wait.
fn remove(path: &Path) -> io::Result<()> {
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let below = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter(is_dir).map(|entry| entry.path()).collect::<Vec<_>>()
    };
    // AGENT/sandboxes/FRAMEWORK/TASK
    let tasks =
        (0..4).fold(vec![path.to_owned()], |folders, _| folders.into_iter().flat_map(below).collect());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..REMOVERS.min(tasks.len()) {
            scope.spawn(|| {
                while let Some(task) = tasks.get(next.fetch_add(1, Relaxed)) {
                    // What is left is found again below, and said.
                    let _ = fs::remove_dir_all(task);
                }
            });
        }
    });
    fs::remove_dir_all(path)
}

fn lock(path: &Path) -> Result<File, WorkFolderError> {
    let path = path.to_owned();
    let folder = match File::open(&path) {
        Ok(folder) => folder,
        Err(source) => return Err(WorkFolderError::Open { path, source }),
    };
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(WorkFolderError::Used { path }),
        Err(TryLockError::Error(source)) => Err(WorkFolderError::Lock { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_folder_goes_and_a_kept_one_stays() {
        let parent = tempfile::tempdir().unwrap();
        let fresh = WorkFolder::fresh(parent.path()).unwrap();
        let path = fresh.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        for task in 0..2 * REMOVERS {
            let sandbox = path.join(format!("agent-{}/sandboxes/framework/{task}/container", task % 3));
            fs::create_dir_all(&sandbox).unwrap();
            fs::write(sandbox.join("stdout"), "x").unwrap();
            std::os::unix::fs::symlink(parent.path(), sandbox.join("link")).unwrap();
        }
        fresh.close().unwrap();
        assert!(!path.exists());
        let kept = WorkFolder::kept(&parent.path().join("a/b")).unwrap();
        assert!(kept.stale().is_empty());
        kept.close().unwrap();
        assert!(parent.path().join("a/b").is_dir());
    }

    #[test]
    fn only_folders_that_nobody_holds_are_stale() {
        let parent = tempfile::tempdir().unwrap();
        let held = WorkFolder::fresh(parent.path()).unwrap();
        let left = WorkFolder::fresh(parent.path()).unwrap();
        let (stale, other) = (left.path().to_owned(), parent.path().join("something-else"));
        fs::create_dir(stale.join("agent")).unwrap();
        fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink(&other, parent.path().join("apportion-dev-link")).unwrap();
        drop(left); // as when its process was killed
        let new = WorkFolder::fresh(parent.path()).unwrap();
        let mut found = new.stale();
        assert_eq!(found.iter().map(WorkFolder::path).collect::<Vec<_>>(), [stale.as_path()]);
        assert!(held.stale().is_empty(), "the new one holds it now");
        found.remove(0).close().unwrap();
        assert!(!stale.exists() && held.path().exists() && new.path().exists() && other.exists());
    }

    #[test]
    fn a_kept_folder_has_one_user() {
        let parent = tempfile::tempdir().unwrap();
        let _first = WorkFolder::kept(parent.path()).unwrap();
        let error = WorkFolder::kept(parent.path()).unwrap_err().to_string();
        assert!(error.contains("used by another `apportion dev`"), "{error}");
        let file = parent.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = WorkFolder::kept(&file).unwrap_err().to_string();
        assert!(error.contains("name another with --work-dir"), "{error}");
    }
}
