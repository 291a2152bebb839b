//! What a machine can do to an agent: no room, no descriptors, a runner that hangs, a cgroup that stays. Tasks get a clear end, the
//! agent lives, and goes on when the machine does.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use rustix::process::{Signal, kill_process};

use super::{
    Cluster, Mounted, is_root,
    traces::{self, containers},
};
use crate::support::until;

const RESOURCES: &str = "cpus:4;mem:1GiB";

/// A job of tasks that end when a file appears in the sandbox, which only the test makes.
fn waiting(name: &str, tasks: u32) -> String {
    format!(
        "name = '{name}'\n[array]\nrange = [1, {tasks}]\n[task]\n\
         command = 'until [ -e go ]; do sleep 0.05; done'\ncpus = 0.1\nmemory = '16MiB'\n"
    )
}

fn quick(name: &str) -> String {
    format!("name = '{name}'\n[task]\ncommand = 'true'\ncpus = 0.1\nmemory = '16MiB'\n")
}

/// Takes all the room that there is.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
    while file.write_all(&[7]).is_ok() {}
}

#[test]
fn on_a_full_disk_nothing_is_lost_and_all_goes_on_when_there_is_room() {
    if !is_root("on_a_full_disk_nothing_is_lost_and_all_goes_on_when_there_is_room") {
        return;
    }
    let mut cluster = Cluster::start(&[]);
    let work_dir = cluster.work_dir("a");
    cluster.mounted.push(Mounted::tmpfs(&work_dir, "size=4m"));
    cluster.start_agent("a", RESOURCES);
    let before = cluster.submit("before", &waiting("before", 2), &[]);
    until("all run", || (cluster.tasks("running").len() == 2).then_some(()));

    let ballast = work_dir.join("ballast");
    fill(&ballast);
    let array = "[array]\nrange = [1, 20]\n[task]";
    let meanwhile = cluster.submit("meanwhile", &quick("meanwhile").replace("[task]", array), &[]);
    // The last block of its log has room for some records yet; then it waits.
    cluster.agents.get_mut("a").unwrap().error_with("no room for the agent's log");
    // The ends of tasks were given their room when they started. Some others have failed without a sandbox.
    for task in cluster.sandboxes("a") {
        let _ = File::create(task.join("go"));
    }
    until("nothing runs", || {
        let folders = containers(&cluster);
        folders.iter().all(|folder| folder.join("exit.json").exists()).then_some(())
    });
    assert!(cluster.tasks("finished").is_empty(), "an end is told when it is on disk, not before");
    fs::remove_file(ballast).unwrap();

    let summary = before.end().expect(0).json();
    assert_eq!(summary["outcome"], "succeeded", "{summary:#}");
    let summary = meanwhile.end().json();
    let (succeeded, failed) = (&summary["totals"]["succeeded"], &summary["totals"]["failed"]);
    assert!(succeeded.as_u64() > Some(0), "{summary:#}");
    assert_eq!(succeeded.as_u64().unwrap() + failed.as_u64().unwrap(), 20, "{summary:#}");
    for task in cluster.tasks("failed") {
        let message = task["status"]["message"].as_str().unwrap();
        assert!(message.contains("No space left on device"), "{message}");
    }
    traces::expect_none(cluster);
}

#[test]
fn without_descriptors_launches_fail_with_that_reason_and_the_agent_lives() {
    let mut cluster = Cluster::start(&[]);
    cluster.start_agent_after("ulimit -n 40", "a", RESOURCES);
    let mut many = cluster.submit("many", &waiting("many", 40), &[]);
    until("a launch fails", || (!cluster.tasks("failed").is_empty()).then_some(()));
    // Some are tried again, when none is to be seen.
    until("the job is over", || {
        for task in cluster.sandboxes("a") {
            let _ = File::create(task.join("go"));
        }
        many.is_over().then_some(())
    });
    let failed = cluster.tasks("failed");
    assert!(!failed.is_empty(), "what has failed is listed for a while");
    for task in failed {
        let message = task["status"]["message"].as_str().unwrap();
        assert!(
            message.contains("open files"),
            "what runs is left alone, also by an agent that sees little: {task:#}"
        );
    }
    let after = cluster.submit("after", &quick("after"), &[]).end().expect(0).json();
    assert_eq!(after["outcome"], "succeeded", "{after:#}");
    traces::expect_none(cluster);
}

#[test]
fn a_task_whose_runner_hangs_can_be_killed() {
    let cluster = Cluster::start(&[("a", RESOURCES)]);
    let job = cluster.submit("hung", &waiting("hung", 1), &[]);
    until("it runs", || (cluster.tasks("running").len() == 1).then_some(()));
    let runner = super::chaos::process(&containers(&cluster)[0], "runner").unwrap();
    kill_process(runner, Signal::STOP).unwrap();
    cluster.ask(&["kill", "hung-0001", "--grace", "0s"]);
    let summary = job.end().expect(1).json();
    assert_eq!(summary["totals"]["succeeded"], 0, "{summary:#}");
    let after = cluster.submit("after", &quick("after"), &[]).end().expect(0).json();
    assert_eq!(after["outcome"], "succeeded", "{after:#}");
    traces::expect_none(cluster);
}

#[test]
fn a_cgroup_that_cannot_be_removed_holds_up_nobody_and_goes_when_it_can() {
    if !is_root("a_cgroup_that_cannot_be_removed_holds_up_nobody_and_goes_when_it_can") {
        return;
    }
    let cluster = Cluster::start(&[("a", RESOURCES)]);
    let job = cluster.submit("stays", &waiting("stays", 1), &[]);
    until("it runs", || (cluster.tasks("running").len() == 1).then_some(()));
    // Nobody can remove what something is mounted on.
    let [group] = &traces::cgroups(&cluster.group("a"), "pids")[..] else { panic!("one container's") };
    let place = group.join("stays");
    fs::create_dir(&place).unwrap();
    let mounted = Mounted::tmpfs(&place, "size=4k");
    File::create(cluster.sandboxes("a")[0].join("go")).unwrap();
    let summary = job.end().expect(0).json();
    assert_eq!(summary["outcome"], "succeeded", "{summary:#}");
    let after = cluster.submit("after", &quick("after"), &[]).end().expect(0).json();
    assert_eq!(after["outcome"], "succeeded", "{after:#}");
    assert!(group.exists());

    drop(mounted);
    until("it is removed", || (!group.exists()).then_some(()));
    traces::expect_none(cluster);
}

#[test]
fn an_agent_on_a_full_disk_can_be_ended() {
    if !is_root("an_agent_on_a_full_disk_can_be_ended") {
        return;
    }
    let mut cluster = Cluster::start(&[]);
    let work_dir = cluster.work_dir("a");
    cluster.mounted.push(Mounted::tmpfs(&work_dir, "size=4m"));
    cluster.start_agent("a", RESOURCES);
    let job = cluster.submit("steady", &waiting("steady", 20), &[]);
    until("all run", || (cluster.tasks("running").len() == 20).then_some(()));
    fill(&work_dir.join("ballast"));
    // Their ends do not find room in the log.
    let agent = cluster.agents.remove("a").unwrap();
    agent.signal(Signal::TERM);
    let ended = agent.end().expect(1);
    assert!(ended.stderr.contains("free some space"), "{ended:#?}");

    fs::remove_file(work_dir.join("ballast")).unwrap();
    cluster.start_agent("a", RESOURCES);
    job.end().expect(1);
    traces::expect_none(cluster);
}
