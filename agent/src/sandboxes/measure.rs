//! How much disk a folder takes that somebody else fills while it is looked at.

use std::{
    collections::BTreeSet,
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat},
    io::Errno,
};

/// Entries of one container that are looked at in one turn: a second's work or two.
pub(crate) const ENTRIES_MAX: u64 = 1 << 20;

/// The unit of `st_blocks`, whatever the blocks of the file system are.
const BLOCK_BYTES: u64 = 512;

/// What was found; never more than is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Measured {
    /// In allocated blocks: what a file only seems to hold is not counted.
    pub(crate) bytes: u64,
    /// Something was not counted: it may not be read, was moved meanwhile, or is beyond the bound.
    pub(crate) partial: bool,
}

/// What is counted once, and how much of it may be.
#[derive(Debug)]
pub(crate) struct Measure {
    found: Measured,
    /// Enough to know: beyond it nothing is counted.
    enough_bytes: u64,
    entries_left: u64,
    /// Files with several names, by device and number.
    linked: BTreeSet<(u64, u64)>,
}

/// A folder whose content is being counted.
struct Level {
    inode: (u64, u64),
    folders: Vec<CString>,
}

impl Measure {
    /// Counts until there is more than this, or this many entries were looked at.
    pub(crate) fn new(enough_bytes: u64, entries_max: u64) -> Self {
        Self { found: Measured::default(), enough_bytes, entries_left: entries_max, linked: BTreeSet::new() }
    }

    /// What was found.
    pub(crate) fn found(&self) -> Measured {
        self.found
    }

    /// Counts a folder with all that is below it on its file system; one that is not there holds nothing. No link is followed, and
    /// two folders are open at a time, however deep they are.
    pub(crate) fn add(&mut self, top: &Path) {
        match self.walk(top) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(_) => self.found.partial = true,
        }
    }

    fn walk(&mut self, top: &Path) -> rustix::io::Result<()> {
        let mut folder = open(CWD, top)?;
        let stat = fstat(&folder)?;
        self.count(&stat);
        let device = inode(&stat).0;
        let mut levels = vec![self.level(&folder, inode(&stat))?];
        while let Some(level) = levels.last_mut() {
            if self.is_done() {
                return Ok(());
            }
            let Some(name) = level.folders.pop() else {
                levels.pop();
                if let Some(above) = levels.last() {
                    folder = open(&folder, c"..")?;
                    // Was it moved, `..` is another folder, and who knows where.
                    if inode(&fstat(&folder)?) != above.inode {
                        return Err(Errno::STALE);
                    }
                }
                continue;
            };
            let entered = open(&folder, name.as_c_str()).and_then(|inner| Ok((fstat(&inner)?, inner)));
            match entered {
                Ok((stat, inner)) if inode(&stat).0 == device => {
                    levels.push(self.level(&inner, inode(&stat))?);
                    folder = inner;
                }
                // Something is mounted there, or it is gone, or no folder any more.
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(_) => self.found.partial = true,
            }
        }
        Ok(())
    }

    /// Counts what lies in a folder, and lists the folders in it.
    fn level(&mut self, folder: &OwnedFd, of: (u64, u64)) -> rustix::io::Result<Level> {
        let mut level = Level { inode: of, folders: Vec::new() };
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.is_done() {
                break;
            }
            self.entries_left -= 1;
            let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            if inode(&stat).0 != of.0 {
                continue;
            }
            self.count(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                level.folders.push(name.to_owned());
            }
        }
        Ok(level)
    }

    fn is_done(&mut self) -> bool {
        let unseen = self.entries_left == 0;
        self.found.partial |= unseen;
        unseen || self.found.bytes > self.enough_bytes
    }

    fn count(&mut self, stat: &Stat) {
        let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if folder || stat.st_nlink < 2 || self.linked.insert(inode(stat)) {
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
            self.found.bytes = self.found.bytes.saturating_add(blocks.saturating_mul(BLOCK_BYTES));
        }
    }
}

