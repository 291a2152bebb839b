//! Windows reach offers, each framework is asked to leave once at a time, and of a machine that is down no agent takes part.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use apportion_master_core::{
    Maintenance,
    view::{AgentState, FrameworkState},
};
use apportion_types::{
    AgentId, Capability, FrameworkId, MachineId, OfferId, Unavailability,
    protocol::scheduler::{Call, Event},
};

use super::{Check, Happening, Verdict, streams::Streams};
use crate::{fault::Process, world::World};

/// An inverse offer has an id of its own, is told to a framework that takes them, of an agent with just this window, and no other of that
/// framework and agent is outstanding. It is closed once: by the framework's answer, by a rescission that is told, or with the framework's
/// stream. What the master takes for outstanding is what its frameworks were told and have not answered.
///
/// Every offer carries the window of its agent's machine. No agent of a machine that is down is connected. What is planned outlives the
/// master.
#[derive(Debug, Default)]
pub(crate) struct Maintenances {
    streams: Streams,
    /// Whom each asks, and about which agent.
    outstanding: BTreeMap<OfferId, (FrameworkId, AgentId)>,
    /// Every one of this master.
    seen: BTreeSet<OfferId>,
    /// What was planned when the last master decided last, unless it was being changed.
    kept: Option<Arc<Maintenance>>,
    /// A master has started, and has not decided yet.
    begins: bool,
}

