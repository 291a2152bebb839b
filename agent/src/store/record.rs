//! Between the core's records and the ones on disk.

use std::{fmt::Display, str::FromStr};

use apportion_agent_core::{ContainerId, ProcessRecord, Record, Settings, TaskRecord, Times};
use apportion_proto::v1::{self, checkpoint_record::Record as Wire};
use apportion_types::{
    Drain, FaultDomain, Resources, Time, UpdateId, convert::ConvertError, protocol::agent::AgentOperation,
};

pub(super) fn to_wire(record: Record) -> v1::CheckpointRecord {
    let record = match record {
        Record::Agent { agent_id } => Wire::Agent(v1::CheckpointAgent { agent_id: agent_id.to_string() }),
        Record::Process(process) => Wire::Process(to_wire_process(process)),
        Record::Drain(drain) => Wire::Drain(v1::CheckpointDrain { drain: drain.map(Into::into) }),
        Record::Times { framework_id, task_id, times } => Wire::Times(v1::CheckpointTimes {
            framework_id: framework_id.to_string(),
            task_id: task_id.to_string(),
            started_at_us: times.started_at.map(Time::as_micros),
            kill_at_us: times.kill_at.map(Time::as_micros),
        }),
        Record::Task(task) => {
            let TaskRecord { framework_id, framework_info, role, info, container_id, cores } = *task;
            Wire::Task(v1::CheckpointTask {
                framework_id: framework_id.to_string(),
                framework_info: Some(framework_info.into()),
                role: role.to_string(),
                task_info: Some(info.into()),
                container_id: container_id.0,
                cores: cores.map(String::from),
            })
        }
        Record::Group(tasks) => Wire::Group(to_wire_group(tasks)),
        Record::Turn { framework_id, task_id } => Wire::Turn(v1::CheckpointTurn {
            framework_id: framework_id.to_string(),
            task_id: task_id.to_string(),
        }),
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
        Record::Operation { total, outcome } => {
            let (framework_id, status) = outcome.map(|of| (of.framework_id, of.status)).unzip();
            Wire::Operation(v1::CheckpointOperation {
                total: total.map(Into::into),
                framework_id: framework_id.map(|id| id.to_string()),
                status: status.map(Into::into),
            })
        }
        Record::OperationAcknowledgement { framework_id, operation_id, update_id } => {
            Wire::OperationAcknowledgement(v1::CheckpointOperationAcknowledgement {
                framework_id: framework_id.to_string(),
                operation_id: operation_id.to_string(),
                update_id: prost::bytes::Bytes::copy_from_slice(&update_id.0),
            })
        }
    };
    v1::CheckpointRecord { record: Some(record), continues: false }
}

fn to_wire_process(process: ProcessRecord) -> v1::CheckpointProcess {
    let Settings { hostname, resources, attributes, domain } = process.settings;
    v1::CheckpointProcess {
        boot_id: process.boot_id,
        hostname,
        resources: Some(resources.into()),
        attributes: attributes.into_iter().collect(),
        domain: domain.map(Into::into),
    }
}

fn from_wire_process(wire: v1::CheckpointProcess) -> Result<ProcessRecord, ConvertError> {
    let within = |field: &'static str| move |error: ConvertError| error.within(field);
    let settings = Settings {
        hostname: wire.hostname,
        resources: required("resources", wire.resources)?.try_into().map_err(within("resources"))?,
        attributes: wire.attributes.into_iter().collect(),
        domain: wire.domain.map(FaultDomain::try_from).transpose().map_err(within("domain"))?,
    };
    Ok(ProcessRecord { boot_id: wire.boot_id, settings })
}

