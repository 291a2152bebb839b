//! Between the core's records and the ones on disk.

use apportion_agent_core::{ContainerId, Record, TaskRecord};
use apportion_proto::v1::{self, checkpoint_record::Record as Wire};
use apportion_types::{FrameworkId, Role, TaskId, TaskStatus, convert::ConvertError};

pub(super) fn to_wire(record: Record) -> v1::CheckpointRecord {
    let record = match record {
        Record::Agent { agent_id } => Wire::Agent(v1::CheckpointAgent { agent_id: agent_id.to_string() }),
        Record::Task(task) => {
            let TaskRecord { framework_id, framework_info, role, info, container_id } = *task;
            Wire::Task(v1::CheckpointTask {
                framework_id: framework_id.to_string(),
                framework_info: Some(framework_info.into()),
                role: role.to_string(),
                task_info: Some(info.into()),
                container_id: container_id.0,
            })
        }
        Record::Update { framework_id, status } => Wire::Update(v1::CheckpointUpdate {
            framework_id: framework_id.to_string(),
            status: Some(status.into()),
        }),
        Record::Acknowledgement { framework_id, task_id, update_id } => {
            Wire::Acknowledgement(v1::CheckpointAcknowledgement {
                framework_id: framework_id.to_string(),
                task_id: task_id.to_string(),
                update_id: prost::bytes::Bytes::copy_from_slice(&update_id.0),
            })
        }
    };
    v1::CheckpointRecord { record: Some(record) }
}

fn required<T>(field: &str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(field, "is missing"))
}

pub(super) fn task(wire: &v1::CheckpointTask) -> Result<TaskRecord, ConvertError> {
    let within = |field: &'static str| move |error: ConvertError| error.within(field);
    let framework_info = required("framework_info", wire.framework_info.clone())?;
    let info = required("task_info", wire.task_info.clone())?;
    Ok(TaskRecord {
        framework_id: framework_id(&wire.framework_id)?,
        framework_info: framework_info.try_into().map_err(within("framework_info"))?,
        role: Role::new(&wire.role).map_err(|error| ConvertError::new("role", error))?,
        info: info.try_into().map_err(within("task_info"))?,
        container_id: ContainerId(wire.container_id.clone()),
    })
}

pub(super) fn status(wire: &v1::CheckpointUpdate) -> Result<TaskStatus, ConvertError> {
    let status: TaskStatus = required("status", wire.status.clone())?
        .try_into()
        .map_err(|error: ConvertError| error.within("status"))?;
    required("status.update_id", status.update_id)?;
    Ok(status)
}

pub(super) fn framework_id(text: &str) -> Result<FrameworkId, ConvertError> {
    FrameworkId::new(text).map_err(|error| ConvertError::new("framework_id", error))
}

pub(super) fn task_id(text: &str) -> Result<TaskId, ConvertError> {
    TaskId::new(text).map_err(|error| ConvertError::new("task_id", error))
}
