//! Reading what tasks write, over all files that their agents keep it in.

use apportion_proto::v1::{self, ReadLogRequest, ReadLogResponse};
use apportion_types::{FrameworkId, TaskId};
use tonic::Streaming;

use super::{SandboxError, Subject, connect};

/// What a task writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

impl From<Output> for v1::Output {
    fn from(output: Output) -> Self {
        match output {
            Output::Stdout => v1::Output::Stdout,
            Output::Stderr => v1::Output::Stderr,
        }
    }
}

/// A place in a log, as the agent names it; it holds for as long as the agent keeps what was written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position(pub String);

/// Which logs of a task to read, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nothing is read before `log` is called with it"]
pub struct LogRequest {
    framework_id: FrameworkId,
    task_id: TaskId,
    outputs: Vec<Output>,
    tail_lines: Option<u64>,
    tail_bytes: Option<u64>,
    after: Vec<Position>,
    follow: bool,
}

impl LogRequest {
    /// All that is kept of both outputs.
    pub fn new(framework_id: FrameworkId, task_id: TaskId) -> Self {
        Self {
            framework_id,
            task_id,
            outputs: Vec::new(),
            tail_lines: None,
            tail_bytes: None,
            after: Vec::new(),
            follow: false,
        }
    }

    /// One output alone.
    pub fn only(mut self, output: Output) -> Self {
        self.outputs = vec![output];
        self
    }

    /// Begins with the last so many lines of each; 0 with what is written from now on.
    pub fn tail(mut self, lines: u64) -> Self {
        self.tail_lines = Some(lines);
        self
    }

    /// Begins with no more than so many of the last bytes of each.
    pub fn tail_bytes(mut self, bytes: u64) -> Self {
        self.tail_bytes = Some(bytes);
        self
    }

    /// Begins, for the output of this position, behind it.
    pub fn after(mut self, position: Position) -> Self {
        self.after.push(position);
        self
    }

    /// Goes on as the logs grow, until the task has ended and everything is read.
    pub fn follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPart {
    /// Of which output.
    pub output: Output,
    /// The bytes; empty in the first part of an output that is followed, which says where it begins.
    pub data: Vec<u8>,
    /// Where it ends.
    pub position: Position,
    /// Something before it may be missing: it was deleted, to hold the bounds of the log, before it was read.
    pub missed: bool,
}

/// Logs being read.
#[derive(Debug)]
pub struct Log {
    stream: Streaming<ReadLogResponse>,
    subject: Subject,
}

/// Opens the logs of a task at its agent, as [`read`](super::read) a file.
pub async fn log(address: &str, request: LogRequest) -> Result<Log, SandboxError> {
    let LogRequest { framework_id, task_id, outputs, tail_lines, tail_bytes, after, follow } = request;
    let subject = Subject::new(address, task_id.clone(), "log".to_owned());
    let wire = ReadLogRequest {
        framework_id: framework_id.to_string(),
        task_id: task_id.to_string(),
        outputs: outputs.into_iter().map(|output| v1::Output::from(output).into()).collect(),
        tail_lines,
        tail_bytes,
        after: after.into_iter().map(|position| position.0).collect(),
        follow,
    };
    match connect(address).await?.read_log(wire).await {
        Ok(response) => Ok(Log { stream: response.into_inner(), subject }),
        Err(status) => Err(subject.failed(&status)),
    }
}

impl Log {
    /// The next part, in order for each output; none at the end. When following, waits for more.
    pub async fn part(&mut self) -> Result<Option<LogPart>, SandboxError> {
        loop {
            let part = self.stream.message().await.map_err(|status| self.subject.failed(&status))?;
            let Some(ReadLogResponse { output, data, position, missed }) = part else { return Ok(None) };
            let output = match v1::Output::try_from(output) {
                Ok(v1::Output::Stdout) => Output::Stdout,
                Ok(v1::Output::Stderr) => Output::Stderr,
                // Of an agent that is newer.
                Ok(v1::Output::Unspecified) | Err(_) => continue,
            };
            return Ok(Some(LogPart { output, data: data.into(), position: Position(position), missed }));
        }
    }
}
