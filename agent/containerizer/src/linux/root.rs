//! The file system as the task sees it: an image's, or the host's, read-only, but for what is its own.
//!
//! Runs in the container's fresh mount namespace, before privileges are dropped. What a task without an image can write to:
//!
//! - its sandbox, at the sandbox's own path, and the volumes that are given to it to write;
//! - `/tmp` and `/var/tmp`: the folder `.tmp` of its sandbox. On disk, so that a large temporary file is no memory of the
//!   task; in the sandbox, so that it is counted and deleted with it;
//! - `/dev/shm`, `/dev/mqueue` and `/run`: memory of its own, charged to it.
//!
//! One with an image sees its sandbox at [`SANDBOX_IN_IMAGE`](crate::SANDBOX_IN_IMAGE), and writes wherever its user may; what it changes
//! of the image is gone with it.
//!
//! Hidden: the host's `/dev` but for six harmless devices, the host's `/run` (through the sockets there root would reach the
//! daemons of the host), the agent's own folders, and what Docker hides of `/proc` and `/sys`.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, fchmod, mkdirat, open, openat},
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount},
};

use super::{
    devices::Devices,
    image,
    kernel::{self, Groups},
    mounts::{self, INERT, PLAIN, Tree},
    netns,
    place::{self, Links},
    sys,
    users::Users,
    volumes::{self, Volume},
};
use crate::folder::{Failure, Order};

const TMP: &str = ".tmp";

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Says at which step and path a mount failed.
trait At<T> {
    fn at(self, step: &str, path: &Path) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: &str, path: &Path) -> Result<T, Failure> {
        self.map_err(|e| Failure::setup(format!("{step} {}", path.display()), e))
    }
}

/// What of the host a container sees, taken before the host's view of it is covered or made read-only.
struct Taken<'a> {
    sandbox: OwnedFd,
    /// The sandbox, to be mounted.
    own: Tree,
    /// Where the container sees it.
    inside: &'a Path,
    volumes: Vec<Volume<'a>>,
    etc: netns::EtcFiles,
}

impl<'a> Taken<'a> {
    fn of(order: &'a Order, path: &'a Path, users: Option<&Users>) -> Result<Taken<'a>, Failure> {
        let sandbox =
            open(path, FOLDER, Mode::empty()).map_err(|e| Failure::sandbox(path, "opening it", e))?;
        let own = Tree::of(&sandbox).at("taking", path)?;
        let inside = image::sandbox_inside(order, path);
        let volumes = volumes::take(order, inside, &sandbox, users)?;
        Ok(Taken { sandbox, own, inside, volumes, etc: netns::EtcFiles::take(order)? })
    }

    /// Mounts it in the root, when all that could lie over it is there.
    fn mount(self, order: &Order, root: &OwnedFd) -> Result<(), Failure> {
        // In the host's root only missing where one of the covers lies over it.
        let target = if order.spec.root.is_some() {
            image::own_folder(root, crate::spec::SANDBOX_IN_IMAGE)?
        } else {
            place::make_folder(root, self.inside, Links::Inside)
                .at("making the sandbox's mount point", self.inside)?
        };
        self.own.attach(&target, PLAIN).at("mounting the sandbox at", self.inside)?;
        self.volumes.iter().try_for_each(|volume| volume.mount(root, self.inside))?;
        self.etc.mount(root)?;
        make_working_dir(order, root)
    }
}

