//! The agent with real containers. The test program is its own runner, so it has no harness.

// All of this is test code.
#![allow(clippy::unwrap_used)]

mod cores;
#[path = "../support/mod.rs"]
mod support;
mod volumes;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use apportion_agent::{Agent, Config};
use apportion_containerizer::{Containerizer, Native, NativeConfig, runner_main};
use apportion_types::{Reason, TaskId, TaskInfo, TaskState, protocol::agent::MasterMessage};
use libtest_mimic::{Arguments, Failed, Trial};
use support::*;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    match arguments.next().unwrap_or_default().to_str() {
        Some("runner") => return runner_main(arguments),
        Some("agent") => return volumes::agent(arguments),
        _ => {}
    }
    let tests = vec![
        Trial::test("a_task_runs_in_its_sandbox_and_its_output_stays", || block_on(output())),
        Trial::test("a_task_that_ignores_term_is_killed", || block_on(killed())),
        Trial::test("a_task_outlives_the_agent_and_is_found_again", || block_on(found_again())),
        Trial::test("a_tethered_task_ends_with_the_agent", || block_on(tethered())),
        Trial::test("cores_are_a_tasks_own_also_for_the_next_agent", || block_on(cores::own())),
        Trial::test("a_volume_outlives_its_task_and_a_killed_agent", || block_on(volumes::outlives())),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn block_on(test: impl Future<Output = ()>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(test);
    Ok(())
}

/// A work directory of its own, and cgroups of its own.
fn settings(folder: &Path, master: &Master) -> Config {
    let name = folder.file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned();
    Config { cgroup_parent: format!("apportion-test/{name}"), ..config(folder, &master.address) }
}

async fn native(config: Config) -> Running {
    run(Agent::native(config).await.unwrap())
}

fn shell(id: &str, script: &str) -> TaskInfo {
    let mut info = task(id, &["sh", "-c", script]);
    info.resources = "cpus:0.1;mem:64;ports:[31005-31005]".parse().unwrap();
    info
}

fn latest(folder: &Path, task: &str) -> PathBuf {
    folder.join("sandboxes/f1").join(task).join("latest")
}

/// Waits for a condition.
async fn until(condition: impl Fn() -> bool, instead: impl Fn() -> String) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{}", instead()));
}

async fn output() {
    let folder = tempfile::tempdir().unwrap();
    let mut master = Master::start().await;
    let agent = native(settings(folder.path(), &master)).await;
    let (mut stream, ..) = master.registered().await;
    let script =
        "pwd; echo $APPORTION_TASK_ID $APPORTION_PORT0; touch $TMPDIR/x && echo made; echo oops >&2; exit 3";
    stream.run(vec![shell("t1", script), task("t2", &["no-such-program"])]).await;
    let ends = stream.all_until(&["t1", "t2"], TaskState::Failed).await;
    assert_eq!(&*ends[0].message, "exit code 3");
    assert_eq!(ends[1].reason, Some(Reason::CommandNotExecuted), "{:?}", ends[1]);
    let sandbox = fs::canonicalize(latest(folder.path(), "t1")).unwrap();
    let expected = format!("{}\nt1 31005\nmade\n", sandbox.display());
    assert_eq!(fs::read_to_string(sandbox.join("stdout")).unwrap(), expected);
    assert_eq!(fs::read_to_string(sandbox.join("stderr")).unwrap(), "oops\n");
    // Once everything is acknowledged nothing of the containers is kept.
    let containers = folder.path().join("containers");
    let kept = || {
        let names = fs::read_dir(&containers).unwrap().flatten().map(|entry| entry.file_name());
        names.filter(|name| !name.to_string_lossy().starts_with('.')).count()
    };
    until(|| kept() == 0, || format!("{} containers are kept", kept())).await;
    agent.end().await.unwrap();
}

async fn killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut master = Master::start().await;
    let agent = native(settings(folder.path(), &master)).await;
    let (mut stream, ..) = master.registered().await;
    stream.run(vec![shell("t1", "trap '' TERM; sleep 1000 & echo started; wait; sleep 1000")]).await;
    stream.until("t1", TaskState::Running).await;
    let stdout = latest(folder.path(), "t1").join("stdout");
    let text = || fs::read_to_string(&stdout).unwrap_or_default();
    until(|| text() == "started\n", text).await;
    let kill = |grace| MasterMessage::KillTask {
        framework_id: framework_id(),
        task_id: TaskId::new("t1").unwrap(),
        grace: Some(grace),
        reason: Reason::KilledByFramework,
    };
    stream.say(kill(Duration::from_secs(600))).await;
    stream.until("t1", TaskState::Killing).await;
    stream.say(kill(Duration::ZERO)).await;
    let end = stream.until("t1", TaskState::Killed).await;
    assert_eq!(end.message, "killed: signal 9");
    agent.end().await.unwrap();
}

async fn found_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut master = Master::start().await;
    let config = settings(folder.path(), &master);
    let agent = native(config.clone()).await;
    let (mut stream, ..) = master.registered().await;
    let script = "until [ -e go ]; do sleep 0.01; done; echo went; exit 5";
    stream.run(vec![shell("t1", script)]).await;
    stream.until("t1", TaskState::Running).await;
    agent.end().await.unwrap();
    let agent = native(config).await;
    let (mut stream, _, tasks) = master.registered().await;
    assert_eq!((tasks.len(), tasks[0].state), (1, TaskState::Running));
    fs::write(latest(folder.path(), "t1").join("go"), "").unwrap();
    let end = stream.until("t1", TaskState::Failed).await;
    assert_eq!(end.message, "exit code 5");
    assert_eq!(fs::read_to_string(latest(folder.path(), "t1").join("stdout")).unwrap(), "went\n");
    agent.end().await.unwrap();
}

/// A process that dies without a word is played by a runtime that is dropped: the tethers are all that it holds.
async fn tethered() {
    let folder = tempfile::tempdir().unwrap();
    let mut master = Master::start().await;
    let config = Config { tethered: true, ..settings(folder.path(), &master) };
    let (started, address) = std::sync::mpsc::channel();
    let (die, death) = tokio::sync::oneshot::channel::<()>();
    let agents = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let _agent = native(config).await;
            started.send(()).unwrap();
            drop(death.await);
        });
    });
    tokio::task::spawn_blocking(move || address.recv().unwrap()).await.unwrap();
    let (mut stream, ..) = master.registered().await;
    stream.run(vec![shell("t1", "cat /proc/self/stat > stat; sleep 1000")]).await;
    stream.until("t1", TaskState::Running).await;
    let parent = settings(folder.path(), &master).cgroup_parent;
    drop(die);
    agents.join().unwrap();
    // The folder of the container says how it ended, to whoever looks.
    let paths = folder.path().join("containers");
    let native = Arc::new(Native::probe(NativeConfig::new(paths, parent)).await.unwrap());
    let left = native.leftovers().await.unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    tokio::time::timeout(LONG, native.wait(&left[0].id)).await.expect("it ends").unwrap();
    native.remove(&left[0].id).await.unwrap();
    native.close().await;
}
