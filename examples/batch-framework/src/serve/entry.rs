//! One job of the queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use apportion_sdk::Time;
use serde::{Deserialize, Serialize};

use crate::{
    job::Job,
    output::{Fetched, may_be_fetched},
    queue::{JobId, Ticket},
    state::{Class, JobState},
};

/// What is known of a job as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Whose it is, and how urgent among theirs.
    #[serde(flatten)]
    pub ticket: Ticket,
    /// As whom its tasks run, whatever its file says.
    pub runs_as: Option<String>,
    /// When it was taken in.
    pub submitted_at: Time,
    /// When the first of its tasks was launched.
    pub launched_at: Option<Time>,
    /// When it was over: all tasks have ended, and their outputs are here.
    pub ended_at: Option<Time>,
    /// Somebody wants it to end.
    pub cancelled: bool,
    /// It waits when no agent is large enough.
    pub waits: bool,
}

/// Where a job is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing of it was launched.
    Waiting,
    /// Some of it was.
    Running,
    /// All tasks have ended, and what they left is being fetched.
    Collecting,
    /// Over, and every task succeeded.
    Succeeded,
    /// Over, and some did not.
    Failed,
    /// Over, because somebody wanted it.
    Cancelled,
}

impl Phase {
    /// Each, in the order in which a job comes through them.
    pub const ALL: [Phase; 6] = [
        Phase::Waiting,
        Phase::Running,
        Phase::Collecting,
        Phase::Succeeded,
        Phase::Failed,
        Phase::Cancelled,
    ];

    /// The name shown to people and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Waiting => "waiting",
            Phase::Running => "running",
            Phase::Collecting => "collecting",
            Phase::Succeeded => "succeeded",
            Phase::Failed => "failed",
            Phase::Cancelled => "cancelled",
        }
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed | Phase::Cancelled)
    }
}

/// One job.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) head: Head,
    pub(super) job: Arc<Job>,
    pub(super) state: JobState,
    /// What was fetched of outputs, by position.
    pub(super) outputs: BTreeMap<usize, Fetched>,
    /// Tasks that ran and have ended, and whose outputs are yet to be fetched.
    pub(super) unfetched: BTreeSet<usize>,
    /// Since when it has found no room for something that could start.
    pub(super) short_since: Option<Time>,
    /// Why it waits, if there is more to say than that it does.
    pub(super) note: Option<String>,
    /// When it has something to do next.
    pub(super) due: Option<Time>,
    /// Of which sizes something could start, when this was looked at last.
    pub(super) sizes: Vec<Class>,
    /// Of which sizes tasks wait, how many of each together, and whether any was ever launched, as it was told last.
    pub(super) told: (Vec<(Class, usize)>, bool),
}

/// What the ids of a job's tasks begin with: jobs may have one name, but never one number.
pub(super) fn ids(id: JobId) -> String {
    format!("{id}.")
}

/// The job of a task, by its id.
pub(super) fn job_of(task: &str) -> Option<JobId> {
    task.split_once('.')?.0.parse().ok()
}

impl Entry {
    pub(super) fn new(head: Head, job: Arc<Job>, state: JobState, outputs: BTreeMap<usize, Fetched>) -> Self {
        let mut entry = Self {
            head,
            job,
            state,
            outputs,
            unfetched: BTreeSet::new(),
            short_since: None,
            note: None,
            due: None,
            sizes: Vec::new(),
            told: Default::default(),
        };
        entry.look_for_outputs();
        if entry.head.ended_at.is_some() {
            entry.note = entry.outputs_missing();
        }
        entry
    }

    /// What to know of a job that is over: outputs that could not be fetched.
    pub(super) fn outputs_missing(&self) -> Option<String> {
        let missing = self.outputs.values().filter(|fetched| fetched.error.is_some()).count();
        (missing > 0).then(|| {
            format!("outputs of {missing} tasks are missing; `batch show` says why, `batch retry` fetches them again")
        })
    }

    /// Whose outputs are yet to be fetched, from the ends of all tasks.
    pub(super) fn look_for_outputs(&mut self) {
        let ended = (0..self.state.tasks().len()).filter(|position| self.lacks_output(*position));
        self.unfetched = ended.collect();
    }

    /// Whether a task has ended whose output is yet to be fetched.
    pub(super) fn lacks_output(&self, position: usize) -> bool {
        self.state.tasks()[position].end().is_some_and(may_be_fetched)
            && !self.outputs.contains_key(&position)
    }

    /// Where it is.
    pub(super) fn phase(&self) -> Phase {
        let counts = self.state.counts();
        match (self.head.ended_at, self.head.launched_at) {
            (Some(_), _) if self.head.cancelled => Phase::Cancelled,
            (Some(_), _) if counts.succeeded == counts.total => Phase::Succeeded,
            (Some(_), _) => Phase::Failed,
            (None, _) if self.state.is_done() => Phase::Collecting,
            (None, Some(_)) => Phase::Running,
            (None, None) => Phase::Waiting,
        }
    }
}
