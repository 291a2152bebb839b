//! `SandboxService`: reads files of tasks, and follows them while their task runs. Its commands are in `exec.rs`.

use std::{
    ffi::{OsStr, OsString},
    io::{self, SeekFrom},
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::Path,
    sync::Arc,
};

use apportion_agent_core::View;
use apportion_containerizer::Containerizer;
use apportion_proto::v1::{
    ExecRequest, ExecResponse, ListFilesRequest, ListFilesResponse, ReadFileRequest, ReadFileResponse,
    ReadLogRequest, ReadLogResponse, ReadUsageRequest, ReadUsageResponse, WriteFileRequest,
    WriteFileResponse, sandbox_service_server::SandboxService,
};
use apportion_types::{FrameworkId, TaskId, limits, text::chain};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    CHUNK_BYTES_MAX, CHUNKS_WAITING_MAX, FOLLOW_INTERVAL, exec, files, log,
    open::{self, OpenError},
    usage::{self, Measure},
};
use crate::paths::Paths;

/// The sandboxes of an agent.
pub(super) struct Sandboxes {
    paths: Paths,
    view: watch::Receiver<Arc<View>>,
    containerizer: Arc<dyn Containerizer>,
    sessions: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    writes: Semaphore,
    measure: Measure,
}

/// A task, by its framework and its own id.
pub(super) type Key = (FrameworkId, TaskId);

/// One run of a task.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) key: Key,
    pub(super) container_id: String,
}

impl Run {
    /// True when nothing will be written to its sandbox any more.
    pub(super) fn has_ended(&self, view: &View) -> bool {
        view.tasks
            .get(&self.key)
            .is_none_or(|task| task.state.is_terminal() || task.container_id.0 != self.container_id)
    }
}

impl Sandboxes {
    pub(super) fn new(
        paths: Paths,
        view: watch::Receiver<Arc<View>>,
        containerizer: Arc<dyn Containerizer>,
        measure: Measure,
    ) -> Self {
        let sessions = Arc::new(Semaphore::new(limits::EXEC_SESSIONS_MAX));
        let reads = Arc::new(Semaphore::new(limits::SANDBOX_READS_MAX));
        let writes = Semaphore::new(limits::SANDBOX_WRITES_MAX);
        Self { paths, view, containerizer, sessions, reads, writes, measure }
    }

    fn reading(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.reads.clone().try_acquire_owned().map_err(|_| {
            let most = limits::SANDBOX_READS_MAX;
            Status::resource_exhausted(format!(
                "{most} files and logs of this agent's tasks are being read, which is the most; end one of the readers"
            ))
        })
    }

    /// The newest run of a task, and its sandbox.
    fn newest(&self, framework_id: FrameworkId, task_id: TaskId) -> Result<(Run, OwnedFd), Status> {
        let folder = self.paths.task(&framework_id, &task_id);
        let missing = || {
            let known = self.view.borrow().tasks.get(&(framework_id.clone(), task_id.clone())).cloned();
            let remedy = known
                .and_then(|task| Some(format!("; look into that of its executor {}", task.info.executor()?)));
            Status::not_found(format!(
                "task {task_id} of framework {framework_id} has no sandbox on this agent{}",
                remedy.unwrap_or_default()
            ))
        };
        let latest = std::fs::read_link(folder.join(Paths::LATEST)).map_err(|_| missing())?;
        let container_id =
            latest.to_str().filter(|name| !name.contains('/') && *name != "..").ok_or_else(missing)?;
        let sandbox = open::folder(&folder.join(container_id)).map_err(|_| missing())?;
        let container_id = container_id.to_owned();
        Ok((Run { key: (framework_id, task_id), container_id }, sandbox))
    }
}

/// The task that is meant.
pub(super) fn key(framework_id: String, task_id: String) -> Result<Key, Status> {
    let framework_id =
        FrameworkId::new(framework_id).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let task_id = TaskId::new(task_id).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok((framework_id, task_id))
}

pub(super) fn refused(error: &OpenError) -> Status {
    let message = chain(error);
    match error {
        OpenError::Leaves { .. }
        | OpenError::Link { .. }
        | OpenError::NotAFile { .. }
        | OpenError::NotAFolder { .. } => Status::invalid_argument(message),
        OpenError::Missing { .. } => Status::not_found(message),
        OpenError::System { .. } => Status::internal(message),
    }
}

