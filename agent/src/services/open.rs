//! Opening a file of a sandbox, and nothing outside it, whatever the task has put there.

use std::{
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat, openat2},
    io::Errno,
};

/// Why a file is not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum OpenError {
    /// The path is no relative one.
    #[error("path {path:?} leaves the sandbox; give one relative to it, such as `stdout`, without `..`")]
    Leaves {
        /// The path.
        path: String,
    },
    /// A part of it is a symbolic link, which could lead anywhere.
    #[error("path {path:?} goes through a symbolic link, which is not followed; name the file itself")]
    Link {
        /// The path.
        path: String,
    },
    /// It is a folder, a pipe, a device.
    #[error("{path:?} is no regular file")]
    NotAFile {
        /// The path.
        path: String,
    },
    /// It is a file where a folder is to be.
    #[error("{path:?} is no folder")]
    NotAFolder {
        /// The path.
        path: String,
    },
    /// There is no such file.
    #[error("the sandbox has no file {path:?}")]
    Missing {
        /// The path.
        path: String,
    },
    /// Anything else.
    #[error("{path:?} cannot be opened")]
    System {
        /// The path.
        path: String,
        /// What the kernel said.
        source: Errno,
    },
}

// A pipe that the task has made must not be waited for.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// Opens a folder of the agent itself; its last component may be no link.
pub(super) fn folder(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a regular file beneath a folder.
pub(super) fn beneath(folder: &OwnedFd, path: &Path) -> Result<File, OpenError> {
    let named = || path.display().to_string();
    if path.as_os_str().is_empty() {
        return Err(OpenError::Leaves { path: named() });
    }
    let file = open_as(folder, path, FLAGS)?;
    let stat = fstat(&file).map_err(|source| OpenError::System { path: named(), source })?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(OpenError::NotAFile { path: named() });
    }
    Ok(File::from(file))
}

/// What is beneath a folder, whatever it is; the folder itself when the path is empty. A link at the end is itself.
pub(super) fn look(folder: &OwnedFd, path: &Path) -> Result<(OwnedFd, Stat), OpenError> {
    let found = open_as(folder, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)?;
    let stat =
        fstat(&found).map_err(|source| OpenError::System { path: path.display().to_string(), source })?;
    Ok((found, stat))
}

/// Opens a folder beneath a folder, or that itself when the path is empty.
pub(super) fn folder_beneath(folder: &OwnedFd, path: &Path) -> Result<OwnedFd, OpenError> {
    let (found, stat) = look(folder, path)?;
    let path = || path.display().to_string();
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(found),
        FileType::Symlink => Err(OpenError::Link { path: path() }),
        _ => Err(OpenError::NotAFolder { path: path() }),
    }
}

