//! `apportion logs TASK`: what a task wrote, read from its agent.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail};
use apportion_sdk::{
    operator::{TaskFilter, TaskSummary},
    sandbox::{self, Log, LogPart, LogRequest, Output, Position, SandboxError},
};
use apportion_types::{FrameworkId, TaskId};

use crate::{
    client::{self, Client},
    output,
};

/// Before each look for an agent in the place of one that has ended.
const AGAIN_INTERVAL: Duration = Duration::from_millis(200);

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

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Some(client) = args.client.start()? else { return Ok(()) };
    let task = find(&client, args.framework, args.task).await?;
    let output = if args.stderr { Output::Stderr } else { Output::Stdout };
    let request = request(&task).only(output).follow(args.follow);
    let request = args.tail.into_iter().fold(request, LogRequest::tail);
    let mut logs = Logs::open(&client, &task, request, args.follow).await?;
    while let Some(part) = logs.part().await? {
        output::write(&part.data)?;
    }
    Ok(())
}

/// All that is kept of what a task has written.
pub(crate) fn request(task: &TaskSummary) -> LogRequest {
    LogRequest::new(task.framework_id.clone(), task.info.task_id.clone())
}

/// What a task writes, read from its agent, and from the next one in its place.
#[derive(Debug)]
pub(crate) struct Logs {
    client: Client,
    /// The one run that is read: its framework may use the id again.
    task: TaskSummary,
    address: String,
    request: LogRequest,
    follow: bool,
    /// Where each output was read to.
    read: BTreeMap<Output, Position>,
    gap: Gap,
    log: Log,
}

impl Logs {
    pub(crate) async fn open(
        client: &Client,
        task: &TaskSummary,
        request: LogRequest,
        follow: bool,
    ) -> anyhow::Result<Logs> {
        let (task_id, address) = (&task.info.task_id, task.agent_address.clone());
        if address.is_empty() {
            bail!("the agent of task `{task_id}` is removed; its files can be read only on that machine");
        }
        let log = within(client.timeout, &address, sandbox::log(&address, request.clone())).await??;
        let (client, task) = (client.clone(), task.clone());
        Ok(Logs { client, task, address, request, follow, read: BTreeMap::new(), gap: Gap::default(), log })
    }

    /// The next part; none when everything is read. That something is missing is said.
    pub(crate) async fn part(&mut self) -> anyhow::Result<Option<LogPart>> {
        loop {
            // A task that is followed may be silent for as long as it likes.
            let part = match self.follow {
                true => self.log.part().await,
                false => within(self.client.timeout, &self.address, self.log.part()).await?,
            };
            match part {
                Ok(Some(part)) => {
                    if part.missed {
                        output::say(
                            "apportion: something may be missing here: it was deleted before it was read",
                        );
                    }
                    self.read.insert(part.output, part.position.clone());
                    self.gap = Gap::default();
                    return Ok(Some(part));
                }
                Ok(None) => return Ok(None),
                // An agent that ends leaves its tasks to the next one.
                Err(error) if self.follow => {
                    if !self.open_again(error).await? {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Goes on where it was, as soon as there is an agent again; false when there is only a later run of the task.
    async fn open_again(&mut self, broken: SandboxError) -> anyhow::Result<bool> {
        let request = self.read.values().cloned().fold(self.request.clone(), LogRequest::after);
        let left = self.gap.left(self.client.timeout, Instant::now());
        let attempts = async {
            loop {
                tokio::time::sleep(AGAIN_INTERVAL).await;
                let known = &self.task;
                let found =
                    find(&self.client, Some(known.framework_id.clone()), known.info.task_id.clone()).await;
                // The next one may listen elsewhere.
                if let Ok(task) = found {
                    if task.accepted_at != known.accepted_at {
                        return None;
                    }
                    if let Ok(log) = sandbox::log(&task.agent_address, request.clone()).await {
                        return Some((task.agent_address, log));
                    }
                }
            }
        };
        let opened = tokio::time::timeout(left, attempts).await.map_err(|_| broken)?;
        let is_same = opened.is_some();
        if let Some((address, log)) = opened {
            (self.address, self.log) = (address, log);
        }
        Ok(is_same)
    }
}

/// Since when nothing was read, if what was read broke off. A log that opens and cannot be read is no end of it.
#[derive(Debug, Default)]
struct Gap {
    since: Option<Instant>,
}

impl Gap {
    /// It broke off just now, or again: how much is left of the patience with it.
    fn left(&mut self, patience: Duration, now: Instant) -> Duration {
        let since = *self.since.get_or_insert(now);
        patience.saturating_sub(now - since)
    }
}

async fn within<T>(timeout: Duration, address: &str, call: impl Future<Output = T>) -> anyhow::Result<T> {
    let late = |_| anyhow!("{}", client::late(&format!("the agent at {address}"), timeout));
    tokio::time::timeout(timeout, call).await.map_err(late)
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

#[cfg(test)]
mod tests {
    use apportion_proto::v1;

    use super::*;

    #[test]
    fn a_log_that_opens_and_is_never_read_uses_patience_up() {
        let (patience, start) = (Duration::from_secs(10), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut gap = Gap::default();
        assert_eq!(gap.left(patience, at(0)), patience);
        assert_eq!(gap.left(patience, at(4)), Duration::from_secs(6));
        assert_eq!(gap.left(patience, at(11)), Duration::ZERO);
        // Something was read.
        gap = Gap::default();
        assert_eq!(gap.left(patience, at(12)), patience);
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
