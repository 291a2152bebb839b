//! `apportion exec TASK -- COMMAND`: one more command in a task's container, as if it ran here.

use std::{collections::HashMap, process::ExitCode, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use apportion_proto::v1::{
    ExecCommand, ExecEnd, ExecRequest, ExecResponse, TerminalSize, exec_end::Exit, exec_request::Request,
    exec_response::Response, sandbox_service_client::SandboxServiceClient,
};
use apportion_sdk::operator::TaskSummary;
use apportion_types::{FrameworkId, TaskId, text::chain};
use tokio::{
    io::AsyncReadExt as _,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Endpoint};

use crate::{
    Usage,
    client::{self, Client},
    logs,
    output::{self, Format},
    relay::{self, Relay},
    terminal,
};

/// Execute one more command in the container of a task that runs
///
/// The command is in all that the task is in and held to: its files, its user, its limits. It ends with the task, and when this
/// process ends. Its exit code is this one's; 128 and the number of a signal that ended it; 127 when there is no such program, and
/// 126 when it cannot be executed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task's id, as `apportion tasks` shows it
    task: TaskId,
    /// The framework whose task it is; needed only when several have one of this id
    #[arg(long, value_name = "ID")]
    framework: Option<FrameworkId>,
    /// Pass standard input on to the command
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal of this one's size; with -i each key goes there, Ctrl-C too
    #[arg(short, long)]
    tty: bool,
    /// Set a variable of the command's environment; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// The user that the command runs as, as the container knows it [default: the task's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// The folder that the command begins in, as the container sees it [default: the task's]
    #[arg(short, long, value_name = "FOLDER")]
    workdir: Option<String>,
    #[command(flatten)]
    client: client::SettingsArgs,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    argv: Vec<String>,
}

/// Bytes of one request.
const CHUNK_BYTES: usize = 16 << 10;

/// Requests that wait for the agent.
const REQUESTS_WAITING_MAX: usize = 4;

/// How long a silent agent is waited for before it is asked for a sign of life, and again for that.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it must be NAME=VALUE".to_owned()),
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { task, framework, interactive, tty, env, user, workdir, client, argv } = args;
    if interactive && tty && !terminal::typed() {
        let message = "-t with -i needs a terminal as standard input; leave out -t to pass on a file or pipe";
        return Err(Usage(message.to_owned()).into());
    }
    let Some(client) = client.start(Format::Text)? else { return Ok(ExitCode::SUCCESS) };
    let mut env: HashMap<String, String> = env.into_iter().collect();
    if let (true, Ok(kind)) = (tty, std::env::var("TERM")) {
        env.entry("TERM".to_owned()).or_insert(kind);
    }
    let session = async {
        let task = logs::find(&client, framework, task).await?;
        let command = ExecCommand {
            framework_id: task.framework_id.to_string(),
            task_id: task.info.task_id.to_string(),
            argv,
            env,
            user: user.unwrap_or_default(),
            working_dir: workdir.unwrap_or_default(),
            terminal: tty.then(size),
        };
        execute(&client, &task, command, interactive).await
    };
    // Whichever ends first: with the other one everything is put back that it changed.
    tokio::select! {
        biased;
        signal = relay::asked_to_end() => Ok(relay::of_signal(signal?)),
        end = session => end.map(code),
    }
}

fn size() -> TerminalSize {
    let (rows, columns) = terminal::size();
    TerminalSize { rows: rows.into(), columns: columns.into() }
}

/// As a shell would give it.
fn code(end: ExecEnd) -> ExitCode {
    if !end.message.is_empty() {
        output::say(&format!("error: {}", end.message));
    }
    match end.exit {
        Some(Exit::ExitCode(code)) => relay::of_code(code),
        Some(Exit::ExitSignal(signal)) => relay::of_signal(signal),
        None => ExitCode::FAILURE,
    }
}

