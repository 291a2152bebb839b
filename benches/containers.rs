//! Containers per second through the runner, beside bare loops of clone, cgroup, mounts, execute, wait in the same run.
//!
//! The bare loops make the same cgroups with the same limits and the same namespaces for the same program, and the same mounts where that is
//! said; the runner adds a process of its own, capabilities, seccomp, an account on disk, and an answer to the agent. With an image, the
//! root is an overlay of one layer; `runc run`, where it is installed, has that layer as its root, read-only and without an overlay, and the
//! same limits. Run it as root.
//!
//! `cargo bench -p apportion-benches --bench containers -- [--quick] [--folder FOLDER]`: where containers are kept, which else is below the
//! target folder. What its file system costs is a good part of a launch.

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

#[path = "containers/runc.rs"]
mod runc;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use apportion_benches::{Table, median, ms, processor_of_all, timed};
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
    io: apportion_types::IoLimits::NONE,
    cores: None,
    huge_pages: apportion_types::HugePages::NONE,
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
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("containers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failed> {
    let args: Vec<String> = std::env::args().collect();
    let quick = args.iter().any(|arg| arg == "--quick");
    let folder = args.iter().position(|arg| arg == "--folder").and_then(|at| args.get(at + 1));
    // Not in /tmp, which a container has for itself.
    let folder = fs::canonicalize(folder.map_or(env!("CARGO_TARGET_TMPDIR"), String::as_str))?;
    measure(if quick { 20 } else { 200 }, &folder)
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Without mounts, as the host's root is.
    Bare,
    BareWithMounts {
        image: bool,
    },
    Runner {
        image: bool,
        at_once: usize,
    },
    Runc,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = |image: &bool| if *image { ", image" } else { "" };
        match self {
            Way::Bare => f.write_str("bare loop, no mounts"),
            Way::BareWithMounts { image: root } => write!(f, "bare loop, same mounts{}", image(root)),
            Way::Runner { image: root, at_once } => write!(f, "runner{}, {at_once} at once", image(root)),
            Way::Runc => f.write_str("runc run"),
        }
    }
}

/// What so many containers have taken.
#[derive(Debug, Clone, Copy)]
struct Spent {
    wall: Duration,
    /// Of all processes that took part.
    processor: Duration,
}

impl Spent {
    fn median(rounds: Vec<Spent>) -> Spent {
        let of = |value: fn(&Spent) -> Duration| median(rounds.iter().map(value).collect());
        Spent { wall: of(|spent| spent.wall), processor: of(|spent| spent.processor) }
    }
}

fn spent<T>(call: impl FnOnce() -> T) -> (Spent, T) {
    let before = processor_of_all();
    let (wall, result) = timed(call);
    (Spent { wall, processor: processor_of_all().saturating_sub(before) }, result)
}

