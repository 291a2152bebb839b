//! What has happened, as text: one line each, the same for the same seed to the byte.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use apportion_agent_core::Record;
use apportion_master_core::OperatorCall;
use apportion_sdk::DeclineReason;
use apportion_types::{
    Drain, OperationStatus, TaskInfo, TaskStatus, Time, Unavailability, UpdateId, Window,
    protocol::{
        agent::{AgentMessage, MasterMessage},
        scheduler::{Accept, Call, ClaimResult, Event, InvalidTask, OfferOperation, Preemption},
    },
};

use crate::{check::Happening, clock::START};

/// The lines of a run, or nothing: writing them costs more than the run itself.
#[derive(Debug, Default)]
pub(crate) struct History {
    lines: Option<Vec<String>>,
}

impl History {
    /// One that keeps every line.
    pub(crate) fn kept() -> Self {
        Self { lines: Some(Vec::new()) }
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    pub(crate) fn note(&mut self, now: Time, happening: &Happening<'_>) {
        if let Some(lines) = &mut self.lines
            && let Some(what) = describe(happening)
        {
            lines.push(format!("{} {what}", stamp(now)));
        }
    }

    pub(crate) fn violated(&mut self, now: Time, check: &str, message: &str) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{} BROKEN {check}: {message}", stamp(now)));
        }
    }
}

/// Seconds since the start of the run.
pub(crate) fn stamp(now: Time) -> String {
    let elapsed: Duration = now.since(START);
    format!("{:>5}.{:06}", elapsed.as_secs(), elapsed.subsec_micros())
}

/// What is worth a line: not signs of life, and each message once, where it is sent or where it takes effect.
pub(crate) fn describe(happening: &Happening<'_>) -> Option<String> {
    Some(match happening {
        Happening::Started(process) => format!("{process} starts"),
        Happening::Crashed(process) => format!("{process} dies"),
        Happening::Rebooted { agent } => format!("agent {agent}: the machine starts anew"),
        Happening::Wiped { agent } => format!("agent {agent}: begins with an empty disk"),
        Happening::Fault(fault) => format!("fault: {fault}"),
        Happening::SchedulerCalls { framework, call, .. } => {
            format!("framework {framework} calls {}", Said(call))
        }
        Happening::SchedulerHears { framework, event } => {
            if matches!(event, Event::Heartbeat) {
                return None;
            }
            format!("framework {framework} hears {}", Told(event))
        }
        Happening::SchedulerHandles { .. } | Happening::SchedulerHandled { .. } => return None,
        Happening::MasterHearsScheduler { framework, call, .. } => {
            format!("master hears framework {framework}: {}", call.name())
        }
        Happening::MasterTellsScheduler { framework, event, .. } => {
            if matches!(event, Event::Heartbeat) {
                return None;
            }
            format!("master tells framework {framework} {}", Told(event))
        }
        Happening::OperatorCalls { call: OperatorCall::KillTask { task_id, .. } } => {
            format!("operator: kill {task_id}")
        }
        Happening::OperatorCalls { call: OperatorCall::TeardownFramework { framework_id } } => {
            format!("operator: tear down {framework_id}")
        }
        Happening::OperatorCalls { call: OperatorCall::UpdateRoles { changes, .. } } => {
            format!("operator: set {}", list(&changes.keys().collect::<Vec<_>>()))
        }
        Happening::OperatorCalls { call: OperatorCall::UpdateSchedule { windows } } => {
            let windows: Vec<String> = windows.iter().map(window).collect();
            format!("operator: plan maintenance {}", list(&windows))
        }
        Happening::OperatorCalls { call: OperatorCall::StartMaintenance { machines } } => {
            format!("operator: start maintenance of {}", list(&machines.iter().collect::<Vec<_>>()))
        }
        Happening::OperatorCalls { call: OperatorCall::StopMaintenance { machines } } => {
            format!("operator: stop maintenance of {}", list(&machines.iter().collect::<Vec<_>>()))
        }
        Happening::OperatorCalls { call: OperatorCall::Operate { agent_id, operation } } => {
            format!("operator: {operation} on {agent_id}")
        }
        Happening::OperatorCalls { call: OperatorCall::DeactivateAgent { agent_id } } => {
            format!("operator: deactivate {agent_id}")
        }
        Happening::OperatorCalls { call: OperatorCall::ReactivateAgent { agent_id } } => {
            format!("operator: reactivate {agent_id}")
        }
        Happening::OperatorCalls { call: OperatorCall::DrainAgent { agent_id, drain } } => {
            format!("operator: drain {agent_id}{}", drained(Some(*drain)))
        }
        Happening::OperatorCalls { call: OperatorCall::MarkAgentGone { agent_id } } => {
            format!("operator: {agent_id} is gone")
        }
        Happening::OperatorAnswered { .. } => "operator: is answered".to_owned(),
        Happening::OperatorCalls { call: OperatorCall::Explain(_) | OperatorCall::Shares } => return None,
        Happening::MasterHearsAgent { agent, message, .. } => {
            if matches!(message, AgentMessage::Pong { .. }) {
                return None;
            }
            format!("master hears agent {agent}: {}", message.name())
        }
        Happening::MasterTellsAgent { agent, message, .. } => {
            let what = told_agent(message)?;
            format!("master tells agent {agent} {what}")
        }
        Happening::AgentHears { agent, message } => {
            let what = told_agent(message)?;
            format!("agent {agent} hears {what}")
        }
        Happening::AgentSays { agent, message } => {
            let what = said_by_agent(message)?;
            format!("agent {agent} says {what}")
        }
        Happening::Durable { agent, record } => format!("agent {agent} disk: {}", written(record)),
        Happening::Launching { agent, container, task } => {
            format!("agent {agent} launches {} of {} as {container}", task.1, task.0)
        }
        Happening::Running { agent, container, task } => {
            format!("agent {agent} runs {} of {} as {container}", task.1, task.0)
        }
        Happening::Ended { agent, container, task, termination } => {
            let exit = termination.exit.map_or_else(|| "unseen".to_owned(), |exit| exit.to_string());
            let limit = if termination.limitation.is_some() { ", out of memory" } else { "" };
            format!("agent {agent} container {container} of {} ends: {exit}{limit}", task.1)
        }
        Happening::StreamEnded { conn } => format!("master: stream {} has ended", conn.0),
        Happening::MasterDecided(_) => return None,
    })
}

