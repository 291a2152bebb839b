//! Commands beside tasks: a stream of requests and one of responses for each, and its end with either.

use std::{io, path::PathBuf, sync::Arc};

use apportion_agent_core::View;
use apportion_containerizer::{
    ContainerError, ContainerId, Containerizer, Exec, ExecError, ExecInput, ExecOutput, ExecSpec,
    LaunchError, TerminalSize,
};
use apportion_proto::v1::{
    self, ExecCommand, ExecEnd, ExecRequest, ExecResponse, exec_end, exec_request::Request,
    exec_response::Response,
};
use apportion_types::{TaskState, container::Exit, text::chain};
use prost::bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{OwnedSemaphorePermit, mpsc, watch},
};
use tonic::{Status, Streaming};

use super::{CHUNK_BYTES_MAX, CHUNKS_WAITING_MAX, sandbox};

type Views = watch::Receiver<Arc<View>>;
type Responses = mpsc::Sender<Result<ExecResponse, Status>>;

/// Executes what the first request says; returns what becomes of it once it was executed, or could not be. The permit is held to its end.
pub(super) async fn exec(
    containerizer: &dyn Containerizer,
    view: Views,
    mut requests: Streaming<ExecRequest>,
    permit: OwnedSemaphorePermit,
) -> Result<mpsc::Receiver<Result<ExecResponse, Status>>, Status> {
    let first = requests.message().await?.and_then(|first| first.request);
    let Some(Request::Command(command)) = first else {
        return Err(Status::invalid_argument("the first request must be the command to execute"));
    };
    let (container, spec) = asked(command, &view)?;
    let (responses, answer) = mpsc::channel(CHUNKS_WAITING_MAX);
    match containerizer.exec(&container, spec).await {
        Ok(exec) => {
            tokio::spawn(async move {
                session(exec, requests, responses, view).await;
                drop(permit);
            });
        }
        Err(error) => {
            let Some(code) = error.exit_code() else { return Err(refused(&error)) };
            let end = ended(Exit::Code(code.into()), chain(&error));
            responses.try_send(Ok(end)).expect("there is room for the first");
        }
    }
    Ok(answer)
}

/// Where to execute what, if the task runs.
fn asked(command: ExecCommand, view: &Views) -> Result<(ContainerId, ExecSpec), Status> {
    let ExecCommand { framework_id, task_id, argv, env, user, working_dir, terminal } = command;
    let key = sandbox::key(framework_id, task_id)?;
    let spec = ExecSpec {
        argv,
        env: env.into_iter().collect(),
        user: Some(user).filter(|user| !user.is_empty()),
        working_dir: Some(PathBuf::from(working_dir)).filter(|folder| !folder.as_os_str().is_empty()),
        terminal: terminal.map(size).transpose()?,
    };
    let (framework_id, task_id) = &key;
    let view = view.borrow();
    let task = view.tasks.get(&key).ok_or_else(|| {
        let what = format!("task {task_id} of framework {framework_id} does not run on this agent");
        Status::not_found(format!("{what}; a command can only be executed beside a task that runs"))
    })?;
    if let Some(executor) = task.info.executor() {
        return Err(Status::failed_precondition(format!(
            "task {task_id} has no container of its own; execute the command beside its executor {executor}"
        )));
    }
    if matches!(task.state, TaskState::Staging | TaskState::Starting) {
        return Err(Status::failed_precondition(format!(
            "task {task_id} has not started yet; ask again when it runs"
        )));
    }
    Ok((ContainerId(task.container_id.0.clone()), spec))
}

fn size(size: v1::TerminalSize) -> Result<TerminalSize, Status> {
    match (u16::try_from(size.rows), u16::try_from(size.columns)) {
        (Ok(rows), Ok(columns)) => Ok(TerminalSize { rows, columns }),
        _ => Err(Status::invalid_argument(format!(
            "a terminal has at most 65535 rows and columns, not {} and {}",
            size.rows, size.columns
        ))),
    }
}

