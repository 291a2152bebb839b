//! A root made of an image's layers, and of images mounted as volumes.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, fchmod, mkdirat, open, openat, unlinkat},
    io::Errno,
    mount::{UnmountFlags, unmount},
    process::{chdir, fchdir, pivot_root},
};

use super::{
    mounts::{self, PLAIN},
    place::{self, Links},
};
use crate::{
    folder::{Failure, Isolation, Order},
    spec::{ImageRoot, SANDBOX_IN_IMAGE},
};

/// The kernel's bound on the lower folders of an overlay.
const LAYERS_MAX: usize = 500;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The folders of an overlay.
struct Layers {
    /// The highest first, each once.
    lower: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
}

impl Layers {
    fn open(image: &ImageRoot) -> Result<Layers, Failure> {
        let failed = |path: &Path, e: Errno| {
            Failure::image(
                path,
                format_args!("cannot be opened: {e}; remove the image from the agent's cache"),
            )
        };
        let mut seen = BTreeSet::new();
        // A layer that comes twice has the same effect without its lower place, and the kernel does not take it twice.
        let once = image.layers.iter().rev().filter(|layer| seen.insert(*layer));
        let lower: Vec<OwnedFd> = once
            .map(|layer| open(layer, FOLDER, Mode::empty()).map_err(|e| failed(layer, e)))
            .collect::<Result<_, _>>()?;
        if lower.len() > LAYERS_MAX {
            let what =
                format!("has {} layers, more than the kernel's {LAYERS_MAX}; squash them", lower.len());
            return Err(Failure::image(&image.scratch, what));
        }
        let scratch = open(&image.scratch, FOLDER, Mode::empty()).map_err(|e| failed(&image.scratch, e))?;
        let made = |name: &str| {
            mkdirat(&scratch, name, Mode::from_raw_mode(0o755))
                .and_then(|()| openat(&scratch, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()))
                .map_err(|e| {
                    let path = image.scratch.join(name);
                    Failure::image(&path, format_args!("cannot be made: {e}; it must be a new folder"))
                })
        };
        let (upper, work) = (made("upper")?, made("work")?);
        // The kernel wants a lower folder where an image has none.
        let lower = if lower.is_empty() { vec![made("empty")?] } else { lower };
        Ok(Layers { lower, upper, work })
    }

    /// Mounts the overlay on `target`.
    fn mount(&self, target: BorrowedFd<'_>, isolation: Isolation) -> Result<(), Errno> {
        // All options must fit into a page: descriptors' numbers are the shortest names, read in the folder that has them.
        chdir("/proc/self/fd")?;
        let lower: Vec<String> = self.lower.iter().map(|layer| layer.as_raw_fd().to_string()).collect();
        let (upper, work) = (self.upper.as_raw_fd(), self.work.as_raw_fd());
        let mut options = format!("lowerdir={},upperdir={upper},workdir={work}", lower.join(":"));
        if isolation == Isolation::UserNamespaces {
            options.push_str(",userxattr");
        }
        // What a container changes is deleted with it: nothing of it need ever reach the disk, which the end of an overlay
        // else waits for.
        let mounted = match mounts::fresh("overlay", target, PLAIN, &format!("{options},volatile")) {
            // Before Linux 5.10.
            Err(Errno::INVAL) => mounts::fresh("overlay", target, PLAIN, &options),
            other => other,
        };
        chdir("/")?;
        mounted
    }
}

/// Mounts an image on its own scratch folder; returns its root.
///
/// Before the host's mounts are made read-only, through which what is changed could else not be written.
pub(super) fn overlay(image: &ImageRoot, order: &Order) -> Result<OwnedFd, Failure> {
    let layers = Layers::open(image)?;
    let failed = |e| Failure::image(&image.scratch, format_args!("cannot be opened: {e}"));
    let place = open(&image.scratch, FOLDER, Mode::empty()).map_err(failed)?;
    layers.mount(place.as_fd(), order.isolation).map_err(|e| {
        let remedy = match e {
            Errno::PERM => "an ordinary user may do that since Linux 5.11; run the agent as root",
            Errno::NODEV => "the kernel lacks overlayfs; enable it",
            Errno::INVAL if order.users.is_some() => {
                "layers whose owners are translated need Linux 5.19; leave the agent's setting `userns` out, or use no images"
            }
            _ => "the agent's work directory must be on a local file system such as ext4 or xfs, not on an overlay",
        };
        let what = format_args!("cannot be laid over the image's layers: {e}; {remedy}").to_string();
        Failure::image(&image.scratch, what)
    })?;
    open(&image.scratch, FOLDER, Mode::empty()).map_err(failed)
}

