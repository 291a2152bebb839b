//! Keeping what is free of use to the tasks that usually come.

use apportion_types::resources::Name;

use super::{BestFit, Candidate, Cost, Demand, Packing, Policy, Wanted, grid::covers};

/// The machine where the expected fragmentation grows the least, and of equals the [best fit](BestFit).
///
/// After Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent", USENIX ATC
/// 2023. Draw a task from those that usually come. What is free of a resource is a fragment, for this task, on a machine where
/// it cannot run: the expected amount of fragments, over all tasks that ask for the resource, is the fragmentation. A task is placed
/// where that changes for the better, or else the least for the worse: on machines that are of little use already, and so that what
/// stays behind is of use to others.
///
/// ```
/// use apportion_sdk::{placement::{BestFit, Demand, Fragmentation, Machine, Packing}, resources::Name};
///
/// // Nine of ten tasks want a gpu and four processors.
/// let packing = Packing::new([Machine::new("m1", "cpus:4;gpus:1"), Machine::new("m2", "cpus:6;gpus:1")]);
/// let typical = [(Demand::new("cpus:4;gpus:1"), 9), (Demand::new("cpus:2"), 1)];
/// let policy = Fragmentation::new(&packing, [Name::Gpus], typical);
///
/// // Two processors fit tighter on `m1`, but would leave it with a gpu that nobody can use.
/// let small = Demand::new("cpus:2");
/// assert_eq!(packing.choose(&small, &BestFit), Some(0));
/// assert_eq!(packing.choose(&small, &policy), Some(1));
/// ```
#[derive(Debug, Clone)]
pub struct Fragmentation {
    /// The columns that are measured.
    measured: Vec<usize>,
    typical: Vec<Typical>,
    /// For each typical task in turn, whether each machine allows it, whatever is free there.
    allowed: Vec<bool>,
}

#[derive(Debug, Clone)]
struct Typical {
    amounts: Vec<i64>,
    /// Its part of all tasks.
    share: f64,
}

/// Changes that differ by less are the same: sums of fractions are not exact.
const GRAIN: f64 = 1e-9;

impl Fragmentation {
    /// Measures these resources on the machines of a packing, for tasks that come as often as their weights say: those of the last
    /// days, say. Of their rules those count that ask for nothing but the machine. What fits on no machine is no part of them.
    pub fn new(
        packing: &Packing,
        measured: impl IntoIterator<Item = Name>,
        typical: impl IntoIterator<Item = (Demand, u32)>,
    ) -> Fragmentation {
        let grid = packing.grid();
        let columns = measured.into_iter().filter_map(|name| grid.names.binary_search(&name).ok());
        let known: Vec<_> = typical
            .into_iter()
            .filter_map(|(demand, weight)| Some((grid.row(&demand.resources)?.amounts, demand, weight)))
            .collect();
        let all: f64 = known.iter().map(|(_, _, weight)| f64::from(*weight)).sum();
        let allows = known
            .iter()
            .flat_map(|(_, demand, _)| packing.machines().iter().map(|machine| demand.allows(machine)));
        let allowed = allows.collect();
        let typical =
            known.into_iter().map(|(amounts, _, weight)| Typical { amounts, share: f64::from(weight) / all });
        Fragmentation { measured: columns.collect(), typical: typical.collect(), allowed }
    }

    /// The fragmentation of a packing: the expected part of what is free that is of no use; of several resources the sum. Zero when
    /// nothing is free.
    pub fn of(&self, packing: &Packing) -> f64 {
        let machines = packing.machines().len();
        let sum = |column: &usize| {
            let free: f64 = (0..machines).map(|machine| packing.grid().free(machine)[*column] as f64).sum();
            let asked: f64 =
                self.typical.iter().filter(|task| task.amounts[*column] > 0).map(|task| task.share).sum();
            let fragments: f64 = (0..machines)
                .map(|machine| {
                    let row = packing.grid().free(machine);
                    self.stuck(row, *column, machine, machines) * row[*column] as f64
                })
                .sum();
            if free * asked > 0.0 { fragments / (free * asked) } else { 0.0 }
        };
        self.measured.iter().map(sum).sum()
    }

    /// The part of all tasks that ask for a resource and cannot run there.
    fn stuck(&self, free: &[i64], column: usize, machine: usize, machines: usize) -> f64 {
        let asking = self.typical.iter().enumerate().filter(|(_, task)| task.amounts[column] > 0);
        let stuck = asking.filter(|(index, task)| {
            !covers(free, &task.amounts) || !self.allowed[index * machines + machine]
        });
        stuck.map(|(_, task)| task.share).sum()
    }

    /// The expected fragments on a machine, in parts of the most that one has.
    fn fragments(&self, free: &[i64], machine: usize, wanted: &Wanted<'_>) -> f64 {
        let machines = self.allowed.len() / self.typical.len().max(1);
        let each = self.measured.iter().map(|column| {
            let there = free[*column];
            // Where none is free none is stuck.
            if there == 0 {
                0.0
            } else {
                there as f64 * wanted.scale[*column] * self.stuck(free, *column, machine, machines)
            }
        });
        each.sum()
    }
}

impl Policy for Fragmentation {
    fn cost(&self, candidate: &Candidate<'_>, wanted: &Wanted<'_>) -> Cost {
        let after: Vec<i64> =
            candidate.free.iter().zip(wanted.amounts).map(|(free, wanted)| free - wanted).collect();
        let growth = self.fragments(&after, candidate.index, wanted)
            - self.fragments(candidate.free, candidate.index, wanted);
        // Adding zero makes of a negative zero a positive one, which sorts after it.
        [(growth / GRAIN).round() + 0.0, BestFit.cost(candidate, wanted)[0]]
    }
}
