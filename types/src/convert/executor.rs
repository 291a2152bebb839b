//! Messages between executors and their agent.

use apportion_proto::v1::{
    self, executor_service_connect_request::Message as WireRequest,
    executor_service_connect_response::Message as WireResponse,
};

use super::{
    ConvertError, Within, duration, enums::kill_reason, executor_refuse_code, from_ref, id, ids, message,
    messages, millis, optional_id, task_state, update_id, update_id_bytes,
};
use crate::{
    limits,
    protocol::executor::{ExecutorCall, ExecutorEvent, ExecutorUpdate},
    text::cut,
};

impl From<ExecutorCall> for v1::ExecutorServiceConnectRequest {
    fn from(call: ExecutorCall) -> Self {
        let message = match call {
            ExecutorCall::Subscribe { runs, unacknowledged } => {
                WireRequest::Subscribe(v1::ExecutorSubscribe {
                    run_ids: runs.iter().map(ToString::to_string).collect(),
                    unacknowledged: unacknowledged.into_iter().map(Into::into).collect(),
                })
            }
            ExecutorCall::Update(update) => WireRequest::Update(update.into()),
        };
        Self { message: Some(message) }
    }
}

/// Refuses more runs than [`limits::EXECUTOR_TASKS_MAX`] and more updates than [`limits::EXECUTOR_UPDATES_MAX`].
impl TryFrom<v1::ExecutorServiceConnectRequest> for ExecutorCall {
    type Error = ConvertError;

    fn try_from(wire: v1::ExecutorServiceConnectRequest) -> Result<Self, ConvertError> {
        let said = wire
            .message
            .ok_or_else(|| ConvertError::new("message", "is missing, or of a kind not known here"))?;
        match said {
            WireRequest::Subscribe(subscribe) => self::subscribe(subscribe).within("subscribe"),
            WireRequest::Update(update) => {
                ExecutorUpdate::try_from(update).map(ExecutorCall::Update).within("update")
            }
        }
    }
}

fn subscribe(wire: v1::ExecutorSubscribe) -> Result<ExecutorCall, ConvertError> {
    let bounded = |field, count, most| match count > most {
        true => {
            Err(ConvertError::new(field, format_args!("{count} are more than the {most} of an executor")))
        }
        false => Ok(()),
    };
    bounded("run_ids", wire.run_ids.len(), limits::EXECUTOR_TASKS_MAX)?;
    bounded("unacknowledged", wire.unacknowledged.len(), limits::EXECUTOR_UPDATES_MAX)?;
    Ok(ExecutorCall::Subscribe {
        runs: ids("run_ids", &wire.run_ids)?,
        unacknowledged: messages("unacknowledged", wire.unacknowledged)?,
    })
}

impl From<ExecutorUpdate> for v1::ExecutorUpdate {
    fn from(update: ExecutorUpdate) -> Self {
        Self {
            run_id: update.run_id.to_string(),
            update_id: update_id_bytes(update.update_id),
            state: v1::TaskState::from(update.state) as i32,
            message: update.message,
            healthy: update.healthy,
        }
    }
}

/// Refuses states that are not an executor's to tell. A message of more than [`limits::STATUS_MESSAGE_BYTES_MAX`] is cut.
impl TryFrom<v1::ExecutorUpdate> for ExecutorUpdate {
    type Error = ConvertError;

    fn try_from(wire: v1::ExecutorUpdate) -> Result<Self, ConvertError> {
        let state = task_state("state", wire.state)?;
        if !ExecutorUpdate::STATES.contains(&state) {
            let what = format_args!(
                "`{state}` is not for an executor to tell; running, finished, failed and killed are"
            );
            return Err(ConvertError::new("state", what));
        }
        Ok(Self {
            run_id: id("run_id", &wire.run_id)?,
            update_id: update_id("update_id", &wire.update_id)?,
            state,
            message: cut(wire.message, limits::STATUS_MESSAGE_BYTES_MAX),
            healthy: wire.healthy,
        })
    }
}

impl From<ExecutorEvent> for v1::ExecutorServiceConnectResponse {
    fn from(event: ExecutorEvent) -> Self {
        let message = match event {
            ExecutorEvent::Subscribed { framework_id, executor, agent_id } => {
                WireResponse::Subscribed(v1::ExecutorSubscribed {
                    framework_id: framework_id.to_string(),
                    executor_task_id: executor.to_string(),
                    agent_id: agent_id.map(|id| id.to_string()),
                })
            }
            ExecutorEvent::Launch { run_id, info } => WireResponse::Launch(v1::ExecutorLaunch {
                run_id: run_id.to_string(),
                task_info: Some(info.into()),
            }),
            ExecutorEvent::Kill { run_id, grace, reason } => WireResponse::Kill(v1::ExecutorKill {
                run_id: run_id.to_string(),
                grace_ms: millis(grace),
                reason: v1::Reason::from(reason) as i32,
            }),
            ExecutorEvent::Acknowledge { update_id } => {
                WireResponse::Acknowledge(v1::ExecutorAcknowledge { update_id: update_id_bytes(update_id) })
            }
            ExecutorEvent::Refuse { code, message } => WireResponse::Refuse(v1::ExecutorRefuse {
                code: v1::ExecutorRefuseCode::from(code) as i32,
                message,
            }),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::ExecutorServiceConnectResponse> for ExecutorEvent {
    type Error = ConvertError;

    fn try_from(wire: v1::ExecutorServiceConnectResponse) -> Result<Self, ConvertError> {
        let said = wire
            .message
            .ok_or_else(|| ConvertError::new("message", "is missing, or of a kind not known here"))?;
        Ok(match said {
            WireResponse::Subscribed(subscribed) => ExecutorEvent::Subscribed {
                framework_id: id("subscribed.framework_id", &subscribed.framework_id)?,
                executor: id("subscribed.executor_task_id", &subscribed.executor_task_id)?,
                agent_id: optional_id("subscribed.agent_id", subscribed.agent_id)?,
            },
            WireResponse::Launch(launch) => ExecutorEvent::Launch {
                run_id: id("launch.run_id", &launch.run_id)?,
                info: message("launch.task_info", launch.task_info)?,
            },
            WireResponse::Kill(kill) => ExecutorEvent::Kill {
                run_id: id("kill.run_id", &kill.run_id)?,
                grace: duration("kill.grace_ms", kill.grace_ms, limits::KILL_GRACE_MAX)?,
                reason: kill_reason("kill.reason", kill.reason)?,
            },
            WireResponse::Acknowledge(acknowledge) => ExecutorEvent::Acknowledge {
                update_id: update_id("acknowledge.update_id", &acknowledge.update_id)?,
            },
            WireResponse::Refuse(refuse) => ExecutorEvent::Refuse {
                code: executor_refuse_code("refuse.code", refuse.code)?,
                message: refuse.message,
            },
        })
    }
}

from_ref!(
    ExecutorCall => v1::ExecutorServiceConnectRequest,
    ExecutorUpdate => v1::ExecutorUpdate,
    ExecutorEvent => v1::ExecutorServiceConnectResponse,
);
