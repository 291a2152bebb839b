//! The file system as the task sees it: the host's, read-only, but for what is its own.
//!
//! Runs in the container's fresh mount namespace, before privileges are dropped. What a task can write to:
//!
//! - its sandbox, at the sandbox's own path, and the persistent volumes on folders of it;
//! - `/tmp` and `/var/tmp`: the folder `.tmp` of its sandbox. On disk, so that a large temporary file is no memory of the
//!   task; in the sandbox, so that it is counted and deleted with it;
//! - `/dev/shm`, `/dev/mqueue` and `/run`: memory of its own, charged to it.
//!
//! Volumes show, read-only, what of the host its own `/tmp` and `/var/tmp` lie over.
//!
//! Hidden: the host's `/dev` but for six harmless devices, the host's `/run` (through the sockets there root would reach the
//! daemons of the host), the agent's own folders, and what Docker hides of `/proc` and `/sys`.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::symlink,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, StatVfsMountFlags, fchmod, mkdirat, open, openat, statvfs},
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change,
        mount_remount,
    },
};

use super::{
    persistent::{self, Persistent},
    sys, volumes,
};
use crate::{
    folder::{Failure, Isolation, Order},
    spec::{Mount, MountSource},
};

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Hidden, as Docker does: they tell of the hardware and of other containers, or let secrets be measured.
///
/// The last ones do not exist in Docker's `/sys`, which is a fresh one; ours is the host's.
const MASKED: [&str; 17] = [
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
    "/sys/kernel/tracing",
    "/sys/fs/bpf",
    "/sys/fs/pstore",
];

/// Read-only, as Docker has them: writing there changes the host.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const TMP: &str = ".tmp";

const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const INERT: MountFlags = PLAIN.union(MountFlags::NOEXEC);

/// Says at which step and path a mount failed.
trait At<T> {
    fn at(self, step: &str, path: &Path) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: &str, path: &Path) -> Result<T, Failure> {
        self.map_err(|e| Failure::setup(format!("{step} {}", path.display()), e))
    }
}

/// What must be opened before the host's view of it is covered.
struct Kept {
    sandbox: OwnedFd,
    tmp: OwnedFd,
    devices: Vec<(&'static str, OwnedFd)>,
    /// The folder under `/run` that holds the file which `/etc/resolv.conf` points to, on most machines with systemd.
    resolver: Option<(PathBuf, OwnedFd)>,
}

/// Turns the mount namespace of the calling process into the container's; `sandbox` has no symbolic link in it.
pub(super) fn set_up(order: &Order, sandbox: &Path) -> Result<(), Failure> {
    let root = Path::new("/");
    mount_change(root, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .at("making mounts private:", root)?;
    let kept = keep(sandbox)?;
    let shown: Vec<PathBuf> = order.spec.mounts.iter().filter_map(host_path).collect();
    let volumes = volumes::open(&shown, &order.hidden)?;
    let persistent = persistent::open(&order.spec.persistent)?;
    restrict(root)?;

    cover_run(&kept)?;
    make_dev(order, &kept)?;
    for folder in &order.hidden {
        hide(folder, sandbox)?;
    }
    for path in ["/tmp", "/var/tmp"].map(Path::new).into_iter().filter(|p| p.is_dir()) {
        bind(&kept.tmp, path, PLAIN)?;
    }
    for volume in &volumes {
        volume.make_target().at("making the mount point of volume", &volume.path)?;
        bind(&volume.source, &volume.path, PLAIN | MountFlags::RDONLY)?;
    }
    // Only missing where one of the covers above lies over it.
    fs::create_dir_all(sandbox).at("making the sandbox's mount point", sandbox)?;
    bind(&kept.sandbox, sandbox, PLAIN)?;
    for volume in &persistent {
        mount_in_sandbox(volume, sandbox)?;
    }
    make_proc()
}

fn host_path(mount: &Mount) -> Option<PathBuf> {
    match &mount.source {
        MountSource::Host(path) => Some(path.clone()),
        _ => None,
    }
}

/// Mounts a persistent volume on a folder of the sandbox.
fn mount_in_sandbox(volume: &Persistent, sandbox: &Path) -> Result<(), Failure> {
    let folder = open_folder(sandbox)?;
    let target = volume.make_target(&folder)?;
    mount_bind(by_descriptor(&volume.source), by_descriptor(&target))
        .at("mounting a volume below", sandbox)?;
    // The target's own descriptor still means what lies under the mount.
    let mounted = volume.mounted(&folder)?;
    remount(&by_descriptor(&mounted), PLAIN).at("setting the flags of a volume below", sandbox)
}

fn keep(sandbox: &Path) -> Result<Kept, Failure> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let sandbox_fd =
        open(sandbox, folder, Mode::empty()).map_err(|e| Failure::sandbox(sandbox, "opening it", e))?;
    let tmp = make_tmp(&sandbox_fd).map_err(|e| Failure::sandbox(&sandbox.join(TMP), "making it", e))?;
    let device = |name| {
        let path = Path::new("/dev").join(name);
        // A machine without one of them (a container itself, say) gives its containers none either.
        open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok().map(|fd| (name, fd))
    };
    let resolver = fs::canonicalize("/etc/resolv.conf").ok().filter(|path| path.starts_with("/run"));
    let resolver = resolver.and_then(|path| {
        let parent = path.parent()?.to_owned();
        let fd = open(&parent, folder, Mode::empty()).ok()?;
        (parent != Path::new("/run")).then_some((parent, fd))
    });
    Ok(Kept { sandbox: sandbox_fd, tmp, devices: DEVICES.into_iter().filter_map(device).collect(), resolver })
}

/// The sandbox may hold whatever was fetched into it, also a symbolic link in this place.
fn make_tmp(sandbox: &OwnedFd) -> Result<OwnedFd, Errno> {
    match mkdirat(sandbox, TMP, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let tmp = openat(sandbox, TMP, flags, Mode::empty())?;
    fchmod(&tmp, Mode::from_raw_mode(0o1777))?;
    Ok(tmp)
}

/// Everything of the host becomes read-only, and its devices and set-uid bits lose their meaning.
fn restrict(root: &Path) -> Result<(), Failure> {
    match sys::restrict_all_mounts() {
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => restrict_each(),
        other => other.at("making all mounts read-only:", root),
    }
}

/// The same, mount by mount, before Linux 5.12.
fn restrict_each() -> Result<(), Failure> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).at("reading", table)?;
    for point in crate::cgroup::mount_points(&text) {
        match remount(&point, PLAIN | MountFlags::RDONLY) {
            // Covered by another mount, or behind a folder that is closed to us: the task cannot get there either.
            Err(Errno::NOENT | Errno::ACCESS | Errno::INVAL | Errno::NOTDIR) => {}
            other => other.at("making read-only:", &point)?,
        }
    }
    Ok(())
}

