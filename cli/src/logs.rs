//! `apportion logs TASK`: what a task wrote, read from its agent.

use anyhow::{Context as _, bail};
use apportion_sdk::operator::{TaskFilter, TaskSummary};
use apportion_types::{FrameworkId, TaskId};

use crate::{
    client::{self, Client, Sandbox},
    output,
};

/// Show what a task has written to its standard output or standard error
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task's id, as `apportion tasks --all` shows it
    task: TaskId,
    /// The framework whose task it is; needed only when several have one of this id
    #[arg(long, value_name = "ID")]
    framework: Option<FrameworkId>,
    /// Standard error instead of standard output
    #[arg(long)]
    stderr: bool,
    /// Go on as it grows, until the task has ended
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last lines only, so many
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    #[command(flatten)]
    client: client::Args,
}

/// Bytes first looked at for the last lines; grows eightfold while they are too few.
const TAIL_WINDOW: u64 = 16 << 10;

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Some(client) = args.client.start()? else { return Ok(()) };
    let task = find(&client, args.framework, args.task.clone()).await?;
    if task.agent_address.is_empty() {
        bail!("the agent of task `{}` is removed; its files can be read only on that machine", args.task);
    }
    let sandbox = Sandbox::of(&client, &task, if args.stderr { "stderr" } else { "stdout" });
    let Some(lines) = args.tail else { return sandbox.copy(0, args.follow).await };
    let (start, bytes) = last_lines(&sandbox, lines).await?;
    output::write(&bytes)?;
    if args.follow {
        sandbox.copy(start + bytes.len() as u64, true).await?;
    }
    Ok(())
}

/// The newest task of this id, running or ended.
pub(crate) async fn find(
    client: &Client,
    framework: Option<FrameworkId>,
    id: TaskId,
) -> anyhow::Result<TaskSummary> {
    let filter = TaskFilter { framework_id: framework, task_id: Some(id.clone()), completed: true };
    one_of(&id, client.connect().await?.tasks(&filter).await?)
}

/// The one task that is meant.
fn one_of(id: &TaskId, mut tasks: Vec<TaskSummary>) -> anyhow::Result<TaskSummary> {
    let Some(newest) = tasks.pop() else {
        bail!("no task `{id}` is known; `apportion tasks --all` lists those that are");
    };
    // A framework may use an id again once the task has ended; then the newest is meant, which the list has last.
    if let Some(other) = tasks.iter().find(|task| task.framework_id != newest.framework_id) {
        let (one, two) = (&other.framework_id, &newest.framework_id);
        bail!(
            "several frameworks have a task `{id}`: say which with `--framework {one}` or `--framework {two}`"
        );
    }
    Ok(newest)
}

/// The last lines of the file as it is now, and where they begin.
async fn last_lines(sandbox: &Sandbox, lines: u64) -> anyhow::Result<(u64, Vec<u8>)> {
    let mut window = TAIL_WINDOW;
    loop {
        let back = i64::try_from(window).context("the file is too long")?;
        let (start, bytes) = sandbox.read(-back).await?;
        match start_of_last(&bytes, lines) {
            Some(at) => return Ok((start + at as u64, bytes[at..].to_vec())),
            None if start == 0 => return Ok((0, bytes)),
            None => window *= 8,
        }
    }
}

/// Where the last `lines` lines begin, if the bytes hold the end of the line before them.
fn start_of_last(bytes: &[u8], lines: u64) -> Option<usize> {
    // The end of the last line, when it has one, ends no further line.
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if lines == 0 {
        return Some(bytes.len());
    }
    let mut ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let before = usize::try_from(lines - 1).ok().and_then(|skip| ends.nth(skip));
    before.map(|(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use apportion_proto::v1;

    use super::*;

    #[test]
    fn the_last_lines_are_counted_from_the_end() {
        let last = |text: &'static str, lines| start_of_last(text.as_bytes(), lines).map(|at| &text[at..]);
        assert_eq!(last("a\nb\nc\n", 1), Some("c\n"));
        assert_eq!(last("a\nb\nc\n", 2), Some("b\nc\n"));
        assert_eq!(last("a\nb\nc", 2), Some("b\nc"));
        assert_eq!(last("a\n\n", 1), Some("\n"));
        assert_eq!(last("a\nb\n", 0), Some(""));
        assert_eq!(last("a\nb\n", 2), None);
        assert_eq!(last("", 1), None);
    }

    #[test]
    fn one_task_is_meant_or_it_is_said_how_to_choose() {
        let task = |framework: &str, agent: &str| {
            let command = v1::Command { argv: vec!["/bin/true".into()], ..Default::default() };
            let info = v1::TaskInfo { task_id: "t".into(), command: Some(command), ..Default::default() };
            TaskSummary::try_from(v1::TaskSummary {
                framework_id: framework.into(),
                agent_id: agent.into(),
                role: "*".into(),
                info: Some(v1::TaskInfo { resources: Some(Default::default()), ..info }),
                state: v1::TaskState::Running as i32,
                ..Default::default()
            })
            .unwrap()
        };
        let id = TaskId::new("t").unwrap();
        assert!(one_of(&id, vec![]).unwrap_err().to_string().contains("no task `t`"));
        assert_eq!(one_of(&id, vec![task("f", "old"), task("f", "new")]).unwrap().agent_id.as_str(), "new");
        let error = one_of(&id, vec![task("f", "a"), task("g", "a")]).unwrap_err().to_string();
        assert!(error.contains("--framework f") && error.contains("--framework g"), "{error}");
    }
}
