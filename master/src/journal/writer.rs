//! The file of a journal, and the thread that writes it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use apportion_master_core::{Event, View};
use apportion_proto::v1::{self, journal_record::Record};
use apportion_types::{Time, limits, text::cut};

use super::{Digest, Header, LINE, MAGIC, event};
use crate::{frame, metrics::Metrics};

/// How long what is recorded may wait to be written, when little happens.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// Bytes that are written at once when much happens.
const FLUSH_BYTES: usize = 256 << 10;

/// A journal cannot be begun.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Something else is there.
    #[error("it is there already and is not a journal, so it is not overwritten; name another file")]
    NotAJournal,
    /// The system refuses.
    #[error("{0}; name a file in a folder that this user may write to")]
    Io(#[from] io::Error),
}

/// Makes the file, which only its owner may read. An earlier journal of this name is kept, with `.old` at its end.
pub(crate) fn create(path: &Path) -> Result<File, CreateError> {
    match fs::symlink_metadata(path) {
        Ok(_) if is_journal(path)? => {
            let mut old = path.as_os_str().to_owned();
            old.push(".old");
            fs::rename(path, PathBuf::from(old))?;
        }
        Ok(_) => return Err(CreateError::NotAJournal),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    Ok(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?)
}

/// True for a file that nothing is lost of when it is moved away: an empty one was created and never begun.
fn is_journal(path: &Path) -> io::Result<bool> {
    if !fs::metadata(path)?.is_file() {
        return Ok(false);
    }
    let mut start = Vec::new();
    File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start.is_empty() || start == MAGIC)
}

/// What is handed to the writer.
pub(super) enum Message {
    /// What happened, and what the master knew then.
    Batch {
        events: Vec<(Time, Event)>,
        /// What they count in [`Writer::waiting`].
        items: usize,
        digest: Option<Arc<View>>,
    },
    /// Nothing more follows; why, if the master goes on.
    End { at: Time, incomplete: Option<String> },
}

/// Writes what it is handed, in order.
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    /// Encoded and not yet written.
    buffer: Vec<u8>,
    /// When the first of the buffer must be written.
    flush_at: Instant,
    /// Bytes of whole records in the file.
    written: u64,
    /// When the last record was made.
    last: Time,
    /// What is handed over and not yet encoded.
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Writer {
    pub(super) fn new(
        path: PathBuf,
        file: File,
        header: &Header,
        waiting: Arc<AtomicUsize>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut buffer = LINE.to_vec();
        let fits = frame::append(&v1::JournalHeader::from(header), &mut buffer);
        assert!(fits, "who starts a recorder has seen that the header fits");
        let flush_at = Instant::now();
        Self { path, file, buffer, flush_at, written: 0, last: header.started_at, waiting, metrics }
    }

    /// Runs until the end is handed over, whoever hands it over is gone, or the file cannot be written.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        if let Err(error) = self.write_all(messages) {
            self.give_up(&error);
        }
        self.metrics.journal_recording(false);
    }

    fn write_all(&mut self, messages: &Receiver<Message>) -> Result<(), Failure> {
        self.flush()?;
        loop {
            let message = if self.buffer.is_empty() {
                messages.recv().map_err(RecvTimeoutError::from)
            } else {
                messages.recv_timeout(self.flush_at.saturating_duration_since(Instant::now()))
            };
            match message {
                Ok(Message::Batch { events, items, digest }) => {
                    for (at, event) in events {
                        if let Some(record) = event::record(event) {
                            self.append(at, record)?;
                        }
                    }
                    if let Some(view) = digest {
                        self.append(self.last, Record::Digest(Digest::of(&view).into()))?;
                    }
                    self.waiting.fetch_sub(items, Ordering::Relaxed);
                }
                Ok(Message::End { at, incomplete }) => {
                    self.append(at, Record::End(v1::JournalEnd { incomplete }))?;
                    return self.flush();
                }
                Err(RecvTimeoutError::Timeout) => self.flush()?,
                // The master ended by a fault; that the journal has no end says so.
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
        }
    }

    fn append(&mut self, at: Time, record: Record) -> Result<(), Failure> {
        if self.buffer.is_empty() {
            self.flush_at = Instant::now() + FLUSH_INTERVAL;
        }
        let delta_us = at.since(self.last).as_micros() as u64;
        if !frame::append(&v1::JournalRecord { delta_us, record: Some(record) }, &mut self.buffer) {
            return Err(Failure::TooLong);
        }
        self.last = at;
        if self.buffer.len() >= FLUSH_BYTES || self.flush_at <= Instant::now() {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let before = self.written;
        let written = self.file.write_all(&self.buffer);
        let sent = match &written {
            Ok(()) => self.buffer.len(),
            // What fitted stays, as far as it is whole.
            Err(_) => frame::whole(&self.buffer, self.file.stream_position()?.saturating_sub(before)),
        };
        self.written += sent as u64;
        self.buffer.clear();
        Ok(written?)
    }

    /// Says once that the journal stops, here and in it.
    fn give_up(&mut self, failure: &Failure) {
        let path = self.path.clone();
        let path = path.display();
        tracing::error!(%path, error = %failure, "the journal stops here; the master goes on without it");
        // What was written in part is taken back, which also makes room for the mark on a disk that is full.
        let incomplete = Some(cut(failure.to_string(), limits::STATUS_MESSAGE_BYTES_MAX));
        let end = v1::JournalRecord { delta_us: 0, record: Some(Record::End(v1::JournalEnd { incomplete })) };
        let mut mark = Vec::new();
        let fits = frame::append(&end, &mut mark);
        assert!(fits, "it was cut");
        if let Err(error) = self.end_with(&mark) {
            tracing::warn!(%path, %error, "the journal cannot be marked as incomplete");
            // Without the mark it ends with a whole record, as that of a master that was killed.
            let _ = self.end_with(&[]);
        }
    }

    /// Makes this what follows the whole records.
    fn end_with(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.set_len(self.written)?;
        self.file.seek(SeekFrom::Start(self.written))?;
        self.file.write_all(bytes)
    }
}

/// Why a journal stops.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the file cannot be written: {0}")]
    Io(#[from] io::Error),
    #[error("a record is longer than a journal can hold")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Journal, Record, tests::header};

    #[test]
    fn what_was_written_in_part_gives_way_to_the_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.journal");
        let file = create(&path).unwrap();
        let header = header();
        let mut writer = Writer::new(path.clone(), file, &header, Arc::default(), Arc::default());
        writer.append(header.started_at, event::record(Event::Tick).unwrap()).unwrap();
        writer.flush().unwrap();
        writer.append(header.started_at, event::record(Event::Shutdown).unwrap()).unwrap();
        writer.file.write_all(&writer.buffer[..5]).unwrap();
        writer.give_up(&Failure::Io(io::ErrorKind::StorageFull.into()));
        let records: Vec<Record> = Journal::open(&path).unwrap().map(|entry| entry.unwrap().record).collect();
        let why = "the file cannot be written: no storage space".to_owned();
        assert_eq!(records, [Record::Event(Event::Tick), Record::End { incomplete: Some(why) }]);
    }
}
