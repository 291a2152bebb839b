//! A job as a pure state machine: which tasks wait, which run, which have ended, and what is to be done next.
//!
//! It knows no offer, no connection and no clock: time comes in, and what the scheduler must do comes out as [`Effect`]s.
//! That is what makes it testable by the thousand (`tests.rs` plays random clusters against it), and what makes the
//! scheduler around it short enough to read.
//!
//! ```text
//!            launch                     finished
//!   Ready ───────────► Active ───────────────────────► Ended
//!     ▲                 │  │  failed, no retry left       ▲
//!     │     pause over  │  └──────────────────────────────┤
//!     └──── Paused ◄────┘ failed with a retry left, lost  │ interrupted, given up
//!              └──────────────────────────────────────────┘
//! ```

mod task;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apportion_sdk::{Reason, TaskId, TaskState, TaskStatus, Time, container::Limitation};

use self::task::Phase;
pub use self::task::{Attempt, End, Host, Outcome, Task};
use crate::job::Job;

/// The pause before the first repetition of a task; it doubles with each.
pub const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What holds for every task of a job.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy {
    /// How often a task that failed is tried again.
    pub retries: u32,
    /// How long one attempt may run before it is killed, and its task has failed.
    pub timeout: Option<Duration>,
}

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
}

/// Tasks by what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Of the job.
    pub total: usize,
    /// Not yet launched, or to be launched again.
    pub waiting: usize,
    /// Launched and not ended.
    pub active: usize,
    /// Ended with success.
    pub succeeded: usize,
    /// Ended in any other way.
    pub failed: usize,
}

impl Counts {
    /// Ended, in whatever way.
    pub fn ended(&self) -> usize {
        self.succeeded + self.failed
    }
}

/// All tasks of a job.
#[derive(Debug, Clone)]
pub struct JobState {
    policy: Policy,
    /// Whether more tasks may come.
    open: bool,
    tasks: Vec<Task>,
    /// The index of each live attempt. An id that is not in it is of an attempt that no longer counts.
    live: BTreeMap<TaskId, usize>,
    /// Positions in the order in which they are launched.
    ready: BTreeSet<usize>,
    /// When something is due: a pause that ends, an attempt to kill. One entry for each task at most.
    due: BTreeSet<(Time, usize)>,
    counts: Counts,
    interrupted: bool,
    /// Positions of tasks that are not as they were when this was asked last.
    changed: BTreeSet<usize>,
}

impl JobState {
    /// A job that has no tasks yet, and takes them until it is [closed](JobState::close).
    pub fn open(policy: Policy) -> Self {
        Self {
            policy,
            open: true,
            tasks: Vec::new(),
            live: BTreeMap::new(),
            ready: BTreeSet::new(),
            due: BTreeSet::new(),
            counts: Counts::default(),
            interrupted: false,
            changed: BTreeSet::new(),
        }
    }

    /// All tasks that a job has so far, none launched; open if it is.
    pub fn of(job: &Job) -> Self {
        let mut state = Self::open(Policy { retries: job.retries, timeout: job.timeout });
        state.add((0..job.tasks()).map(|position| job.task_name(position)));
        if !job.open {
            state.close();
        }
        state
    }

    /// Adds tasks behind those that are there, ready to be launched. Task ids are made from the names, which must be different.
    pub fn add(&mut self, names: impl IntoIterator<Item = String>) {
        assert!(self.open, "only an open job takes tasks");
        let before = self.tasks.len();
        self.tasks.extend(names.into_iter().map(Task::new));
        self.ready.extend(before..self.tasks.len());
        self.counts.total = self.tasks.len();
        self.counts.waiting += self.tasks.len() - before;
    }

