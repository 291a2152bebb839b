//! Containers per second through the runner, beside a bare loop of clone, cgroup, execute, wait in the same run.
//!
//! The bare loop makes the same cgroups with the same limits and the same namespaces for the same program; the runner adds a process
//! of its own, mounts, capabilities, seccomp, an account on disk, and an answer to the agent. With an image, the root is an overlay of one
//! layer; `runc run`, where it is installed, has the same root and the same limits. Then a thousand that sleep. Run it as root.
//!
//! `cargo bench -p apportion-benches --bench containers -- [--quick]`

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

#[path = "containers/runc.rs"]
mod runc;
#[path = "containers/sleepers.rs"]
mod sleepers;

use std::{
    collections::BTreeMap,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use apportion_benches::{Table, median, ms, timed};
use apportion_containerizer::{
    ContainerId, ContainerSpec, Containerizer, ImageRoot, Limits, Native, NativeConfig, bare_loop,
    runner_main,
};
use tokio::task::JoinSet;

const LIMITS: Limits = Limits {
    cpus_request_milli: 500,
    cpus_limit_milli: Some(500),
    memory_request_bytes: 64 << 20,
    memory_limit_bytes: Some(64 << 20),
    swap_max_bytes: 0,
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
    let all =
        if quick { measure(20).and_then(|()| sleep(40)) } else { measure(200).and_then(|()| sleep(1000)) };
    match all {
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
    let mut images: BTreeMap<usize, Vec<Duration>> = BTreeMap::new();
    let mut runcs = Vec::new();
    let mut latencies = Vec::new();
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let root = place.path().join("root");
    runc::make_root(&root)?;
    let bundle = runc::Bundle::new(place.path(), &root, &parent)?;
    // In turn, so that a machine that grows slower does so for both.
    for _ in 0..ROUNDS {
        let (took, done) = timed(|| bare_loop(count, &parent, &LIMITS));
        done?;
        bare.push(took);
        for concurrency in CONCURRENCY {
            // A runtime for each, since the bare loop wants no other thread.
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let (took, each) = runtime.block_on(through_the_runner(count, concurrency, &parent, None))?;
            runner.entry(concurrency).or_default().push(took);
            if concurrency == 1 {
                latencies.extend(each);
            }
            let (took, _) = runtime.block_on(through_the_runner(count, concurrency, &parent, Some(&root)))?;
            images.entry(concurrency).or_default().push(took);
            drop(runtime);
        }
        if let Some(bundle) = &bundle {
            let (took, ran) = timed(|| (0..count).try_for_each(|number| bundle.run(number)));
            ran?;
            runcs.push(took);
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
    for (concurrency, took) in images {
        row(format!("runner with an image, {concurrency} at once"), median(took));
    }
    match runcs.is_empty() {
        true => println!("runc is not installed: nothing is compared with it"),
        false => row("runc run, 1 at once".to_owned(), median(runcs)),
    }
    print!("{table}");
    println!("launch → executed, 1 at once: p50 {} ms", ms(median(latencies)));
    Ok(())
}

fn sleep(count: u32) -> Result<(), Failed> {
    let parent = format!("apportion-bench-{}", std::process::id());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    print!("\n{}", runtime.block_on(sleepers::measure(count, &parent))?);
    Ok(())
}

/// Launches, waits for and removes so many containers; returns how long all took, and each launch.
async fn through_the_runner(
    count: u32,
    concurrency: usize,
    parent: &str,
    root: Option<&Path>,
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
        let (native, mut spec) = (native.clone(), spec(folder.path(), number, &["/bin/true"])?);
        if let Some(root) = root {
            let scratch = folder.path().join(format!("scratch-{number}"));
            std::fs::create_dir(&scratch)?;
            spec.root = Some(ImageRoot { layers: vec![root.to_owned()], scratch });
        }
        spec.tethered = true;
        under_way.spawn(async move { run_one(&native, spec).await });
    }
    while let Some(ended) = under_way.join_next().await {
        launches.push(ended??);
    }
    let took = start.elapsed();
    native.close().await;
    Ok((took, launches))
}

fn spec(folder: &Path, number: u32, argv: &[&str]) -> std::io::Result<ContainerSpec> {
    let sandbox = folder.join(format!("sandbox-{number}"));
    std::fs::create_dir(&sandbox)?;
    Ok(ContainerSpec {
        id: ContainerId(format!("c{number}")),
        argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
        env: BTreeMap::new(),
        sandbox,
        output: None,
        root: None,
        user: None,
        working_dir: None,
        mounts: Vec::new(),
        rlimits: Vec::new(),
        persistent: Vec::new(),
        network: None,
        limits: LIMITS,
        tethered: false,
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
