//! What the planner gains over best fit, and what it costs.

use std::time::Duration;

use apportion_benches::{Table, cpu_timed, ms};
use apportion_sdk::placement::{BestFit, Budget, Demand, Machine, Packing, plan};

use crate::cluster::{Chance, Trace};

/// Machines, waiting tasks, and the budget.
struct Scenario {
    machines: Vec<Machine>,
    queue: Vec<Demand>,
    budget: Budget,
}

/// Plans each scenario and prints the table.
pub(crate) fn measure(quick: bool) {
    let mut table = Table::new(&[
        "machines",
        "tasks",
        "search s",
        "best fit",
        "planned",
        "at most",
        "by",
        "best fit ms",
        "plan ms",
    ]);
    for Scenario { machines, queue, budget } in scenarios(quick) {
        let packing = Packing::new(machines);
        let mut filled = packing.clone();
        let (greedy_took, greedy) = cpu_timed(|| filled.place_all(&queue, &BestFit));
        let mut filled = packing.clone();
        let (took, plan) = cpu_timed(|| plan(&mut filled, &queue, budget));
        let level = &plan.levels[0];
        table.row(vec![
            packing.machines().len().to_string(),
            queue.len().to_string(),
            budget.time.map_or("-".to_owned(), |time| time.as_secs_f64().to_string()),
            greedy.iter().flatten().count().to_string(),
            level.placed.to_string(),
            level.at_most.map_or("-".to_owned(), |most| most.to_string()),
            format!("{:?}", level.method),
            ms(greedy_took),
            ms(took),
        ]);
    }
    println!(
        "The planner: ten tasks drawn from the trace for each machine of the recorded cluster, more than fit.\n"
    );
    println!("{table}");
}

fn scenarios(quick: bool) -> Vec<Scenario> {
    let trace = Trace::read();
    let second = Duration::from_secs(1);
    let large = Budget { variables_max: 100_000, ..Budget::default() };
    let searched = |time| Budget { time: Some(time), ..Budget::default() };
    let mut all = vec![(10, 100, Budget::default()), (10, 100, searched(second))];
    if !quick {
        all.extend([
            (100, 1_000, Budget::default()),
            (100, 1_000, Budget { variables_max: 20_000, ..searched(10 * second) }),
            (1_500, 15_000, large),
        ]);
    }
    let scenario = |(machines, tasks, budget)| {
        let mut chance = Chance(7);
        let queue = (0..tasks).map(|_| trace.demands[chance.below(trace.demands.len())].clone()).collect();
        Scenario { machines: trace.some_machines(machines), queue, budget }
    };
    all.into_iter().map(scenario).collect()
}
