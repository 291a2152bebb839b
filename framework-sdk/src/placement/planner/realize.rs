//! From how many to which and where.

use std::collections::BTreeMap;

use super::{
    super::{Demand, grid::covers},
    Attempt,
    classes::{Classes, MachineClass},
    model::Solved,
};

/// Places what a solution says, the parts of tasks left out, on top of what is placed already; then by best fit what there is still
/// room for, the smallest tasks first: most of them fit.
///
/// That a number of tasks fits on equal machines together does not mean that whole ones fit on each. The solution loads them evenly, so
/// here too each task goes where the most is left, the large ones first: of the 8,152 tasks of the recorded cluster 3 are then left over, and
/// hundreds with each task where the least is left.
pub(super) fn rounded(base: &Attempt, queue: &[Demand], classes: &Classes, solved: &Solved) -> Attempt {
    let mut attempt = Attempt { packing: base.packing.clone(), placed: base.placed.clone() };
    let mut waiting: Vec<_> = classes.tasks.iter().map(|class| class.tasks.iter().copied()).collect();
    let size = |task: usize| -> f64 {
        classes.tasks[task]
            .amounts
            .iter()
            .zip(&classes.scale)
            .map(|(amount, scale)| *amount as f64 * scale)
            .sum()
    };
    let mut counts: Vec<_> =
        classes.pairs.iter().zip(solved.whole()).filter(|(_, count)| *count > 0).collect();
    counts.sort_by(|(one, _), (other, _)| size(other.task).total_cmp(&size(one.task)));
    for (pair, count) in counts {
        let (class, amounts) = (&classes.machines[pair.machine], &classes.tasks[pair.task].amounts);
        for _ in 0..count {
            let Some(machine) = emptiest(&attempt, class, amounts, &classes.scale) else { break };
            let Some(index) = waiting[pair.task].next() else { break };
            if attempt.packing.take(machine, &queue[index]).is_ok() {
                attempt.placed.push((index, machine));
            }
        }
    }
    let mut rest: Vec<usize> = (0..waiting.len()).collect();
    rest.sort_by(|one, other| size(*one).total_cmp(&size(*other)));
    for task in rest {
        attempt.best_fit(queue, waiting[task].by_ref());
    }
    attempt
}

/// The machine of a class on which a task fits and the most is left, the first of equals.
fn emptiest(attempt: &Attempt, class: &MachineClass, amounts: &[i64], scale: &[f64]) -> Option<usize> {
    let grid = attempt.packing.grid();
    let fitting = class.machines.iter().filter(|machine| covers(grid.free(**machine), amounts));
    let left = |machine: &usize| -> f64 {
        grid.free(*machine).iter().zip(scale).map(|(free, scale)| *free as f64 * scale).sum()
    };
    fitting.copied().min_by(|one, other| left(other).total_cmp(&left(one)))
}

/// What is placed, as a solution: how many of each pair.
pub(super) fn counts(classes: &Classes, placed: &[(usize, usize)]) -> Vec<usize> {
    let mut task_class = BTreeMap::new();
    for (number, class) in classes.tasks.iter().enumerate() {
        task_class.extend(class.tasks.iter().map(|index| (*index, number)));
    }
    let machines = classes.machines.iter().enumerate();
    let machine_class: BTreeMap<usize, usize> = machines
        .flat_map(|(number, class)| class.machines.iter().map(move |index| (*index, number)))
        .collect();
    let mut counts = BTreeMap::<_, usize>::new();
    for (index, machine) in placed {
        if let Some(task) = task_class.get(index) {
            *counts.entry((*task, machine_class[machine])).or_default() += 1;
        }
    }
    classes.pairs.iter().map(|pair| counts.get(&(pair.task, pair.machine)).copied().unwrap_or(0)).collect()
}
