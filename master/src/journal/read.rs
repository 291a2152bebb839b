//! Reading a journal, whatever the bytes.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use apportion_master_core::Event;
use apportion_proto::v1::{self, journal_record::Record as WireRecord};
use apportion_types::{Time, convert::ConvertError};
use prost::Message;

use super::{Digest, Header, LINE, MAGIC, event, header};
use crate::{
    frame::{self, Frame},
    summary,
};

/// Why a journal cannot be read, or not any further. What was read before stays good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file cannot be opened.
    #[error("the journal {} cannot be opened: {source}; name a file that a master wrote with --journal", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("reading the journal {} at byte {offset}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What the system says.
        source: io::Error,
    },
    /// It is a file of another kind.
    #[error(
        "{} is not a journal: it does not begin with a journal's first line (byte 0); name a file that a master wrote with --journal",
        .path.display()
    )]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// It has a format of another version.
    #[error(
        "{} is a journal of format `{found}` (byte 0), and apportion {} reads only `1`; read it with the version that wrote it",
        .path.display(), summary::VERSION
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What its first line says.
        found: String,
    },
    /// The end is missing.
    #[error(
        "the journal {} ends within the record at byte {offset}: it was cut off there, or is still being written",
        .path.display()
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
    },
    /// Bytes are not what was written.
    #[error(
        "the journal {} is damaged in the record at byte {offset}: its checksum is another; copy the file again if it was copied",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
    },
    /// A record is whole and makes no sense.
    #[error(
        "the record at byte {offset} of the journal {} makes no sense to apportion {}: {source}; read it with the version that wrote it",
        .path.display(), summary::VERSION
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// What is wrong.
        source: ConvertError,
    },
}

/// One record of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// When it was made; never before the one before it.
    pub at: Time,
    /// What it says.
    pub record: Record,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "moved once, from the file to the replay")]
pub enum Record {
    /// An input of the core.
    Event(Event),
    /// What the master knew after the events so far.
    Digest(Digest),
    /// The end; nothing follows.
    End {
        /// Why the master went on without its journal; none when nothing is missing.
        incomplete: Option<String>,
    },
}

/// An open journal: its header, and its records as an iterator, which ends after the first error.
#[derive(Debug)]
pub struct Journal<R = BufReader<File>> {
    path: PathBuf,
    header: Header,
    input: R,
    offset: u64,
    last: Time,
    ended: bool,
}

impl Journal {
    /// Opens a file, and reads its header.
    pub fn open(path: impl AsRef<Path>) -> Result<Journal, JournalError> {
        let path = path.as_ref();
        let opened = File::open(path);
        let file = opened.map_err(|source| JournalError::Open { path: path.to_owned(), source })?;
        Journal::new(path, BufReader::with_capacity(1 << 20, file))
    }
}

impl<R: Read> Journal<R> {
    /// Reads the header of a journal from anywhere; `path` is what errors call it.
    pub fn new(path: impl Into<PathBuf>, mut input: R) -> Result<Journal<R>, JournalError> {
        let path = path.into();
        let line = frame::up_to(&mut input, LINE.len());
        let line = line.map_err(|source| JournalError::Io { path: path.clone(), offset: 0, source })?;
        if line != LINE {
            return Err(match line.strip_prefix(MAGIC) {
                Some(found) if !found.is_empty() => {
                    let found = String::from_utf8_lossy(found).trim_end().escape_debug().to_string();
                    JournalError::Format { path, found }
                }
                _ => JournalError::NotAJournal { path },
            });
        }
        let offset = LINE.len() as u64;
        let Some((bytes, wire)) = message::<v1::JournalHeader>(&path, offset, &mut input)? else {
            return Err(JournalError::Cut { path, offset });
        };
        match Header::try_from(wire) {
            Ok(header) => {
                let last = header.started_at;
                Ok(Journal { path, header, input, offset: offset + bytes, last, ended: false })
            }
            Err(error) => Err(JournalError::Record { path, offset, source: error.within("the header") }),
        }
    }

    /// What its master was started with.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&mut self) -> Result<Option<Entry>, JournalError> {
        let offset = self.offset;
        let Some((bytes, wire)) = message::<v1::JournalRecord>(&self.path, offset, &mut self.input)? else {
            return Ok(None);
        };
        self.offset += bytes;
        let entry = entry(offset, self.last, wire).map_err(|source| JournalError::Record {
            path: self.path.clone(),
            offset,
            source,
        })?;
        self.last = entry.at;
        Ok(Some(entry))
    }
}

impl<R: Read> Iterator for Journal<R> {
    type Item = Result<Entry, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(Entry { record: Record::Event(_) | Record::Digest(_), .. })));
        next
    }
}

/// The next message, and its bytes with their frame; none at the end.
fn message<M: Message + Default>(
    path: &Path,
    offset: u64,
    input: &mut impl Read,
) -> Result<Option<(u64, M)>, JournalError> {
    let path = || path.to_owned();
    match frame::read(input) {
        Ok(Frame::Payload(payload)) => match M::decode(payload.as_slice()) {
            Ok(message) => Ok(Some((frame::framed(payload.len()), message))),
            Err(error) => {
                Err(JournalError::Record { path: path(), offset, source: ConvertError::new("", error) })
            }
        },
        Ok(Frame::End) => Ok(None),
        Ok(Frame::Cut) => Err(JournalError::Cut { path: path(), offset }),
        Ok(Frame::Damaged) => Err(JournalError::Damaged { path: path(), offset }),
        Err(source) => Err(JournalError::Io { path: path(), offset, source }),
    }
}

fn entry(offset: u64, last: Time, wire: v1::JournalRecord) -> Result<Entry, ConvertError> {
    let at = last + Duration::from_micros(wire.delta_us);
    header::judge_time(at).map_err(|what| ConvertError::new("delta_us", what))?;
    let missing = || ConvertError::new("record", "is missing, or of a kind not known here");
    let record = match wire.record.ok_or_else(missing)? {
        WireRecord::Digest(digest) => Record::Digest(digest.into()),
        WireRecord::End(end) => Record::End { incomplete: end.incomplete },
        input => Record::Event(event::event(input)?),
    };
    Ok(Entry { offset, at, record })
}
