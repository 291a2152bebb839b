//! The commands of the rest of the offer model.
//!
//! ```text
//! accept f1 o1 reserve#op1=cpus(+eng@p):1 create=disk(+eng@p)[v1=data]:10 t1=cpus(+eng@p):1 …     in order; `#op1` names it
//!     reserve unreserve create destroy =RESOURCES, grow=VOLUME+DISK, shrink=VOLUME-MIB
//! gang f1 o1 t1=cpus:1 , o2 t2=cpus:1 …      accepts, all or nothing
//! lease f1 o1 … hold=20s
//! update f1 [role=r] … [principal=p] [suppress=r] …  and the options of subscribe:
//!     [cap=shared|revocable|gpus|region|inverse] … [offers_max=3] [min=ROLE:RESOURCES] [only=ROLE:attribute=text]
//! request f1 ROLE [cpus:3x2] …               what waits to be placed
//! watch f1 on|off
//! claim f1 ROLE A1 t1=cpus:1 , A2 t2=cpus:1 [all]
//! inverse-accept|inverse-decline f1 i1 … [refuse=5s] [reason=words]
//! ackop f1 op1 | reconcileops f1 [op1] …
//!
//! operation a1 F1/op1 finished u5            an agent says what became of an operation
//! total a1 RESOURCES | lend a1 RESOURCES     what it has now, what it lends
//!
//! operator roles eng [weight=2] [guarantee=cpus:4] [limit=cpus:8] [priority=5] , ops … [force]
//! operator schedule [a1,a2@60s+30s] [a3@90s] …   windows of machines by start and duration, times since the beginning
//! operator start|stop a1 …                   takes machines down, lets them be up
//! operator reserve|unreserve|create|destroy A1 RESOURCES
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apportion_allocator::Quota;
use apportion_master_core::{OperatorCall, RoleChange};
use apportion_types::{
    Capability, FrameworkOptions, MachineId, OfferConstraints, Operation, OperationId, OperationState,
    OperationStatus, Resources, Role, TaskInfo, Time, Unavailability, UpdateId, Window,
    constraints::{Constraint, Predicate, Selector},
    protocol::{
        agent::{AgentMessage, AgentOperation},
        scheduler::{Accept, Call, Claim, InvalidTask, OfferOperation, ResourceRequest},
    },
    resources::{Name, parse_scalar},
};

use super::commands::{
    Parsed, Words, agent_id, duration, framework_id, inverse_offer_id, offer_id, said, task_info, update_id,
};

pub(super) fn options(words: &Words<'_>) -> Parsed<Box<FrameworkOptions>> {
    let mut options = FrameworkOptions::default();
    for word in words.all("cap") {
        options.capabilities.insert(match word {
            "shared" => Capability::SharedResources,
            "revocable" => Capability::RevocableResources,
            "gpus" => Capability::GpuResources,
            "region" => Capability::RegionAware,
            "inverse" => Capability::InverseOffers,
            _ => return Err(format!("`{word}` is no capability")),
        });
    }
    options.offers_max = words.one("offers_max").map(|text| said(text.parse())).transpose()?;
    options.stand_by = words.one("by").map(str::to_owned);
    for word in words.all("min") {
        let (role, resources) = word.split_once(':').ok_or("a minimum is written ROLE:RESOURCES")?;
        options.min_allocatable.entry(said(Role::new(role))?).or_default().push(said(resources.parse())?);
    }
    for word in words.all("only") {
        let (role, constraint) = word.split_once(':').ok_or("a constraint is written ROLE:attribute=text")?;
        let (attribute, text) =
            constraint.split_once('=').ok_or("a constraint is written ROLE:attribute=text")?;
        let constraint = Constraint {
            selector: if attribute == "hostname" {
                Selector::Hostname
            } else {
                Selector::Attribute(attribute.to_owned())
            },
            predicate: Predicate::Equals(text.to_owned()),
            negated: false,
        };
        options
            .constraints
            .insert(said(Role::new(role))?, OfferConstraints { groups: vec![vec![constraint]] });
    }
    Ok(Box::new(options))
}

/// One operation: `reserve#op1=…`; none when the word is something else.
fn operation(word: &str) -> Parsed<Option<OfferOperation>> {
    let Some((verb, text)) = word.split_once('=') else { return Ok(None) };
    let (verb, id) = verb.split_once('#').map_or((verb, None), |(verb, id)| (verb, Some(id)));
    let Some(operation) = operation_of(verb, text)? else { return Ok(None) };
    let id = id.map(|id| said(OperationId::new(id))).transpose()?;
    Ok(Some(OfferOperation::Convert { id, operation }))
}

