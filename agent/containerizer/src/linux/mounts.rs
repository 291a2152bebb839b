//! Mounts by descriptor: taken from where they are, and attached elsewhere.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, StatVfsMountFlags, open, statvfs},
    io::Errno,
    mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, mount_remount, move_mount, open_tree},
};

use super::sys;

/// No set-user-id programs and no devices.
pub(super) const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
/// Nothing to execute either.
pub(super) const INERT: MountFlags = PLAIN.union(MountFlags::NOEXEC);

/// A mount of something that another mount shows too; attached to nothing at first.
///
/// What is taken before the host's mounts are made read-only keeps the flags that the host gave it.
#[derive(Debug)]
pub(super) struct Tree(OwnedFd);

impl Tree {
    /// Of a folder or file; what is mounted below it is not in it.
    pub(super) fn of(source: &impl AsFd) -> Result<Tree, Errno> {
        Self::take(source, OpenTreeFlags::empty())
    }

    /// Of a folder with all that is mounted below it.
    pub(super) fn with_all_below(source: &impl AsFd) -> Result<Tree, Errno> {
        Self::take(source, OpenTreeFlags::AT_RECURSIVE)
    }

    fn take(source: &impl AsFd, flags: OpenTreeFlags) -> Result<Tree, Errno> {
        let always =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        open_tree(source, "", always | flags).map(Tree)
    }

    /// Another one of the same; of one that is attached already.
    pub(super) fn again(&self) -> Result<Tree, Errno> {
        Self::of(&self.0)
    }

    /// Lays it over `target`, with these flags beside those that it has.
    pub(super) fn attach(&self, target: &impl AsFd, flags: MountFlags) -> io::Result<()> {
        let set = sys::restrict_mounts(self.0.as_fd(), attributes(flags), false);
        // Before Linux 5.12.
        let late = matches!(&set, Err(e) if e.raw_os_error() == Some(libc::ENOSYS));
        if !late {
            set?;
        }
        let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&self.0, "", target, "", empty)?;
        if late {
            restrict(&by_descriptor(&self.0), flags)?;
        }
        Ok(())
    }

    /// The same, with the flags on all that is mounted below it; since Linux 5.12.
    pub(super) fn attach_all(&self, target: &impl AsFd, flags: MountFlags) -> io::Result<()> {
        sys::restrict_mounts(self.0.as_fd(), attributes(flags), true)?;
        let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(move_mount(&self.0, "", target, "", empty)?)
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A mount of this file through which nobody can write to it.
pub(crate) fn read_only_program(path: &Path) -> io::Result<OwnedFd> {
    let file = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let Tree(mount) = Tree::of(&file)?;
    sys::restrict_mounts(mount.as_fd(), attributes(MountFlags::RDONLY), false)?;
    Ok(mount)
}

/// The flags as `mount_setattr` has them.
pub(super) fn attributes(flags: MountFlags) -> u64 {
    let pairs = [
        (MountFlags::RDONLY, libc::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, libc::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, libc::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    ];
    pairs.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, attribute)| attribute).sum()
}

/// Gives the mount at `point` these flags beside those that it has.
pub(super) fn restrict(point: &Path, flags: MountFlags) -> Result<(), Errno> {
    let now = statvfs(point)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
    ];
    let kept = pairs.into_iter().filter(|(has, _)| now.contains(*has)).map(|(_, flag)| flag);
    let all = kept.fold(flags, MountFlags::union);
    mount_remount(point, MountFlags::BIND | all, c"")
}

/// Mounts a new file system of this kind on `target`.
pub(super) fn fresh(
    kind: &str,
    target: BorrowedFd<'_>,
    flags: MountFlags,
    options: &str,
) -> Result<(), Errno> {
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    mount(kind, by_descriptor(&target), kind, flags, Some(&*options))
}

/// A path that means what the descriptor stands for.
pub(super) fn by_descriptor(descriptor: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_translated() {
        assert_eq!(attributes(PLAIN), libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV);
        assert_eq!(attributes(INERT | MountFlags::RDONLY).count_ones(), 4);
        assert_eq!(attributes(MountFlags::empty()), 0);
    }
}
