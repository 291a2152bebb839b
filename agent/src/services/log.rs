//! `ReadLog`: what a task has written, over all files that it is kept in.

use std::{
    fmt,
    io::{self, SeekFrom},
    os::fd::OwnedFd,
    str::FromStr,
    sync::Arc,
};

use apportion_agent_core::View;
use apportion_proto::v1::{Output, ReadLogRequest, ReadLogResponse};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::{OwnedSemaphorePermit, mpsc, watch},
};
use tonic::Status;

use super::{
    CHUNK_BYTES_MAX, CHUNKS_WAITING_MAX, FOLLOW_INTERVAL,
    rotated::{FileId, Files, Next, Place, Tail},
    sandbox::Run,
};

type Responses = mpsc::Sender<Result<ReadLogResponse, Status>>;

/// The outputs, and the files that they are kept in.
const OUTPUTS: [(Output, &str); 2] = [(Output::Stdout, "stdout"), (Output::Stderr, "stderr")];

/// A place in a log, as clients are told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    output: Output,
    place: Place,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { output, place: Place { file: FileId { inode, born }, offset } } = self;
        write!(f, "{}:{inode}:{born}:{offset}", name(*output))
    }
}

impl FromStr for Position {
    type Err = Status;

    fn from_str(text: &str) -> Result<Self, Status> {
        let parse = || {
            let mut parts = text.split(':');
            let name = parts.next()?;
            let (output, _) = OUTPUTS.into_iter().find(|output| output.1 == name)?;
            let file = FileId { inode: parts.next()?.parse().ok()?, born: parts.next()?.parse().ok()? };
            // What the kernel takes for a place in a file.
            let offset = u64::try_from(parts.next()?.parse::<i64>().ok()?).ok()?;
            let place = Place { file, offset };
            parts.next().is_none().then_some(Position { output, place })
        };
        parse().ok_or_else(|| {
            Status::invalid_argument(format!("{text:?} is no position in a log; give one that was answered"))
        })
    }
}

fn name(output: Output) -> &'static str {
    OUTPUTS.into_iter().find(|known| known.0 == output).map_or("", |known| known.1)
}

/// Where to begin.
#[derive(Debug, Clone, Copy)]
enum Start {
    Oldest,
    Tail(Tail),
    After(Place),
}

/// Reads the logs that a request names, beside each other. The permit is held until all are read.
pub(super) fn read(
    request: &ReadLogRequest,
    run: &Run,
    sandbox: OwnedFd,
    view: &watch::Receiver<Arc<View>>,
    permit: OwnedSemaphorePermit,
) -> Result<mpsc::Receiver<Result<ReadLogResponse, Status>>, Status> {
    let asked = |output: Output| request.outputs.is_empty() || request.outputs.contains(&output.into());
    if request.outputs.iter().any(|output| OUTPUTS.iter().all(|known| i32::from(known.0) != *output)) {
        return Err(Status::invalid_argument("an output is neither OUTPUT_STDOUT nor OUTPUT_STDERR"));
    }
    let after: Vec<Position> = request.after.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let (parts, responses) = mpsc::channel(CHUNKS_WAITING_MAX);
    let (sandbox, permit) = (Arc::new(sandbox), Arc::new(permit));
    for (output, name) in OUTPUTS.into_iter().filter(|(output, _)| asked(*output)) {
        let start = match after.iter().rfind(|position| position.output == output) {
            Some(Position { place: Place { file: FileId::NONE, .. }, .. }) => Start::Oldest,
            Some(position) => Start::After(position.place),
            None if request.tail_lines.is_none() && request.tail_bytes.is_none() => Start::Oldest,
            None => {
                Start::Tail(Tail { lines: request.tail_lines, bytes: request.tail_bytes.unwrap_or(u64::MAX) })
            }
        };
        let files = Files::new(sandbox.clone(), name);
        let mut reader = Reader {
            output,
            files,
            run: run.clone(),
            view: view.clone(),
            parts: parts.clone(),
            gone: None,
            missed: false,
        };
        let (follow, permit) = (request.follow, permit.clone());
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = reader.read(start, follow).await {
                // A reader that has gone does not need to know.
                let status = Status::internal(format!("{name} cannot be read: {error}"));
                let _ = reader.parts.send(Err(status)).await;
            }
        });
    }
    Ok(responses)
}

struct Reader {
    output: Output,
    files: Files,
    run: Run,
    view: watch::Receiver<Arc<View>>,
    parts: Responses,
    /// The file that was to be begun with, when it is not there any more.
    gone: Option<FileId>,
    /// True until a part has said so.
    missed: bool,
}

/// A file that is being read.
struct Open {
    id: FileId,
    file: File,
    offset: u64,
}

