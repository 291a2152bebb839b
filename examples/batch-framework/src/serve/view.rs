//! A queue and its jobs as JSON, for `-o json` and for pages; fields are only ever added.

use std::collections::BTreeMap;

use apportion_sdk::{Resources, Time};
use serde::{Deserialize, Serialize};

use super::{
    entry::{Entry, Phase},
    order::Snapshot,
    scheduler::Waited,
};
use crate::{
    job::Stage,
    queue::{Held, JobId, Queue, Share},
    state::{Class, Counts, Outcome},
};

/// The version of these documents; a field that changes its meaning raises it, a new field does not.
pub const VERSION: u32 = 1;

/// The whole queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// [`VERSION`].
    pub version: u32,
    /// The framework that it is; null before the first subscription.
    pub framework_id: Option<String>,
    /// Each job that is known, in the order in which they came.
    pub jobs: Vec<JobView>,
    /// Each user who has one, by name.
    pub users: Vec<UserView>,
    /// How long jobs waited, for metrics; not part of the document.
    #[serde(skip)]
    pub(super) waits: BTreeMap<String, Waited>,
}

/// A job, in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its number.
    pub id: JobId,
    /// Its name, which others may have too.
    pub name: String,
    /// Whose it is.
    pub user: String,
    /// Among theirs: the greater number first.
    pub priority: i32,
    /// Where it is.
    pub state: Phase,
    /// What its tasks do.
    pub tasks: Counts,
    /// How often a task of it was launched.
    pub attempts: u64,
    /// In microseconds since the Unix epoch.
    pub submitted_at_us: u64,
    /// When the first of its tasks was launched.
    pub launched_at_us: Option<u64>,
    /// When it was over.
    pub ended_at_us: Option<u64>,
    /// Why it waits, if there is more to say than that it does.
    pub note: Option<String>,
}

/// A user of the queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserView {
    /// Their name.
    pub user: String,
    /// How much more than others they get.
    pub weight: u32,
    /// The part of the cluster that they hold of what they hold most of, for their weight: who has the least is next.
    pub dominant_share: f64,
    /// What their tasks hold.
    pub held: String,
    /// Their jobs that have not ended.
    pub jobs: usize,
    /// Their tasks that are on agents.
    pub tasks_running: usize,
    /// Their tasks that wait.
    pub tasks_waiting: usize,
}

/// A job with all that belongs to it. Of a large one that has not ended the last tasks are told as they were a little later than the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// In short.
    #[serde(flatten)]
    pub job: JobView,
    /// The folder for its outputs.
    pub output: Option<String>,
    /// Its stages, in the order of its file.
    pub stages: Vec<StageView>,
    /// Its tasks, in the order of its stages.
    pub tasks_all: Vec<TaskView>,
}

/// A stage of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageView {
    /// Its name; empty when it is all of the job.
    pub name: String,
    /// What each of its tasks asks for, to begin with.
    pub resources: String,
    /// Whether its tasks start together.
    pub gang: bool,
    /// What its tasks do.
    pub tasks: Counts,
}

/// A task of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    /// Its name.
    pub name: String,
    /// Its element; empty when there is no array.
    pub item: String,
    /// `waiting`, `running`, or how it ended.
    pub state: String,
    /// Why it ended so, in a few words.
    pub why: Option<String>,
    /// How often it was launched.
    pub attempts: u32,
    /// The id of its last attempt, if that counts.
    pub task_id: Option<String>,
    /// The framework that launched it: under its id the agent has the sandbox.
    pub framework_id: Option<String>,
    /// On which host.
    pub hostname: Option<String>,
    /// Where that serves sandboxes: `host:port`.
    pub address: Option<String>,
    /// Since when it was heard to run.
    pub running_since_us: Option<u64>,
    /// When its end was heard of.
    pub ended_at_us: Option<u64>,
    /// The last line of its standard output.
    pub output_tail: Option<String>,
    /// The file that holds its whole standard output.
    pub output_file: Option<String>,
    /// Why its output could not be fetched or saved.
    pub output_error: Option<String>,
}

/// Tasks of one size that wait: what the program looks for an agent for.
#[derive(Debug, Clone, PartialEq)]
pub struct Waits {
    /// Of which size.
    pub class: Class,
    /// The stage's name; empty when it is all of the job.
    pub stage: String,
    /// What each asks for.
    pub needs: Resources,
    /// How many are to find room together; 1 of what is no gang.
    pub together: usize,
    /// Whether the job waits for larger agents.
    pub waits: bool,
    /// Whether anything of the job was ever launched.
    pub launched: bool,
}

impl Waits {
    pub(super) fn of(entry: &Entry, (class, together): (Class, usize)) -> Self {
        let stage = &entry.job.stages()[class.stage];
        Self {
            class,
            stage: stage.name.clone(),
            needs: stage.resources(class.step),
            together,
            waits: entry.head.waits,
            launched: entry.head.launched_at.is_some(),
        }
    }
}