#[tonic::async_trait]
impl SandboxService for Sandboxes {
    type ReadFileStream = ReceiverStream<Result<ReadFileResponse, Status>>;

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let ReadFileRequest { framework_id, task_id, path, offset, length, follow, path_bytes } =
            request.into_inner();
        let path = if path_bytes.is_empty() { path.into() } else { OsString::from_vec(path_bytes.into()) };
        let (framework_id, task_id) = key(framework_id, task_id)?;
        let (run, sandbox) = self.newest(framework_id, task_id)?;
        let file = open::beneath(&sandbox, Path::new(&path)).map_err(|error| refused(&error))?;
        let permit = self.reading()?;
        let (chunks, responses) = mpsc::channel(CHUNKS_WAITING_MAX);
        let mut reader = Reader { file: File::from_std(file), run, view: self.view.clone(), chunks };
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = reader.read(offset, length.unwrap_or(u64::MAX), follow).await {
                // A reader that has gone does not need to know.
                let _ = reader
                    .chunks
                    .send(Err(Status::internal(format!("{path:?} cannot be read: {error}"))))
                    .await;
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    type ReadLogStream = ReceiverStream<Result<ReadLogResponse, Status>>;

    async fn read_log(
        &self,
        request: Request<ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        let request = request.into_inner();
        let (framework_id, task_id) = key(request.framework_id.clone(), request.task_id.clone())?;
        let (run, sandbox) = self.newest(framework_id, task_id)?;
        let responses = log::read(&request, &run, sandbox, &self.view, self.reading()?)?;
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn list_files(
        &self,
        request: Request<ListFilesRequest>,
    ) -> Result<Response<ListFilesResponse>, Status> {
        let ListFilesRequest { framework_id, task_id, path, after, files_max } = request.into_inner();
        let (framework_id, task_id) = key(framework_id, task_id)?;
        let (_, sandbox) = self.newest(framework_id, task_id)?;
        let listed = tokio::task::spawn_blocking(move || {
            files::list(&sandbox, Path::new(OsStr::from_bytes(&path)), &after, files_max)
        });
        let listed = listed.await.map_err(|error| Status::internal(error.to_string()))?;
        listed.map(Response::new).map_err(|error| refused(&error))
    }

    async fn write_file(
        &self,
        request: Request<Streaming<WriteFileRequest>>,
    ) -> Result<Response<WriteFileResponse>, Status> {
        let _permit = self.writes.try_acquire().map_err(|_| {
            let most = limits::SANDBOX_WRITES_MAX;
            Status::resource_exhausted(format!(
                "{most} files are being written to sandboxes of this agent, which is the most; try again when one is finished"
            ))
        })?;
        let sandbox = |framework_id, task_id| {
            let (framework_id, task_id) = key(framework_id, task_id)?;
            let (run, sandbox) = self.newest(framework_id, task_id.clone())?;
            match run.has_ended(&self.view.borrow()) {
                true => Err(Status::failed_precondition(format!(
                    "task {task_id} has ended; nothing is written to its sandbox any more"
                ))),
                false => Ok(sandbox),
            }
        };
        files::write(request.into_inner(), sandbox).await.map(Response::new)
    }

    async fn read_usage(
        &self,
        request: Request<ReadUsageRequest>,
    ) -> Result<Response<ReadUsageResponse>, Status> {
        let view = self.view.borrow().clone();
        usage::read(request.into_inner(), view, &self.containerizer, self.measure).await.map(Response::new)
    }

    type ExecStream = ReceiverStream<Result<ExecResponse, Status>>;

    async fn exec(
        &self,
        request: Request<Streaming<ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let session = self.sessions.clone().try_acquire_owned().map_err(|_| {
            let most = limits::EXEC_SESSIONS_MAX;
            Status::resource_exhausted(format!(
                "{most} commands are being executed beside tasks of this agent, which is the most; end one of them"
            ))
        })?;
        let responses =
            exec::exec(&*self.containerizer, self.view.clone(), request.into_inner(), session).await?;
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

struct Reader {
    file: File,
    run: Run,
    view: watch::Receiver<Arc<View>>,
    chunks: mpsc::Sender<Result<ReadFileResponse, Status>>,
}

impl Reader {
    async fn read(&mut self, offset: i64, length: u64, follow: bool) -> io::Result<()> {
        let size = self.file.metadata().await?.len();
        let mut at = match u64::try_from(offset) {
            Ok(offset) => offset,
            Err(_) => size.saturating_sub(offset.unsigned_abs()),
        };
        let end = at.saturating_add(length);
        self.file.seek(SeekFrom::Start(at)).await?;
        let mut said = false;
        let mut buffer = vec![0; CHUNK_BYTES_MAX];
        loop {
            // Looked at before reading: what was written before the end is there to be read after it.
            let last = !follow || self.run.has_ended(&self.view.borrow_and_update());
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
                let read = self.file.read(&mut buffer[..most]).await?;
                if read == 0 {
                    break;
                }
                if !self.say(at, &buffer[..read]).await {
                    return Ok(());
                }
                said = true;
                at += read as u64;
            }
            // Also tells a reader that follows an empty file that there is one.
            if !said && !self.say(at, &[]).await {
                return Ok(());
            }
            said = true;
            if last || at >= end {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
                // Without a view the agent has ended.
                changed = self.view.changed() => if changed.is_err() { return Ok(()) },
                () = self.chunks.closed() => return Ok(()),
            }
        }
    }

    /// False when nobody reads any more.
    async fn say(&self, offset: u64, data: &[u8]) -> bool {
        let data = prost::bytes::Bytes::copy_from_slice(data);
        self.chunks.send(Ok(ReadFileResponse { offset, data })).await.is_ok()
    }
}