impl Open {
    async fn at(id: FileId, file: std::fs::File, offset: u64) -> io::Result<Open> {
        let mut file = File::from_std(file);
        file.seek(SeekFrom::Start(offset)).await?;
        Ok(Open { id, file, offset })
    }
}

impl Reader {
    async fn read(&mut self, start: Start, follow: bool) -> io::Result<()> {
        let mut open = self.begin(start).await?;
        if follow || self.missed {
            // Whoever goes on elsewhere has to know where, also when nothing was written in the meantime.
            let none = (self.gone.unwrap_or(FileId::NONE), 0);
            let (file, offset) = open.as_ref().map_or(none, |open| (open.id, open.offset));
            if !self.say(file, offset, &[]).await {
                return Ok(());
            }
        }
        let end = if follow { None } else { self.with_files(Files::end).await? };
        loop {
            // Looked at before reading: what was written before the end is there to be read after it.
            let last = !follow || self.run.has_ended(&self.view.borrow_and_update());
            if let Some(open) = &mut open
                && !self.rest(open, end).await?
            {
                return Ok(());
            }
            let id = open.as_ref().map(|open| open.id).or(self.gone);
            if end.is_some_and(|end| Some(end.file) == id) {
                return Ok(());
            }
            let newest = self.files.newest()?;
            let next = match id {
                Some(_) if newest == id => Next::Nothing,
                id => self.with_files(move |files| files.next(id)).await?,
            };
            match next {
                Next::File { id, file, missed } => {
                    // It had been written to until the next one was begun.
                    if let Some(open) = &mut open
                        && !self.rest(open, end).await?
                    {
                        return Ok(());
                    }
                    // Of the file to begin with it is said.
                    self.missed |= missed && open.is_some();
                    if missed && !follow {
                        // What was the end is gone.
                        self.say(id, 0, &[]).await;
                        return Ok(());
                    }
                    open = Some(Open::at(id, file, 0).await?);
                }
                Next::Nothing if last => return Ok(()),
                Next::Nothing => tokio::select! {
                    () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
                    changed = self.view.changed() => if changed.is_err() {
                        let ends = Status::unavailable("the agent ends; its tasks go on, and so can who reads");
                        let _ = self.parts.send(Err(ends)).await;
                        return Ok(());
                    },
                    () = self.parts.closed() => return Ok(()),
                },
            }
        }
    }

    /// The file to begin with, if there is any yet.
    async fn begin(&mut self, start: Start) -> io::Result<Option<Open>> {
        let place = match start {
            Start::Oldest => {
                self.missed = self.with_files(Files::is_cut).await?;
                None
            }
            Start::Tail(tail) => self.with_files(move |files| files.tail(tail)).await?,
            Start::After(place) => Some(place),
        };
        if let Some(place) = place {
            if let Some(file) = self.with_files(move |files| files.at(place)).await? {
                return Ok(Some(Open::at(place.file, file, place.offset).await?));
            }
            (self.gone, self.missed) = (Some(place.file), true);
        }
        let gone = self.gone;
        match self.with_files(move |files| files.next(gone)).await? {
            Next::File { id, file, .. } => Ok(Some(Open::at(id, file, 0).await?)),
            Next::Nothing => Ok(None),
        }
    }

    /// Passes on what the file holds as yet, or holds before the end; false when nobody reads any more.
    async fn rest(&mut self, open: &mut Open, end: Option<Place>) -> io::Result<bool> {
        if open.file.metadata().await?.len() < open.offset {
            // The task itself has emptied it.
            open.offset = open.file.seek(SeekFrom::Start(0)).await?;
            self.missed = true;
        }
        let end = end.filter(|end| end.file == open.id).map_or(u64::MAX, |end| end.offset);
        let mut buffer = Vec::new();
        while open.offset < end.min(open.file.metadata().await?.len()) {
            buffer.resize(CHUNK_BYTES_MAX, 0);
            let most = usize::try_from(end - open.offset).unwrap_or(usize::MAX).min(buffer.len());
            let read = open.file.read(&mut buffer[..most]).await?;
            if read == 0 {
                break;
            }
            open.offset += read as u64;
            if !self.say(open.id, open.offset, &buffer[..read]).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// False when nobody reads any more.
    async fn say(&mut self, file: FileId, offset: u64, data: &[u8]) -> bool {
        let position = Position { output: self.output, place: Place { file, offset } };
        let part = ReadLogResponse {
            output: self.output.into(),
            data: prost::bytes::Bytes::copy_from_slice(data),
            position: position.to_string(),
            missed: std::mem::take(&mut self.missed),
        };
        self.parts.send(Ok(part)).await.is_ok()
    }

    /// Looks at the files where that may take a moment.
    async fn with_files<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Files) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let files = self.files.clone();
        let looked = tokio::task::spawn_blocking(move || look(&files)).await;
        looked.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

#[cfg(test)]
mod tests;
