//! What a task writes, kept in files of its sandbox that do not grow without end.
//!
//! The task has pipes, which the runner empties: neither the agent's end nor its restart is felt by whoever writes. No more than one
//! part of each is taken in a turn of the runner's loop, and the same few bytes of memory serve for all. What cannot be written, as on a
//! full disk, is dropped and said in the runner's log: a task that waited for room would hang.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, Gid, OFlags, Uid, fchown, fcntl_setfl, fstat, renameat, statat, unlinkat},
    io::{Errno, retry_on_intr},
    pipe::{PipeFlags, fcntl_getpipe_size, pipe_with},
};

use super::{note, root};
use crate::{folder::Failure, spec::OutputBounds};

/// The file of the sandbox for what a task writes to its standard output.
pub(super) const STDOUT: &str = "stdout";

/// The same for its standard error.
pub(super) const STDERR: &str = "stderr";

/// What is taken of a pipe at once: as much as one holds unless its writer changes that.
const PART_BYTES: usize = 64 << 10;

/// Names of full files that somebody else makes at the same time are tried again.
const TRIES: u32 = 8;

/// What is said of one output in the runner's log, which nobody empties.
const NOTES_MAX: u32 = 20;

/// The outputs of a task that somebody may still write to.
pub(super) struct Outputs {
    open: Vec<Output>,
    /// Made when there is something to read for the first time: most tasks are silent.
    buffer: Vec<u8>,
}

struct Output {
    pipe: OwnedFd,
    log: Log,
}

impl Outputs {
    /// Those of a task that writes to its files itself.
    pub(super) fn none() -> Outputs {
        Outputs { open: Vec::new(), buffer: Vec::new() }
    }

    /// Opens both files of a sandbox, and makes the pipes to them; the task's ends are those of its output and its errors.
    pub(super) fn open(sandbox: &Path, bounds: OutputBounds) -> Result<(Outputs, [OwnedFd; 2]), Failure> {
        let open = |name| -> Result<_, Failure> {
            let log = Log::open(sandbox, name, bounds)?;
            let made = pipe_with(PipeFlags::CLOEXEC).and_then(|(pipe, end)| {
                // Of the runner's end alone: the task's has a description of its own.
                fcntl_setfl(&pipe, OFlags::NONBLOCK).map(|()| (pipe, end))
            });
            let (pipe, end) = made.map_err(|e| Failure::setup("making pipes for the task's output", e))?;
            Ok((Output { pipe, log }, end))
        };
        let ((stdout, output), (stderr, errors)) = (open(STDOUT)?, open(STDERR)?);
        Ok((Outputs { open: vec![stdout, stderr], buffer: Vec::new() }, [output, errors]))
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// What to poll for input.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.iter().map(|output| output.pipe.as_fd())
    }

    /// Keeps a part of those whose place in [`Outputs::descriptors`] is marked as ready.
    pub(super) fn keep(&mut self, ready: &[bool]) {
        if !ready.contains(&true) {
            return;
        }
        self.buffer.resize(PART_BYTES, 0);
        let mut ready = ready.iter();
        let buffer = &mut self.buffer;
        self.open.retain_mut(|output| !ready.next().is_some_and(|ready| *ready) || output.keep(buffer));
    }

    /// Keeps what is left in the pipes, when those who wrote to them are gone.
    pub(super) fn finish(&mut self) {
        self.buffer.resize(PART_BYTES, 0);
        for mut output in self.open.drain(..) {
            // No more than a pipe holds: one that the task has handed to somebody outside may be written to for ever.
            let parts = fcntl_getpipe_size(&output.pipe).unwrap_or(PART_BYTES).div_ceil(PART_BYTES);
            for _ in 0..=parts {
                match retry_on_intr(|| rustix::io::read(&output.pipe, &mut self.buffer)) {
                    Ok(read) if read > 0 => output.log.append(&self.buffer[..read]),
                    _ => break,
                }
            }
            output.log.say_what_was_dropped();
        }
    }
}

impl Output {
    /// Keeps what is there, at most as much as fits into the buffer; false when nobody can write any more.
    fn keep(&mut self, buffer: &mut [u8]) -> bool {
        match rustix::io::read(&self.pipe, &mut *buffer) {
            Ok(0) => {
                self.log.say_what_was_dropped();
                false
            }
            Ok(read) => {
                self.log.append(&buffer[..read]);
                true
            }
            Err(e) => matches!(e, Errno::AGAIN | Errno::INTR),
        }
    }
}

/// A file that is appended to, and the full ones before it.
struct Log {
    folder: OwnedFd,
    name: &'static str,
    bounds: OutputBounds,
    /// None when the next one could not be made.
    file: Option<OwnedFd>,
    /// What the file holds, as far as it was written here.
    size: u64,
    /// True when what comes next begins a line.
    at_line: bool,
    /// Whom the sandbox was given to has them all.
    owner: (u32, u32),
    /// Bytes that could not be written since that was said.
    dropped: u64,
    /// How often it may say something: a task can bring about any number of reasons.
    notes_left: u32,
}

