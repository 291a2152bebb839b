//! Bytes that are brought into a file: continued where they were cut off, checked at the end.

use std::{
    fs::{File, OpenOptions},
    future::Future,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Response, StatusCode, header};
use rustix::fs::{FlockOperation, flock};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    digest::{Digest, Hasher},
    http::{self, HttpError},
};

/// Attempts one after the other that bring not one byte.
const ATTEMPTS_MAX: u32 = 5;

/// The pause after the first failed attempt, and the longest one.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Pieces that wait to be written.
const PIECES_MAX: usize = 8;

/// Why something was not fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The server.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The file on this machine.
    #[error("file {path:?} cannot be written; check space and permissions of the agent's work directory")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is more than allowed, or than was announced.
    #[error("it has more than {bytes_max} bytes")]
    TooLarge {
        /// The most that was expected.
        bytes_max: u64,
    },
    /// The connection ended in the middle, time and again.
    #[error("it ended after {bytes} bytes of {expected}")]
    CutOff {
        /// What came.
        bytes: u64,
        /// What was announced.
        expected: u64,
    },
    /// It is something else than was named.
    #[error("its digest is {found}, not {expected}")]
    Digest {
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
}

impl FetchError {
    /// True when the same may well go another way in a moment.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            FetchError::Http(error) => error.is_transient(),
            FetchError::CutOff { .. } => true,
            _ => false,
        }
    }
}

/// Something that can be asked for from any of its bytes on.
pub(crate) trait Origin: Sync {
    /// Asks for it from this byte on; a server may begin at the first all the same.
    fn ask(&self, from: u64) -> impl Future<Output = Result<Response, HttpError>> + Send;
}

/// What is to be fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Its digest, if known. Without it nothing of an earlier attempt is used: it may have changed.
    pub(crate) digest: Option<Digest>,
    /// Its exact size, if known.
    pub(crate) bytes: Option<u64>,
    pub(crate) bytes_max: u64,
}

/// Fetches something into this file, and says its size and digest. `done` follows what is there.
///
/// The file is left, in part, when the call is given up or fails, and continued by the next; it is gone when its content is wrong.
pub(crate) async fn fetch(
    origin: &impl Origin,
    path: &Path,
    wanted: Wanted,
    done: &watch::Sender<u64>,
) -> Result<(u64, Digest), FetchError> {
    let mut part = Part::open(path.to_owned(), wanted.digest.is_some()).await?;
    let began = part.bytes;
    let fetched = attempts(origin, &mut part, wanted, done).await;
    let (bytes, found) = match fetched {
        Ok(()) => part.finish().await?,
        Err(error) => {
            if wanted.digest.is_none() || matches!(error, FetchError::TooLarge { .. }) {
                discard(path);
            }
            return Err(error);
        }
    };
    match wanted.digest {
        Some(expected) if found != expected => {
            discard(path);
            match began {
                0 => Err(FetchError::Digest { expected, found }),
                // What an earlier attempt left may be what is wrong.
                _ => Box::pin(fetch(origin, path, wanted, done)).await,
            }
        }
        _ => Ok((bytes, found)),
    }
}

fn discard(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = ?path, %error, "what was fetched in vain cannot be removed");
    }
}

async fn attempts(
    origin: &impl Origin,
    part: &mut Part,
    wanted: Wanted,
    done: &watch::Sender<u64>,
) -> Result<(), FetchError> {
    let mut in_vain = 0;
    loop {
        done.send_replace(part.bytes);
        if wanted.bytes == Some(part.bytes) && part.bytes > 0 {
            return Ok(());
        }
        let before = part.bytes;
        let error = match attempt(origin, part, wanted, done).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_transient() => error,
            Err(error) => return Err(error),
        };
        in_vain = if part.bytes > before { 1 } else { in_vain + 1 };
        if in_vain >= ATTEMPTS_MAX {
            return Err(error);
        }
        if wanted.digest.is_none() {
            part.restart().await?;
        }
        let asked = match &error {
            FetchError::Http(error) => error.retry_after(),
            _ => None,
        };
        let pause = asked.map_or_else(|| pause(in_vain), |asked| asked.min(PAUSE_MAX));
        tracing::info!(error = apportion_types::text::chain(&error), ?pause, "fetching again");
        tokio::time::sleep(pause).await;
    }
}

