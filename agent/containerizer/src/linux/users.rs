//! Users of its own: a user namespace in which even root is nobody on the machine.
//!
//! What else a container has is made with root's power and belongs to the machine's user namespace; its process 1 enters its own last, so
//! that nothing in the container has power over its mounts or its other namespaces. Mounts translate owners (`mount_setattr(2)`): on
//! disk, what a container writes belongs to whom its tasks see, and whoever mounts it next finds the same.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Gid, Mode, OFlags, Uid, fchown, open},
    io::Errno,
    mount::MountFlags,
    pipe::{PipeFlags, pipe_with},
    thread::{
        LinkNameSpaceType, capabilities, move_into_link_name_space, set_capabilities, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};

use super::{
    mounts::Tree,
    sys::{self, Copy},
};
use crate::{
    folder::{Failure, Order},
    spec::{ImageRoot, MountSource},
    users::UserRange,
};

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A container's user namespace, before its process 1 is in it.
pub(super) struct Users {
    range: UserRange,
    namespace: OwnedFd,
}

impl Users {
    /// Makes what an order asks for.
    pub(super) fn of(order: &Order) -> Result<Option<Users>, Failure> {
        let Some(range) = order.users else { return Ok(None) };
        let namespace = make(range).map_err(|e| Failure::setup("making a user namespace", e))?;
        Ok(Some(Users { range, namespace }))
    }

    /// What is to be kept open until [`Users::enter`].
    pub(super) fn descriptor(&self) -> RawFd {
        self.namespace.as_raw_fd()
    }

    /// Has what the calling process makes from here on belong to the container's root; it may still do whatever it could.
    pub(super) fn make_files_as_root(&self) -> Result<(), Failure> {
        let failed = |e| Failure::setup("making files as the container's root", e);
        let held = capabilities(None).map_err(failed)?;
        sys::make_files_as(self.range.first());
        // With the user the kernel has taken away what concerns files.
        set_capabilities(None, held).map_err(failed)
    }

    /// Translates the owners of all that a container has of the agent. Only in a mount namespace of its own, and before any of it is
    /// opened.
    pub(super) fn cover(&self, order: &Order, sandbox: &Path) -> Result<(), Failure> {
        let mut covered: Option<&Path> = None;
        for folder in folders(order, sandbox) {
            // In order, so that what lies in a folder follows it.
            if covered.is_none_or(|above| !folder.starts_with(above)) {
                self.cover_folder(folder).map_err(|e| untranslated(folder, &e))?;
                covered = Some(folder);
            }
        }
        Ok(())
    }

    fn cover_folder(&self, path: &Path) -> io::Result<()> {
        let folder = open(path, FOLDER, Mode::empty())?;
        let tree = Tree::of(&folder)?;
        sys::translate_owners(tree.as_fd(), self.namespace.as_fd())?;
        tree.attach(&folder, MountFlags::empty())
    }

    /// Gives a descriptor that the runner made to the container's root.
    pub(super) fn own(&self, descriptor: &OwnedFd) -> Result<(), Failure> {
        let (uid, gid) = (Uid::from_raw(self.range.first()), Gid::from_raw(self.range.first()));
        fchown(descriptor, Some(uid), Some(gid))
            .map_err(|e| Failure::setup("giving its output to the container", e))
    }

    /// Makes the calling process the container's root. What it was told to end with is forgotten with its user.
    pub(super) fn enter(&self) -> Result<(), Failure> {
        move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::User))
            .map_err(|e| Failure::setup("entering the user namespace", e))?;
        become_root()
    }
}

/// Makes a process that has entered a container's user namespace its root.
pub(super) fn become_root() -> Result<(), Failure> {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_groups(&[])
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .map_err(|e| Failure::setup("becoming the container's root", e))
}

/// Translates the owners of what lies at `path` and is seen through a mount that is not attached yet, where a container has users of its own.
pub(super) fn translate(users: Option<&Users>, tree: &Tree, path: &Path) -> Result<(), Failure> {
    let translated = users.map(|users| sys::translate_owners(tree.as_fd(), users.namespace.as_fd()));
    translated.transpose().map(drop).map_err(|e| untranslated(path, &e))
}

fn untranslated(path: &Path, error: &io::Error) -> Failure {
    let what = match Errno::from_io_error(error) {
        Some(Errno::INVAL) => "its file system does not translate owners (it may be too old, or not a local one such as ext4 or xfs)".to_owned(),
        Some(Errno::NOSYS) => "the kernel does not translate owners; Linux 5.12 or later is needed".to_owned(),
        _ => error.to_string(),
    };
    let remedy = "leave the agent's setting `userns` out, or keep it elsewhere";
    Failure::Volume {
        path: path.display().to_string(),
        what: format!("cannot be given to users of a container's own: {what}; {remedy}"),
    }
}

/// What the containerizer makes for a container, or was given for it, to be written or laid under its root.
fn folders<'a>(order: &'a Order, sandbox: &'a Path) -> BTreeSet<&'a Path> {
    let image = |image: &'a ImageRoot| image.layers.iter().chain([&image.scratch]).map(PathBuf::as_path);
    let spec = &order.spec;
    let mut folders = BTreeSet::from([sandbox]);
    folders.extend(spec.root.iter().flat_map(image));
    folders.extend(spec.persistent.iter().map(|volume| volume.source.as_path()));
    for mount in &spec.mounts {
        match &mount.source {
            MountSource::Shared { within, .. } => folders.extend([within.as_path()]),
            MountSource::Image(root) => folders.extend(image(root)),
            // By themselves, once they are opened, those of the host only if lent; in the sandbox; its own from the beginning.
            MountSource::Host(_)
            | MountSource::Agent(_)
            | MountSource::Sandbox(_)
            | MountSource::Tmpfs { .. } => {}
        }
    }
    folders
}

/// A namespace is made by a process that is in it, and told its users by one that is not.
fn make(range: UserRange) -> io::Result<OwnedFd> {
    let (hold, release) = pipe_with(PipeFlags::CLOEXEC)?;
    let holder = match sys::copy(libc::CLONE_NEWUSER)? {
        Copy::Parent { child } => child,
        Copy::Child => {
            drop(release);
            // Until it is let go, or there is nobody any more to do so.
            let _ = File::from(hold).read(&mut [0]);
            sys::exit_now(0)
        }
    };
    let ids = format!("0 {} {}", range.first(), UserRange::COUNT);
    let made = fs::write(format!("/proc/{holder}/uid_map"), &ids)
        .and_then(|()| fs::write(format!("/proc/{holder}/gid_map"), &ids))
        .and_then(|()| File::open(format!("/proc/{holder}/ns/user")));
    drop(release);
    sys::reap(holder, true);
    made.map(OwnedFd::from)
}
