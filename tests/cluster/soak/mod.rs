//! Masters, etcd, agents and frameworks on machines of their own, of which everything goes wrong for so long; then a checker reads what each
//! has written down.
//!
//! `APPORTION_SOAK` says for how many seconds (15), `APPORTION_SOAK_SEED` in which order (another one each time; it is printed). What was
//! written down is kept when something is wrong, and with `APPORTION_SOAK_KEEP`.

mod check;
mod clock;
mod cluster;
mod fault;
mod history;
mod journals;
mod load;
mod net;

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;

use self::{
    clock::Clocks,
    cluster::{AGENTS, Cluster, MASTERS, MEMBERS},
    load::{REPLICAS, SERVICE},
    net::Net,
};
use super::{is_root, traces};
use crate::support::Place;

/// Tasks of one job.
const TASKS: u32 = 300;

/// How long it may take, once nothing goes wrong any more, until all is as it should be: on a machine that is busy with other work.
const CALM_MAX: Duration = Duration::from_secs(300);

/// Between two looks.
const STEP: Duration = Duration::from_millis(20);

#[test]
fn the_soak_whatever_goes_wrong_nothing_is_lost_and_nothing_is_done_twice() {
    const TEST: &str = "the_soak_whatever_goes_wrong";
    if !is_root(TEST) {
        return;
    }
    let place = Place::new();
    let made = needed().and_then(|()| Ok((Net::make()?, Clocks::build(place.path())?)));
    let (net, clocks) = match made {
        Ok(made) => made,
        Err(why) => {
            let strict = std::env::var_os("APPORTION_NO_SKIP").is_some_and(|value| value != "0");
            assert!(!strict, "{TEST}: {why}, and APPORTION_NO_SKIP is set");
            eprintln!("skipped: {TEST}: {why}");
            return;
        }
    };
    let length = Duration::from_secs(setting("APPORTION_SOAK").unwrap_or(15));
    let seed = setting("APPORTION_SOAK_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64 & 0xffff_ffff
    });
    println!("{length:?} of faults, APPORTION_SOAK_SEED={seed}; slow links: {}", net.describe());
    let evidence = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("soak-{}", std::process::id()));
    fs::create_dir_all(&evidence).unwrap();
    println!("what is written down: {}", evidence.display());
    let planned = fault::plan(&mut fastrand::Rng::with_seed(seed), length);
    let (folder, spaces) = (place.path().to_owned(), net.prefix());
    let mut cluster = Cluster::start(net, clocks, place, evidence.clone(), seed);

    wait(&mut cluster, "agents and the service are there", at_rest);
    cluster.begin_job(TASKS);
    storm(&mut cluster, &planned, length);
    println!("{:7.1} calm", length.as_secs_f64());
    let calm = Instant::now();
    wait(&mut cluster, "the last job has ended", |cluster| cluster.load.job.is_none().then_some(()));
    cluster.full.clear();
    wait(&mut cluster, "all is as it was", at_rest);
    println!("        at rest after {:.1?}; {}", calm.elapsed(), cluster.starts());

    let mut wrong = Vec::new();
    cluster.stop_service();
    wait(&mut cluster, "no task is left", |cluster| {
        let listed = cluster.ask(&["tasks"])?;
        listed["tasks"].as_array()?.is_empty().then_some(())
    });
    wait(&mut cluster, "nothing is kept of containers", |cluster| {
        let folders =
            AGENTS.iter().flat_map(|agent| fs::read_dir(cluster.work_dir(agent).join("containers")).ok());
        folders.flatten().flatten().all(|entry| !entry.path().is_dir()).then_some(())
    });
    // Agents unregister, so a master must still lead; and what agents leave behind is read before etcd ends.
    let groups: Vec<String> = AGENTS.iter().map(|agent| cluster.group(agent)).collect();
    let (found, seen) = {
        wrong.extend(cluster.end(&AGENTS));
        wrong.extend(cluster.end(&MASTERS));
        check::everything(&cluster)
    };
    wrong.extend(found);
    wrong.extend(cluster.end(&MEMBERS));
    println!("        {seen}");
    drop(cluster);
    wrong.extend(left(&folder, &groups, &spaces));
    assert!(
        wrong.is_empty(),
        "APPORTION_SOAK_SEED={seed}; what was written down is in {}:\n{}",
        evidence.display(),
        wrong.join("\n")
    );
    if std::env::var_os("APPORTION_SOAK_KEEP").is_none() {
        fs::remove_dir_all(evidence).unwrap();
    }
}