/// Doubles from attempt to attempt, less up to a half by chance: those who failed together are not to come again together.
pub(crate) fn pause(attempts: u32) -> Duration {
    let longest = PAUSE_MIN.saturating_mul(1 << (attempts - 1).min(10)).min(PAUSE_MAX);
    let chance = RandomState::new().build_hasher().finish() % 512;
    longest - longest * u32::try_from(chance).unwrap_or(0) / 1024
}

async fn attempt(
    origin: &impl Origin,
    part: &mut Part,
    wanted: Wanted,
    done: &watch::Sender<u64>,
) -> Result<(), FetchError> {
    let mut response = match origin.ask(part.bytes).await {
        // What is here is not the beginning of what is there.
        Err(HttpError::Refused { status: 416, .. }) if part.bytes > 0 => {
            part.restart().await?;
            origin.ask(0).await?
        }
        asked => asked?,
    };
    if response.status() != StatusCode::PARTIAL_CONTENT || begins(&response) != Some(part.bytes) {
        part.restart().await?;
    }
    let expected = response.content_length().map(|length| length.saturating_add(part.bytes)).or(wanted.bytes);
    let bytes_max = wanted.bytes.unwrap_or(wanted.bytes_max);
    if expected.is_some_and(|expected| expected > bytes_max) {
        return Err(FetchError::TooLarge { bytes_max });
    }
    let url = response.url().to_string();
    while let Some(chunk) = response.chunk().await.map_err(|source| http::failed(&url, source))? {
        if part.bytes + chunk.len() as u64 > bytes_max {
            return Err(FetchError::TooLarge { bytes_max });
        }
        part.write(chunk.into()).await?;
        done.send_replace(part.bytes);
    }
    match wanted.bytes.or(expected) {
        Some(expected) if part.bytes < expected => Err(FetchError::CutOff { bytes: part.bytes, expected }),
        _ => Ok(()),
    }
}

/// The first byte of a partial answer.
fn begins(response: &Response) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// A file that is being written by a thread of its own. A new one of the same path waits until the thread of the last has ended.
struct Part {
    path: PathBuf,
    bytes: u64,
    pieces: mpsc::Sender<Piece>,
    thread: JoinHandle<io::Result<Digest>>,
}

enum Piece {
    Data(Vec<u8>),
    Restart,
}

impl Part {
    async fn open(path: PathBuf, keep: bool) -> Result<Self, FetchError> {
        let (pieces, inbox) = mpsc::channel(PIECES_MAX);
        let (opened, begins) = oneshot::channel();
        let thread = tokio::task::spawn_blocking({
            let path = path.clone();
            move || write(&path, keep, opened, inbox)
        });
        let mut part = Self { path, bytes: 0, pieces, thread };
        match begins.await {
            Ok(bytes) => part.bytes = bytes,
            Err(_) => return Err(part.failure().await),
        }
        Ok(part)
    }

    async fn write(&mut self, piece: Vec<u8>) -> Result<(), FetchError> {
        let bytes = piece.len() as u64;
        match self.pieces.send(Piece::Data(piece)).await {
            Ok(()) => self.bytes += bytes,
            Err(_) => return Err(self.failure().await),
        }
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), FetchError> {
        self.bytes = 0;
        match self.pieces.send(Piece::Restart).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    async fn finish(self) -> Result<(u64, Digest), FetchError> {
        drop(self.pieces);
        let digest =
            ended(self.thread.await).map_err(|source| FetchError::File { path: self.path, source })?;
        Ok((self.bytes, digest))
    }

    /// Why the thread has ended before its time.
    async fn failure(&mut self) -> FetchError {
        let source = ended((&mut self.thread).await).err();
        let source = source.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
        FetchError::File { path: self.path.clone(), source }
    }
}

fn ended<T>(thread: Result<io::Result<T>, tokio::task::JoinError>) -> io::Result<T> {
    thread.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn write(
    path: &Path,
    keep: bool,
    opened: oneshot::Sender<u64>,
    mut inbox: mpsc::Receiver<Piece>,
) -> io::Result<Digest> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    if !keep {
        restart(&mut file)?;
    }
    let mut hasher = Hasher::default();
    let mut bytes = 0;
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
        bytes = file.stream_position()?;
    }
    // Nobody waits for it any more if this fails; then there are no pieces either.
    let _ = opened.send(bytes);
    while let Some(piece) = inbox.blocking_recv() {
        match piece {
            Piece::Data(piece) => {
                file.write_all(&piece)?;
                hasher.update(&piece);
            }
            Piece::Restart => {
                restart(&mut file)?;
                hasher = Hasher::default();
            }
        }
    }
    Ok(hasher.finish())
}

fn restart(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0)).map(drop)
}
