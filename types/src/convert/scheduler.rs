//! Calls of schedulers and events for them.

use apportion_proto::v1::{
    self, scheduler_service_connect_request::Call as WireCall,
    scheduler_service_connect_response::Event as WireEvent,
};

use super::{
    ConvertError, Within, error_code, framework::texts, from_ref, id, ids, message, messages, millis,
    optional_duration, optional_id, refusal, update_id, update_id_bytes,
};
use crate::{
    TaskInfo, limits,
    protocol::scheduler::{Call, Event, InvalidTask},
};

/// A call with its number, ready to be sent.
pub fn scheduler_request(call_id: u64, call: Call) -> v1::SchedulerServiceConnectRequest {
    v1::SchedulerServiceConnectRequest { call_id, call: Some(call.into()) }
}

impl From<Call> for WireCall {
    fn from(call: Call) -> Self {
        match call {
            Call::Subscribe { info, framework_id, suppressed } => WireCall::Subscribe(v1::Subscribe {
                framework_info: Some(info.into()),
                framework_id: framework_id.map(|id| id.to_string()),
                suppressed_roles: texts(&suppressed),
            }),
            Call::Teardown => WireCall::Teardown(v1::Teardown {}),
            Call::Accept { offers, tasks, refuse } => WireCall::Accept(v1::Accept {
                offer_ids: offers.iter().map(ToString::to_string).collect(),
                operations: launch(tasks),
                filters: filters(refuse),
            }),
            Call::Decline { offers, refuse, reason } => WireCall::Decline(v1::Decline {
                offer_ids: offers.iter().map(ToString::to_string).collect(),
                filters: filters(refuse),
                reason,
            }),
            Call::Suppress { roles } => WireCall::Suppress(v1::Suppress { roles: texts(&roles) }),
            Call::Revive { roles } => WireCall::Revive(v1::Revive { roles: texts(&roles) }),
            Call::Kill { task_id, grace } => {
                WireCall::Kill(v1::Kill { task_id: task_id.to_string(), grace_ms: grace.map(millis) })
            }
            Call::Acknowledge { agent_id, task_id, update_id } => WireCall::Acknowledge(v1::Acknowledge {
                agent_id: agent_id.to_string(),
                task_id: task_id.to_string(),
                update_id: update_id_bytes(update_id),
            }),
            Call::Reconcile { tasks } => {
                let each = |(task_id, agent_id): (crate::TaskId, Option<crate::AgentId>)| v1::ReconcileTask {
                    task_id: task_id.to_string(),
                    agent_id: agent_id.map(|id| id.to_string()),
                };
                WireCall::Reconcile(v1::Reconcile { tasks: tasks.into_iter().map(each).collect() })
            }
        }
    }
}

/// All tasks in one operation; none when there is no task. A task that could not be taken stays one that cannot.
fn launch(tasks: Vec<Result<TaskInfo, InvalidTask>>) -> Vec<v1::Operation> {
    if tasks.is_empty() {
        return Vec::new();
    }
    let wire = |task: Result<TaskInfo, InvalidTask>| match task {
        Ok(info) => info.into(),
        Err(InvalidTask { task_id, .. }) => v1::TaskInfo {
            task_id: task_id.map(|id| id.to_string()).unwrap_or_default(),
            ..Default::default()
        },
    };
    let launch = v1::Launch { tasks: tasks.into_iter().map(wire).collect() };
    vec![v1::Operation { operation: Some(v1::operation::Operation::Launch(launch)) }]
}

fn filters(refuse: Option<std::time::Duration>) -> Option<v1::Filters> {
    refuse.map(|refuse| v1::Filters { refuse_ms: Some(millis(refuse)) })
}

fn refuse(filters: Option<v1::Filters>) -> Result<Option<std::time::Duration>, ConvertError> {
    optional_duration("filters.refuse_ms", filters.and_then(|filters| filters.refuse_ms), limits::REFUSE_MAX)
}

/// Takes the call of a request; its number, `call_id`, is the caller's to keep. A task of an accept that breaks a rule of its
/// form becomes an [`InvalidTask`] in its place, instead of failing the call. Counts ([`limits::TASKS_PER_ACCEPT_MAX`] and
/// its like) are for the master's core to judge.
impl TryFrom<v1::SchedulerServiceConnectRequest> for Call {
    type Error = ConvertError;

    fn try_from(wire: v1::SchedulerServiceConnectRequest) -> Result<Self, ConvertError> {
        let call =
            wire.call.ok_or_else(|| ConvertError::new("call", "is missing, or of a kind not known here"))?;
        Ok(match call {
            WireCall::Subscribe(subscribe) => self::subscribe(subscribe).within("subscribe")?,
            WireCall::Teardown(v1::Teardown {}) => Call::Teardown,
            WireCall::Accept(accept) => self::accept(accept).within("accept")?,
            WireCall::Decline(decline) => self::decline(decline).within("decline")?,
            WireCall::Suppress(v1::Suppress { roles }) => {
                Call::Suppress { roles: ids("suppress.roles", &roles)? }
            }
            WireCall::Revive(v1::Revive { roles }) => Call::Revive { roles: ids("revive.roles", &roles)? },
            WireCall::Kill(kill) => Call::Kill {
                task_id: id("kill.task_id", &kill.task_id)?,
                grace: optional_duration("kill.grace_ms", kill.grace_ms, limits::KILL_GRACE_MAX)?,
            },
            WireCall::Acknowledge(acknowledge) => Call::Acknowledge {
                agent_id: id("acknowledge.agent_id", &acknowledge.agent_id)?,
                task_id: id("acknowledge.task_id", &acknowledge.task_id)?,
                update_id: update_id("acknowledge.update_id", &acknowledge.update_id)?,
            },
            WireCall::Reconcile(v1::Reconcile { tasks }) => {
                let each = |(index, task): (usize, v1::ReconcileTask)| {
                    let pair = id("task_id", &task.task_id)
                        .and_then(|task_id| Ok((task_id, optional_id("agent_id", task.agent_id)?)));
                    pair.within(format_args!("reconcile.tasks[{index}]"))
                };
                Call::Reconcile { tasks: tasks.into_iter().enumerate().map(each).collect::<Result<_, _>>()? }
            }
        })
    }
}

