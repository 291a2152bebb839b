//! What happens in a queue, as lines for people or for programs.

use std::fmt;

use serde::Serialize;

use crate::queue::JobId;

/// Something that happened, and to which job; to the queue as a whole when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// When, in microseconds since the Unix epoch.
    pub at_us: u64,
    /// The job's number.
    pub job: Option<JobId>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Something that happened. As JSON, one object for each line, named by its `event`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Orders are taken, and who may look over the network.
    Serving {
        /// The socket for orders.
        socket: String,
        /// `host:port` for looking, if there is one.
        http: Option<String>,
    },
    /// The subscription stands.
    Subscribed {
        /// As this framework.
        framework_id: String,
        /// Jobs that have not ended.
        jobs: usize,
    },
    /// The connection is lost; a new one is being opened, and tasks run on.
    Disconnected {
        /// Why.
        why: String,
    },
    /// A job was taken in.
    Submitted {
        /// Its name.
        name: String,
        /// Whose.
        user: String,
        /// Among theirs.
        priority: i32,
        /// How many tasks it has.
        tasks: usize,
    },
    /// The first of its tasks is on its way to an agent.
    Started {
        /// After so long in the queue.
        waited_ms: u64,
    },
    /// A task will run again.
    Again {
        /// Its name.
        task: String,
        /// Why.
        why: String,
    },
    /// A second copy of a task is wanted.
    Copy {
        /// Its name.
        task: String,
        /// Why.
        why: String,
    },
    /// A task has ended.
    TaskEnded {
        /// Its name.
        task: String,
        /// How.
        outcome: &'static str,
        /// Why, in a few words.
        why: String,
    },
    /// Why a job waits, or will not run.
    Note {
        /// For people.
        why: String,
    },
    /// Somebody ended it.
    Cancelled {
        /// Who.
        by: String,
    },
    /// What did not succeed runs again.
    Retried {
        /// Who wanted that.
        by: String,
        /// How many tasks.
        tasks: usize,
        /// How many outputs of other tasks, which could not be fetched before, are asked for again.
        outputs: usize,
    },
    /// It is over.
    Ended {
        /// How: `succeeded`, `failed` or `cancelled`.
        outcome: &'static str,
        /// Tasks that succeeded.
        succeeded: usize,
        /// Tasks that were not run because of others.
        skipped: usize,
        /// Tasks that ended otherwise.
        failed: usize,
    },
    /// Events were left out here, because nobody read them for long.
    Missed {
        /// How many.
        events: u64,
    },
    /// It ended so long ago that nothing of it is kept any more.
    Forgotten,
}

impl Event {
    /// Whether people want a line of it. That each of ten thousand tasks succeeded is no news; programs get it all the same.
    pub fn is_for_people(&self) -> bool {
        !matches!(self, Event::TaskEnded { outcome: "succeeded" | "skipped", .. })
    }
}

/// The line for people.
impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(job) = self.job {
            write!(f, "job {job}: ")?;
        }
        match &self.event {
            Event::Serving { socket, http: None } => write!(f, "serving at {socket}"),
            Event::Serving { socket, http: Some(http) } => {
                write!(f, "serving at {socket}, and to look at http://{http}")
            }
            Event::Subscribed { framework_id, jobs } => {
                write!(f, "subscribed as framework {framework_id}; {jobs} jobs in the queue")
            }
            Event::Disconnected { why } => write!(f, "the master is lost: {why}; tasks run on, trying again"),
            Event::Submitted { name, user, priority, tasks } => {
                write!(f, "{name} of {user}, {tasks} tasks, priority {priority}")
            }
            Event::Started { waited_ms } => write!(f, "started, after {waited_ms} ms"),
            Event::Again { task, why } => write!(f, "{task} will run again: {why}"),
            Event::Copy { task, why } => write!(f, "{task} gets a second copy: {why}"),
            Event::TaskEnded { task, outcome, why } => write!(f, "{task} {outcome}: {why}"),
            Event::Note { why } => f.write_str(why),
            Event::Cancelled { by } => write!(f, "cancelled by {by}"),
            Event::Retried { by, tasks, outputs } => {
                write!(f, "{tasks} tasks run again, {outputs} outputs are fetched again, for {by}")
            }
            Event::Ended { outcome, succeeded, skipped, failed } => {
                write!(f, "{outcome}: {succeeded} tasks succeeded, {failed} did not, {skipped} skipped")
            }
            Event::Missed { events } => write!(f, "{events} events are left out here: nobody read them"),
            Event::Forgotten => f.write_str("forgotten"),
        }
    }
}
