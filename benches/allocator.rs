//! The allocator alone, in the shape of Mesos' `HierarchicalAllocator_BENCHMARK_Test.DeclineOffers`: every framework declines
//! every offer for ever, round after round, until nobody is left who has not.
//!
//! `cargo bench -p apportion-benches --bench allocator -- [--quick] [AGENTSxFRAMEWORKS …]`

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::{collections::BTreeSet, time::Duration};

use apportion_allocator::{Allocation, Allocator, Hierarchical};
use apportion_benches::{Table, median, ms, ns_each, timed};
use apportion_types::{AgentId, FrameworkId, Resources, Role, Time, limits};

const AGENTS: [usize; 5] = [1_000, 5_000, 10_000, 20_000, 50_000];
const FRAMEWORKS: [usize; 5] = [1, 50, 200, 500, 1_000];
const QUICK: [(usize, usize); 4] = [(1_000, 1), (1_000, 50), (1_000, 200), (5_000, 50)];

/// Rounds for the median of a cycle that is not the end of something.
const ROUNDS: usize = 5;

const TOTAL: &str = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]";
const USED: &str = "cpus:16;mem:1024;disk:1024";
/// Pieces of the used ports, as if tasks had come and gone.
const PORT_PIECES: u64 = 16;

/// Mesos, apache/mesos c1b42f79 at -O2 on two Xeon processors: median wall milliseconds by (agents, frameworks).
/// "full" is a cycle that offers every agent: `AllResources/HierarchicalAllocations_BENCHMARK_Test.PersistentVolumes`.
/// "declined" is the cycle of DeclineOffers after every offer was declined once, and "empty" that in which all have declined.
struct Mesos {
    size: (usize, usize),
    full_ms: Option<f64>,
    declined_ms: Option<f64>,
    empty_ms: Option<f64>,
}

const fn mesos(size: (usize, usize), full: f64, declined: Option<f64>, empty: Option<f64>) -> Mesos {
    Mesos { size, full_ms: Some(full), declined_ms: declined, empty_ms: empty }
}

const MESOS: [Mesos; 18] = [
    mesos((1_000, 1), 58.8, None, Some(11.7)),
    mesos((1_000, 50), 59.5, Some(55.2), Some(515.0)),
    mesos((1_000, 200), 65.0, None, None),
    mesos((1_000, 1_000), 80.3, None, None),
    mesos((5_000, 1), 296.0, None, None),
    mesos((5_000, 50), 290.0, None, None),
    mesos((5_000, 200), 328.0, None, None),
    mesos((5_000, 1_000), 460.0, None, None),
    mesos((10_000, 1), 512.0, None, Some(137.0)),
    mesos((10_000, 50), 795.0, Some(515.0), None),
    mesos((10_000, 200), 719.0, Some(502.0), None),
    mesos((10_000, 1_000), 1103.0, None, None),
    mesos((20_000, 1), 1206.0, None, None),
    mesos((20_000, 200), 1425.0, None, None),
    mesos((20_000, 1_000), 2038.0, None, None),
    mesos((50_000, 1), 2936.0, None, None),
    mesos((50_000, 200), 3662.0, None, None),
    mesos((50_000, 1_000), 4658.0, None, None),
];

struct Cluster {
    allocator: Hierarchical,
    now: Time,
}

impl Cluster {
    fn cycle(&mut self) -> (Duration, Vec<Allocation>) {
        self.now = self.now + Duration::from_secs(1);
        timed(|| self.allocator.allocate(self.now, usize::MAX))
    }

    fn decline(&mut self, allocations: &[Allocation]) -> Duration {
        let until = Some(self.now + limits::REFUSE_MAX);
        let decline = |a: &Allocation| {
            self.allocator.recover(&a.framework, &a.role, &a.agent, &a.resources, until);
        };
        timed(|| allocations.iter().for_each(decline)).0
    }
}

struct Measured {
    add_frameworks: Duration,
    add_agents: Duration,
    first: Duration,
    /// Every other cycle that offered, in order.
    cycles: Vec<Duration>,
    declines: Vec<Duration>,
    /// Cycles that look at every agent, and find that all have declined.
    empty: Vec<Duration>,
    unchanged: Vec<Duration>,
}

