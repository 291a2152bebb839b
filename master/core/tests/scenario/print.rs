//! Actions and views, each in one line for people. Ids of the master `m1` are shortened: `m1-A0001` is `A1`, `m1-O00000001` is `o1`.

use std::{collections::BTreeMap, sync::Arc};

use apportion_allocator::Share;
use apportion_master_core::{
    Action, Cause, ConnId, Maintenance, Master, OperatorReply, RegistryOp,
    view::{AskedAgain, InverseOfferView, RoleSettings},
};
use apportion_types::{
    Activation, AgentId, Drain, FrameworkId, OperationStatus, Role, TaskId, TaskInfo, TaskStatus, UpdateId,
    Window,
    protocol::{
        agent::MasterMessage,
        scheduler::{ClaimResult, Event, FreeAgent},
    },
};

/// Shortens the ids in a line.
fn short(line: &str) -> String {
    let mut parts = line.split("m1-");
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let (kind, rest) = part.split_at(1);
        out.push_str(match kind {
            "O" => "o",
            "I" => "i",
            kind => kind,
        });
        let rest = rest.trim_start_matches('0');
        out.push_str(rest);
    }
    out
}

fn update(id: UpdateId) -> String {
    let mut number = [0; 8];
    number.copy_from_slice(&id.0[8..]);
    format!("u{}", u64::from_be_bytes(number))
}

fn status(status: &TaskStatus) -> String {
    let mut line = format!("{} {}", status.task_id, status.state);
    if let Some(agent_id) = &status.agent_id {
        line += &format!(" on {agent_id}");
    }
    if let Some(reason) = status.reason {
        line += &format!(" {reason}");
    }
    match status.update_id {
        Some(id) => line += &format!(" {}", update(id)),
        None => line += &format!(" (by the {:?})", status.source).to_lowercase(),
    }
    if !status.message.is_empty() {
        line += &format!(": {}", status.message);
    }
    line
}

fn keys(keys: &[(FrameworkId, TaskId)]) -> String {
    keys.iter().map(|(framework, task)| format!("{framework}/{task}")).collect::<Vec<_>>().join(" ")
}

fn names(roles: &[Role]) -> String {
    roles.iter().map(Role::as_str).collect::<Vec<_>>().join(",")
}

fn event(event: &Event) -> String {
    match event {
        Event::Subscribed { framework_id, .. } => format!("subscribed {framework_id}"),
        Event::Offers(offers) => {
            let line = |o: &apportion_types::Offer| {
                let away = o.unavailability.map_or(String::new(), |window| format!(" (away {window})"));
                format!("{} {} {} {}{away}", o.offer_id, o.agent_id, o.role, o.resources)
            };
            format!("offers {}", offers.iter().map(line).collect::<Vec<_>>().join(", "))
        }
        Event::Rescind(id) => format!("rescind {id}"),
        Event::InverseOffers(offers) => {
            let line = |o: &apportion_types::InverseOffer| {
                format!("{} {} {} away {}", o.inverse_offer_id, o.agent_id, o.resources, o.unavailability)
            };
            format!("inverse offers {}", offers.iter().map(line).collect::<Vec<_>>().join(", "))
        }
        Event::RescindInverseOffer(id) => format!("rescind inverse offer {id}"),
        Event::Update(said) => format!("update {}", status(said)),
        Event::AgentLost { agent_id, message } => format!("agent lost {agent_id}: {message}"),
        Event::Refused { call_id, code, message } => format!("refused call {call_id} {code:?}: {message}"),
        Event::Error { code, message } => format!("error {code:?}: {message}"),
        Event::Heartbeat => "heartbeat".to_owned(),
        Event::StandingBy { framework_id, .. } => format!("standing by for {framework_id}"),
        Event::OperationUpdate(said) => format!("operation {}", operation_status(said)),
        Event::Preempt(preemption) => {
            let tasks: Vec<&str> = preemption.tasks.iter().map(|task| task.as_str()).collect();
            let (agent, resources, role) =
                (&preemption.agent_id, &preemption.resources, &preemption.for_role);
            format!(
                "preempt {} on {agent} for role {role}: {resources}, at {}",
                tasks.join(","),
                preemption.at
            )
        }
        Event::Free(free) => {
            let each = |agent: &FreeAgent| format!("{} {}", agent.agent_id, agent.free);
            let what = if free.snapshot { "free snapshot" } else { "free" };
            format!(
                "{what} {}: {}",
                free.version,
                free.agents.iter().map(each).collect::<Vec<_>>().join(", ")
            )
        }
        Event::Committed { call_id, claims } => {
            let each = |claim: &ClaimResult| match claim {
                ClaimResult::Taken => "taken".to_owned(),
                ClaimResult::Refused { code, message, winner } => {
                    let winner = winner.as_ref().map_or(String::new(), |id| format!(", winner {id}"));
                    format!("{code:?}: {message}{winner}")
                }
            };
            format!("committed call {call_id}: {}", claims.iter().map(each).collect::<Vec<_>>().join(", "))
        }
    }
}