/// Sets the flags of one mount, keeping `noexec`, which an ordinary user may not take away.
fn remount(point: &Path, flags: MountFlags) -> Result<(), Errno> {
    let now = statvfs(point)?.f_flag;
    let noexec =
        if now.contains(StatVfsMountFlags::NOEXEC) { MountFlags::NOEXEC } else { MountFlags::empty() };
    mount_remount(point, MountFlags::BIND | flags | noexec, c"")
}

/// Binds what a descriptor refers to, with exactly these flags.
fn bind(source: &OwnedFd, target: &Path, flags: MountFlags) -> Result<(), Failure> {
    mount_bind(by_descriptor(source), target).at("binding", target)?;
    remount(target, flags).at("setting the flags of", target)
}

fn by_descriptor(descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

fn tmpfs(target: &Path, flags: MountFlags, options: &str) -> Result<(), Failure> {
    mount("tmpfs", target, "tmpfs", flags, Some(&*c_string(options))).at("mounting a tmpfs on", target)
}

fn c_string(text: &str) -> std::ffi::CString {
    std::ffi::CString::new(text).expect("mount options are ours and hold no zero byte")
}

fn cover_run(kept: &Kept) -> Result<(), Failure> {
    let run = Path::new("/run");
    if !fs::symlink_metadata(run).is_ok_and(|m| m.is_dir()) {
        return Ok(());
    }
    tmpfs(run, PLAIN, "mode=755,size=64m")?;
    if let Some((path, fd)) = &kept.resolver {
        fs::create_dir_all(path).at("making", path)?;
        bind(fd, path, INERT | MountFlags::RDONLY)?;
    }
    Ok(())
}

fn make_dev(order: &Order, kept: &Kept) -> Result<(), Failure> {
    let dev = Path::new("/dev");
    tmpfs(dev, INERT, "mode=755,size=64k")?;
    for (name, fd) in &kept.devices {
        let path = dev.join(name);
        fs::write(&path, "").at("making", &path)?;
        // Without NODEV, or it would be no device.
        bind(fd, &path, MountFlags::NOSUID | MountFlags::NOEXEC)?;
    }
    for (target, name) in LINKS {
        symlink(target, dev.join(name)).at("linking", &dev.join(name))?;
    }
    let made = |name: &str| {
        let path = dev.join(name);
        fs::create_dir(&path).at("making", &path).map(|()| path)
    };
    let pts = made("pts")?;
    // Group 5 is `tty` everywhere, but does not exist in the user namespace of an ordinary user.
    let group = if order.isolation == Isolation::Namespaces { ",gid=5" } else { "" };
    let options = format!("newinstance,ptmxmode=0666,mode=0620{group}");
    mount("devpts", &pts, "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, Some(&*c_string(&options)))
        .at("mounting", &pts)?;
    // Charged to the task as memory; without a limit the kernel's own bound of half the machine's holds.
    let size = order.spec.limits.memory_limit_bytes.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
    tmpfs(&made("shm")?, INERT, &format!("mode=1777{size}"))?;
    let mqueue = made("mqueue")?;
    match mount("mqueue", &mqueue, "mqueue", INERT, None) {
        // A kernel built without POSIX message queues.
        Err(Errno::NODEV) => Ok(()),
        other => other.at("mounting", &mqueue),
    }
}

/// Covers one of the agent's folders; if the sandbox lies inside, its mount point is made in the cover.
fn hide(folder: &Path, sandbox: &Path) -> Result<(), Failure> {
    if !folder.is_dir() {
        return Ok(());
    }
    tmpfs(folder, INERT, "mode=755,size=64k")?;
    if sandbox.starts_with(folder) {
        fs::create_dir_all(sandbox).at("making the sandbox's mount point", sandbox)?;
    }
    remount(folder, INERT | MountFlags::RDONLY).at("making read-only:", folder)
}

/// A view of the container's own processes, without what concerns the host.
fn make_proc() -> Result<(), Failure> {
    let proc = Path::new("/proc");
    mount("proc", proc, "proc", INERT, None).at("mounting", proc)?;
    let mut empty: Option<&Path> = None;
    for path in MASKED.map(Path::new) {
        match fs::symlink_metadata(path) {
            Err(_) => {}
            Ok(meta) if !meta.is_dir() => mount_bind("/dev/null", path).at("masking", path)?,
            // One empty file system serves all folders.
            Ok(_) => match empty {
                Some(empty) => mount_bind(empty, path).at("masking", path)?,
                None => {
                    tmpfs(path, INERT | MountFlags::RDONLY, "mode=755,size=0")?;
                    empty = Some(path);
                }
            },
        }
    }
    for path in READ_ONLY.map(Path::new).into_iter().filter(|p| p.exists()) {
        mount_bind_recursive(path, path).at("binding", path)?;
        remount(path, INERT | MountFlags::RDONLY).at("making read-only:", path)?;
    }
    Ok(())
}

/// Opens the sandbox for the task's output files.
pub(super) fn open_folder(path: &Path) -> Result<OwnedFd, Failure> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Failure::sandbox(path, "opening it", e))
}

