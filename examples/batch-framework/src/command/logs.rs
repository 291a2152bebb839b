//! `apportion batch logs`: what tasks have written, read from their agents, or from where it was saved.

use std::{borrow::Cow, io::Write as _};

use apportion_sdk::{
    FrameworkId, TaskId,
    sandbox::{self, LogRequest, Output},
};
use serde::Serialize;

use super::Common;
use crate::{
    queue::JobId,
    run::{BatchError, Format, SUCCEEDED},
    serve::view::{Details, TaskView},
};

/// As JSON, a line that is longer comes in several.
const LINE_BYTES_MAX: usize = 64 << 10;

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
        let is_text = args.common.output == Format::Text;
        if is_text && !one && !write(format!("==> {} <==\n", task.name).as_bytes())? {
            break;
        }
        let request = request.only(if args.stderr { Output::Stderr } else { Output::Stdout });
        let shape = if is_text { Shape::Text } else { Shape::Lines(Lines::of_task(task, args.stderr)) };
        match copy(task, request.follow(args.follow), args.stderr, shape).await {
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
async fn copy(
    task: &TaskView,
    request: LogRequest,
    stderr: bool,
    mut shape: Shape<'_>,
) -> Result<bool, BatchError> {
    // What was saved is all of it, and here.
    if let (Some(file), false) = (&task.output_file, stderr)
        && let Ok(saved) = tokio::fs::read(file).await
    {
        return Ok(write(&shape.of(&saved))? && write(&shape.rest())?);
    }
    let refuse = |source| {
        let (task, hostname) = (task.name.clone(), task.hostname.clone());
        LogsError::Agent { task, hostname, source: Box::new(source) }
    };
    let address = task.address.as_deref().unwrap_or_default();
    let mut log = sandbox::log(address, request).await.map_err(refuse)?;
    while let Some(part) = log.part().await.map_err(refuse)? {
        if !write(&shape.of(&part.data))? {
            return Ok(false);
        }
    }
    write(&shape.rest())
}

/// How what a task wrote is shown.
enum Shape<'a> {
    /// As it is.
    Text,
    /// As JSON, one object for each line.
    Lines(Lines<'a>),
}

impl Shape<'_> {
    fn of<'b>(&mut self, data: &'b [u8]) -> Cow<'b, [u8]> {
        match self {
            Shape::Text => Cow::Borrowed(data),
            Shape::Lines(lines) => Cow::Owned(lines.of(data)),
        }
    }

    /// What is left at the end.
    fn rest(&mut self) -> Vec<u8> {
        match self {
            Shape::Lines(lines) if !lines.begun.is_empty() => lines.of(b"\n"),
            _ => Vec::new(),
        }
    }
}

/// Makes JSON of what a task writes.
struct Lines<'a> {
    task: &'a TaskView,
    stream: &'static str,
    /// A line that has no end yet.
    begun: Vec<u8>,
}

/// A line that a task wrote; fields are only ever added.
#[derive(Serialize)]
struct Line<'a> {
    /// The task's name.
    task: &'a str,
    /// The id of the attempt.
    task_id: Option<&'a str>,
    /// `stdout` or `stderr`.
    stream: &'static str,
    /// Without its end; what is not UTF-8 is replaced.
    text: Cow<'a, str>,
}

impl<'a> Lines<'a> {
    fn of_task(task: &'a TaskView, stderr: bool) -> Self {
        Self { task, stream: if stderr { "stderr" } else { "stdout" }, begun: Vec::new() }
    }

    fn of(&mut self, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            let line = piece.strip_suffix(b"\n");
            self.begun.extend_from_slice(line.unwrap_or(piece));
            let mut begun = std::mem::take(&mut self.begun);
            if begun.len() > LINE_BYTES_MAX {
                let rest = begun.split_off((begun.len() - 1) / LINE_BYTES_MAX * LINE_BYTES_MAX);
                begun.chunks(LINE_BYTES_MAX).for_each(|line| self.add(line, &mut out));
                begun = rest;
            }
            match line {
                Some(_) => self.add(&begun, &mut out),
                None => self.begun = begun,
            }
        }
        out
    }

    fn add(&self, line: &[u8], out: &mut Vec<u8>) {
        let (task, task_id) = (self.task.name.as_str(), self.task.task_id.as_deref());
        let line = Line { task, task_id, stream: self.stream, text: String::from_utf8_lossy(line) };
        serde_json::to_writer(&mut *out, &line).expect("lines have texts only");
        out.push(b'\n');
    }
}

fn write(bytes: &[u8]) -> Result<bool, BatchError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        done => done.map(|()| true).map_err(BatchError::Stdout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_json_each_line_says_whose_it_is() {
        let task: TaskView = serde_json::from_value(serde_json::json!({
            "name": "j-0001", "item": "x", "state": "running", "attempts": 1, "task_id": "7.j-0001"
        }))
        .unwrap();
        let mut shape = Shape::Lines(Lines::of_task(&task, false));
        let mut shown = String::new();
        for part in [&b"one\n\ntw"[..], b"o\nthr\xff"] {
            shown += str::from_utf8(&shape.of(part)).unwrap();
        }
        shown += str::from_utf8(&shape.rest()).unwrap();
        assert!(shape.rest().is_empty());
        let line = |text: &str| {
            format!(
                "{{\"task\":\"j-0001\",\"task_id\":\"7.j-0001\",\"stream\":\"stdout\",\"text\":\"{text}\"}}\n"
            )
        };
        assert_eq!(shown, ["one", "", "two", "thr\u{fffd}"].map(line).concat());
        let long = shape.of(&[b'x'; 2 * LINE_BYTES_MAX + 1]).into_owned();
        assert_eq!(long.iter().filter(|byte| **byte == b'\n').count(), 2, "never more than so much waits");
        assert_eq!(shape.rest(), line("x").as_bytes());
        assert_eq!(Shape::Text.of(b"thr\xff").as_ref(), b"thr\xff");
    }
}