/// How an agent is drained; nothing when it is not.
fn drain(drain: Option<Drain>) -> String {
    let grace = drain.and_then(|drain| drain.grace_max).map(|grace| format!(" grace {grace:?}"));
    let gone = drain.filter(|drain| drain.mark_gone).map(|_| " then gone");
    format!("{}{}", grace.unwrap_or_default(), gone.unwrap_or_default())
}

fn message(message: &MasterMessage) -> String {
    match message {
        MasterMessage::Registered { agent_id, missing_tasks, drain: drained, .. } => {
            let missing = match missing_tasks.is_empty() {
                true => String::new(),
                false => format!(", missing {}", keys(missing_tasks)),
            };
            let drained = drained.map_or(String::new(), |_| format!(", to be drained{}", drain(*drained)));
            format!("registered {agent_id}{missing}{drained}")
        }
        MasterMessage::Drain(Some(told)) => format!("drain{}", drain(Some(*told))),
        MasterMessage::Drain(None) => "drain no more".to_owned(),
        MasterMessage::Ping { sequence } => format!("ping {sequence}"),
        MasterMessage::RunTasks { framework_id, role, tasks, .. } => {
            let each = |task: &Arc<TaskInfo>| {
                let group = task.group.as_ref().map_or(String::new(), |group| {
                    format!(" ({} {} of {})", group.part, group.place + 1, group.group_id)
                });
                format!("{} {}{group}", task.task_id, task.resources)
            };
            let tasks: Vec<String> = tasks.iter().map(each).collect();
            format!("run for {framework_id} {role}: {}", tasks.join(", "))
        }
        MasterMessage::KillTask { framework_id, task_id, grace, reason } => {
            let grace = grace.map_or(String::new(), |grace| format!(" grace {grace:?}"));
            format!("kill {framework_id}/{task_id} {reason}{grace}")
        }
        MasterMessage::AcknowledgeUpdate { framework_id, task_id, update_id } => {
            format!("acknowledge {framework_id}/{task_id} {}", update(*update_id))
        }
        MasterMessage::Apply { framework_id, operation_id, operation } => {
            let framework = framework_id.as_ref().map_or("an operator".to_owned(), ToString::to_string);
            let id = operation_id.as_ref().map_or(String::new(), |id| format!(" {id}"));
            format!("apply for {framework}{id}: {operation}")
        }
        MasterMessage::AcknowledgeOperation { framework_id, operation_id, update_id } => {
            format!("acknowledge operation {framework_id}/{operation_id} {}", update(*update_id))
        }
        MasterMessage::RemoveFramework { framework_id } => format!("remove framework {framework_id}"),
        MasterMessage::Refuse { code, message } => format!("refuse {code:?}: {message}"),
    }
}

/// The windows of a schedule.
fn windows(maintenance: &Maintenance) -> String {
    let each = |window: &Window| {
        let machines: Vec<&str> = window.machines.iter().map(|machine| machine.as_str()).collect();
        format!("{} {}", machines.join(","), window.unavailability)
    };
    let windows: Vec<String> = maintenance.windows.iter().map(each).collect();
    if windows.is_empty() { "none".to_owned() } else { windows.join(", ") }
}

