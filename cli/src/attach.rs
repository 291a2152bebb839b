//! `apportion attach TASK`: what a task writes from now on, until it ends.

use std::{process::ExitCode, time::Duration};

use anyhow::{anyhow, bail};
use apportion_sdk::{
    operator::{TaskFilter, TaskSummary},
    sandbox::Output,
};
use apportion_types::{FrameworkId, TaskId, TaskState, container::Exit};

use crate::{
    client::{self, Client},
    logs::{self, Logs},
    output::{self, Format},
    relay::{self, Relay},
};

/// Show what a task writes from now on, until it ends
///
/// Its standard output and its standard error come to this one's. Nothing can be typed into it: the standard input of tasks is /dev/null;
/// `apportion exec -it` executes a shell beside it. Ctrl-C detaches, and the task runs on. When the task ends, its exit code is this one's;
/// 128 and the number of a signal that ended it; 1 when it has failed without any.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task's id, as `apportion tasks` shows it
    task: TaskId,
    /// The framework whose task it is; needed only when several have one of this id
    #[arg(long, value_name = "ID")]
    framework: Option<FrameworkId>,
    #[command(flatten)]
    client: client::SettingsArgs,
}

/// Between two looks for the end of a task that has written its last.
const END_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Some(client) = args.client.start(Format::Text)? else { return Ok(ExitCode::SUCCESS) };
    let attached = async {
        let task = logs::find(&client, args.framework, args.task).await?;
        let id = &task.info.task_id;
        if task.state.is_terminal() {
            bail!("task `{id}` has ended ({}); `apportion logs {id}` shows what it has written", task.state);
        }
        let mut logs = Logs::open(&client, &task, logs::request(&task).tail(0).follow(true), true).await?;
        let mut relay = Relay::new();
        while let Some(part) = logs.part().await? {
            match part.output {
                Output::Stdout => relay.output(&part.data).await?,
                Output::Stderr => relay.errors(&part.data).await,
            }
        }
        end(&client, &task).await
    };
    tokio::select! {
        biased;
        signal = relay::asked_to_end() => Ok(relay::of_signal(signal?)),
        ended = attached => ended.map(|task| code(&task)),
    }
}

/// The task as the master knows it, once that has heard of its end.
async fn end(client: &Client, task: &TaskSummary) -> anyhow::Result<TaskSummary> {
    let id = &task.info.task_id;
    let filter = TaskFilter {
        framework_id: Some(task.framework_id.clone()),
        task_id: Some(id.clone()),
        completed: true,
    };
    let heard = async {
        loop {
            let known = client.connect().await?.tasks(&filter).await?;
            // Its framework may have used the id again.
            let same = known.into_iter().find(|known| known.accepted_at == task.accepted_at);
            match same {
                Some(known) if known.state.is_terminal() => return Ok(known),
                Some(_) => tokio::time::sleep(END_INTERVAL).await,
                None => bail!("task `{id}` has ended; the master no longer knows how"),
            }
        }
    };
    let unheard = |_| anyhow!("task `{id}` has ended; its end has not reached the master within --timeout");
    tokio::time::timeout(client.timeout, heard).await.map_err(unheard)?
}

fn code(task: &TaskSummary) -> ExitCode {
    let status = task.status.as_ref();
    if task.state != TaskState::Finished {
        let message = status.map(|status| status.message.as_str()).filter(|message| !message.is_empty());
        let why = message.map(|message| format!(": {message}")).unwrap_or_default();
        output::say(&format!("apportion: task `{}` has ended ({}){why}", task.info.task_id, task.state));
    }
    match status.and_then(|status| status.container.as_ref()?.exit) {
        Some(Exit::Code(code)) => relay::of_code(code),
        Some(Exit::Signal(signal)) => relay::of_signal(signal),
        None if task.state == TaskState::Finished => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}
