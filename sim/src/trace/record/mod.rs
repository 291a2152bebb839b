//! Watches a replay: told what happens to tasks, it knows at the end how the cluster was used.
//!
//! Everything is counted over all of time, not at samples of it: a level holds from one event to the next, and means are integrals
//! divided by time, in whole numbers.
//!
//! # Fragmentation
//!
//! After Weng et al. (USENIX ATC 2023), made simpler: draw a task at random from those of the trace that ask for some of a kind of
//! resource, gpus say. What part of all free gpus lies on nodes on which this task cannot run as they are now, because they have too
//! little free of something, or a model that it may not use? The expected part is the fragmentation of gpus: 0 when every task
//! could use every free gpu, 1 when no task could use any. An empty cluster has some already, where a task is larger than a
//! node. Unlike in the paper, tasks that want no gpu do not count for gpus, and gpus are one amount for each node, not devices.

mod fragmentation;
mod series;

use std::{collections::BTreeMap, time::Duration};

use apportion_types::{Resources, Role, document::Amounts};

use self::{
    fragmentation::Fragmentation,
    series::{Series, mean},
};
use super::{
    Fairness, Group, Level, Node, Offers, Options, OverTime, PerKind, Report, RoleReport, TaskCounts, Waits,
};

/// The most stretches of time that a report tells of: more than a picture can show.
const STRETCHES_MAX: usize = 300;

/// The shortest stretch of time that a report tells of, in microseconds.
const STRETCH_MIN_US: u64 = 1000;

/// Thousandths of each kind of resource.
type Amount = [u64; 3];

fn amount(resources: &Resources) -> Amount {
    PerKind::<()>::NAMES.map(|name| resources.milli(&name).unsigned_abs())
}

/// Told of each event of a replay, in the order of time; nodes and groups are named by their places in the lists given at the start,
/// times count from the start.
///
/// # Panics
///
/// On what cannot be: time that goes back, a node that gives more than it has, more tasks ended than placed.
#[derive(Debug, Clone)]
pub struct Recorder {
    now_us: u64,
    nodes: u64,
    capacity: Resources,
    groups: Vec<GroupState>,
    roles: Vec<RoleState>,
    used: Amount,
    fragmentation: Fragmentation,
    series: Series,
    peaks: Vec<u64>,
    contended_us: u64,
    /// Jain's index × time.
    jain: u128,
}

#[derive(Debug, Clone)]
struct GroupState {
    role: usize,
    resources: Resources,
    runnable: bool,
}

#[derive(Debug, Clone)]
struct RoleState {
    role: Role,
    used: Amount,
    tasks: TaskCounts,
    waits_us: Vec<u64>,
}

impl Recorder {
    /// A replay of these groups on these nodes, at its start: all is free, and nothing has come.
    pub fn new(nodes: &[Node], groups: &[Group]) -> Recorder {
        let runnable: Vec<bool> =
            groups.iter().map(|group| nodes.iter().any(|node| group.fits(node))).collect();
        let names: BTreeMap<&Role, ()> = groups.iter().map(|group| (&group.role, ())).collect();
        let mut roles: Vec<RoleState> = names
            .into_keys()
            .map(|role| RoleState {
                role: role.clone(),
                used: [0; 3],
                tasks: TaskCounts::default(),
                waits_us: Vec::new(),
            })
            .collect();
        let states = groups.iter().zip(&runnable).map(|(group, runnable)| {
            let role =
                roles.binary_search_by(|state| state.role.cmp(&group.role)).expect("it is in the list");
            let tasks = &mut roles[role].tasks;
            tasks.total += group.tasks.len() as u64;
            tasks.rejected += if *runnable { 0 } else { group.tasks.len() as u64 };
            GroupState { role, resources: group.resources.clone(), runnable: *runnable }
        });
        Recorder {
            groups: states.collect(),
            now_us: 0,
            nodes: nodes.len() as u64,
            capacity: nodes.iter().map(|node| &node.resources).sum(),
            used: [0; 3],
            fragmentation: Fragmentation::new(nodes, groups, &runnable),
            series: Series::new(STRETCH_MIN_US, STRETCHES_MAX),
            peaks: Vec::new(),
            contended_us: 0,
            jain: 0,
            roles,
        }
    }