fn open_as(folder: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, OpenError> {
    let named = || path.display().to_string();
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain || path.as_os_str().as_bytes().contains(&0) {
        return Err(OpenError::Leaves { path: named() });
    }
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = match openat2(folder, path, flags, Mode::empty(), resolve) {
        // Kernels before 5.6, and sandboxes around the agent that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => step_by_step(folder, path, flags),
        opened => opened,
    };
    opened.map_err(|errno| match errno {
        Errno::LOOP => OpenError::Link { path: named() },
        Errno::XDEV => OpenError::Leaves { path: named() },
        Errno::NOENT | Errno::NOTDIR => OpenError::Missing { path: named() },
        Errno::NXIO | Errno::NODEV => OpenError::NotAFile { path: named() },
        source => OpenError::System { path: named(), source },
    })
}

/// As `openat2` beneath a folder without links, one component after the other.
fn step_by_step(folder: &OwnedFd, path: &Path, last: OFlags) -> Result<OwnedFd, Errno> {
    let mut parts = path.components().filter(|part| matches!(part, Component::Normal(_))).peekable();
    let mut within: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        let at = within.as_ref().map_or(folder.as_fd(), AsFd::as_fd);
        if parts.peek().is_none() {
            return openat(at, part.as_os_str(), last | OFlags::NOFOLLOW, Mode::empty());
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::PATH | OFlags::CLOEXEC;
        let next = openat(at, part.as_os_str(), flags, Mode::empty());
        // With DIRECTORY a link is "not a directory"; the difference matters to whoever asked.
        let next = next.map_err(|errno| match errno {
            Errno::NOTDIR if is_link(at, part.as_os_str()) => Errno::LOOP,
            errno => errno,
        })?;
        within = Some(next);
    }
    openat(folder, ".", last, Mode::empty())
}

fn is_link(at: impl AsFd, name: &std::ffi::OsStr) -> bool {
    let stat = rustix::fs::statat(at, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn sandbox() -> (tempfile::TempDir, OwnedFd) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("sandbox");
        fs::create_dir_all(inner.join("a/b")).unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        fs::write(inner.join("stdout"), "out").unwrap();
        fs::write(inner.join("a/b/deep"), "deep").unwrap();
        symlink("../secret", inner.join("link")).unwrap();
        symlink("stdout", inner.join("inner_link")).unwrap();
        symlink("..", inner.join("up")).unwrap();
        symlink("/proc/self", inner.join("a/proc")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            inner.join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let fd = folder(&inner).unwrap();
        (outer, fd)
    }

    fn text(mut file: impl std::io::Read) -> String {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn files_of_the_sandbox_are_opened() {
        let (_outer, fd) = sandbox();
        let beneath = |path: &str| beneath(&fd, Path::new(path));
        assert_eq!(text(beneath("stdout").unwrap()), "out");
        assert_eq!(text(beneath("./a/b/deep").unwrap()), "deep");
        let kind = |path: &str| FileType::from_raw_mode(look(&fd, Path::new(path)).unwrap().1.st_mode);
        assert_eq!((kind(""), kind("a")), (FileType::Directory, FileType::Directory));
        assert_eq!((kind("link"), kind("pipe")), (FileType::Symlink, FileType::Fifo));
        assert!(folder_beneath(&fd, Path::new("a/b")).is_ok());
        let not = |path: &str| folder_beneath(&fd, Path::new(path)).unwrap_err();
        assert!(matches!(not("stdout"), OpenError::NotAFolder { .. }));
        assert!(matches!(not("up"), OpenError::Link { .. }));
        assert!(matches!(not("up/sandbox"), OpenError::Link { .. }));
    }

    #[test]
    fn nothing_else_is() {
        let (_outer, fd) = sandbox();
        let beneath = |fd: &OwnedFd, path: &str| beneath(fd, Path::new(path));
        for path in ["../secret", "/etc/passwd", "a/../../secret", "..", "", "/", "a/../stdout", "std\0out"] {
            assert!(matches!(beneath(&fd, path), Err(OpenError::Leaves { .. })), "{path}");
        }
        for path in ["link", "inner_link", "up/secret", "up/sandbox/stdout", "a/proc/environ"] {
            assert!(matches!(beneath(&fd, path), Err(OpenError::Link { .. })), "{path}");
        }
        for path in ["a", "a/b/", ".", "pipe"] {
            assert!(matches!(beneath(&fd, path), Err(OpenError::NotAFile { .. })), "{path}");
        }
        for path in ["nothing", "a/nothing", "stdout/x"] {
            assert!(matches!(beneath(&fd, path), Err(OpenError::Missing { .. })), "{path}");
        }
    }

    #[test]
    fn older_kernels_are_no_hole() {
        let (_outer, fd) = sandbox();
        let open = |path: &str| step_by_step(&fd, Path::new(path), FLAGS).map(|fd| text(File::from(fd)));
        assert_eq!(open("stdout").unwrap(), "out");
        assert_eq!(open("./a/b/deep").unwrap(), "deep");
        for path in ["link", "inner_link", "up/secret", "a/proc/environ"] {
            assert_eq!(open(path).unwrap_err(), Errno::LOOP, "{path}");
        }
        assert_eq!(open("nothing").unwrap_err(), Errno::NOENT);
        assert_eq!(open("stdout/x").unwrap_err(), Errno::NOTDIR);
    }
}