fn operation_of(verb: &str, text: &str) -> Parsed<Option<Operation>> {
    let resources = |text: &str| -> Parsed<Resources> { said(text.parse()) };
    Ok(Some(match verb {
        "reserve" => Operation::Reserve { resources: resources(text)? },
        "unreserve" => Operation::Unreserve { resources: resources(text)? },
        "create" => Operation::Create { volumes: resources(text)? },
        "destroy" => Operation::Destroy { volumes: resources(text)? },
        "grow" => {
            let (volume, addition) = text.rsplit_once("+disk").ok_or("grow=VOLUME+disk(…):MIB")?;
            Operation::Grow { volume: resources(volume)?, addition: resources(&format!("disk{addition}"))? }
        }
        "shrink" => {
            let (volume, less) = text.rsplit_once('-').ok_or("shrink=VOLUME-MIB")?;
            Operation::Shrink {
                volume: resources(volume)?,
                subtract_milli: said(parse_scalar(&Name::Disk, less))?,
            }
        }
        _ => return Ok(None),
    }))
}

/// `t1=cpus:1`, or `t1!problem` for one that is malformed; none when the word is neither.
fn task(word: &str) -> Parsed<Option<Result<TaskInfo, InvalidTask>>> {
    if let Some((task, problem)) = word.split_once('!') {
        let task_id = if task.is_empty() { None } else { Some(said(apportion_types::TaskId::new(task))?) };
        return Ok(Some(Err(InvalidTask { task_id, message: problem.replace('_', " ") })));
    }
    word.split_once('=').map(|(task, resources)| task_info(task, resources).map(Ok)).transpose()
}

/// Offers, tasks and operations, in order; tasks that stand beside each other are one launch, and those between `{` and `}` one of a
/// task group.
pub(super) fn accept(rest: &[&str], words: &Words<'_>) -> Parsed<Accept> {
    let (mut offers, mut operations) = (Vec::new(), Vec::new());
    let launch = |operations: &mut Vec<OfferOperation>, task: Result<TaskInfo, InvalidTask>| match operations
        .last_mut()
    {
        Some(OfferOperation::Launch(tasks) | OfferOperation::LaunchGroup(tasks)) => tasks.push(task),
        _ => operations.push(OfferOperation::Launch(vec![task])),
    };
    for word in rest {
        if *word == "{" {
            operations.push(OfferOperation::LaunchGroup(Vec::new()));
        } else if *word == "}" {
            operations.push(OfferOperation::Launch(Vec::new()));
        } else if let Some(operation) = operation(word)? {
            operations.push(operation);
        } else if let Some(task) = task(word)? {
            launch(&mut operations, task);
        } else {
            offers.push(offer_id(word)?);
        }
    }
    for number in 0..words.one("many").map_or(Ok(0), |n| said(n.parse::<usize>()))? {
        launch(&mut operations, Ok(task_info(&format!("t{number}"), "cpus:0.001")?));
    }
    Ok(Accept { offers, operations, refuse: words.duration("refuse")? })
}

/// Calls of schedulers; none when the verb is something else.
pub(super) fn call(verb: &str, rest: &[&str], words: &Words<'_>) -> Parsed<Option<Call>> {
    Ok(Some(match (verb, rest) {
        ("gang", rest) => {
            let accepts =
                rest.split(|word| *word == ",").map(|part| accept(part, words)).collect::<Parsed<_>>()?;
            Call::Gang { accepts }
        }
        ("lease", rest) => Call::Lease {
            offers: rest.iter().map(|word| offer_id(word)).collect::<Parsed<_>>()?,
            hold: words.duration("hold")?.unwrap_or(Duration::from_secs(60)),
        },
        ("request", [role, rest @ ..]) => {
            let one = |word: &&str| -> Parsed<ResourceRequest> {
                let (resources, count) = word.rsplit_once('x').ok_or("a request is written cpus:3x2")?;
                Ok(ResourceRequest { resources: said(resources.parse())?, count: said(count.parse())? })
            };
            Call::Request {
                role: said(Role::new(role))?,
                requests: rest.iter().map(one).collect::<Parsed<_>>()?,
            }
        }
        ("watch", [on]) => Call::WatchFree { on: *on == "on" },
        ("claim", [role, rest @ ..]) => {
            let all_or_nothing = rest.last() == Some(&"all");
            let rest = if all_or_nothing { &rest[..rest.len() - 1] } else { rest };
            let claim = |part: &[&str]| -> Parsed<Claim> {
                let (agent, tasks) = part.split_first().ok_or("a claim names an agent")?;
                let task = |word: &&str| task(word)?.ok_or("a task is written t1=cpus:1".to_owned());
                Ok(Claim {
                    agent_id: agent_id(agent)?,
                    tasks: tasks.iter().map(task).collect::<Parsed<_>>()?,
                })
            };
            let claims = rest.split(|word| *word == ",").map(claim).collect::<Parsed<_>>()?;
            Call::Commit { role: said(Role::new(role))?, claims, all_or_nothing }
        }
        ("inverse-accept", rest) => Call::AcceptInverseOffers {
            inverse_offers: rest.iter().map(|word| inverse_offer_id(word)).collect::<Parsed<_>>()?,
            refuse: words.duration("refuse")?,
        },
        ("inverse-decline", rest) => Call::DeclineInverseOffers {
            inverse_offers: rest.iter().map(|word| inverse_offer_id(word)).collect::<Parsed<_>>()?,
            refuse: words.duration("refuse")?,
            reason: words.one("reason").unwrap_or_default().to_owned(),
        },
        ("ackop", [id]) => Call::AcknowledgeOperation {
            agent_id: agent_id(words.one("agent").unwrap_or("A1"))?,
            operation_id: said(OperationId::new(id))?,
            update_id: words.one("update").map_or(Ok(UpdateId::new(0, 0)), update_id)?,
        },
        ("reconcileops", rest) => {
            let one = |word: &&str| Ok((said(OperationId::new(word))?, None));
            Call::ReconcileOperations { operations: rest.iter().map(one).collect::<Parsed<_>>()? }
        }
        _ => return Ok(None),
    }))
}

