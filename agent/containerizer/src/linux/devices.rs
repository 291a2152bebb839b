//! `/dev`: six harmless devices, terminals, shared memory and message queues of its own.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags, mkdirat, open as open_at, openat, symlinkat},
    io::Errno,
    mount::MountFlags,
};

use super::mounts::{self, INERT, Tree};
use crate::{
    folder::{Failure, Isolation, Order},
    users::UserRange,
};

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const CORE: &str = "/proc/kcore";

const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    (CORE, "core"),
    ("pts/ptmx", "ptmx"),
];

/// The host's devices, taken before they are covered.
pub(super) struct Devices(Vec<(&'static str, Tree)>);

impl Devices {
    pub(super) fn take() -> Result<Devices, Failure> {
        let mut taken = Vec::new();
        for name in DEVICES {
            match open_at(format!("/dev/{name}"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
                // A machine without one of them (a container itself, say) gives its containers none either.
                Err(_) => {}
                Ok(device) => {
                    let tree = Tree::of(&device).map_err(|e| failed("taking the host's", name, e))?;
                    taken.push((name, tree));
                }
            }
        }
        Ok(Devices(taken))
    }

    /// Another `/dev/null`, once the first one is mounted.
    pub(super) fn null(&self) -> Result<Tree, Failure> {
        let null = self.0.iter().find(|(name, _)| *name == "null").ok_or(Errno::NOENT);
        null.and_then(|(_, tree)| tree.again()).map_err(|e| failed("taking the host's", "null", e))
    }

    /// Fills `dev`, a folder that is laid over; `reopen` opens it afterwards.
    pub(super) fn mount(
        &self,
        order: &Order,
        dev: OwnedFd,
        reopen: impl FnOnce() -> Result<OwnedFd, Failure>,
    ) -> Result<(), Failure> {
        // Without devices of its own: root in a container may make device files, and none of them is to mean anything.
        mounts::fresh("tmpfs", dev.as_fd(), INERT, "mode=755,size=64k")
            .map_err(|e| failed("mounting", "", e))?;
        let dev = reopen()?;
        for (name, tree) in &self.0 {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = openat(&dev, *name, flags, Mode::empty()).map_err(|e| failed("making", name, e))?;
            tree.attach(&file, MountFlags::NOSUID | MountFlags::NOEXEC)
                .map_err(|e| failed("mounting", name, e))?;
        }
        // Some kernels have no memory to show, as the link would promise.
        let links = LINKS.into_iter().filter(|(target, _)| *target != CORE || Path::new(CORE).exists());
        for (target, name) in links {
            symlinkat(target, &dev, name).map_err(|e| failed("linking", name, e))?;
        }
        // Group 5 is `tty` everywhere, but does not exist in the user namespace of an ordinary user.
        let group = 5 + order.users.map_or(0, UserRange::first);
        let group =
            if order.isolation == Isolation::Namespaces { format!(",gid={group}") } else { String::new() };
        let options = format!("newinstance,ptmxmode=0666,mode=0620{group}");
        let harmless = MountFlags::NOSUID | MountFlags::NOEXEC;
        fresh(&dev, "pts", "devpts", harmless, &options)?;
        // Charged to the task as memory; without a limit the kernel's own bound of half the machine's holds.
        let size = order.spec.limits.memory_limit_bytes.map(|bytes| format!(",size={bytes}"));
        fresh(&dev, "shm", "tmpfs", INERT, &format!("mode=1777{}", size.unwrap_or_default()))?;
        match fresh(&dev, "mqueue", "mqueue", INERT, "") {
            // A kernel built without POSIX message queues.
            Err(Failure::Setup { errno: libc::ENODEV, .. }) => Ok(()),
            other => other,
        }
    }
}

fn fresh(dev: &OwnedFd, name: &str, kind: &str, flags: MountFlags, options: &str) -> Result<(), Failure> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    mkdirat(dev, name, Mode::from_raw_mode(0o755))
        .and_then(|()| openat(dev, name, folder, Mode::empty()))
        .and_then(|target| mounts::fresh(kind, target.as_fd(), flags, options))
        .map_err(|e| failed("mounting", name, e))
}

fn failed(step: &str, name: &str, e: impl Into<std::io::Error>) -> Failure {
    Failure::setup(format!("{step} /dev/{name}"), e)
}
