//! `apportion tasks`: what runs, where, and how what has ended did so.

use std::collections::BTreeMap;

use apportion_sdk::operator::{TaskFilter, TaskSummary};
use apportion_types::{
    ContainerStatus, FrameworkId, Source, TaskStatus,
    container::{Exit, Limitation},
};
use serde::Serialize;

use crate::{
    amounts::Amounts,
    client,
    output::answer,
    table::{Table, age, cpus, mem, shortened},
};

/// List the tasks
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those that have ended, as far as the master remembers them
    #[arg(short, long)]
    all: bool,
    /// Only those of this framework
    #[arg(long, value_name = "ID")]
    framework: Option<FrameworkId>,
    #[command(flatten)]
    client: client::Args,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Some(client) = args.client.start()? else { return Ok(()) };
    let filter = TaskFilter { framework_id: args.framework, task_id: None, completed: args.all };
    let tasks = client.connect().await?.tasks(&filter).await?;
    let listing = Listing { tasks: tasks.into_iter().map(Task::from).collect() };
    answer(client.output, &listing, |listing| listing.text(args.all))
}

/// What `-o json` gives.
#[derive(Debug, Serialize)]
struct Listing {
    tasks: Vec<Task>,
}

#[derive(Debug, Serialize)]
struct Task {
    task_id: String,
    name: String,
    framework_id: String,
    agent_id: String,
    /// Empty when the agent is removed.
    agent_address: String,
    role: String,
    state: &'static str,
    accepted_at_us: u64,
    argv: Vec<String>,
    /// Names only: the values may be secrets.
    env: Vec<String>,
    resources: Amounts,
    limits: Amounts,
    pids_max: Option<u64>,
    kill_grace_ms: Option<u64>,
    labels: BTreeMap<String, String>,
    status: Option<Status>,
}

/// The newest status of a task.
#[derive(Debug, Serialize)]
struct Status {
    state: &'static str,
    reason: Option<&'static str>,
    source: &'static str,
    message: String,
    at_us: u64,
    container: Option<Container>,
}

/// How a container ended.
#[derive(Debug, Serialize)]
struct Container {
    exit_code: Option<i32>,
    exit_signal: Option<i32>,
    memory_limit_exceeded_bytes: Option<u64>,
    cpu_us: u64,
    memory_peak_bytes: Option<u64>,
    started_at_us: u64,
    finished_at_us: u64,
}

impl From<TaskSummary> for Task {
    fn from(task: TaskSummary) -> Task {
        let info = task.info;
        Task {
            task_id: info.task_id.to_string(),
            name: info.name,
            framework_id: task.framework_id.to_string(),
            agent_id: task.agent_id.to_string(),
            agent_address: task.agent_address,
            role: task.role.to_string(),
            state: task.state.name(),
            accepted_at_us: task.accepted_at.as_micros(),
            argv: info.command.argv,
            env: info.command.env.into_keys().collect(),
            resources: Amounts(info.resources),
            limits: Amounts(info.limits),
            pids_max: info.pids_max,
            kill_grace_ms: info.kill_grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)),
            labels: info.labels,
            status: task.status.map(Status::from),
        }
    }
}

impl From<TaskStatus> for Status {
    fn from(status: TaskStatus) -> Status {
        Status {
            state: status.state.name(),
            reason: status.reason.map(|reason| reason.name()),
            source: match status.source {
                Source::Master => "master",
                Source::Agent => "agent",
            },
            message: status.message,
            at_us: status.at.as_micros(),
            container: status.container.map(Container::from),
        }
    }
}

