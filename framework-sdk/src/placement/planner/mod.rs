//! A whole queue at once, by integer programming.

mod classes;
mod model;
mod realize;

use std::time::{Duration, Instant};

use self::{classes::Classes, model::Kind};
use super::{BestFit, Demand, Packing, in_order};

#[cfg(test)]
mod tests;

/// How much work a plan may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// How long the solver may search, all in all: priorities have equal parts of it, and what of its part a linear program leaves is for the
    /// search in whole numbers after it. Grouping, and best fit, which comes in any case, are not counted.
    ///
    /// Then the solver looks at a clock, and equal input may give different plans. Without a time there is no search for whole
    /// numbers: the linear program is solved, which takes as long as it takes, and its fractions are rounded down. That is as
    /// deterministic as everything else here, and what belongs into a simulation.
    pub time: Option<Duration>,
    /// The most variables of a program: a variable says how many tasks of one kind go on machines of one kind. With more of them the plan
    /// is by best fit.
    pub variables_max: usize,
}

/// A few thousand variables, without a search: some tenths of a second at the most on a machine of today.
impl Default for Budget {
    fn default() -> Budget {
        Budget { time: None, variables_max: 5_000 }
    }
}

/// Where a queue goes, and how that was found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// For each demand of the queue the machine on which it was placed, if any.
    pub placed: Vec<Option<usize>>,
    /// What was done for each priority, the highest first.
    pub levels: Vec<Level>,
}

/// How the demands of one priority were placed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Level {
    /// Whose.
    pub priority: i32,
    /// How many there are.
    pub waiting: usize,
    /// How many were placed.
    pub placed: usize,
    /// How many of them best fit alone would have placed; never more.
    pub by_best_fit: usize,
    /// More than so many cannot be placed, whoever plans; none when that was not found out.
    pub at_most: Option<usize>,
    /// How.
    pub method: Method,
}

/// By what a plan was made.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// By best fit, for this reason.
    BestFit(Fallback),
    /// The linear program's solution, rounded down, and best fit for what that left.
    Rounded,
    /// The best whole numbers that the search came to in its time.
    Searched,
    /// The best whole numbers that there are.
    Optimal,
}

/// Why best fit was good enough, or all that could be had.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Fallback {
    /// It places all.
    AllPlaced,
    /// No plan was found that places more.
    NotBetter,
    /// The program would have had so many variables.
    TooLarge(usize),
    /// The solver gave no solution: out of time, as a rule.
    Unsolved(String),
}

/// Places a queue on the machines of a packing, so that as many as possible of the highest priority are placed, then as many as
/// possible of the next one, and so on: never fewer than [`BestFit`] alone would.
///
/// Within a priority a task counts as much as any other, so that small ones are rather placed than large ones; what is not to wait for ever
/// needs a higher priority. Demands that mind their neighbours, that have wishes, or that ask for more than scalars are placed by best fit
/// before the others of their priority.
///
/// ```
/// use apportion_sdk::placement::{Budget, Demand, Machine, Method, Packing, plan};
///
/// // Best fit puts the first two together, and then has no machine for the last one.
/// let mut packing = Packing::new(["m1", "m2"].map(|id| Machine::new(id, "cpus:5")));
/// let queue = ["cpus:2", "cpus:2", "cpus:3", "cpus:3"].map(Demand::new);
/// let plan = plan(&mut packing, &queue, Budget::default());
/// let level = &plan.levels[0];
/// assert_eq!((level.placed, level.by_best_fit), (4, 3));
/// assert_eq!(level.method, Method::Rounded);
/// ```
pub fn plan(packing: &mut Packing, queue: &[Demand], budget: Budget) -> Plan {
    let begun = budget.time.map(|_| begin());
    plan_by(packing, queue, budget, &|| begun.map_or(Duration::ZERO, |begun| begun.elapsed()))
}

#[expect(clippy::disallowed_methods, reason = "only when there is a time to be kept")]
fn begin() -> Instant {
    Instant::now()
}

/// How long ago planning began.
type Clock<'a> = &'a dyn Fn() -> Duration;

fn plan_by(packing: &mut Packing, queue: &[Demand], budget: Budget, clock: Clock<'_>) -> Plan {
    let mut plan = Plan { placed: vec![None; queue.len()], levels: Vec::new() };
    let order = in_order(queue);
    let priorities: Vec<&[usize]> =
        order.chunk_by(|one, other| queue[*one].priority == queue[*other].priority).collect();
    let shares = u32::try_from(priorities.len()).unwrap_or(u32::MAX);
    let budget = Budget { time: budget.time.map(|time| time / shares.max(1)), ..budget };
    for waiting in priorities {
        let (level, placed) = plan_level(packing, queue, waiting, (budget, clock));
        plan.levels.push(level);
        for (index, machine) in placed {
            plan.placed[index] = Some(machine);
        }
    }
    plan
}

