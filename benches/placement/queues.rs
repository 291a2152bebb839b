//! How long it takes to place a queue.

use apportion_benches::{Table, cpu_timed, median, ms, ns_each};
use apportion_sdk::{
    Resources,
    placement::{BestFit, Demand, DotProduct, FirstFit, Fragmentation, Machine, Packing, Policy, WorstFit},
    resources::Name,
};

use crate::cluster::{Chance, Trace};

const SIZE: (usize, usize) = (10_000, 1_500);
const QUICK: (usize, usize) = (500, 100);

/// A cluster and what waits.
struct Scenario {
    name: &'static str,
    machines: Vec<Machine>,
    queue: Vec<Demand>,
}

/// Measures each policy in each scenario and prints the table.
pub(crate) fn measure(quick: bool) {
    let ((tasks, machines), runs) = if quick { (QUICK, 1) } else { (SIZE, 5) };
    let mut table = Table::new(&[
        "scenario",
        "policy",
        "machines",
        "tasks",
        "placed",
        "machines used",
        "index ms",
        "place ms",
        "ns/task",
    ]);
    for scenario in scenarios(tasks, machines) {
        for (name, policy) in policies() {
            // Looks at every typical task on every machine that it visits.
            if name == "fragmentation" && scenario.name != "recorded" {
                continue;
            }
            let mut took = (Vec::new(), Vec::new());
            let mut result = (0, 0);
            for _ in 0..if name == "fragmentation" { 1 } else { runs } {
                let (built, mut packing) = cpu_timed(|| Packing::new(scenario.machines.iter().cloned()));
                let policy = policy(&packing, &scenario.queue);
                let (placing, placed) = cpu_timed(|| packing.place_all(&scenario.queue, &*policy));
                took.0.push(built);
                took.1.push(placing);
                result = (placed.iter().flatten().count(), used(&packing));
            }
            let (built, placing) = (median(took.0), median(took.1));
            table.row(vec![
                scenario.name.to_owned(),
                name.to_owned(),
                scenario.machines.len().to_string(),
                scenario.queue.len().to_string(),
                result.0.to_string(),
                result.1.to_string(),
                ms(built),
                ms(placing),
                ns_each(placing, scenario.queue.len()),
            ]);
        }
    }
    println!("Processor time of one thread, medians of {runs}; `index` is made once for all tasks.\n");
    println!("{table}");
}

fn used(packing: &Packing) -> usize {
    packing.machines().iter().filter(|machine| machine.free != machine.total).count()
}

type MakePolicy = fn(&Packing, &[Demand]) -> Box<dyn Policy>;

fn policies() -> [(&'static str, MakePolicy); 5] {
    [
        ("first fit", |_, _| Box::new(FirstFit)),
        ("best fit", |_, _| Box::new(BestFit)),
        ("worst fit", |_, _| Box::new(WorstFit)),
        ("dot product", |_, _| Box::new(DotProduct)),
        ("fragmentation", |packing, queue| {
            Box::new(Fragmentation::new(packing, [Name::Gpus], typical(queue, 60)))
        }),
    ]
}

/// The most frequent demands, and how often each is there.
pub(crate) fn typical(queue: &[Demand], most: usize) -> Vec<(Demand, u32)> {
    let mut counts = std::collections::BTreeMap::<String, (Demand, u32)>::new();
    for demand in queue {
        let key = format!("{}{:?}", demand.resources, demand.must);
        counts.entry(key).or_insert_with(|| (demand.clone(), 0)).1 += 1;
    }
    let mut all: Vec<_> = counts.into_values().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all.truncate(most);
    all
}

fn scenarios(tasks: usize, machines: usize) -> Vec<Scenario> {
    let trace = Trace::read();
    let (recorded, mut chance) = (trace.some_machines(machines), Chance(1));
    let drawn = |chance: &mut Chance| trace.demands[chance.below(trace.demands.len())].clone();
    let even =
        (0..machines).map(|number| Machine::new(&format!("m{number}"), "cpus:16;mem:65536;disk:500000"));
    vec![
        Scenario {
            name: "recorded",
            machines: recorded.clone(),
            queue: (0..tasks).map(|_| drawn(&mut chance)).collect(),
        },
        Scenario {
            name: "all alike",
            machines: even.clone().collect(),
            queue: vec![Demand::new("cpus:2;mem:8192;disk:1000"); tasks],
        },
        Scenario {
            // Every task another size, and all of them more than there is room for.
            name: "none alike",
            machines: even.collect(),
            queue: (0..tasks).map(|_| random(&mut chance)).collect(),
        },
        Scenario {
            name: "none alike, recorded",
            machines: recorded,
            queue: (0..tasks).map(|_| random(&mut chance)).collect(),
        },
    ]
}

fn random(chance: &mut Chance) -> Demand {
    let mut milli = |name: Name, most: usize| Resources::scalar(name, 1 + chance.below(most) as i64);
    let resources = milli(Name::Cpus, 8_000) + &milli(Name::Mem, 32_768_000);
    Demand::of(resources)
}
