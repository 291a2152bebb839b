//! How fast the simulator is: seconds of a whole cluster's life for each second of one processor.
//!
//! Every framework has more work than fits, in tasks of one to five minutes; so the cluster is full, and each end of a task brings an
//! offer, an accept and a launch. Pings, heartbeats, disks and the network are those of a real cluster, and nothing fails.
//!
//! `cargo bench -p apportion-benches --bench sim -- [--quick] [AGENTSxFRAMEWORKS …]`

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::time::Duration;

use apportion_benches::{Table, cpu_timed, ms, ns_each};
use apportion_sdk::{Context, Offer, Scheduler, Task, TaskStatus, async_trait};
use apportion_sim::{Behaviour, Cluster, Framework, Sim};

const SIZES: [(usize, usize); 2] = [(1_000, 50), (10_000, 50)];
const QUICK: [(usize, usize); 1] = [(100, 5)];

/// Tasks of each framework for which there is room.
const TASKS: usize = 200;

/// From the start to the measurement: everybody is registered, and the cluster is full.
const WARM_UP: Duration = Duration::from_secs(120);

/// How much is simulated at a time, and for how long in all.
const SLICE: Duration = Duration::from_secs(5);
const MEASURE: Duration = Duration::from_secs(5);

/// Has work without end.
struct Backlog {
    launched: usize,
}

#[async_trait]
impl Scheduler for Backlog {
    type Message = ();

    async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            loop {
                let task =
                    Task::new(format!("task-{}", self.launched)).command(["work"]).cpus(1.0).mem_mib(1024);
                if offer.launch(task.build().expect("it is written here")).is_err() {
                    break;
                }
                self.launched += 1;
            }
        }
    }

    async fn update(&mut self, _cx: &mut Context<'_>, _status: TaskStatus) {}
}

/// What each agent has: room for its part of all tasks.
fn agent(agents: usize, frameworks: usize) -> String {
    let room = (TASKS * frameworks / agents).max(1);
    format!("cpus:{room};mem:{};ports:[31000-32000]", room * 1024)
}

fn cluster(agents: usize, frameworks: usize) -> Cluster {
    let cluster = Cluster::new()
        .agents(agents, &agent(agents, frameworks))
        .starts_within(Duration::from_secs(15))
        .workload(|_, rng| Behaviour::succeeds_after(Duration::from_millis(rng.u64(60_000..300_000))));
    (0..frameworks).fold(cluster, |cluster, number| {
        cluster.framework(Framework::new(format!("framework-{number}"), || Backlog { launched: 0 }))
    })
}

struct Measured {
    warm_up: Duration,
    tasks: usize,
    simulated: Duration,
    took: Duration,
    steps: u64,
}

fn measure(mut sim: Sim) -> Measured {
    let (warm_up, ()) = cpu_timed(|| sim.run_for(WARM_UP).expect("nothing fails"));
    let (at, steps) = (sim.elapsed(), sim.steps());
    let mut took = Duration::ZERO;
    while took < MEASURE {
        took += cpu_timed(|| sim.run_for(SLICE).expect("nothing fails")).0;
    }
    let (simulated, steps, tasks) = (sim.elapsed() - at, sim.steps() - steps, sim.running().count());
    Measured { warm_up, tasks, simulated, took, steps }
}

fn sizes() -> Vec<(usize, usize)> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named: Vec<(usize, usize)> = arguments
        .iter()
        .filter_map(|argument| argument.split_once('x'))
        .filter_map(|(agents, frameworks)| Some((agents.parse().ok()?, frameworks.parse().ok()?)))
        .collect();
    match () {
        () if !named.is_empty() => named,
        () if arguments.iter().any(|argument| argument == "--quick") => QUICK.to_vec(),
        () => SIZES.to_vec(),
    }
}

fn main() {
    let mut table = Table::new(&[
        "agents",
        "frameworks",
        "tasks",
        "checks",
        "warm-up ms",
        "simulated s",
        "took ms",
        "× real time",
        "happenings",
        "ns each",
    ]);
    for (agents, frameworks) in sizes() {
        for checks in [true, false] {
            let cluster = cluster(agents, frameworks);
            let m = measure(if checks { cluster.start(1) } else { cluster.start_unchecked(1) });
            table.row(vec![
                agents.to_string(),
                frameworks.to_string(),
                m.tasks.to_string(),
                if checks { "all" } else { "none" }.to_owned(),
                ms(m.warm_up),
                m.simulated.as_secs().to_string(),
                ms(m.took),
                format!("{:.0}", m.simulated.as_secs_f64() / m.took.as_secs_f64()),
                m.steps.to_string(),
                ns_each(m.took, m.steps as usize),
            ]);
        }
    }
    println!(
        "Room for {TASKS} tasks of each framework, of 1 to 5 minutes, all of it in use; one seed, one thread, processor time.\n"
    );
    println!("{table}");
}
