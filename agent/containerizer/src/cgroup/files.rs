//! Reading and writing the small files of a hierarchy, with errors that name them.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use apportion_types::{HugePages, container::Control};
use rustix::process::{Pid, Signal, kill_process};

use super::{CgroupError, values};
use crate::procfs::is_shortage;

/// A parent may be removed by the last container of an agent that ended while we make a group below it.
const MAKE_TRIES: usize = 16;

/// The root of one hierarchy.
#[derive(Debug, Clone)]
pub(super) struct Root(pub(super) PathBuf);

impl Root {
    fn error(&self, file: PathBuf, what: String, control: Option<Control>, source: io::Error) -> CgroupError {
        CgroupError { mount: self.0.clone(), file, what, control, source }
    }

    /// Makes a group and its parents, calling `prepare` for each parent from the root on.
    pub(super) fn make(
        &self,
        group: &Path,
        prepare: impl Fn(&Path) -> Result<(), CgroupError>,
    ) -> Result<(), CgroupError> {
        let folder = self.0.join(group);
        let parents: Vec<PathBuf> = group.ancestors().skip(1).map(|p| self.0.join(p)).collect();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_make(&folder, &parents, &prepare) {
                Err(e) if e.source.kind() == io::ErrorKind::NotFound && tries < MAKE_TRIES => {}
                other => return other,
            }
        }
    }

    fn try_make(
        &self,
        folder: &Path,
        parents: &[PathBuf],
        prepare: &impl Fn(&Path) -> Result<(), CgroupError>,
    ) -> Result<(), CgroupError> {
        for parent in parents.iter().rev() {
            match fs::create_dir(parent) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(self.error(parent.clone(), "mkdir".into(), None, e));
                }
                _ => prepare(parent)?,
            }
        }
        fs::create_dir(folder).map_err(|e| self.error(folder.to_owned(), "mkdir".into(), None, e))
    }

    /// Writes a value in one `write`, as the kernel requires; the file must exist.
    pub(super) fn write(
        &self,
        folder: &Path,
        name: &str,
        value: &str,
        control: Option<Control>,
    ) -> Result<(), CgroupError> {
        let file = self.0.join(folder).join(name);
        let written =
            fs::OpenOptions::new().write(true).open(&file).and_then(|mut f| f.write_all(value.as_bytes()));
        written.map_err(|e| self.error(file, format!("writing {value:?}"), control, e))
    }

    /// That a value was not written because the group holds more.
    pub(super) fn busy(
        &self,
        folder: &Path,
        name: &str,
        value: u64,
        control: Option<Control>,
    ) -> CgroupError {
        let busy = io::ErrorKind::ResourceBusy.into();
        self.error(self.0.join(folder).join(name), format!("writing \"{value}\""), control, busy)
    }

    pub(super) fn read(&self, folder: &Path, name: &str) -> Option<String> {
        fs::read_to_string(self.0.join(folder).join(name)).ok()
    }

    pub(super) fn read_u64(&self, folder: &Path, name: &str) -> Option<u64> {
        self.read(folder, name)?.trim().parse().ok()
    }

    pub(super) fn exists(&self, folder: &Path, name: &str) -> bool {
        self.0.join(folder).join(name).exists()
    }

    /// Writes the ceilings of huge pages into the files that end so, one for each size that the kernel has, and for those that are only promised to
    /// a mapping (`rsvd`, since Linux 5.7). One below what the group holds is refused; the others are written all the same.
    pub(super) fn limit_huge_pages(
        &self,
        group: &Path,
        ending: &str,
        huge_pages: &HugePages,
    ) -> Result<(), CgroupError> {
        let control = Some(Control::HugePages);
        let folder = self.0.join(group);
        let entries = fs::read_dir(&folder).map_err(|e| self.error(folder, "reading".into(), control, e))?;
        let mut written = Ok(());
        for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            let limits =
                name.strip_suffix(ending).filter(|of| of.split('.').count() == 2 || of.ends_with(".rsvd"));
            if let Some(page_bytes) = limits.and_then(values::huge_page_bytes) {
                let limit = huge_pages.bytes(page_bytes).to_string();
                written = both(written, self.write(group, &name, &limit, control));
            }
        }
        written
    }

    /// None of a group that is not there.
    pub(super) fn processes(&self, group: &Path) -> io::Result<Vec<i32>> {
        let text = match fs::read_to_string(self.0.join(group).join("cgroup.procs")) {
            Err(error) if is_shortage(&error) => return Err(error),
            text => text.unwrap_or_default(),
        };
        // 0 stands for a process that our process namespace cannot see.
        Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
    }

    /// One try; groups that the container made inside go first.
    pub(super) fn remove(&self, group: &Path) -> Result<bool, CgroupError> {
        self.remove_folder(&self.0.join(group), true)
    }

    pub(super) fn remove_if_empty(&self, group: &Path) -> bool {
        match fs::remove_dir(self.0.join(group)) {
            Ok(()) => true,
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        }
    }

    fn remove_folder(&self, folder: &Path, retry_below: bool) -> Result<bool, CgroupError> {
        match fs::remove_dir(folder) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY)) => {
                if !retry_below || !self.remove_children(folder) {
                    return Ok(false);
                }
                self.remove_folder(folder, false)
            }
            Err(e) => Err(self.error(folder.to_owned(), "rmdir".into(), None, e)),
        }
    }

    /// Removes the leaf groups inside; true when there were some and all are gone.
    fn remove_children(&self, folder: &Path) -> bool {
        // Groups that hold processes refuse, so a parent of running containers keeps them all.
        let Ok(entries) = fs::read_dir(folder) else { return false };
        let mut some = false;
        for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
            some = true;
            if !matches!(self.remove_folder(&entry.path(), true), Ok(true)) {
                return false;
            }
        }
        some
    }
}

/// What came of two steps of which neither waits for the other: the first error, but one that the group only holds too much goes last. What that
/// is told of is done soon.
pub(super) fn both(one: Result<(), CgroupError>, other: Result<(), CgroupError>) -> Result<(), CgroupError> {
    let busy = |error: &CgroupError| error.source.kind() == io::ErrorKind::ResourceBusy;
    match (one, other) {
        (Err(one), Err(other)) if busy(&one) && !busy(&other) => Err(other),
        (one, other) => one.and(other),
    }
}

/// Kills processes by number; one that is gone, or that is not ours to kill, is passed over.
pub(super) fn kill_all(pids: &[i32]) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_errors_that_is_told_which_lasts() {
        let root = Root("/cg".into());
        let busy = || Err(root.busy(Path::new("g"), "busy", 1, None));
        let lasting = || root.write(Path::new("g"), "lasting", "1", None);
        for (one, other, told) in [
            (Ok(()), Ok(()), None),
            (Ok(()), busy(), Some("busy")),
            (busy(), Ok(()), Some("busy")),
            (busy(), lasting(), Some("lasting")),
            (lasting(), busy(), Some("lasting")),
        ] {
            let file = both(one, other).err().map(|error| error.file);
            assert_eq!(file, told.map(|name| PathBuf::from("/cg/g").join(name)));
        }
    }
}