/// What an agent says; none when the verb is something else.
pub(super) fn message(verb: &str, rest: &[&str]) -> Parsed<Option<AgentMessage>> {
    Ok(Some(match (verb, rest) {
        ("operation", [key, state, update]) => {
            let (framework, id) = key.split_once('/').ok_or("an operation is named F1/op1")?;
            let known = OperationState::ALL.into_iter().find(|known| known.to_string() == *state);
            let status = OperationStatus {
                operation_id: said(OperationId::new(id))?,
                agent_id: None,
                state: known.ok_or("no state of operations")?,
                reason: None,
                message: String::new(),
                at: Time::ZERO,
                update_id: Some(update_id(update)?),
            };
            AgentMessage::OperationUpdate(AgentOperation { framework_id: framework_id(framework)?, status })
        }
        ("total", [resources]) => AgentMessage::Total { total: said(resources.parse())?, applied: u64::MAX },
        ("lend", [resources]) => AgentMessage::Oversubscribed { revocable: said(resources.parse())? },
        _ => return Ok(None),
    }))
}

/// What an operator asks; none when it is something else.
pub(super) fn operator(words: &[&str]) -> Parsed<Option<OperatorCall>> {
    Ok(Some(match words {
        ["roles", rest @ ..] => {
            let force = rest.last() == Some(&"force");
            let rest = if force { &rest[..rest.len() - 1] } else { rest };
            let mut changes = BTreeMap::new();
            for part in rest.split(|word| *word == ",") {
                let words = Words::new(part, &["weight", "guarantee", "limit", "priority"]);
                let role = said(Role::new(words.plain.first().ok_or("which role?")?))?;
                let quota = (words.one("guarantee").is_some() || words.one("limit").is_some()).then(
                    || -> Parsed<Quota> {
                        Ok(Quota {
                            guarantee: said(words.one("guarantee").unwrap_or("").parse())?,
                            limit: words.one("limit").map(|text| said(text.parse())).transpose()?,
                        })
                    },
                );
                let change = RoleChange {
                    weight: words.one("weight").map(|text| said(text.parse())).transpose()?,
                    quota: quota.transpose()?,
                    priority: words.one("priority").map(|text| said(text.parse())).transpose()?,
                };
                changes.insert(role, change);
            }
            OperatorCall::UpdateRoles { changes, force }
        }
        ["schedule", rest @ ..] => {
            let windows = rest.iter().map(|word| window(word)).collect::<Parsed<_>>()?;
            OperatorCall::UpdateSchedule { windows }
        }
        ["start", rest @ ..] => OperatorCall::StartMaintenance { machines: machines(rest.iter().copied())? },
        ["stop", rest @ ..] => OperatorCall::StopMaintenance { machines: machines(rest.iter().copied())? },
        [verb, agent, text] => match operation_of(verb, text)? {
            Some(operation) => OperatorCall::Operate { agent_id: agent_id(agent)?, operation },
            None => return Ok(None),
        },
        ["shares"] => OperatorCall::Shares,
        _ => return Ok(None),
    }))
}

fn machines<'a>(names: impl Iterator<Item = &'a str>) -> Parsed<BTreeSet<MachineId>> {
    names.map(|name| said(MachineId::new(name))).collect()
}

/// `a1,a2@60s+30s`: machines, when, and for how long.
fn window(word: &str) -> Parsed<Window> {
    let (names, when) = word.split_once('@').ok_or("a window is written a1,a2@60s+30s")?;
    let (start, length) = when.split_once('+').map_or((when, None), |(start, length)| (start, Some(length)));
    let unavailability =
        Unavailability { start: Time::ZERO + duration(start)?, duration: length.map(duration).transpose()? };
    Ok(Window { machines: machines(names.split(',').filter(|name| !name.is_empty()))?, unavailability })
}
