//! Machines that are being filled.

use std::collections::BTreeSet;

use apportion_types::{Resources, resources::Name};

use super::{
    Candidate, Cost, Demand, Machine, Policy, Running, Wanted,
    grid::{Grid, Row, covers},
    in_order,
    judge::Judge,
    tree::{Found, Search, Tree},
};
use crate::offer;

/// Machines that are being filled, by an index that finds the best one for a demand without looking at each.
///
/// What is placed is taken off what is free at once, and counts for the rules of those that follow. Machines are named by their
/// place in the list given; for offers, that of the offer:
///
/// ```
/// # use apportion_sdk::{Offer, Task, TaskInfo, placement::{BestFit, Demand, Packing}};
/// /// Launches what fits, and returns what does not.
/// fn launch(offers: &mut [Offer], waiting: Vec<TaskInfo>) -> Vec<TaskInfo> {
///     let mut packing = Packing::new(&*offers);
///     let mut rest = Vec::new();
///     for task in waiting {
///         let demand = Demand::from(&task);
///         match packing.choose(&demand, &BestFit) {
///             None => rest.push(task),
///             Some(index) => match offers[index].launch(task) {
///                 Ok(()) => packing.take(index, &demand).expect("it was chosen"),
///                 Err(full) => {
///                     packing.close(index); // one accept can carry no more
///                     rest.push(*full.task);
///                 }
///             },
///         }
///     }
///     rest
/// }
/// # let mut offers = [apportion_sdk::testing::offer("*", "a", "cpus:1"), apportion_sdk::testing::offer("*", "b", "cpus:2")];
/// # let task = |id: &str| Task::new(id).command(["true"]).cpus(1.0).build().unwrap();
/// # assert_eq!(launch(&mut offers, ["1", "2", "3", "4"].map(task).to_vec()).len(), 1);
/// ```
#[derive(Debug, Clone)]
pub struct Packing {
    machines: Vec<Machine>,
    grid: Grid,
    tree: Tree,
    running: Running,
    closed: BTreeSet<usize>,
}

impl Packing {
    /// These machines, and nothing known to run on them.
    pub fn new(machines: impl IntoIterator<Item = impl Into<Machine>>) -> Packing {
        let machines: Vec<Machine> = machines.into_iter().map(Into::into).collect();
        let grid = Grid::new(&machines);
        let mut tree = Tree::new(grid.width(), machines.len());
        for index in 0..machines.len() {
            tree.set(index, |machine| Some(grid.free(machine)));
        }
        Packing { machines, grid, tree, running: Running::new(), closed: BTreeSet::new() }
    }

    /// Beside what runs already: what [`Near`](super::Rule::Near), [`Apart`](super::Rule::Apart) and
    /// [`Spread`](super::Rule::Spread) go by.
    #[must_use]
    pub fn beside(mut self, running: Running) -> Packing {
        self.running = running;
        self
    }

    /// The machines, with what is still free on them.
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// What runs, with what was placed since.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// The machine on which the policy would place the demand; none when there is none on which it fits and every must holds.
    pub fn choose<P: Policy + ?Sized>(&self, demand: &Demand, policy: &P) -> Option<usize> {
        let row = self.grid.row(&demand.resources)?;
        let judge = Judge::new(demand, &self.machines, &self.running);
        let mut choice =
            Choice { packing: self, wanted: self.wanted(demand, &row), row: &row, judge, policy };
        self.tree.search(&mut choice).map(|found| found.machine)
    }

    /// Takes off a machine what a demand asks for; says what is missing, and changes nothing, when it does not fit. Rules are not asked: it
    /// has been decided.
    pub fn take(&mut self, index: usize, demand: &Demand) -> Result<(), Box<Resources>> {
        let machine = &mut self.machines[index];
        let picked = offer::pick(&machine.free, &demand.resources)?;
        machine.free.saturating_sub(&picked.exclusive());
        self.running.add_on(machine, &demand.labels);
        self.grid.update(index, machine);
        self.note(index);
        Ok(())
    }

    /// Chooses a machine and takes off it what the demand asks for.
    pub fn place<P: Policy + ?Sized>(&mut self, demand: &Demand, policy: &P) -> Option<usize> {
        let index = self.choose(demand, policy)?;
        self.take(index, demand).expect("it was chosen because it fits");
        Some(index)
    }

    /// Places a queue, [by priority](in_order); says for each demand, in the order of the queue, on which machine. One that does not fit
    /// anywhere does not hold up those behind it.
    ///
    /// ```
    /// use apportion_sdk::placement::{BestFit, Demand, Machine, Packing};
    ///
    /// let mut packing = Packing::new([Machine::new("m1", "cpus:3"), Machine::new("m2", "cpus:4")]);
    /// let queue = [Demand::new("cpus:2"), Demand::new("cpus:9"), Demand::new("cpus:4").priority(1)];
    /// assert_eq!(packing.place_all(&queue, &BestFit), [Some(0), None, Some(1)]);
    /// ```
    pub fn place_all<P: Policy + ?Sized>(&mut self, queue: &[Demand], policy: &P) -> Vec<Option<usize>> {
        let mut placed = vec![None; queue.len()];
        for index in in_order(queue) {
            placed[index] = self.place(&queue[index], policy);
        }
        placed
    }

    /// Places nothing more on a machine, such as one whose offer can carry no further task.
    pub fn close(&mut self, index: usize) {
        self.closed.insert(index);
        self.note(index);
    }

    /// True when nothing is placed there any more.
    pub(super) fn is_closed(&self, index: usize) -> bool {
        self.closed.contains(&index)
    }

    /// The scalars that machines have; amounts given to a [`Policy`] are in this order.
    pub fn names(&self) -> &[Name] {
        &self.grid.names
    }

    pub(super) fn grid(&self) -> &Grid {
        &self.grid
    }

    fn note(&mut self, index: usize) {
        let (grid, closed) = (&self.grid, &self.closed);
        self.tree.set(index, |machine| (!closed.contains(&machine)).then(|| grid.free(machine)));
    }

    fn wanted<'a>(&'a self, demand: &'a Demand, row: &'a Row) -> Wanted<'a> {
        Wanted { demand, names: &self.grid.names, amounts: &row.amounts, scale: &self.grid.scale }
    }
}

/// One search for a machine.
struct Choice<'a, P: ?Sized> {
    packing: &'a Packing,
    wanted: Wanted<'a>,
    row: &'a Row,
    judge: Judge<'a>,
    policy: &'a P,
}

impl<P: Policy + ?Sized> Search for Choice<'_, P> {
    fn wanted(&self) -> &[i64] {
        self.wanted.amounts
    }

    fn bound(&self, low: &[i64], high: &[i64]) -> Cost {
        self.policy.bound(low, high, &self.wanted)
    }

    fn look(&mut self, index: usize, best: Option<Found>) -> Option<Found> {
        let (packing, machine) = (self.packing, &self.packing.machines[index]);
        let free = packing.grid.free(index);
        if !covers(free, self.wanted.amounts) || packing.is_closed(index) {
            return None;
        }
        let cost = self.policy.cost(&Candidate { index, machine, free }, &self.wanted);
        let is_better = |found: &Found| best.is_none_or(|best| found.is_better_than(&best));
        // What costs little to find out first.
        let mut found = Some(Found { broken: 0, cost, machine: index }).filter(is_better)?;
        let fits = self.row.is_all || offer::pick(&machine.free, &self.wanted.demand.resources).is_ok();
        if !fits || !self.judge.admits(machine) {
            return None;
        }
        found.broken = self.judge.broken_wishes(machine);
        Some(found).filter(is_better)
    }
}
