//! Cores of a task's own under real containers, and an agent that is killed.

use std::{env, fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use apportion_types::{CpuSet, Reason, TaskId, TaskInfo, TaskState, protocol::agent::MasterMessage};

use super::{latest, native, settings, support::*, until, volumes::Process};

/// What a task sees of where it may run, again and again.
const LOOK: &str =
    "while :; do grep Cpus_allowed_list: /proc/self/status >new; mv new seen; sleep 0.05; done";

fn list(status: &str) -> Option<CpuSet> {
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().parse().ok()
}

/// Waits until a task sees that it may run on these.
async fn runs_on(folder: &Path, task: &str, cores: &CpuSet) {
    let seen = latest(folder, task).join("seen");
    let text = || fs::read_to_string(&seen).unwrap_or_default();
    until(|| list(&text()).as_ref() == Some(cores), || format!("{task}: {:?}, not {cores}", text())).await;
}

fn looks(id: &str) -> TaskInfo {
    task(id, &["sh", "-c", LOOK])
}

fn kill(id: &str) -> MasterMessage {
    MasterMessage::KillTask {
        framework_id: framework_id(),
        task_id: TaskId::new(id).unwrap(),
        grace: Some(Duration::ZERO),
        reason: Reason::KilledByFramework,
    }
}

/// A task has a core for itself, which another leaves at once and has again after its end, whatever becomes of their agent.
pub(crate) async fn own() {
    let all = list(&fs::read_to_string("/proc/self/status").unwrap()).unwrap();
    let own = all.lowest(1).unwrap();
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let Some(rest) = all.without(&own).filter(|_| root) else {
        let required = env::var_os("APPORTION_NO_SKIP").is_some_and(|value| value != "0");
        assert!(
            !required,
            "cores of a task's own need root and two cores, and APPORTION_NO_SKIP forbids to skip them"
        );
        return eprintln!("skipped: cores of a task's own need root and two cores");
    };
    let folder = tempfile::tempdir().unwrap();
    let mut master = Master::start().await;
    let config = settings(folder.path(), &master);
    let process = Process::start(&config);
    let (mut stream, ..) = master.registered().await;
    stream.run(vec![looks("shares")]).await;
    stream.until("shares", TaskState::Running).await;
    runs_on(folder.path(), "shares", &all).await;

    let mut exclusive = TaskInfo { resources: "cpus:1;mem:64".parse().unwrap(), ..looks("own") };
    exclusive.container.exclusive_cpus = true;
    stream.run(vec![exclusive]).await;
    stream.until("own", TaskState::Running).await;
    runs_on(folder.path(), "own", &own).await;
    runs_on(folder.path(), "shares", &rest).await;
    drop(process);
    drop(stream);

    let process = Process::start(&config);
    let (mut stream, _, tasks) = master.registered().await;
    assert!(tasks.len() == 2 && tasks.iter().all(|task| task.state == TaskState::Running), "{tasks:?}");
    stream.run(vec![looks("later")]).await;
    stream.until("later", TaskState::Running).await;
    for (task, cores) in [("later", &rest), ("shares", &rest), ("own", &own)] {
        fs::remove_file(latest(folder.path(), task).join("seen")).unwrap_or_default();
        runs_on(folder.path(), task, cores).await;
    }
    stream.say(kill("own")).await;
    stream.until("own", TaskState::Killed).await;
    for task in ["shares", "later"] {
        runs_on(folder.path(), task, &all).await;
        stream.say(kill(task)).await;
        stream.until(task, TaskState::Killed).await;
    }
    drop(process);
    // One that ends in order leaves no parent of its cgroups.
    native(config).await.end().await.unwrap();
}
