//! What a task sees beside its root and its sandbox: of the host, of its sandbox, of images, memory, persistent volumes.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, open as open_at},
    io::Errno,
    mount::MountFlags,
};

use super::{
    accounts, image,
    mounts::{self, PLAIN, Tree},
    oci,
    place::{self, Links},
    users::{self, Users},
};
use crate::{
    folder::{Failure, Order},
    spec::{Mount, MountSource, PersistentVolume},
};

/// What every task without an image has of its own; only there does a path of the host need a mount to be seen.
const COVERED: [&str; 2] = ["/tmp", "/var/tmp"];

/// Never shown: through the sockets and devices there a task would reach what isolation keeps from it.
const FORBIDDEN: [&str; 4] = ["/run", "/dev", "/proc", "/sys"];

const KERNEL: &str = "leads into /proc or /sys, where nothing is mounted; choose another path";

/// How a folder of the host is opened that is to be no link.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

const SYSFS_MAGIC: FsWord = 0x6265_6572;

/// A volume, taken before anything was laid over it.
pub(super) struct Volume<'a> {
    /// Absolute, or relative to the sandbox.
    target: &'a Path,
    source: Source,
    writable: bool,
}

enum Source {
    Folder(Tree),
    File(Tree),
    Memory { bytes: u64 },
}

/// Checks and takes all of them, in the order in which they are to be mounted: each before those that lie in it.
pub(super) fn take<'a>(
    order: &'a Order,
    inside: &Path,
    sandbox: &OwnedFd,
    users: Option<&Users>,
) -> Result<Vec<Volume<'a>>, Failure> {
    let mut taken = Vec::new();
    for mount in &order.spec.mounts {
        if inside.starts_with(&mount.target) && !seen_anyway(order, mount) {
            return Err(refuse(&mount.target, "would lie over the sandbox; choose another path"));
        }
        if ["/proc", "/sys"].iter().any(|own| mount.target.starts_with(own)) && !seen_anyway(order, mount) {
            return Err(refuse(&mount.target, KERNEL));
        }
        if order.runtime.is_some() && oci::is_runtimes(mount) {
            match mount.source {
                MountSource::Tmpfs { .. } => continue,
                _ => {
                    let what = "is in /dev, where an OCI runtime mounts memory alone; choose another path";
                    return Err(refuse(&mount.target, what));
                }
            }
        }
        let source = match &mount.source {
            MountSource::Host(path) => {
                let host = host(path, mount, order);
                let Some(source) = host.map_err(|what| refuse(path, what))? else { continue };
                // What is merely shown is read as anybody does: only what is lent is the container's.
                if mount.writable
                    && let Source::Folder(tree) | Source::File(tree) = &source
                {
                    users::translate(users, tree, path)?;
                }
                source
            }
            MountSource::Sandbox(path) => {
                let folder = place::make_folder(sandbox, path, Links::Refused);
                let tree = folder.and_then(|folder| Tree::of(&folder));
                Source::Folder(
                    tree.map_err(|e| refuse(path, format_args!("cannot be made in the sandbox: {e}")))?,
                )
            }
            MountSource::Shared { within, path } => {
                let tree = shared(within, path);
                let what = |e| format!("cannot be made in what the task group shares: {e}");
                Source::Folder(tree.map_err(|e| refuse(path, what(e)))?)
            }
            MountSource::Agent(path) => {
                accounts::give_folder(order, path)?;
                let tree = open_at(path, FOLDER, Mode::empty()).and_then(|folder| Tree::of(&folder));
                let tree = tree.map_err(|e| refuse(path, format_args!("cannot be opened: {e}")))?;
                users::translate(users, &tree, path)?;
                Source::Folder(tree)
            }
            MountSource::Tmpfs { bytes } => Source::Memory { bytes: *bytes },
            MountSource::Image(image) => {
                let tree = Tree::of(&image::overlay(image, order)?);
                Source::Folder(tree.map_err(|e| refuse(&mount.target, format_args!("cannot be taken: {e}")))?)
            }
        };
        let writable = mount.writable || matches!(source, Source::Memory { .. });
        taken.push(Volume { target: &mount.target, source, writable });
    }
    for volume in &order.spec.persistent {
        taken.push(persistent(volume)?);
    }
    taken.sort_by_key(|volume| inside.join(volume.target));
    Ok(taken)
}

fn refuse(path: &Path, what: impl ToString) -> Failure {
    Failure::Volume { path: path.display().to_string(), what: what.to_string() }
}