fn window(window: &Window) -> String {
    format!("{} {}", list(&window.machines.iter().collect::<Vec<_>>()), away(window.unavailability))
}

fn away(unavailability: Unavailability) -> String {
    match unavailability.duration {
        Some(duration) => format!("at {} for {duration:?}", stamp(unavailability.start).trim_start()),
        None => format!("at {} on", stamp(unavailability.start).trim_start()),
    }
}

struct Said<'a>(&'a Call);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())?;
        match self.0 {
            Call::Subscribe { framework_id, suppressed, .. } => {
                match framework_id {
                    Some(id) => write!(f, " {id}")?,
                    None => f.write_str(" new")?,
                }
                if suppressed.is_empty() { Ok(()) } else { f.write_str(" suppressed") }
            }
            Call::Teardown | Call::Suppress { .. } | Call::Revive { .. } => Ok(()),
            Call::AcceptInverseOffers { inverse_offers, .. }
            | Call::DeclineInverseOffers { inverse_offers, .. } => write!(f, " {}", list(inverse_offers)),
            Call::Accept(accept) => accepted(f, accept),
            Call::Gang { accepts } => accepts.iter().try_for_each(|accept| accepted(f, accept)),
            Call::Commit { role, claims, .. } => {
                write!(f, " {role}")?;
                claims.iter().try_for_each(|claim| {
                    write!(f, " {}:", claim.agent_id)?;
                    claim.tasks.iter().try_for_each(|task| launched(f, task))
                })
            }
            Call::Lease { offers, hold } => write!(f, " {} for {hold:?}", list(offers)),
            Call::Decline { offers, reason, .. } => {
                write!(f, " {}: {}", list(offers), DeclineReason::from(reason.clone()))
            }
            Call::Kill { task_id, .. } => write!(f, " {task_id}"),
            Call::Acknowledge { task_id, update_id, .. } => write!(f, " {task_id} {}", short(*update_id)),
            Call::Reconcile { tasks } if tasks.is_empty() => f.write_str(" all"),
            Call::Reconcile { tasks } => tasks.iter().try_for_each(|(task_id, _)| write!(f, " {task_id}")),
            Call::AcknowledgeOperation { operation_id, update_id, .. } => {
                write!(f, " {operation_id} {}", short(*update_id))
            }
            Call::ReconcileOperations { operations } if operations.is_empty() => f.write_str(" all"),
            Call::ReconcileOperations { operations } => {
                operations.iter().try_for_each(|(operation_id, _)| write!(f, " {operation_id}"))
            }
            Call::Request { role, requests } => {
                write!(f, " {role}:")?;
                requests.iter().try_for_each(|one| write!(f, " {} of {}", one.count, one.resources))
            }
            Call::WatchFree { on } => f.write_str(if *on { " on" } else { " off" }),
            Call::UpdateFramework { .. } => Ok(()),
        }
    }
}

