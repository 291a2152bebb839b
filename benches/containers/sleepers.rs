//! Many containers at once that do nothing: how long their start, their adoption by another agent and their end take, and what they cost
//! meanwhile.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use apportion_benches::{Table, ms, resident_bytes};
use apportion_containerizer::{ContainerId, Containerizer, Native, NativeConfig, Signal};
use tokio::task::JoinSet;

use crate::{Failed, spec};

/// How many are started and stopped at once.
const AT_ONCE: usize = 8;

/// How long idleness is watched.
const IDLE: Duration = Duration::from_secs(5);

/// Mesos started a thousand on one agent in 30.7 s and destroyed them in 22 s, on two E5-2658v3 (release notes of 1.7).
pub(crate) async fn measure(count: u32, folder: &Path) -> Result<Table, Failed> {
    let parent = format!("apportion-bench-{}", std::process::id());
    let folder = tempfile::tempdir_in(folder)?;
    let config = || NativeConfig::new(folder.path().join("state"), parent.clone());
    let first = Native::probe(config()).await?;
    let ids: Vec<ContainerId> = (0..count).map(|number| ContainerId(format!("c{number}"))).collect();

    let before = resident_bytes();
    let started = Instant::now();
    each(&ids, |number, _| {
        let (native, spec) =
            (first.clone(), spec(folder.path(), number as u32, &["/bin/sleep", "3600"], None));
        async move { Ok(native.launch(spec?).await?) }
    })
    .await?;
    let start = started.elapsed();
    let held = resident_bytes().saturating_sub(before);

    let runners: Vec<i64> = ids.iter().map(|id| runner(folder.path(), id)).collect::<Result<_, _>>()?;
    let mut private: Vec<u64> = runners.iter().map(|pid| private_bytes(*pid)).collect::<Result<_, _>>()?;
    private.sort_unstable();
    let cost =
        || (processor("self"), runners.iter().map(|pid| processor(&pid.to_string())).sum::<Duration>());
    let (agent, all) = cost();
    tokio::time::sleep(IDLE).await;
    let (agent_after, all_after) = cost();

    // The containers' next agent: it finds them, waits for their ends, and asks each what it uses.
    let began = Instant::now();
    let second = Native::probe(config()).await?;
    let found = second.leftovers().await.into_iter().filter(|leftover| leftover.running).count();
    if found != ids.len() {
        return Err(format!("{found} of {count} containers were found again").into());
    }
    second.usage(&ids).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let adopted = began.elapsed();

    let began = Instant::now();
    each(&ids, |_, id| {
        let native = second.clone();
        async move {
            native.signal(&id, Signal::Kill).await?;
            native.wait(&id).await?;
            Ok(native.remove(&id).await?)
        }
    })
    .await?;
    let stop = began.elapsed();
    second.close().await;

    let mut table = Table::new(&["what", "seen"]);
    let mut row = |what: String, seen: String| table.row(vec![what, seen]);
    row(format!("{count} started, {AT_ONCE} at once"), format!("{} ms", ms(start)));
    row("found again by another agent, each asked for its usage".to_owned(), format!("{} ms", ms(adopted)));
    row(format!("killed and cleared away, {AT_ONCE} at once"), format!("{} ms", ms(stop)));
    row("the agent's side, memory".to_owned(), format!("{} KiB each", (held / ids.len()) >> 10));
    row("a runner's private memory, p50".to_owned(), format!("{} KiB", private[private.len() / 2] >> 10));
    row("the same, the most".to_owned(), format!("{} KiB", private[private.len() - 1] >> 10));
    let second_of =
        |spent: Duration| format!("{} ms of processor a second", ms(spent.div_f64(IDLE.as_secs_f64())));
    row("the agent's side, idle".to_owned(), second_of(agent_after.saturating_sub(agent)));
    row("all runners, idle".to_owned(), second_of(all_after.saturating_sub(all)));
    Ok(table)
}

/// Does something with each, so many at once.
async fn each<F>(ids: &[ContainerId], mut with: impl FnMut(usize, ContainerId) -> F) -> Result<(), Failed>
where
    F: Future<Output = Result<(), Failed>> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    for (number, id) in ids.iter().enumerate() {
        if under_way.len() >= AT_ONCE {
            under_way.join_next().await.transpose()?.transpose()?;
        }
        under_way.spawn(with(number, id.clone()));
    }
    while let Some(ended) = under_way.join_next().await {
        ended??;
    }
    Ok(())
}

fn runner(folder: &Path, id: &ContainerId) -> Result<i64, Failed> {
    let text = fs::read(folder.join("state").join(&id.0).join("pid.json"))?;
    let pids: serde_json::Value = serde_json::from_slice(&text)?;
    pids["runner"]["pid"].as_i64().ok_or_else(|| format!("{id} has no runner").into())
}

/// What would be free if the process ended.
fn private_bytes(pid: i64) -> Result<u64, Failed> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let lines = text.lines().filter(|line| line.starts_with("Private_"));
    let kib = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>();
    Ok(kib << 10)
}

/// The processor time that a process's threads have used.
fn processor(process: &str) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let spent = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(spent.sum())
}