impl From<ContainerStatus> for Container {
    fn from(container: ContainerStatus) -> Container {
        let (exit_code, exit_signal) = match container.exit {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        Container {
            exit_code,
            exit_signal,
            memory_limit_exceeded_bytes: container
                .limitation
                .map(|Limitation::Memory { limit_bytes }| limit_bytes),
            cpu_us: container.usage.cpu_us,
            memory_peak_bytes: container.usage.memory_peak_bytes,
            started_at_us: container.started_at.as_micros(),
            finished_at_us: container.finished_at.as_micros(),
        }
    }
}

impl Listing {
    fn text(&self, all: bool) -> String {
        if self.tasks.is_empty() {
            return match all {
                true => "no tasks, running or ended\n".to_owned(),
                false => "no tasks are running; `apportion tasks --all` also lists those that have ended\n"
                    .to_owned(),
            };
        }
        let heads = ["TASK", "FRAMEWORK", "STATE", "AGENT", ">CPUS", ">MEM", "AGE", "COMMAND", "MESSAGE"];
        let mut table = Table::new(&heads);
        for task in &self.tasks {
            let message = task
                .status
                .as_ref()
                .map(|status| status.message.as_str())
                .filter(|message| !message.is_empty());
            table.row([
                task.task_id.clone(),
                task.framework_id.clone(),
                task.state.to_owned(),
                task.agent_id.clone(),
                cpus(&task.resources.0),
                mem(&task.resources.0),
                age(task.accepted_at_us),
                shortened(&task.argv.join(" "), 40),
                shortened(message.unwrap_or("-"), 80),
            ]);
        }
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use apportion_proto::v1;
    use serde_json::json;

    use super::*;

    fn listing() -> Listing {
        let amounts = |text: &str| Some(text.parse::<apportion_types::Resources>().unwrap().into());
        let env = [("PASSWORD".to_owned(), "secret".to_owned())].into();
        let info = v1::TaskInfo {
            task_id: "t1".into(),
            name: "first".into(),
            resources: amounts("cpus:0.5;mem:64"),
            limits: amounts("cpus:2"),
            command: Some(v1::Command { argv: vec!["/bin/sh".into(), "-c".into(), "exit 3".into()], env }),
            labels: [("a".into(), "b".into())].into(),
            ..Default::default()
        };
        let container = v1::ContainerStatus {
            exit: Some(v1::container_status::Exit::ExitCode(3)),
            memory_limit_exceeded_bytes: None,
            cpu_us: 11,
            memory_peak_bytes: Some(12),
            started_at_us: 13,
            finished_at_us: 14,
        };
        let status = v1::TaskStatus {
            task_id: "t1".into(),
            agent_id: Some("a1".into()),
            state: v1::TaskState::Failed as i32,
            reason: v1::Reason::CommandExited as i32,
            source: v1::Source::Agent as i32,
            message: "exit code 3".into(),
            at_us: 15,
            update_id: None,
            container: Some(container),
        };
        let summary = v1::TaskSummary {
            framework_id: "f1".into(),
            agent_id: "a1".into(),
            role: "etl".into(),
            info: Some(info),
            state: v1::TaskState::Failed as i32,
            status: Some(status),
            accepted_at_us: u64::MAX / 2,
            agent_address: "127.0.0.1:1".into(),
        };
        Listing { tasks: vec![TaskSummary::try_from(summary).unwrap().into()] }
    }

    #[test]
    fn a_table_says_how_a_task_ended() {
        let listing = listing();
        let expected = "\
TASK  FRAMEWORK  STATE   AGENT  CPUS    MEM  AGE  COMMAND            MESSAGE
t1    f1         failed  a1      0.5  64MiB  0s   /bin/sh -c exit 3  exit code 3
";
        assert_eq!(listing.text(true), expected);
        let none = Listing { tasks: vec![] };
        assert!(none.text(false).contains("--all") && !none.text(true).contains("--all"));
    }

    #[test]
    fn json_keeps_its_form() {
        let listing = listing();
        let container = json!({
            "exit_code": 3, "exit_signal": null, "memory_limit_exceeded_bytes": null, "cpu_us": 11,
            "memory_peak_bytes": 12, "started_at_us": 13, "finished_at_us": 14,
        });
        let status = json!({
            "state": "failed", "reason": "command_exited", "source": "agent", "message": "exit code 3", "at_us": 15,
            "container": container,
        });
        let expected = json!({"tasks": [{
            "task_id": "t1", "name": "first", "framework_id": "f1", "agent_id": "a1", "agent_address": "127.0.0.1:1",
            "role": "etl", "state": "failed", "accepted_at_us": u64::MAX / 2, "argv": ["/bin/sh", "-c", "exit 3"],
            "env": ["PASSWORD"],
            "resources": {"text": "cpus:0.5;mem:64", "scalars": {"cpus": 0.5, "mem": 64.0}},
            "limits": {"text": "cpus:2", "scalars": {"cpus": 2.0}}, "pids_max": null, "kill_grace_ms": null,
            "labels": {"a": "b"}, "status": status,
        }]});
        assert_eq!(serde_json::to_value(&listing).unwrap(), expected);
    }
}
