//! Equal tasks and equal machines together: what makes a program small.

use std::collections::BTreeMap;

use super::super::{Demand, Packing, Rule, grid::covers};

/// Tasks and machines by kind.
pub(super) struct Classes {
    pub(super) tasks: Vec<TaskClass>,
    pub(super) machines: Vec<MachineClass>,
    /// Which kind of task fits on which kind of machine: the variables of the program.
    pub(super) pairs: Vec<Pair>,
    pub(super) scale: Vec<f64>,
}

/// Tasks that ask for the same.
#[derive(Clone)]
pub(super) struct TaskClass {
    pub(super) amounts: Vec<i64>,
    /// By their place in the queue, in its order.
    pub(super) tasks: Vec<usize>,
}

/// Machines that have the same free, and that allow the same tasks.
#[derive(Clone)]
pub(super) struct MachineClass {
    pub(super) free: Vec<i64>,
    pub(super) machines: Vec<usize>,
}

/// That a task of a class fits on a machine of a class.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    pub(super) task: usize,
    pub(super) machine: usize,
    /// How many fit on one such machine, if nothing else is there; at most as many as there are.
    pub(super) each: usize,
}

impl Classes {
    /// Those of some tasks of a queue.
    pub(super) fn of(packing: &Packing, queue: &[Demand], waiting: &[usize]) -> Classes {
        let grid = packing.grid();
        let mut rules: Vec<&[Rule]> = Vec::new();
        let mut tasks = BTreeMap::<(Vec<i64>, usize), Vec<usize>>::new();
        for index in waiting {
            let demand = &queue[*index];
            // One that asks for what no machine has is in no class.
            let Some(row) = grid.row(&demand.resources) else { continue };
            let known = rules.iter().position(|known| *known == demand.must);
            let rule = known.unwrap_or_else(|| {
                rules.push(&demand.must);
                rules.len() - 1
            });
            tasks.entry((row.amounts, rule)).or_default().push(*index);
        }
        let mut machines = BTreeMap::<(&[i64], Vec<bool>), Vec<usize>>::new();
        for (index, machine) in packing.machines().iter().enumerate() {
            if !packing.is_closed(index) {
                let allows = |rules: &&[Rule]| rules.iter().all(|rule| rule.allows(machine));
                let allowed = rules.iter().map(allows).collect();
                machines.entry((grid.free(index), allowed)).or_default().push(index);
            }
        }
        let mut pairs = Vec::new();
        for (task, ((amounts, rule), waiting)) in tasks.iter().enumerate() {
            for (machine, (free, allowed)) in machines.keys().enumerate() {
                if allowed[*rule] && covers(free, amounts) {
                    pairs.push(Pair { task, machine, each: fitting(free, amounts).min(waiting.len()) });
                }
            }
        }
        let task = |((amounts, _), tasks)| TaskClass { amounts, tasks };
        let machine =
            |((free, _), machines): ((&[i64], _), _)| MachineClass { free: free.to_vec(), machines };
        Classes {
            machines: machines.into_iter().map(machine).collect(),
            tasks: tasks.into_iter().map(task).collect(),
            pairs,
            scale: grid.scale.clone(),
        }
    }

    /// The same with each machine by itself: what whole numbers are searched for.
    pub(super) fn one_by_one(&self) -> Classes {
        let mut single = Classes {
            tasks: self.tasks.clone(),
            machines: Vec::new(),
            pairs: Vec::new(),
            scale: self.scale.clone(),
        };
        let mut first = Vec::new();
        for class in &self.machines {
            first.push(single.machines.len());
            let alone = |machine: &usize| MachineClass { free: class.free.clone(), machines: vec![*machine] };
            single.machines.extend(class.machines.iter().map(alone));
        }
        for pair in &self.pairs {
            let count = self.machines[pair.machine].machines.len();
            let each = (0..count).map(|number| Pair { machine: first[pair.machine] + number, ..*pair });
            single.pairs.extend(each);
        }
        single
    }
}

/// How many tasks fit into what is free.
fn fitting(free: &[i64], amounts: &[i64]) -> usize {
    let wanted = free.iter().zip(amounts).filter(|(_, amount)| **amount > 0);
    let least = wanted.map(|(free, amount)| free / amount).min().unwrap_or(i64::MAX);
    usize::try_from(least).unwrap_or(usize::MAX)
}