fn accepted(f: &mut fmt::Formatter<'_>, accept: &Accept) -> fmt::Result {
    write!(f, " {}:", list(&accept.offers))?;
    accept.operations.iter().try_for_each(|operation| match operation {
        OfferOperation::Launch(tasks) => tasks.iter().try_for_each(|task| launched(f, task)),
        OfferOperation::LaunchGroup(tasks) => {
            f.write_str(" group of")?;
            tasks.iter().try_for_each(|task| launched(f, task))
        }
        OfferOperation::Convert { id: Some(id), operation } => write!(f, " {operation} ({id})"),
        OfferOperation::Convert { id: None, operation } => write!(f, " {operation}"),
    })
}

fn launched(f: &mut fmt::Formatter<'_>, task: &Result<TaskInfo, InvalidTask>) -> fmt::Result {
    match task {
        Ok(task) => write!(f, " {} ({})", task.task_id, task.resources),
        Err(error) => write!(f, " invalid ({})", error.message),
    }
}

struct Told<'a>(&'a Event);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Event::Subscribed { framework_id, master_id, .. } => {
                write!(f, "subscribed as {framework_id} by {master_id}")
            }
            Event::Offers(offers) => {
                f.write_str("offers")?;
                offers
                    .iter()
                    .try_for_each(|o| write!(f, " {} ({} on {})", o.offer_id, o.resources, o.agent_id))
            }
            Event::InverseOffers(offers) => {
                f.write_str("inverse offers")?;
                offers.iter().try_for_each(|o| {
                    write!(f, " {} ({} away {})", o.inverse_offer_id, o.agent_id, away(o.unavailability))
                })
            }
            Event::RescindInverseOffer(id) => write!(f, "rescind inverse offer {id}"),
            Event::Rescind(offer_id) => write!(f, "rescind {offer_id}"),
            Event::Update(told) => write!(f, "update {}", status(told)),
            Event::AgentLost { agent_id, .. } => write!(f, "agent lost {agent_id}"),
            Event::Refused { call_id, message, .. } => write!(f, "refused call {call_id}: {message}"),
            Event::Error { code, message } => write!(f, "error {code}: {message}"),
            Event::OperationUpdate(told) => write!(f, "operation {}", operation(told)),
            Event::Preempt(told) => {
                let Preemption { agent_id, resources, tasks, at, for_role } = told;
                let at = stamp(*at);
                write!(f, "preempt {resources} on {agent_id} at {at} for {for_role}: {}", list(tasks))
            }
            Event::Free(free) => {
                write!(f, "free {}{}", free.version, if free.snapshot { " snapshot" } else { "" })?;
                free.agents.iter().try_for_each(|one| write!(f, " {} ({})", one.agent_id, one.free))
            }
            Event::Committed { call_id, claims } => {
                write!(f, "committed {call_id}:")?;
                claims.iter().try_for_each(|claim| match claim {
                    ClaimResult::Taken => f.write_str(" taken"),
                    ClaimResult::Refused { message, .. } => write!(f, " refused ({message})"),
                })
            }
            Event::Heartbeat => f.write_str("heartbeat"),
            Event::StandingBy { framework_id, .. } => write!(f, "standing by for {framework_id}"),
        }
    }
}

fn list<T: fmt::Display>(things: &[T]) -> String {
    let mut text = String::new();
    for thing in things {
        let _ = write!(text, "{}{thing}", if text.is_empty() { "" } else { " " });
    }
    text
}

fn status(status: &TaskStatus) -> String {
    let reason = status.reason.map(|reason| format!(" ({})", reason.name())).unwrap_or_default();
    let update = status.update_id.map(|id| format!(" {}", short(id))).unwrap_or_default();
    format!("{} {}{reason}{update}", status.task_id, status.state)
}

fn operation(status: &OperationStatus) -> String {
    let update = status.update_id.map(|id| format!(" {}", short(id))).unwrap_or_default();
    format!("{} {}{update}", status.operation_id, status.state)
}

/// An update id as its process and its number within it.
fn short(id: UpdateId) -> String {
    let (process, number) = id.0.split_at(8);
    let number_of = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    format!("#{:x}.{}", number_of(process), number_of(number))
}

