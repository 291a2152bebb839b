//! Calls of schedulers and events for them.

use apportion_proto::v1::{
    self, operation::Operation as WireOperation, scheduler_service_connect_request::Call as WireCall,
    scheduler_service_connect_response::Event as WireEvent,
};

use super::{
    ConvertError, Within, decline_code, error_code, framework::texts, from_ref, id, ids, message, messages,
    millis, optional, optional_duration, optional_id, refusal, update_id, update_id_bytes,
};
use crate::{
    Operation, OperationId, TaskInfo, limits,
    protocol::scheduler::{
        Accept, Call, Claim, DeclineReason, Event, InvalidTask, OfferOperation, ResourceRequest,
    },
    text::cut,
};

/// A call with its number, ready to be sent.
pub fn scheduler_request(call_id: u64, call: Call) -> v1::SchedulerServiceConnectRequest {
    v1::SchedulerServiceConnectRequest { call_id, call: Some(call.into()) }
}

impl From<Call> for WireCall {
    fn from(call: Call) -> Self {
        match call {
            Call::Subscribe { info, framework_id, suppressed, options } => {
                WireCall::Subscribe(v1::Subscribe {
                    framework_info: Some(info.into()),
                    framework_id: framework_id.map(|id| id.to_string()),
                    suppressed_roles: texts(&suppressed),
                    options: Some((*options).into()),
                })
            }
            Call::UpdateFramework { info, suppressed, options } => {
                WireCall::UpdateFramework(v1::UpdateFramework {
                    framework_info: Some(info.into()),
                    suppressed_roles: texts(&suppressed),
                    options: Some((*options).into()),
                })
            }
            Call::Teardown => WireCall::Teardown(v1::Teardown {}),
            Call::Accept(accept) => WireCall::Accept(accept.into()),
            Call::Gang { accepts } => {
                WireCall::Gang(v1::Gang { accepts: accepts.into_iter().map(Into::into).collect() })
            }
            Call::Lease { offers, hold } => WireCall::Lease(v1::Lease {
                offer_ids: offers.iter().map(ToString::to_string).collect(),
                hold_ms: millis(hold),
            }),
            Call::Decline { offers, refuse, reason } => WireCall::Decline(v1::Decline {
                offer_ids: offers.iter().map(ToString::to_string).collect(),
                filters: filters(refuse),
                code: v1::DeclineCode::from(reason.code) as i32,
                detail: reason.detail,
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
            Call::AcknowledgeOperation { agent_id, operation_id, update_id } => {
                WireCall::AcknowledgeOperation(v1::AcknowledgeOperation {
                    agent_id: agent_id.to_string(),
                    operation_id: operation_id.to_string(),
                    update_id: update_id_bytes(update_id),
                })
            }
            Call::ReconcileOperations { operations } => {
                let each = |(operation_id, agent_id): (crate::OperationId, Option<crate::AgentId>)| {
                    let agent_id = agent_id.map(|id| id.to_string());
                    v1::ReconcileOperation { operation_id: operation_id.to_string(), agent_id }
                };
                let operations = operations.into_iter().map(each).collect();
                WireCall::ReconcileOperations(v1::ReconcileOperations { operations })
            }
            Call::Request { role, requests } => {
                let each = |request: ResourceRequest| v1::ResourceRequest {
                    resources: Some(request.resources.into()),
                    count: request.count,
                };
                let requests = requests.into_iter().map(each).collect();
                WireCall::Request(v1::Request { role: role.to_string(), requests })
            }
            Call::WatchFree { on } => WireCall::WatchFree(v1::WatchFree { on }),
            Call::AcceptInverseOffers { inverse_offers, refuse } => {
                WireCall::AcceptInverseOffers(v1::AcceptInverseOffers {
                    inverse_offer_ids: inverse_offers.iter().map(ToString::to_string).collect(),
                    filters: filters(refuse),
                })
            }
            Call::DeclineInverseOffers { inverse_offers, refuse, reason } => {
                WireCall::DeclineInverseOffers(v1::DeclineInverseOffers {
                    inverse_offer_ids: inverse_offers.iter().map(ToString::to_string).collect(),
                    filters: filters(refuse),
                    reason,
                })
            }
            Call::Commit { role, claims, all_or_nothing } => {
                let each = |claim: Claim| v1::Claim {
                    agent_id: claim.agent_id.to_string(),
                    tasks: claim.tasks.into_iter().map(wire_task).collect(),
                };
                let claims = claims.into_iter().map(each).collect();
                WireCall::Commit(v1::Commit { role: role.to_string(), claims, all_or_nothing })
            }
        }
    }
}

/// A task that could not be taken stays one that cannot.
fn wire_task(task: Result<TaskInfo, InvalidTask>) -> v1::TaskInfo {
    match task {
        Ok(info) => info.into(),
        Err(InvalidTask { task_id, .. }) => v1::TaskInfo {
            task_id: task_id.map(|id| id.to_string()).unwrap_or_default(),
            ..Default::default()
        },
    }
}

impl From<Accept> for v1::Accept {
    fn from(accept: Accept) -> Self {
        let each = |operation| match operation {
            OfferOperation::Launch(tasks) => {
                let launch = v1::Launch { tasks: tasks.into_iter().map(wire_task).collect() };
                v1::Operation { operation: Some(WireOperation::Launch(launch)), operation_id: None }
            }
            OfferOperation::LaunchGroup(tasks) => {
                let launch = v1::LaunchGroup { tasks: tasks.into_iter().map(wire_task).collect() };
                v1::Operation { operation: Some(WireOperation::LaunchGroup(launch)), operation_id: None }
            }
            OfferOperation::Convert { id, operation } => v1::Operation {
                operation: Some(WireOperation::Convert(operation.into())),
                operation_id: id.map(|id| id.to_string()),
            },
        };
        Self {
            offer_ids: accept.offers.iter().map(ToString::to_string).collect(),
            operations: accept.operations.into_iter().map(each).collect(),
            filters: filters(accept.refuse),
        }
    }
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
            WireCall::UpdateFramework(update) => update_framework(update).within("update_framework")?,
            WireCall::Accept(accept) => Call::Accept(self::accept(accept).within("accept")?),
            WireCall::Gang(v1::Gang { accepts }) => {
                let each =
                    |(index, accept)| self::accept(accept).within(format_args!("gang.accepts[{index}]"));
                Call::Gang { accepts: accepts.into_iter().enumerate().map(each).collect::<Result<_, _>>()? }
            }
            WireCall::Lease(lease) => Call::Lease {
                offers: ids("lease.offer_ids", &lease.offer_ids)?,
                hold: super::duration("lease.hold_ms", lease.hold_ms, limits::LEASE_MAX)?,
            },
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
            WireCall::AcknowledgeOperation(acknowledge) => {
                let v1::AcknowledgeOperation { agent_id, operation_id, update_id: bytes } = acknowledge;
                Call::AcknowledgeOperation {
                    agent_id: id("acknowledge_operation.agent_id", &agent_id)?,
                    operation_id: id("acknowledge_operation.operation_id", &operation_id)?,
                    update_id: update_id("acknowledge_operation.update_id", &bytes)?,
                }
            }
            WireCall::ReconcileOperations(v1::ReconcileOperations { operations }) => {
                let each = |(index, operation): (usize, v1::ReconcileOperation)| {
                    let pair = id("operation_id", &operation.operation_id)
                        .and_then(|id| Ok((id, optional_id("agent_id", operation.agent_id)?)));
                    pair.within(format_args!("reconcile_operations.operations[{index}]"))
                };
                let operations = operations.into_iter().enumerate().map(each).collect::<Result<_, _>>()?;
                Call::ReconcileOperations { operations }
            }
            WireCall::Request(request) => self::request(request).within("request")?,
            WireCall::WatchFree(v1::WatchFree { on }) => Call::WatchFree { on },
            WireCall::AcceptInverseOffers(wire) => Call::AcceptInverseOffers {
                inverse_offers: ids("accept_inverse_offers.inverse_offer_ids", &wire.inverse_offer_ids)?,
                refuse: refuse(wire.filters).within("accept_inverse_offers")?,
            },
            WireCall::DeclineInverseOffers(wire) => Call::DeclineInverseOffers {
                inverse_offers: ids("decline_inverse_offers.inverse_offer_ids", &wire.inverse_offer_ids)?,
                refuse: refuse(wire.filters).within("decline_inverse_offers")?,
                reason: cut(wire.reason, limits::DECLINE_DETAIL_BYTES_MAX),
            },
            WireCall::Commit(commit) => self::commit(commit).within("commit")?,
        })
    }
}