pub(super) fn from_wire(wire: v1::CheckpointRecord) -> Result<Record, ConvertError> {
    let unknown = || ConvertError::new("record", "is missing, or of a kind not known here");
    Ok(match wire.record.ok_or_else(unknown)? {
        Wire::Agent(agent) => Record::Agent { agent_id: id("agent_id", &agent.agent_id)? },
        Wire::Process(process) => Record::Process(from_wire_process(process)?),
        Wire::Drain(of) => {
            let drain = of.drain.map(Drain::try_from).transpose();
            Record::Drain(drain.map_err(|error| error.within("drain"))?)
        }
        Wire::Times(of) => Record::Times {
            framework_id: id("framework_id", &of.framework_id)?,
            task_id: id("task_id", &of.task_id)?,
            times: Times {
                started_at: of.started_at_us.map(Time::from_micros),
                kill_at: of.kill_at_us.map(Time::from_micros),
            },
        },
        Wire::Task(task) => Record::Task(Box::new(from_wire_task(task)?)),
        Wire::Group(group) => Record::Group(from_wire_group(group)?),
        Wire::Turn(turn) => Record::Turn {
            framework_id: id("framework_id", &turn.framework_id)?,
            task_id: id("task_id", &turn.task_id)?,
        },
        Wire::Update(update) => Record::Update {
            framework_id: id("framework_id", &update.framework_id)?,
            status: required("status", update.status)?
                .try_into()
                .map_err(|error: ConvertError| error.within("status"))?,
        },
        Wire::Acknowledgement(acknowledgement) => Record::Acknowledgement {
            framework_id: id("framework_id", &acknowledgement.framework_id)?,
            task_id: id("task_id", &acknowledgement.task_id)?,
            update_id: update_id("update_id", &acknowledgement.update_id)?,
        },
        Wire::Operation(operation) => from_wire_operation(operation)?,
        Wire::OperationAcknowledgement(acknowledgement) => Record::OperationAcknowledgement {
            framework_id: id("framework_id", &acknowledgement.framework_id)?,
            operation_id: id("operation_id", &acknowledgement.operation_id)?,
            update_id: update_id("update_id", &acknowledgement.update_id)?,
        },
    })
}

fn from_wire_operation(wire: v1::CheckpointOperation) -> Result<Record, ConvertError> {
    let within = |field: &'static str| move |error: ConvertError| error.within(field);
    let total = wire.total.map(Resources::try_from).transpose().map_err(within("total"))?;
    let outcome = match (wire.framework_id, wire.status) {
        (None, None) => None,
        (framework_id, status) => Some(AgentOperation {
            framework_id: id("framework_id", &required("framework_id", framework_id)?)?,
            status: required("status", status)?.try_into().map_err(within("status"))?,
        }),
    };
    Ok(Record::Operation { total, outcome })
}

fn from_wire_task(wire: v1::CheckpointTask) -> Result<TaskRecord, ConvertError> {
    let within = |field: &'static str| move |error: ConvertError| error.within(field);
    let framework_info = required("framework_info", wire.framework_info)?;
    let info = required("task_info", wire.task_info)?;
    Ok(TaskRecord {
        framework_id: id("framework_id", &wire.framework_id)?,
        framework_info: framework_info.try_into().map_err(within("framework_info"))?,
        role: id("role", &wire.role)?,
        info: info.try_into().map_err(within("task_info"))?,
        container_id: ContainerId(wire.container_id),
        cores: wire.cores.map(|cores| id("cores", &cores)).transpose()?,
    })
}

/// What the tasks of a group have in common stands once.
fn to_wire_group(tasks: Vec<TaskRecord>) -> v1::CheckpointGroup {
    let first = tasks.first().expect("a group has a task");
    let (framework_id, role) = (first.framework_id.to_string(), first.role.to_string());
    let framework_info = Some(first.framework_info.clone().into());
    let member = |task: TaskRecord| v1::CheckpointMember {
        task_info: Some(task.info.into()),
        container_id: task.container_id.0,
        cores: task.cores.map(String::from),
    };
    let members = tasks.into_iter().map(member).collect();
    v1::CheckpointGroup { framework_id, framework_info, role, members }
}

fn from_wire_group(wire: v1::CheckpointGroup) -> Result<Vec<TaskRecord>, ConvertError> {
    let v1::CheckpointGroup { framework_id, framework_info, role, members } = wire;
    if members.is_empty() {
        return Err(ConvertError::new("members", "are missing"));
    }
    let task = |member: v1::CheckpointMember| {
        from_wire_task(v1::CheckpointTask {
            framework_id: framework_id.clone(),
            framework_info: framework_info.clone(),
            role: role.clone(),
            task_info: member.task_info,
            container_id: member.container_id,
            cores: member.cores,
        })
    };
    members.into_iter().map(task).collect()
}

fn required<T>(field: &str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(field, "is missing"))
}

fn id<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, ConvertError> {
    text.parse().map_err(|error| ConvertError::new(field, error))
}

fn update_id(field: &str, bytes: &[u8]) -> Result<UpdateId, ConvertError> {
    let wrong = |_| ConvertError::new(field, format_args!("has {} bytes instead of 16", bytes.len()));
    bytes.try_into().map(UpdateId).map_err(wrong)
}
