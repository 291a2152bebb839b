//! A job as a pure state machine: which tasks wait, which run, which have ended, and what is to be done next.
//!
//! It knows no offer, no connection and no clock: time comes in, and what the scheduler must do comes out as [`Effect`]s.
//! That is what makes it testable by the thousand (`tests.rs` plays random clusters against it), and what makes the
//! scheduler around it short enough to read.
//!
//! ```text
//!  Blocked ── what it waits for does not succeed: skipped ─┐
//!     │ what it waits for has ended                         │
//!     ▼      launch                     finished            ▼
//!   Ready ───────────► Active ───────────────────────► Ended
//!     ▲                 │  │  failed, no retry left       ▲
//!     │     pause over  │  └──────────────────────────────┤
//!     └──── Paused ◄────┘ failed with a retry left, lost  │ interrupted, given up
//!              └──────────────────────────────────────────┘
//! ```
//!
//! A callback costs what it changes, however many tasks there are: everything that is asked often has an index.

mod again;
mod cause;
mod depend;
mod gang;
mod kept;
mod live;
mod retry;
mod speculate;
mod stage;
mod task;
#[cfg(test)]
mod tests;
mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apportion_sdk::{Reason, TaskId, TaskState, TaskStatus, Time};
use serde::{Deserialize, Serialize};

pub(crate) use self::retry::doubled;
use self::{cause::cause, live::Live, stage::Stage, task::Phase};
pub use self::{
    retry::{Cause, On, PAUSE_MAX, PAUSE_MIN, Retry},
    speculate::Speculate,
    stage::{Class, Dependency, IfFailed, Policy, Rules},
    task::{Attempt, End, Fate, Host, Outcome, Past, Task},
};
use crate::job::Job;

/// What the scheduler must do, or may tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask for the end of this attempt.
    Kill(TaskId),
    /// The task of this position has ended; said once for each.
    Ended(usize),
    /// The task of this position will run again, and why.
    Again {
        /// Its position.
        position: usize,
        /// For people.
        why: String,
    },
    /// The task of this position runs long: a second copy of it is wanted elsewhere, and why.
    Copy {
        /// Its position.
        position: usize,
        /// For people.
        why: String,
    },
}

/// Tasks by what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Of the job.
    pub total: usize,
    /// Not yet launched, or to be launched again.
    pub waiting: usize,
    /// Of those that wait, for other tasks.
    pub blocked: usize,
    /// Launched and not ended.
    pub active: usize,
    /// Ended with success.
    pub succeeded: usize,
    /// Not run, because a task that they waited for did not succeed.
    pub skipped: usize,
    /// Ended in any other way.
    pub failed: usize,
}

impl Counts {
    /// Ended, in whatever way.
    pub fn ended(&self) -> usize {
        self.succeeded + self.skipped + self.failed
    }
}

/// All tasks of a job.
#[derive(Debug, Clone)]
pub struct JobState {
    stages: Vec<Stage>,
    /// Whether more tasks may come.
    open: bool,
    tasks: Vec<Task>,
    live: Live,
    /// What the ids of its attempts begin with, before the names of their tasks.
    ids: String,
    /// Positions in the order in which they are launched, by size.
    ready: BTreeMap<Class, BTreeSet<usize>>,
    /// How many of each size wait, for whatever.
    waiting: BTreeMap<Class, usize>,
    /// When something is due: a pause that ends, an attempt to kill. One entry for each task at most.
    due: BTreeSet<(Time, usize)>,
    counts: Counts,
    /// Of all its tasks.
    launches: u64,
    interrupted: bool,
    /// Positions of tasks that run, and of which a second copy is to be launched.
    copies_wanted: BTreeSet<usize>,
    /// Positions of tasks that have ended, and of which those that wait for them are yet to hear; empty between two calls.
    unheard: Vec<usize>,
    /// Positions of tasks that are not as they were when this was asked last.
    changed: BTreeSet<usize>,
}

impl JobState {
    /// A job of one stage that has no tasks yet, and takes them until it is [closed](JobState::close).
    pub fn open(policy: Policy) -> Self {
        Self::empty(vec![Stage::new(Rules { policy, ..Rules::default() }, 0, 0)])
    }