impl Check for Maintenances {
    fn name(&self) -> &'static str {
        "maintenance"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        let spoken = match happening {
            Happening::StreamEnded { conn }
            | Happening::MasterTellsScheduler { conn, event: Event::Error { .. }, .. } => {
                self.streams.framework(*conn).cloned()
            }
            Happening::MasterTellsScheduler { event: Event::Subscribed { framework_id, .. }, .. } => {
                Some(framework_id.clone())
            }
            _ => None,
        };
        if let Some(gone) = spoken {
            self.outstanding.retain(|_, (framework, _)| *framework != gone);
        }
        self.streams.observe(happening);
        match *happening {
            Happening::Started(Process::Master) => {
                let kept = self.kept.take().filter(|_| world.keeps_registry);
                *self = Self { kept, begins: true, ..Self::default() };
            }
            Happening::MasterTellsScheduler { conn, event: Event::InverseOffers(offers), .. } => {
                let framework = self.streams.framework(conn).cloned();
                for offer in offers {
                    if framework.as_ref() != Some(&offer.framework_id) {
                        return Err(format!("inverse offer {} is told to another", offer.inverse_offer_id));
                    }
                    self.made(
                        world,
                        &offer.inverse_offer_id,
                        &offer.framework_id,
                        &offer.agent_id,
                        offer.unavailability,
                    )?;
                }
            }
            Happening::MasterTellsScheduler { conn, event: Event::RescindInverseOffer(id), .. } => {
                let asked = self.outstanding.remove(id).map(|(framework, _)| framework);
                if asked.is_none() || asked.as_ref() != self.streams.framework(conn) {
                    return Err(format!(
                        "inverse offer {id} is rescinded, and was closed before, or is another's"
                    ));
                }
            }
            Happening::MasterHearsScheduler { conn, call, .. } => self.answered(conn, call),
            Happening::MasterDecided(changes) => {
                let (view, before) = (world.view(), world.view_before());
                let replanned = !Arc::ptr_eq(&view.maintenance, &before.maintenance) || self.begins;
                if std::mem::take(&mut self.begins) {
                    self.outlived(&view.maintenance)?;
                }
                self.kept = (!world.master.writes_maintenance()).then(|| view.maintenance.clone());
                for change in &changes.agents {
                    if let Some(agent) =
                        change.after.as_ref().filter(|agent| agent.state == AgentState::Active)
                    {
                        up(&view.maintenance, &change.key, &agent.info.hostname)?;
                    }
                }
                if !view.maintenance.is_empty() || replanned {
                    let windows = windows(&view.maintenance);
                    let fresh = changes.offers.iter().filter_map(|change| change.added());
                    let all = view.offers.values().filter(|_| replanned);
                    for offer in fresh.chain(all) {
                        let host =
                            view.agents.get(&offer.offer.agent_id).map(|agent| agent.info.hostname.as_str());
                        let window = host.and_then(|host| windows.get(host).copied());
                        if offer.offer.unavailability != window {
                            return Err(format!(
                                "offer {} of {} carries {:?}, and the machine has {window:?}",
                                offer.offer.offer_id, offer.offer.agent_id, offer.offer.unavailability
                            ));
                        }
                    }
                }
                if replanned {
                    for agent in view.agents.values().filter(|agent| agent.state == AgentState::Active) {
                        up(&view.maintenance, &agent.agent_id, &agent.info.hostname)?;
                    }
                }
                return self.agrees(world);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Maintenances {
    fn made(
        &mut self,
        world: &World,
        id: &OfferId,
        framework: &FrameworkId,
        agent: &AgentId,
        window: Unavailability,
    ) -> Verdict {
        if !self.seen.insert(id.clone()) {
            return Err(format!("inverse offer {id} has the name of an earlier one"));
        }
        let asked = (framework.clone(), agent.clone());
        if let Some((other, _)) = self.outstanding.iter().find(|(_, known)| **known == asked) {
            return Err(format!(
                "framework {framework} is asked by {id} to leave agent {agent}, and by {other} already"
            ));
        }
        let takes = world.view().frameworks.get(framework).is_some_and(|view| {
            view.state == FrameworkState::Active
                && view.options.capabilities.contains(&Capability::InverseOffers)
        });
        if !takes {
            return Err(format!(
                "framework {framework} is asked to leave agent {agent}, and takes no inverse offers"
            ));
        }
        let host = world.view().agents.get(agent).map(|agent| agent.info.hostname.clone());
        let planned = host.and_then(|host| windows(&world.view().maintenance).get(host.as_str()).copied());
        if planned != Some(window) {
            return Err(format!(
                "inverse offer {id} of agent {agent} tells of {window}, and the machine has {planned:?}"
            ));
        }
        self.outstanding.insert(id.clone(), asked);
        Ok(())
    }

    fn answered(&mut self, conn: apportion_master_core::ConnId, call: &Call) {
        let Some(framework) = self.streams.framework(conn) else { return };
        match call {
            Call::AcceptInverseOffers { inverse_offers, .. }
            | Call::DeclineInverseOffers { inverse_offers, .. } => {
                for id in inverse_offers {
                    if self.outstanding.get(id).is_some_and(|(asked, _)| asked == framework) {
                        self.outstanding.remove(id);
                    }
                }
            }
            Call::UpdateFramework { options, .. }
                if !options.capabilities.contains(&Capability::InverseOffers) =>
            {
                let framework = framework.clone();
                self.outstanding.retain(|_, (asked, _)| *asked != framework);
            }
            _ => {}
        }
    }

    /// What the master takes for outstanding is what was told.
    fn agrees(&self, world: &World) -> Verdict {
        if world.view().inverse_offers.is_empty() && self.outstanding.is_empty() {
            return Ok(());
        }
        let of_agent = world.view().inverse_offers.values().flat_map(|asked| asked.values());
        let known: BTreeSet<&OfferId> = of_agent.filter_map(|asked| asked.outstanding.as_ref()).collect();
        let told: BTreeSet<&OfferId> = self.outstanding.keys().collect();
        match (told.difference(&known).next(), known.difference(&told).next()) {
            (Some(id), _) => Err(format!("inverse offer {id} was told, and is closed without a word")),
            (_, Some(id)) => Err(format!(
                "inverse offer {id} is outstanding, and its framework was not told or has answered"
            )),
            (None, None) => Ok(()),
        }
    }

    /// A master begins with what the one before it had. Of windows that end the two may think differently: each has its own clock, and the
    /// registry is told of ends with the next change only.
    fn outlived(&mut self, now: &Maintenance) -> Verdict {
        let Some(kept) = self.kept.take() else { return Ok(()) };
        if kept.down != now.down {
            return Err(format!(
                "machines {:?} were down, and to the next master are {:?}",
                kept.down, now.down
            ));
        }
        let (before, after) = (open(&kept), open(now));
        match before.symmetric_difference(&after).next() {
            Some((machine, _)) => {
                Err(format!("the open windows of machine {machine} are others to the next master"))
            }
            None => Ok(()),
        }
    }
}

/// The windows that do not end by themselves.
fn open(maintenance: &Maintenance) -> BTreeSet<(MachineId, Unavailability)> {
    let of_machine = maintenance.by_machine().into_iter();
    let each =
        of_machine.flat_map(|(machine, windows)| windows.into_iter().map(move |one| (machine.clone(), one)));
    each.filter(|(_, window)| window.duration.is_none()).collect()
}

/// The window of each machine that has any: the first.
fn windows(maintenance: &Maintenance) -> BTreeMap<String, Unavailability> {
    let first =
        |(machine, windows): (MachineId, Vec<Unavailability>)| Some((machine.to_string(), *windows.first()?));
    maintenance.by_machine().into_iter().filter_map(first).collect()
}

/// An agent that is connected is of a machine that is up.
fn up(maintenance: &Maintenance, id: &AgentId, hostname: &str) -> Verdict {
    match maintenance.down.iter().find(|machine| machine.as_str() == hostname) {
        Some(machine) => Err(format!("agent {id} is registered, and its machine {machine} is down")),
        None => Ok(()),
    }
}