impl Log {
    fn open(sandbox: &Path, name: &'static str, bounds: OutputBounds) -> Result<Log, Failure> {
        let folder = root::open_folder(sandbox)?;
        let file = root::open_output(folder.as_fd(), sandbox, name)?;
        let found = fstat(&file).map_err(|e| Failure::sandbox(&sandbox.join(name), "looking at it", e))?;
        Ok(Log {
            folder,
            name,
            bounds: OutputBounds { bytes_max: bounds.bytes_max.max(1), ..bounds },
            file: Some(file),
            size: u64::try_from(found.st_size).unwrap_or(0),
            at_line: true,
            owner: (found.st_uid, found.st_gid),
            dropped: 0,
            notes_left: NOTES_MAX,
        })
    }

    /// Appends all of it, as far as there is room on the disk.
    fn append(&mut self, mut bytes: &[u8]) {
        let found = self.file.as_ref().and_then(|file| fstat(file).ok());
        if found.is_some_and(|found| found.st_nlink == 0) {
            // The task has deleted it: nobody would find what is written there.
            self.leave();
        }
        while !bytes.is_empty() {
            let room = self.bounds.bytes_max.saturating_sub(self.size);
            let part = fitting(bytes, room, self.at_line && self.size > 0);
            let done = match &self.file {
                _ if part == 0 => self.rotate().map(|()| None),
                None => self.make().map(|()| None),
                Some(file) => retry_on_intr(|| rustix::io::write(file, &bytes[..part])).map(Some),
            };
            match done {
                Ok(None) => {}
                // No file of a disk takes nothing without a reason.
                Ok(Some(0)) => {
                    self.dropped += bytes.len() as u64;
                    return;
                }
                Ok(Some(written)) => {
                    self.say_what_was_dropped();
                    self.size += written as u64;
                    self.at_line = bytes[written - 1] == b'\n';
                    bytes = &bytes[written..];
                }
                Err(e) => {
                    if self.dropped == 0 {
                        let e = io::Error::from(e);
                        self.say(format_args!("cannot be written: {e}; what comes is dropped"));
                    }
                    self.dropped += bytes.len() as u64;
                    return;
                }
            }
        }
    }

    fn say_what_was_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            self.say(format_args!("has lost {dropped} bytes that could not be written"));
        }
    }

    fn say(&mut self, what: fmt::Arguments<'_>) {
        if self.notes_left > 0 {
            self.notes_left -= 1;
            note(format_args!("{} {what}", self.name));
        }
    }

    /// Makes room for the next file and makes it. A file that cannot be kept, because the task has put something in the place of its
    /// name, is deleted.
    ///
    /// That the oldest is gone from now on is said by an empty file, `stdout.cut`: names alone do not tell whether there was one more.
    fn rotate(&mut self) -> Result<(), Errno> {
        self.leave();
        if statat(&self.folder, self.full(self.bounds.files_max), AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            // There already most often; and what the task puts there says the same.
            _ = root::create_output(self.folder.as_fd(), &format!("{}.cut", self.name));
        }
        for number in (0..self.bounds.files_max).rev() {
            let moved = renameat(&self.folder, self.full(number), &self.folder, self.full(number + 1));
            if number == 0
                && let Err(e) = moved
                && e != Errno::NOENT
            {
                self.say(format_args!("cannot be kept: {}; it is deleted", io::Error::from(e)));
                self.delete();
            }
        }
        if self.bounds.files_max == 0 {
            self.delete();
        }
        self.make()
    }

    /// Writes to the file no more; the next one is its owner's, too.
    fn leave(&mut self) {
        if let Some(found) = self.file.take().and_then(|file| fstat(&file).ok()) {
            self.owner = (found.st_uid, found.st_gid);
        }
        self.size = 0;
    }

    fn delete(&self) {
        // What is no file is seen when the next one is made.
        let _ = unlinkat(&self.folder, self.name, AtFlags::empty());
    }

    /// The name of a file so many before the one that is written to.
    fn full(&self, number: u32) -> String {
        if number == 0 { self.name.to_owned() } else { format!("{}.{number}", self.name) }
    }

    /// Makes the file that is written to: a new one, since another would hold what somebody else has put there.
    fn make(&mut self) -> Result<(), Errno> {
        let create = || root::create_output(self.folder.as_fd(), self.name);
        let mut made = create();
        for _ in 0..TRIES {
            if !matches!(made, Err(Errno::EXIST)) {
                break;
            }
            self.delete();
            made = create();
        }
        let file = made?;
        let (uid, gid) = self.owner;
        let found = fstat(&file)?;
        if (found.st_uid, found.st_gid) != self.owner {
            fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        self.file = Some(file);
        self.size = 0;
        Ok(())
    }
}

/// How much of it goes into a file that has room for so many bytes, at a line's end where there is one. Nothing when it is for the next
/// file: when there is no room, or no more than for a part of a line that could begin the next one.
fn fitting(bytes: &[u8], room: u64, next_may_begin: bool) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if bytes.len() <= room {
        return bytes.len();
    }
    match bytes[..room].iter().rposition(|byte| *byte == b'\n') {
        Some(end) => end + 1,
        None if next_may_begin => 0,
        None => room,
    }
}

#[cfg(test)]
mod tests;
