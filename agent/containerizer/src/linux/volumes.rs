//! What a task is shown of the host although something of its own lies over it.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, open as open_at};

use crate::folder::Failure;

/// What every task has of its own; only what lies in there needs a mount.
const COVERED: [&str; 2] = ["/tmp", "/var/tmp"];

/// Never shown: through the sockets and devices there a task would reach what isolation keeps from it.
const FORBIDDEN: [&str; 4] = ["/run", "/dev", "/proc", "/sys"];

/// A volume that must be mounted, opened before anything was laid over it.
pub(super) struct Volume {
    pub(super) path: PathBuf,
    pub(super) source: OwnedFd,
    is_folder: bool,
}

/// Checks all volumes and opens those that are covered; `hidden` are the agent's own folders.
pub(super) fn open(paths: &[PathBuf], hidden: &[PathBuf]) -> Result<Vec<Volume>, Failure> {
    let opened = paths.iter().map(|path| {
        let refuse = |what: String| Failure::Volume { path: path.display().to_string(), what };
        open_one(path, hidden).map_err(refuse)
    });
    opened.filter_map(Result::transpose).collect()
}

fn open_one(path: &Path, hidden: &[PathBuf]) -> Result<Option<Volume>, String> {
    let not_there = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => "does not exist on this agent's machine".to_owned(),
        _ => format!("cannot be opened: {e}"),
    };
    // Judged by where it leads: a link is no way around the rules.
    let real = fs::canonicalize(path).map_err(not_there)?;
    if let Some(root) = FORBIDDEN.iter().find(|root| real.starts_with(root)) {
        return Err(format!("leads into {root}, which no task is shown"));
    }
    if hidden.iter().any(|hidden| real.starts_with(hidden) || hidden.starts_with(&real)) {
        return Err(
            "is or holds a folder of the agent, which no task is shown; name one inside or beside it"
                .to_owned(),
        );
    }
    let kind = fs::metadata(&real).map_err(not_there)?.file_type();
    if !kind.is_dir() && !kind.is_file() {
        return Err("is neither a folder nor a plain file".to_owned());
    }
    if COVERED.iter().any(|covered| path == Path::new(covered)) {
        return Err("is a folder that every task has of its own; name what is to be read in it".to_owned());
    }
    if !COVERED.iter().any(|covered| path.starts_with(covered)) {
        return Ok(None);
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = open_at(&real, flags, Mode::empty()).map_err(|e| not_there(e.into()))?;
    Ok(Some(Volume { path: path.to_owned(), source, is_folder: kind.is_dir() }))
}

impl Volume {
    /// Makes what it is mounted on, in the task's own folder.
    pub(super) fn make_target(&self) -> io::Result<()> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)?;
        }
        if self.is_folder { fs::create_dir_all(&self.path) } else { fs::File::create(&self.path).map(drop) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_seen_is_opened_and_only_where_it_is_covered() {
        let place = tempfile::tempdir_in("/tmp").unwrap();
        let file = place.path().join("file");
        fs::write(&file, "x").unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink("/proc/self", &link).unwrap();
        let agent = place.path().join("agent");
        fs::create_dir(&agent).unwrap();
        let hidden = [agent.clone()];

        let mounted = |path: &Path| open(&[path.to_owned()], &hidden).map(|volumes| volumes.len());
        assert_eq!(mounted(&file).unwrap(), 1);
        assert_eq!(mounted(Path::new("/etc")).unwrap(), 0);
        for (path, why) in [
            (place.path().join("none"), "does not exist"),
            (link, "leads into /proc"),
            (PathBuf::from("/dev/null"), "leads into /dev"),
            (agent.clone(), "a folder of the agent"),
            (place.path().to_owned(), "a folder of the agent"),
            (agent.join("none"), "does not exist"),
        ] {
            match mounted(&path) {
                Err(Failure::Volume { what, .. }) => assert!(what.contains(why), "{what}"),
                other => panic!("{}: {other:?}", path.display()),
            }
        }
        let whole = open(&[PathBuf::from("/tmp")], &[]);
        assert!(matches!(whole, Err(Failure::Volume { what, .. }) if what.contains("of its own")));
    }
}