/// One action.
pub(crate) fn action(action: &Action, labels: &BTreeMap<ConnId, String>) -> String {
    let line = match action {
        Action::ToScheduler { conn, event: said } => format!("{} <- {}", labels[conn], event(said)),
        Action::CloseScheduler { conn } | Action::CloseAgent { conn } => format!("{} closed", labels[conn]),
        Action::ToAgent { conn, message: said } => format!("{} <- {}", labels[conn], message(said)),
        Action::Commit { op, .. } => match op {
            RegistryOp::AdmitAgent { agent_id, .. } => format!("write: admit agent {agent_id}"),
            RegistryOp::MarkUnreachable { agent_id, .. } => format!("write: agent {agent_id} is unreachable"),
            RegistryOp::RemoveAgent { agent_id, removed } => {
                let how = match removed.cause {
                    Cause::Left => "write: remove agent",
                    Cause::TakenDown => "write: taken down agent",
                    Cause::Gone => "write: gone agent",
                };
                format!("{how} {agent_id}")
            }
            RegistryOp::SetActivation { agent_id, activation } => {
                format!("write: agent {agent_id} is {}{}", activation.name(), drain(activation.drain()))
            }
            RegistryOp::ForgetAgent { agent_id } => format!("write: forget agent {agent_id}"),
            RegistryOp::AdmitFramework { framework_id, .. } => {
                format!("write: admit framework {framework_id}")
            }
            RegistryOp::SetRole { role, settings } => {
                let RoleSettings { weight, quota, priority } = settings;
                let limit = quota.limit.as_ref().map_or("none".to_owned(), ToString::to_string);
                format!(
                    "write: role {role} weight {weight} guarantee `{}` limit {limit} priority {priority}",
                    quota.guarantee
                )
            }
            RegistryOp::SetMaintenance { maintenance } => {
                let down: Vec<&str> = maintenance.down.iter().map(|machine| machine.as_str()).collect();
                format!("write: maintenance {}; down [{}]", windows(maintenance), down.join(","))
            }
            RegistryOp::RemoveFramework { framework_id } => format!("write: remove framework {framework_id}"),
            RegistryOp::ForgetFramework { framework_id } => format!("write: forget framework {framework_id}"),
        },
        Action::Reply { result: Ok(OperatorReply::KillRequested { framework_id }), .. } => {
            format!("operator <- kill requested of {framework_id}")
        }
        Action::Reply { result: Ok(OperatorReply::TornDown), .. } => "operator <- torn down".to_owned(),
        Action::Reply { result: Ok(OperatorReply::RolesUpdated), .. } => {
            "operator <- roles updated".to_owned()
        }
        Action::Reply { result: Ok(OperatorReply::MaintenanceUpdated), .. } => {
            "operator <- maintenance updated".to_owned()
        }
        Action::Reply { result: Ok(OperatorReply::Operated), .. } => "operator <- operated".to_owned(),
        Action::Reply { result: Ok(OperatorReply::AgentUpdated), .. } => {
            "operator <- agent updated".to_owned()
        }
        Action::Reply { result: Ok(OperatorReply::Explained(explanation)), .. } => {
            format!("operator <- {explanation:?}")
        }
        Action::Reply { result: Ok(OperatorReply::Shares(shares)), .. } => {
            let each = |share: &Share| match &share.framework {
                None => format!("{} {} ppm", share.role, share.dominant_share_ppm),
                Some(id) => format!("{}: {id} {} ppm", share.role, share.dominant_share_ppm),
            };
            format!("operator <- shares {}", shares.iter().map(each).collect::<Vec<_>>().join(", "))
        }
        Action::Reply { result: Err(error), .. } => format!("operator <- {error}"),
    };
    short(&line)
}

