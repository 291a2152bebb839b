//! An agent's machine: what outlives the agent's process. Its disk keeps the log, its kernel the containers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apportion_agent_core::{CheckpointId, ContainerId, LaunchFailureKind, Log, Record, TaskKey, VolumeKey};
use apportion_types::{
    Resources, Supervision, TaskInfo, Time,
    container::{Exit, Limitation, Termination, Usage},
    protocol::executor::ExecutorUpdate,
};

/// What a task does on its machine: decided when it is launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// From the launch to its first instruction.
    pub starts_after: Duration,
    /// It is not started, and why.
    pub fails_to_start: Option<LaunchFailureKind>,
    /// From then to its end; none for a task that does not end by itself.
    pub runs_for: Option<Duration>,
    /// How it ends by itself.
    pub ends: Ending,
    /// What it does when it is asked to end.
    pub on_term: OnTerm,
    /// What it answers when it is asked how it is.
    pub answers: Answers,
}

/// How a task ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this exit code.
    Exit(i32),
    /// Killed by the kernel, for more memory than it may have.
    OutOfMemory,
}

/// What a task answers to its health check and its check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// That it does its work.
    Well,
    /// That it does not.
    Badly,
    /// Nothing.
    Never,
    /// That it does its work, once it has run so long.
    WellAfter(Duration),
    /// The one and the other, each for so long; when nothing goes wrong any more, that it does its work.
    InTurns(Duration),
}

impl Answers {
    /// What is answered by a task that has run so long; none when nothing is.
    pub(crate) fn after(self, running: Duration, calm: bool) -> Option<bool> {
        match self {
            Answers::Well => Some(true),
            Answers::Badly => Some(false),
            Answers::Never => None,
            Answers::WellAfter(from) => Some(running >= from),
            Answers::InTurns(each) => {
                let turn = running.as_micros() / each.as_micros().max(1);
                Some(calm || turn.is_multiple_of(2))
            }
        }
    }

    /// True when it is going to say that it does its work, and nothing else any more.
    pub(crate) fn get_well(self) -> bool {
        !matches!(self, Answers::Badly | Answers::Never)
    }
}

/// What a task does when it is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTerm {
    /// It ends after this time.
    Ends(Duration),
    /// It hangs: only KILL ends it.
    Hangs,
}

impl Behaviour {
    /// Starts in 10 ms, runs so long, and ends with exit code 0; when asked to, it ends within a millisecond.
    pub fn succeeds_after(duration: Duration) -> Self {
        Self {
            starts_after: Duration::from_millis(10),
            fails_to_start: None,
            runs_for: Some(duration),
            ends: Ending::Exit(0),
            on_term: OnTerm::Ends(Duration::from_millis(1)),
            answers: Answers::Well,
        }
    }

    /// Cannot be started: its image is not to be had.
    pub fn no_image() -> Self {
        Self { fails_to_start: Some(LaunchFailureKind::Image), ..Self::runs() }
    }

    /// Starts in 10 ms, and runs until it is asked to end.
    pub fn runs() -> Self {
        Self { runs_for: None, ..Self::succeeds_after(Duration::ZERO) }
    }

    /// Cannot be started: its command is not there.
    pub fn not_found() -> Self {
        Self { fails_to_start: Some(LaunchFailureKind::Command), ..Self::runs() }
    }

    /// Starts in 10 ms, runs so long, and ends with this exit code.
    pub fn exits(after: Duration, code: i32) -> Self {
        Self { ends: Ending::Exit(code), ..Self::succeeds_after(after) }
    }
}

/// Where a container stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stage {
    /// It is being made: gone with the agent's process.
    Made,
    /// Its runner lives, its command is not executed yet.
    Starting,
    Running {
        since: Time,
    },
    Ended(Termination),
}

#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) task: TaskKey,
    pub(crate) resources: Resources,
    pub(crate) supervision: Supervision,
    /// Whether its task is of a task group.
    pub(crate) grouped: bool,
    /// The process in it, where that is an executor.
    pub(crate) executor: Option<Executor>,
    /// The container of the executor that runs it: it is none of its own.
    pub(crate) inside: Option<ContainerId>,
    pub(crate) behaviour: Behaviour,
    pub(crate) stage: Stage,
    /// It was not to be started, said before it was.
    pub(crate) cancelled: bool,
    /// The number of its next step; steps of other numbers are out of date.
    pub(crate) step: u64,
    /// A signal that is going to end it.
    signalled: Option<Exit>,
    pub(crate) memory_limit_bytes: u64,
}

/// An executor's process: what it has said, and whether it has a stream to its agent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Executor {
    pub(crate) subscribed: bool,
    pub(crate) unacknowledged: Vec<ExecutorUpdate>,
    /// Updates that it has made.
    pub(crate) said: u64,
}