    fn empty(stages: Vec<Stage>) -> Self {
        Self {
            stages,
            open: true,
            tasks: Vec::new(),
            live: Live::default(),
            ids: String::new(),
            ready: BTreeMap::new(),
            waiting: BTreeMap::new(),
            due: BTreeSet::new(),
            counts: Counts::default(),
            launches: 0,
            interrupted: false,
            copies_wanted: BTreeSet::new(),
            unheard: Vec::new(),
            changed: BTreeSet::new(),
        }
    }

    /// All tasks that a job has so far, none launched; open if it is.
    pub fn of(job: &Job) -> Self {
        let rules = job.stages().iter().map(|stage| {
            let rules = Rules {
                policy: stage.policy.clone(),
                after: stage.after.clone(),
                if_failed: stage.if_failed,
                gang: stage.gang,
            };
            (rules, stage.tasks())
        });
        let names = (0..job.tasks()).map(|position| job.task_name(position));
        let mut state = Self::staged(rules.collect(), names);
        state.open = job.open;
        state
    }

    /// A closed job of stages, each with its number of tasks; the names of these follow each other.
    pub fn staged(rules: Vec<(Rules, usize)>, names: impl IntoIterator<Item = String>) -> Self {
        let mut first = 0;
        let mut stages = Vec::new();
        for (rules, tasks) in rules {
            stages.push(Stage::new(rules, first, tasks));
            first += tasks;
        }
        for number in 0..stages.len() {
            for Dependency { stage, each } in stages[number].rules.after.clone() {
                stages[stage].dependents.push(Dependency { stage: number, each });
            }
        }
        let mut state = Self::empty(stages);
        state.tasks = names.into_iter().map(Task::new).collect();
        assert_eq!(state.tasks.len(), first, "each task has a name");
        state.counts = Counts { total: first, waiting: first, blocked: first, ..Counts::default() };
        for number in 0..state.stages.len() {
            let stage = &state.stages[number];
            let (positions, tasks) = (stage.positions(), stage.tasks);
            state.waiting.extend((tasks > 0).then_some((Class { stage: number, step: 0 }, tasks)));
            if state.stages[number].rules.after.is_empty() {
                positions.for_each(|position| state.unblock(position));
            }
        }
        state.close();
        state
    }

    /// Its attempts' ids begin with this text, so that jobs of one name can be tasks of one framework.
    pub fn with_ids(mut self, ids: &str) -> Self {
        ids.clone_into(&mut self.ids);
        self
    }

    /// The size of a task.
    pub fn class_of(&self, position: usize) -> Class {
        self.class(position)
    }

    /// Adds tasks behind those that are there, ready to be launched. Task ids are made from the names, which must be different.
    pub fn add(&mut self, names: impl IntoIterator<Item = String>) {
        assert!(self.open && self.stages.len() == 1, "only an open job takes tasks, and it has one stage");
        let before = self.tasks.len();
        self.tasks.extend(names.into_iter().map(Task::new));
        let more = self.tasks.len() - before;
        self.stages[0].tasks += more;
        self.counts.total += more;
        self.counts.waiting += more;
        self.counts.blocked += more;
        if more > 0 {
            *self.waiting.entry(Class { stage: 0, step: 0 }).or_default() += more;
        }
        (before..self.tasks.len()).for_each(|position| self.unblock(position));
    }

