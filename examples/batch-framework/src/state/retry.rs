//! Which failures are worth another attempt, when, and with how much memory.

use std::{collections::BTreeSet, time::Duration};

use apportion_sdk::{
    Reason, TaskStatus,
    container::{Exit, Limitation},
};

/// The pause before the first repetition of a task, unless the job says otherwise; it doubles with each.
pub const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause, unless the job says otherwise.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What a failure was, as far as it decides whether the task is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Its command returned this.
    Code(i32),
    /// A signal ended it that neither the job nor a limit sent.
    Signal,
    /// It held more memory than it may.
    Memory,
    /// It wrote more than it may.
    Disk,
    /// It ran for longer than it may.
    Timeout,
    /// It could not be started: its image, an input or its program was not there.
    Start,
    /// Anything else.
    Other,
}

impl Cause {
    /// Those that a job file can name, beside exit codes.
    pub const NAMED: [(&'static str, Cause); 5] = [
        ("memory", Cause::Memory),
        ("disk", Cause::Disk),
        ("timeout", Cause::Timeout),
        ("signal", Cause::Signal),
        ("start", Cause::Start),
    ];

    /// What a status of a task that failed says. A limit comes before what the command returned: whoever is killed at it returns
    /// something as well.
    pub(super) fn of(status: &TaskStatus, timed_out: bool) -> Cause {
        let container = status.container.as_ref();
        match (container.and_then(|container| container.limitation), status.reason) {
            _ if timed_out => Cause::Timeout,
            (_, Some(Reason::MaxCompletionTime)) => Cause::Timeout,
            (Some(Limitation::Memory { .. }), _) | (_, Some(Reason::ContainerLimitationMemory)) => {
                Cause::Memory
            }
            (Some(Limitation::Disk { .. }), _) | (_, Some(Reason::ContainerLimitationDisk)) => Cause::Disk,
            (
                _,
                Some(
                    Reason::CommandNotExecuted
                    | Reason::ContainerLaunchFailed
                    | Reason::ImageNotAvailable
                    | Reason::ArtifactNotFetched
                    | Reason::NetworkNotAvailable,
                ),
            ) => Cause::Start,
            (None, None | Some(Reason::CommandExited)) => {
                match container.and_then(|container| container.exit) {
                    Some(Exit::Code(code)) => Cause::Code(code),
                    Some(Exit::Signal(_)) => Cause::Signal,
                    None => Cause::Other,
                }
            }
            _ => Cause::Other,
        }
    }
}

/// Which causes are worth another attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum On {
    /// All but running too long: it would most likely take as long once more.
    #[default]
    Any,
    /// These.
    Only(BTreeSet<Cause>),
    /// All but these, and but running too long.
    Never(BTreeSet<Cause>),
}

/// When a task that failed is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// How often.
    pub limit: u32,
    /// The first pause; it doubles with each.
    pub backoff: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// After which causes.
    pub on: On,
    /// How much memory an attempt gets, in thousandths of a MiB: the first to begin with, the next after each time that it was too
    /// little. Empty when it is always as much.
    pub memory_milli: Vec<i64>,
}

impl Default for Retry {
    fn default() -> Self {
        let memory_milli = Vec::new();
        Self { limit: 0, backoff: PAUSE_MIN, backoff_max: PAUSE_MAX, on: On::Any, memory_milli }
    }
}

impl Retry {
    /// So often, whatever the failure was.
    pub fn times(limit: u32) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Whether this cause is worth another attempt at all.
    pub(super) fn allows(&self, cause: Cause) -> bool {
        match &self.on {
            On::Any => cause != Cause::Timeout,
            On::Only(causes) => causes.contains(&cause),
            On::Never(causes) => cause != Cause::Timeout && !causes.contains(&cause),
        }
    }

    /// The pause before a task is launched for the `times`th time after the first.
    pub(super) fn pause(&self, times: u32) -> Duration {
        doubled(self.backoff, times, self.backoff_max)
    }

    /// The next step of memory; none when there is no growth, or no more.
    pub(super) fn next_step(&self, step: u32) -> Option<u32> {
        (step as usize + 1 < self.memory_milli.len()).then_some(step + 1)
    }

    /// Whether it was to grow and has grown as far as it may.
    pub(super) fn is_grown(&self, step: u32) -> bool {
        !self.memory_milli.is_empty() && self.next_step(step).is_none()
    }
}

/// `first`, doubled with each time after the first.
pub(crate) fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    let doublings = times.saturating_sub(1).min(16);
    first.saturating_mul(2u32.pow(doublings)).min(most)
}
