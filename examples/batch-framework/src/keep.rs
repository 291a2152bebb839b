//! What a job keeps beyond the end of its scheduler: where each of its tasks is.
//!
//! A task is written down before it is launched, and its end before it is acknowledged. So a job whose program is killed at any
//! moment and run again does nothing twice that has ended, and loses nothing.

use std::{collections::BTreeMap, fmt};

use apportion_sdk::{
    Artifact, FrameworkId, Time,
    store::{Changes, Store, StoreError},
};
use serde::{Deserialize, Serialize};

use crate::{
    job::Job,
    output::Fetched,
    state::{Dependency, JobState, Task},
};

/// The record of the job as a whole.
const JOB: &str = "job";

/// What the records of tasks begin with.
const TASK: &str = "task/";

/// What the records of what was fetched of their outputs begin with.
const OUTPUT: &str = "output/";

/// Why a job cannot be kept, or not go on where it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was begun with other tasks.
    #[error(
        "job `{job}` was begun with other tasks than it has now: its file has changed, or what its glob finds; run it as it was, or name \
         another --state"
    )]
    OtherTasks {
        /// The job.
        job: String,
    },
    /// A record is not what was written.
    #[error(
        "the record `{key}` of the job's state is damaged: {why}; name another --state to begin the job anew"
    )]
    Damaged {
        /// Which.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// More tasks may come.
    #[error("job `{job}` is open, and only one whose tasks are all known can be kept")]
    Open {
        /// The job.
        job: String,
    },
}

/// The job as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Whole {
    /// What its tasks do, in short.
    digest: u32,
    /// When it was begun.
    began_at: Time,
    interrupted: bool,
}

/// Keeps one job.
pub struct Keeper {
    store: Box<dyn Store + Sync>,
    whole: Whole,
}

/// Where a job was.
#[derive(Debug)]
pub struct Kept {
    /// Its framework, if it has one.
    pub framework_id: Option<FrameworkId>,
    /// When it was begun.
    pub began_at: Time,
    /// Its tasks.
    pub state: JobState,
    /// What was fetched of the outputs of tasks that have ended, by position.
    pub outputs: BTreeMap<usize, Fetched>,
}

impl Keeper {
    /// Begins to keep a job, or goes on with what is kept of it.
    pub fn open(
        mut store: impl Store + Sync + 'static,
        job: &Job,
        now: Time,
    ) -> Result<(Keeper, Kept), KeepError> {
        if job.open {
            return Err(KeepError::Open { job: job.name.clone() });
        }
        let mut state = JobState::of(job);
        let kept = store.load()?;
        let digest = digest(job);
        let whole = match kept.records.get(JOB) {
            Some(record) => read(JOB, record)?,
            None => {
                let whole = Whole { digest, began_at: now, interrupted: false };
                let mut changes = Changes::default();
                changes.put(JOB, written(&whole));
                store.save(changes)?;
                whole
            }
        };
        if whole.digest != digest {
            return Err(KeepError::OtherTasks { job: job.name.clone() });
        }
        restore_tasks(&mut state, (job, ""), TASK, &kept.records, now)?;
        if whole.interrupted {
            state.interrupt(now, &mut Vec::new());
        }
        let outputs = outputs(&state, job, OUTPUT, &kept.records)?;
        let kept = Kept { framework_id: kept.framework_id, began_at: whole.began_at, state, outputs };
        Ok((Keeper { store: Box::new(store), whole }, kept))
    }

    /// Keeps what has changed of the job. When this returns it lasts.
    pub(crate) fn save(&mut self, state: &mut JobState) -> Result<(), StoreError> {
        let mut changes = Changes::default();
        put_tasks(&mut changes, TASK, state);
        if state.is_interrupted() && !self.whole.interrupted {
            self.whole.interrupted = true;
            changes.put(JOB, written(&self.whole));
        }
        if changes.is_empty() { Ok(()) } else { self.store.save(changes) }
    }

    /// Keeps the id of the framework that the job is, or that it is none any more.
    pub fn save_framework_id(&mut self, framework_id: Option<FrameworkId>) -> Result<(), StoreError> {
        let mut changes = Changes::default();
        changes.framework_id(framework_id);
        self.store.save(changes)
    }

    /// Keeps what was fetched of outputs: those need not be fetched again, even if their agents are gone by then.
    pub(crate) fn save_outputs(&mut self, outputs: &[(usize, Fetched)]) -> Result<(), StoreError> {
        let mut changes = Changes::default();
        for (position, fetched) in outputs {
            changes.put(key(OUTPUT, *position), written(fetched));
        }
        self.store.save(changes)
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("whole", &self.whole).finish_non_exhaustive()
    }
}