fn measure(agents: usize, frameworks: usize) -> Measured {
    let agent_ids: Vec<AgentId> =
        (0..agents).map(|n| format!("agent-{n:06}").parse().expect("it is an id")).collect();
    let framework_ids: Vec<FrameworkId> =
        (0..frameworks).map(|n| format!("framework-{n:06}").parse().expect("it is an id")).collect();
    let role = Role::default();
    let total: Resources = TOTAL.parse().expect("it is written here");
    let pieces: Vec<String> =
        (0..PORT_PIECES).map(|n| format!("{}-{}", 31_000 + n * 60, 31_029 + n * 60)).collect();
    let used: Resources = format!("{USED};ports:[{}]", pieces.join(",")).parse().expect("it is written here");

    let mut c = Cluster { allocator: Hierarchical::default(), now: Time::ZERO };
    let (add_frameworks, ()) = timed(|| {
        for id in &framework_ids {
            c.allocator.add_framework(id, std::slice::from_ref(&role), &BTreeSet::new());
        }
    });
    let (add_agents, ()) = timed(|| {
        for (index, id) in agent_ids.iter().enumerate() {
            c.allocator.add_agent(id, &total);
            c.allocator.charge(&framework_ids[index % frameworks], &role, id, &used);
        }
    });

    let (first, mut offers) = c.cycle();
    assert_eq!(offers.len(), agents, "each agent is offered");
    let (mut cycles, mut declines) = (Vec::new(), Vec::new());
    let mut empty = Vec::new();
    loop {
        declines.push(c.decline(&offers));
        let (cycle, next) = c.cycle();
        if next.is_empty() {
            empty.push(cycle);
            break;
        }
        assert_eq!(next.len(), agents, "each agent is offered to the next who has not declined it");
        cycles.push(cycle);
        offers = next;
    }
    assert_eq!(declines.len(), frameworks, "each framework has declined each agent");
    for _ in 1..ROUNDS {
        for id in &agent_ids {
            c.allocator.set_agent_active(id, false);
            c.allocator.set_agent_active(id, true);
        }
        let (cycle, offers) = c.cycle();
        assert!(offers.is_empty());
        empty.push(cycle);
    }
    let unchanged = (0..ROUNDS).map(|_| c.cycle().0).collect();
    Measured { add_frameworks, add_agents, first, cycles, declines, empty, unchanged }
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
        () => AGENTS.iter().flat_map(|&agents| FRAMEWORKS.map(|frameworks| (agents, frameworks))).collect(),
    }
}

fn main() {
    let mut setup = Table::new(&[
        "agents",
        "frameworks",
        "add frameworks ms",
        "add agents ms",
        "declines ms",
        "ns/decline",
    ]);
    let mut table = Table::new(&[
        "agents",
        "frameworks",
        "first cycle ms",
        "ns/offer",
        "Mesos ms",
        "declined once ms",
        "ns/offer",
        "Mesos ms",
        "last ms",
        "ns/offer",
        "all declined ms",
        "Mesos ms",
        "unchanged ms",
    ]);
    for (agents, frameworks) in sizes() {
        let m = measure(agents, frameworks);
        let mesos = MESOS.iter().find(|mesos| mesos.size == (agents, frameworks));
        let theirs = |figure: fn(&Mesos) -> Option<f64>| {
            mesos.and_then(figure).map_or("-".to_owned(), |ms| ms.to_string())
        };
        let some = |cycles: &[Duration]| (!cycles.is_empty()).then(|| median(cycles.to_vec()));
        let early = some(&m.cycles[..m.cycles.len().min(ROUNDS)]);
        let late = some(&m.cycles[m.cycles.len().saturating_sub(ROUNDS)..]);
        let dash = |duration: Option<Duration>| duration.map_or("-".to_owned(), ms);
        let each = |duration: Option<Duration>| duration.map_or("-".to_owned(), |d| ns_each(d, agents));
        let decline = median(m.declines);
        setup.row(vec![
            agents.to_string(),
            frameworks.to_string(),
            ms(m.add_frameworks),
            ms(m.add_agents),
            ms(decline),
            ns_each(decline, agents),
        ]);
        table.row(vec![
            agents.to_string(),
            frameworks.to_string(),
            ms(m.first),
            ns_each(m.first, agents),
            theirs(|mesos| mesos.full_ms),
            dash(early),
            each(early),
            theirs(|mesos| mesos.declined_ms),
            dash(late),
            each(late),
            ms(median(m.empty)),
            theirs(|mesos| mesos.empty_ms),
            ms(median(m.unchanged)),
        ]);
    }
    println!("Agents of {TOTAL}, {USED} and {PORT_PIECES} pieces of the ports used.\n");
    println!("{setup}");
    println!(
        "A cycle offers every agent once. Columns of Mesos: apache/mesos c1b42f79, -O2, median wall time;"
    );
    println!("first cycle: PersistentVolumes (Regular); declined and empty: DeclineOffers.\n");
    println!("{table}");
}