    /// No more tasks will come: when all that are there have ended, the job is done.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// Whether tasks may be added.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// What was launched and has not ended.
    pub fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        let attempts = |(id, position): (&'_ TaskId, usize)| {
            self.tasks[position].attempts().find(|attempt| attempt.id == *id)
        };
        self.live.iter().filter_map(attempts)
    }

    /// The sizes of which a task can be launched now, in the order in which they should be.
    pub fn ready(&self) -> impl Iterator<Item = Class> + '_ {
        self.ready.keys().copied()
    }

    /// How many of this size can be launched now.
    pub fn ready_count(&self, class: Class) -> usize {
        self.ready.get(&class).map_or(0, BTreeSet::len)
    }

    /// The position of the first task of this size that can be launched now.
    pub fn next_ready(&self, class: Class) -> Option<usize> {
        self.ready.get(&class)?.first().copied()
    }

    /// The sizes of tasks that wait, for whatever, each with how many are to find room together: of a gang all that wait, otherwise one.
    pub fn waiting(&self) -> impl Iterator<Item = (Class, usize)> + '_ {
        let together =
            |class: &Class| if self.is_gang(class.stage) { self.gang_waiting(class.stage) } else { 1 };
        self.waiting.keys().map(move |class| (*class, together(class)))
    }

    /// True when a launch is possible now: offers are wanted then, and only then.
    pub fn wants_offers(&self) -> bool {
        self.launchable().next().is_some() || !self.copies_wanted.is_empty()
    }

    /// How many tasks do what.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// True when every task has ended and no more will come.
    pub fn is_done(&self) -> bool {
        !self.open && self.counts.ended() == self.counts.total
    }

    /// True after [`JobState::interrupt`].
    pub fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Every task, by position.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Tasks that are launched and have not ended, by the ids that the master knows them by, in the order of these.
    pub fn live(&self) -> impl Iterator<Item = &TaskId> {
        self.live.ids()
    }

    /// When [`JobState::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        let copies = (0..self.stages.len()).filter_map(|stage| self.copy_due(stage));
        copies.chain(self.due.first().copied()).map(|(at, _)| at).min()
    }

    /// The id of the next attempt of a task. Each has one of its own: updates of an earlier attempt may still be under way, and
    /// must not be taken for news of this one.
    pub fn next_id(&self, position: usize) -> TaskId {
        self.tasks[position].next_id(&self.ids)
    }

    /// An attempt of a ready task, by its [next id](JobState::next_id), is on its way to an agent.
    pub fn launched(&mut self, position: usize, host: Host, now: Time) {
        assert!(matches!(self.tasks[position].phase, Phase::Ready), "only a ready task is launched");
        self.leave_waiting(position);
        let id = self.next_id(position);
        self.change(position).begin(id.clone(), host, now);
        self.launches += 1;
        self.live.insert(id, position, self.class(position));
        self.counts.active += 1;
    }

    /// Ends a ready task that cannot even be described, such as one whose element holds what no process can be given.
    pub fn reject(&mut self, position: usize, why: String, effects: &mut Vec<Effect>) {
        assert!(matches!(self.tasks[position].phase, Phase::Ready), "only a ready task is rejected");
        self.end_waiting(position, Outcome::Invalid, why, effects);
        self.pass_on(effects);
    }

    /// Takes news of a task.
    pub fn update(&mut self, status: &TaskStatus, now: Time, effects: &mut Vec<Effect>) {
        self.take(status, now, effects);
        self.pass_on(effects);
    }

    fn take(&mut self, status: &TaskStatus, now: Time, effects: &mut Vec<Effect>) {
        let Some(position) = self.live.position(&status.task_id) else {
            // An attempt that was given up as unreachable, and has come back: its task runs elsewhere, or has ended. Left
            // alone it would do the work twice, and hold what others could use.
            if !status.state.is_terminal()
                && !matches!(status.state, TaskState::Unreachable | TaskState::Unknown)
            {
                effects.push(Effect::Kill(status.task_id.clone()));
            }
            return;
        };
        if self.drop_if_doubled(status, now) {
            return;
        }
        match status.state {
            TaskState::Staging | TaskState::Starting | TaskState::Killing => {}
            TaskState::Running => self.running(position, &status.task_id, now),
            TaskState::Finished => {
                self.win(position, &status.task_id, now, effects);
                self.end(position, Outcome::Succeeded, status, now, effects)
            }
            // Its machine started anew, or whoever watched it is gone: it may have done well.
            TaskState::Failed if status.reason == Some(Reason::ContainerLost) => {
                self.lost(position, &cause(status), Some(status), now, effects)
            }
            TaskState::Failed => self.failed(position, status, now, effects),
            // For the sake of others, not because anybody wished that it does not run.
            TaskState::Killed if matches!(status.reason, Some(Reason::Preempted | Reason::AgentDraining)) => {
                self.lost(position, &cause(status), Some(status), now, effects)
            }
            TaskState::Killed => self.killed(position, status, now, effects),
            TaskState::Error => self.end(position, Outcome::Invalid, status, now, effects),
            // It never ran, or nobody will ever know what became of it. That is not the task's fault, and costs no retry.
            TaskState::Dropped
            | TaskState::Gone
            | TaskState::GoneByOperator
            | TaskState::Unreachable
            | TaskState::Unknown => self.lost(position, &cause(status), Some(status), now, effects),
        }
    }

    /// Whether this is the end, but no success, of one of two attempts of a task: then the other one is all of it.
    fn drop_if_doubled(&mut self, status: &TaskStatus, now: Time) -> bool {
        let lost = matches!(status.state, TaskState::Unreachable | TaskState::Unknown);
        if status.state == TaskState::Finished || !status.state.is_terminal() && !lost {
            return false;
        }
        let fate = if status.state == TaskState::Failed { Fate::Failed } else { Fate::Lost };
        self.drop_attempt(&status.task_id, fate, now)
    }

    /// Does what is due: pauses end, attempts over their time are killed. Once is enough: the SDK repeats a kill over lost
    /// connections until the task has ended.
    pub fn tick(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some(&(at, position)) = self.due.first() {
            if at > now {
                break;
            }
            self.due.remove(&(at, position));
            match &mut self.change(position).phase {
                phase @ Phase::Paused { .. } => {
                    *phase = Phase::Ready;
                    let class = self.class(position);
                    self.ready.entry(class).or_default().insert(position);
                }
                Phase::Active { attempt, .. } => {
                    attempt.due = None;
                    attempt.timed_out = true;
                    effects.push(Effect::Kill(attempt.id.clone()));
                    // A copy began later, and does not make the task's time longer.
                    self.drop_copy(position, now, effects);
                }
                Phase::Blocked | Phase::Ready | Phase::Ended(_) => {
                    unreachable!("nothing is due for such a task")
                }
            }
        }
        self.want_copies(now, effects);
    }

    /// Ends the job: what waits is not launched any more, what runs is killed, nothing more is taken.
    pub fn interrupt(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.interrupted = true;
        self.close();
        for position in 0..self.tasks.len() {
            let why = "not launched: the job was interrupted";
            self.end_waiting(position, Outcome::Interrupted, why.to_owned(), effects);
        }
        for position in self.live.positions().collect::<BTreeSet<_>>() {
            self.drop_copy(position, now, effects);
            if let Phase::Active { attempt, .. } = &mut self.tasks[position].phase {
                attempt.due = None;
                effects.push(Effect::Kill(attempt.id.clone()));
            }
        }
        self.due.clear();
        self.pass_on(effects);
    }

    /// Ends what waits of this size, because no agent could ever run it, and of a gang all that waits; the rest goes on.
    pub fn give_up(&mut self, class: Class, why: &str, effects: &mut Vec<Effect>) {
        let Some(stage) = self.stages.get(class.stage) else { return };
        let gang = stage.rules.gang;
        for position in stage.positions() {
            if gang || self.class(position) == class {
                self.end_waiting(position, Outcome::Unplaceable, why.to_owned(), effects);
            }
        }
        self.pass_on(effects);
    }

    fn running(&mut self, position: usize, id: &TaskId, now: Time) {
        let timeout = self.policy(position).timeout.filter(|_| !self.interrupted);
        let Phase::Active { attempt, copy } = &mut self.tasks[position].phase else {
            unreachable!("live ids are of active tasks");
        };
        // The time counts from the first sign that it runs: waiting for an image or a busy agent is not the task's own time.
        let (running, alone) = match copy {
            Some(copy) if copy.id == *id => (&mut copy.running_since, false),
            copy => (&mut attempt.running_since, copy.is_none()),
        };
        if running.is_some() {
            return;
        }
        *running = Some(now);
        self.changed.insert(position);
        // The time of a copy counts when it is all that is left.
        if let (Some(timeout), true) = (timeout, attempt.id == *id) {
            attempt.due = Some(now + timeout);
            self.due.insert((now + timeout, position));
        }
        if alone {
            self.watch(position, now, true);
        }
    }

    /// A task that is about to change.
    fn change(&mut self, position: usize) -> &mut Task {
        self.changed.insert(position);
        &mut self.tasks[position]
    }

    fn policy(&self, position: usize) -> &Policy {
        &self.stages[self.stage_of(position)].rules.policy
    }

    fn failed(&mut self, position: usize, status: &TaskStatus, now: Time, effects: &mut Vec<Effect>) {
        let task = &mut self.tasks[position];
        task.failures += 1;
        let what = Cause::of(status, task.timed_out());
        let (failures, step) = (task.failures, task.memory_step);
        let outcome = if what == Cause::Timeout { Outcome::TimedOut } else { Outcome::Failed };
        let retry = &self.policy(position).retry;
        // Once it had the most memory that it may have, and that was too little, it will be so again.
        let too_large = what == Cause::Memory && retry.is_grown(step);
        if self.interrupted || failures > retry.limit || !retry.allows(what) || too_large {
            return self.end(position, outcome, status, now, effects);
        }
        let limit = retry.limit;
        let mut why = format!("{}; retry {failures} of {limit}", self.why(position, outcome, cause(status)));
        let pause = retry.pause(failures);
        let grown = retry.next_step(step).filter(|_| what == Cause::Memory);
        if let Some(step) = grown {
            why += &format!(", with {} MiB", retry.memory_milli[step as usize] / 1000);
            self.tasks[position].memory_step = step;
        }
        self.pause(position, (now, pause), Fate::Failed, why, effects);
    }

    fn killed(&mut self, position: usize, status: &TaskStatus, now: Time, effects: &mut Vec<Effect>) {
        match (self.tasks[position].timed_out(), self.interrupted) {
            (true, _) => self.failed(position, status, now, effects),
            (false, true) => self.end(position, Outcome::Interrupted, status, now, effects),
            // By an operator: whoever killed it did not mean that it shall start again.
            (false, false) => self.end(position, Outcome::Killed, status, now, effects),
        }
    }

    /// It runs again, and costs no retry; unless it was to end anyway. With the status that says so, if there is one.
    fn lost(
        &mut self,
        position: usize,
        why: &str,
        status: Option<&TaskStatus>,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        let task = &mut self.tasks[position];
        task.losses += 1;
        let ends = task.timed_out() && !self.policy(position).retry.allows(Cause::Timeout);
        let task = &mut self.tasks[position];
        if ends || self.interrupted {
            let outcome = if task.timed_out() { Outcome::TimedOut } else { Outcome::Interrupted };
            return self.end_active(position, outcome, why.to_owned(), status, now, effects);
        }
        // It pauses all the same: an agent that drops whatever it gets would otherwise be asked again without end.
        let pause = doubled(PAUSE_MIN, task.losses, PAUSE_MAX);
        let why = format!("{why} (counts as no attempt)");
        self.pause(position, (now, pause), Fate::Lost, why, effects);
    }

    fn pause(
        &mut self,
        position: usize,
        (now, pause): (Time, Duration),
        fate: Fate,
        why: String,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(attempt) = self.tasks[position].attempt().cloned() {
            self.tasks[position].remember(attempt, fate, now);
        }
        self.leave_active(position, Phase::Paused { until: now + pause });
        self.enter_waiting(position);
        effects.push(Effect::Again { position, why });
    }

    fn end(
        &mut self,
        position: usize,
        outcome: Outcome,
        status: &TaskStatus,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        self.end_active(position, outcome, cause(status), Some(status), now, effects);
    }

    fn end_active(
        &mut self,
        position: usize,
        outcome: Outcome,
        why: String,
        status: Option<&TaskStatus>,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        let last = self.tasks[position].attempt().cloned();
        let why = self.why(position, outcome, why);
        let end = End { outcome, last, status: status.cloned(), why, at: Some(now) };
        self.leave_active(position, Phase::Ended(Box::new(end)));
        self.count_end(position, outcome, effects);
    }

    /// Whoever ran too long was killed for it; that is the cause, and not how it took the kill.
    fn why(&self, position: usize, outcome: Outcome, why: String) -> String {
        match (outcome, self.policy(position).timeout) {
            (Outcome::TimedOut, Some(timeout)) => {
                format!("ran longer than {}", humantime::format_duration(timeout))
            }
            _ => why,
        }
    }

    /// The one door out of [`Phase::Active`]: the id is forgotten, and nothing is due any more.
    fn leave_active(&mut self, position: usize, next: Phase) {
        let before = std::mem::replace(&mut self.change(position).phase, next);
        let Phase::Active { attempt, copy: None } = before else {
            unreachable!("live ids are of active tasks, and the second of two attempts is dropped before")
        };
        self.copies_wanted.remove(&position);
        if let Some(since) = attempt.running_since {
            self.watch(position, since, false);
        }
        if let Some(at) = attempt.due {
            self.due.remove(&(at, position));
        }
        self.live.remove(&attempt.id);
        self.counts.active -= 1;
    }
}
