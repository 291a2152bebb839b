//! `apportion kill TASK`.

use std::time::Duration;

use apportion_types::{FrameworkId, TaskId};
use serde::Serialize;

use crate::{client, output::answer, value};

/// Ask for a task to end: TERM, then KILL when the grace is over
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task's id, as `apportion tasks` shows it
    task: TaskId,
    /// The framework whose task it is; needed only when several have one of this id
    #[arg(long, value_name = "ID")]
    framework: Option<FrameworkId>,
    /// From TERM to KILL [default: the task's own, else 3s]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>)]
    grace: Option<Duration>,
    #[command(flatten)]
    client: client::Args,
}

/// What `-o json` gives.
#[derive(Debug, Serialize)]
struct Answer {
    task_id: String,
    framework_id: String,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Some(client) = args.client.start()? else { return Ok(()) };
    let master = client.connect().await?;
    let framework = master.kill(args.framework.as_ref(), &args.task, args.grace).await?;
    let answered = Answer { task_id: args.task.to_string(), framework_id: framework.to_string() };
    answer(client.output, &answered, |a| {
        format!("task {} of framework {} was asked to end\n", a.task_id, a.framework_id)
    })
}
