//! A persistent volume under real containers, and an agent that is killed.

use std::{
    env,
    ffi::OsString,
    fs,
    process::{Child, Command, ExitCode},
    time::Duration,
};

use apportion_agent::{Agent, Config};
use apportion_types::{Operation, Reason, TaskId, TaskInfo, TaskState, protocol::agent::MasterMessage};

use super::{latest, native, settings, shell, support::*, until};

const VOLUME: &str = "disk(+eng)[data=var/data]:100";

/// This program as an agent: work directory, master, parent of its cgroups.
pub(crate) fn agent(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut next = || arguments.next().unwrap().into_string().unwrap();
    let (folder, master, cgroup_parent) = (next(), next(), next());
    let config = Config { cgroup_parent, ..config(folder.as_ref(), &master) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        Agent::native(config).await.unwrap().run(std::future::pending()).await.unwrap();
    });
    ExitCode::SUCCESS
}

/// An agent that ends with the test, also with one that fails.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Process {
    pub(crate) fn start(config: &Config) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg("agent").arg(&config.work_dir).arg(&config.master[0]).arg(&config.cgroup_parent);
        Self(command.spawn().unwrap())
    }
}

fn with_volume(id: &str, script: &str) -> TaskInfo {
    TaskInfo { resources: format!("cpus:0.1;mem:64;{VOLUME}").parse().unwrap(), ..shell(id, script) }
}

/// A task writes and is killed, the agent is killed, another task reads, and the data is deleted with the volume.
pub(crate) async fn outlives() {
    let folder = tempfile::tempdir().unwrap();
    let mut master = Master::start().await;
    let config = settings(folder.path(), &master);
    let process = Process::start(&config);
    let (mut stream, ..) = master.registered().await;
    stream.apply("r1", Operation::Reserve { resources: "disk(+eng):100".parse().unwrap() }).await;
    stream.apply("c1", Operation::Create { volumes: VOLUME.parse().unwrap() }).await;
    let script = "echo precious > var/data/file; echo written; sleep 1000";
    stream.run(vec![with_volume("writer", script)]).await;
    stream.until("writer", TaskState::Running).await;
    let stdout = latest(folder.path(), "writer").join("stdout");
    let text = || fs::read_to_string(&stdout).unwrap_or_default();
    until(|| text() == "written\n", text).await;
    stream
        .say(MasterMessage::KillTask {
            framework_id: framework_id(),
            task_id: TaskId::new("writer").unwrap(),
            grace: Some(Duration::ZERO),
            reason: Reason::Preempted,
        })
        .await;
    assert_eq!(stream.until("writer", TaskState::Killed).await.reason, Some(Reason::Preempted));
    drop(process);
    drop(stream);

    let process = Process::start(&config);
    let (mut stream, ..) = master.registered().await;
    stream.run(vec![with_volume("reader", "cat var/data/file; pwd > var/data/where")]).await;
    stream.until("reader", TaskState::Finished).await;
    let stdout = fs::read_to_string(latest(folder.path(), "reader").join("stdout")).unwrap();
    assert_eq!(stdout, "precious\n");
    let data = folder.path().join("volumes/eng/-/data");
    assert!(data.join("where").exists());
    stream.apply("d1", Operation::Destroy { volumes: VOLUME.parse().unwrap() }).await;
    assert!(!data.exists());
    let deleted = folder.path().join("volumes.deleted");
    let left = || fs::read_dir(&deleted).unwrap().count();
    until(|| left() == 0, || format!("{} destroyed volumes are left", left())).await;
    drop(process);
    // One that ends in order leaves no parent of its cgroups.
    native(config).await.end().await.unwrap();
}