fn measure(count: u32, folder: &Path) -> Result<(), Failed> {
    let parent = format!("apportion-bench-{}", std::process::id());
    let place = tempfile::tempdir_in(folder)?;
    let layer = place.path().join("layer");
    runc::make_root(&layer)?;
    let bundle = runc::Bundle::new(place.path(), &layer, &parent)?;
    let mut took: BTreeMap<Way, Vec<Spent>> = BTreeMap::new();
    let mut latencies = Vec::new();
    // In turn, so that a machine that grows slower does so for all.
    for _ in 0..ROUNDS {
        for (way, image) in [
            (Way::Bare, None),
            (Way::BareWithMounts { image: false }, None),
            (Way::BareWithMounts { image: true }, Some(&*layer)),
        ] {
            let work = tempfile::tempdir_in(folder)?;
            let specs = (0..count).map(|number| spec(work.path(), number, image));
            let hidden = work.path().join("state");
            fs::create_dir(&hidden)?;
            let hidden = (way != Way::Bare).then_some(hidden);
            let (spent, done) = spent(|| bare_loop(specs, &parent, hidden.as_deref()));
            done?;
            took.entry(way).or_default().push(spent);
        }
        for (image, root) in [(false, None), (true, Some(&*layer))] {
            for at_once in CONCURRENCY {
                // A runtime for each, since the bare loop wants no other thread.
                let runtime = runtime()?;
                let through = through_the_runner(count, at_once, &parent, folder, root);
                let (spent, each) = spent(|| runtime.block_on(through));
                let each = each?;
                took.entry(Way::Runner { image, at_once }).or_default().push(spent);
                if image && at_once == 1 {
                    latencies.extend(each);
                }
            }
        }
        if let Some(bundle) = &bundle {
            let (spent, ran) = spent(|| (0..count).try_for_each(|number| bundle.run(number)));
            ran?;
            took.entry(Way::Runc).or_default().push(spent);
        }
    }
    let took: BTreeMap<Way, Spent> =
        took.into_iter().map(|(way, rounds)| (way, Spent::median(rounds))).collect();
    let times = |other: Option<&Spent>, spent: Spent| {
        other.map_or("-".to_owned(), |other| {
            format!("{:.2}", other.wall.as_secs_f64() / spent.wall.as_secs_f64())
        })
    };
    let mut table = Table::new(&[
        "what",
        "containers/s",
        "ms each",
        "processor ms each",
        "of the bare loop's rate",
        "times runc's rate",
    ]);
    for (way, spent) in &took {
        let bare = match way {
            Way::Runner { image, .. } => took.get(&Way::BareWithMounts { image: *image }),
            Way::Runc => took.get(&Way::BareWithMounts { image: true }),
            Way::Bare | Way::BareWithMounts { .. } => None,
        };
        let rate = f64::from(count) / spent.wall.as_secs_f64();
        table.row(vec![
            way.to_string(),
            format!("{rate:.0}"),
            ms(spent.wall / count),
            ms(spent.processor / count),
            times(bare, *spent),
            times(took.get(&Way::Runc), *spent),
        ]);
    }
    print!("{table}");
    if bundle.is_none() {
        println!("runc is not installed: nothing is compared with it");
    }
    println!("launch → executed, image, 1 at once: p50 {} ms", ms(median(latencies)));
    Ok(())
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// Launches, waits for and removes so many containers; returns how long each launch took.
async fn through_the_runner(
    count: u32,
    concurrency: usize,
    parent: &str,
    folder: &Path,
    image: Option<&Path>,
) -> Result<Vec<Duration>, Failed> {
    let folder = tempfile::tempdir_in(folder)?;
    let native = Native::probe(NativeConfig::new(folder.path().join("state"), parent.to_owned())).await?;
    if let Some(unenforced) = native.unenforced().first() {
        return Err(format!(
            "nothing is compared: {} is not enforced: {}",
            unenforced.control.name(),
            unenforced.reason
        )
        .into());
    }
    let mut launches = Vec::new();
    let mut under_way = JoinSet::new();
    for number in 0..count {
        while under_way.len() >= concurrency {
            launches.extend(under_way.join_next().await.transpose()?.transpose()?);
        }
        let native = native.clone();
        let spec = spec(folder.path(), number, image)?;
        under_way.spawn(async move { run_one(&native, spec).await });
    }
    while let Some(ended) = under_way.join_next().await {
        launches.push(ended??);
    }
    native.close().await;
    Ok(launches)
}

fn spec(folder: &Path, number: u32, image: Option<&Path>) -> io::Result<ContainerSpec> {
    let sandbox = folder.join(format!("sandbox-{number}"));
    fs::create_dir(&sandbox)?;
    let root = image.map(|layer| {
        let scratch = folder.join(format!("scratch-{number}"));
        fs::create_dir(&scratch).map(|()| ImageRoot { layers: vec![layer.to_owned()], scratch })
    });
    Ok(ContainerSpec {
        id: ContainerId(format!("c{number}")),
        argv: vec!["/bin/true".to_owned()],
        env: BTreeMap::new(),
        sandbox,
        output: None,
        root: root.transpose()?,
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
