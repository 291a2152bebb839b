//! `apportion batch logs`: what tasks have written, read from their agents, or from where it was saved.

use std::io::Write as _;

use apportion_sdk::{
    FrameworkId, TaskId,
    sandbox::{self, LogRequest, Output},
};

use super::Common;
use crate::{
    queue::JobId,
    run::{BatchError, SUCCEEDED},
    serve::view::{Details, TaskView},
};

/// Whose output to show.
#[derive(Debug, Clone, clap::Args)]
pub struct LogsArgs {
    /// The number of the job
    pub job: JobId,
    /// The name of the task; every task that ran when none
    pub task: Option<String>,
    /// Standard error instead of standard output
    #[arg(long)]
    pub stderr: bool,
    /// Go on as it grows, until the task has ended
    #[arg(short, long)]
    pub follow: bool,
    /// Which queue.
    #[command(flatten)]
    pub common: Common,
}

/// Why there is nothing to be shown.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// There is no such task.
    #[error(
        "job {job} has no task `{task}`; its {tasks} tasks are {first}, …: `apportion batch show {job} --all` lists them"
    )]
    NoTask {
        /// Of which job.
        job: JobId,
        /// Its name.
        task: String,
        /// How many there are.
        tasks: usize,
        /// The first of them.
        first: String,
    },
    /// It was never launched.
    #[error("task `{task}` has written nothing: it is {state}{}", why.as_ref().map(|why| format!(", {why}")).unwrap_or_default())]
    NeverRan {
        /// Which.
        task: String,
        /// What it does.
        state: String,
        /// Why, if it has ended.
        why: Option<String>,
    },
    /// Several cannot be followed.
    #[error(
        "job {job} has {tasks} tasks, and one at a time can be followed; name it: `apportion batch logs {job} TASK --follow`"
    )]
    WhichOne {
        /// Which job.
        job: JobId,
        /// How many there are.
        tasks: usize,
    },
    /// The agent did not give it.
    #[error(
        "the output of `{task}` cannot be read from its agent{}: {source}; outputs that are to outlive agents are saved with `output` in the job file",
        at(hostname)
    )]
    Agent {
        /// Which.
        task: String,
        /// Where it ran.
        hostname: Option<String>,
        /// Why not.
        source: Box<sandbox::SandboxError>,
    },
}

fn at(hostname: &Option<String>) -> String {
    hostname.as_ref().map(|hostname| format!(" {hostname}")).unwrap_or_default()
}

pub(super) async fn logs(args: LogsArgs) -> Result<u8, BatchError> {
    let details: Details = args.common.client().get(&format!("/v1/jobs/{}", args.job)).await?;
    let tasks = &details.tasks_all;
    let (job, count) = (args.job, tasks.len());
    let wanted: Vec<&TaskView> = match &args.task {
        Some(name) => {
            let task = tasks.iter().find(|task| task.name == *name || task.task_id.as_deref() == Some(name));
            vec![task.ok_or_else(|| LogsError::NoTask {
                job,
                task: name.clone(),
                tasks: count,
                first: tasks.first().map(|task| task.name.clone()).unwrap_or_default(),
            })?]
        }
        None if args.follow && count > 1 => return Err(LogsError::WhichOne { job, tasks: count }.into()),
        None => tasks.iter().collect(),
    };
    let one = wanted.len() == 1;
    for task in wanted {
        let Some(request) = request(task) else {
            if one {
                let (task, state, why) = (task.name.clone(), task.state.clone(), task.why.clone());
                return Err(LogsError::NeverRan { task, state, why }.into());
            }
            continue;
        };
        if !one && !write(format!("==> {} <==\n", task.name).as_bytes())? {
            break;
        }
        let request = request.only(if args.stderr { Output::Stderr } else { Output::Stdout });
        match copy(task, request.follow(args.follow), args.stderr).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) if one => return Err(error),
            // The others may be there.
            Err(error) => _ = writeln!(std::io::stderr().lock(), "{error}"),
        }
    }
    Ok(SUCCEEDED)
}

/// What to ask its agent for; none of a task that was never there.
fn request(task: &TaskView) -> Option<LogRequest> {
    let framework_id = FrameworkId::new(task.framework_id.as_ref()?).ok()?;
    Some(LogRequest::new(framework_id, TaskId::new(task.task_id.as_ref()?).ok()?))
}

/// Copies an output to standard output; false when nobody reads that any more.
async fn copy(task: &TaskView, request: LogRequest, stderr: bool) -> Result<bool, BatchError> {
    // What was saved is all of it, and here.
    if let (Some(file), false) = (&task.output_file, stderr)
        && let Ok(saved) = tokio::fs::read(file).await
    {
        return write(&saved);
    }
    let refuse = |source| {
        let (task, hostname) = (task.name.clone(), task.hostname.clone());
        LogsError::Agent { task, hostname, source: Box::new(source) }
    };
    let address = task.address.as_deref().unwrap_or_default();
    let mut log = sandbox::log(address, request).await.map_err(refuse)?;
    while let Some(part) = log.part().await.map_err(refuse)? {
        if !write(&part.data)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write(bytes: &[u8]) -> Result<bool, BatchError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        done => done.map(|()| true).map_err(BatchError::Stdout),
    }
}
