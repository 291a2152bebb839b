//! The disk that a folder is on, whose use can be limited.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use rustix::fs::{major, minor, stat};
use serde::{Deserialize, Serialize};

/// A whole disk, by its numbers in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Of its driver.
    pub major: u32,
    /// Among those of its driver.
    pub minor: u32,
}

/// A folder is on no disk whose use can be limited.
#[derive(Debug, thiserror::Error)]
pub enum NoDisk {
    /// The folder cannot be looked at.
    #[error("the disk of {path:?} is not known")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its file system is memory, an overlay, on a network, or on disks that it does not name.
    #[error(
        "the file system of {path:?} is not on one disk of this machine, as ext4 and xfs are; move it there"
    )]
    FileSystem {
        /// The folder.
        path: PathBuf,
    },
}

impl Disk {
    /// That of a folder's file system, as a whole: the kernel limits the use of disks, not of their partitions.
    pub fn of(folder: &Path) -> Result<Disk, NoDisk> {
        let path = || folder.to_owned();
        let device = stat(folder).map_err(|e| NoDisk::Folder { path: path(), source: e.into() })?.st_dev;
        let device = Disk { major: major(device), minor: minor(device) };
        device.whole(Path::new("/sys/dev/block")).ok_or_else(|| NoDisk::FileSystem { path: path() })
    }

    /// The disk that this is, or is a partition of; none when it is among no such `devices`.
    fn whole(self, devices: &Path) -> Option<Disk> {
        let device = devices.join(self.to_string()).canonicalize().ok()?;
        if !device.join("partition").exists() {
            return Some(self);
        }
        let text = fs::read_to_string(device.parent()?.join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some(Disk { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_partition_is_of_its_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (devices, disk) = (dir.path().join("dev/block"), dir.path().join("devices/block/sda"));
        fs::create_dir_all(&devices).unwrap();
        fs::create_dir_all(disk.join("sda1")).unwrap();
        for (file, text) in [("dev", "8:0\n"), ("sda1/dev", "8:1\n"), ("sda1/partition", "1\n")] {
            fs::write(disk.join(file), text).unwrap();
        }
        symlink(&disk, devices.join("8:0")).unwrap();
        symlink(disk.join("sda1"), devices.join("8:1")).unwrap();
        let whole = |major, minor| Disk { major, minor }.whole(&devices);
        let sda = Some(Disk { major: 8, minor: 0 });
        assert_eq!((whole(8, 0), whole(8, 1), whole(0, 26)), (sda, sda, None));
    }

    #[test]
    fn a_folder_in_memory_or_nowhere_is_on_no_disk() {
        let memory = Disk::of(Path::new("/proc")).unwrap_err();
        assert!(matches!(memory, NoDisk::FileSystem { .. }), "{memory}");
        let nowhere = Disk::of(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(nowhere.to_string().contains("/nowhere/at/all"), "{nowhere}");
    }
}