/// A part of the view, a line for each thing in it.
pub(crate) fn view(master: &mut Master, what: &str) -> Result<Vec<String>, String> {
    let view = master.view();
    let task = |t: &apportion_master_core::view::TaskView| {
        format!(
            "{}/{} {} on {} {} {}",
            t.framework_id, t.info.task_id, t.state, t.agent_id, t.role, t.info.resources
        )
    };
    let mut lines: Vec<String> = match what {
        "agents" => view
            .agents
            .values()
            .map(|a| {
                let (id, total) = (&a.agent_id, a.total.clone() + &a.revocable);
                let activation = match a.activation {
                    Activation::Active => String::new(),
                    activation => format!(" {}{}", activation.name(), drain(activation.drain())),
                };
                format!(
                    "{id} {:?}{activation} total {total} allocated {} offered {} tasks {}",
                    a.state, a.allocated, a.offered, a.tasks
                )
            })
            .collect(),
        "frameworks" => view
            .frameworks
            .values()
            .map(|f| {
                let (id, roles) = (&f.framework_id, names(&f.info.roles));
                let rest = format!("suppressed [{}] declined {:?}", names(&f.suppressed), f.declined);
                format!(
                    "{id} {:?} {roles} allocated {} offered {} tasks {} {rest}",
                    f.state, f.allocated, f.offered, f.tasks
                )
            })
            .collect(),
        "tasks" => view.tasks.values().map(|t| task(t)).collect(),
        "completed" => view.completed.values().map(|t| task(t)).collect(),
        "offers" => view
            .offers
            .values()
            .map(|o| {
                format!(
                    "{} {} {} {} {}",
                    o.offer.offer_id, o.offer.framework_id, o.offer.agent_id, o.offer.role, o.offer.resources
                )
            })
            .collect(),
        "maintenance" => {
            let down: Vec<&str> = view.maintenance.down.iter().map(|machine| machine.as_str()).collect();
            vec![format!("{}; down [{}]", windows(&view.maintenance), down.join(","))]
        }
        "inverse" => {
            let each = |id: &AgentId, framework: &FrameworkId, asked: &InverseOfferView| {
                let outstanding = asked.outstanding.as_ref().map_or("none".to_owned(), ToString::to_string);
                let answer = match &asked.answer {
                    None => "pending".to_owned(),
                    Some(answer) if answer.accepted => format!("accepted at {}", answer.at),
                    Some(answer) => format!("declined at {}: {}", answer.at, answer.reason),
                };
                let again = match asked.asked_again {
                    AskedAgain::Now => String::new(),
                    AskedAgain::At(at) => format!(" asked again at {at}"),
                    AskedAgain::Never => " not asked again".to_owned(),
                };
                format!(
                    "{id} {framework} holds {} outstanding {outstanding} {answer}{again}",
                    asked.resources
                )
            };
            let of = |(id, asked): (&AgentId, &Arc<BTreeMap<FrameworkId, InverseOfferView>>)| {
                asked.iter().map(|(framework, asked)| each(id, framework, asked)).collect::<Vec<_>>()
            };
            view.inverse_offers.iter().flat_map(of).collect()
        }
        "counters" => {
            let c = &view.counters;
            let offers = format!(
                "made {} accepted {} declined {}",
                c.offers_made, c.offers_accepted, c.offers_declined
            );
            let acks = format!("{} (ignored {})", c.acknowledgements, c.acknowledgements_ignored);
            vec![
                format!(
                    "offers {offers} rescinded {} (timed out {})",
                    c.offers_rescinded, c.offers_timed_out
                ),
                format!("tasks launched {} ended {:?}", c.tasks_launched, c.tasks_ended),
                format!("updates forwarded {} acknowledged {acks}", c.updates_forwarded),
                format!("calls refused {} agents unreachable {}", c.calls_refused, c.agents_unreachable),
            ]
        }
        "shares" => master
            .shares()
            .iter()
            .map(|s| {
                let who = s.framework.as_ref().map_or("all".to_owned(), |f| f.to_string());
                format!("{} {who} {} ppm {}", s.role, s.allocated, s.dominant_share_ppm)
            })
            .collect(),
        _ => return Err(format!("no view of `{what}`")),
    };
    if lines.is_empty() {
        lines.push("none".to_owned());
    }
    Ok(lines.iter().map(|line| short(line)).collect())
}

fn operation_status(status: &OperationStatus) -> String {
    let OperationStatus { operation_id, agent_id, state, reason, message, update_id, .. } = status;
    let agent = agent_id.as_ref().map_or(String::new(), |id| format!(" on {id}"));
    let reason = reason.map_or(String::new(), |reason| format!(" {reason}"));
    let id = update_id.map_or(String::new(), |id| format!(" {}", update(id)));
    let message = if message.is_empty() { String::new() } else { format!(": {message}") };
    format!("{operation_id} {state}{agent}{reason}{id}{message}")
}
