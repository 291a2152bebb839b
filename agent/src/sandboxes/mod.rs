//! The folders that tasks write to: made for each run, held to what the task may have on disk (`limit`, `measure`), kept for a while
//! after its end, and then removed (`collect`).

pub(crate) mod collect;
pub(crate) mod limit;
mod measure;

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::Path,
    sync::{Mutex, PoisonError},
};

use crate::paths::Paths;

/// The sandboxes of this agent.
#[derive(Debug)]
pub(crate) struct Sandboxes {
    pub(crate) paths: Paths,
    /// Held while folders above sandboxes, or links to the newest, are made or removed.
    above: Mutex<()>,
}

impl Sandboxes {
    pub(crate) fn new(paths: Paths) -> Self {
        Self { paths, above: Mutex::new(()) }
    }

    /// Makes the sandbox of one run of the task with this folder, and points `latest` at it.
    pub(crate) fn make(&self, task: &Path, container: &str) -> io::Result<()> {
        let _above = self.above.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(task.join(container).join("tmp"))?;
        let link = task.join(format!(".latest-{container}"));
        symlink(container, &link)?;
        fs::rename(&link, task.join(Paths::LATEST))
    }

    /// Makes the folder that the tasks of one run of a group share, unless one of them was here before.
    pub(crate) fn make_group(&self, folder: &Path) -> io::Result<()> {
        let _above = self.above.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(folder)
    }

    /// Removes what stands in a task's folder for sandboxes that are no more; with the last of them the folder itself, and its
    /// framework's when that is empty.
    fn tidy(&self, task: &Path) -> io::Result<()> {
        let _above = self.above.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = Vec::new();
        for entry in fs::read_dir(task)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                // `metadata` follows the link: an error says that it leads nowhere.
                let latest = task.join(Paths::LATEST);
                return match fs::metadata(&latest) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => remove_file(&latest),
                    _ => Ok(()),
                };
            }
            left.push(entry.path());
        }
        left.iter().try_for_each(|path| remove_file(path))?;
        fs::remove_dir(task)?;
        // One that holds other tasks stays.
        let _ = task.parent().map(fs::remove_dir);
        Ok(())
    }
}

/// One that is not there is no error.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
