//! What the records of a log come to: what a new process of the agent is to know, and what of the log still matters.

use std::collections::{BTreeMap, VecDeque};

use apportion_types::{
    AgentId, Drain, FrameworkId, OperationId, OperationStatus, Resources, TaskId, TaskStatus, UpdateId,
    protocol::agent::AgentOperation,
};

use crate::{
    action::Record,
    event::{ProcessRecord, Recovered, RecoveredTask, TaskKey, TaskRecord, Times},
    state::outcome::OperationKey,
};

/// The sum of a log's records, in the order in which they were written.
///
/// Whoever keeps the log, on a disk or in a simulator's memory, adds each record here: [`Log::recovered`] is what the next process
/// begins with, [`Log::records`] the log without all that is over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    agent_id: Option<AgentId>,
    /// The process that began last.
    process: Option<ProcessRecord>,
    /// How the agent is drained.
    drain: Option<Drain>,
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
    /// It is of a task group, and its turn has not come.
    waits: bool,
    /// The newest update that was acknowledged.
    acknowledged: Option<TaskStatus>,
    /// Updates that were not, the oldest first.
    updates: VecDeque<TaskStatus>,
    times: Times,
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
    /// Something is said of a task that is not there.
    #[error("task `{task_id}` was never taken on, or is over")]
    NoTask {
        /// The task.
        task_id: TaskId,
    },
    /// A turn has come of a task that did not wait for one.
    #[error("task `{task_id}` is not of a task group, or had its turn")]
    NotWaiting {
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
            Record::Process(process) => self.process = Some(process),
            Record::Drain(drain) => self.drain = drain,
            Record::Times { framework_id, task_id, times } => {
                let log = self.tasks.get_mut(&(framework_id, task_id.clone()));
                let Some(log) = log.filter(|log| log.task.is_some()) else {
                    return Err(LogError::NoTask { task_id });
                };
                log.times.started_at = times.started_at.or(log.times.started_at);
                log.times.kill_at = times.kill_at.or(log.times.kill_at);
            }
            Record::Task(task) => {
                self.check_is_new(&task)?;
                self.add_task(task, false);
            }
            Record::Group(tasks) => {
                tasks.iter().try_for_each(|task| self.check_is_new(task))?;
                tasks.into_iter().for_each(|task| self.add_task(Box::new(task), true));
            }
            Record::Turn { framework_id, task_id } => {
                let log = self.tasks.get_mut(&(framework_id, task_id.clone()));
                let Some(log) = log.filter(|log| log.waits) else {
                    return Err(LogError::NotWaiting { task_id });
                };
                log.waits = false;
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

    fn check_is_new(&self, task: &TaskRecord) -> Result<(), LogError> {
        let key = (task.framework_id.clone(), task.info.task_id.clone());
        match self.tasks.contains_key(&key) {
            true => Err(LogError::TaskExists { task_id: key.1 }),
            false => Ok(()),
        }
    }

    fn add_task(&mut self, task: Box<TaskRecord>, waits: bool) {
        let key = (task.framework_id.clone(), task.info.task_id.clone());
        self.tasks.insert(key, TaskLog { task: Some(task), waits, ..TaskLog::default() });
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
            let task = log.task.iter().cloned().map(|task| match log.waits {
                true => Record::Group(vec![*task]),
                false => Record::Task(task),
            });
            let times = (log.times != Times::default()).then(|| Record::Times {
                framework_id: framework_id.clone(),
                task_id: task_id.clone(),
                times: log.times,
            });
            task.chain(times).chain(acknowledged).chain(log.updates.iter().map(update))
        });
        let total =
            self.total.iter().map(|total| Record::Operation { total: Some(total.clone()), outcome: None });
        let outcomes =
            self.outcomes().map(|outcome| Record::Operation { total: None, outcome: Some(outcome) });
        let process = self.process.iter().cloned().map(Record::Process);
        let drain = self.drain.map(|drain| Record::Drain(Some(drain)));
        agent.chain(process).chain(drain).chain(total).chain(outcomes).chain(tasks)
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
            process: self.process.clone(),
            drain: self.drain,
            total: self.total.clone(),
            operations: self.outcomes().collect(),
            ..Recovered::default()
        };
        for ((framework_id, _), log) in &self.tasks {
            let updates = log.updates.iter().cloned();
            match &log.task {
                Some(task) => recovered.tasks.push(RecoveredTask {
                    task: (**task).clone(),
                    waits: log.waits,
                    acknowledged: log.acknowledged.clone(),
                    updates: updates.collect(),
                    times: log.times,
                }),
                None => recovered.strays.extend(updates.map(|status| (framework_id.clone(), status))),
            }
        }
        recovered
    }
}

#[cfg(test)]
mod tests;
