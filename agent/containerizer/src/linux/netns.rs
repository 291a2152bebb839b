//! Network namespaces: one of the container's own, or one that is a file, which outlives whoever made it.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    mount::{MountFlags, mount_bind},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{
    mounts::{INERT, Tree},
    note,
    place::{self, Links},
    sys,
};
use crate::{
    folder::{Failure, Order},
    spec::NetworkSpec,
};

/// The word before what is to be done with a network namespace: `make FILE`, or `enter FILE PROGRAM ARGUMENT…`.
pub(crate) const NETNS: &str = "netns";

const FILE: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC);

/// A helper's whole life, unless it becomes the program that it is to start.
pub(super) fn main(words: &[OsString]) -> ExitCode {
    let done = match words {
        [word, file] if word == "make" => make(Path::new(file)),
        [word, file, program, arguments @ ..] if word == "enter" => {
            join(Path::new(file)).and_then(|()| Err(Command::new(program).args(arguments).exec()))
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            note(e);
            ExitCode::FAILURE
        }
    }
}

/// Makes a namespace and mounts it on a file, which is made. It has a loopback, and lives as long as the mount.
fn make(file: &Path) -> io::Result<()> {
    File::options().write(true).create_new(true).open(file)?;
    sys::leave_network()?;
    sys::raise_loopback()?;
    mount_bind("/proc/self/ns/net", file)?;
    Ok(())
}

fn join(file: &Path) -> io::Result<()> {
    let namespace = open(file, FILE, Mode::empty())?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// What is cloned for a container with a network that no file is.
pub(super) fn birth_flags(order: &Order) -> libc::c_int {
    match &order.spec.network {
        Some(NetworkSpec { namespace: None, .. }) => libc::CLONE_NEWNET,
        _ => 0,
    }
}

/// Has this process, in which [`birth_flags`] have been cloned, be in the container's network.
pub(super) fn enter(network: &NetworkSpec) -> Result<(), Failure> {
    match &network.namespace {
        None => sys::raise_loopback().map_err(|e| Failure::setup("bringing up the loopback", e)),
        Some(file) => join(file).map_err(|e| {
            Failure::network(format_args!("cannot be entered at {file:?}: {e}; was it removed meanwhile?"))
        }),
    }
}

/// Lets every user of this process's network do what else only a user with power over it might, as Docker does: listen on low ports, and ping.
///
/// A network without these settings (IPv4) is left as it is.
pub(super) fn open_to_all() {
    for (setting, value) in [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")] {
        let _ = fs::write(Path::new("/proc/sys/net/ipv4").join(setting), value);
    }
}

/// What a container without an image sees in place of some files of the host's `/etc`; taken before they are covered.
pub(super) struct EtcFiles(Vec<(PathBuf, Tree)>);

impl EtcFiles {
    pub(super) fn take(order: &Order) -> Result<EtcFiles, Failure> {
        // An image has them written into it.
        let network = order.spec.network.as_ref().filter(|_| order.spec.root.is_none());
        let files = network.into_iter().flat_map(|network| &network.etc);
        let taken = files.map(|(name, source)| {
            let failed = |e: Errno| Failure::network(format_args!("has no {source:?}: {e}"));
            let file: OwnedFd =
                open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
            let tree = Tree::of(&file).map_err(failed)?;
            Ok::<_, Failure>((Path::new("/etc").join(name), tree))
        });
        Ok(EtcFiles(taken.collect::<Result<_, _>>()?))
    }

    pub(super) fn mount(self, root: &OwnedFd) -> Result<(), Failure> {
        for (path, tree) in self.0 {
            let failed = |e: io::Error| Failure::setup(format!("mounting {}", path.display()), e);
            match place::open(root, &path, Links::Inside) {
                // The host has none, and its root is not to be changed.
                Err(Errno::NOENT) => {}
                Err(e) => return Err(failed(e.into())),
                Ok(target) => tree.attach(&target, INERT | MountFlags::RDONLY).map_err(failed)?,
            }
        }
        Ok(())
    }
}