impl Overview {
    pub(super) fn new<'a>(
        jobs: impl Iterator<Item = (JobId, &'a Entry)>,
        queue: &Queue,
        (mut held, total): (BTreeMap<String, Held>, &Resources),
        waits: &BTreeMap<String, Waited>,
    ) -> Self {
        let jobs: Vec<JobView> = jobs.map(|(id, entry)| JobView::of(id, entry)).collect();
        let mut users: BTreeMap<String, UserView> = BTreeMap::new();
        for job in &jobs {
            let user = users.entry(job.user.clone()).or_insert_with(|| {
                let held = held.remove(&job.user).unwrap_or_default();
                let weight = queue.weight(&job.user);
                UserView {
                    user: job.user.clone(),
                    weight,
                    dominant_share: Share::of(&held.resources, total, weight).fraction(),
                    held: held.resources.to_string(),
                    jobs: 0,
                    tasks_running: 0,
                    tasks_waiting: 0,
                }
            });
            user.jobs += usize::from(!job.state.is_over());
            user.tasks_running += job.tasks.active;
            user.tasks_waiting += job.tasks.waiting;
        }
        let users = users.into_values().collect();
        Self { version: VERSION, framework_id: None, jobs, users, waits: waits.clone() }
    }
}

impl JobView {
    pub(super) fn of(id: JobId, entry: &Entry) -> Self {
        let (head, state) = (&entry.head, &entry.state);
        Self {
            id,
            name: entry.job.name.clone(),
            user: head.ticket.user.clone(),
            priority: head.ticket.priority,
            state: entry.phase(),
            tasks: state.counts(),
            attempts: state.launches(),
            submitted_at_us: head.submitted_at.as_micros(),
            launched_at_us: head.launched_at.map(Time::as_micros),
            ended_at_us: head.ended_at.map(Time::as_micros),
            note: entry.note.clone(),
        }
    }
}

impl Details {
    /// All of it, when all tasks are [here](Snapshot::next).
    pub fn new(of: &Snapshot) -> Self {
        let tasks_all: Vec<_> = (0..of.tasks.len()).map(|position| TaskView::new(of, position)).collect();
        let mut rest = tasks_all.iter();
        let stage = |stage: &Stage| StageView::new(stage, rest.by_ref().take(stage.tasks()));
        let stages = of.job.stages().iter().map(stage).collect();
        let output = of.job.output.as_ref().map(|folder| folder.display().to_string());
        Self { job: of.view.clone(), output, stages, tasks_all }
    }
}

impl StageView {
    fn new<'a>(stage: &Stage, tasks: impl Iterator<Item = &'a TaskView>) -> Self {
        let mut counts = Counts { total: stage.tasks(), ..Counts::default() };
        for task in tasks {
            *match task.state.as_str() {
                "waiting" => &mut counts.waiting,
                "running" => &mut counts.active,
                "succeeded" => &mut counts.succeeded,
                "skipped" => &mut counts.skipped,
                _ => &mut counts.failed,
            } += 1;
        }
        Self {
            name: stage.name.clone(),
            resources: stage.resources.to_string(),
            gang: stage.gang,
            tasks: counts,
        }
    }
}

impl TaskView {
    fn new(of: &Snapshot, position: usize) -> Self {
        let task = &of.tasks[position];
        let (end, fetched) = (task.end(), of.outputs.get(&position));
        let attempt = task.attempt().or(end.and_then(|end| end.last.as_ref()));
        let state = match (end, task.attempt()) {
            (Some(end), _) => end.outcome.name(),
            (None, Some(_)) => "running",
            (None, None) => "waiting",
        };
        Self {
            name: task.name.clone(),
            item: of.job.item(position),
            state: state.to_owned(),
            why: end.map(|end| end.why.clone()),
            attempts: task.launches,
            task_id: attempt.map(|attempt| attempt.id.to_string()),
            framework_id: attempt.map(|attempt| attempt.host.framework_id.to_string()),
            hostname: attempt.map(|attempt| attempt.host.hostname.clone()),
            address: attempt.map(|attempt| attempt.host.address.clone()),
            running_since_us: attempt.and_then(|attempt| attempt.running_since).map(Time::as_micros),
            ended_at_us: end.and_then(|end| end.at).map(Time::as_micros),
            output_tail: fetched.and_then(|fetched| fetched.tail.clone()),
            output_file: fetched.and_then(|fetched| Some(fetched.file.as_ref()?.display().to_string())),
            output_error: fetched.and_then(|fetched| fetched.error.clone()),
        }
    }

    /// Whether it has not ended well.
    pub fn is_bad(&self) -> bool {
        !["waiting", "running", Outcome::Succeeded.name()].contains(&self.state.as_str())
    }
}
