//! The files of a task's sandbox: what there is, and putting some there.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use apportion_proto::v1::{
    self, FileKind, ListFilesRequest, ReadFileRequest, WriteFileRequest, WriteFileStart,
    sandbox_service_client::SandboxServiceClient, write_file_request::Request,
};
use apportion_types::{FrameworkId, TaskId, Time};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{File, SandboxError, Subject, connect};

/// Bytes of one request.
const CHUNK_BYTES: usize = 64 << 10;

/// Requests that wait for the agent.
const REQUESTS_WAITING_MAX: usize = 4;

/// What something in a sandbox is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, and what it holds; agents follow none.
    Link(PathBuf),
    /// A pipe, a socket, a device.
    Special,
}

/// Something in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in its folder; empty for the sandbox itself.
    pub name: OsString,
    /// What it is.
    pub kind: Kind,
    /// The bytes of a file.
    pub size_bytes: u64,
    /// Its permissions, as `chmod` counts them.
    pub mode: u32,
    /// When it was last written to.
    pub modified_at: Time,
    /// The number of its owner, as the agent's machine has it.
    pub user: u32,
    /// The same of its group.
    pub group: u32,
}

impl From<v1::FileInfo> for Entry {
    fn from(wire: v1::FileInfo) -> Self {
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        Entry {
            kind: match wire.kind() {
                FileKind::File => Kind::File,
                FileKind::Folder => Kind::Folder,
                FileKind::Link => Kind::Link(path(&wire.link_target)),
                FileKind::Special | FileKind::Unspecified => Kind::Special,
            },
            name: OsString::from_vec(wire.name.into()),
            size_bytes: wire.size_bytes,
            mode: wire.mode,
            modified_at: Time::from_micros(u64::try_from(wire.modified_us).unwrap_or(0)),
            user: wire.user,
            group: wire.group,
        }
    }
}

/// What a path is, and a part of what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The path itself.
    pub itself: Entry,
    /// What is in it, by name; nothing unless it is a folder.
    pub entries: Vec<Entry>,
    /// True when there is more behind the last of these.
    pub more: bool,
}

/// The sandbox of a task at its agent; all calls share a connection.
#[derive(Debug, Clone)]
pub struct Files {
    client: SandboxServiceClient<Channel>,
    address: String,
    framework_id: FrameworkId,
    task_id: TaskId,
}

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// What was to be written cannot be read.
    #[error("what is to be written to `{}` cannot be read", path.display())]
    Source {
        /// The file of the sandbox.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The agent did not write it.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

impl Files {
    /// Connects to the agent at this address ([`operator::TaskSummary::agent_address`](crate::operator::TaskSummary::agent_address)).
    pub async fn connect(
        address: &str,
        framework_id: FrameworkId,
        task_id: TaskId,
    ) -> Result<Files, SandboxError> {
        let client = connect(address).await?;
        Ok(Files { client, address: address.to_owned(), framework_id, task_id })
    }

    fn subject(&self, what: &str, path: &Path) -> Subject {
        Subject::new(&self.address, self.task_id.clone(), format!("{what} `{}`", path.display()))
    }

    /// What a path, relative to the sandbox, is, and what is in it behind this name. The sandbox itself is the empty path.
    pub async fn list(&mut self, path: &Path, after: &OsStr) -> Result<Listing, SandboxError> {
        let request = ListFilesRequest {
            framework_id: self.framework_id.to_string(),
            task_id: self.task_id.to_string(),
            path: path.as_os_str().as_bytes().to_vec().into(),
            after: after.as_bytes().to_vec().into(),
            files_max: 0,
        };
        let answer = self.client.list_files(request).await;
        let answer = answer.map_err(|status| self.subject("path", path).failed(&status))?.into_inner();
        Ok(Listing {
            itself: answer.itself.unwrap_or_default().into(),
            entries: answer.files.into_iter().map(Entry::from).collect(),
            more: answer.more,
        })
    }

    /// Opens a file, from its beginning.
    pub async fn read(&mut self, path: &Path) -> Result<File, SandboxError> {
        let request = ReadFileRequest {
            framework_id: self.framework_id.to_string(),
            task_id: self.task_id.to_string(),
            path_bytes: path.as_os_str().as_bytes().to_vec().into(),
            ..ReadFileRequest::default()
        };
        let subject = self.subject("file", path);
        match self.client.read_file(request).await {
            Ok(response) => Ok(File { stream: response.into_inner(), subject }),
            Err(status) => Err(subject.failed(&status)),
        }
    }

    /// Makes a folder with these permissions; one that is there stays as it is.
    pub async fn make_folder(&mut self, path: &Path, mode: u32) -> Result<(), SandboxError> {
        let start = tokio_stream::once(self.start(path, mode, true));
        let made = self.client.write_file(start).await;
        made.map(drop).map_err(|status| self.subject("folder", path).failed(&status))
    }

    /// Writes a file with these permissions, as a whole or not at all, in place of one that is there. Gives its size.
    pub async fn write(
        &mut self,
        path: &Path,
        mode: u32,
        mut from: impl AsyncRead + Unpin,
    ) -> Result<u64, WriteError> {
        let subject = self.subject("file", path);
        let (requests, outgoing) = mpsc::channel(REQUESTS_WAITING_MAX);
        let start = self.start(path, mode, false);
        let feed = async move {
            // Why the agent takes no more, its answer says.
            let mut wanted = requests.send(start).await.is_ok();
            let mut buffer = vec![0; CHUNK_BYTES];
            while wanted {
                let read = from.read(&mut buffer).await?;
                let request = match read {
                    0 => Request::Finish(true),
                    read => Request::Data(buffer[..read].to_vec().into()),
                };
                wanted = requests.send(WriteFileRequest { request: Some(request) }).await.is_ok() && read > 0;
            }
            // Whoever waits for the end of the requests sees it.
            drop(requests);
            std::future::pending::<io::Result<()>>().await
        };
        tokio::select! {
            written = self.client.write_file(ReceiverStream::new(outgoing)) => {
                let written = written.map_err(|status| subject.failed(&status))?;
                Ok(written.into_inner().size_bytes)
            }
            Err(source) = feed => Err(WriteError::Source { path: path.to_owned(), source }),
        }
    }

    fn start(&self, path: &Path, mode: u32, folder: bool) -> WriteFileRequest {
        let start = WriteFileStart {
            framework_id: self.framework_id.to_string(),
            task_id: self.task_id.to_string(),
            path: path.as_os_str().as_bytes().to_vec().into(),
            mode,
            folder,
        };
        WriteFileRequest { request: Some(Request::Start(start)) }
    }
}
