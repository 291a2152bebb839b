//! A busy cluster on a bad day, and what has to have come of it in the end.

use std::time::Duration;

use apportion_sdk::{FrameworkId, TaskId};
use apportion_sim::{
    Behaviour, Chaos, Cluster, Failure, Framework, Handle, OnTerm, Sim, Store, scenario::Scenario,
};

use super::{executors, scheduler::Busy};

/// Work of each framework.
const JOBS: usize = 8;

/// Longer than anything that a healthy cluster waits for after its bad day.
const IN_THE_END: Duration = Duration::from_secs(3600);

/// The whole offer model, which every other seed is about; every fourth is about executors.
const WHOLE_MODEL: &str = include_str!("../../scenarios/whole-model.txt");

/// One run: chance, faults, and an operator who interferes. What is wrong, if anything.
pub(crate) fn run(seed: u64) -> Result<(), Failure> {
    if seed % 2 == 1 {
        let scenario = Scenario::parse("whole-model.txt", WHOLE_MODEL).expect("the repository's own");
        let mut sim = scenario.build().start(seed);
        return scenario.story(&mut sim);
    }
    if seed % 4 == 2 {
        let (cluster, frameworks) = executors::cluster(Chaos::bad_day(Duration::from_secs(60)));
        return executors::all_done(&mut cluster.start(seed), &frameworks);
    }
    let (cluster, frameworks) = busy();
    let mut sim = cluster.start(seed);
    sim.run_for(Duration::from_secs(20 + seed % 10))?;
    interfere(&mut sim, seed, &frameworks);
    sim.run_until_idle(IN_THE_END)?;
    frameworks.iter().for_each(|framework| sim.tell(*framework, ()));
    sim.run_until_idle(IN_THE_END)?;
    for framework in frameworks {
        let open = sim.scheduler(framework).map_or_else(|| "no process".to_owned(), Busy::open);
        if !open.is_empty() {
            return Err(sim.failure(format!("framework {} waits for ever for {open}", framework.number())));
        }
    }
    let running: Vec<String> =
        sim.running().map(|(agent, (_, task))| format!("{task} on agent {agent}")).collect();
    match running.as_slice() {
        [] => Ok(()),
        _ => Err(sim.failure(format!("nobody needs what still runs: {}", running.join(", ")))),
    }
}

/// Four agents, and frameworks that want more than these have: two that come back after a crash, and one that does not.
fn busy() -> (Cluster, Vec<Handle<Busy>>) {
    let mut cluster = Cluster::new()
        .agents(3, "cpus:3;mem:3072;ports:[31000-31009]")
        .agents_with(1, "cpus:2;mem:4096", &[("zone", "b")])
        .master(|config| {
            config.agent_ping_interval = Duration::from_secs(2);
            config.agent_pings_missed_max = 3;
            config.agent_reregister_timeout = Duration::from_secs(20);
            config.scheduler_heartbeat = Duration::from_secs(3);
            config.offer_timeout = Duration::from_secs(6);
        })
        .allocator(|config| {
            let left = "left".parse().expect("it is written here");
            let limit = "cpus:5;mem:5120".parse().expect("it is written here");
            config.quotas.entry(left).or_default().limit = Some(limit);
        })
        .workload(|task, rng| {
            let lasts = Duration::from_millis(rng.u64(100..20_000));
            if !Busy::is_service(&task.task_id) {
                return Behaviour::succeeds_after(lasts);
            }
            let on_term = if rng.bool() { OnTerm::Hangs } else { OnTerm::Ends(Duration::from_millis(50)) };
            Behaviour { on_term, ..Behaviour::runs() }
        })
        .clock_skew(Duration::from_secs(5))
        .launches_fail(10_000)
        .signals_fail(10_000)
        .chaos(Chaos::bad_day(Duration::from_secs(60)));
    let mut frameworks = Vec::new();
    for name in ["left", "right"] {
        let framework = Framework::stored(name, |store| Busy::new(store, JOBS));
        frameworks.push(cluster.add(framework.role(name).failover_timeout(Duration::from_secs(60))));
    }
    let forgetful = Framework::new("forgetful", || Busy::new(&Store::default(), JOBS));
    frameworks.push(cluster.add(forgetful.role("right").failover_timeout(Duration::from_secs(10))));
    (cluster, frameworks)
}

/// An operator ends a task, and one of the frameworks.
fn interfere(sim: &mut Sim, seed: u64, frameworks: &[Handle<Busy>]) {
    let running: Vec<(FrameworkId, TaskId)> = sim.running().map(|(_, key)| key.clone()).collect();
    if let Some((framework_id, task_id)) = running.first() {
        sim.kill(Some(framework_id.clone()), task_id.clone(), None);
    }
    let removed = sim.framework_id(frameworks[seed as usize % 2]).cloned();
    if let Some(framework_id) = removed.filter(|_| seed.is_multiple_of(3)) {
        sim.teardown(framework_id);
    }
}
