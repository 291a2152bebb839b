//! What the records of a log come to: what a new process of the agent is to know, and what of the log still matters.

use std::collections::{BTreeMap, VecDeque};

use apportion_types::{
    AgentId, FrameworkId, OperationId, OperationStatus, Resources, TaskId, TaskStatus, UpdateId,
    protocol::agent::AgentOperation,
};

use crate::{
    action::Record,
    event::{Recovered, RecoveredTask, TaskKey, TaskRecord},
    state::outcome::OperationKey,
};

/// The sum of a log's records, in the order in which they were written.
///
/// Whoever keeps the log, on a disk or in a simulator's memory, adds each record here: [`Log::recovered`] is what the next process
/// begins with, [`Log::records`] the log without all that is over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    agent_id: Option<AgentId>,
    /// What the agent had when an operation had changed that last.
    total: Option<Resources>,
    /// What became of operations, as far as it is not acknowledged.
    outcomes: BTreeMap<OperationKey, OperationStatus>,
    tasks: BTreeMap<TaskKey, TaskLog>,
}

/// What a log says of one task that is not acknowledged as ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct TaskLog {
    /// Absent for a task that the agent never had.
    task: Option<Box<TaskRecord>>,
    /// The newest update that was acknowledged.
    acknowledged: Option<TaskStatus>,
    /// Updates that were not, the oldest first.
    updates: VecDeque<TaskStatus>,
}

/// Why a record does not follow from those before it: it was not written by an [`AgentCore`](crate::AgentCore), or one is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A task is taken on a second time.
    #[error("task `{task_id}` is there already and has not ended")]
    TaskExists {
        /// The task.
        task_id: TaskId,
    },
    /// An update that nobody could ever acknowledge.
    #[error("update of task `{task_id}` has no update id")]
    NoUpdateId {
        /// The task.
        task_id: TaskId,
    },
    /// An acknowledgement of something else than the oldest update of its task.
    #[error("acknowledgement does not name the head of the update stream of task `{task_id}`")]
    NotTheHead {
        /// The task.
        task_id: TaskId,
        /// What was acknowledged.
        update_id: UpdateId,
    },
    /// What became of an operation is not known, not to be acknowledged, or told already.
    #[error("outcome of operation `{operation_id}` is no new one that can be acknowledged")]
    Outcome {
        /// The operation.
        operation_id: OperationId,
    },
    /// An acknowledgement of what nobody was told.
    #[error("acknowledgement names no outcome of operation `{operation_id}`")]
    NoOutcome {
        /// The operation.
        operation_id: OperationId,
    },
}

impl Log {
    /// Adds the next record; one that does not follow from those before is refused, and changes nothing.
    pub fn apply(&mut self, record: Record) -> Result<(), LogError> {
        match record {
            Record::Agent { agent_id } => self.agent_id = Some(agent_id),
            Record::Task(task) => {
                let key = (task.framework_id.clone(), task.info.task_id.clone());
                let log = self.tasks.entry(key).or_default();
                if log.task.is_some() || !log.updates.is_empty() {
                    return Err(LogError::TaskExists { task_id: task.info.task_id });
                }
                log.task = Some(task);
            }
            Record::Update { framework_id, status } => {
                if status.update_id.is_none() {
                    return Err(LogError::NoUpdateId { task_id: status.task_id });
                }
                let key = (framework_id, status.task_id.clone());
                self.tasks.entry(key).or_default().updates.push_back(status);
            }
            Record::Acknowledgement { framework_id, task_id, update_id } => {
                self.acknowledge(&(framework_id, task_id), update_id)?;
            }
            Record::Operation { total, outcome } => {
                if let Some(AgentOperation { framework_id, status }) = outcome {
                    self.add_outcome(framework_id, status)?;
                }
                self.total = total.or(self.total.take());
            }
            Record::OperationAcknowledgement { framework_id, operation_id, update_id } => {
                let key = (framework_id, operation_id);
                if self.outcomes.get(&key).is_none_or(|status| status.update_id != Some(update_id)) {
                    return Err(LogError::NoOutcome { operation_id: key.1 });
                }
                self.outcomes.remove(&key);
            }
        }
        Ok(())
    }

    fn add_outcome(&mut self, framework_id: FrameworkId, status: OperationStatus) -> Result<(), LogError> {
        let key = (framework_id, status.operation_id.clone());
        if status.update_id.is_none() || !status.state.is_terminal() || self.outcomes.contains_key(&key) {
            return Err(LogError::Outcome { operation_id: status.operation_id });
        }
        self.outcomes.insert(key, status);
        Ok(())
    }

