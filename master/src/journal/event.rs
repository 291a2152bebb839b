//! Events of the core as records, and back: to the very same event, or an error.

use std::time::Duration;

use apportion_master_core::{CommitId, ConnId, Event, OperatorCall, RequestId};
use apportion_proto::v1::{self, journal_operator_call::Call as WireOperatorCall, journal_record::Record};
use apportion_types::{
    convert::{ConvertError, scheduler_request},
    protocol::{
        agent::AgentMessage,
        scheduler::{Call, InvalidTask},
    },
};

use crate::rpc::{change, maintenance};

/// The record of an event; none of a question, which leaves the core as it was.
pub(super) fn record(event: Event) -> Option<Record> {
    Some(match event {
        Event::SchedulerCall { conn, call_id, call } => {
            let invalid_tasks = invalid_tasks(&call);
            let request = Some(scheduler_request(call_id, call));
            Record::SchedulerCall(v1::JournalSchedulerCall { conn: conn.0, request, invalid_tasks })
        }
        Event::SchedulerClosed { conn } => Record::SchedulerClosedConn(conn.0),
        Event::AgentMessage { conn, message } => {
            Record::AgentMessage(v1::JournalAgentMessage { conn: conn.0, request: Some(message.into()) })
        }
        Event::AgentClosed { conn } => Record::AgentClosedConn(conn.0),
        Event::Operator { request, call } => {
            let call = Some(operator_record(call)?);
            Record::OperatorCall(v1::JournalOperatorCall { request: request.0, call })
        }
        Event::Committed { commit } => Record::Committed(commit.0),
        Event::Tick => Record::Tick(v1::JournalTick {}),
        Event::Shutdown => Record::Shutdown(v1::JournalShutdown {}),
    })
}

/// The event of a record that is not a mark between events.
pub(super) fn event(record: Record) -> Result<Event, ConvertError> {
    Ok(match record {
        Record::SchedulerCall(wire) => {
            scheduler_call(wire).map_err(|error| error.within("scheduler_call"))?
        }
        Record::SchedulerClosedConn(conn) => Event::SchedulerClosed { conn: ConnId(conn) },
        Record::AgentMessage(wire) => {
            let message = required("request", wire.request).and_then(AgentMessage::try_from);
            let message = message.map_err(|error| error.within("agent_message"))?;
            Event::AgentMessage { conn: ConnId(wire.conn), message }
        }
        Record::AgentClosedConn(conn) => Event::AgentClosed { conn: ConnId(conn) },
        Record::OperatorCall(wire) => {
            let call = required("call", wire.call).and_then(operator_call);
            let call = call.map_err(|error| error.within("operator_call"))?;
            Event::Operator { request: RequestId(wire.request), call }
        }
        Record::Committed(commit) => Event::Committed { commit: CommitId(commit) },
        Record::Tick(v1::JournalTick {}) => Event::Tick,
        Record::Shutdown(v1::JournalShutdown {}) => Event::Shutdown,
        Record::Digest(_) | Record::End(_) => {
            return Err(ConvertError::new("record", "is a mark where an event is expected"));
        }
    })
}

fn invalid_tasks(call: &Call) -> Vec<v1::JournalInvalidTask> {
    let invalid =
        call.tasks().into_iter().enumerate().filter_map(|(index, task)| Some((index, task.as_ref().err()?)));
    let record = |(index, task): (usize, &InvalidTask)| v1::JournalInvalidTask {
        index: u32::try_from(index).expect("an accept fits in one message"),
        task_id: task.task_id.as_ref().map(ToString::to_string),
        message: task.message.clone(),
    };
    invalid.map(record).collect()
}

fn scheduler_call(wire: v1::JournalSchedulerCall) -> Result<Event, ConvertError> {
    let request = required("request", wire.request)?;
    let call_id = request.call_id;
    let mut call = Call::try_from(request)?;
    let mut tasks = call.tasks_mut();
    let count = wire.invalid_tasks.len();
    for (at, invalid) in wire.invalid_tasks.into_iter().enumerate() {
        let field = |name: &str| format!("invalid_tasks[{at}].{name}");
        let Some(task) = tasks.get_mut(invalid.index as usize) else {
            return Err(ConvertError::new(field("index"), "there is no such task in the call"));
        };
        let task_id = invalid.task_id.map(|text| id(&field("task_id"), &text)).transpose()?;
        **task = Err(InvalidTask { task_id, message: invalid.message });
    }
    // What the master took when it recorded must not be refused here by a rule that it did not know.
    let mut refused = tasks.iter().filter_map(|task| task.as_ref().err());
    match refused.nth(count) {
        Some(task) => {
            Err(ConvertError::new("", format_args!("a task that was taken is refused: {}", task.message)))
        }
        None => Ok(Event::SchedulerCall { conn: ConnId(wire.conn), call_id, call }),
    }
}

