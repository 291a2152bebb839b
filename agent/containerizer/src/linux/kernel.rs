//! `/proc` and `/sys`: a view of the container's own processes and groups, without what concerns the host.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, mkdirat, open, openat},
    io::Errno,
    mount::MountFlags,
};

use super::{
    devices::Devices,
    image,
    mounts::{self, INERT, Tree},
    place::{self, Links},
};
use crate::folder::{Failure, Isolation, Order};

/// Hidden, as Docker does: they tell of the hardware and of other containers, or let secrets be measured.
///
/// The last ones do not exist in Docker's `/sys`, which is a fresh one; ours may be the host's.
pub(super) const MASKED: [&str; 18] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/kernel/config",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
    "/sys/fs/bpf",
    "/sys/fs/pstore",
];

/// Read-only, as Docker has them: writing there changes the host.
pub(super) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const READ: MountFlags = INERT.union(MountFlags::RDONLY);

/// The container's own control groups, taken before they are covered.
pub(super) struct Groups(Vec<(PathBuf, Tree)>);

impl Groups {
    pub(super) fn take(order: &Order) -> Result<Groups, Failure> {
        let mounts = order.layout.v1.keys().chain(order.layout.v2.as_ref().map(|(mount, _)| mount));
        let taken = mounts.map(|mount| {
            let path = mount.join(&order.group);
            let group = open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let tree = group.and_then(|group| Tree::of(&group));
            let tree = tree.map_err(|e| Failure::setup(format!("taking the group {}", path.display()), e))?;
            // Where there is one hierarchy for all, it is not in a folder of its own.
            let name = match order.layout.v1.is_empty() {
                true => PathBuf::new(),
                false => mount.file_name().map(PathBuf::from).unwrap_or_default(),
            };
            Ok((name, tree))
        });
        taken.collect::<Result<Vec<_>, Failure>>().map(Groups)
    }

    /// Shows them, read-only, where programs look for their limits, and nobody else's.
    fn mount(&self, root: &OwnedFd) -> Result<(), Failure> {
        let path = Path::new("/sys/fs/cgroup");
        let failed = |e: std::io::Error| Failure::setup(format!("mounting {}", path.display()), e);
        let target = match place::open(root, path, Links::Refused) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(|e| failed(e.into()))?,
        };
        if let [(name, tree)] = self.0.as_slice()
            && name.as_os_str().is_empty()
        {
            return tree.attach(&target, READ).map_err(failed);
        }
        mounts::fresh("tmpfs", target.as_fd(), INERT, "mode=755,size=64k").map_err(|e| failed(e.into()))?;
        let folder = place::open(root, path, Links::Refused).map_err(|e| failed(e.into()))?;
        for (name, tree) in &self.0 {
            let target = mkdirat(&folder, name, Mode::from_raw_mode(0o755)).and_then(|()| {
                openat(&folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            });
            tree.attach(&target.map_err(|e| failed(e.into()))?, READ).map_err(failed)?;
        }
        mounts::restrict(&mounts::by_descriptor(&folder), READ).map_err(|e| failed(e.into()))
    }
}

/// Mounts `/proc`, and in an image `/sys`, and hides what is in them.
pub(super) fn mount(
    order: &Order,
    root: &OwnedFd,
    groups: &Groups,
    devices: &Devices,
) -> Result<(), Failure> {
    let own = |path: &str| image::own_folder(root, path);
    mounts::fresh("proc", own("/proc")?.as_fd(), INERT, "")
        .map_err(|e| Failure::setup("mounting /proc", e))?;
    // What the kernel tells of networks there is of the one that it is in.
    if order.spec.root.is_some() || order.spec.network.is_some() {
        mount_sys(own("/sys")?)?;
        groups.mount(root)?;
    } else if order.isolation == Isolation::Namespaces {
        groups.mount(root)?;
    }
    mask(root, devices)?;
    for path in READ_ONLY {
        let failed = |e: std::io::Error| Failure::setup(format!("making {path} read-only"), e);
        match place::open(root, Path::new(path), Links::Refused) {
            Err(Errno::NOENT) => {}
            Err(e) => return Err(failed(e.into())),
            Ok(target) => {
                let tree = Tree::of(&target).map_err(|e| failed(e.into()))?;
                tree.attach(&target, READ).map_err(failed)?;
            }
        }
    }
    Ok(())
}

fn mount_sys(target: OwnedFd) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::setup("mounting /sys", e);
    match mounts::fresh("sysfs", target.as_fd(), READ, "") {
        // Its network is not its own: then it sees the host's.
        Err(Errno::PERM) => {
            let host = File::open("/sys").map_err(failed)?;
            let tree = Tree::with_all_below(&host).map_err(|e| failed(e.into()))?;
            tree.attach_all(&target, READ).map_err(failed)
        }
        other => other.map_err(|e| failed(e.into())),
    }
}

fn mask(root: &OwnedFd, devices: &Devices) -> Result<(), Failure> {
    let mut empty: Option<OwnedFd> = None;
    for path in MASKED {
        let failed = |e: std::io::Error| Failure::setup(format!("masking {path}"), e);
        let target = match place::open(root, Path::new(path), Links::Refused) {
            // This kernel has none, or keeps it from us and so from the task.
            Err(Errno::NOENT | Errno::ACCESS) => continue,
            other => other.map_err(|e| failed(e.into()))?,
        };
        if !place::is(&target, FileType::Directory).map_err(|e| failed(e.into()))? {
            devices.null()?.attach(&target, MountFlags::empty()).map_err(failed)?;
            continue;
        }
        // One empty file system serves all folders.
        match &empty {
            Some(empty) => Tree::of(empty)
                .map_err(|e| failed(e.into()))?
                .attach(&target, MountFlags::empty())
                .map_err(failed)?,
            None => {
                let mounted = mounts::fresh("tmpfs", target.as_fd(), READ, "mode=755,size=0")
                    .and_then(|()| place::open(root, Path::new(path), Links::Refused));
                empty = Some(mounted.map_err(|e| failed(e.into()))?);
            }
        }
    }
    Ok(())
}
