//! Every offer is opened once, told, and closed once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use apportion_master_core::view::{
    AgentState, AgentView, FrameworkState, FrameworkView, OfferView, TaskView,
};
use apportion_types::{
    AgentId, FrameworkId, OfferId, Resources, Role, TaskState, limits,
    protocol::{
        agent::MasterMessage,
        scheduler::{Call, Event},
    },
};

use super::{Changes, Check, Happening, Verdict, answered, streams::Streams};
use crate::{fault::Process, world::World};

/// How late what is due may be done.
const SOON: Duration = Duration::from_secs(1);

/// Every offer has an id of its own, in the order made. In the decision that opens it, it is told to its framework, as it stands in
/// the books. It never changes, but for until when it may be held, as its framework asks. It is closed once: by a call of its framework that names it, which always closes it; by a rescission,
/// which is told, and is due when it was held for too long; or because its framework is no longer connected as it was. What was made
/// is accepted, declined, rescinded or outstanding. None is made for a role that its framework has suppressed, and none stands of an
/// agent or for a framework that is not connected.
///
/// A task that is not claimed for begins with an accept or a gang, on the agent and for the role of offers of it and within their
/// resources, and only when all offers were outstanding and its framework's.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    streams: Streams,
    last: Option<OfferId>,
    turn: Turn,
}

/// What belongs to the decision under way.
#[derive(Debug, Default)]
struct Turn {
    told: BTreeSet<OfferId>,
    rescinded: BTreeSet<OfferId>,
    /// Frameworks that were let in, or whose stream was ended.
    renewed: BTreeSet<FrameworkId>,
    called: Option<Called>,
    /// Who claims without offers; judged by the check of claims.
    claims: Option<FrameworkId>,
    /// Somebody asks to hold offers longer.
    leases: bool,
    runs: usize,
}

#[derive(Debug)]
struct Called {
    framework: FrameworkId,
    offers: Vec<OfferId>,
    is_accept: bool,
}

