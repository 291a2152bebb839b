//! What agents serve by themselves: the files of tasks, what they write and use, and images.

mod files;
mod images;
mod log;
mod usage;

use apportion_proto::v1::{ReadFileRequest, ReadFileResponse, sandbox_service_client::SandboxServiceClient};
use apportion_types::{FrameworkId, TaskId, text::chain};
pub use files::{Entry, Files, Kind, Listing, WriteError};
pub use images::{CachedImage, ImageCache, images, prune_images};
pub use log::{Log, LogPart, LogRequest, Output, Position, log};
use tonic::{Code, Status, Streaming, transport::Channel};
pub use usage::{TaskUsage, usage};

use crate::address::{describe, endpoint};

/// Which part of which file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nothing is read before `read` is called with it"]
pub struct Request {
    framework_id: FrameworkId,
    task_id: TaskId,
    path: String,
    offset: i64,
    length: Option<u64>,
    follow: bool,
}

impl Request {
    /// The whole of a file. `path` is relative to the task's sandbox, such as `stdout`.
    pub fn new(framework_id: FrameworkId, task_id: TaskId, path: impl Into<String>) -> Self {
        Self { framework_id, task_id, path: path.into(), offset: 0, length: None, follow: false }
    }

    /// Begins at this byte; a negative one counts from the file's end.
    pub fn offset(mut self, offset: i64) -> Self {
        self.offset = offset;
        self
    }

    /// Reads no more than so many bytes.
    pub fn length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    /// Goes on as the file grows, until the task has ended and everything is read.
    pub fn follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The position of its first byte in the file.
    pub offset: u64,
    /// The bytes; may be empty.
    pub data: Vec<u8>,
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The agent's address is not one.
    #[error(
        "`{address}` is not the address of an agent: {why}; it is part of offers and of the list of tasks"
    )]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The agent cannot be reached.
    #[error("agent at {address} cannot be reached: {why}")]
    Connect {
        /// Its address.
        address: String,
        /// How it failed.
        why: String,
    },
    /// The agent has no such task or file, or no longer.
    #[error("task `{task_id}` has no {what} on the agent at {address}: {message}")]
    NotFound {
        /// The task.
        task_id: TaskId,
        /// What was read, such as ``file `stdout` ``.
        what: String,
        /// The agent.
        address: String,
        /// The agent's words.
        message: String,
    },
    /// The agent did not answer.
    #[error("the agent at {address} did not do it: {message}")]
    Agent {
        /// The agent.
        address: String,
        /// How it failed.
        message: String,
    },
    /// The agent refused, or the connection broke.
    #[error("the {what} of task `{task_id}` cannot be had on the agent at {address}: {message}")]
    Failed {
        /// The task.
        task_id: TaskId,
        /// What was read.
        what: String,
        /// The agent.
        address: String,
        /// How it failed.
        message: String,
    },
}

/// A file being read.
#[derive(Debug)]
pub struct File {
    stream: Streaming<ReadFileResponse>,
    subject: Subject,
}

/// Opens a file of a task at its agent ([`Offer::address`](crate::Offer::address),
/// [`operator::TaskSummary::agent_address`](crate::operator::TaskSummary::agent_address)).
///
/// Each file has a connection of its own, which ends with it: one that is followed by a slow reader holds up no other.
pub async fn read(address: &str, request: Request) -> Result<File, SandboxError> {
    let subject = Subject::new(address, request.task_id.clone(), format!("file `{}`", request.path));
    let wire = ReadFileRequest {
        framework_id: request.framework_id.to_string(),
        task_id: request.task_id.to_string(),
        path: request.path,
        offset: request.offset,
        length: request.length,
        follow: request.follow,
        ..ReadFileRequest::default()
    };
    match connect(address).await?.read_file(wire).await {
        Ok(response) => Ok(File { stream: response.into_inner(), subject }),
        Err(status) => Err(subject.failed(&status)),
    }
}

impl SandboxError {
    fn agent(address: &str, status: &Status) -> SandboxError {
        SandboxError::Agent { address: address.to_owned(), message: describe(status) }
    }
}

/// A connection of its own to an agent.
async fn connect(address: &str) -> Result<SandboxServiceClient<Channel>, SandboxError> {
    channel(address).await.map(SandboxServiceClient::new)
}

async fn channel(address: &str) -> Result<Channel, SandboxError> {
    let endpoint =
        endpoint(address).map_err(|why| SandboxError::Address { address: address.to_owned(), why })?;
    let channel = endpoint.connect().await;
    channel.map_err(|error| SandboxError::Connect { address: address.to_owned(), why: chain(&error) })
}

impl File {
    /// The next part, in order; none at the end. When following, waits for more.
    pub async fn chunk(&mut self) -> Result<Option<Chunk>, SandboxError> {
        match self.stream.message().await {
            Ok(Some(ReadFileResponse { offset, data })) => Ok(Some(Chunk { offset, data: data.into() })),
            Ok(None) => Ok(None),
            Err(status) => Err(self.subject.failed(&status)),
        }
    }

    /// All that is left of it, in memory: for files whose size is known to be small, or with a
    /// [length](Request::length).
    pub async fn bytes(mut self) -> Result<Vec<u8>, SandboxError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk.data);
        }
        Ok(bytes)
    }
}

/// What is read where, for errors.
#[derive(Debug)]
struct Subject {
    address: String,
    task_id: TaskId,
    what: String,
}

impl Subject {
    fn new(address: &str, task_id: TaskId, what: String) -> Self {
        Self { address: address.to_owned(), task_id, what }
    }

    fn failed(&self, status: &Status) -> SandboxError {
        let (task_id, what, address) = (self.task_id.clone(), self.what.clone(), self.address.clone());
        let message = describe(status);
        match status.code() {
            Code::NotFound => SandboxError::NotFound { task_id, what, address, message },
            _ => SandboxError::Failed { task_id, what, address, message },
        }
    }
}