    /// No more tasks will come: when all that are there have ended, the job is done.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// Whether tasks may be added.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Puts a task that is new here where it was when it was kept: see [`take_changed`](JobState::take_changed). A clock that was set back
    /// makes nothing wait for longer than it does at most.
    pub fn restore(&mut self, position: usize, mut kept: Task, now: Time) {
        assert!(self.ready.remove(&position), "only a new task is put where it was");
        self.counts.waiting -= 1;
        match &mut kept.phase {
            Phase::Ready => {
                self.ready.insert(position);
                self.counts.waiting += 1;
            }
            Phase::Paused { until } => {
                *until = (*until).min(now + PAUSE_MAX);
                self.due.insert((*until, position));
                self.counts.waiting += 1;
            }
            Phase::Active { attempt } => {
                self.live.insert(attempt.id.clone(), position);
                attempt.due =
                    attempt.due.map(|due| self.policy.timeout.map_or(due, |most| due.min(now + most)));
                self.due.extend(attempt.due.map(|at| (at, position)));
                self.counts.active += 1;
            }
            Phase::Ended(end) => match end.outcome {
                Outcome::Succeeded => self.counts.succeeded += 1,
                _ => self.counts.failed += 1,
            },
        }
        let name = std::mem::take(&mut self.tasks[position].name);
        self.tasks[position] = Task { name, ..kept };
    }

