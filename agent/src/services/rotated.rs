//! The files of one output of a task: the one that is written to, and the full ones before it.
//!
//! A file is known by its number on the disk and when it was made, which stay the same while it is renamed. Whoever reads goes from one
//! to the next by these, and cannot be led past one by a name that has just come to mean another.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::{
    fs::{AtFlags, FileType, StatxFlags, statx},
    io::Errno,
};

use super::open::{self, OpenError};
use crate::config::LOG_FILES_MAX;

/// How often the names are looked at again that are being changed, and how long apart: far longer than it takes to change them.
const TRIES: u32 = 20;
const TRY_AGAIN: Duration = Duration::from_millis(1);

/// Bytes that lines are looked for in at once.
const BLOCK_BYTES: u64 = 64 << 10;

/// How far back lines are looked for: a task may make its log as long as it likes without any, and on no disk at all.
const LOOKED_THROUGH_BYTES_MAX: u64 = 64 << 20;

/// What a file stays, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) inode: u64,
    /// In nanoseconds; 0 on file systems that do not know. Tells a file from a later one that got the number of a deleted one.
    pub(super) born: i64,
}

impl FileId {
    /// What stands before the first file of an output that has none yet.
    pub(super) const NONE: FileId = FileId { inode: 0, born: 0 };
}

/// A bound on the end of a log: the later place of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// Looked for no further back than 64 MiB.
    pub(super) lines: Option<u64>,
    pub(super) bytes: u64,
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: FileId,
    pub(super) offset: u64,
}

/// What comes after a file that was read to its end.
pub(super) enum Next {
    /// Nothing yet.
    Nothing,
    /// This one. With `missed`, there may have been others between that are deleted.
    File { id: FileId, file: File, missed: bool },
}

/// The files of one output.
#[derive(Debug, Clone)]
pub(super) struct Files {
    sandbox: Arc<OwnedFd>,
    name: &'static str,
}

impl Files {
    pub(super) fn new(sandbox: Arc<OwnedFd>, name: &'static str) -> Self {
        Self { sandbox, name }
    }

    fn path(&self, number: u32) -> String {
        if number == 0 { self.name.to_owned() } else { format!("{}.{number}", self.name) }
    }

