//! Everything is killed at random moments; in the end every task has succeeded and nothing is left.
//!
//! `APPORTION_CHAOS_KILLS` says how often (60), `APPORTION_CHAOS_SEED` in which order (another one each time; it is printed).

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{
    Cluster, is_root,
    traces::{self, containers},
};
use crate::support::until;

const AGENTS: [(&str, &str); 2] = [("a", "cpus:4;mem:2GiB"), ("b", "cpus:4;mem:2GiB")];

/// Tasks for each kill, so that there is always something to kill.
const TASKS_PER_KILL: u64 = 2;

#[test]
fn whatever_is_killed_every_task_succeeds_and_nothing_is_left() {
    if !is_root("whatever_is_killed_every_task_succeeds_and_nothing_is_left") {
        return;
    }
    let kills = setting("APPORTION_CHAOS_KILLS").unwrap_or(60);
    let seed = setting("APPORTION_CHAOS_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64 & 0xffff_ffff
    });
    println!("{kills} kills, APPORTION_CHAOS_SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);

    let mut cluster = Cluster::start(&AGENTS);
    let tasks = kills * TASKS_PER_KILL;
    let job = format!(
        "name = 'stream'\n[array]\nrange = [1, {tasks}]\n[task]\ncommand = 'sleep 0.3; echo done'\n\
         cpus = 0.2\nmemory = '32MiB'\nretries = 100\n"
    );
    let job = cluster.submit("stream", &job, &[]);
    until("tasks run", || (!containers(&cluster).is_empty()).then_some(()));

    let mut done = [0; 4];
    for _ in 0..kills {
        thread::park_timeout(Duration::from_millis(dice.u64(..150)));
        let what = dice.usize(..10);
        match what {
            0 => {
                cluster.replace_master();
                done[0] += 1;
            }
            1 | 2 => {
                let (name, resources) = AGENTS[what - 1];
                let agent = cluster.agents.remove(name).unwrap();
                agent.signal(Signal::KILL);
                agent.end();
                cluster.start_agent(name, resources);
                done[1] += 1;
            }
            _ => {
                let processes: Vec<Pid> = containers(&cluster)
                    .iter()
                    .filter_map(|folder| process(folder, if what < 6 { "runner" } else { "task" }))
                    .collect();
                if let Some(process) = processes.get(dice.usize(..processes.len().max(1))) {
                    // It may have ended since it was looked for.
                    let _ = kill_process(*process, Signal::KILL);
                    done[if what < 6 { 2 } else { 3 }] += 1;
                }
            }
        }
    }
    println!("killed: {} masters, {} agents, {} runners, {} tasks", done[0], done[1], done[2], done[3]);

    let summary = job.end().expect(0).json();
    assert_eq!(summary["totals"]["succeeded"], tasks, "{summary:#}");
    until("no task is under way", || {
        let listed = cluster.ask(&["tasks"]);
        listed["tasks"].as_array().unwrap().is_empty().then_some(())
    });
    traces::expect_none(cluster);
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

/// A process that a container's folder names, if it runs: its number may be another's by now, who is of another test.
pub(super) fn process(folder: &Path, which: &str) -> Option<Pid> {
    // The trials of an agent that starts are no task's.
    if folder.file_name()?.to_str()?.starts_with('.') {
        return None;
    }
    let pids: Value = serde_json::from_slice(&fs::read(folder.join("pid.json")).ok()?).ok()?;
    let (pid, started) = (pids[which]["pid"].as_i64()?, pids[which]["start_ticks"].as_u64()?);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, the second field, may hold anything.
    let after_name = stat.rsplit_once(") ")?.1;
    let same = after_name.split(' ').nth(19)?.parse() == Ok(started);
    Pid::from_raw(i32::try_from(pid).ok()?).filter(|_| same)
}
