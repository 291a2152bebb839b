//! One layer of an image: a tar of what it adds, changes and takes away, unpacked as overlayfs wants it.

use std::{fs::File, io::Read, os::fd::AsFd as _, path::Path};

use rustix::{fs, io::Errno};
use tokio_util::sync::CancellationToken;

use crate::{
    digest::{Digest, Hashing},
    tar::{Entry, Kind, Tar},
    tree::{self, Attributes, Links, Node, Tree, Was},
    unpack::{Bounded, Budget, UnpackError, decompressed},
};

/// What begins the name of a whiteout: the rest of the name is gone.
const WHITEOUT: &[u8] = b".wh.";

/// What begins the name of something that aufs once kept there.
const AUFS: &[u8] = b".wh..wh.";

/// A folder that hides what lies under it.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Which owners, devices and attributes this process can give to files; what mounts the layers later must be told likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// All. Opaque folders are marked by `trusted.overlay.opaque`.
    Full,
    /// Its own only, no devices. Opaque folders are marked by `user.overlay.opaque`, for mounts with `userxattr`.
    Own,
}

impl Rights {
    /// What can be done in this folder.
    pub(crate) fn probe(folder: &Path) -> std::io::Result<Rights> {
        let folder = File::open(folder)?;
        let name = "trusted.apportion.probe";
        match fs::fsetxattr(&folder, name, b"y", fs::XattrFlags::empty()) {
            Ok(()) => {
                fs::fremovexattr(&folder, name)?;
                Ok(if rustix::process::geteuid().is_root() { Rights::Full } else { Rights::Own })
            }
            Err(_) => Ok(Rights::Own),
        }
    }

    fn opaque(self) -> &'static str {
        match self {
            Rights::Full => "trusted.overlay.opaque",
            Rights::Own => "user.overlay.opaque",
        }
    }

    /// Attributes that a layer may give to its files; those of overlayfs itself would lead out of the layer.
    fn allow(self, attribute: &[u8]) -> bool {
        let user = attribute.starts_with(b"user.") && !attribute.starts_with(b"user.overlay.");
        let privileged = attribute == b"security.capability" || attribute.starts_with(b"system.posix_acl_");
        user || (privileged && self == Rights::Full)
    }
}

/// What came of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// About what it takes on disk.
    pub(crate) bytes: u64,
    /// True when it hides all that lies under it.
    pub(crate) opaque: bool,
}

/// What is to be unpacked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// The digest of the file as it is, if that is known.
    pub(crate) blob: Option<Digest>,
    /// The digest of the tar in it.
    pub(crate) diff_id: Digest,
    pub(crate) bytes_max: u64,
}

/// Unpacks a layer into an empty folder, and has it on disk when it returns. On error the folder holds a part of it.
pub(crate) fn unpack(
    blob: impl Read,
    expected: Expected,
    into: &Path,
    rights: Rights,
    cancel: &CancellationToken,
) -> Result<Unpacked, UnpackError> {
    let budget = Budget::new(expected.bytes_max);
    let read = |error| UnpackError::read(error, expected.bytes_max);
    let folder = |source: std::io::Error| UnpackError::Folder { path: into.to_owned(), source };
    let mut blob = Hashing::new(blob);
    let mut layer = Layer { tree: Tree::open(into, Links::InRoot).map_err(folder)?, rights, opaque: false };
    let diff_id = {
        let inner = decompressed(&mut blob).map_err(read)?;
        let mut tar = Tar::new(Hashing::new(Bounded { inner, budget: budget.clone(), cancel }));
        while let Some(entry) = tar.next().map_err(read)? {
            budget.take_entry()?;
            layer.entry(&entry, &mut tar, expected.bytes_max)?;
        }
        tar.into_rest().finish().map_err(read)?
    };
    check("digest of the unpacked layer", expected.diff_id, diff_id)?;
    if let Some(expected) = expected.blob {
        check("digest", expected, blob.finish().map_err(read)?)?;
    }
    let opaque = layer.opaque;
    let root = layer.tree.finish().map_err(|error| folder(error.into()))?;
    fs::syncfs(root.as_fd()).map_err(|error| folder(error.into()))?;
    Ok(Unpacked { bytes: budget.taken(), opaque })
}

fn check(what: &'static str, expected: Digest, found: Digest) -> Result<(), UnpackError> {
    match expected == found {
        true => Ok(()),
        false => Err(UnpackError::Digest { what, expected: expected.to_string(), found: found.to_string() }),
    }
}

/// A layer under way.
struct Layer {
    tree: Tree,
    rights: Rights,
    opaque: bool,
}