fn subscribe(wire: v1::Subscribe) -> Result<Call, ConvertError> {
    Ok(Call::Subscribe {
        info: message("framework_info", wire.framework_info)?,
        framework_id: optional_id("framework_id", wire.framework_id)?,
        suppressed: ids("suppressed_roles", &wire.suppressed_roles)?,
        options: Box::new(optional("options", wire.options)?.unwrap_or_default()),
    })
}

fn update_framework(wire: v1::UpdateFramework) -> Result<Call, ConvertError> {
    Ok(Call::UpdateFramework {
        info: message("framework_info", wire.framework_info)?,
        suppressed: ids("suppressed_roles", &wire.suppressed_roles)?,
        options: Box::new(optional("options", wire.options)?.unwrap_or_default()),
    })
}

/// Refuses a request for nothing or for none, and more than [`limits::REQUESTS_MAX`].
fn request(wire: v1::Request) -> Result<Call, ConvertError> {
    if wire.requests.len() > limits::REQUESTS_MAX {
        let (count, most) = (wire.requests.len(), limits::REQUESTS_MAX);
        return Err(ConvertError::new(
            "requests",
            format_args!("{count} requests are more than are allowed, {most}"),
        ));
    }
    let each = |(index, wire): (usize, v1::ResourceRequest)| {
        let at = format!("requests[{index}]");
        let resources: crate::Resources = message("resources", wire.resources).within(&at)?;
        if wire.count == 0 || resources.is_empty() {
            return Err(ConvertError::new(at, "asks for nothing; leave it out"));
        }
        Ok(ResourceRequest { resources, count: wire.count })
    };
    Ok(Call::Request {
        role: id("role", &wire.role)?,
        requests: wire.requests.into_iter().enumerate().map(each).collect::<Result<_, _>>()?,
    })
}