    /// False for a group whose tasks no node could run if it were empty: they are counted as rejected, and nothing else is told of
    /// them.
    pub fn runnable(&self, group: usize) -> bool {
        self.groups[group].runnable
    }

    /// What all tasks of the group together have become.
    fn role(&mut self, group: usize) -> &mut RoleState {
        assert!(self.groups[group].runnable, "what can never run is not asked for");
        &mut self.roles[self.groups[group].role]
    }

    /// A task of the group came, and waits for a place.
    pub fn arrived(&mut self, at: Duration, group: usize) {
        self.advance(at);
        self.role(group).tasks.waiting += 1;
    }

    /// A waiting task got its place.
    pub fn placed(&mut self, at: Duration, group: usize, node: usize) {
        self.advance(at);
        let tasks = &mut self.role(group).tasks;
        tasks.waiting = tasks.waiting.checked_sub(1).expect("a task waits before it is placed");
        tasks.placed += 1;
        tasks.running += 1;
        let GroupState { role, resources, .. } = &self.groups[group];
        self.fragmentation.take(node, resources);
        for (kind, asked) in amount(resources).into_iter().enumerate() {
            self.used[kind] += asked;
            self.roles[*role].used[kind] += asked;
        }
    }

    /// A task that was placed runs, so long after it came.
    pub fn running(&mut self, group: usize, waited: Duration) {
        let waited = micros(waited);
        self.role(group).waits_us.push(waited);
    }

    /// A task that was placed has ended, as it was meant to.
    pub fn finished(&mut self, at: Duration, group: usize, node: usize) {
        self.left(at, group, node);
        self.role(group).tasks.finished += 1;
    }

    /// A task that was placed has ended otherwise, and waits for another place.
    pub fn displaced(&mut self, at: Duration, group: usize, node: usize) {
        self.left(at, group, node);
        let tasks = &mut self.role(group).tasks;
        tasks.placed -= 1;
        tasks.waiting += 1;
    }

    fn left(&mut self, at: Duration, group: usize, node: usize) {
        self.advance(at);
        let tasks = &mut self.role(group).tasks;
        tasks.running = tasks.running.checked_sub(1).expect("a task is placed before it ends");
        let GroupState { role, resources, .. } = &self.groups[group];
        self.fragmentation.give(node, resources);
        for (kind, given) in amount(resources).into_iter().enumerate() {
            self.used[kind] -= given;
            self.roles[*role].used[kind] -= given;
        }
    }

    /// A waiting task is no longer wanted.
    pub fn withdrawn(&mut self, at: Duration, group: usize) {
        self.advance(at);
        let tasks = &mut self.role(group).tasks;
        tasks.waiting = tasks.waiting.checked_sub(1).expect("a task waits before it is withdrawn");
        tasks.withdrawn += 1;
    }

    /// What has become of all tasks so far.
    pub fn tasks(&self) -> TaskCounts {
        self.roles.iter().fold(TaskCounts::default(), |sum, role| sum + role.tasks)
    }

    /// Counts the levels of the time since the last event.
    fn advance(&mut self, at: Duration) {
        let at_us = micros(at);
        assert!(at_us >= self.now_us, "time does not go back");
        if at_us == self.now_us {
            return;
        }
        let levels = self.levels();
        self.peaks.resize(levels.len(), 0);
        for (peak, level) in self.peaks.iter_mut().zip(&levels) {
            *peak = (*peak).max(*level);
        }
        self.series.extend(at_us, &levels);
        let waiting = self.roles.iter().filter(|role| role.tasks.waiting > 0);
        let shares: Vec<u64> = waiting.map(|role| self.dominant_share(role)).collect();
        if shares.len() > 1 {
            self.contended_us += at_us - self.now_us;
            self.jain += u128::from(jain_ppm(&shares)) * u128::from(at_us - self.now_us);
        }
        self.now_us = at_us;
    }

