//! Messages between agents and the master.

use std::{sync::Arc, time::Duration};

use apportion_proto::v1::{
    self, agent_service_connect_request::Message as WireRequest,
    agent_service_connect_response::Message as WireResponse,
};

use super::{
    ConvertError, Within, enums::kill_reason, from_ref, id, message, messages, millis, optional,
    optional_duration, optional_id, refuse_code, task_state, update_id, update_id_bytes,
};
use crate::{
    Activation, AgentInfo, Drain, FrameworkId, Resources, TaskId, TaskInfo, limits,
    protocol::agent::{AgentMessage, AgentOperation, AgentTask, MasterMessage},
    text::cut,
};

impl From<AgentMessage> for v1::AgentServiceConnectRequest {
    fn from(message: AgentMessage) -> Self {
        let message = match message {
            AgentMessage::Register { info, agent_id, total, tasks, operations } => {
                WireRequest::Register(v1::Register {
                    agent_info: Some(info.into()),
                    agent_id: agent_id.map(|id| id.to_string()),
                    total: Some(total.into()),
                    tasks: tasks.into_iter().map(Into::into).collect(),
                    operations: operations.into_iter().map(Into::into).collect(),
                })
            }
            AgentMessage::StatusUpdate { framework_id, status, latest_state } => {
                WireRequest::StatusUpdate(v1::StatusUpdate {
                    framework_id: framework_id.to_string(),
                    status: Some(status.into()),
                    latest_state: v1::TaskState::from(latest_state) as i32,
                })
            }
            AgentMessage::OperationUpdate(operation) => {
                WireRequest::OperationUpdate(v1::AgentOperationUpdate { operation: Some(operation.into()) })
            }
            AgentMessage::Total { total, applied } => {
                WireRequest::Total(v1::Total { total: Some(total.into()), applied })
            }
            AgentMessage::Oversubscribed { revocable } => {
                WireRequest::Oversubscribed(v1::Oversubscribed { revocable: Some(revocable.into()) })
            }
            AgentMessage::Pong { sequence } => WireRequest::Pong(v1::Pong { sequence }),
            AgentMessage::Unregister { message } => WireRequest::Unregister(v1::Unregister { message }),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::AgentServiceConnectRequest> for AgentMessage {
    type Error = ConvertError;

    fn try_from(wire: v1::AgentServiceConnectRequest) -> Result<Self, ConvertError> {
        let said = wire
            .message
            .ok_or_else(|| ConvertError::new("message", "is missing, or of a kind not known here"))?;
        Ok(match said {
            WireRequest::Register(register) => self::register(register).within("register")?,
            WireRequest::StatusUpdate(update) => self::status_update(update).within("status_update")?,
            WireRequest::OperationUpdate(update) => {
                AgentMessage::OperationUpdate(message("operation_update.operation", update.operation)?)
            }
            WireRequest::Total(total) => {
                AgentMessage::Total { total: settled("total.total", total.total)?, applied: total.applied }
            }
            WireRequest::Oversubscribed(oversubscribed) => {
                let revocable: Resources = message("oversubscribed.revocable", oversubscribed.revocable)?;
                if revocable.revocable() != revocable {
                    let what = format_args!("`{revocable}` is not all revocable");
                    return Err(ConvertError::new("oversubscribed.revocable", what));
                }
                AgentMessage::Oversubscribed { revocable }
            }
            WireRequest::Pong(v1::Pong { sequence }) => AgentMessage::Pong { sequence },
            // Every framework is told it.
            WireRequest::Unregister(v1::Unregister { message }) => {
                AgentMessage::Unregister { message: cut(message, limits::STATUS_MESSAGE_BYTES_MAX) }
            }
        })
    }
}

fn register(wire: v1::Register) -> Result<AgentMessage, ConvertError> {
    let info: AgentInfo = message("agent_info", wire.agent_info)?;
    Ok(AgentMessage::Register {
        agent_id: optional_id("agent_id", wire.agent_id)?,
        total: match wire.total {
            Some(total) => settled("total", Some(total))?,
            None => info.resources.clone(),
        },
        info,
        tasks: messages("tasks", wire.tasks)?,
        operations: messages("operations", wire.operations)?,
    })
}

/// What an agent has, none of it lent.
fn settled(field: &str, wire: Option<v1::Resources>) -> Result<Resources, ConvertError> {
    let total: Resources = message(field, wire)?;
    match total.revocable().is_empty() {
        true => Ok(total),
        false => Err(ConvertError::new(field, "revocable resources are told by Oversubscribed alone")),
    }
}

impl From<AgentOperation> for v1::AgentOperation {
    fn from(operation: AgentOperation) -> Self {
        Self { framework_id: operation.framework_id.to_string(), status: Some(operation.status.into()) }
    }
}

impl TryFrom<v1::AgentOperation> for AgentOperation {
    type Error = ConvertError;

    fn try_from(wire: v1::AgentOperation) -> Result<Self, ConvertError> {
        Ok(Self {
            framework_id: id("framework_id", &wire.framework_id)?,
            status: message("status", wire.status)?,
        })
    }
}

fn status_update(wire: v1::StatusUpdate) -> Result<AgentMessage, ConvertError> {
    Ok(AgentMessage::StatusUpdate {
        framework_id: id("framework_id", &wire.framework_id)?,
        status: message("status", wire.status)?,
        latest_state: task_state("latest_state", wire.latest_state)?,
    })
}

impl From<AgentTask> for v1::AgentTask {
    fn from(task: AgentTask) -> Self {
        Self {
            framework_id: task.framework_id.to_string(),
            role: task.role.to_string(),
            framework_info: Some(task.framework_info.into()),
            task_info: Some(task.info.into()),
            state: v1::TaskState::from(task.state) as i32,
            unacknowledged: task.unacknowledged.map(Into::into),
        }
    }
}

impl TryFrom<v1::AgentTask> for AgentTask {
    type Error = ConvertError;

    fn try_from(wire: v1::AgentTask) -> Result<Self, ConvertError> {
        Ok(Self {
            framework_id: id("framework_id", &wire.framework_id)?,
            role: id("role", &wire.role)?,
            framework_info: message("framework_info", wire.framework_info)?,
            info: message("task_info", wire.task_info)?,
            state: task_state("state", wire.state)?,
            unacknowledged: optional("unacknowledged", wire.unacknowledged)?,
        })
    }
}

impl From<MasterMessage> for v1::AgentServiceConnectResponse {
    fn from(message: MasterMessage) -> Self {
        let message = match message {
            MasterMessage::Registered { agent_id, master_id, ping_timeout, missing_tasks, drain } => {
                let each = |(framework_id, task_id): (FrameworkId, TaskId)| v1::TaskRef {
                    framework_id: framework_id.to_string(),
                    task_id: task_id.to_string(),
                };
                WireResponse::Registered(v1::Registered {
                    agent_id: agent_id.to_string(),
                    master_id,
                    ping_timeout_ms: millis(ping_timeout),
                    missing_tasks: missing_tasks.into_iter().map(each).collect(),
                    drain: drain.map(Into::into),
                })
            }
            MasterMessage::Drain(Some(drain)) => WireResponse::Drain(drain.into()),
            MasterMessage::Drain(None) => WireResponse::EndDrain(v1::EndDrain {}),
            MasterMessage::Ping { sequence } => WireResponse::Ping(v1::Ping { sequence }),
            MasterMessage::RunTasks { framework_id, framework_info, role, tasks } => {
                WireResponse::RunTasks(v1::RunTasks {
                    framework_id: framework_id.to_string(),
                    framework_info: Some((&*framework_info).into()),
                    role: role.to_string(),
                    tasks: tasks.into_iter().map(|info| Arc::unwrap_or_clone(info).into()).collect(),
                })
            }
            MasterMessage::Apply { framework_id, operation_id, operation } => {
                WireResponse::Apply(v1::Apply {
                    framework_id: framework_id.map(|id| id.to_string()),
                    operation_id: operation_id.map(|id| id.to_string()),
                    operation: Some(operation.into()),
                })
            }
            MasterMessage::AcknowledgeOperation { framework_id, operation_id, update_id } => {
                WireResponse::AcknowledgeOperation(v1::AgentAcknowledgeOperation {
                    framework_id: framework_id.to_string(),
                    operation_id: operation_id.to_string(),
                    update_id: update_id_bytes(update_id),
                })
            }
            MasterMessage::KillTask { framework_id, task_id, grace, reason } => {
                WireResponse::KillTask(v1::KillTask {
                    framework_id: framework_id.to_string(),
                    task_id: task_id.to_string(),
                    grace_ms: grace.map(millis),
                    reason: v1::Reason::from(reason) as i32,
                })
            }
            MasterMessage::AcknowledgeUpdate { framework_id, task_id, update_id } => {
                WireResponse::AcknowledgeUpdate(v1::AcknowledgeUpdate {
                    framework_id: framework_id.to_string(),
                    task_id: task_id.to_string(),
                    update_id: update_id_bytes(update_id),
                })
            }
            MasterMessage::RemoveFramework { framework_id } => {
                WireResponse::RemoveFramework(v1::RemoveFramework { framework_id: framework_id.to_string() })
            }
            MasterMessage::Refuse { code, message } => {
                WireResponse::Refuse(v1::Refuse { code: v1::RefuseCode::from(code) as i32, message })
            }
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::AgentServiceConnectResponse> for MasterMessage {
    type Error = ConvertError;

    fn try_from(wire: v1::AgentServiceConnectResponse) -> Result<Self, ConvertError> {
        let said = wire
            .message
            .ok_or_else(|| ConvertError::new("message", "is missing, or of a kind not known here"))?;
        Ok(match said {
            WireResponse::Registered(registered) => self::registered(registered).within("registered")?,
            WireResponse::Drain(drain) => MasterMessage::Drain(Some(drain.try_into().within("drain")?)),
            WireResponse::EndDrain(v1::EndDrain {}) => MasterMessage::Drain(None),
            WireResponse::Ping(v1::Ping { sequence }) => MasterMessage::Ping { sequence },
            WireResponse::RunTasks(run) => self::run_tasks(run).within("run_tasks")?,
            WireResponse::Apply(apply) => MasterMessage::Apply {
                framework_id: optional_id("apply.framework_id", apply.framework_id)?,
                operation_id: optional_id("apply.operation_id", apply.operation_id)?,
                operation: message("apply.operation", apply.operation)?,
            },
            WireResponse::AcknowledgeOperation(acknowledge) => MasterMessage::AcknowledgeOperation {
                framework_id: id("acknowledge_operation.framework_id", &acknowledge.framework_id)?,
                operation_id: id("acknowledge_operation.operation_id", &acknowledge.operation_id)?,
                update_id: update_id("acknowledge_operation.update_id", &acknowledge.update_id)?,
            },
            WireResponse::KillTask(kill) => self::kill_task(kill).within("kill_task")?,
            WireResponse::AcknowledgeUpdate(acknowledge) => MasterMessage::AcknowledgeUpdate {
                framework_id: id("acknowledge_update.framework_id", &acknowledge.framework_id)?,
                task_id: id("acknowledge_update.task_id", &acknowledge.task_id)?,
                update_id: update_id("acknowledge_update.update_id", &acknowledge.update_id)?,
            },
            WireResponse::RemoveFramework(remove) => MasterMessage::RemoveFramework {
                framework_id: id("remove_framework.framework_id", &remove.framework_id)?,
            },
            WireResponse::Refuse(refuse) => MasterMessage::Refuse {
                code: refuse_code("refuse.code", refuse.code)?,
                message: refuse.message,
            },
        })
    }
}

fn registered(wire: v1::Registered) -> Result<MasterMessage, ConvertError> {
    let each = |(index, task): (usize, v1::TaskRef)| {
        let pair = id("framework_id", &task.framework_id)
            .and_then(|framework_id| Ok((framework_id, id("task_id", &task.task_id)?)));
        pair.within(format_args!("missing_tasks[{index}]"))
    };
    Ok(MasterMessage::Registered {
        agent_id: id("agent_id", &wire.agent_id)?,
        master_id: wire.master_id,
        ping_timeout: Duration::from_millis(wire.ping_timeout_ms),
        missing_tasks: wire.missing_tasks.into_iter().enumerate().map(each).collect::<Result<_, _>>()?,
        drain: optional("drain", wire.drain)?,
    })
}

impl From<Drain> for v1::Drain {
    fn from(drain: Drain) -> Self {
        Self { grace_max_ms: drain.grace_max.map(millis), mark_gone: drain.mark_gone }
    }
}

impl TryFrom<v1::Drain> for Drain {
    type Error = ConvertError;

    fn try_from(wire: v1::Drain) -> Result<Self, ConvertError> {
        Ok(Self {
            grace_max: optional_duration("grace_max_ms", wire.grace_max_ms, limits::KILL_GRACE_MAX)?,
            mark_gone: wire.mark_gone,
        })
    }
}

/// Whether an operator lets an agent be offered, on the wire: its name, and beside it how it is drained.
pub fn activation_message(activation: Activation) -> (v1::AgentActivation, Option<v1::Drain>) {
    let name = match activation {
        Activation::Active => v1::AgentActivation::Active,
        Activation::Deactivated => v1::AgentActivation::Deactivated,
        Activation::Draining(_) => v1::AgentActivation::Draining,
        Activation::Drained(_) => v1::AgentActivation::Drained,
    };
    (name, activation.drain().map(Into::into))
}

/// The same from the wire; active where it is not said. Refuses a drain of what is not drained, and the other way round.
pub fn activation(number: i32, drain: Option<v1::Drain>) -> Result<Activation, ConvertError> {
    let refuse = |what: std::fmt::Arguments<'_>| Err(ConvertError::new("activation", what));
    match (v1::AgentActivation::try_from(number), optional("drain", drain)?) {
        (Ok(v1::AgentActivation::Unspecified | v1::AgentActivation::Active), None) => Ok(Activation::Active),
        (Ok(v1::AgentActivation::Deactivated), None) => Ok(Activation::Deactivated),
        (Ok(v1::AgentActivation::Draining), Some(drain)) => Ok(Activation::Draining(drain)),
        (Ok(v1::AgentActivation::Drained), Some(drain)) => Ok(Activation::Drained(drain)),
        (Ok(name), _) => refuse(format_args!("{name:?} does not go with what `drain` says")),
        (Err(_), _) => refuse(format_args!("{number} is not a number of AgentActivation known here")),
    }
}

fn run_tasks(wire: v1::RunTasks) -> Result<MasterMessage, ConvertError> {
    Ok(MasterMessage::RunTasks {
        framework_id: id("framework_id", &wire.framework_id)?,
        framework_info: Arc::new(message("framework_info", wire.framework_info)?),
        role: id("role", &wire.role)?,
        tasks: messages::<_, TaskInfo>("tasks", wire.tasks)?.into_iter().map(Arc::new).collect(),
    })
}

fn kill_task(wire: v1::KillTask) -> Result<MasterMessage, ConvertError> {
    Ok(MasterMessage::KillTask {
        framework_id: id("framework_id", &wire.framework_id)?,
        task_id: id("task_id", &wire.task_id)?,
        grace: optional_duration("grace_ms", wire.grace_ms, limits::KILL_GRACE_MAX)?,
        reason: kill_reason("reason", wire.reason)?,
    })
}

from_ref!(
    AgentMessage => v1::AgentServiceConnectRequest,
    AgentTask => v1::AgentTask,
    AgentOperation => v1::AgentOperation,
    MasterMessage => v1::AgentServiceConnectResponse,
);