/// Demands by their place in the queue, and on which machine they are placed.
type Placed = Vec<(usize, usize)>;

/// A way to place the demands of a priority, and the packing afterwards.
struct Attempt {
    packing: Packing,
    placed: Placed,
}

impl Attempt {
    fn on(packing: &Packing) -> Attempt {
        Attempt { packing: packing.clone(), placed: Vec::new() }
    }

    fn best_fit(&mut self, queue: &[Demand], waiting: impl IntoIterator<Item = usize>) {
        for index in waiting {
            if let Some(machine) = self.packing.place(&queue[index], &BestFit) {
                self.placed.push((index, machine));
            }
        }
    }
}

/// Demands of one priority. So that a plan is not worse than best fit over all priorities, one that is not better than best fit here
/// gives way to it.
fn plan_level(
    packing: &mut Packing,
    queue: &[Demand],
    waiting: &[usize],
    budget: (Budget, Clock<'_>),
) -> (Level, Placed) {
    let mut best = Attempt::on(packing);
    best.best_fit(queue, waiting.iter().copied());
    let by_best_fit = best.placed.len();
    let (mut method, mut at_most) = (Method::BestFit(Fallback::AllPlaced), Some(waiting.len()));
    if by_best_fit < waiting.len() {
        let better;
        (better, at_most) = improve(packing, queue, waiting, budget, by_best_fit);
        match better {
            Ok((found, attempt)) => (method, best) = (found, attempt),
            Err(why) => method = Method::BestFit(why),
        }
    }
    *packing = best.packing;
    let (priority, waiting, placed) = (queue[waiting[0]].priority, waiting.len(), best.placed.len());
    (Level { priority, waiting, placed, by_best_fit, at_most, method }, best.placed)
}

/// A way to place more than so many, or why there is none; and how many can be placed at most.
fn improve(
    packing: &Packing,
    queue: &[Demand],
    waiting: &[usize],
    (budget, clock): (Budget, Clock<'_>),
    by_best_fit: usize,
) -> (Result<(Method, Attempt), Fallback>, Option<usize>) {
    let (plain, special): (Vec<usize>, Vec<usize>) = waiting.iter().partition(|index| {
        let demand = &queue[**index];
        let row = packing.grid().row(&demand.resources);
        !demand.minds_neighbours() && demand.prefer.is_empty() && row.is_none_or(|row| row.is_all)
    });
    let mut base = Attempt::on(packing);
    base.best_fit(queue, special.iter().copied());
    let classes = Classes::of(&base.packing, queue, &plain);
    if classes.pairs.len() > budget.variables_max {
        return (Err(Fallback::TooLarge(classes.pairs.len())), None);
    }
    let begun = clock();
    let relaxed = match model::solve(&classes, Kind::Relaxed, budget.time) {
        Ok(relaxed) => relaxed,
        Err(why) => return (Err(Fallback::Unsolved(why)), None),
    };
    let spent = clock().saturating_sub(begun);
    // What was placed by best fit beforehand may be in the way of more.
    let at_most = special.is_empty().then(|| relaxed.at_most());
    if at_most.is_some_and(|most| most <= by_best_fit) {
        return (Err(Fallback::NotBetter), at_most);
    }
    let rounded = realize::rounded(&base, queue, &classes, &relaxed);
    let mut best = (Method::Rounded, rounded);
    let single = classes.one_by_one();
    let left = budget.time.map(|time| time.saturating_sub(spent)).filter(|left| !left.is_zero());
    if at_most != Some(best.1.placed.len()) && left.is_some() && single.pairs.len() <= budget.variables_max {
        let start = realize::counts(&single, &best.1.placed);
        if let Ok(whole) = model::solve(&single, Kind::Whole(start), left) {
            let attempt = realize::rounded(&base, queue, &single, &whole);
            if attempt.placed.len() > best.1.placed.len() {
                best = (Method::Searched, attempt);
            }
            if whole.is_optimal || at_most == Some(best.1.placed.len()) {
                best.0 = Method::Optimal;
            }
        }
    }
    let better = if best.1.placed.len() > by_best_fit { Ok(best) } else { Err(Fallback::NotBetter) };
    (better, at_most)
}