impl Container {
    pub(crate) fn new(task: TaskKey, info: &TaskInfo, behaviour: Behaviour, memory_limit_bytes: u64) -> Self {
        let stage = Stage::Made;
        Self {
            task,
            resources: info.resources.clone(),
            supervision: info.supervision.clone(),
            grouped: info.group.is_some(),
            executor: info.is_executor().then(Executor::default),
            inside: None,
            behaviour,
            stage,
            cancelled: false,
            step: 0,
            signalled: None,
            memory_limit_bytes,
        }
    }

    /// True when its description may have its agent end it.
    pub(crate) fn may_be_ended(&self) -> bool {
        let Supervision { health_check, max_completion, .. } = &self.supervision;
        max_completion.is_some() || health_check.is_some() && self.behaviour.answers != Answers::Well
    }

    /// True when it is going to start, or to end, without anybody's wish.
    pub(crate) fn moves(&self) -> bool {
        let judged = self.supervision.health_check.as_ref().is_some_and(|check| check.failures_max > 0);
        match self.stage {
            Stage::Made | Stage::Starting => true,
            Stage::Running { .. } => {
                self.behaviour.runs_for.is_some()
                    || self.supervision.max_completion.is_some()
                    || judged && !self.behaviour.answers.get_well()
            }
            Stage::Ended(_) => false,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }

    /// A signal is going to end it, unless it ends before.
    pub(crate) fn signalled(&mut self, exit: Exit) {
        self.signalled = Some(exit);
    }

    /// True when a signal is what ends it.
    pub(crate) fn is_signalled(&self) -> bool {
        self.signalled.is_some()
    }

    /// How it ends when its time has come: by a signal, or by itself.
    pub(crate) fn ending(&self) -> (Exit, Option<Limitation>) {
        match (self.signalled, self.behaviour.ends) {
            (Some(exit), _) => (exit, None),
            (None, Ending::Exit(code)) => (Exit::Code(code), None),
            (None, Ending::OutOfMemory) => self.out_of_memory(),
        }
    }

    /// How it ends when the kernel kills it for want of memory.
    pub(crate) fn out_of_memory(&self) -> (Exit, Option<Limitation>) {
        let limit_bytes = self.memory_limit_bytes;
        (Exit::Signal(KILL), Some(Limitation::Memory { limit_bytes }))
    }

    pub(crate) fn end(&mut self, now: Time, exit: Exit, limitation: Option<Limitation>) -> Termination {
        let started_at = match self.stage {
            Stage::Running { since } => since,
            _ => now,
        };
        let cpu_us = u64::try_from(now.since(started_at).as_micros()).unwrap_or(u64::MAX);
        let usage = Usage { cpu_us, ..Usage::default() };
        let termination = Termination { exit: Some(exit), limitation, usage, started_at, finished_at: now };
        self.stage = Stage::Ended(termination.clone());
        termination
    }
}

/// Signal numbers.
pub(crate) const TERM: i32 = 15;
pub(crate) const KILL: i32 = 9;

/// A machine.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// What has reached the disk.
    pub(crate) log: Log,
    /// What is on its way there, in order.
    pub(crate) pending: Vec<(CheckpointId, Record)>,
    /// A write is under way: it takes down what was pending when it began.
    pub(crate) writing: usize,
    pub(crate) containers: BTreeMap<ContainerId, Container>,
    /// The folders of persistent volumes.
    pub(crate) volumes: BTreeSet<VolumeKey>,
    /// How often it was switched off.
    pub(crate) boots: u64,
}

impl Machine {
    /// The write that is under way has ended: the newest record that it took down.
    pub(crate) fn written(&mut self) -> Option<CheckpointId> {
        let written = std::mem::take(&mut self.writing);
        self.persist(written)
    }

    /// The process has died. Of what it had not been told to be on disk, the first `kept` records are there all the same.
    pub(crate) fn process_died(&mut self, kept: usize) {
        self.persist(kept.min(self.pending.len()));
        self.pending.clear();
        self.writing = 0;
        self.containers.retain(|_, container| container.stage != Stage::Made);
        let executors = self.containers.values_mut().filter_map(|container| container.executor.as_mut());
        executors.for_each(|executor| executor.subscribed = false);
    }

    /// The machine has started anew: nothing runs on it. Of what had ended there is an account on its disk.
    pub(crate) fn rebooted(&mut self) {
        self.containers.retain(|_, container| matches!(container.stage, Stage::Ended(_)));
        self.boots += 1;
    }

    fn persist(&mut self, count: usize) -> Option<CheckpointId> {
        let mut newest = None;
        for (checkpoint, record) in self.pending.drain(..count) {
            self.log.apply(record).expect("an agent's records follow from each other");
            newest = Some(checkpoint);
        }
        newest
    }
}
