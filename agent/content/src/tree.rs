//! Files written below one folder and nowhere else, by paths that somebody else chose.
//!
//! Every path is resolved by the kernel (`openat2`) with the folder as the end of the world; only the last part of a path is ever
//! named in a call that changes something, and never followed.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{
        self, AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
        XattrFlags,
    },
    io::Errno,
};

use crate::{remove::remove_at, unpack::UnpackError};

/// What a link on the way means that leads out of the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// The folder is taken for the root of the file system.
    InRoot,
    /// It is refused.
    Beneath,
}

/// What a file has beside its content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a> {
    /// Permissions, with the bits for set-id and sticky.
    pub(crate) mode: u32,
    /// User and group; the process's own when none.
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) modified: Option<(i64, u32)>,
    pub(crate) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// What a path stood for before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Was {
    Nothing,
    Folder,
    /// A character device 0:0.
    Whiteout,
    Other,
}

/// A file that is neither a folder nor a regular one nor a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// A folder to write below. Nobody else may change it meanwhile.
pub(crate) struct Tree {
    root: OwnedFd,
    resolve: ResolveFlags,
    /// The folder of the newest path: the next one mostly is beside it.
    parent: Option<Parent>,
}

struct Parent {
    path: Vec<u8>,
    folder: OwnedFd,
    /// What is written to it changes its time, which is as it was described.
    modified: Timespec,
}

/// A path without `.`, empty parts, and slashes at its ends; refused when it goes up or cannot be a path at all.
pub(crate) fn plain(path: &[u8]) -> Result<Vec<u8>, UnpackError> {
    if path.len() > apportion_types::limits::PATH_BYTES_MAX || path.contains(&0) {
        return Err(UnpackError::entry(path, "has a name that no file can have"));
    }
    let parts: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| !matches!(**part, [] | [b'.'])).collect();
    match parts.contains(&&b".."[..]) {
        true => Err(UnpackError::entry(path, "leads out of its folder (`..`)")),
        false => Ok(parts.join(&b'/')),
    }
}

/// A plain path's folder and its last part.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