fn inode(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn open<P: rustix::path::Arg>(at: impl AsFd, name: P) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::unix::fs::{MetadataExt as _, symlink},
    };

    use super::*;

    const KIB: u64 = 1 << 10;

    fn measured(path: &Path) -> Measured {
        let mut measure = Measure::new(u64::MAX, ENTRIES_MAX);
        measure.add(path);
        measure.found()
    }

    /// A file whose blocks are on disk.
    fn fill(path: &Path, bytes: u64) {
        fs::write(path, vec![7; usize::try_from(bytes).unwrap()]).unwrap();
        File::open(path).unwrap().sync_all().unwrap();
    }

    fn blocks(path: &Path) -> u64 {
        fs::symlink_metadata(path).unwrap().blocks() * BLOCK_BYTES
    }

    #[test]
    fn a_file_counts_once_and_by_its_blocks_and_links_are_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let (elsewhere, top) = (place.path().join("elsewhere"), place.path().join("top"));
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        fill(&elsewhere.join("much"), 1024 * KIB);
        let folders = blocks(&top) + blocks(&top.join("a")) + blocks(&top.join("a/b"));
        fill(&top.join("a/b/file"), 64 * KIB);
        let file = blocks(&top.join("a/b/file"));
        assert!(file >= 64 * KIB);
        assert_eq!(measured(&top), Measured { bytes: folders + file, partial: false });

        fs::hard_link(top.join("a/b/file"), top.join("again")).unwrap();
        symlink(&elsewhere, top.join("link")).unwrap();
        symlink(elsewhere.join("much"), top.join("a/link")).unwrap();
        let links = blocks(&top.join("link")) + blocks(&top.join("a/link"));
        let all = Measured { bytes: folders + file + links, partial: false };
        assert_eq!(measured(&top), all);

        File::create(top.join("sparse")).unwrap().set_len(1 << 30).unwrap();
        assert_eq!(measured(&top).bytes, all.bytes + blocks(&top.join("sparse")));
        assert!(blocks(&top.join("sparse")) < 1024 * KIB);

        // Two folders of one container share what is linked in both.
        let mut both = Measure::new(u64::MAX, ENTRIES_MAX);
        both.add(&top.join("a"));
        let first = both.found().bytes;
        both.add(&top);
        assert!(both.found().bytes < 2 * first);
        assert_eq!(measured(&place.path().join("nothing")), Measured::default());
        assert!(measured(&top.join("link")).partial, "the top may be no link");
    }

    #[test]
    fn what_is_deeper_than_any_path_counts_and_what_is_mounted_does_not() {
        let place = tempfile::tempdir().unwrap();
        let name = "d".repeat(250);
        let mut folder = openat(CWD, place.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        let one = {
            fs::create_dir(place.path().join(&name)).unwrap();
            blocks(&place.path().join(&name))
        };
        for depth in 0..40 {
            if depth > 0 {
                rustix::fs::mkdirat(&folder, &name, Mode::RWXU).unwrap();
            }
            rustix::fs::mkdirat(&folder, "beside", Mode::RWXU).unwrap();
            folder = openat(&folder, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        let found = measured(place.path());
        assert!(!found.partial && found.bytes >= 80 * one, "{found:?}, of {one} each");
        apportion_content::remove_folder(&place.path().join(&name)).unwrap();
        // `/proc` is on another file system than `/`, wherever this runs.
        let mut root = Measure::new(u64::MAX, 1000);
        let level = root.level(&open(CWD, "/").unwrap(), inode(&rustix::fs::stat("/").unwrap())).unwrap();
        assert!(!level.folders.iter().any(|folder| folder.as_c_str() == c"proc"));
    }

    #[test]
    fn it_ends_when_it_knows_enough_or_has_looked_at_enough() {
        let place = tempfile::tempdir().unwrap();
        for number in 0..8 {
            fill(&place.path().join(number.to_string()), 64 * KIB);
        }
        let mut enough = Measure::new(100 * KIB, ENTRIES_MAX);
        enough.add(place.path());
        let found = enough.found();
        assert!(found.bytes > 100 * KIB && found.bytes < 8 * 64 * KIB && !found.partial, "{found:?}");
        let mut bounded = Measure::new(u64::MAX, 3);
        bounded.add(place.path());
        let found = bounded.found();
        assert!(found.bytes < 8 * 64 * KIB && found.partial, "{found:?}");
    }
}
