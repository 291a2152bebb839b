//! The allocator alone, in the shape of Mesos' `HierarchicalAllocator_BENCHMARK_Test.DeclineOffers`: every framework declines
//! every offer for ever, round after round, until nobody is left who has not.
//!
//! `cargo bench -p apportion-benches --bench allocator -- [--quick] [AGENTSxFRAMEWORKS …]`

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::{collections::BTreeSet, time::Duration};

use apportion_allocator::{Allocation, Allocator, Hierarchical};
use apportion_benches::{Table, cpu_timed, median, ms, ns_each};
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

/// Mesos, apache/mesos c1b42f79 at -O2 on two Xeon processors: median CPU milliseconds by (agents, frameworks).
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
    mesos((1_000, 1), 52.6, None, Some(16.6)),
    mesos((1_000, 50), 62.2, Some(50.2), Some(433.0)),
    mesos((1_000, 200), 61.7, None, None),
    mesos((1_000, 1_000), 82.4, None, None),
    mesos((5_000, 1), 302.0, None, None),
    mesos((5_000, 50), 302.0, None, None),
    mesos((5_000, 200), 362.0, None, None),
    mesos((5_000, 1_000), 476.0, None, None),
    mesos((10_000, 1), 535.0, None, Some(173.0)),
    mesos((10_000, 50), 810.0, Some(529.0), None),
    mesos((10_000, 200), 715.0, Some(640.0), None),
    mesos((10_000, 1_000), 1112.0, None, None),
    mesos((20_000, 1), 1207.0, None, None),
    mesos((20_000, 200), 1423.0, None, None),
    mesos((20_000, 1_000), 2035.0, None, None),
    mesos((50_000, 1), 2939.0, None, None),
    mesos((50_000, 200), 3664.0, None, None),
    mesos((50_000, 1_000), 4663.0, None, None),
];

struct Cluster {
    allocator: Hierarchical,
    now: Time,
}

impl Cluster {
    fn cycle(&mut self) -> (Duration, Vec<Allocation>) {
        self.now = self.now + Duration::from_secs(1);
        cpu_timed(|| self.allocator.allocate(self.now, usize::MAX))
    }

    fn decline(&mut self, allocations: &[Allocation]) -> Duration {
        let until = Some(self.now + limits::REFUSE_MAX);
        let decline = |a: &Allocation| {
            self.allocator.recover(&a.framework, &a.role, &a.agent, &a.resources, until);
        };
        cpu_timed(|| allocations.iter().for_each(decline)).0
    }
}

struct Measured {
    add_frameworks: Duration,
    add_agents: Duration,
    first: Duration,
    /// Every other cycle that offered, in order.
    cycles: Vec<Duration>,
    declines: Vec<Duration>,
    /// The cycle after the last who had not has declined.
    all_declined: Duration,
    unchanged: Duration,
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
    let (add_frameworks, ()) = cpu_timed(|| {
        for id in &framework_ids {
            c.allocator.add_framework(id, std::slice::from_ref(&role), &BTreeSet::new());
        }
    });
    let (add_agents, ()) = cpu_timed(|| {
        for (index, id) in agent_ids.iter().enumerate() {
            c.allocator.add_agent(id, &total);
            c.allocator.charge(&framework_ids[index % frameworks], &role, id, &used);
        }
    });

    let (first, mut offers) = c.cycle();
    assert_eq!(offers.len(), agents, "each agent is offered");
    let (mut cycles, mut declines) = (Vec::new(), Vec::new());
    let all_declined = loop {
        declines.push(c.decline(&offers));
        let (cycle, next) = c.cycle();
        if next.is_empty() {
            break cycle;
        }
        assert_eq!(next.len(), agents, "each agent is offered to the next who has not declined it");
        cycles.push(cycle);
        offers = next;
    };
    assert_eq!(declines.len(), frameworks, "each framework has declined each agent");
    const MANY: u32 = 1_000;
    let (unchanged, ()) =
        cpu_timed(|| (0..MANY).for_each(|_| assert!(c.allocator.allocate(c.now, usize::MAX).is_empty())));
    Measured {
        add_frameworks,
        add_agents,
        first,
        cycles,
        declines,
        all_declined,
        unchanged: unchanged / MANY,
    }
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
        "first ms",
        "ns/offer",
        "Mesos ms",
        "declined once ms",
        "ns/offer",
        "Mesos ms",
        "last ms",
        "ns/offer",
        "all declined ms",
        "Mesos ms",
        "unchanged ns",
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
            ms(m.all_declined),
            theirs(|mesos| mesos.empty_ms),
            m.unchanged.as_nanos().to_string(),
        ]);
    }
    println!("Agents of {TOTAL}, {USED} and {PORT_PIECES} pieces of the ports used.\n");
    println!("{setup}");
    println!("CPU time. A cycle offers every agent once: the first; after all were declined once (median of");
    println!(
        "{ROUNDS}); to the last who had not declined (median of {ROUNDS}). Then nobody is left, then nothing changes."
    );
    println!(
        "Mesos: apache/mesos c1b42f79, -O2, median CPU time of the same cycle; PersistentVolumes (Regular)"
    );
    println!("for the first, DeclineOffers for the others.\n");
    println!("{table}");
}
