//! `apportion tasks`: what runs, where, and how what has ended did so.

use apportion_sdk::operator::{TaskFilter, TaskSummary};
use apportion_types::{FrameworkId, document::Task};

use crate::{
    list::{self, List},
    table::{age, cpus, mem, shortened},
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
    list: list::Args,
}

const LIST: List<'static, Task, 9> = List {
    name: "tasks",
    heads: ["TASK", "FRAMEWORK", "STATE", "AGENT", ">CPUS", ">MEM", "AGE", "COMMAND", "MESSAGE"],
    empty: "no tasks are running; `apportion tasks --all` also lists those that have ended\n",
    row: |task| {
        let message = task.status.as_ref().map(|status| status.message.as_str());
        let message = message.filter(|message| !message.is_empty()).unwrap_or("-");
        let mut notes = shortened(message, 80);
        let addresses = task.status.iter().flat_map(|status| &status.addresses);
        addresses.for_each(|address| notes += &format!("; at {address}"));
        // What is reserved, a volume or lent is shown as it is, for its numbers do not tell.
        if task.resources.0.has_terms() {
            notes += &format!("; on {}", task.resources.0);
        }
        [
            task.task_id.to_string(),
            task.framework_id.to_string(),
            state(task),
            task.agent_id.to_string(),
            cpus(&task.resources.0),
            mem(&task.resources.0),
            age(task.accepted_at_us),
            shortened(&task.argv.join(" "), 40),
            notes,
        ]
    },
};

/// The state, and with it what a health check says that is bad.
fn state(task: &Task) -> String {
    let unhealthy = task.status.as_ref().is_some_and(|status| status.healthy == Some(false));
    match unhealthy && !task.state.is_terminal() {
        true => format!("{}, unhealthy", task.state),
        false => task.state.to_string(),
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Some(client) = args.list.client.start()? else { return Ok(()) };
    let filter = TaskFilter { framework_id: args.framework, task_id: None, completed: args.all };
    let master = client.connect().await?;
    let fetch = async |size, after: Option<&str>| master.ask(|it| it.tasks_page(&filter, size, after)).await;
    let empty = if args.all { "no tasks, running or ended\n" } else { LIST.empty };
    List { empty, ..LIST }.print(client.output, args.list.limit, fetch, document).await.map(|_| ())
}

fn document(task: TaskSummary) -> Task {
    Task::new(
        task.framework_id,
        (task.agent_id, &task.agent_address),
        task.role,
        &task.info,
        task.state,
        task.status.as_ref(),
        task.accepted_at,
    )
}

#[cfg(test)]
mod tests {
    use apportion_proto::v1;

    use super::*;

    fn task() -> Task {
        let info = v1::TaskInfo {
            task_id: "t1".into(),
            name: "first".into(),
            resources: Some("cpus:0.5;mem:64".parse::<apportion_types::Resources>().unwrap().into()),
            command: Some(v1::Command {
                argv: vec!["/bin/sh".into(), "-c".into(), "exit 3".into()],
                env: [].into(),
            }),
            ..Default::default()
        };
        let status = v1::TaskStatus {
            task_id: "t1".into(),
            state: v1::TaskState::Failed as i32,
            source: v1::Source::Agent as i32,
            message: "exit code 3".into(),
            ..Default::default()
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
        document(TaskSummary::try_from(summary).unwrap())
    }

    #[test]
    fn a_task_that_does_not_do_its_work_is_seen() {
        let mut task = task();
        task.status.as_mut().unwrap().healthy = Some(false);
        assert_eq!(state(&task), "failed");
        task.state = apportion_types::TaskState::Running;
        assert_eq!(state(&task), "running, unhealthy");
    }

    #[test]
    fn a_table_says_how_a_task_ended() {
        let expected = "\
TASK  FRAMEWORK  STATE   AGENT  CPUS    MEM  AGE  COMMAND            MESSAGE
t1    f1         failed  a1      0.5  64MiB  0s   /bin/sh -c exit 3  exit code 3
";
        assert_eq!(LIST.text(&[task()]), expected);
        assert_eq!(serde_json::to_value(task()).unwrap()["agent_address"], "127.0.0.1:1");
        assert!(LIST.text(&[]).contains("--all"));
        let mut own = task();
        own.status.as_mut().unwrap().addresses = vec!["10.1.0.2".parse().unwrap()];
        assert!(LIST.text(&[own]).contains("exit code 3; at 10.1.0.2\n"));
    }
}