impl Check for Offers {
    fn name(&self) -> &'static str {
        "offers"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        let spoke = match happening {
            Happening::MasterTellsScheduler { conn, .. } => self.streams.framework(*conn).cloned(),
            _ => None,
        };
        self.streams.observe(happening);
        match *happening {
            Happening::Started(Process::Master) => *self = Self::default(),
            Happening::MasterHearsScheduler { conn, call, .. } => {
                self.turn.leases = matches!(call, Call::Lease { .. });
                if let Call::Commit { .. } = call {
                    self.turn.claims = self.streams.framework(conn).cloned();
                }
                let answered = answered(call);
                if answered.is_empty() {
                    return Ok(());
                }
                let offers: Vec<OfferId> =
                    answered.iter().flat_map(|(offers, _)| offers.iter().cloned()).collect();
                let is_accept = !matches!(call, Call::Decline { .. });
                let Some(framework) = self.streams.framework(conn).cloned() else { return Ok(()) };
                if offers.len() <= limits::OFFERS_PER_CALL_MAX {
                    self.turn.called = Some(Called { framework, offers, is_accept });
                }
            }
            Happening::MasterTellsScheduler { conn, event, .. } => match event {
                Event::Offers(offers) => {
                    for offer in offers {
                        let in_books = world.view().offers.get(&offer.offer_id).map(|view| &view.offer);
                        if in_books != Some(offer) {
                            return Err(format!(
                                "offer {} is told as {offer:?}, and is {in_books:?}",
                                offer.offer_id
                            ));
                        }
                        if self.streams.framework(conn) != Some(&offer.framework_id) {
                            return Err(format!("offer {} is told to another framework", offer.offer_id));
                        }
                        self.turn.told.insert(offer.offer_id.clone());
                    }
                }
                Event::Rescind(offer) if !self.turn.rescinded.insert(offer.clone()) => {
                    return Err(format!("offer {offer} is rescinded twice"));
                }
                Event::Subscribed { framework_id, .. } => {
                    self.turn.renewed.insert(framework_id.clone());
                }
                Event::Error { .. } => self.turn.renewed.extend(spoke),
                _ => {}
            },
            Happening::MasterTellsAgent { message: MasterMessage::RunTasks { .. }, .. } => {
                self.turn.runs += 1
            }
            Happening::MasterDecided(changes) => {
                let turn = std::mem::take(&mut self.turn);
                self.opened(world, changes, &turn)?;
                closed(world, changes, &turn)?;
                counted(world)?;
                overdue(world)?;
                held(changes)?;
                began(world, changes, &turn)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Offers {
    fn opened(&mut self, world: &World, changes: &Changes, turn: &Turn) -> Verdict {
        let mut told = turn.told.clone();
        for change in &changes.offers {
            let id = &change.key;
            if let (Some(before), Some(after)) = (&change.before, &change.after) {
                let held = turn.leases && after.expires_at != before.expires_at;
                if before.offer != after.offer || !held {
                    return Err(format!("offer {id} is another than before"));
                }
            }
            let Some(OfferView { offer, .. }) = change.added().map(|view| &**view) else { continue };
            let framework = world.view().frameworks.get(&offer.framework_id);
            if framework.is_some_and(|view| view.suppressed.contains(&offer.role)) {
                let (framework, role) = (&offer.framework_id, &offer.role);
                return Err(format!(
                    "offer {id} is for role {role}, which framework {framework} has suppressed"
                ));
            }
            let master = &world.view().master_id;
            if id.as_str().strip_prefix(master.as_str()).is_none_or(|rest| !rest.starts_with("-O")) {
                return Err(format!("offer {id} does not bear the name of its master, {master}"));
            }
            if let Some(last) = self.last.as_ref().filter(|last| *last >= id) {
                return Err(format!("offer {id} is made after offer {last}: an id is used again"));
            }
            self.last = Some(id.clone());
            if !told.remove(id) {
                return Err(format!("offer {id} is made, and not told to its framework"));
            }
        }
        told.first().map_or(Ok(()), |id| Err(format!("offer {id} is told, and was not made just now")))
    }
}

fn closed(world: &World, changes: &Changes, turn: &Turn) -> Verdict {
    let mut rescinded = turn.rescinded.clone();
    for change in &changes.offers {
        let (id, Some(view)) = (&change.key, change.removed()) else { continue };
        let framework = &view.offer.framework_id;
        let told = rescinded.remove(id);
        let called = turn.called.as_ref();
        let answered =
            called.is_some_and(|called| called.framework == *framework && called.offers.contains(id));
        let connected =
            world.view().frameworks.get(framework).is_some_and(|view| view.state == FrameworkState::Active);
        if !told && !answered && connected && !turn.renewed.contains(framework) {
            return Err(format!("offer {id} is closed, and framework {framework} is not told"));
        }
    }
    if let Some(id) = rescinded.first() {
        return Err(format!("offer {id} is rescinded, and was not outstanding before or still is"));
    }
    let Some(called) = &turn.called else { return Ok(()) };
    for id in &called.offers {
        if world.view().offers.get(id).is_some_and(|view| view.offer.framework_id == called.framework) {
            return Err(format!(
                "offer {id} is still outstanding, and framework {} has answered it",
                called.framework
            ));
        }
    }
    Ok(())
}

fn counted(world: &World) -> Verdict {
    let view = world.view();
    let counters = &view.counters;
    let closed = counters.offers_accepted + counters.offers_declined + counters.offers_rescinded;
    if counters.offers_made == closed + view.offers.len() as u64 {
        return Ok(());
    }
    Err(format!(
        "{} offers were made; {} are accepted, {} declined, {} rescinded, {} outstanding",
        counters.offers_made,
        counters.offers_accepted,
        counters.offers_declined,
        counters.offers_rescinded,
        view.offers.len()
    ))
}

/// The oldest offer is not held for too long.
fn overdue(world: &World) -> Verdict {
    let Some((id, view)) = world.view().offers.get_min() else { return Ok(()) };
    let late = world.master.shows(world.now).since(view.expires_at);
    if late > SOON { Err(format!("offer {id} should have been rescinded {late:?} ago")) } else { Ok(()) }
}

/// Nothing stays offered of an agent, or to a framework, that is not connected.
fn held(changes: &Changes) -> Verdict {
    for agent in changes.agents.iter().filter_map(|change| change.after.as_ref()) {
        if agent.state != AgentState::Active && !agent.offered.is_empty() {
            let AgentView { agent_id, offered, .. } = &**agent;
            return Err(format!("agent {agent_id} is not connected, and {offered} of it is offered"));
        }
    }
    for framework in changes.frameworks.iter().filter_map(|change| change.after.as_ref()) {
        if framework.state != FrameworkState::Active && !framework.offered.is_empty() {
            let FrameworkView { framework_id, offered, .. } = &**framework;
            return Err(format!("framework {framework_id} is not connected, and {offered} is offered to it"));
        }
    }
    Ok(())
}

/// Tasks that began in this decision did so by right.
fn began(world: &World, changes: &Changes, turn: &Turn) -> Verdict {
    let staging: Vec<_> = changes
        .tasks
        .iter()
        .filter_map(|change| change.added())
        .filter(|task| task.state == TaskState::Staging)
        .collect();
    let claimed = |task: &Arc<TaskView>| turn.claims.as_ref() == Some(&task.framework_id);
    if staging.is_empty() && turn.runs == 0
        || turn.claims.is_some() && staging.iter().all(|task| claimed(task))
    {
        return Ok(());
    }
    let Some(called) = turn.called.as_ref().filter(|called| called.is_accept) else {
        return Err(format!(
            "{} tasks begin, and {} messages run some, without an accept",
            staging.len(),
            turn.runs
        ));
    };
    // Amounts only: on the way operations may put them on other terms.
    let mut offered: BTreeMap<(&AgentId, &Role), Resources> = BTreeMap::new();
    for id in &called.offers {
        let view = world.view_before().offers.get(id);
        let Some(view) = view.filter(|view| view.offer.framework_id == called.framework) else {
            return Err(format!(
                "framework {} launches with offer {id}, which is not valid",
                called.framework
            ));
        };
        let of_agent = offered.entry((&view.offer.agent_id, &view.offer.role)).or_default();
        *of_agent += &view.offer.resources.exclusive().plain();
    }
    let mut used: BTreeMap<(&AgentId, &Role), Resources> = BTreeMap::new();
    for task in &staging {
        let place = (&task.agent_id, &task.role);
        if task.framework_id != called.framework || !offered.contains_key(&place) {
            return Err(format!("task {} begins elsewhere than its offers are of", task.info.task_id));
        }
        *used.entry(place).or_default() += &task.info.resources.exclusive();
    }
    for (place, used) in used {
        if !offered[&place].contains(&used.plain()) {
            return Err(format!("an accept of {} on {} launches tasks of {used}", offered[&place], place.0));
        }
    }
    Ok(())
}
