//! The agent's log: what it has promised, on disk before it is promised.
//!
//! An append-only file of [`CheckpointRecord`](apportion_proto::v1::CheckpointRecord)s, framed by length and checksum. One thread writes:
//! whatever has come in while it waited for the disk goes down together, with one `fdatasync`. When most of the file is about tasks that
//! are no more, it is rewritten without them.

#[cfg(test)]
mod crashes;
mod frame;
#[cfg(test)]
#[path = "../../../tests/power.rs"]
mod power;
mod record;
mod writer;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use apportion_agent_core::{Log, LogError, Recovered};
use apportion_types::convert::ConvertError;

use self::frame::Frames;
pub(crate) use self::writer::{Store, begin_anew};

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be read.
    #[error("log {path:?} cannot be read; it must be a file that the agent's user may read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not a log of this version.
    #[error(
        "log {path:?} was not written by this version of the agent; start the version that wrote it, or end its tasks and start with an empty work directory"
    )]
    Version {
        /// The file.
        path: PathBuf,
    },
    /// A record is whole, but does not say what this version understands.
    #[error(
        "log {path:?} holds a record at byte {offset} that this version of the agent cannot understand; start the version that wrote it, or end its tasks and start with an empty work directory"
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// What is wrong with it.
        source: RecordError,
    },
    /// It cannot be written.
    #[error(
        "log {path:?} cannot be written; free some space or repair the disk of the work directory, then start the agent again"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What is wrong with a record that is whole.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[non_exhaustive]
pub enum RecordError {
    /// A part of it cannot be understood.
    Convert(#[from] ConvertError),
    /// It does not follow from those before it.
    Order(#[from] LogError),
}

/// What a log says.
#[derive(Debug)]
pub struct Replay {
    /// What the core is to know.
    pub recovered: Recovered,
    /// Bytes behind the last whole record: the end of a write that was cut off, or damage.
    pub unreadable_bytes: u64,
    log: Log,
}

/// Reads a log; one that does not exist is empty.
///
/// Reading stops at the first record that is not whole. If only a cut-off write follows there, of one record or of some that went to the
/// disk together, nothing is lost that was ever promised; if more follows, [`Recovered::damaged`] is set.
pub fn read(path: &Path) -> Result<Replay, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(StoreError::Read { path: path.to_owned(), source }),
    };
    let mut frames = Frames::new(&bytes).ok_or_else(|| StoreError::Version { path: path.to_owned() })?;
    let mut log = Log::default();
    while let Some((offset, record)) = frames.next() {
        let record = record.and_then(record::from_wire).map_err(RecordError::from);
        let applied = record.and_then(|record| Ok(log.apply(record)?));
        applied.map_err(|source| StoreError::Record { path: path.to_owned(), offset, source })?;
    }
    let tail = frames.tail();
    let recovered = Recovered { damaged: tail.damaged, ..log.recovered() };
    Ok(Replay { recovered, unreadable_bytes: tail.bytes, log })
}

#[cfg(test)]
mod tests;