/// Mounts the image that is to be the root, and makes what every root has.
pub(super) fn mount(order: &Order, image: &ImageRoot) -> Result<OwnedFd, Failure> {
    let root = overlay(image, order)?;
    write_names(order, &root)?;
    make_tmp(&root).map_err(|e| refused("/tmp", e))?;
    Ok(root)
}

/// A folder of our own in the image, made if missing; the image must not have a link on the way.
pub(super) fn own_folder(root: &OwnedFd, path: &str) -> Result<OwnedFd, Failure> {
    place::make_folder(root, Path::new(path), Links::Refused).map_err(|e| refused(path, e))
}

fn refused(path: &str, e: Errno) -> Failure {
    Failure::image(Path::new(path), format_args!("must be a plain folder in the image, or missing: {e}"))
}

/// What the host's network needs: who answers names, and the container's own name.
fn write_names(order: &Order, root: &OwnedFd) -> Result<(), Failure> {
    let path = Path::new("/etc");
    let etc = place::make_folder(root, path, Links::Inside).map_err(|e| refused("/etc", e))?;
    let host_name = super::init::host_name(order.spec.hostname());
    let host = |name: &str| fs::read(path.join(name)).unwrap_or_default();
    if let Some(network) = &order.spec.network {
        for (name, source) in &network.etc {
            let text =
                fs::read(source).map_err(|e| Failure::network(format_args!("has no {source:?}: {e}")))?;
            write(&etc, name, &text).map_err(|e| unwritable(&path.join(name), e))?;
        }
        if !network.etc.is_empty() {
            return Ok(());
        }
    }
    let mut hosts = host("hosts");
    if host_name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        hosts.extend_from_slice(format!("\n127.0.1.1 {host_name}\n").as_bytes());
    }
    let hostname = format!("{host_name}\n").into_bytes();
    for (name, text) in [("resolv.conf", host("resolv.conf")), ("hosts", hosts), ("hostname", hostname)] {
        write(&etc, name, &text).map_err(|e| unwritable(&path.join(name), e))?;
    }
    Ok(())
}

fn unwritable(path: &Path, e: std::io::Error) -> Failure {
    Failure::image(path, format_args!("cannot be written into the image: {e}"))
}

/// In place of what the image has there, also of a link.
fn write(folder: &OwnedFd, name: &str, text: &[u8]) -> std::io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::File::from(openat(folder, name, flags, Mode::from_raw_mode(0o644))?).write_all(text)
}

/// Few images of one program have the folder that every program expects.
fn make_tmp(root: &OwnedFd) -> Result<(), Errno> {
    let path = Path::new("/tmp");
    match place::open(root, path, Links::Inside) {
        Err(Errno::NOENT) => {}
        other => return other.map(drop),
    }
    place::make_folder(root, path, Links::Refused)?;
    let made = place::open_as(root, path, Links::Refused, OFlags::RDONLY | OFlags::DIRECTORY)?;
    fchmod(&made, Mode::from_raw_mode(0o1777))
}

/// Makes `root` the root of this process, and lets go of the host's.
pub(super) fn enter(root: &OwnedFd) -> Result<(), Failure> {
    let step = |step: &'static str| move |e: Errno| Failure::setup(step, e);
    fchdir(root).map_err(step("entering the image"))?;
    // The old root then lies over the new one, from where it is taken away.
    pivot_root(".", ".").map_err(step("making the image the root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(step("letting go of the host's root"))?;
    chdir("/").map_err(step("entering the root"))
}

/// Where the container sees its sandbox, which is `sandbox` outside.
pub(super) fn sandbox_inside<'a>(order: &Order, sandbox: &'a Path) -> &'a Path {
    if order.spec.root.is_some() { Path::new(SANDBOX_IN_IMAGE) } else { sandbox }
}
