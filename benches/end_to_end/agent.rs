//! The agent as a process of its own, which can be killed and started again: this binary with the argument `agent`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use apportion_agent::{Agent, Config};
use apportion_sdk::TaskState;
use tokio::io::AsyncReadExt;

use crate::Failed;

/// The first argument of such a process.
pub(crate) const ARGUMENT: &str = "agent";

/// How long apart its own descriptors are counted.
const LOOK: Duration = Duration::from_millis(2);

/// So much of everything that the test's tasks fit, whatever this machine has.
const RESOURCES: &str = "cpus:64;mem:32GiB";

/// Runs an agent in `FOLDER` with `MASTER` until its input ends. Writes a line once it has registered and waits for the end of each of
/// `TASKS` running containers.
pub(crate) async fn main(args: Vec<String>) -> Result<(), Failed> {
    let [folder, master, cgroup_parent, tasks] =
        args.try_into().map_err(|_| "usage: agent FOLDER MASTER CGROUP-PARENT TASKS")?;
    let tasks: usize = tasks.parse()?;
    let agent = Agent::native(Config {
        master: vec![master],
        listen: ([127, 0, 0, 1], 0).into(),
        resources: Some(RESOURCES.parse()?),
        cgroup_parent,
        ..Config::new(folder)
    })
    .await?;
    let mut view = agent.view();
    tokio::spawn(async move {
        let all = |view: &apportion_agent_core::View| {
            let running = view.tasks.values().filter(|task| task.state == TaskState::Running).count();
            view.master_id.is_some() && running == tasks
        };
        if view.wait_for(|view| all(view)).await.is_ok() {
            while pidfds() < tasks {
                tokio::time::sleep(LOOK).await;
            }
            println!("ready");
        }
    });
    let input_ended = async {
        let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    };
    Ok(agent.run(input_ended).await?)
}

/// The processes that this one waits for the end of.
fn pidfds() -> usize {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    open.filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.ends_with("anon_inode:[pidfd]")))
        .count()
}

/// A running agent. It is killed when this is dropped; its tasks run on.
pub(crate) struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts one, which is to find so many tasks running.
    pub(crate) fn start(
        folder: &Path,
        master: &str,
        cgroup_parent: &str,
        tasks: usize,
    ) -> Result<Self, Failed> {
        let mut child = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .arg(folder)
            .args([master, cgroup_parent, &tasks.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("the agent has no output")?);
        Ok(Process { child, output })
    }

    /// Returns when it has registered, with all of its tasks.
    pub(crate) fn ready(mut self) -> Result<Self, Failed> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err("the agent has ended".into()),
            _ => Ok(self),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has it end in order.
    pub(crate) fn end(mut self) -> Result<(), Failed> {
        drop(self.child.stdin.take());
        let ended = self.child.wait()?;
        if ended.success() { Ok(()) } else { Err(format!("the agent ended with {ended}").into()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The runners of an agent's containers.
pub(crate) fn runners(work_dir: &Path) -> Result<Vec<u32>, Failed> {
    let containers = apportion_agent::Paths::new(work_dir).containers();
    let folders: Vec<PathBuf> =
        fs::read_dir(containers)?.map(|entry| Ok(entry?.path())).collect::<Result<_, Failed>>()?;
    folders
        .into_iter()
        .map(|folder| {
            let pids: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("pid.json"))?)?;
            let pid = pids["runner"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            pid.ok_or_else(|| format!("{folder:?} has no runner").into())
        })
        .collect()
}