impl Layer {
    fn entry(&mut self, entry: &Entry, content: &mut impl Read, bytes_max: u64) -> Result<(), UnpackError> {
        let path = tree::plain(&entry.path)?;
        let done = match tree::split(&path) {
            (folder, OPAQUE) => self.hide_all(folder),
            (_, name) if name.starts_with(AUFS) => Ok(()),
            (folder, name) if name.starts_with(WHITEOUT) => {
                let hidden = &name[WHITEOUT.len()..];
                if matches!(hidden, b"" | b"." | b"..") {
                    return Err(UnpackError::entry(&entry.path, "takes away what has no name"));
                }
                self.hide(&[folder, hidden].join(&b'/'))
            }
            _ => return self.add(&path, entry, content, bytes_max),
        };
        done.map_err(|error| failure(&entry.path, error))
    }

    /// What lies at this path in lower layers is gone.
    fn hide(&mut self, path: &[u8]) -> rustix::io::Result<()> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        match self.tree.whiteout(path)? {
            // The layer has one of its own: only that is seen.
            Was::Folder => self.tree.mark(path, self.rights.opaque(), b"y"),
            Was::Nothing | Was::Whiteout | Was::Other => Ok(()),
        }
    }

    /// What lies in this folder in lower layers is gone.
    fn hide_all(&mut self, folder: &[u8]) -> rustix::io::Result<()> {
        // The kernel does not look at the mark of a layer's own folder.
        self.opaque |= folder.is_empty();
        self.tree.mark(folder, self.rights.opaque(), b"y")
    }

    fn add(
        &mut self,
        path: &[u8],
        entry: &Entry,
        content: &mut impl Read,
        bytes_max: u64,
    ) -> Result<(), UnpackError> {
        let id = |id: u64| {
            u32::try_from(id).map_err(|_| UnpackError::entry(&entry.path, "has an owner that cannot be"))
        };
        let owner = match self.rights {
            Rights::Full => Some((id(entry.uid)?, id(entry.gid)?)),
            Rights::Own => None,
        };
        let xattrs: Vec<_> =
            entry.xattrs.iter().filter(|(name, _)| self.rights.allow(name)).cloned().collect();
        let attributes =
            Attributes { mode: entry.mode, owner, modified: Some(entry.modified), xattrs: &xattrs };
        let tree = &mut self.tree;
        let done = match &entry.kind {
            Kind::Folder => tree.folder(path, &attributes).and_then(|was_hidden| match was_hidden {
                true => tree.mark(path, self.rights.opaque(), b"y"),
                false => Ok(()),
            }),
            Kind::File => match tree.file(path, &attributes, content) {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) if error.raw_os_error().is_some() => {
                    return Err(UnpackError::write(&entry.path, error));
                }
                Ok(Err(error)) => return Err(UnpackError::read(error, bytes_max)),
                Err(error) => Err(error),
            },
            Kind::Symlink(to) => tree.symlink(path, to, &attributes),
            Kind::HardLink(to) => match tree.hard_link(path, &tree::plain(to)?) {
                Err(Errno::NOENT) => {
                    return Err(UnpackError::entry(
                        &entry.path,
                        "is another name of a file that its layer does not have",
                    ));
                }
                linked => linked,
            },
            Kind::Char(..) | Kind::Block(..) if self.rights == Rights::Own => Ok(()),
            Kind::Char(major, minor) => tree.node(path, Node::Char(*major, *minor), &attributes),
            Kind::Block(major, minor) => tree.node(path, Node::Block(*major, *minor), &attributes),
            Kind::Fifo => tree.node(path, Node::Fifo, &attributes),
            Kind::Other => {
                let why = "is of a kind that is not unpacked (sparse, or unknown); build the image with another tool";
                return Err(UnpackError::entry(&entry.path, why));
            }
        };
        done.map_err(|error| failure(&entry.path, error))
    }
}

/// Whose fault an entry's failure is: that of a path that can be none, or this machine's.
fn failure(path: &[u8], error: Errno) -> UnpackError {
    match error {
        Errno::NOTDIR => UnpackError::entry(path, "lies below something that is not a folder"),
        Errno::LOOP => UnpackError::entry(path, "lies below links that lead in circles"),
        Errno::ISDIR => UnpackError::entry(path, "would take the place of the layer itself"),
        Errno::NAMETOOLONG => UnpackError::entry(path, "has a name that is too long"),
        Errno::EXIST => UnpackError::entry(path, "lies below a link that leads nowhere"),
        Errno::NOENT | Errno::INVAL => UnpackError::entry(path, "cannot be made as it is described"),
        error => UnpackError::write(path, error),
    }
}