fn operator_record(call: OperatorCall) -> Option<WireOperatorCall> {
    Some(match call {
        OperatorCall::KillTask { framework_id, task_id, grace } => {
            WireOperatorCall::KillTask(v1::JournalKillTask {
                framework_id: framework_id.map(|id| id.to_string()),
                task_id: task_id.to_string(),
                grace_us: grace.map(super::header::micros),
            })
        }
        OperatorCall::TeardownFramework { framework_id } => {
            let framework_id = framework_id.to_string();
            WireOperatorCall::TeardownFramework(v1::JournalTeardownFramework { framework_id })
        }
        OperatorCall::UpdateRoles { changes, force } => {
            WireOperatorCall::UpdateRoles(change::update_roles_request(changes, force))
        }
        OperatorCall::Operate { agent_id, operation } => {
            WireOperatorCall::Operate(change::operate_request(&agent_id, operation))
        }
        OperatorCall::DeactivateAgent { agent_id } => {
            WireOperatorCall::DeactivateAgent(v1::DeactivateAgentRequest { agent_id: agent_id.to_string() })
        }
        OperatorCall::ReactivateAgent { agent_id } => {
            WireOperatorCall::ReactivateAgent(v1::ReactivateAgentRequest { agent_id: agent_id.to_string() })
        }
        OperatorCall::DrainAgent { agent_id, drain } => {
            let (agent_id, drain) = (agent_id.to_string(), Some(drain.into()));
            WireOperatorCall::DrainAgent(v1::DrainAgentRequest { agent_id, drain })
        }
        OperatorCall::MarkAgentGone { agent_id } => {
            WireOperatorCall::MarkAgentGone(v1::MarkAgentGoneRequest { agent_id: agent_id.to_string() })
        }
        OperatorCall::UpdateSchedule { windows } => {
            WireOperatorCall::UpdateMaintenanceSchedule(maintenance::update_schedule_request(&windows))
        }
        OperatorCall::StartMaintenance { machines } => {
            let machines = maintenance::names(&machines);
            WireOperatorCall::StartMaintenance(v1::StartMaintenanceRequest { machines })
        }
        OperatorCall::StopMaintenance { machines } => {
            let machines = maintenance::names(&machines);
            WireOperatorCall::StopMaintenance(v1::StopMaintenanceRequest { machines })
        }
        OperatorCall::Explain(_) | OperatorCall::Shares => return None,
    })
}

fn operator_call(wire: WireOperatorCall) -> Result<OperatorCall, ConvertError> {
    Ok(match wire {
        WireOperatorCall::KillTask(kill) => OperatorCall::KillTask {
            framework_id: kill.framework_id.map(|text| id("kill_task.framework_id", &text)).transpose()?,
            task_id: id("kill_task.task_id", &kill.task_id)?,
            grace: kill.grace_us.map(Duration::from_micros),
        },
        WireOperatorCall::TeardownFramework(teardown) => {
            let framework_id = id("teardown_framework.framework_id", &teardown.framework_id)?;
            OperatorCall::TeardownFramework { framework_id }
        }
        WireOperatorCall::UpdateRoles(wire) => {
            change::update_roles(wire).map_err(|error| error.within("update_roles"))?
        }
        WireOperatorCall::UpdateMaintenanceSchedule(wire) => {
            maintenance::update_schedule(wire).map_err(|error| error.within("update_maintenance_schedule"))?
        }
        WireOperatorCall::StartMaintenance(wire) => {
            maintenance::start(&wire).map_err(|error| error.within("start_maintenance"))?
        }
        WireOperatorCall::StopMaintenance(wire) => {
            maintenance::stop(&wire).map_err(|error| error.within("stop_maintenance"))?
        }
        WireOperatorCall::Operate(wire) => change::operate(wire).map_err(|error| error.within("operate"))?,
        WireOperatorCall::DeactivateAgent(wire) => {
            change::deactivate(&wire).map_err(|error| error.within("deactivate_agent"))?
        }
        WireOperatorCall::ReactivateAgent(wire) => {
            change::reactivate(&wire).map_err(|error| error.within("reactivate_agent"))?
        }
        WireOperatorCall::DrainAgent(wire) => {
            change::drain(wire).map_err(|error| error.within("drain_agent"))?
        }
        WireOperatorCall::MarkAgentGone(wire) => {
            change::gone(&wire).map_err(|error| error.within("mark_agent_gone"))?
        }
    })
}

fn required<T>(field: &str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(field, "is missing, or of a kind not known here"))
}

fn id<T>(field: &str, text: &str) -> Result<T, ConvertError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse().map_err(|error| ConvertError::new(field, error))
}
