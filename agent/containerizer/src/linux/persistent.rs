//! Persistent volumes: folders of the host that a task reads and writes as folders of its sandbox.

use std::{
    ffi::OsStr,
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, fstat, mkdirat, open as open_at, openat},
    io::Errno,
};

use crate::{folder::Failure, spec::PersistentVolume};

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A persistent volume, opened before anything was laid over it.
pub(super) struct Persistent {
    pub(super) source: OwnedFd,
    path: PathBuf,
}

/// Opens all of them, those that hold mount points of others first.
pub(super) fn open(volumes: &[PersistentVolume]) -> Result<Vec<Persistent>, Failure> {
    let opened = volumes.iter().map(|volume| {
        let source = open_at(&volume.source, FOLDER, Mode::empty()).map_err(|errno| {
            failure(&volume.path, format_args!("cannot be opened: {}", io::Error::from(errno)))
        })?;
        Ok(Persistent { source, path: volume.path.clone() })
    });
    let mut opened = opened.collect::<Result<Vec<_>, Failure>>()?;
    opened.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(opened)
}

impl Persistent {
    /// The folder of the sandbox that it is mounted on, made where it is missing.
    ///
    /// The way there may lead through another volume, which another container writes to at the same time: no link is followed.
    pub(super) fn make_target(&self, sandbox: &OwnedFd) -> Result<OwnedFd, Failure> {
        self.walk(sandbox, |folder, name| match mkdirat(folder, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno),
        })
    }

    /// The volume as the task sees it, now that it is mounted.
    pub(super) fn mounted(&self, sandbox: &OwnedFd) -> Result<OwnedFd, Failure> {
        let mounted = self.walk(sandbox, |_, _| Ok(()))?;
        let same = fstat(&mounted).and_then(|there| Ok((there, fstat(&self.source)?)));
        match same {
            Ok((there, source)) if (there.st_dev, there.st_ino) == (source.st_dev, source.st_ino) => {
                Ok(mounted)
            }
            _ => Err(failure(&self.path, "was moved away while it was mounted; launch the task again")),
        }
    }

    fn walk(
        &self,
        sandbox: &OwnedFd,
        prepare: impl Fn(&OwnedFd, &OsStr) -> Result<(), Errno>,
    ) -> Result<OwnedFd, Failure> {
        let mut at: Option<OwnedFd> = None;
        for part in self.path.components() {
            let Component::Normal(name) = part else {
                return Err(failure(&self.path, "is not a plain path below the sandbox"));
            };
            let folder = at.as_ref().unwrap_or(sandbox);
            let next = prepare(folder, name).and_then(|()| openat(folder, name, FOLDER, Mode::empty()));
            at = Some(next.map_err(|errno| {
                let what = "has no mount point: a part of its path is no folder, or cannot be made";
                failure(&self.path, format_args!("{what}: {}", io::Error::from(errno)))
            })?);
        }
        at.ok_or_else(|| failure(&self.path, "has no path below the sandbox"))
    }
}

fn failure(path: &Path, what: impl ToString) -> Failure {
    Failure::Volume { path: path.display().to_string(), what: what.to_string() }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_mount_point_is_made_but_no_link_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let [sandbox, data, outside] = ["sandbox", "data", "outside"].map(|name| place.path().join(name));
        for folder in [&sandbox, &data, &outside] {
            fs::create_dir(folder).unwrap();
        }
        symlink(&outside, sandbox.join("link")).unwrap();
        fs::write(sandbox.join("file"), "").unwrap();
        let folder = open_at(&sandbox, FOLDER, Mode::empty()).unwrap();
        let target = |path: &str| {
            let volume = PersistentVolume { source: data.clone(), path: PathBuf::from(path) };
            open(&[volume]).unwrap()[0].make_target(&folder).map(drop)
        };
        target("var/lib/data").unwrap();
        target("var/lib/data").unwrap();
        assert!(sandbox.join("var/lib/data").is_dir());
        for path in ["link", "link/data", "file", "file/data", "../outside/data", "/etc", ""] {
            assert!(matches!(target(path), Err(Failure::Volume { .. })), "{path}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        let linked = PersistentVolume { source: sandbox.join("link"), path: PathBuf::from("data") };
        assert!(open(&[linked]).is_err());
    }
}