/// What the tasks of a job do, in short: not how much of what they may use, which may be other the next time.
fn digest(job: &Job) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(text.as_bytes());
        // No text has it within.
        hasher.update(&[0xff]);
    };
    let mut position = 0;
    for stage in job.stages() {
        add(&stage.image.as_ref().map(ToString::to_string).unwrap_or_default());
        for Dependency { stage, each } in &stage.after {
            add(&format!("after {stage} {each}"));
        }
        for position in position..position + stage.tasks() {
            add(&job.task_name(position));
            job.argv(position).iter().for_each(|argument| add(argument));
            for (name, value) in job.env(position) {
                add(&name);
                add(&value);
            }
            for Artifact { uri, sha256, path, .. } in job.artifacts(position) {
                [uri, sha256.unwrap_or_default(), path.unwrap_or_default()].iter().for_each(|text| add(text));
            }
        }
        position += stage.tasks();
    }
    hasher.finalize()
}

/// Puts the tasks of a job where they were; its records begin with `kind`, the ids of its attempts with `ids`.
pub(crate) fn restore_tasks(
    state: &mut JobState,
    (job, ids): (&Job, &str),
    kind: &str,
    records: &BTreeMap<String, Vec<u8>>,
    now: Time,
) -> Result<(), KeepError> {
    for (position, key) in positions(kind, job, records)? {
        let task: Task = read(key, &records[key])?;
        let id = format!("{ids}{}", job.task_name(position));
        if task.attempts().any(|attempt| !attempt.id.as_str().starts_with(&id)) {
            return Err(damaged(key, "it is about another task"));
        }
        state.restore(position, task, now);
    }
    // Those who take over are told of every end that is known, so of these as well.
    state.settle(&mut Vec::new());
    Ok(())
}

/// What is kept of the outputs of a job's tasks, which are where they were.
pub(crate) fn outputs(
    state: &JobState,
    job: &Job,
    kind: &str,
    records: &BTreeMap<String, Vec<u8>>,
) -> Result<BTreeMap<usize, Fetched>, KeepError> {
    let mut outputs = BTreeMap::new();
    for (position, key) in positions(kind, job, records)? {
        if state.tasks()[position].end().is_none() {
            return Err(damaged(key, "its task has not ended"));
        }
        outputs.insert(position, read(key, &records[key])?);
    }
    Ok(outputs)
}

/// Keeps the tasks that have changed since this was called last.
pub(crate) fn put_tasks(changes: &mut Changes, kind: &str, state: &mut JobState) {
    for position in state.take_changed() {
        changes.put(key(kind, position), written(&state.tasks()[position]));
    }
}

pub(crate) fn key(kind: &str, position: usize) -> String {
    format!("{kind}{position:07}")
}

/// The keys of the records of this kind, each with the position of the task that it is about.
fn positions<'a>(
    kind: &str,
    job: &Job,
    records: &'a BTreeMap<String, Vec<u8>>,
) -> Result<Vec<(usize, &'a str)>, KeepError> {
    let keys = records.range(kind.to_owned()..).map(|(name, _)| name.as_str());
    let position = |name: &str| {
        let position = name[kind.len()..].parse().ok().filter(|position| *position < job.tasks())?;
        (key(kind, position) == name).then_some(position)
    };
    keys.take_while(|name| name.starts_with(kind))
        .map(|name| {
            let position = position(name).ok_or_else(|| damaged(name, "the job has no such task"))?;
            Ok((position, name))
        })
        .collect()
}

pub(crate) fn read<T: for<'a> Deserialize<'a>>(key: &str, record: &[u8]) -> Result<T, KeepError> {
    serde_json::from_slice(record).map_err(|error| damaged(key, &error.to_string()))
}

pub(crate) fn written(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records have texts as keys")
}

