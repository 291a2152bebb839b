//! Containers per second through the runner, beside a bare loop of clone, cgroup, execute, wait in the same run.
//!
//! The bare loop makes the same cgroups with the same limits and the same namespaces for the same program; the runner adds a process
//! of its own, mounts, capabilities, seccomp, an account on disk, and an answer to the agent. Run it as root.
//!
//! `cargo bench -p apportion-benches --bench containers -- [--quick]`

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::{
    collections::BTreeMap,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use apportion_benches::{Table, median, ms, timed};
use apportion_containerizer::{
    ContainerId, ContainerSpec, Containerizer, Limits, Native, NativeConfig, bare_loop, runner_main,
};
use tokio::task::JoinSet;

const LIMITS: Limits = Limits {
    cpus_request_milli: 500,
    cpus_limit_milli: Some(500),
    memory_request_bytes: 64 << 20,
    memory_limit_bytes: Some(64 << 20),
    pids_max: Some(32),
};

/// How many containers are under way at once.
const CONCURRENCY: [usize; 2] = [1, 4];

const ROUNDS: usize = 5;

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "runner") {
        return runner_main(args);
    }
    let quick = std::env::args().any(|arg| arg == "--quick");
    match measure(if quick { 20 } else { 200 }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("containers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(count: u32) -> Result<(), Failed> {
    let parent = format!("apportion-bench-{}", std::process::id());
    let mut bare = Vec::new();
    let mut runner: BTreeMap<usize, Vec<Duration>> = BTreeMap::new();
    let mut latencies = Vec::new();
    // In turn, so that a machine that grows slower does so for both.
    for _ in 0..ROUNDS {
        let (took, done) = timed(|| bare_loop(count, &parent, &LIMITS));
        done?;
        bare.push(took);
        for concurrency in CONCURRENCY {
            // A runtime for each, since the bare loop wants no other thread.
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let (took, each) = runtime.block_on(through_the_runner(count, concurrency, &parent))?;
            runner.entry(concurrency).or_default().push(took);
            if concurrency == 1 {
                latencies.extend(each);
            }
            drop(runtime);
        }
    }
    let bare = median(bare);
    let mut table = Table::new(&["what", "containers/s", "ms each", "of the bare loop's rate"]);
    let mut row = |what: String, took: Duration| {
        let rate = f64::from(count) / took.as_secs_f64();
        let ratio = bare.as_secs_f64() / took.as_secs_f64();
        table.row(vec![what, format!("{rate:.0}"), ms(took / count), format!("{ratio:.2}")]);
    };
    row("bare loop".to_owned(), bare);
    for (concurrency, took) in runner {
        row(format!("runner, {concurrency} at once"), median(took));
    }
    print!("{table}");
    println!("launch → executed, 1 at once: p50 {} ms", ms(median(latencies)));
    Ok(())
}

/// Launches, waits for and removes so many containers; returns how long all took, and each launch.
async fn through_the_runner(
    count: u32,
    concurrency: usize,
    parent: &str,
) -> Result<(Duration, Vec<Duration>), Failed> {
    // Not in /tmp, which a container has for itself.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let native = Native::probe(NativeConfig::new(folder.path().join("state"), parent.to_owned())).await?;
    if let Some(unenforced) = native.unenforced().first() {
        return Err(format!(
            "nothing is compared: {} is not enforced: {}",
            unenforced.control.name(),
            unenforced.reason
        )
        .into());
    }
    let start = Instant::now();
    let mut launches = Vec::new();
    let mut under_way = JoinSet::new();
    for number in 0..count {
        while under_way.len() >= concurrency {
            launches.extend(under_way.join_next().await.transpose()?.transpose()?);
        }
        let (native, spec) = (native.clone(), spec(folder.path(), number)?);
        under_way.spawn(async move { run_one(&native, spec).await });
    }
    while let Some(ended) = under_way.join_next().await {
        launches.push(ended??);
    }
    let took = start.elapsed();
    native.close().await;
    Ok((took, launches))
}

fn spec(folder: &Path, number: u32) -> std::io::Result<ContainerSpec> {
    let sandbox = folder.join(format!("sandbox-{number}"));
    std::fs::create_dir(&sandbox)?;
    Ok(ContainerSpec {
        id: ContainerId(format!("c{number}")),
        argv: vec!["/bin/true".to_owned()],
        env: BTreeMap::new(),
        sandbox,
        root: None,
        user: None,
        working_dir: None,
        mounts: Vec::new(),
        rlimits: Vec::new(),
        persistent: Vec::new(),
        limits: LIMITS,
        tethered: true,
    })
}

async fn run_one(native: &Native, spec: ContainerSpec) -> Result<Duration, Failed> {
    let id = spec.id.clone();
    let start = Instant::now();
    native.launch(spec).await?;
    let launched = start.elapsed();
    let termination = native.wait(&id).await?;
    if !termination.exit.is_some_and(|exit| exit.success()) {
        return Err(format!("{id} ended with {termination:?}").into());
    }
    native.remove(&id).await?;
    Ok(launched)
}