fn commit(wire: v1::Commit) -> Result<Call, ConvertError> {
    let each = |(index, wire): (usize, v1::Claim)| {
        let agent_id = id("agent_id", &wire.agent_id).within(format_args!("claims[{index}]"))?;
        let tasks = wire.tasks.into_iter().enumerate().map(|(index, wire)| task(wire, index)).collect();
        Ok(Claim { agent_id, tasks })
    };
    Ok(Call::Commit {
        role: id("role", &wire.role)?,
        claims: wire.claims.into_iter().enumerate().map(each).collect::<Result<_, ConvertError>>()?,
        all_or_nothing: wire.all_or_nothing,
    })
}

/// Tasks of one operation of an accept; `before` counts those of the operations before it too.
fn launched(tasks: Vec<v1::TaskInfo>, before: &mut usize) -> Vec<Result<TaskInfo, InvalidTask>> {
    let first = *before;
    *before += tasks.len();
    (first..).zip(tasks).map(|(index, wire)| task(wire, index)).collect()
}

fn accept(wire: v1::Accept) -> Result<Accept, ConvertError> {
    let mut tasks = 0;
    let mut operations = Vec::with_capacity(wire.operations.len());
    for (index, wire) in wire.operations.into_iter().enumerate() {
        let at = format!("operations[{index}]");
        let id: Option<OperationId> = optional_id("operation_id", wire.operation_id).within(&at)?;
        operations.push(match wire.operation {
            Some(WireOperation::Launch(_) | WireOperation::LaunchGroup(_)) if id.is_some() => {
                return Err(ConvertError::new(
                    at,
                    "a launch has no operation id: its tasks are answered one by one",
                ));
            }
            Some(WireOperation::Launch(launch)) => OfferOperation::Launch(launched(launch.tasks, &mut tasks)),
            Some(WireOperation::LaunchGroup(launch)) => {
                OfferOperation::LaunchGroup(launched(launch.tasks, &mut tasks))
            }
            Some(WireOperation::Convert(operation)) => {
                let operation = Operation::try_from(operation).within(format_args!("{at}.convert"))?;
                OfferOperation::Convert { id, operation }
            }
            None => {
                return Err(ConvertError::new(
                    format!("{at}.operation"),
                    "is missing, or of a kind not known here",
                ));
            }
        });
    }
    Ok(Accept { offers: ids("offer_ids", &wire.offer_ids)?, operations, refuse: refuse(wire.filters)? })
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
        reason: DeclineReason {
            code: decline_code(wire.code),
            detail: cut(wire.detail, limits::DECLINE_DETAIL_BYTES_MAX),
        },
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
            Event::InverseOffers(offers) => WireEvent::InverseOffers(v1::InverseOffers {
                inverse_offers: offers.into_iter().map(Into::into).collect(),
            }),
            Event::RescindInverseOffer(id) => {
                WireEvent::RescindInverseOffer(v1::RescindInverseOffer { inverse_offer_id: id.to_string() })
            }
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
            Event::StandingBy { framework_id, heartbeat_interval } => WireEvent::StandingBy(v1::StandingBy {
                framework_id: framework_id.to_string(),
                heartbeat_interval_ms: millis(heartbeat_interval),
            }),
            Event::OperationUpdate(status) => {
                WireEvent::OperationUpdate(v1::OperationUpdate { status: Some(status.into()) })
            }
            Event::Preempt(preemption) => WireEvent::Preempt(preemption.into()),
            Event::Free(free) => WireEvent::FreeState(free.into()),
            Event::Committed { call_id, claims } => WireEvent::Committed(v1::Committed {
                call_id,
                claims: claims.into_iter().map(Into::into).collect(),
            }),
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
            WireEvent::InverseOffers(v1::InverseOffers { inverse_offers }) => {
                Event::InverseOffers(messages("inverse_offers.inverse_offers", inverse_offers)?)
            }
            WireEvent::RescindInverseOffer(rescind) => Event::RescindInverseOffer(id(
                "rescind_inverse_offer.inverse_offer_id",
                &rescind.inverse_offer_id,
            )?),
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
            WireEvent::StandingBy(standing) => Event::StandingBy {
                framework_id: id("standing_by.framework_id", &standing.framework_id)?,
                heartbeat_interval: std::time::Duration::from_millis(standing.heartbeat_interval_ms),
            },
            WireEvent::OperationUpdate(update) => {
                Event::OperationUpdate(message("operation_update.status", update.status)?)
            }
            WireEvent::Preempt(preempt) => Event::Preempt(preempt.try_into().within("preempt")?),
            WireEvent::FreeState(free) => Event::Free(free.try_into().within("free_state")?),
            WireEvent::Committed(v1::Committed { call_id, claims }) => {
                Event::Committed { call_id, claims: messages("committed.claims", claims)? }
            }
        })
    }
}

from_ref!(
    Call => WireCall,
    Event => v1::SchedulerServiceConnectResponse,
);