    fn acknowledge(&mut self, key: &TaskKey, update_id: UpdateId) -> Result<(), LogError> {
        let names = |head: &TaskStatus| head.update_id == Some(update_id);
        let Some(log) = self.tasks.get_mut(key).filter(|log| log.updates.front().is_some_and(names)) else {
            return Err(LogError::NotTheHead { task_id: key.1.clone(), update_id });
        };
        let head = log.updates.pop_front();
        if head.as_ref().is_some_and(|head| head.state.is_terminal()) {
            self.tasks.remove(key);
        } else {
            log.acknowledged = head;
        }
        Ok(())
    }

    /// The shortest log that says the same.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let agent = self.agent_id.iter().map(|agent_id| Record::Agent { agent_id: agent_id.clone() });
        let tasks = self.tasks.iter().flat_map(|((framework_id, task_id), log)| {
            let update = |status: &TaskStatus| Record::Update {
                framework_id: framework_id.clone(),
                status: status.clone(),
            };
            let acknowledged = log.acknowledged.iter().flat_map(move |status| {
                let acknowledgement = Record::Acknowledgement {
                    framework_id: framework_id.clone(),
                    task_id: task_id.clone(),
                    update_id: status.update_id.expect("checked when it was added"),
                };
                [update(status), acknowledgement]
            });
            let task = log.task.iter().cloned().map(Record::Task);
            task.chain(acknowledged).chain(log.updates.iter().map(update))
        });
        let total =
            self.total.iter().map(|total| Record::Operation { total: Some(total.clone()), outcome: None });
        let outcomes =
            self.outcomes().map(|outcome| Record::Operation { total: None, outcome: Some(outcome) });
        agent.chain(total).chain(outcomes).chain(tasks)
    }

    /// What is left of it for another agent in its place, when this one has left the cluster: reservations and volumes are the machine's.
    #[must_use]
    pub fn legacy(&self) -> Log {
        Log { total: self.total.clone(), ..Log::default() }
    }

    fn outcomes(&self) -> impl Iterator<Item = AgentOperation> {
        let of = |((framework_id, _), status): (&OperationKey, &OperationStatus)| AgentOperation {
            framework_id: framework_id.clone(),
            status: status.clone(),
        };
        self.outcomes.iter().map(of)
    }

    /// What the next process of the agent is to know: tasks in the order of their keys. Whether anything behind these records was
    /// damaged is for the log's keeper to say.
    pub fn recovered(&self) -> Recovered {
        let mut recovered = Recovered {
            agent_id: self.agent_id.clone(),
            total: self.total.clone(),
            operations: self.outcomes().collect(),
            ..Recovered::default()
        };
        for ((framework_id, _), log) in &self.tasks {
            let updates = log.updates.iter().cloned();
            match &log.task {
                Some(task) => recovered.tasks.push(RecoveredTask {
                    task: (**task).clone(),
                    acknowledged: log.acknowledged.clone(),
                    updates: updates.collect(),
                }),
                None => recovered.strays.extend(updates.map(|status| (framework_id.clone(), status))),
            }
        }
        recovered
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use apportion_types::{
        Command, FrameworkId, FrameworkInfo, Resources, Role, Source, TaskInfo, TaskState, Time,
    };

    use super::*;
    use crate::ContainerId;

    fn framework_id() -> FrameworkId {
        FrameworkId::new("f1").unwrap()
    }

    fn task_id(id: &str) -> TaskId {
        TaskId::new(id).unwrap()
    }

    fn agent(id: &str) -> Record {
        Record::Agent { agent_id: AgentId::new(id).unwrap() }
    }

    fn task(id: &str) -> Record {
        Record::Task(Box::new(TaskRecord {
            framework_id: framework_id(),
            framework_info: FrameworkInfo {
                name: "test".to_owned(),
                principal: String::new(),
                roles: vec![Role::default()],
                failover_timeout: Duration::from_secs(60),
                labels: BTreeMap::new(),
            },
            role: Role::default(),
            info: TaskInfo {
                task_id: task_id(id),
                name: String::new(),
                resources: "cpus:1".parse().unwrap(),
                limits: Resources::new(),
                pids_max: None,
                volumes: Vec::new(),
                command: Command { argv: vec!["work".to_owned()], env: BTreeMap::new() },
                kill_grace: None,
                labels: BTreeMap::new(),
            },
            container_id: ContainerId(format!("c-{id}")),
        }))
    }

    fn status(id: &str, number: u64, state: TaskState) -> TaskStatus {
        TaskStatus {
            task_id: task_id(id),
            agent_id: None,
            state,
            reason: None,
            source: Source::Agent,
            message: String::new(),
            at: Time::from_micros(number),
            update_id: Some(UpdateId::new(1, number)),
            container: None,
        }
    }

    fn update(id: &str, number: u64, state: TaskState) -> Record {
        Record::Update { framework_id: framework_id(), status: status(id, number, state) }
    }

    fn acknowledgement(id: &str, number: u64) -> Record {
        Record::Acknowledgement {
            framework_id: framework_id(),
            task_id: task_id(id),
            update_id: UpdateId::new(1, number),
        }
    }

    fn log(records: impl IntoIterator<Item = Record>) -> Log {
        let mut log = Log::default();
        records.into_iter().for_each(|record| log.apply(record).unwrap());
        log
    }

    /// Three tasks: one that runs, one whose end is acknowledged, one whose end is not; and a stray.
    fn some() -> Log {
        use TaskState::*;
        log([
            agent("a1"),
            task("runs"),
            task("over"),
            task("ended"),
            update("runs", 1, Starting),
            update("over", 2, Starting),
            update("ended", 3, Starting),
            acknowledgement("runs", 1),
            acknowledgement("over", 2),
            update("runs", 4, Running),
            update("over", 5, Failed),
            update("ended", 6, Finished),
            acknowledgement("over", 5),
            acknowledgement("ended", 3),
            update("stray", 7, Gone),
        ])
    }

    #[test]
    fn what_is_not_over_is_recovered() {
        use TaskState::*;
        let recovered = some().recovered();
        assert_eq!(recovered.agent_id.unwrap().as_str(), "a1");
        assert!(!recovered.damaged);
        let Record::Task(ended) = task("ended") else { unreachable!() };
        let ended = RecoveredTask {
            task: *ended,
            acknowledged: Some(status("ended", 3, Starting)),
            updates: vec![status("ended", 6, Finished)],
        };
        assert_eq!((recovered.tasks.len(), &recovered.tasks[0]), (2, &ended));
        assert_eq!(recovered.tasks[1].acknowledged, Some(status("runs", 1, Starting)));
        assert_eq!(recovered.tasks[1].updates, [status("runs", 4, Running)]);
        assert_eq!(recovered.strays, [(framework_id(), status("stray", 7, Gone))]);
    }

    #[test]
    fn the_short_log_says_the_same_without_what_is_over() {
        let whole = some();
        let records: Vec<_> = whole.records().collect();
        assert!(
            !records
                .iter()
                .any(|record| matches!(record, Record::Task(task) if task.info.task_id.as_str() == "over"))
        );
        assert_eq!(records.len(), 10, "an agent, two tasks with three records of updates each, a stray");
        assert_eq!(log(records), whole);
        assert_eq!(Log::default().records().count(), 0);
    }

    #[test]
    fn an_id_is_free_again_when_its_end_is_acknowledged() {
        let mut log = some();
        for record in [acknowledgement("ended", 6), acknowledgement("stray", 7), task("ended"), task("over")]
        {
            log.apply(record).unwrap();
        }
        let names = log.recovered().tasks.into_iter().map(|task| task.task.info.task_id.to_string());
        assert_eq!(names.collect::<Vec<_>>(), ["ended", "over", "runs"]);
        assert!(log.recovered().strays.is_empty());
    }

    #[test]
    fn a_record_that_does_not_follow_is_refused_and_changes_nothing() {
        let mut nameless = status("runs", 9, TaskState::Killing);
        nameless.update_id = None;
        let nameless = Record::Update { framework_id: framework_id(), status: nameless };
        for (record, why) in [
            (task("runs"), "task `runs` is there already and has not ended"),
            (task("stray"), "task `stray` is there already and has not ended"),
            (nameless, "update of task `runs` has no update id"),
            (acknowledgement("nobody", 1), "does not name the head of the update stream of task `nobody`"),
            (acknowledgement("runs", 1), "does not name the head"),
            (acknowledgement("runs", 5), "does not name the head"),
        ] {
            let mut log = some();
            let error = log.apply(record).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!(log, some(), "{why}");
        }
    }
}
