//! What of a log still matters: the sum of its records.

use std::collections::{BTreeMap, VecDeque};

use apportion_agent_core::{Recovered, RecoveredTask, TaskKey};
use apportion_proto::v1::{self, CheckpointRecord, checkpoint_record::Record as Wire};
use apportion_types::{AgentId, convert::ConvertError};

use super::record;

/// The sum of a log's records.
#[derive(Debug, Default)]
pub(super) struct Live {
    agent: Option<v1::CheckpointAgent>,
    tasks: BTreeMap<TaskKey, TaskLog>,
}

/// What a log says of one task that is not acknowledged as ended.
#[derive(Debug, Default)]
struct TaskLog {
    /// Absent for a task that the agent never had.
    task: Option<v1::CheckpointTask>,
    /// The newest update that was acknowledged.
    acknowledged: Option<v1::CheckpointUpdate>,
    /// Updates that were not, the oldest first.
    updates: VecDeque<v1::CheckpointUpdate>,
}

impl Live {
    /// Adds the next record of the log; refuses one that does not follow from those before.
    pub(super) fn apply(&mut self, record: CheckpointRecord) -> Result<(), ConvertError> {
        let unknown = || ConvertError::new("record", "is missing, or of a kind not known here");
        match record.record.ok_or_else(unknown)? {
            Wire::Agent(agent) => {
                AgentId::new(&agent.agent_id).map_err(|error| ConvertError::new("agent_id", error))?;
                self.agent = Some(agent);
            }
            Wire::Task(task) => {
                let checked = record::task(&task)?;
                let log = self.tasks.entry((checked.framework_id, checked.info.task_id)).or_default();
                if log.task.is_some() || !log.updates.is_empty() {
                    return Err(ConvertError::new("task", "is there already and has not ended"));
                }
                log.task = Some(task);
            }
            Wire::Update(update) => {
                let key = (record::framework_id(&update.framework_id)?, record::status(&update)?.task_id);
                self.tasks.entry(key).or_default().updates.push_back(update);
            }
            Wire::Acknowledgement(acknowledgement) => self.acknowledge(&acknowledgement)?,
        }
        Ok(())
    }

    fn acknowledge(&mut self, acknowledgement: &v1::CheckpointAcknowledgement) -> Result<(), ConvertError> {
        let framework_id = record::framework_id(&acknowledgement.framework_id)?;
        let key = (framework_id, record::task_id(&acknowledgement.task_id)?);
        let head = self.tasks.get_mut(&key).and_then(|log| log.updates.pop_front());
        let status = head.as_ref().and_then(|head| head.status.as_ref());
        let Some(status) =
            status.filter(|status| status.update_id.as_ref() == Some(&acknowledgement.update_id))
        else {
            return Err(ConvertError::new("acknowledgement", "does not name the head of its stream"));
        };
        let ended = apportion_types::convert::task_state("state", status.state)?.is_terminal();
        if ended {
            self.tasks.remove(&key);
        } else if let Some(log) = self.tasks.get_mut(&key) {
            log.acknowledged = head;
        }
        Ok(())
    }

    /// The shortest log that says the same.
    pub(super) fn records(&self) -> impl Iterator<Item = CheckpointRecord> + '_ {
        let agent = self.agent.iter().cloned().map(Wire::Agent);
        let tasks = self.tasks.values().flat_map(|log| {
            let acknowledged = log.acknowledged.iter().flat_map(|update| {
                let status = update.status.as_ref();
                let acknowledgement = v1::CheckpointAcknowledgement {
                    framework_id: update.framework_id.clone(),
                    task_id: status.map(|status| status.task_id.clone()).unwrap_or_default(),
                    update_id: status.and_then(|status| status.update_id.clone()).unwrap_or_default(),
                };
                [Wire::Update(update.clone()), Wire::Acknowledgement(acknowledgement)]
            });
            let task = log.task.iter().cloned().map(Wire::Task);
            task.chain(acknowledged).chain(log.updates.iter().cloned().map(Wire::Update))
        });
        agent.chain(tasks).map(|record| CheckpointRecord { record: Some(record) })
    }

    /// What the core is to know.
    pub(super) fn recovered(&self) -> Result<Recovered, ConvertError> {
        let agent_id = self.agent.as_ref().map(|agent| AgentId::new(&agent.agent_id)).transpose();
        let agent_id = agent_id.map_err(|error| ConvertError::new("agent_id", error))?;
        let mut recovered = Recovered { agent_id, ..Recovered::default() };
        for (key, log) in &self.tasks {
            let updates = log.updates.iter().map(record::status).collect::<Result<Vec<_>, _>>()?;
            match &log.task {
                Some(task) => recovered.tasks.push(RecoveredTask {
                    task: record::task(task)?,
                    acknowledged: log.acknowledged.as_ref().map(record::status).transpose()?,
                    updates,
                }),
                None => recovered.strays.extend(updates.into_iter().map(|status| (key.0.clone(), status))),
            }
        }
        Ok(recovered)
    }
}
