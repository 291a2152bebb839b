//! One task of a job, and its attempts.

use apportion_sdk::{AgentId, FrameworkId, TaskId, TaskStatus, Time};
use serde::{Deserialize, Serialize};

/// The agent on which an attempt was launched, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its id.
    pub agent_id: AgentId,
    /// Its host's name.
    pub hostname: String,
    /// Where it serves sandboxes: `host:port`.
    pub address: String,
    /// The framework that the job was then: under its id the agent has the sandbox.
    pub framework_id: FrameworkId,
}

/// One launch of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its own id, never used before.
    pub id: TaskId,
    /// Where it was launched.
    pub host: Host,
    /// When the offer was accepted.
    pub launched_at: Time,
    /// When its first sign of running came.
    pub running_since: Option<Time>,
    /// Killed for having run too long.
    pub(super) timed_out: bool,
    /// When it is to be killed for having run too long.
    pub(super) due: Option<Time>,
}

/// What became of an attempt that did not decide its task's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It failed by itself.
    Failed,
    /// It was lost with its agent, or never reached it.
    Lost,
    /// Another copy was faster, or the task was to end.
    Superseded,
}

/// An attempt that is over and did not decide its task's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Where it was.
    pub hostname: String,
    /// When it was launched, or first heard to run.
    pub from: Time,
    /// When its end was heard of.
    pub until: Time,
    /// What became of it.
    pub fate: Fate,
}

/// So many are remembered of a task: one that is lost again and again must not grow without bound.
const PAST_MAX: usize = 8;

/// How a task ended, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its command returned 0.
    Succeeded,
    /// Its last attempt failed.
    Failed,
    /// An attempt ran for longer than the job allows.
    TimedOut,
    /// Somebody other than the job killed it.
    Killed,
    /// The job was interrupted before it ended.
    Interrupted,
    /// The master or the agent refused its description.
    Invalid,
    /// No agent is large enough for it.
    Unplaceable,
    /// A task that it waited for did not succeed.
    Skipped,
}

impl Outcome {
    /// The name shown to people and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::Killed => "killed",
            Outcome::Interrupted => "interrupted",
            Outcome::Invalid => "invalid",
            Outcome::Unplaceable => "unplaceable",
            Outcome::Skipped => "skipped",
        }
    }
}

/// The end of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How.
    pub outcome: Outcome,
    /// The attempt that decided it; none when the task was waiting.
    pub last: Option<Attempt>,
    /// The status that decided it; none when the task was waiting.
    pub status: Option<TaskStatus>,
    /// Why, in a few words for people.
    pub why: String,
    /// When it was heard of; none of a task that waited.
    #[serde(default)]
    pub at: Option<Time>,
}

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Waits for other tasks. How those ended tells whether it still does, whatever is written down.
    Blocked,
    Ready,
    Paused {
        until: Time,
    },
    Active {
        attempt: Attempt,
        /// A second one elsewhere, launched because this takes long.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        copy: Option<Box<Attempt>>,
    },
    Ended(Box<End>),
}

/// One task of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its name, and the id of its first attempt.
    #[serde(skip)]
    pub name: String,
    /// How often it was launched.
    pub launches: u32,
    /// Launches that ended by the task's own failure; at most the retries and one.
    pub failures: u32,
    /// Launches that were lost with their agent, or never reached it.
    pub losses: u32,
    /// How many steps its memory has grown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub memory_step: u32,
    /// Earlier attempts, the last few of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<Past>,
    pub(super) phase: Phase,
}

impl Task {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            launches: 0,
            failures: 0,
            losses: 0,
            memory_step: 0,
            past: Vec::new(),
            phase: Phase::Blocked,
        }
    }

    /// The attempt under way.
    pub fn attempt(&self) -> Option<&Attempt> {
        match &self.phase {
            Phase::Active { attempt, .. } => Some(attempt),
            _ => None,
        }
    }

    /// All attempts under way: of one that takes long there may be two.
    pub fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        let (attempt, copy) = match &self.phase {
            Phase::Active { attempt, copy } => (Some(attempt), copy.as_deref()),
            _ => (None, None),
        };
        attempt.into_iter().chain(copy)
    }

    /// How it ended, when it has.
    pub fn end(&self) -> Option<&End> {
        match &self.phase {
            Phase::Ended(end) => Some(end),
            _ => None,
        }
    }

    pub(super) fn timed_out(&self) -> bool {
        self.attempt().is_some_and(|attempt| attempt.timed_out)
    }

    /// `checksum-0001`, then `checksum-0001.r2`, `.r3`: a person sees at once that it is the same task.
    pub(super) fn next_id(&self, ids: &str) -> TaskId {
        let text = match self.launches {
            0 => format!("{ids}{}", self.name),
            before => format!("{ids}{}.r{}", self.name, before + 1),
        };
        TaskId::new(text).expect("names of jobs are checked to begin task ids, with room for a suffix")
    }

    pub(super) fn begin(&mut self, id: TaskId, host: Host, now: Time) {
        let attempt = self.attempt_at(id, host, now);
        self.phase = Phase::Active { attempt, copy: None };
    }

    pub(super) fn begin_copy(&mut self, id: TaskId, host: Host, now: Time) {
        let second = self.attempt_at(id, host, now);
        let Phase::Active { copy, .. } = &mut self.phase else { unreachable!("a copy is of what runs") };
        *copy = Some(Box::new(second));
    }

    fn attempt_at(&mut self, id: TaskId, host: Host, now: Time) -> Attempt {
        self.launches += 1;
        Attempt { id, host, launched_at: now, running_since: None, timed_out: false, due: None }
    }

    /// Remembers an attempt that is over.
    pub(super) fn remember(&mut self, attempt: Attempt, fate: Fate, now: Time) {
        let from = attempt.running_since.unwrap_or(attempt.launched_at);
        if self.past.len() == PAST_MAX {
            self.past.remove(0);
        }
        self.past.push(Past { hostname: attempt.host.hostname, from, until: now, fate });
    }
}

/// Most records are of tasks whose memory never grows.
fn is_zero(number: &u32) -> bool {
    *number == 0
}
