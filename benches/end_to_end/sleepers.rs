//! Many tasks that do nothing on one agent: how long their start, another agent's taking over and their end take, and what they cost
//! meanwhile.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use apportion_benches::{Table, median, ms};

use crate::{
    Failed, Framework, Until,
    agent::{self, Process},
};

/// How long idleness is watched.
const IDLE: Duration = Duration::from_secs(5);

/// How often the agent is killed and started again.
const RESTARTS: usize = 5;

/// They end by themselves, should this process be killed.
const SLEEP: [&str; 2] = ["/bin/sleep", "1200"];

/// Mesos started a thousand on one agent in 30.7 s and destroyed them in 22 s, on two E5-2658v3 (release notes of 1.7).
pub(crate) async fn measure(master: &str, framework: &Framework, count: u64) -> Result<Table, Failed> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let parent = format!("apportion-bench-{}-sleepers", std::process::id());
    let all = usize::try_from(count)?;
    let process = |tasks| Process::start(folder.path(), master, &parent, tasks);
    let mut agent = process(0)?.ready()?;

    let start = framework.run(count, &SLEEP, Until::Running).await?;

    let runners = agent::runners(folder.path())?;
    let mut private: Vec<u64> = runners.iter().map(|pid| private_kib(*pid)).collect::<Result<_, _>>()?;
    private.sort_unstable();
    let cost = || (processor(&[agent.id()]), processor(&runners));
    let before = cost();
    tokio::time::sleep(IDLE).await;
    let after = cost();
    let memory = private_kib(agent.id())?;

    let (mut restarts, mut spent_each) = (Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        drop(agent);
        let began = Instant::now();
        agent = process(all)?.ready()?;
        restarts.push(began.elapsed());
        spent_each.push(processor(&[agent.id()]).into_values().sum());
    }

    let stop = framework.kill_all().await?;
    agent.end()?;

    let mut table = Table::new(&["what", "seen"]);
    let mut row = |what: String, seen: String| table.row(vec![what, seen]);
    row(format!("{count} sleeping tasks: submit → all running"), format!("{} ms", ms(start)));
    let most = restarts.iter().max().copied().unwrap_or_default();
    row(
        "the agent killed: start of the next → all re-attached, p50, most".to_owned(),
        format!("{}, {} ms", ms(median(restarts)), ms(most)),
    );
    row("processor time of that, p50".to_owned(), format!("{} ms", ms(median(spent_each))));
    row("kill → all ended".to_owned(), format!("{} ms", ms(stop)));
    row("a runner's private memory, p50".to_owned(), format!("{} KiB", private[private.len() / 2]));
    row("the same, the most".to_owned(), format!("{} KiB", private[private.len() - 1]));
    row("the agent's private memory".to_owned(), format!("{memory} KiB"));
    let idle =
        |spent: Duration| format!("{} ms of processor a second", ms(spent.div_f64(IDLE.as_secs_f64())));
    row("the agent, idle".to_owned(), idle(spent(&before.0, &after.0)));
    row("all runners, idle".to_owned(), idle(spent(&before.1, &after.1)));
    Ok(table)
}

/// What would be free if the process ended.
fn private_kib(pid: u32) -> Result<u64, Failed> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("smaps_rollup"))?;
    let lines = text.lines().filter(|line| line.starts_with("Private_"));
    Ok(lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum())
}

/// The processor time of the threads of some processes, each by its own name.
fn processor(pids: &[u32]) -> BTreeMap<PathBuf, Duration> {
    let threads =
        pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten());
    let spent = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        Some((thread.path(), Duration::from_nanos(text.split(' ').next()?.parse().ok()?)))
    });
    spent.collect()
}

/// What was spent in between, but for the last of threads that have ended meanwhile.
fn spent(before: &BTreeMap<PathBuf, Duration>, after: &BTreeMap<PathBuf, Duration>) -> Duration {
    let each = after.iter().map(|(thread, spent)| *spent - before.get(thread).copied().unwrap_or_default());
    each.sum()
}
