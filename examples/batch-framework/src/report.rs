//! What became of a job: the one JSON document of `-o json`, and what the table for people is made from.

use apportion_sdk::{
    Time,
    container::{Exit, Limitation},
};
use serde::{Deserialize, Serialize};

use crate::{
    job::Job,
    output::Fetched,
    state::{Counts, Outcome, Task},
};

/// The version of the document; a field that changes its meaning raises it, a new field does not.
pub const VERSION: u32 = 1;

/// A job that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The job's name.
    pub job: String,
    /// The framework that it was; null when the master was never reached.
    pub framework_id: Option<String>,
    /// `succeeded`, `failed` or `interrupted`.
    pub outcome: String,
    /// When it began, in microseconds since the Unix epoch.
    pub started_at_us: u64,
    /// From its beginning to the end of its last task.
    pub wall_ms: u64,
    /// Of all tasks together.
    pub totals: Totals,
    /// Each task, in the order of the array.
    pub tasks: Vec<TaskReport>,
}

/// Sums over all tasks of a job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// How many there are.
    pub tasks: usize,
    /// How many succeeded.
    pub succeeded: usize,
    /// How many were not run, because a task that they waited for did not succeed.
    pub skipped: usize,
    /// How many ended otherwise.
    pub failed: usize,
    /// How often a task was launched.
    pub launches: u64,
    /// Processor time of the last attempt of each task.
    pub cpu_ms: u64,
    /// The most memory that a task held; null where no agent measures it.
    pub memory_peak_bytes: Option<u64>,
    /// Tasks that ended, for each second of the job.
    pub tasks_per_second: f64,
}

/// A task that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Its name: of the job, with the number of its element.
    pub name: String,
    /// Its stage; null when the job has one only.
    pub stage: Option<String>,
    /// Its element; empty when there is no array.
    pub item: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in a few words for people.
    pub why: String,
    /// What its last attempt returned.
    pub exit_code: Option<i32>,
    /// The signal that ended its last attempt.
    pub exit_signal: Option<i32>,
    /// The reason of its last status, as programs know it.
    pub reason: Option<String>,
    /// How often it was launched.
    pub launches: u32,
    /// How often it failed by itself.
    pub failures: u32,
    /// How often it was lost with its agent, or never reached it.
    pub losses: u32,
    /// The id of its last attempt; null when it was never launched, like the fields below.
    pub task_id: Option<String>,
    /// Where that was.
    pub agent_id: Option<String>,
    /// On which host.
    pub hostname: Option<String>,
    /// From the start of its first process to its end.
    pub wall_ms: Option<u64>,
    /// Processor time of all its processes.
    pub cpu_ms: Option<u64>,
    /// The most memory that it held at once, where it is measured.
    pub memory_peak_bytes: Option<u64>,
    /// The memory limit that ended its last attempt, when one did.
    pub memory_limit_exceeded_bytes: Option<u64>,
    /// The last line of its standard output, shortened.
    pub output_tail: Option<String>,
    /// The file that holds its whole standard output, when the job asked for it.
    pub output_file: Option<String>,
    /// How many files that it left were copied, because the job asked for them.
    pub files_collected: u64,
    /// Why its output could not be fetched or saved.
    pub output_error: Option<String>,
}

impl Report {
    /// Looks at a job whose tasks have all ended, perhaps because it was interrupted. `fetched` is what is known of the output of each, by
    /// position.
    pub fn new(
        job: &Job,
        (tasks, counts, interrupted): (&[Task], Counts, bool),
        fetched: Vec<Fetched>,
        framework_id: Option<String>,
        (started_at, ended_at): (Time, Time),
    ) -> Report {
        assert!(counts.ended() == tasks.len() && fetched.len() == tasks.len(), "a report is made at the end");
        let tasks: Vec<_> = tasks
            .iter()
            .zip(fetched)
            .enumerate()
            .map(|(position, (task, fetched))| TaskReport::new(job, position, task, fetched))
            .collect();
        let wall = ended_at.since(started_at);
        let totals = Totals {
            tasks: counts.total,
            succeeded: counts.succeeded,
            skipped: counts.skipped,
            failed: counts.failed,
            launches: tasks.iter().map(|task| u64::from(task.launches)).sum(),
            cpu_ms: tasks.iter().filter_map(|task| task.cpu_ms).sum(),
            memory_peak_bytes: tasks.iter().filter_map(|task| task.memory_peak_bytes).max(),
            tasks_per_second: counts.ended() as f64 / wall.as_secs_f64().max(0.001),
        };
        let outcome = match (interrupted, counts.failed) {
            (true, _) => "interrupted",
            (false, 0) => "succeeded",
            (false, _) => "failed",
        };
        Report {
            version: VERSION,
            job: job.name.clone(),
            framework_id,
            outcome: outcome.to_owned(),
            started_at_us: started_at.as_micros(),
            wall_ms: millis(wall),
            totals,
            tasks,
        }
    }

    /// Outputs that the job asked for, and that could not be saved.
    pub fn outputs_missing(&self) -> usize {
        self.tasks.iter().filter(|task| task.output_error.is_some()).count()
    }
}

impl TaskReport {
    fn new(job: &Job, position: usize, task: &Task, fetched: Fetched) -> TaskReport {
        let end = task.end().expect("a report is made at the end");
        let last = end.last.as_ref();
        let status = end.status.as_ref();
        let container = status.and_then(|status| status.container.as_ref());
        let (exit_code, exit_signal) = match container.and_then(|container| container.exit) {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        TaskReport {
            name: task.name.clone(),
            stage: Some(job.stage_of(position).name.clone()).filter(|name| !name.is_empty()),
            item: job.item(position),
            outcome: end.outcome,
            why: end.why.clone(),
            exit_code,
            exit_signal,
            reason: status.and_then(|status| status.reason).map(|reason| reason.name().to_owned()),
            launches: task.launches,
            failures: task.failures,
            losses: task.losses,
            task_id: last.map(|attempt| attempt.id.to_string()),
            agent_id: last.map(|attempt| attempt.host.agent_id.to_string()),
            hostname: last.map(|attempt| attempt.host.hostname.clone()),
            wall_ms: container.map(|container| millis(container.finished_at.since(container.started_at))),
            cpu_ms: container.map(|container| container.usage.cpu_us / 1000),
            memory_peak_bytes: container.and_then(|container| container.usage.memory_peak_bytes),
            memory_limit_exceeded_bytes: container
                .and_then(|container| container.limitation)
                .and_then(Limitation::memory_bytes),
            output_tail: fetched.tail,
            output_file: fetched.file.map(|file| file.display().to_string()),
            files_collected: fetched.collected,
            output_error: fetched.error,
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