/// True for what is in the host's root, where the task without an image sees it without our doing.
fn seen_anyway(order: &Order, mount: &Mount) -> bool {
    let MountSource::Host(path) = &mount.source else { return false };
    let plain = order.spec.root.is_none() && !mount.writable && *path == mount.target;
    plain && !COVERED.iter().any(|covered| path.starts_with(covered))
}

/// A folder or file of the host; none when there is nothing to be mounted.
fn host(path: &Path, mount: &Mount, order: &Order) -> Result<Option<Source>, String> {
    let not_there = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => "does not exist on this agent's machine".to_owned(),
        _ => format!("cannot be opened: {e}"),
    };
    let opened =
        open_at(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|e| not_there(e.into()))?;
    // Judged by where it has led: a link is no way around the rules, whoever may change it meanwhile.
    let real = fs::read_link(mounts::by_descriptor(&opened)).map_err(not_there)?;
    if let Some(root) = FORBIDDEN.iter().find(|root| real.starts_with(root)) {
        return Err(format!("leads into {root}, which no task is shown"));
    }
    if order.hidden.iter().any(|hidden| real.starts_with(hidden) || hidden.starts_with(&real)) {
        return Err(
            "is or holds a folder of the agent, which no task is shown; name one inside or beside it"
                .to_owned(),
        );
    }
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&opened).map_err(|e| not_there(e.into()))?.st_mode);
    if !kind.is_dir() && !kind.is_file() {
        return Err("is neither a folder nor a plain file".to_owned());
    }
    if order.spec.root.is_none() && *path == mount.target && COVERED.iter().any(|own| path == Path::new(own))
    {
        return Err("is a folder that every task has of its own; name what is to be read in it".to_owned());
    }
    let lent = |folder: &PathBuf| fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder));
    if mount.writable && !order.lendable.iter().any(lent) {
        return Err(
            "may not be written to: it is in no folder that this agent lends; start the agent with --lend-host-path for one, or ask for it read-only"
                .to_owned(),
        );
    }
    if seen_anyway(order, mount) {
        return Ok(None);
    }
    let tree = Tree::of(&opened).map_err(|e| match e {
        // What lies under them would come to light.
        Errno::INVAL => {
            "holds mounts that an ordinary user may not leave out; name a folder below it".to_owned()
        }
        e => format!("cannot be mounted: {e}"),
    })?;
    Ok(Some(if kind.is_dir() { Source::Folder(tree) } else { Source::File(tree) }))
}

/// A folder in one whose content other containers may have written. Which of them made it, and what they made of it since, is no matter.
fn shared(within: &Path, path: &Path) -> Result<Tree, Errno> {
    let within = open_at(within, FOLDER, Mode::empty())?;
    Tree::of(&place::make_open_folder(&within, path, Links::Refused)?)
}

fn persistent(volume: &PersistentVolume) -> Result<Volume<'_>, Failure> {
    if volume.path.is_absolute() {
        return Err(refuse(&volume.path, "is not a plain path below the sandbox"));
    }
    let opened = open_at(&volume.source, FOLDER, Mode::empty());
    let tree = opened.and_then(|folder| Tree::of(&folder));
    let tree = tree.map_err(|e| refuse(&volume.path, format_args!("cannot be opened: {e}")))?;
    Ok(Volume { target: &volume.path, source: Source::Folder(tree), writable: true })
}