/// Turns the mount namespace of the calling process into the container's; `sandbox` has no symbolic link in it.
///
/// A container with users of its own gets all that is made here as its root's.
pub(super) fn set_up(order: &Order, sandbox: &Path, users: Option<&Users>) -> Result<(), Failure> {
    let top = Path::new("/");
    mount_change(top, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .at("making mounts private:", top)?;
    if let Some(users) = users {
        users.cover(order, sandbox)?;
        users.make_files_as_root()?;
    }
    let taken = Taken::of(order, sandbox, users)?;
    let devices = Devices::take()?;
    let groups = Groups::take(order)?;

    let root = match &order.spec.root {
        Some(image) => image::mount(order, image)?,
        None => {
            let own = Own::take(sandbox, &taken.sandbox)?;
            match sys::restrict_all_mounts() {
                Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => restrict_each()?,
                other => other.at("making all mounts read-only:", top)?,
            }
            let root = open(top, FOLDER, Mode::empty()).at("opening", top)?;
            own.cover(&root, order, sandbox)?;
            root
        }
    };
    let dev = || image::own_folder(&root, "/dev");
    devices.mount(order, dev()?, dev)?;
    kernel::mount(order, &root, &groups, &devices)?;
    taken.mount(order, &root)?;
    if order.spec.root.is_some() { image::enter(&root) } else { Ok(()) }
}

/// Gives the calling process a mount namespace of its own, and lays the container's root in it for an OCI runtime, which mounts what the
/// kernel shows and devices. The host's files are laid at `point`, an empty folder; an image at its own place. Returns the root.
pub(super) fn lay(order: &Order, sandbox: &Path, point: &Path) -> Result<OwnedFd, Failure> {
    let top = Path::new("/");
    sys::own_mounts().at("taking a mount namespace:", top)?;
    // What the host unmounts must not live on here.
    mount_change(top, MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .at("keeping mounts from the host:", top)?;
    let taken = Taken::of(order, sandbox, None)?;
    let root = match &order.spec.root {
        Some(image) => {
            let root = image::mount(order, image)?;
            for path in ["/dev", "/proc", "/sys"] {
                image::own_folder(&root, path)?;
            }
            root
        }
        None => {
            let own = Own::take(sandbox, &taken.sandbox)?;
            let host = open(top, FOLDER, Mode::empty()).at("opening", top)?;
            let host = Tree::with_all_below(&host).at("taking", top)?;
            let target = open(point, FOLDER, Mode::empty()).at("opening", point)?;
            host.attach_all(&target, PLAIN | MountFlags::RDONLY)
                .at("mounting the host's files, read-only (Linux 5.12 or later is needed), at", point)?;
            mount_change(point, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
                .at("making mounts private:", point)?;
            for name in ["proc", "sys", "dev"] {
                let path = point.join(name);
                match unmount(&path, UnmountFlags::DETACH) {
                    // Not mounted by themselves.
                    Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                    other => other.at("unmounting", &path)?,
                }
            }
            let root = open(point, FOLDER, Mode::empty()).at("opening", point)?;
            own.cover(&root, order, sandbox)?;
            root
        }
    };
    taken.mount(order, &root)?;
    Ok(root)
}

/// An image's command may be started in a folder that it makes only then, as Docker has it.
fn make_working_dir(order: &Order, root: &OwnedFd) -> Result<(), Failure> {
    match &order.spec.working_dir {
        Some(path) if order.spec.root.is_some() && path.is_absolute() && path != Path::new("/") => {
            let made = place::make_folder(root, path, Links::Inside);
            made.map(drop).map_err(|e| Failure::working_dir(path, e))
        }
        _ => Ok(()),
    }
}

/// What takes the place of the host's in the host's root.
struct Own {
    tmp: Vec<(&'static Path, Tree)>,
    resolver: Option<(PathBuf, Tree)>,
}

impl Own {
    fn take(path: &Path, sandbox: &OwnedFd) -> Result<Own, Failure> {
        let tmp = make_tmp(sandbox).map_err(|e| Failure::sandbox(&path.join(TMP), "making it", e))?;
        let own = ["/tmp", "/var/tmp"].map(Path::new).into_iter().filter(|path| path.is_dir());
        let own = own.map(|path| Ok((path, Tree::of(&tmp).at("taking", path)?)));
        Ok(Own { tmp: own.collect::<Result<Vec<_>, Failure>>()?, resolver: resolver()? })
    }

    /// Covers what is none of a task's business in the host's root, with what is its own.
    fn cover(self, root: &OwnedFd, order: &Order, sandbox: &Path) -> Result<(), Failure> {
        cover_run(root, self.resolver)?;
        for folder in &order.hidden {
            hide(root, folder, sandbox)?;
        }
        for (path, tree) in self.tmp {
            place::open(root, path, Links::Inside)
                .map_err(io::Error::from)
                .and_then(|target| tree.attach(&target, PLAIN))
                .at("mounting", path)?;
        }
        Ok(())
    }
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

/// The folder under `/run` that holds the file which `/etc/resolv.conf` points to, on most machines with systemd.
fn resolver() -> Result<Option<(PathBuf, Tree)>, Failure> {
    let file = fs::canonicalize("/etc/resolv.conf").ok().filter(|path| path.starts_with("/run"));
    let Some(parent) = file.as_deref().and_then(Path::parent).filter(|parent| *parent != Path::new("/run"))
    else {
        return Ok(None);
    };
    let tree =
        open(parent, FOLDER, Mode::empty()).and_then(|folder| Tree::of(&folder)).at("taking", parent)?;
    Ok(Some((parent.to_owned(), tree)))
}

/// Everything of the host becomes read-only, mount by mount, before Linux 5.12.
fn restrict_each() -> Result<(), Failure> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).at("reading", table)?;
    for point in crate::cgroup::mount_points(&text) {
        match mounts::restrict(&point, PLAIN | MountFlags::RDONLY) {
            // Covered by another mount, or behind a folder that is closed to us: the task cannot get there either.
            Err(Errno::NOENT | Errno::ACCESS | Errno::INVAL | Errno::NOTDIR) => {}
            other => other.at("making read-only:", &point)?,
        }
    }
    Ok(())
}

/// Lays memory over a folder of the host.
fn cover(root: &OwnedFd, path: &Path, flags: MountFlags, options: &str) -> Result<(), Failure> {
    place::open(root, path, Links::Inside)
        .and_then(|target| mounts::fresh("tmpfs", target.as_fd(), flags, options))
        .at("mounting a tmpfs on", path)
}

fn cover_run(root: &OwnedFd, resolver: Option<(PathBuf, Tree)>) -> Result<(), Failure> {
    let run = Path::new("/run");
    if !fs::symlink_metadata(run).is_ok_and(|m| m.is_dir()) {
        return Ok(());
    }
    cover(root, run, PLAIN, "mode=755,size=64m")?;
    if let Some((path, tree)) = resolver {
        let target = place::make_folder(root, &path, Links::Inside).at("making", &path)?;
        tree.attach(&target, INERT | MountFlags::RDONLY).at("mounting", &path)?;
    }
    Ok(())
}

/// Covers one of the agent's folders; if the sandbox lies inside, its mount point is made in the cover.
fn hide(root: &OwnedFd, folder: &Path, sandbox: &Path) -> Result<(), Failure> {
    if !folder.is_dir() {
        return Ok(());
    }
    cover(root, folder, INERT, "mode=755,size=64k")?;
    if sandbox.starts_with(folder) {
        place::make_folder(root, sandbox, Links::Inside).at("making the sandbox's mount point", sandbox)?;
    }
    place::open(root, folder, Links::Inside)
        .and_then(|cover| mounts::restrict(&mounts::by_descriptor(&cover), INERT | MountFlags::RDONLY))
        .at("making read-only:", folder)
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

/// Makes an output file of the task where there is nothing.
pub(super) fn create_output(sandbox: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    openat(sandbox, name, flags, Mode::from_raw_mode(0o644))
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::symlink};

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