/// Opens an output file of the task, which must be a plain file: what was fetched into the sandbox may have put a link or a
/// pipe in its place.
pub(super) fn open_output(sandbox: BorrowedFd<'_>, path: &Path, name: &str) -> Result<OwnedFd, Failure> {
    let failed = |e: Errno| Failure::sandbox(&path.join(name), "opening it for appending", e);
    // NONBLOCK for the open alone: a pipe without a reader would block it.
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let file = openat(sandbox, name, flags, Mode::from_raw_mode(0o644)).map_err(failed)?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file).map_err(failed)?.st_mode);
    if !kind.is_file() {
        return Err(failed(Errno::INVAL));
    }
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsFd};

    use super::*;

    #[test]
    fn output_goes_to_plain_files_only() {
        let dir = tempfile::tempdir().unwrap();
        let folder = open_folder(dir.path()).unwrap();
        let open = |name| open_output(folder.as_fd(), dir.path(), name);
        for _ in 0..2 {
            fs::File::from(open("stdout").unwrap()).write_all(b"x").unwrap();
        }
        assert_eq!(fs::read(dir.path().join("stdout")).unwrap(), b"xx");
        fs::write(dir.path().join("victim"), "").unwrap();
        symlink("victim", dir.path().join("link")).unwrap();
        assert!(matches!(open("link"), Err(Failure::Sandbox { errno: libc::ELOOP, .. })));
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(&folder, "pipe", rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(open("pipe").is_err());
        fs::create_dir(dir.path().join("dir")).unwrap();
        assert!(open("dir").is_err());
    }

    #[test]
    fn a_link_in_the_place_of_tmp_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = open_folder(dir.path()).unwrap();
        make_tmp(&folder).unwrap();
        make_tmp(&folder).unwrap();
        fs::remove_dir(dir.path().join(TMP)).unwrap();
        symlink("/etc", dir.path().join(TMP)).unwrap();
        assert!(make_tmp(&folder).is_err());
    }
}
