//! Policies beside each other on the recorded cluster, in the way of those who recorded it.

use std::{fmt::Write, fs, io, path::Path};

use apportion_benches::Table;
use apportion_sdk::{
    placement::{
        BestFit, Budget, Demand, DotProduct, FirstFit, Fragmentation, Packing, Policy, WorstFit, plan,
    },
    resources::Name,
};

use crate::{
    cluster::{Chance, Trace},
    draw,
    published::UNALLOCATED,
    queues::typical,
};

/// How many gpus are asked for in the end, in percent of those that there are.
const ASKED: usize = 130;

/// How many orders of arrival are drawn.
const SEEDS: u64 = 10;

/// The most frequent tasks by which fragmentation is measured: nineteen of twenty are such.
const TYPICAL: usize = 60;

/// A policy by name, and as what its like was published.
pub(crate) struct Named {
    pub(crate) name: &'static str,
    published: Option<&'static str>,
    policy: Box<dyn Policy>,
}

/// The part of all gpus that nobody has, in percent, for each percent of them that was asked for.
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) published: Option<(f64, f64)>,
    pub(crate) unallocated: Vec<f64>,
}

/// Writes the tables and the picture into the documents: `placement.md`, between its marks, and `images/placement.svg`.
pub(crate) fn write(folder: &Path, quick: bool) -> io::Result<()> {
    let trace = Trace::read();
    let curves = arrivals(&trace, if quick { 1 } else { SEEDS });
    let page = folder.join("placement.md");
    let text = fs::read_to_string(&page)?;
    let text = between(text, "once", &once(&trace).to_string())?;
    let text = between(text, "arrivals", &arrival_table(&curves).to_string())?;
    fs::write(page, text)?;
    fs::write(folder.join("images/placement.svg"), draw::curves(&curves, ASKED))
}

/// Replaces what stands between the marks of a name.
fn between(text: String, name: &str, new: &str) -> io::Result<String> {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let parts = text.split_once(&begin).zip(text.split_once(&end));
    let missing = || {
        io::Error::other(format!("placement.md has no marks `begin {name}` and `end {name}`; put them back"))
    };
    let ((before, _), (_, after)) = parts.ok_or_else(missing)?;
    Ok(format!("{before}{begin}\n{new}\n{end}{after}"))
}

fn policies(packing: &Packing, demands: &[Demand]) -> Vec<Named> {
    let fragmentation = Fragmentation::new(packing, [Name::Gpus], typical(demands, TYPICAL));
    let named = |name, published, policy| Named { name, published, policy };
    vec![
        named("worst fit", None, Box::new(WorstFit)),
        named("first fit", None, Box::new(FirstFit)),
        named("dot product", Some("DotProd"), Box::new(DotProduct)),
        named("best fit", Some("BestFit"), Box::new(BestFit)),
        named("fragmentation", Some("FGD"), Box::new(fragmentation)),
    ]
}

/// All tasks of the trace, in the order in which they came, none of which ends.
fn once(trace: &Trace) -> Table {
    let mut table = Table::new(&[
        "policy",
        "unplaced",
        "machines used",
        "gpus free %",
        "of these usable %",
        "cpus free %",
        "of these usable %",
    ]);
    let empty = Packing::new(trace.machines.iter().cloned());
    let mut row = |name: &str, packing: &Packing, placed: Vec<Option<usize>>| {
        let mut cells = vec![
            name.to_owned(),
            placed.iter().filter(|machine| machine.is_none()).count().to_string(),
            packing.machines().iter().filter(|machine| machine.free != machine.total).count().to_string(),
        ];
        for kind in [Name::Gpus, Name::Cpus] {
            let measure = Fragmentation::new(packing, [kind.clone()], typical(&trace.demands, usize::MAX));
            cells.push(percent(free(packing, &kind)));
            cells.push(percent(1.0 - measure.of(packing)));
        }
        table.row(cells);
    };
    for Named { name, policy, .. } in policies(&empty, &trace.demands) {
        let mut packing = empty.clone();
        let placed = packing.place_all(&trace.demands, &*policy);
        row(name, &packing, placed);
    }
    let mut packing = empty;
    let budget = Budget { variables_max: 100_000, ..Budget::default() };
    let plan = plan(&mut packing, &trace.demands, budget);
    println!("planner: {:?}", plan.levels);
    row("planner", &packing, plan.placed);
    table
}

/// The part of all that there is of a resource that is free.
fn free(packing: &Packing, name: &Name) -> f64 {
    let sum = |of: fn(&apportion_sdk::placement::Machine) -> &apportion_sdk::Resources| -> i64 {
        packing.machines().iter().map(|machine| of(machine).milli(name)).sum()
    };
    sum(|machine| &machine.free) as f64 / sum(|machine| &machine.total) as f64
}

fn percent(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}

/// Tasks drawn from the trace come one after the other, until so many gpus were asked for; none ends.
fn arrivals(trace: &Trace, seeds: u64) -> Vec<Curve> {
    let empty = Packing::new(trace.machines.iter().cloned());
    let gpus: i64 = trace.machines.iter().map(|machine| machine.total.milli(&Name::Gpus)).sum();
    let curve = |Named { name, published, policy }| {
        let mut unallocated = vec![0.0; ASKED + 1];
        for seed in 0..seeds {
            let (mut packing, mut chance) = (empty.clone(), Chance(seed));
            let (mut asked, mut placed) = (0, 0);
            for (percent, mean) in unallocated.iter_mut().enumerate() {
                while asked * 100 < gpus * percent as i64 {
                    let demand = &trace.demands[chance.below(trace.demands.len())];
                    let wanted = demand.resources.milli(&Name::Gpus);
                    asked += wanted;
                    placed += packing.place(demand, &*policy).map_or(0, |_| wanted);
                }
                *mean += (gpus - placed) as f64 / gpus as f64 * 100.0 / seeds as f64;
            }
        }
        println!("{name}: {:.2} {:.2}", unallocated[100], unallocated[ASKED]);
        let published = published.and_then(|name| UNALLOCATED.iter().find(|known| known.0 == name));
        Curve { name, published: published.map(|(_, full, end)| (*full, *end)), unallocated }
    };
    policies(&empty, &trace.demands).into_iter().map(curve).collect()
}

fn arrival_table(curves: &[Curve]) -> Table {
    let mut table = Table::new(&["policy", "at 100 %", "published", "at 130 %", "published"]);
    let cell = |percent: Option<f64>| percent.map_or("-".to_owned(), |percent| format!("{percent:.2}"));
    for curve in curves {
        table.row(vec![
            curve.name.to_owned(),
            cell(Some(curve.unallocated[100])),
            cell(curve.published.map(|published| published.0)),
            cell(Some(curve.unallocated[ASKED])),
            cell(curve.published.map(|published| published.1)),
        ]);
    }
    for (name, full, end) in UNALLOCATED {
        if ["Random", "Clustering", "Packing"].contains(&name) {
            let mut cells = String::new();
            write!(cells, "{name} (theirs)").expect("writing to a text does not fail");
            table.row(vec![cells, cell(None), cell(Some(full)), cell(None), cell(Some(end))]);
        }
    }
    table
}
