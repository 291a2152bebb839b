//! `apportion files TASK [PATH]`: what is in a task's sandbox.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::bail;
use apportion_sdk::{
    operator::TaskSummary,
    sandbox::{Entry, Files, Kind},
};
use apportion_types::{FrameworkId, TaskId, Time};
use serde::Serialize;

use crate::{
    client::{self, Client},
    logs, output,
    table::{Table, age, bytes},
};

/// List what is in a task's sandbox
///
/// Its files are seen as they are on the agent's disk: not what is mounted into it, such as volumes. `apportion cp` copies them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task's id, as `apportion tasks --all` shows it
    task: TaskId,
    /// A folder, or a file, of its sandbox [default: the sandbox]
    path: Option<PathBuf>,
    /// The framework whose task it is; needed only when several have one of this id
    #[arg(long, value_name = "ID")]
    framework: Option<FrameworkId>,
    #[command(flatten)]
    client: client::Args,
}

/// One line of the answer.
#[derive(Debug, Serialize)]
struct Line {
    /// With what is no text in it replaced.
    name: String,
    kind: &'static str,
    size_bytes: u64,
    /// As `chmod` takes it.
    mode: String,
    modified_at_us: u64,
    user: u32,
    group: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Some(client) = args.client.start()? else { return Ok(()) };
    let task = logs::find(&client, args.framework, args.task).await?;
    let mut files = connect(&client, &task).await?;
    let (itself, entries) = within(&client, list(&mut files, &args.path.unwrap_or_default())).await?;
    let entries = if itself.kind == Kind::Folder { entries } else { vec![itself] };
    let lines: Vec<Line> = entries.into_iter().map(Line::from).collect();
    output::answer(client.output, &lines, |lines| text(lines))
}

/// The sandbox of a task, at its agent.
pub(crate) async fn connect(client: &Client, task: &TaskSummary) -> anyhow::Result<Files> {
    let (id, address) = (&task.info.task_id, &task.agent_address);
    if address.is_empty() {
        bail!("the agent of task `{id}` is removed; its files can be read only on that machine");
    }
    let connected = Files::connect(address, task.framework_id.clone(), id.clone());
    within(client, async { Ok(connected.await?) }).await
}

/// What an agent answers, if it does in time.
pub(crate) async fn within<T>(
    client: &Client,
    call: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    match tokio::time::timeout(client.timeout, call).await {
        Ok(answer) => answer,
        Err(_) => bail!("{}", client::late("the agent", client.timeout)),
    }
}

/// What a path is, and all that is in it.
pub(crate) async fn list(files: &mut Files, path: &Path) -> anyhow::Result<(Entry, Vec<Entry>)> {
    let mut listing = files.list(path, OsString::new().as_os_str()).await?;
    while listing.more {
        let after = listing.entries.last().map(|entry| entry.name.clone()).unwrap_or_default();
        let next = files.list(path, &after).await?;
        listing.more = next.more && !next.entries.is_empty();
        listing.entries.extend(next.entries);
    }
    Ok((listing.itself, listing.entries))
}

impl From<Entry> for Line {
    fn from(entry: Entry) -> Self {
        let (kind, target) = match entry.kind {
            Kind::File => ("file", None),
            Kind::Folder => ("folder", None),
            Kind::Link(target) => ("link", Some(target.display().to_string())),
            Kind::Special => ("special", None),
        };
        Line {
            name: entry.name.to_string_lossy().into_owned(),
            kind,
            size_bytes: entry.size_bytes,
            mode: format!("{:04o}", entry.mode),
            modified_at_us: entry.modified_at.as_micros(),
            user: entry.user,
            group: entry.group,
            target,
        }
    }
}

fn text(lines: &[Line]) -> String {
    if lines.is_empty() {
        return "nothing is in this folder\n".to_owned();
    }
    let mut table = Table::new(&["KIND", "MODE", ">USER", ">SIZE", "AGE", "NAME"]);
    for line in lines {
        let size = if line.kind == "file" { bytes(line.size_bytes) } else { "-".to_owned() };
        let name = match (&line.target, line.kind) {
            (Some(target), _) => format!("{} -> {target}", line.name),
            (None, "folder") => format!("{}/", line.name),
            (None, _) => line.name.clone(),
        };
        let (mode, user) = (line.mode.clone(), line.user.to_string());
        table.row([
            line.kind.to_owned(),
            mode,
            user,
            size,
            age(Time::from_micros(line.modified_at_us)),
            name,
        ]);
    }
    table.to_string()
}
