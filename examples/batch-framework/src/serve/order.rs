//! What may be asked of the scheduler of a queue, and what comes of it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use apportion_sdk::{FrameworkId, Resources};
use tokio::sync::oneshot;

use super::{
    entry::{Entry, Head},
    peer::Peer,
    view::{JobView, Overview},
};
use crate::{
    job::{Job, Submission},
    output::Fetched,
    queue::{Full, JobId},
    state::{Class, Task},
};

/// Something that is asked of the scheduler, by a user or by the program around it.
#[derive(Debug)]
pub enum Order {
    /// Take in a job.
    Submit(Box<Submit>),
    /// End a job: kill what runs, launch nothing more of it.
    Cancel {
        /// Which.
        job: JobId,
        /// For whom.
        by: Peer,
    },
    /// Run again what did not succeed of a job that has ended, and fetch again the outputs that could not be fetched.
    Retry {
        /// Which.
        job: JobId,
        /// For whom.
        by: Peer,
    },
    /// Say how the queue is.
    List,
    /// Say what is known of a job, and of [so many](Snapshot::TASKS_MAX) of its tasks from this position on.
    Show(JobId, usize),
    /// No agent could ever run what waits of this size, or all of a gang, and why.
    GiveUp(JobId, Class, String),
    /// The same of a job that waits for larger agents; none when it is so no more.
    Note(JobId, Option<String>),
    /// What all agents have together.
    Total(Resources),
    /// This was fetched of outputs.
    Fetched(Vec<(JobId, usize, Fetched)>),
}

/// A job to be taken in.
#[derive(Debug)]
pub struct Submit {
    /// Whose it will be.
    pub user: String,
    /// As whom its tasks run, whatever the file says.
    pub runs_as: Option<String>,
    /// Among the jobs of this user.
    pub priority: i32,
    /// Whether it waits when no agent is large enough, instead of failing.
    pub waits: bool,
    /// What it was made of.
    pub submission: Submission,
    /// What was made of that.
    pub job: Job,
}

/// What came of an order.
#[derive(Debug)]
pub enum Answer {
    /// It is done, and written down.
    Done,
    /// The job has this number.
    Taken(JobId),
    /// A job goes on that had ended.
    Again {
        /// So many of its tasks run again.
        tasks: usize,
        /// So many outputs of others are fetched again.
        outputs: usize,
    },
    /// The queue.
    Overview(Box<Overview>),
    /// A job.
    Job(Box<Snapshot>),
}

/// What is known of a job and of some of its tasks, at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// In short.
    pub view: JobView,
    /// About it as a whole.
    pub head: Head,
    /// What it does.
    pub job: Arc<Job>,
    /// The tasks, from the position that was asked for.
    pub tasks: Vec<Task>,
    /// What was fetched of their outputs, by position.
    pub outputs: BTreeMap<usize, Fetched>,
    /// The framework that the queue is.
    pub framework_id: Option<FrameworkId>,
}

impl Snapshot {
    /// Tasks that are told at once: everything else that the scheduler hears meanwhile waits for no more than that.
    pub const TASKS_MAX: usize = 1_000;

    pub(super) fn of(id: JobId, entry: &Entry, from: usize, framework_id: Option<FrameworkId>) -> Self {
        let tasks = entry.state.tasks().iter().skip(from).take(Self::TASKS_MAX);
        let outputs = entry.outputs.range(from..from.saturating_add(Self::TASKS_MAX));
        Self {
            view: JobView::of(id, entry),
            head: entry.head.clone(),
            job: Arc::clone(&entry.job),
            tasks: tasks.cloned().collect(),
            outputs: outputs.map(|(position, fetched)| (*position, fetched.clone())).collect(),
            framework_id,
        }
    }

    /// From which position on tasks are still to be asked for, and [added](Snapshot::add); none when all are here.
    pub fn next(&self) -> Option<usize> {
        Some(self.tasks.len()).filter(|here| *here < self.job.tasks())
    }

    /// Adds the tasks from the [next](Snapshot::next) position on, which are told as they were a little later. Not so when the job has ended
    /// meanwhile, or runs again: then all are to be asked for anew, so that what is told is of one side of its end.
    pub fn add(&mut self, part: Snapshot) {
        let Snapshot { view, head, mut tasks, mut outputs, .. } = part;
        if head.ended_at == self.head.ended_at {
            self.tasks.append(&mut tasks);
            self.outputs.append(&mut outputs);
        } else {
            self.tasks.clear();
            self.outputs.clear();
        }
        (self.view, self.head) = (view, head);
    }
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such job.
    #[error(
        "there is no job {0}: it never was, or ended so long ago that it is forgotten; `apportion batch ls` lists those that are known"
    )]
    Unknown(JobId),
    /// There are too many.
    #[error(transparent)]
    Full(#[from] Full),
    /// It is over.
    #[error(
        "job {job} has ended ({outcome}), so there is nothing to cancel; `apportion batch show {job}` says how its tasks did"
    )]
    Ended {
        /// Which.
        job: JobId,
        /// How.
        outcome: &'static str,
    },
    /// It is not over.
    #[error(
        "job {0} has not ended, and tries again by itself what its file says; wait for its end, or `apportion batch cancel {0}` first"
    )]
    Runs(JobId),
    /// There is nothing to run again.
    #[error(
        "every task of job {0} succeeded, and what was to be fetched of their outputs is here, so there is nothing to do again; `apportion batch submit` runs all of a job anew"
    )]
    AllSucceeded(JobId),
    /// Another job that has not ended writes the same files.
    #[error(
        "job {job} has not ended, and saves outputs under the same name in {}; choose another folder, such as by `output = \"out/${{run}}\"`, \
         run = \"1\" in [params] and --set run=2, or wait for its end",
        output.display()
    )]
    SameOutput {
        /// Which.
        job: JobId,
        /// Where.
        output: PathBuf,
    },
    /// It is somebody else's.
    #[error(
        "job {job} is of user `{user}`, and `{by}` may not change it; only they, root and the user who serves may"
    )]
    NotYours {
        /// Which.
        job: JobId,
        /// Whose.
        user: String,
        /// Who asked.
        by: String,
    },
    /// A gang that would never start.
    #[error(
        "stage `{stage}` is a gang of {tasks} tasks, and user `{user}` may have {most} at a time (--user-tasks-max); make it smaller"
    )]
    GangOverLimit {
        /// Of which stage.
        stage: String,
        /// Its size.
        tasks: usize,
        /// Whose.
        user: String,
        /// The limit.
        most: usize,
    },
}

/// An order, and who waits for what comes of it.
#[derive(Debug)]
pub struct Request {
    pub(super) order: Order,
    pub(super) reply: Option<oneshot::Sender<Result<Answer, Refused>>>,
}

impl Request {
    /// An order, and what will come of it: told once it is written down. Nothing is told when the scheduler ends before.
    pub fn new(order: Order) -> (Self, oneshot::Receiver<Result<Answer, Refused>>) {
        let (reply, answer) = oneshot::channel();
        (Self { order, reply: Some(reply) }, answer)
    }
}

/// An order for whose answer nobody waits.
impl From<Order> for Request {
    fn from(order: Order) -> Self {
        Self { order, reply: None }
    }
}