fn subscribe(wire: v1::Subscribe) -> Result<Call, ConvertError> {
    Ok(Call::Subscribe {
        info: message("framework_info", wire.framework_info)?,
        framework_id: optional_id("framework_id", wire.framework_id)?,
        suppressed: ids("suppressed_roles", &wire.suppressed_roles)?,
    })
}

fn accept(wire: v1::Accept) -> Result<Call, ConvertError> {
    let mut tasks = Vec::new();
    for (index, operation) in wire.operations.into_iter().enumerate() {
        match operation.operation {
            Some(v1::operation::Operation::Launch(launch)) => {
                for task in launch.tasks {
                    let task = self::task(task, tasks.len());
                    tasks.push(task);
                }
            }
            None => {
                let what = "is missing, or of a kind not known here";
                return Err(ConvertError::new(format!("operations[{index}].operation"), what));
            }
        }
    }
    Ok(Call::Accept { offers: ids("offer_ids", &wire.offer_ids)?, tasks, refuse: refuse(wire.filters)? })
}

fn task(wire: v1::TaskInfo, index: usize) -> Result<TaskInfo, InvalidTask> {
    let task_id = wire.task_id.parse().ok();
    TaskInfo::try_from(wire).map_err(|error| InvalidTask {
        task_id,
        message: error.within(format_args!("accept.tasks[{index}]")).to_string(),
    })
}

fn decline(wire: v1::Decline) -> Result<Call, ConvertError> {
    Ok(Call::Decline {
        offers: ids("offer_ids", &wire.offer_ids)?,
        refuse: refuse(wire.filters)?,
        reason: wire.reason,
    })
}

impl From<Event> for v1::SchedulerServiceConnectResponse {
    fn from(event: Event) -> Self {
        let event = match event {
            Event::Subscribed { framework_id, heartbeat_interval, master_id } => {
                WireEvent::Subscribed(v1::Subscribed {
                    framework_id: framework_id.to_string(),
                    heartbeat_interval_ms: millis(heartbeat_interval),
                    master_id,
                })
            }
            Event::Offers(offers) => {
                WireEvent::Offers(v1::Offers { offers: offers.into_iter().map(Into::into).collect() })
            }
            Event::Rescind(offer_id) => WireEvent::Rescind(v1::Rescind { offer_id: offer_id.to_string() }),
            Event::Update(status) => WireEvent::Update(v1::Update { status: Some(status.into()) }),
            Event::AgentLost { agent_id, message } => {
                WireEvent::AgentLost(v1::AgentLost { agent_id: agent_id.to_string(), message })
            }
            Event::Refused { call_id, code, message } => {
                WireEvent::Refused(v1::Refused { call_id, code: v1::RefusalCode::from(code) as i32, message })
            }
            Event::Error { code, message } => {
                WireEvent::Error(v1::Error { code: v1::ErrorCode::from(code) as i32, message })
            }
            Event::Heartbeat => WireEvent::Heartbeat(v1::Heartbeat {}),
        };
        Self { event: Some(event) }
    }
}

impl TryFrom<v1::SchedulerServiceConnectResponse> for Event {
    type Error = ConvertError;

    fn try_from(wire: v1::SchedulerServiceConnectResponse) -> Result<Self, ConvertError> {
        let event = wire
            .event
            .ok_or_else(|| ConvertError::new("event", "is missing, or of a kind not known here"))?;
        Ok(match event {
            WireEvent::Subscribed(subscribed) => Event::Subscribed {
                framework_id: id("subscribed.framework_id", &subscribed.framework_id)?,
                heartbeat_interval: std::time::Duration::from_millis(subscribed.heartbeat_interval_ms),
                master_id: subscribed.master_id,
            },
            WireEvent::Offers(v1::Offers { offers }) => Event::Offers(messages("offers.offers", offers)?),
            WireEvent::Rescind(rescind) => Event::Rescind(id("rescind.offer_id", &rescind.offer_id)?),
            WireEvent::Update(update) => Event::Update(message("update.status", update.status)?),
            WireEvent::AgentLost(lost) => Event::AgentLost {
                agent_id: id("agent_lost.agent_id", &lost.agent_id)?,
                message: lost.message,
            },
            WireEvent::Refused(refused) => Event::Refused {
                call_id: refused.call_id,
                code: refusal("refused.code", refused.code)?,
                message: refused.message,
            },
            WireEvent::Error(error) => {
                Event::Error { code: error_code("error.code", error.code)?, message: error.message }
            }
            WireEvent::Heartbeat(v1::Heartbeat {}) => Event::Heartbeat,
        })
    }
}

from_ref!(
    Call => WireCall,
    Event => v1::SchedulerServiceConnectResponse,
);