/// Executes a command and carries its input and output, until it ends.
async fn execute(
    client: &Client,
    task: &TaskSummary,
    command: ExecCommand,
    interactive: bool,
) -> anyhow::Result<ExecEnd> {
    let (id, address) = (&task.info.task_id, &task.agent_address);
    if task.state.is_terminal() {
        bail!(
            "task `{id}` has ended ({}); a command can only be executed beside a task that runs",
            task.state
        );
    }
    if address.is_empty() {
        bail!("the agent of task `{id}` is not there");
    }
    let failed =
        |status: Status| anyhow!("executing beside task `{id}` on the agent at {address}: {}", said(&status));
    let tty = command.terminal.is_some();
    let (requests, outgoing) = mpsc::channel(REQUESTS_WAITING_MAX);
    requests.send(request(Request::Command(command))).await.context("the agent is not asked")?;
    let begun = async {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect().await;
        let channel =
            channel.map_err(|e| anyhow!("the agent at {address} cannot be reached: {}", chain(&e)))?;
        let responses = SandboxServiceClient::new(channel).exec(ReceiverStream::new(outgoing)).await;
        anyhow::Ok(responses.map_err(failed)?.into_inner())
    };
    let mut responses = tokio::time::timeout(client.timeout, begun)
        .await
        .map_err(|_| anyhow!("{}", client::late(&format!("the agent at {address}"), client.timeout)))??;
    let _raw = if tty && interactive {
        Some(terminal::Raw::begin().context("taking over the terminal")?)
    } else {
        None
    };
    let resizes = tty.then(|| requests.clone());
    let typed = interactive.then_some(requests);
    tokio::select! {
        end = relay(&mut responses, failed) => end,
        error = read(typed) => Err(error),
        error = watch_size(resizes) => Err(error),
    }
}

/// An agent's words, or how the connection to it broke.
fn said(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => chain(source),
        None => status.message().to_owned(),
    }
}

fn request(request: Request) -> ExecRequest {
    ExecRequest { request: Some(request) }
}

/// Writes what the command does, until its end.
async fn relay(
    responses: &mut Streaming<ExecResponse>,
    failed: impl Fn(Status) -> anyhow::Error,
) -> anyhow::Result<ExecEnd> {
    let mut relay = Relay::new();
    while let Some(ExecResponse { response }) = responses.message().await.map_err(&failed)? {
        match response {
            Some(Response::Output(bytes)) => relay.output(&bytes).await?,
            Some(Response::Errors(bytes)) => relay.errors(&bytes).await,
            Some(Response::End(end)) => return Ok(end),
            // Of an agent that is newer.
            None => {}
        }
    }
    Err(failed(Status::unavailable("it ended the connection before the command had ended")))
}

/// Passes standard input on; returns only when it cannot be read. Without one the command's ends at once.
async fn read(requests: Option<mpsc::Sender<ExecRequest>>) -> anyhow::Error {
    if let Some(requests) = requests {
        let mut stdin = tokio::io::stdin();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let part = match stdin.read(&mut buffer).await {
                Ok(0) => Request::CloseInput(true),
                Ok(read) => Request::Input(buffer[..read].to_vec().into()),
                Err(error) => return anyhow::Error::new(error).context("reading standard input"),
            };
            let last = matches!(part, Request::CloseInput(_));
            // Why the agent takes no more, its responses say.
            if requests.send(request(part)).await.is_err() || last {
                break;
            }
        }
    }
    std::future::pending().await
}

/// Tells each new size of the terminal; returns only when sizes cannot be heard of.
async fn watch_size(requests: Option<mpsc::Sender<ExecRequest>>) -> anyhow::Error {
    if let Some(requests) = requests {
        let mut changed = match signal(SignalKind::window_change()) {
            Ok(changed) => changed,
            Err(error) => return anyhow::Error::new(error).context("watching the terminal's size"),
        };
        // It may have changed since it was told.
        while requests.send(request(Request::Resize(size()))).await.is_ok() {
            changed.recv().await;
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_a_shell_does() {
        let told = |exit| format!("{:?}", code(ExecEnd { exit: Some(exit), message: String::new() }));
        let is = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(told(Exit::ExitCode(0)), is(0));
        assert_eq!(told(Exit::ExitCode(255)), is(255));
        assert_eq!(told(Exit::ExitSignal(9)), is(137));
    }

    #[test]
    fn a_variable_has_a_name() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(variable("A="), Ok(("A".to_owned(), String::new())));
        assert!(variable("A").is_err() && variable("=b").is_err());
    }
}