fn refused(error: &ExecError) -> Status {
    let message = chain(error);
    match error {
        ExecError::Container(ContainerError::Unknown { .. }) | ExecError::NotRunning { .. } => {
            Status::failed_precondition(message)
        }
        ExecError::TooLong { .. }
        | ExecError::Start(
            LaunchError::EmptyCommand
            | LaunchError::Unpassable { .. }
            | LaunchError::User { .. }
            | LaunchError::WorkingDir { .. },
        ) => Status::invalid_argument(message),
        _ => Status::internal(message),
    }
}

/// Carries input and output until the command has ended, nobody listens any more, or the agent ends; leaving ends the command.
async fn session(exec: Exec, requests: Streaming<ExecRequest>, responses: Responses, mut view: Views) {
    let Exec { input, output, errors, mut process } = exec;
    let (resized, mut sizes) = watch::channel(None);
    let exit = async {
        loop {
            tokio::select! {
                exit = process.wait() => return exit,
                Ok(()) = sizes.changed() => {
                    let size: Option<TerminalSize> = *sizes.borrow_and_update();
                    if let Some(Err(error)) = size.map(|size| process.resize(size)) {
                        tracing::warn!(%error, "a command's terminal cannot be resized");
                    }
                }
            }
        }
    };
    let writes = async {
        let (exit, output, errors) = tokio::join!(
            exit,
            carry(Some(output), Response::Output, &responses),
            carry(errors, Response::Errors, &responses)
        );
        output.and(errors).map(|()| exit)
    };
    let last = tokio::select! {
        exit = writes => exit
            .map(|exit| ended(exit, String::new()))
            .map_err(|error| Status::internal(format!("what the command writes cannot be read: {error}"))),
        status = listen(requests, input, resized) => Err(status),
        () = responses.closed() => return,
        // Without a view the agent has ended.
        _ = view.wait_for(|_| false) => Err(Status::unavailable("the agent ends, and with it the command")),
    };
    // Whoever has gone does not need to know.
    let _ = responses.send(last).await;
}

/// Passes on what the command writes. Whether somebody listens is looked at elsewhere.
async fn carry(
    from: Option<ExecOutput>,
    part: fn(Bytes) -> Response,
    responses: &Responses,
) -> io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; CHUNK_BYTES_MAX];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let response = part(Bytes::copy_from_slice(&buffer[..read]));
        let _ = responses.send(Ok(ExecResponse { response: Some(response) })).await;
    }
}

/// Does what is asked for while the command runs; returns only when that makes no sense, or the connection broke.
async fn listen(
    mut requests: Streaming<ExecRequest>,
    input: ExecInput,
    resized: watch::Sender<Option<TerminalSize>>,
) -> Status {
    let mut input = Some(input);
    loop {
        match requests.message().await {
            Ok(Some(ExecRequest { request: Some(Request::Input(bytes)) })) => {
                // A command that reads no more may go on without.
                if let Some(to) = &mut input
                    && to.write_all(&bytes).await.is_err()
                {
                    input = None;
                }
            }
            Ok(Some(ExecRequest { request: Some(Request::CloseInput(_)) })) => input = None,
            Ok(Some(ExecRequest { request: Some(Request::Resize(to)) })) => match size(to) {
                // Whoever looks after it may have seen its end.
                Ok(size) => drop(resized.send(Some(size))),
                Err(status) => return status,
            },
            Ok(Some(ExecRequest { request: Some(Request::Command(_)) })) => {
                return Status::invalid_argument("the command was said already; open a stream for each");
            }
            Ok(Some(ExecRequest { request: None })) => {
                return Status::invalid_argument("a request that this agent does not know");
            }
            Ok(None) => {
                drop(input);
                return std::future::pending().await;
            }
            Err(status) => return status,
        }
    }
}

fn ended(exit: Exit, message: String) -> ExecResponse {
    let exit = match exit {
        Exit::Code(code) => exec_end::Exit::ExitCode(code),
        Exit::Signal(signal) => exec_end::Exit::ExitSignal(signal),
    };
    ExecResponse { response: Some(Response::End(ExecEnd { exit: Some(exit), message })) }
}
