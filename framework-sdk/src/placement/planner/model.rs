//! The program: how many tasks of each class go on the machines of each class.

use std::time::Duration;

use good_lp::{
    Expression, ProblemVariables, Solution, SolverModel, Variable, WithInitialSolution, WithTimeLimit,
    microlp, solvers::SolutionStatus, variable,
};

use super::classes::Classes;

/// What is solved.
pub(super) enum Kind {
    /// With fractions: more than its value cannot be had.
    Relaxed,
    /// In whole numbers, beginning with these.
    Whole(Vec<usize>),
}

/// A solution.
pub(super) struct Solved {
    /// For each pair how many tasks.
    pub(super) counts: Vec<f64>,
    /// Whether no other is better.
    pub(super) is_optimal: bool,
}

/// What an even load is worth, in tasks: too little to give one up for it.
const EVEN: f64 = 0.01;

/// What counts as a whole number: solvers calculate with fractions.
const WHOLE: f64 = 1e-6;

impl Solved {
    /// For each pair how many whole tasks.
    pub(super) fn whole(&self) -> impl Iterator<Item = usize> {
        self.counts.iter().map(|count| (count + WHOLE) as usize)
    }

    /// No solution in whole numbers has more tasks than this one with fractions, but for what an even load was worth.
    pub(super) fn at_most(&self) -> usize {
        (self.counts.iter().sum::<f64>() + EVEN + WHOLE * self.counts.len() as f64) as usize
    }
}

/// Places as many tasks as possible, none beyond what waits and what is free. Of several ways it takes the one whose fullest machines
/// are the least full: where there is slack everywhere, parts of tasks can be rounded away, and whole ones find room.
pub(super) fn solve(classes: &Classes, kind: Kind, time: Option<Duration>) -> Result<Solved, String> {
    let mut variables = ProblemVariables::new();
    let mut counts = Vec::with_capacity(classes.pairs.len());
    let mut of_task = vec![Expression::default(); classes.tasks.len()];
    let mut of_machine = vec![Vec::<(usize, Variable)>::new(); classes.machines.len()];
    for pair in &classes.pairs {
        let machines = classes.machines[pair.machine].machines.len();
        let most = pair.each.saturating_mul(machines).min(classes.tasks[pair.task].tasks.len());
        let definition = variable().min(0.0).max(most as f64);
        let count = variables.add(match kind {
            Kind::Relaxed => definition,
            Kind::Whole(_) => definition.integer(),
        });
        counts.push(count);
        of_task[pair.task].add_mul(1.0, count);
        of_machine[pair.machine].push((pair.task, count));
    }
    let fullest = variables.add(variable().min(0.0).max(1.0));
    let mut all: Expression = counts.iter().sum();
    all.add_mul(-EVEN, fullest);
    let mut model = variables.maximise(all).using(microlp);
    if let Some(time) = time {
        model = model.with_time_limit(time.as_secs_f64());
    }
    for (class, sum) in classes.tasks.iter().zip(of_task) {
        model.add_constraint(sum.leq(class.tasks.len() as f64));
    }
    for (class, there) in classes.machines.iter().zip(of_machine) {
        let machines = class.machines.len() as f64;
        // In parts of the most that a machine has, so that all numbers are of about the same size.
        for (column, (free, scale)) in class.free.iter().zip(&classes.scale).enumerate() {
            let amount = |task: usize| classes.tasks[task].amounts[column];
            let wanted = there.iter().filter(|(task, _)| amount(*task) > 0);
            let mut sum = Expression::default();
            for (task, count) in wanted.clone() {
                sum.add_mul(amount(*task) as f64 * scale, *count);
            }
            if wanted.count() > 0 {
                let there = *free as f64 * scale * machines;
                sum.add_mul(-there, fullest);
                model.add_constraint(sum.leq(0.0));
            }
        }
    }
    if let Kind::Whole(start) = kind {
        let start = counts.iter().zip(start).map(|(count, tasks)| (*count, tasks as f64));
        model = model.with_initial_solution(start.collect::<Vec<_>>());
    }
    let solution = model.solve().map_err(|error| error.to_string())?;
    Ok(Solved {
        counts: counts.iter().map(|count| solution.value(*count)).collect(),
        is_optimal: matches!(solution.status(), SolutionStatus::Optimal),
    })
}
