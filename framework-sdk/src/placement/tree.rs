//! An index over machines: where to look for the best one, and where not.

use std::cmp::Ordering;

use super::{Cost, grid::covers};

/// How many machines are looked at one by one, at the tree's leaves.
const BLOCK: usize = 8;

/// A binary tree over machines in their order. Each node knows between which bounds lies what its machines have free, so that a
/// search leaves out those where nothing fits and those that cannot be better than what was found. A change costs a
/// walk to the root.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    width: usize,
    machines: usize,
    /// Leaves, a power of two. Node 1 is the root, those below `n` are `2n` and `2n + 1`, and the leaves are the last.
    leaves: usize,
    low: Vec<i64>,
    high: Vec<i64>,
}

/// A machine that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    /// Wishes that are not fulfilled there.
    pub(super) broken: u32,
    pub(super) cost: Cost,
    pub(super) machine: usize,
}

impl Found {
    /// True when this one is to be taken.
    pub(super) fn is_better_than(&self, other: &Found) -> bool {
        let by_cost = self.cost[0].total_cmp(&other.cost[0]).then(self.cost[1].total_cmp(&other.cost[1]));
        let by_all = self.broken.cmp(&other.broken).then(by_cost).then(self.machine.cmp(&other.machine));
        by_all == Ordering::Less
    }
}

/// What a search asks.
pub(super) trait Search {
    /// What is wanted of each column.
    fn wanted(&self) -> &[i64];
    /// A cost that no machine within these bounds is below.
    fn bound(&self, low: &[i64], high: &[i64]) -> Cost;
    /// A machine, if it can be taken and is better than the best so far.
    fn look(&mut self, machine: usize, best: Option<Found>) -> Option<Found>;
}

impl Tree {
    /// A tree of so many machines, whose rows are still to be [set](Tree::set).
    pub(super) fn new(width: usize, machines: usize) -> Tree {
        let leaves = machines.div_ceil(BLOCK).next_power_of_two();
        let (low, high) = (vec![i64::MAX; 2 * leaves * width], vec![-1; 2 * leaves * width]);
        Tree { width, machines, leaves, low, high }
    }

    /// Takes note of what machines have free: all of those in the block of one of them, by `rows`; none of a machine that is closed.
    pub(super) fn set<'a>(&mut self, machine: usize, rows: impl Fn(usize) -> Option<&'a [i64]>) {
        let block = machine / BLOCK;
        let mut node = self.leaves + block;
        let at = node * self.width;
        for column in 0..self.width {
            let (mut low, mut high) = (i64::MAX, -1);
            for row in self.block(block).filter_map(&rows) {
                (low, high) = (low.min(row[column]), high.max(row[column]));
            }
            (self.low[at + column], self.high[at + column]) = (low, high);
        }
        while node > 1 {
            node /= 2;
            let (at, one, other) = (node * self.width, 2 * node * self.width, (2 * node + 1) * self.width);
            for column in 0..self.width {
                self.low[at + column] = self.low[one + column].min(self.low[other + column]);
                self.high[at + column] = self.high[one + column].max(self.high[other + column]);
            }
        }
    }

    fn block(&self, block: usize) -> std::ops::Range<usize> {
        block * BLOCK..self.machines.min((block + 1) * BLOCK)
    }

    /// The best machine.
    pub(super) fn search(&self, search: &mut impl Search) -> Option<Found> {
        let mut best = None;
        if let Some(bound) = self.bound(1, search) {
            self.descend(1, 0, bound, search, &mut best);
        }
        best
    }

    /// The bound of a node; none when nothing fits below it.
    fn bound(&self, node: usize, search: &impl Search) -> Option<Cost> {
        let range = node * self.width..(node + 1) * self.width;
        let (low, high) = (&self.low[range.clone()], &self.high[range]);
        covers(high, search.wanted()).then(|| search.bound(low, high))
    }

    /// `first` is the first leaf below the node.
    fn descend(
        &self,
        node: usize,
        first: usize,
        bound: Cost,
        search: &mut impl Search,
        best: &mut Option<Found>,
    ) {
        let hoped = Found { broken: 0, cost: bound, machine: first * BLOCK };
        if best.is_some_and(|best| !hoped.is_better_than(&best)) {
            return;
        }
        if node >= self.leaves {
            for machine in self.block(node - self.leaves) {
                if let Some(found) = search.look(machine, *best) {
                    *best = Some(found);
                }
            }
            return;
        }
        let half = self.leaves >> (node.ilog2() + 1);
        let left = self.bound(2 * node, search).map(|bound| (2 * node, first, bound));
        let right = self.bound(2 * node + 1, search).map(|bound| (2 * node + 1, first + half, bound));
        let mut both = [left, right];
        // Where the best may be first: the other one is then often left out.
        if let [Some((_, _, left)), Some((_, _, right))] = both
            && right[0] < left[0]
        {
            both.swap(0, 1);
        }
        for (node, first, bound) in both.into_iter().flatten() {
            self.descend(node, first, bound, search, best);
        }
    }
}