    /// The file so many before the one that is written to.
    fn look(&self, number: u32) -> io::Result<Option<FileId>> {
        match identify(&self.sandbox, &self.path(number), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(found),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The file that is written to.
    pub(super) fn newest(&self) -> io::Result<Option<FileId>> {
        self.look(0)
    }

    /// Whether there were others before the oldest, which are deleted: the runner says so.
    pub(super) fn is_cut(&self) -> io::Result<bool> {
        match identify(&self.sandbox, &format!("{}.cut", self.name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(found.is_some()),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// All of them, each with the number of its name, the newest first. Waits while they are being renamed.
    fn known(&self) -> io::Result<Vec<(u32, FileId)>> {
        for _ in 1..TRIES {
            if let (known, true) = self.known_now()? {
                return Ok(known);
            }
            thread::sleep(TRY_AGAIN);
        }
        // Not the agent's work, but the task's, which has deleted or linked them: there is no more to be known.
        Ok(self.known_now()?.0)
    }

    /// True when these are all: seen while they are renamed, one is missing or is there twice.
    fn known_now(&self) -> io::Result<(Vec<(u32, FileId)>, bool)> {
        let (mut known, mut whole) = (Vec::new(), true);
        for number in 0..=LOG_FILES_MAX {
            match self.look(number)? {
                Some(id) if known.iter().any(|(_, known)| *known == id) => whole = false,
                Some(id) => known.push((number, id)),
                None if self.look(number + 1)?.is_some() => whole = false,
                None => break,
            }
        }
        Ok((known, whole))
    }

    /// Opens one of them; none when it is deleted.
    fn open(&self, id: FileId) -> io::Result<Option<File>> {
        for _ in 0..TRIES {
            let Some((number, _)) = self.known()?.into_iter().find(|(_, known)| *known == id) else {
                return Ok(None);
            };
            match open::beneath(&self.sandbox, Path::new(&self.path(number))) {
                Ok(file) if identify(&file, "", AtFlags::EMPTY_PATH)? == Some(id) => return Ok(Some(file)),
                // Renamed meanwhile.
                Ok(_) | Err(OpenError::Missing { .. }) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(None)
    }

    /// What comes after this file; the oldest when none was read before. After one that is gone, what was made when it was or later.
    pub(super) fn next(&self, after: Option<FileId>) -> io::Result<Next> {
        for _ in 0..TRIES {
            let known = self.known()?;
            let place = after.and_then(|after| known.iter().position(|(_, id)| *id == after));
            let (next, missed) = match place {
                Some(0) => return Ok(Next::Nothing),
                Some(place) => (known.get(place - 1), false),
                None => {
                    let since = |(_, id): &&(u32, FileId)| after.is_none_or(|after| id.born >= after.born);
                    (known.iter().rfind(since), after.is_some())
                }
            };
            let Some((_, id)) = next.copied() else { return Ok(Next::Nothing) };
            if let Some(file) = self.open(id)? {
                return Ok(Next::File { id, file, missed });
            }
            // Deleted meanwhile: faster than it can be read.
        }
        Ok(Next::Nothing)
    }

    /// Opens the file of a place; none when it is deleted.
    pub(super) fn at(&self, place: Place) -> io::Result<Option<File>> {
        self.open(place.file)
    }

    /// The end as it is now; none when nothing was ever written.
    pub(super) fn end(&self) -> io::Result<Option<Place>> {
        for (_, id) in self.known()? {
            if let Some(file) = self.open(id)? {
                return Ok(Some(Place { file: id, offset: file.metadata()?.len() }));
            }
        }
        Ok(None)
    }

    /// Where the end of the log begins, or the oldest of what is kept; none when nothing was ever written.
    pub(super) fn tail(&self, tail: Tail) -> io::Result<Option<Place>> {
        let Some(end) = self.end()? else { return Ok(None) };
        let (mut place, mut lines, mut is_end) = (end, tail.lines, true);
        let bytes_max = if lines.is_some() { LOOKED_THROUGH_BYTES_MAX } else { u64::MAX };
        let mut bytes = if lines == Some(0) { 0 } else { tail.bytes.min(bytes_max) };
        let mut block = Vec::new();
        for (_, id) in self.known()?.into_iter().skip_while(|(_, id)| *id != end.file) {
            let Some(file) = self.open(id)? else { break };
            let mut to = if id == end.file { end.offset } else { file.metadata()?.len() };
            while to > 0 && bytes > 0 {
                let block_bytes = if lines.is_some() { BLOCK_BYTES } else { u64::MAX };
                let from = to.saturating_sub(block_bytes.min(bytes));
                if let Some(lines) = &mut lines {
                    block.resize(usize::try_from(to - from).expect("a block is small"), 0);
                    // Less where the task has emptied it meanwhile.
                    let read = file.read_at(&mut block, from)?;
                    for (at, byte) in block[..read].iter().enumerate().rev() {
                        // The end of the last line, when it has one, ends no further line.
                        if *byte == b'\n' && !is_end {
                            *lines -= 1;
                            if *lines == 0 {
                                return Ok(Some(Place { file: id, offset: from + at as u64 + 1 }));
                            }
                        }
                        is_end = false;
                    }
                }
                bytes -= to - from;
                to = from;
                place = Place { file: id, offset: from };
            }
        }
        Ok(Some(place))
    }
}

/// What a regular file is; none for everything else.
fn identify(at: impl std::os::fd::AsFd, path: &str, flags: AtFlags) -> Result<Option<FileId>, Errno> {
    let found = statx(at, path, flags, StatxFlags::TYPE | StatxFlags::INO | StatxFlags::BTIME)?;
    if FileType::from_raw_mode(found.stx_mode.into()) != FileType::RegularFile {
        return Ok(None);
    }
    let knows_birth = found.stx_mask & StatxFlags::BTIME.bits() != 0;
    let (seconds, nanoseconds) = (found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
    let born = seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds.into());
    Ok(Some(FileId { inode: found.stx_ino, born: if knows_birth { born } else { 0 } }))
}