pub(crate) fn damaged(key: &str, why: &str) -> KeepError {
    KeepError::Damaged { key: key.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use apportion_sdk::{AgentId, TaskId, store::Memory};

    use super::*;
    use crate::state::{Host, Outcome};

    fn job(command: &str) -> Job {
        let resources = "cpus:1;mem:128".parse().unwrap();
        Job::builder("j").command([command, "${index}"]).resources(resources).count(3).build().unwrap()
    }

    fn host() -> Host {
        Host {
            agent_id: AgentId::new("a1").unwrap(),
            hostname: "one".into(),
            address: "one:5051".into(),
            framework_id: FrameworkId::new("f1").unwrap(),
        }
    }

    #[test]
    fn a_job_is_where_it_was() {
        let store = Memory::default();
        let (mut keeper, mut kept) = Keeper::open(store.clone(), &job("work"), Time::ZERO).unwrap();
        kept.state.launched(0, host(), Time::ZERO);
        kept.state.launched(2, host(), Time::ZERO);
        kept.state.reject(1, "why not".into(), &mut Vec::new());
        keeper.save(&mut kept.state).unwrap();
        keeper.save(&mut kept.state).unwrap();
        keeper.save_framework_id(Some(FrameworkId::new("f1").unwrap())).unwrap();

        let later = Time::from_micros(7);
        let (mut keeper, mut again) = Keeper::open(store.clone(), &job("work"), later).unwrap();
        assert_eq!(again.state.tasks(), kept.state.tasks());
        assert_eq!(again.state.counts(), kept.state.counts());
        assert_eq!(again.state.tasks()[1].end().unwrap().outcome, Outcome::Invalid);
        assert_eq!(again.state.live().map(TaskId::as_str).collect::<Vec<_>>(), ["j-0001", "j-0003"]);
        assert_eq!((again.framework_id.unwrap().as_str(), again.began_at), ("f1", Time::ZERO));
        assert_eq!(again.state.unwanted().count(), 0);

        again.state.interrupt(later, &mut Vec::new());
        keeper.save(&mut again.state).unwrap();
        let fetched = Fetched { tail: Some("last".into()), ..Fetched::default() };
        keeper.save_outputs(&[(1, fetched.clone())]).unwrap();
        let (_, again) = Keeper::open(store, &job("work"), later).unwrap();
        assert_eq!(again.outputs, [(1, fetched)].into());
        assert!(again.state.is_interrupted());
        assert_eq!(again.state.unwanted().count(), 2, "they are to be killed by who takes over");
    }

    #[test]
    fn a_job_with_other_tasks_is_refused() {
        let store = Memory::default();
        Keeper::open(store.clone(), &job("work"), Time::ZERO).unwrap();
        let message = Keeper::open(store, &job("play"), Time::ZERO).unwrap_err().to_string();
        assert!(message.starts_with("job `j` was begun with other tasks than it has now"), "{message}");
        let open = Job::builder("j").command(["true"]).count(1).open().build().unwrap();
        let message = Keeper::open(Memory::default(), &open, Time::ZERO).unwrap_err().to_string();
        assert!(message.starts_with("job `j` is open"), "{message}");
    }

    /// What an earlier version wrote of a job without stages goes on here, byte for byte.
    #[test]
    fn the_older_layout_is_still_read() {
        let host = r#"{"agent_id":"a1","hostname":"one","address":"one:5051","framework_id":"f1"}"#;
        let attempt = |id: &str| {
            format!(
                r#"{{"id":"{id}","host":{host},"launched_at":5,"running_since":null,"timed_out":false,"due":null}}"#
            )
        };
        let mut store = Memory::default();
        let mut changes = Changes::default();
        // The sum of what the tasks do, as it was made then.
        let whole = "\u{0}j-0001\u{0}work\u{0}1\u{0}j-0002\u{0}work\u{0}2\u{0}j-0003\u{0}work\u{0}3\u{0}";
        let bytes: Vec<_> = whole.bytes().map(|byte| if byte == 0 { 0xff } else { byte }).collect();
        let digest = crc32fast::hash(&bytes);
        changes.put("job", format!(r#"{{"digest":{digest},"began_at":3,"interrupted":false}}"#).into());
        let task =
            |phase: &str| format!(r#"{{"launches":1,"failures":0,"losses":1,"phase":{phase}}}"#).into();
        changes.put("task/0000000", task(&format!(r#"{{"Active":{{"attempt":{}}}}}"#, attempt("j-0001"))));
        changes.put("task/0000001", task(r#"{"Paused":{"until":9}}"#));
        let end = format!(
            r#"{{"outcome":"succeeded","last":{},"status":null,"why":"exit code 0"}}"#,
            attempt("j-0003")
        );
        changes.put("task/0000002", task(&format!(r#"{{"Ended":{end}}}"#)));
        store.save(changes).unwrap();
        let (_, kept) = Keeper::open(store, &job("work"), Time::ZERO).unwrap();
        assert_eq!(kept.state.live().map(TaskId::as_str).collect::<Vec<_>>(), ["j-0001"]);
        assert_eq!(kept.state.next_deadline(), Some(Time::from_micros(9)));
        assert_eq!(kept.state.tasks()[2].end().unwrap().outcome, Outcome::Succeeded);
        assert_eq!((kept.state.counts().waiting, kept.state.counts().succeeded), (1, 1));
    }

    /// Counts what is written at each save.
    #[derive(Debug, Default, Clone)]
    struct Counting(std::sync::Arc<std::sync::Mutex<(usize, BTreeMap<String, usize>)>>);

    impl Store for Counting {
        fn load(&self) -> Result<apportion_sdk::store::Kept, StoreError> {
            Ok(apportion_sdk::store::Kept::default())
        }

        fn save(&mut self, changes: Changes) -> Result<(), StoreError> {
            let mut memory = Memory::default();
            memory.save(changes)?;
            let mut counted = self.0.lock().unwrap();
            counted.0 += 1;
            for (key, record) in memory.load()?.records {
                assert!(counted.1.insert(key, record.len()).unwrap_or(0) < 2_000, "records do not grow");
            }
            Ok(())
        }
    }

    /// Of a job with a hundred thousand tasks each change writes what has changed, and no more than of a small one.
    #[test]
    fn a_change_costs_the_same_however_large_the_job_is() {
        let wrote = |tasks: usize| {
            let job = Job::builder("j").command(["work"]).count(tasks).build().unwrap();
            let store = Counting::default();
            let (mut keeper, mut kept) = Keeper::open(store.clone(), &job, Time::ZERO).unwrap();
            let mut written = Vec::new();
            let mut save = |keeper: &mut Keeper, state: &mut JobState| {
                *store.0.lock().unwrap() = (0, BTreeMap::new());
                keeper.save(state).unwrap();
                let counted = store.0.lock().unwrap();
                written.push((counted.0, counted.1.len(), counted.1.values().sum::<usize>()));
            };
            // Those in the middle: names of all sizes are of one length there.
            for position in tasks - 100..tasks {
                kept.state.launched(position, host(), Time::ZERO);
                save(&mut keeper, &mut kept.state);
            }
            written
        };
        let (small, large) = (wrote(1_000), wrote(100_000));
        for (small, large) in small.iter().zip(&large) {
            assert_eq!((large.0, large.1), (1, 1), "one save of one record");
            assert!(large.2 <= small.2 + 8, "{large:?} and {small:?} bytes: the number has more digits");
        }
    }

    #[test]
    fn what_a_stage_waits_for_is_of_what_its_tasks_do() {
        let job = |after: &str| {
            let text =
                format!("name = \"j\"\n[stage.a]\ncommand = \"x\"\n[stage.b]\ncommand = \"x\"\n{after}");
            Job::parse("job.toml".as_ref(), &text, &[], "/".as_ref()).unwrap()
        };
        let sums = ["", "after = [\"a\"]", "after_each = [\"a\"]"].map(|after| digest(&job(after)));
        assert!(sums[0] != sums[1] && sums[1] != sums[2]);
        assert_eq!(digest(&job("memory = 512\nif_failed = \"continue\"")), sums[0], "how much may change");
    }

    #[test]
    fn a_record_that_is_not_what_was_written_is_named() {
        let good = Memory::default();
        let (mut keeper, mut kept) = Keeper::open(good.clone(), &job("work"), Time::ZERO).unwrap();
        kept.state.launched(0, host(), Time::ZERO);
        keeper.save(&mut kept.state).unwrap();
        let records = good.load().unwrap().records;
        let task = records["task/0000000"].clone();
        for (key, value) in [
            ("job", b"{}".to_vec()),
            ("task/0000000", b"{\"launches\":".to_vec()),
            ("task/0000002", task.clone()),
            ("task/0000003", task.clone()),
            ("task/one", task),
            ("output/0000000", b"{}".to_vec()),
            ("output/1", b"{}".to_vec()),
        ] {
            let mut store = Memory::default();
            let mut changes = Changes::default();
            records.iter().for_each(|(key, value)| _ = changes.put(key, value.clone()));
            changes.put(key, value);
            store.save(changes).unwrap();
            let message = Keeper::open(store, &job("work"), Time::ZERO).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("the record `{key}` of the job's state is damaged")),
                "{message}"
            );
        }
    }
}