impl Tree {
    /// Takes this folder. Folders on the way to a path that are missing will be made.
    pub(crate) fn open(path: &Path, links: Links) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = fs::openat(CWD, path, flags, Mode::empty())?;
        let resolve = ResolveFlags::NO_MAGICLINKS
            | match links {
                Links::InRoot => ResolveFlags::IN_ROOT,
                Links::Beneath => ResolveFlags::BENEATH,
            };
        Ok(Self { root, resolve, parent: None })
    }

    /// Makes a folder, or describes one that is there anew; true when it replaced a whiteout. The empty path is the tree's own.
    pub(crate) fn folder(&mut self, path: &[u8], attributes: &Attributes<'_>) -> rustix::io::Result<bool> {
        let attributes = &Attributes { mode: attributes.mode | self.searchable(), ..*attributes };
        if path.is_empty() {
            self.parent = None;
            describe(&self.root, attributes)?;
            return Ok(false);
        }
        let (_, name) = split(path);
        let was = self.make_way(path, true)?;
        let parent = self.entered();
        if was != Was::Folder {
            fs::mkdirat(parent, name, Mode::RWXU)?;
        }
        let folder = open_folder_at(parent, name)?;
        describe(&folder, attributes)?;
        Ok(was == Was::Whiteout)
    }

    /// Makes a file and says how much it holds.
    pub(crate) fn file(
        &mut self,
        path: &[u8],
        attributes: &Attributes<'_>,
        content: &mut impl Read,
    ) -> Result<io::Result<u64>, Errno> {
        self.make_way(path, false)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(self.entered(), split(path).1, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(file);
        let copied = match io::copy(content, &mut file) {
            Ok(copied) => copied,
            Err(error) => return Ok(Err(error)),
        };
        describe(&file, attributes)?;
        Ok(Ok(copied))
    }

    /// Makes a symbolic link. What it says is not looked at.
    pub(crate) fn symlink(
        &mut self,
        path: &[u8],
        to: &[u8],
        attributes: &Attributes<'_>,
    ) -> rustix::io::Result<()> {
        self.make_way(path, false)?;
        let (parent, name) = (self.entered(), split(path).1);
        fs::symlinkat(to, parent, name)?;
        describe_at(parent, name, attributes)
    }

    /// Gives a file of the tree, not a folder, another name.
    pub(crate) fn hard_link(&mut self, path: &[u8], to: &[u8]) -> rustix::io::Result<()> {
        let (folder, name) = split(to);
        let folder = self.open_folder(folder)?;
        // A name for itself is there already.
        let same = |a: &fs::Stat, b: &fs::Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        let target = fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.enter(split(path).0)?;
        if fs::statat(self.entered(), split(path).1, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|at| same(&at, &target))
        {
            return Ok(());
        }
        self.make_way(path, false)?;
        fs::linkat(&folder, name, self.entered(), split(path).1, AtFlags::empty())
    }

    /// Makes a device or a named pipe.
    pub(crate) fn node(
        &mut self,
        path: &[u8],
        node: Node,
        attributes: &Attributes<'_>,
    ) -> rustix::io::Result<()> {
        self.make_way(path, false)?;
        let (parent, name) = (self.entered(), split(path).1);
        let (kind, device) = match node {
            Node::Char(major, minor) => (FileType::CharacterDevice, fs::makedev(major, minor)),
            Node::Block(major, minor) => (FileType::BlockDevice, fs::makedev(major, minor)),
            Node::Fifo => (FileType::Fifo, 0),
        };
        fs::mknodat(parent, name, kind, Mode::empty(), device)?;
        // The order matters: a change of the owner takes bits of the mode away.
        describe_at(parent, name, attributes)?;
        fs::chmodat(parent, name, Mode::from_raw_mode(attributes.mode), AtFlags::empty())
    }

    /// Has a path hide what lies under it in lower layers, unless something of this layer does so already; says what was there.
    pub(crate) fn whiteout(&mut self, path: &[u8]) -> rustix::io::Result<Was> {
        let (folder, name) = split(path);
        self.enter(folder)?;
        let was = self.what_is(name)?;
        if was == Was::Nothing {
            fs::mknodat(self.entered(), name, FileType::CharacterDevice, Mode::empty(), fs::makedev(0, 0))?;
        }
        Ok(was)
    }

    /// Sets an extended attribute of a folder; the empty path is the tree's own. Missing folders are made.
    pub(crate) fn mark(&mut self, path: &[u8], name: &str, value: &[u8]) -> rustix::io::Result<()> {
        self.enter(path)?;
        fs::fsetxattr(self.entered(), name, value, XattrFlags::empty())
    }

    /// Sets the times of the last folder written to; to be called at the end.
    pub(crate) fn finish(mut self) -> rustix::io::Result<OwnedFd> {
        self.leave()?;
        Ok(self.root)
    }

    /// A folder that its owner may not enter cannot be filled, but by root.
    fn searchable(&self) -> u32 {
        if rustix::process::geteuid().is_root() { 0 } else { 0o700 }
    }

    /// Enters the folder of a path and takes away what is there, but for a folder that is to stay one.
    fn make_way(&mut self, path: &[u8], keep_folder: bool) -> rustix::io::Result<Was> {
        if path.is_empty() {
            return Err(Errno::ISDIR);
        }
        let (folder, name) = split(path);
        self.enter(folder)?;
        let was = self.what_is(name)?;
        match was {
            Was::Nothing => {}
            Was::Folder if keep_folder => {}
            Was::Folder => remove_at(self.entered(), name)?,
            Was::Whiteout | Was::Other => fs::unlinkat(self.entered(), name, AtFlags::empty())?,
        }
        Ok(was)
    }

    fn what_is(&self, name: &[u8]) -> rustix::io::Result<Was> {
        let stat = match fs::statat(self.entered(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Was::Nothing),
            stat => stat?,
        };
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Was::Folder,
            FileType::CharacterDevice if stat.st_rdev == 0 => Was::Whiteout,
            _ => Was::Other,
        })
    }

    /// The folder entered last.
    fn entered(&self) -> BorrowedFd<'_> {
        self.parent.as_ref().expect("entered before").folder.as_fd()
    }

    fn enter(&mut self, path: &[u8]) -> rustix::io::Result<()> {
        if let Some(parent) = &self.parent
            && parent.path == path
            // It may have been removed since, and even have been replaced.
            && fs::fstat(&parent.folder)?.st_nlink > 0
        {
            return Ok(());
        }
        self.leave()?;
        let folder = match self.open_folder(path) {
            Err(Errno::NOENT) => self.make_folders(path)?,
            opened => opened?,
        };
        let stat = fs::fstat(&folder)?;
        let modified = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
        self.parent = Some(Parent { path: path.to_vec(), folder, modified });
        Ok(())
    }

    fn leave(&mut self) -> rustix::io::Result<()> {
        match self.parent.take() {
            Some(parent) => fs::futimens(&parent.folder, &modified_at(parent.modified)),
            None => Ok(()),
        }
    }

    fn make_folders(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let mut above = self.open_folder(b"")?;
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
        for end in ends.chain([path.len()]) {
            let folder = &path[..end];
            above = match self.open_folder(folder) {
                Err(Errno::NOENT) => {
                    let name = split(folder).1;
                    fs::mkdirat(&above, name, Mode::RWXU)?;
                    let made = open_folder_at(&above, name)?;
                    let attributes = Attributes { mode: 0o755, owner: None, modified: None, xattrs: &[] };
                    describe(&made, &attributes)?;
                    made
                }
                opened => opened?,
            };
        }
        Ok(above)
    }

    fn open_folder(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        loop {
            match fs::openat2(&self.root, path, flags, Mode::empty(), self.resolve) {
                // Something was renamed somewhere while a link with `..` was followed.
                Err(Errno::AGAIN | Errno::INTR) => {}
                opened => return opened,
            }
        }
    }
}