    /// What is used and what is fragmented of each kind, the tasks that wait, the share of each role: [`USED`] and its neighbours
    /// say where.
    fn levels(&self) -> Vec<u64> {
        let capacity = amount(&self.capacity);
        let used = PerKind::from_fn(|kind| share_ppm(self.used[kind], capacity[kind]));
        let fragmented = self.fragmentation.ppm();
        let waiting_milli = 1000 * self.tasks().waiting;
        let mut levels = vec![used.cpus, used.mem, used.gpus];
        levels.extend([fragmented.cpus, fragmented.mem, fragmented.gpus, waiting_milli]);
        levels.extend(self.roles.iter().map(|role| self.dominant_share(role)));
        levels
    }

    fn dominant_share(&self, role: &RoleState) -> u64 {
        let shares = role.used.into_iter().zip(amount(&self.capacity));
        shares.map(|(used, all)| share_ppm(used, all)).max().unwrap_or(0)
    }

    /// The report of a replay with frameworks of this kind, that ends now.
    pub fn finish(mut self, at: Duration, framework: &str, options: Options, offers: Offers) -> Report {
        self.advance(at);
        let level = |level| Level {
            mean_ppm: self.series.mean(level),
            peak_ppm: self.peaks.get(level).copied().unwrap_or(0),
        };
        let means = |level| self.series.means(level);
        let over_time = OverTime {
            step_us: self.series.step(),
            used_ppm: PerKind::from_fn(|kind| means(USED + kind)),
            waiting_milli: means(WAITING),
            fragmentation_ppm: PerKind::from_fn(|kind| means(FRAGMENTED + kind)),
            dominant_share_ppm: (ROLES..)
                .zip(&self.roles)
                .map(|(at, role)| (role.role.clone(), means(at)))
                .collect(),
        };
        let roles = (ROLES..).zip(&self.roles).map(|(at, role)| RoleReport {
            role: role.role.clone(),
            tasks: role.tasks,
            wait: Waits::of(&mut role.waits_us.clone()),
            dominant_share: level(at),
        });
        let mut waits: Vec<u64> = self.roles.iter().flat_map(|role| &role.waits_us).copied().collect();
        Report {
            framework: framework.to_owned(),
            options,
            nodes: self.nodes,
            capacity: Amounts(self.capacity.clone()),
            groups: self.groups.len() as u64,
            tasks: self.tasks(),
            simulated_us: self.now_us,
            wall_us: None,
            wait: Waits::of(&mut waits),
            offers,
            used: PerKind::from_fn(|kind| level(USED + kind)),
            fragmentation: PerKind::from_fn(|kind| level(FRAGMENTED + kind)),
            fairness: Fairness {
                contended_us: self.contended_us,
                jain_ppm: (self.contended_us > 0).then(|| mean(self.jain, self.contended_us)),
            },
            roles: roles.collect(),
            over_time,
        }
    }
}

/// Where in the levels what is used begins.
const USED: usize = 0;
/// Where fragmentation begins.
const FRAGMENTED: usize = 3;
/// Where the tasks that wait are.
const WAITING: usize = 6;
/// Where the roles begin.
const ROLES: usize = 7;

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("a replay ends within half a million years")
}

/// Rounded down; nothing of nothing is 0.
fn share_ppm(part: u64, whole: u64) -> u64 {
    let ppm = (u128::from(part) * 1_000_000).checked_div(u128::from(whole)).unwrap_or(0);
    u64::try_from(ppm).expect("a part is at most the whole")
}

/// Jain's index of some shares, rounded down: the square of their sum by their number times the sum of their squares. Shares that
/// are all 0 are equal.
fn jain_ppm(shares: &[u64]) -> u64 {
    let sum: u128 = shares.iter().copied().map(u128::from).sum();
    let squares: u128 = shares.iter().map(|share| u128::from(*share).pow(2)).sum();
    let ppm = (sum * sum * 1_000_000).checked_div(shares.len() as u128 * squares).unwrap_or(1_000_000);
    u64::try_from(ppm).expect("the index is at most one")
}

#[cfg(test)]
pub(super) mod tests;