    /// The positions of tasks that are not as they were when this was called last: what is to be kept anew.
    pub fn take_changed(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.changed)
    }

    /// What was launched is gone with the framework that launched it: it runs again, as another one's.
    pub fn begin_anew(&mut self, why: &str, now: Time, effects: &mut Vec<Effect>) {
        for position in self.live.values().copied().collect::<Vec<_>>() {
            self.lost(position, why, None, now, effects);
        }
    }

    /// Attempts that are to end: their kills are to be asked for again by a scheduler that takes over.
    pub fn unwanted(&self) -> impl Iterator<Item = &TaskId> {
        let attempts = self.live.values().filter_map(|position| self.tasks[*position].attempt());
        attempts.filter(|attempt| self.interrupted || attempt.timed_out).map(|attempt| &attempt.id)
    }

    /// The position of the first task that can be launched now.
    pub fn next_ready(&self) -> Option<usize> {
        self.ready.first().copied()
    }

    /// True when a launch is possible now: offers are wanted then, and only then.
    pub fn wants_offers(&self) -> bool {
        !self.ready.is_empty()
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
        self.live.keys()
    }

    /// When [`JobState::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The id of the next attempt of a task. Each has one of its own: updates of an earlier attempt may still be under way, and
    /// must not be taken for news of this one.
    pub fn next_id(&self, position: usize) -> TaskId {
        self.tasks[position].next_id()
    }

    /// An attempt of a ready task, by its [next id](JobState::next_id), is on its way to an agent.
    pub fn launched(&mut self, position: usize, host: Host, now: Time) {
        assert!(self.ready.remove(&position), "only a ready task is launched");
        let id = self.change(position).begin(host, now).id.clone();
        self.live.insert(id, position);
        self.counts.waiting -= 1;
        self.counts.active += 1;
    }

    /// Ends a ready task that cannot even be described, such as one whose element holds what no process can be given.
    pub fn reject(&mut self, position: usize, why: String, effects: &mut Vec<Effect>) {
        assert!(self.ready.remove(&position), "only a ready task is rejected");
        self.end_unlaunched(position, Outcome::Invalid, why, effects);
    }

    /// Takes news of a task.
    pub fn update(&mut self, status: &TaskStatus, now: Time, effects: &mut Vec<Effect>) {
        let Some(&position) = self.live.get(&status.task_id) else {
            // An attempt that was given up as unreachable, and has come back: its task runs elsewhere, or has ended. Left
            // alone it would do the work twice, and hold what others could use.
            if !status.state.is_terminal()
                && !matches!(status.state, TaskState::Unreachable | TaskState::Unknown)
            {
                effects.push(Effect::Kill(status.task_id.clone()));
            }
            return;
        };
        match status.state {
            TaskState::Staging | TaskState::Starting | TaskState::Killing => {}
            TaskState::Running => self.running(position, now),
            TaskState::Finished => self.end(position, Outcome::Succeeded, status, effects),
            // Its machine started anew, or whoever watched it is gone: it may have done well.
            TaskState::Failed if status.reason == Some(Reason::ContainerLost) => {
                self.lost(position, &cause(status), Some(status), now, effects)
            }
            TaskState::Failed => self.failed(position, status, now, effects),
            // For the sake of others, not because anybody wished that it does not run.
            TaskState::Killed if matches!(status.reason, Some(Reason::Preempted | Reason::AgentDraining)) => {
                self.lost(position, &cause(status), Some(status), now, effects)
            }
            TaskState::Killed => self.killed(position, status, effects),
            TaskState::Error => self.end(position, Outcome::Invalid, status, effects),
            // It never ran, or nobody will ever know what became of it. That is not the task's fault, and costs no retry.
            TaskState::Dropped
            | TaskState::Gone
            | TaskState::GoneByOperator
            | TaskState::Unreachable
            | TaskState::Unknown => self.lost(position, &cause(status), Some(status), now, effects),
        }
    }

    /// Does what is due: pauses end, attempts over their time are killed. Once is enough: the SDK repeats a kill over lost
    /// connections until the task has ended.
    pub fn tick(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some(&(at, position)) = self.due.first() {
            if at > now {
                break;
            }
            self.due.remove(&(at, position));
            self.changed.insert(position);
            let task = &mut self.tasks[position];
            match &mut task.phase {
                Phase::Paused { .. } => {
                    task.phase = Phase::Ready;
                    self.ready.insert(position);
                }
                Phase::Active { attempt } => {
                    attempt.due = None;
                    attempt.timed_out = true;
                    effects.push(Effect::Kill(attempt.id.clone()));
                }
                Phase::Ready | Phase::Ended(_) => unreachable!("nothing is due for such a task"),
            }
        }
    }

    /// Ends the job: what waits is not launched any more, what runs is killed, nothing more is taken.
    pub fn interrupt(&mut self, effects: &mut Vec<Effect>) {
        self.interrupted = true;
        self.close();
        self.end_waiting(Outcome::Interrupted, "not launched: the job was interrupted", effects);
        for task in &mut self.tasks {
            if let Phase::Active { attempt } = &mut task.phase {
                attempt.due = None;
                effects.push(Effect::Kill(attempt.id.clone()));
            }
        }
        self.due.clear();
    }

    /// Ends what waits, because no agent could ever run it; what runs goes on.
    pub fn give_up(&mut self, why: &str, effects: &mut Vec<Effect>) {
        self.end_waiting(Outcome::Unplaceable, why, effects);
    }

    fn running(&mut self, position: usize, now: Time) {
        let Phase::Active { attempt } = &mut self.tasks[position].phase else {
            unreachable!("live ids are of active tasks");
        };
        // The time counts from the first sign that it runs: waiting for an image or a busy agent is not the task's own time.
        if attempt.running_since.is_none() {
            self.changed.insert(position);
            attempt.running_since = Some(now);
            if let (Some(timeout), false) = (self.policy.timeout, self.interrupted) {
                attempt.due = Some(now + timeout);
                self.due.insert((now + timeout, position));
            }
        }
    }

    /// A task that is about to change.
    fn change(&mut self, position: usize) -> &mut Task {
        self.changed.insert(position);
        &mut self.tasks[position]
    }

    fn failed(&mut self, position: usize, status: &TaskStatus, now: Time, effects: &mut Vec<Effect>) {
        let task = &mut self.tasks[position];
        task.failures += 1;
        // A task that ran out of time is not tried again: it would most likely take as long once more.
        let out_of_time = task.timed_out() || status.reason == Some(Reason::MaxCompletionTime);
        let outcome = if out_of_time { Outcome::TimedOut } else { Outcome::Failed };
        if self.interrupted || outcome == Outcome::TimedOut || task.failures > self.policy.retries {
            return self.end(position, outcome, status, effects);
        }
        let (failures, retries) = (task.failures, self.policy.retries);
        let why = format!("{}; retry {failures} of {retries}", cause(status));
        self.pause(position, failures, why, now, effects);
    }

    fn killed(&mut self, position: usize, status: &TaskStatus, effects: &mut Vec<Effect>) {
        let outcome = match (self.tasks[position].timed_out(), self.interrupted) {
            (true, _) => Outcome::TimedOut,
            (false, true) => Outcome::Interrupted,
            // By an operator: whoever killed it did not mean that it shall start again.
            (false, false) => Outcome::Killed,
        };
        self.end(position, outcome, status, effects);
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
        if task.timed_out() || self.interrupted {
            let outcome = if task.timed_out() { Outcome::TimedOut } else { Outcome::Interrupted };
            return self.end_active(position, outcome, why.to_owned(), status, effects);
        }
        // It pauses all the same: an agent that drops whatever it gets would otherwise be asked again without end.
        let losses = task.losses;
        self.pause(position, losses, format!("{why} (counts as no attempt)"), now, effects);
    }

    fn pause(&mut self, position: usize, times: u32, why: String, now: Time, effects: &mut Vec<Effect>) {
        let doublings = times.saturating_sub(1).min(16);
        let until = now + (PAUSE_MIN * 2u32.pow(doublings)).min(PAUSE_MAX);
        self.leave_active(position, Phase::Paused { until });
        self.counts.waiting += 1;
        self.due.insert((until, position));
        effects.push(Effect::Again { position, why });
    }

    fn end(&mut self, position: usize, outcome: Outcome, status: &TaskStatus, effects: &mut Vec<Effect>) {
        self.end_active(position, outcome, cause(status), Some(status), effects);
    }

    fn end_active(
        &mut self,
        position: usize,
        outcome: Outcome,
        why: String,
        status: Option<&TaskStatus>,
        effects: &mut Vec<Effect>,
    ) {
        let last = self.tasks[position].attempt().cloned();
        let why = match (outcome, self.policy.timeout) {
            (Outcome::TimedOut, Some(timeout)) => {
                format!("ran longer than {}", humantime::format_duration(timeout))
            }
            _ => why,
        };
        let end = End { outcome, last, status: status.cloned(), why };
        self.leave_active(position, Phase::Ended(Box::new(end)));
        self.count_end(position, outcome, effects);
    }

    /// The one door out of [`Phase::Active`]: the id is forgotten, and nothing is due any more.
    fn leave_active(&mut self, position: usize, next: Phase) {
        let before = std::mem::replace(&mut self.change(position).phase, next);
        let Phase::Active { attempt } = before else { unreachable!("live ids are of active tasks") };
        if let Some(at) = attempt.due {
            self.due.remove(&(at, position));
        }
        self.live.remove(&attempt.id);
        self.counts.active -= 1;
    }

    fn end_waiting(&mut self, outcome: Outcome, why: &str, effects: &mut Vec<Effect>) {
        for position in 0..self.tasks.len() {
            match self.tasks[position].phase {
                Phase::Ready => _ = self.ready.remove(&position),
                Phase::Paused { until } => _ = self.due.remove(&(until, position)),
                Phase::Active { .. } | Phase::Ended(_) => continue,
            }
            self.end_unlaunched(position, outcome, why.to_owned(), effects);
        }
    }

    fn end_unlaunched(&mut self, position: usize, outcome: Outcome, why: String, effects: &mut Vec<Effect>) {
        self.change(position).phase = Phase::Ended(Box::new(End { outcome, last: None, status: None, why }));
        self.counts.waiting -= 1;
        self.count_end(position, outcome, effects);
    }

    fn count_end(&mut self, position: usize, outcome: Outcome, effects: &mut Vec<Effect>) {
        match outcome {
            Outcome::Succeeded => self.counts.succeeded += 1,
            _ => self.counts.failed += 1,
        }
        effects.push(Effect::Ended(position));
    }
}

/// What a status says of an end, in as few words as a table has room for.
fn cause(status: &TaskStatus) -> String {
    let container = status.container.as_ref();
    match container.and_then(|container| container.limitation) {
        Some(Limitation::Memory { limit_bytes }) => {
            return format!("over its {} MiB of memory", limit_bytes >> 20);
        }
        Some(Limitation::Disk { limit_bytes }) => {
            return format!("over its {} MiB of disk", limit_bytes >> 20);
        }
        Some(Limitation::Port { port }) => {
            return format!("listened on port {port}, which is not its own");
        }
        None => {}
    }
    match (container.and_then(|container| container.exit), status.reason) {
        (Some(exit), None | Some(Reason::CommandExited)) => exit.to_string(),
        (_, _) if !status.message.is_empty() => status.message.clone(),
        (Some(exit), Some(reason)) => format!("{exit}, {reason}"),
        (None, Some(reason)) => reason.to_string(),
        (None, None) => status.state.to_string(),
    }
}