impl Volume<'_> {
    /// Mounts it in `root`, where the sandbox is at `inside`.
    pub(super) fn mount(&self, root: &OwnedFd, inside: &Path) -> Result<(), Failure> {
        let target = self.make_target(root, inside)?;
        let flags = if self.writable { PLAIN } else { PLAIN | MountFlags::RDONLY };
        let failed = |e: io::Error| refuse(self.target, format_args!("cannot be mounted: {e}"));
        match &self.source {
            Source::Folder(tree) | Source::File(tree) => tree.attach(&target, flags).map_err(failed),
            Source::Memory { bytes } => {
                let options = format!("mode=1777,size={bytes}");
                mounts::fresh("tmpfs", target.as_fd(), flags, &options).map_err(|e| failed(e.into()))
            }
        }
    }

    /// What it is mounted on, made where it is missing.
    ///
    /// The way there may lead through what an image holds, or through a volume which another container writes to at the same time:
    /// below the sandbox no link is followed, elsewhere none out of the root.
    fn make_target(&self, root: &OwnedFd, inside: &Path) -> Result<OwnedFd, Failure> {
        let make = |below: &OwnedFd, links| match self.source {
            Source::File(_) => place::make_file(below, self.target, links),
            _ => place::make_folder(below, self.target, links),
        };
        let made = if self.target.is_absolute() {
            make(root, Links::Inside)
        } else {
            place::open(root, inside, Links::Inside).and_then(|sandbox| make(&sandbox, Links::Refused))
        };
        let target = made.map_err(|e| {
            let why = match e {
                Errno::ROFS => "it does not exist, and the host's files are read-only to tasks; name a path that exists, or one in the sandbox, or use an image".to_owned(),
                e => format!("a part of its path is no folder or a link, or cannot be made: {e}"),
            };
            refuse(self.target, format_args!("has no mount point: {why}"))
        })?;
        let system = fstatfs(&target).map_err(|e| refuse(self.target, e))?.f_type;
        // By its place too: an OCI runtime mounts them only later.
        let real =
            |descriptor| fs::read_link(mounts::by_descriptor(descriptor)).map_err(|e| refuse(self.target, e));
        let (top, place) = (real(root)?, real(&target)?);
        if [PROC_SUPER_MAGIC as FsWord, SYSFS_MAGIC].contains(&system)
            || ["proc", "sys"].iter().any(|own| place.starts_with(top.join(own)))
        {
            return Err(refuse(self.target, KERNEL));
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::symlink};

    use super::*;
    use crate::{
        cgroup::Layout,
        folder::Isolation,
        spec::{ContainerId, ContainerSpec, Limits},
    };

    fn order(sandbox: &Path, mounts: Vec<Mount>, hidden: &[PathBuf], lendable: &[PathBuf]) -> Order {
        let limits = Limits {
            cpus_request_milli: 0,
            cpus_limit_milli: None,
            memory_request_bytes: 0,
            memory_limit_bytes: None,
            swap_max_bytes: 0,
            pids_max: None,
            io: apportion_types::IoLimits::NONE,
            cores: None,
            huge_pages: apportion_types::HugePages::NONE,
        };
        let spec = ContainerSpec {
            id: ContainerId("c".into()),
            argv: vec!["true".into()],
            env: BTreeMap::new(),
            sandbox: sandbox.to_owned(),
            output: None,
            root: None,
            user: None,
            working_dir: None,
            mounts,
            rlimits: Vec::new(),
            persistent: Vec::new(),
            network: None,
            limits,
            tethered: false,
        };
        Order {
            spec,
            isolation: Isolation::Namespaces,
            layout: Layout::default(),
            group: PathBuf::new(),
            hidden: hidden.to_vec(),
            lendable: lendable.to_vec(),
            runtime: None,
            users: None,
            trial: false,
        }
    }

    #[test]
    fn only_what_may_be_seen_is_taken() {
        let place = tempfile::tempdir_in("/tmp").unwrap();
        let sandbox = place.path().join("sandbox");
        let agent = place.path().join("agent");
        let lent = place.path().join("lent");
        for folder in [&sandbox, &agent, &lent] {
            fs::create_dir(folder).unwrap();
        }
        let link = place.path().join("link");
        symlink("/proc/self", &link).unwrap();
        let hidden = [agent.clone()];
        let fd = open_at(&sandbox, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let taken = |path: &Path, target: &Path, writable| {
            let mount =
                Mount { source: MountSource::Host(path.to_owned()), target: target.to_owned(), writable };
            let order = order(&sandbox, vec![mount], &hidden, std::slice::from_ref(&lent));
            take(&order, &sandbox, &fd, None).map(|volumes| volumes.len())
        };
        assert_eq!(taken(Path::new("/etc"), Path::new("/etc"), false).unwrap(), 0, "it is seen anyway");
        let (etc, data) = (Path::new("/etc"), Path::new("data"));
        for (path, target, writable, why) in [
            (place.path().join("none"), data, false, "does not exist"),
            (link, data, false, "leads into /proc"),
            (PathBuf::from("/dev/null"), data, false, "leads into /dev"),
            (agent.clone(), data, false, "a folder of the agent"),
            (place.path().to_owned(), data, false, "a folder of the agent"),
            (agent.join("none"), data, false, "does not exist"),
            (PathBuf::from("/var/tmp"), Path::new("/var/tmp"), false, "of its own"),
            (PathBuf::from("/etc"), data, true, "--lend-host-path"),
            (lent.join("../sandbox"), data, true, "--lend-host-path"),
            (PathBuf::from("/etc"), sandbox.parent().unwrap(), false, "over the sandbox"),
            (PathBuf::from("/etc"), etc, true, "--lend-host-path"),
        ] {
            match taken(&path, target, writable) {
                Err(Failure::Volume { what, .. }) => assert!(what.contains(why), "{path:?}: {what}"),
                other => panic!("{}: {other:?}", path.display()),
            }
        }
    }
}
