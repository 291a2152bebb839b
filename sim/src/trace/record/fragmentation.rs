//! How much of what is free is of no use.

use apportion_types::Resources;

use super::{Amount, amount};
use crate::trace::{Group, Node, PerKind};

/// What is free on each node, and how much of it the tasks of the trace could not use where it is.
///
/// What is free of a kind is counted once for each task that asks for some of the kind, where that task cannot run; so sums stay
/// whole numbers, and a change of one node costs one look at that node.
#[derive(Debug, Clone)]
pub(super) struct Fragmentation {
    groups: Vec<Group>,
    asks: Vec<Ask>,
    nodes: Vec<(Node, Free)>,
    /// How many tasks ask for some of each kind.
    tasks: [u64; 3],
    free: [u128; 3],
    blocked: [u128; 3],
}

#[derive(Debug, Clone)]
struct Ask {
    group: usize,
    amount: Amount,
    tasks: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Free {
    amount: Amount,
    /// For each kind, what is free of it × the tasks that ask for some and cannot run here.
    blocked: [u128; 3],
}

impl Fragmentation {
    /// Of empty nodes, and tasks of which each can run on one of them.
    pub(super) fn new(nodes: &[Node], groups: &[Group], runnable: &[bool]) -> Self {
        let runnable = groups.iter().enumerate().filter(|(group, _)| runnable[*group]);
        let asks: Vec<Ask> = runnable
            .map(|(index, group)| {
                let amount = amount(&group.resources);
                Ask { group: index, amount, tasks: group.tasks.len() as u64 }
            })
            .collect();
        let mut tasks = [0; 3];
        for ask in &asks {
            for (tasks, asked) in tasks.iter_mut().zip(ask.amount) {
                *tasks += if asked > 0 { ask.tasks } else { 0 };
            }
        }
        let mut all = Self {
            groups: groups.to_vec(),
            asks,
            nodes: nodes.iter().map(|node| (node.clone(), Free::default())).collect(),
            tasks,
            free: [0; 3],
            blocked: [0; 3],
        };
        for (index, node) in nodes.iter().enumerate() {
            all.change(index, amount(&node.resources));
        }
        all
    }

    /// Takes some of what is free on a node.
    pub(super) fn take(&mut self, node: usize, resources: &Resources) {
        let (free, taken) = (self.nodes[node].1.amount, amount(resources));
        let left = |kind: usize| {
            free[kind].checked_sub(taken[kind]).unwrap_or_else(|| {
                panic!(
                    "node `{}` is given more than it has: {free:?} less {taken:?}",
                    self.nodes[node].0.name
                )
            })
        };
        self.change(node, std::array::from_fn(left));
    }

    /// Gives back what was taken.
    pub(super) fn give(&mut self, node: usize, resources: &Resources) {
        let (free, given) = (self.nodes[node].1.amount, amount(resources));
        self.change(node, std::array::from_fn(|kind| free[kind] + given[kind]));
    }

    fn change(&mut self, index: usize, amount: Amount) {
        let (node, old) = &self.nodes[index];
        let mut stuck = [0u64; 3];
        for ask in &self.asks {
            let fits = (0..3).all(|kind| ask.amount[kind] <= amount[kind]);
            if !(fits && self.groups[ask.group].allows(node)) {
                for (stuck, asked) in stuck.iter_mut().zip(ask.amount) {
                    *stuck += if asked > 0 { ask.tasks } else { 0 };
                }
            }
        }
        let blocked = std::array::from_fn(|kind| u128::from(amount[kind]) * u128::from(stuck[kind]));
        for kind in 0..3 {
            self.free[kind] = self.free[kind] - u128::from(old.amount[kind]) + u128::from(amount[kind]);
            self.blocked[kind] = self.blocked[kind] - old.blocked[kind] + blocked[kind];
        }
        self.nodes[index].1 = Free { amount, blocked };
    }

    /// In millionths of what is free, rounded down; 0 of what is not free, or what no task asks for.
    pub(super) fn ppm(&self) -> PerKind<u64> {
        PerKind::from_fn(|kind| {
            let whole = self.free[kind] * u128::from(self.tasks[kind]);
            let ppm = (self.blocked[kind] * 1_000_000).checked_div(whole).unwrap_or(0);
            u64::try_from(ppm).expect("a part is at most the whole")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn node(name: &str, resources: &str) -> Node {
        Node { name: name.to_owned(), resources: resources.parse().unwrap(), attributes: Default::default() }
    }

    fn group(resources: &str, tasks: usize, models: &[&str]) -> Group {
        Group {
            name: "g".to_owned(),
            role: "be".parse().unwrap(),
            resources: resources.parse().unwrap(),
            models: models.iter().map(|model| (*model).to_owned()).collect::<BTreeSet<_>>(),
            tasks: (0..tasks).collect(),
        }
    }

    fn ppm(cpus: u64, mem: u64, gpus: u64) -> PerKind<u64> {
        PerKind { cpus, mem, gpus }
    }

    #[test]
    fn it_is_the_expected_share_of_free_resources_where_a_task_cannot_run() {
        let nodes = [node("a", "cpus:4;gpus:2"), node("b", "cpus:2")];
        // Three of four tasks want no gpu; the fourth cannot run on `b`, whose two of six cpus are lost to it.
        let groups = [group("cpus:1", 3, &[]), group("cpus:1;gpus:1", 1, &[])];
        let mut all = Fragmentation::new(&nodes, &groups, &[true, true]);
        assert_eq!(all.ppm(), ppm(2_000_000 / (6 * 4), 0, 0));
        // Two gpus are free on `a`, and no cpu to use them with.
        let taken: Resources = "cpus:4".parse().unwrap();
        all.take(0, &taken);
        assert_eq!(all.ppm(), ppm(250_000, 0, 1_000_000));
        all.give(0, &taken);
        assert_eq!(all.ppm(), ppm(83_333, 0, 0));
        // Nothing is free any more, so nothing is fragmented.
        all.take(0, &nodes[0].resources);
        all.take(1, &nodes[1].resources);
        assert_eq!(all.ppm(), ppm(0, 0, 0));
    }

    #[test]
    fn a_model_that_is_not_allowed_is_of_no_use() {
        let mut nodes = [node("a", "cpus:3;gpus:3"), node("b", "cpus:1;gpus:1")];
        nodes[1].attributes.insert("model".to_owned(), "T4".to_owned());
        let all = Fragmentation::new(&nodes, &[group("cpus:1;gpus:1", 5, &["T4"])], &[true]);
        assert_eq!(all.ppm(), ppm(750_000, 0, 750_000));
    }

    #[test]
    fn what_can_never_run_is_no_part_of_the_mix() {
        let groups = [group("cpus:1", 1, &[]), group("cpus:9", 9, &[])];
        let all = Fragmentation::new(&[node("a", "cpus:3")], &groups, &[true, false]);
        assert_eq!(all.ppm(), ppm(0, 0, 0));
    }
}