/// Lets the faults come when it is their time, and begins a job whenever one has ended.
fn storm(cluster: &mut Cluster, planned: &[fault::Planned], length: Duration) {
    let begun = Instant::now();
    let mut next = planned.iter().peekable();
    let mut undone: Vec<(Duration, fault::Undo)> = Vec::new();
    loop {
        let now = begun.elapsed();
        let calm = now >= length;
        while let Some(planned) = next.next_if(|planned| planned.at <= now) {
            undone.extend(planned.begin(cluster).into_iter().map(|undo| (planned.at + planned.time, undo)));
        }
        // One undoes the other's fault too, and that one a second time: what is undone is whole.
        for (_, undo) in undone.extract_if(.., |(at, _)| *at <= now || calm) {
            undo.run(cluster);
        }
        if calm {
            return;
        }
        if cluster.supervise() {
            cluster.begin_job(TASKS);
        }
        thread::park_timeout(STEP);
    }
}

/// Every agent is active, every replica runs, and nothing else does.
fn at_rest(cluster: &Cluster) -> Option<()> {
    let agents = cluster.ask(&["agents"])?;
    let active = agents["agents"].as_array()?.iter().filter(|agent| agent["state"] == "active").count();
    let tasks = cluster.ask(&["tasks"])?;
    let tasks: &Vec<Value> = tasks["tasks"].as_array()?;
    let replica = |task: &&Value| {
        let id = task["task_id"].as_str().unwrap_or_default();
        id.starts_with(&format!("{SERVICE}.")) && task["state"] == "running"
    };
    let replicas = tasks.iter().filter(replica).count();
    (active == AGENTS.len() && replicas == REPLICAS && tasks.len() == REPLICAS).then_some(())
}

/// Looks again and again, and keeps everything running meanwhile.
fn wait(cluster: &mut Cluster, what: &str, mut look: impl FnMut(&Cluster) -> Option<()>) {
    let begun = Instant::now();
    loop {
        cluster.supervise();
        if look(cluster).is_some() {
            return;
        }
        if begun.elapsed() >= CALM_MAX {
            for listing in [["agents"], ["frameworks"], ["tasks"]] {
                say(format_args!("{listing:?}: {:#}", cluster.ask(&listing).unwrap_or_default()));
            }
            panic!(
                "not within {CALM_MAX:?}: {what}; logs and journals are in {}",
                cluster.evidence.display()
            );
        }
        thread::park_timeout(STEP);
    }
}

/// What this needs of the machine beside root.
fn needed() -> Result<(), String> {
    for (program, package) in [
        ("ip", "iproute2"),
        ("tc", "iproute2"),
        ("nft", "nftables"),
        ("nsenter", "util-linux"),
        ("etcd", "etcd-server"),
        ("cc", "gcc"),
    ] {
        // What it says to this does not matter.
        let asked = Command::new(program).arg("--version").output();
        asked.map_err(|_| format!("it needs {program}, of the package {package}"))?;
    }
    Ok(())
}

/// What there still is of it on the machine.
fn left(folder: &Path, groups: &[String], spaces: &str) -> Vec<String> {
    let mut left = Vec::new();
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let name = folder.to_string_lossy();
    left.extend(
        mounts.lines().filter(|line| line.contains(&*name)).map(|line| format!("a mount is left: {line}")),
    );
    left.extend(
        traces::processes_of(folder).into_iter().map(|process| format!("a process is left: {process}")),
    );
    let cgroups = groups.iter().flat_map(|group| traces::cgroups(group, "*"));
    left.extend(cgroups.map(|group| format!("a cgroup is left: {}", group.display())));
    left.extend(Net::left(spaces).into_iter().map(|space| format!("a network namespace is left: {space}")));
    if folder.exists() {
        left.push(format!("{} is left", folder.display()));
    }
    left
}

/// Tells people what goes on.
#[expect(clippy::print_stdout, reason = "what a soak did is read when it has failed")]
fn say(what: std::fmt::Arguments<'_>) {
    println!("{what}");
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}