/// How an agent is drained.
fn drained(drain: Option<Drain>) -> String {
    let grace = drain.and_then(|drain| drain.grace_max).map(|grace| format!(" within {grace:?}"));
    let gone = drain.filter(|drain| drain.mark_gone).map(|_| ", then gone");
    format!("{}{}", grace.unwrap_or_default(), gone.unwrap_or_default())
}

fn told_agent(message: &MasterMessage) -> Option<String> {
    Some(match message {
        MasterMessage::Ping { .. } => return None,
        MasterMessage::Registered { agent_id, missing_tasks, drain, .. } => {
            let missing: Vec<_> = missing_tasks.iter().map(|(_, task_id)| task_id).collect();
            format!(
                "registered as {agent_id}, missing: {}{}",
                if missing.is_empty() { "none".to_owned() } else { list(&missing) },
                if drain.is_some() { format!("; drain{}", drained(*drain)) } else { String::new() }
            )
        }
        MasterMessage::Drain(None) => "drain no more".to_owned(),
        MasterMessage::Drain(drain) => format!("drain{}", drained(*drain)),
        MasterMessage::RunTasks { framework_id, tasks, .. } => {
            let tasks: Vec<_> = tasks.iter().map(|task| &task.task_id).collect();
            format!("run of {framework_id}: {}", list(&tasks))
        }
        MasterMessage::KillTask { task_id, reason, .. } => format!("kill {task_id} ({})", reason.name()),
        MasterMessage::AcknowledgeUpdate { task_id, update_id, .. } => {
            format!("acknowledge {task_id} {}", short(*update_id))
        }
        MasterMessage::Apply { operation_id: Some(id), operation, .. } => format!("apply {operation} ({id})"),
        MasterMessage::Apply { operation, .. } => format!("apply {operation}"),
        MasterMessage::AcknowledgeOperation { operation_id, update_id, .. } => {
            format!("acknowledge operation {operation_id} {}", short(*update_id))
        }
        MasterMessage::RemoveFramework { framework_id } => format!("remove framework {framework_id}"),
        MasterMessage::Refuse { code, message } => format!("refuse {code:?}: {message}"),
    })
}

fn said_by_agent(message: &AgentMessage) -> Option<String> {
    Some(match message {
        AgentMessage::Pong { .. } => return None,
        AgentMessage::Register { agent_id, tasks, .. } => {
            let id = agent_id.as_ref().map_or_else(|| "new".to_owned(), ToString::to_string);
            let mut text = format!("register {id}:");
            for task in tasks {
                let _ = write!(text, " {} {}", task.info.task_id, task.state);
            }
            text
        }
        AgentMessage::StatusUpdate { status: told, .. } => format!("update {}", status(told)),
        AgentMessage::OperationUpdate(told) => format!("operation {}", operation(&told.status)),
        AgentMessage::Total { total, applied } => format!("total {total} after {applied}"),
        AgentMessage::Oversubscribed { revocable } => format!("lends {revocable}"),
        AgentMessage::Unregister { .. } => "unregister".to_owned(),
    })
}

fn written(record: &Record) -> String {
    match record {
        Record::Agent { agent_id } => format!("agent {agent_id}"),
        Record::Process(process) => format!("process with {}", process.settings.resources),
        Record::Drain(None) => "drained no more".to_owned(),
        Record::Drain(drain) => format!("drained{}", drained(*drain)),
        Record::Times { task_id, .. } => format!("times of {task_id}"),
        Record::Task(task) => format!("task {}", task.info.task_id),
        Record::Group(tasks) => {
            let tasks: Vec<&str> = tasks.iter().map(|task| task.info.task_id.as_str()).collect();
            format!("group of {}", tasks.join(" "))
        }
        Record::Turn { task_id, .. } => format!("turn of {task_id}"),
        Record::Operation { total, outcome } => {
            let total = total.as_ref().map(|total| format!(" {total}")).unwrap_or_default();
            let told =
                outcome.as_ref().map(|told| format!(" {}", operation(&told.status))).unwrap_or_default();
            format!("operation{total}{told}")
        }
        Record::OperationAcknowledgement { operation_id, update_id, .. } => {
            format!("acknowledged operation {operation_id} {}", short(*update_id))
        }
        Record::Update { status: told, .. } => format!("update {}", status(told)),
        Record::Acknowledgement { task_id, update_id, .. } => {
            format!("acknowledged {task_id} {}", short(*update_id))
        }
    }
}