fn open_folder_at(folder: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(folder, name, flags, Mode::empty())
}

fn modified_at(modified: Timespec) -> Timestamps {
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ }, last_modification: modified }
}

fn times(attributes: &Attributes<'_>) -> Option<Timestamps> {
    attributes
        .modified
        .map(|(seconds, nanoseconds)| modified_at(Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() }))
}

/// Sets what an open file or folder has; the owner first, whose change takes bits of the mode and capabilities away.
pub(crate) fn describe(file: impl AsFd, attributes: &Attributes<'_>) -> rustix::io::Result<()> {
    let file = file.as_fd();
    if let Some((user, group)) = attributes.owner {
        fs::fchown(file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    fs::fchmod(file, Mode::from_raw_mode(attributes.mode))?;
    for (name, value) in attributes.xattrs {
        match fs::fsetxattr(file, &name[..], value, XattrFlags::empty()) {
            // The file system does not have these, or the agent may not set them: what the file is for works without.
            Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            set => set?,
        }
    }
    times(attributes).map_or(Ok(()), |times| fs::futimens(file, &times))
}

/// Sets the owner and the time of what cannot be opened.
fn describe_at(folder: BorrowedFd<'_>, name: &[u8], attributes: &Attributes<'_>) -> rustix::io::Result<()> {
    if let Some((user, group)) = attributes.owner {
        let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        fs::chownat(folder, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let set = |times: Timestamps| fs::utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW);
    times(attributes).map_or(Ok(()), set)
}

#[cfg(test)]
mod tests {
    use std::{
        fs as std_fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    };

    use super::*;

    const PLAIN: Attributes<'static> =
        Attributes { mode: 0o640, owner: None, modified: Some((1_000_000, 5)), xattrs: &[] };

    fn write(tree: &mut Tree, path: &str, content: &str) -> rustix::io::Result<()> {
        tree.file(path.as_bytes(), &PLAIN, &mut content.as_bytes())
            .map(|copied| assert_eq!(copied.unwrap(), content.len() as u64))
    }

    #[test]
    fn paths_are_plain_or_refused() {
        for (path, becomes) in [("./a//b/", "a/b"), ("/etc/x", "etc/x"), ("./", ""), ("a/.../b", "a/.../b")] {
            assert_eq!(plain(path.as_bytes()).unwrap(), becomes.as_bytes());
        }
        for path in ["..", "a/../b", "a/..", "a\0b", &"x".repeat(5000)] {
            assert!(plain(path.as_bytes()).is_err(), "{path:?}");
        }
    }

    #[test]
    fn nothing_is_written_outside() {
        let place = tempfile::tempdir().unwrap();
        let (inside, outside) = (place.path().join("in"), place.path().join("out"));
        std_fs::create_dir(&inside).unwrap();
        std_fs::create_dir(&outside).unwrap();
        symlink(&outside, inside.join("absolute")).unwrap();
        symlink("../out", inside.join("up")).unwrap();
        symlink("up", inside.join("chain")).unwrap();
        for links in [Links::InRoot, Links::Beneath] {
            let mut tree = Tree::open(&inside, links).unwrap();
            for name in ["absolute/f", "up/f", "chain/deep/f"] {
                let written = write(&mut tree, name, "x");
                assert!(links == Links::InRoot || written == Err(Errno::XDEV), "{name}: {written:?}");
            }
            // Where a link itself is named, it is replaced.
            assert!(tree.hard_link(b"f", b"up/secret").is_err());
            write(&mut tree, "chain", "x").unwrap();
            symlink("up", inside.join("again")).unwrap();
            std_fs::remove_file(inside.join("chain")).unwrap();
            std_fs::rename(inside.join("again"), inside.join("chain")).unwrap();
            tree.finish().unwrap();
            assert_eq!(std_fs::read_dir(&outside).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_is_written_later_stands_and_times_are_as_described() {
        let place = tempfile::tempdir().unwrap();
        let mut tree = Tree::open(place.path(), Links::InRoot).unwrap();
        let folder = Attributes { mode: 0o750, modified: Some((7, 0)), ..PLAIN };
        assert!(!tree.folder(b"d", &folder).unwrap());
        write(&mut tree, "d/a", "first").unwrap();
        write(&mut tree, "d/a", "second").unwrap();
        tree.hard_link(b"d/b", b"d/a").unwrap();
        tree.hard_link(b"d/b", b"d/b").unwrap();
        tree.symlink(b"d/link", b"/nowhere", &PLAIN).unwrap();
        tree.node(b"d/pipe", Node::Fifo, &PLAIN).unwrap();
        write(&mut tree, "e/f/g", "").unwrap();
        // In place of a folder, and a folder in place of a file.
        write(&mut tree, "e/f", "file").unwrap();
        write(&mut tree, "e/f2", "beside").unwrap();
        tree.folder(b"e/f", &folder).unwrap();
        write(&mut tree, "e/f/h", "").unwrap();
        assert_eq!(tree.whiteout(b"d/gone"), Ok(Was::Nothing));
        assert_eq!(tree.whiteout(b"d/a"), Ok(Was::Other));
        assert!(tree.folder(b"d/gone", &folder).unwrap());
        assert_eq!(write(&mut tree, "", ""), Err(Errno::ISDIR));
        assert_eq!(write(&mut tree, "d/a/below", ""), Err(Errno::NOTDIR));
        tree.finish().unwrap();
        let at = |path: &str| std_fs::symlink_metadata(place.path().join(path)).unwrap();
        assert_eq!(std_fs::read(place.path().join("d/b")).unwrap(), b"second");
        assert_eq!((at("d/a").ino(), at("d/a").permissions().mode() & 0o7777), (at("d/b").ino(), 0o640));
        assert_eq!((at("d").mtime(), at("d/a").mtime(), at("d/a").mtime_nsec()), (7, 1_000_000, 5));
        assert_eq!((at("d/link").mtime(), at("d/pipe").mtime()), (1_000_000, 1_000_000));
        assert_eq!((at("e").permissions().mode() & 0o777, at("e/f").mtime()), (0o755, 7));
        assert!(at("e/f/h").is_file() && at("d/gone").is_dir());
    }
}
