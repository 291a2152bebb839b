//! The one thread that writes the log.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt, OpenOptionsExt as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use apportion_agent_core::{CheckpointId, Log, Record};
use apportion_proto::v1::CheckpointRecord;

use super::{
    Replay, StoreError,
    frame::{HEADER, append},
    read,
    record::to_wire,
};
use crate::paths::Paths;

/// Records that go down with one `fdatasync` at most: bounds the memory of a batch.
const BATCH_RECORDS_MAX: usize = 4096;

/// A log shorter than this is not rewritten while the agent runs.
const REWRITE_BYTES_MIN: u64 = 16 << 20;

/// How often a full disk is tried again.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);

/// What is told of each batch: the newest record of it, on disk; or why nothing more will be.
pub(crate) type Told = Result<CheckpointId, StoreError>;

/// A record, and its number.
type Asked = (CheckpointId, Record);

/// The log of a running agent. Dropping it writes what was asked for and waits for that.
#[derive(Debug)]
pub(crate) struct Store {
    records: Option<mpsc::Sender<Asked>>,
    /// True when a full disk is not to be waited for.
    leaving: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Rewrites the log as shortly as it can be, and goes on from there. `tell` is called from the thread that writes.
    pub(crate) fn open(
        paths: &Paths,
        replay: Replay,
        tell: impl Fn(Told) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let leaving = Arc::new(AtomicBool::new(false));
        let mut writer = Writer::new(paths, replay.log, leaving.clone());
        writer.rewrite().map_err(|source| writer.failed(source))?;
        let (records, inbox) = mpsc::channel();
        let run = move || {
            if let Err(source) = writer.run(&inbox, &tell) {
                tell(Err(writer.failed(source)));
            }
        };
        let thread = thread::Builder::new().name("log".to_owned()).spawn(run);
        let thread = thread.map_err(|source| StoreError::Write { path: paths.log(), source })?;
        Ok(Self { records: Some(records), leaving, thread: Some(thread) })
    }

    /// From now on a full disk is a failure: the agent is to end, and the next one knows all that was promised.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Asks for a record to be appended.
    pub(crate) fn append(&self, checkpoint: CheckpointId, record: Record) {
        if let Some(records) = &self.records {
            // A thread that has failed has said so already.
            let _ = records.send((checkpoint, record));
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.records = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic but for a bug, which it has printed.
            let _ = thread.join();
        }
    }
}

/// Where the bytes of a log are.
pub(super) trait Storage: Send {
    /// Writes them, from this place on.
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Returns when all that was written lasts.
    fn sync_data(&self) -> io::Result<()>;
}

impl Storage for File {
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_data()
    }
}

pub(super) struct Writer {
    paths: Paths,
    log: Log,
    file: Option<Box<dyn Storage>>,
    /// The length of the file.
    bytes: u64,
    /// What it was when it was rewritten last.
    rewritten_bytes: u64,
    leaving: Arc<AtomicBool>,
}

impl Writer {
    fn new(paths: &Paths, log: Log, leaving: Arc<AtomicBool>) -> Self {
        Self { paths: paths.clone(), log, file: None, bytes: 0, rewritten_bytes: 0, leaving }
    }

    /// One of an empty log, whose header is in this storage.
    #[cfg(test)]
    pub(super) fn on(paths: &Paths, storage: Box<dyn Storage>) -> Self {
        let (file, bytes) = (Some(storage), HEADER.len() as u64);
        Self { file, bytes, ..Self::new(paths, Log::default(), Arc::default()) }
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Write { path: self.paths.log(), source }
    }

    pub(super) fn run(&mut self, inbox: &mpsc::Receiver<Asked>, tell: &impl Fn(Told)) -> io::Result<()> {
        let mut batch = Vec::new();
        while let Ok(first) = inbox.recv() {
            batch.push(first);
            while let Some((newest, _)) = batch.last() {
                let newest = *newest;
                self.write(&mut batch, inbox)?;
                tell(Ok(newest));
                batch.extend(inbox.try_iter().take(BATCH_RECORDS_MAX.saturating_sub(batch.len())));
            }
            if self.bytes > REWRITE_BYTES_MIN.max(4 * self.rewritten_bytes) {
                self.rewrite_if_there_is_room()?;
            }
        }
        Ok(())
    }

    /// Writes the records, and leaves instead of them what has come in while there was no room. Nothing is promised meanwhile, and
    /// nothing forgotten; only when the agent is to end is a full disk a failure.
    fn write(&mut self, batch: &mut Vec<Asked>, inbox: &mpsc::Receiver<Asked>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut agent_id = None;
        for (_, record) in batch.drain(..) {
            if let Record::Agent { agent_id: id } = &record {
                agent_id = Some(format!("{id}\n"));
            }
            let continues = !bytes.is_empty();
            append(&CheckpointRecord { continues, ..to_wire(record.clone()) }, &mut bytes);
            self.log.apply(record).expect("the core writes what follows from what it wrote before");
        }
        let mut told = false;
        while let Err(error) = self.put(&bytes, agent_id.as_deref()) {
            if !is_full(&error) || self.leaving.load(Ordering::Relaxed) {
                return Err(error);
            }
            if !told {
                tracing::warn!(log = ?self.paths.log(), %error, "there is no room for the agent's log: no task is taken on and none reported until there is");
                told = true;
            }
            match inbox.recv_timeout(ROOM_INTERVAL) {
                Ok(asked) => batch.push(asked),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(error),
            }
        }
        if told {
            tracing::info!("there is room for the agent's log again");
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Puts bytes behind those that are there. What of them an attempt that failed has left, the next overwrites.
    fn put(&mut self, bytes: &[u8], agent_id: Option<&str>) -> io::Result<()> {
        let file = self.file.as_mut().expect("opened by the first rewriting");
        file.write_all_at(bytes, self.bytes)?;
        file.sync_data()?;
        agent_id.map_or(Ok(()), |id| fs::write(self.paths.agent_id(), id))
    }

    fn rewrite_if_there_is_room(&mut self) -> io::Result<()> {
        match self.rewrite() {
            Err(error) if is_full(&error) => {
                let _ = fs::remove_file(self.paths.log_new());
                self.rewritten_bytes = self.bytes;
                Ok(())
            }
            done => done,
        }
    }

    /// Writes a new file with what still matters, and puts it in the place of the old one.
    fn rewrite(&mut self) -> io::Result<()> {
        let (file, bytes) = replace(&self.paths, &self.log)?;
        self.file = Some(Box::new(file));
        (self.bytes, self.rewritten_bytes) = (bytes, bytes);
        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Puts a new file in the place of the log; says how long it is.
fn replace(paths: &Paths, log: &Log) -> io::Result<(File, u64)> {
    let mut bytes = HEADER.to_vec();
    log.records().for_each(|record| append(&to_wire(record), &mut bytes));
    let path = paths.log_new();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&path, paths.log())?;
    File::open(paths.root())?.sync_all()?;
    Ok((file, bytes.len() as u64))
}

/// Leaves of a log that nobody writes to any more what another agent in this place is to know.
pub(crate) fn begin_anew(paths: &Paths) -> Result<(), StoreError> {
    let legacy = read(&paths.log())?.log.legacy();
    let done = match legacy.records().next() {
        Some(_) => replace(paths, &legacy).map(drop),
        None => fs::remove_file(paths.log()),
    };
    match done {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::Write { path: paths.log(), source })
        }
        _ => Ok(()),
    }
}
