//! What a queue keeps beyond its own end: every job, where each of its tasks is, and what was fetched of outputs.
//!
//! ```text
//! queue             the number of the next job
//! job/17            about job 17 as a whole
//! file/17           what it was made of: its file, and what its globs found
//! task/17/0000003   the fourth of its tasks
//! output/17/0000003 what was fetched of that one's output
//! ```

use std::{collections::BTreeMap, fmt, sync::Arc};

use apportion_sdk::{
    FrameworkId, Time,
    store::{Changes, Store, StoreError},
};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, Head, ids};
use crate::{
    job::Submission,
    keep::{self, KeepError},
    queue::JobId,
    state::JobState,
};

const QUEUE: &str = "queue";
const JOB: &str = "job/";
const FILE: &str = "file/";

/// About the queue as a whole.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Whole {
    next: u64,
}

/// Keeps a queue.
pub struct QueueKeeper {
    store: Box<dyn Store + Sync>,
}

/// What was kept.
#[derive(Debug)]
pub struct KeptQueue {
    /// The framework that it was, if any.
    pub framework_id: Option<FrameworkId>,
    pub(super) next: JobId,
    pub(super) entries: BTreeMap<JobId, Entry>,
    /// Jobs that cannot go on, and why. They stay as they are kept: one of them must not keep the others from going on.
    pub(super) aside: Vec<(JobId, String)>,
}

/// What is to be kept from now on.
#[derive(Debug, Default)]
pub(super) struct Draft(Changes);

fn tasks(id: JobId) -> String {
    format!("task/{id}/")
}

fn outputs(id: JobId) -> String {
    format!("output/{id}/")
}

impl Draft {
    pub(super) fn next(&mut self, next: JobId) {
        self.0.put(QUEUE, keep::written(&Whole { next: next.0 }));
    }

    pub(super) fn file(&mut self, id: JobId, submission: &Submission) {
        self.0.put(format!("{FILE}{id}"), keep::written(submission));
    }

    pub(super) fn head(&mut self, id: JobId, head: &Head) {
        self.0.put(format!("{JOB}{id}"), keep::written(head));
    }

    /// What of a job's tasks has changed since this was asked last.
    pub(super) fn tasks(&mut self, id: JobId, state: &mut JobState) {
        keep::put_tasks(&mut self.0, &tasks(id), state);
    }

    pub(super) fn output(&mut self, id: JobId, position: usize, fetched: &crate::output::Fetched) {
        self.0.put(keep::key(&outputs(id), position), keep::written(fetched));
    }

    pub(super) fn no_output(&mut self, id: JobId, position: usize) {
        self.0.remove(keep::key(&outputs(id), position));
    }

    pub(super) fn forget(&mut self, id: JobId, entry: &Entry) {
        self.0.remove(format!("{JOB}{id}")).remove(format!("{FILE}{id}"));
        for position in 0..entry.state.tasks().len() {
            self.0.remove(keep::key(&tasks(id), position));
            self.no_output(id, position);
        }
    }

    pub(super) fn framework_id(&mut self, framework_id: Option<FrameworkId>) {
        self.0.framework_id(framework_id);
    }
}

impl QueueKeeper {
    /// Begins to keep a queue, or goes on with what is kept of it.
    pub fn open(
        store: impl Store + Sync + 'static,
        now: Time,
    ) -> Result<(QueueKeeper, KeptQueue), KeepError> {
        let kept = store.load()?;
        let whole = kept.records.get(QUEUE).map(|record| keep::read(QUEUE, record)).transpose()?;
        let next = JobId(whole.map_or(1, |whole: Whole| whole.next));
        let (mut entries, mut aside) = (BTreeMap::new(), Vec::new());
        for (key, record) in kept.records.range(JOB.to_owned()..) {
            let Some(number) = key.strip_prefix(JOB) else { break };
            let id: JobId = number.parse().map_err(|_| keep::damaged(key, "it is of no job"))?;
            match keep::read(key, record).and_then(|head| entry(id, head, &kept.records, now)) {
                Ok(entry) => _ = entries.insert(id, entry),
                Err(KeepError::Damaged { key, why }) => aside.push((id, format!("{key}: {why}"))),
                Err(error) => return Err(error),
            }
        }
        let kept = KeptQueue { framework_id: kept.framework_id, next, entries, aside };
        Ok((QueueKeeper { store: Box::new(store) }, kept))
    }

    /// Keeps it. When this returns it lasts.
    pub(super) fn save(&mut self, Draft(changes): Draft) -> Result<(), StoreError> {
        if changes.is_empty() { Ok(()) } else { self.store.save(changes) }
    }
}

/// A job as it was.
fn entry(id: JobId, head: Head, records: &BTreeMap<String, Vec<u8>>, now: Time) -> Result<Entry, KeepError> {
    let key = format!("{FILE}{id}");
    let record = records.get(&key).ok_or_else(|| keep::damaged(&key, "it is missing"))?;
    let submission: Submission = keep::read(&key, record)?;
    let mut job = submission.job().map_err(|error| keep::damaged(&key, &error.to_string()))?;
    if let Some(user) = &head.runs_as {
        job.run_as(user);
    }
    let mut state = JobState::of(&job).with_ids(&ids(id));
    keep::restore_tasks(&mut state, (&job, &ids(id)), &tasks(id), records, now)?;
    if head.cancelled {
        state.interrupt(now, &mut Vec::new());
    }
    let outputs = keep::outputs(&state, &job, &outputs(id), records)?;
    Ok(Entry::new(head, Arc::new(job), state, outputs))
}

impl KeptQueue {
    /// Nothing runs of it any more, because its framework is gone: what was under way runs again, as another one's.
    pub fn begin_anew(mut self, keeper: &mut QueueKeeper, why: &str, now: Time) -> Result<(), StoreError> {
        let mut draft = Draft::default();
        for (id, entry) in &mut self.entries {
            entry.state.begin_anew(why, now, &mut Vec::new());
            draft.tasks(*id, &mut entry.state);
        }
        draft.framework_id(None);
        keeper.save(draft)
    }
}

impl fmt::Debug for QueueKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueKeeper").finish_non_exhaustive()
    }
}
