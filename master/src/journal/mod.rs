//! The journal: every input of the core in a file, so that what a master did can be replayed and looked into afterwards.
//!
//! The core is a pure function of its settings and its events, so these are all that there is to record. A journal is a tool for
//! finding out, not a promise: it is flushed at least every second, never synced, and when the disk is full or too slow it stops
//! with a mark and the master goes on.
//!
//! ```text
//! apportion journal 1\n
//! length: u32 LE, crc32 of the payload: u32 LE, payload      JournalHeader
//! length: u32 LE, crc32 of the payload: u32 LE, payload      JournalRecord, as often as there are
//! ```
//!
//! What tasks are given, their environment too, stands in it: the file is its owner's alone.

mod digest;
mod event;
mod header;
mod read;
mod recorder;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use self::{
    digest::Digest,
    header::Header,
    read::{Entry, Journal, JournalError, Record},
};
pub(crate) use self::{
    recorder::Recorder,
    writer::{CreateError, create},
};

/// The start of the first line of every journal, whatever its format.
const MAGIC: &[u8] = b"apportion journal ";

/// The first line of a journal of this format.
const LINE: &[u8] = b"apportion journal 1\n";
