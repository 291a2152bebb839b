//! Inverse offers: the one place that makes them, and the one door that closes them.
//!
//! Who is to be asked follows from what is known: a framework whose tasks hold something of an agent with a window. So whatever changes that only
//! says which agents are to be looked at, and at the end of each event all is brought in line.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use apportion_types::{
    AgentId, Capability, FrameworkId, InverseOffer, OfferId, Resources, Unavailability,
    protocol::scheduler::Event as SchedulerEvent,
};

use super::{State, timers::Timer};
use crate::{
    turn::Turn,
    view::{AskedAgain, FrameworkState, InverseOfferView},
};

/// What is needed of inverse offers beside what readers see.
#[derive(Debug, Default)]
pub(crate) struct InverseOffers {
    /// Agents to be looked at before the event ends.
    look: BTreeSet<AgentId>,
    /// Whom each outstanding one asks, and about which agent.
    pub(crate) outstanding: BTreeMap<OfferId, (AgentId, FrameworkId)>,
}

/// Why an inverse offer is closed: decides who is told, and what is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseInverse {
    /// The framework will have left.
    Accepted,
    /// It will not.
    Declined,
    /// It was not answered.
    TimedOut,
    /// The window has changed, or is over.
    Changed,
    /// The framework has nothing there any more.
    Left,
    /// The agent is away.
    AgentAway,
    /// The framework is away, or wants none any more.
    FrameworkGone,
}

impl State {
    /// Has an agent looked at: what frameworks hold there, its window, or whether it takes part may have changed.
    pub(crate) fn look_who_leaves(&mut self, id: &AgentId) {
        let has_window = self.agents.get(id).is_some_and(|agent| agent.unavailability.is_some());
        if has_window || self.view.inverse_offers.contains_key(id) {
            self.inverse_offers.look.insert(id.clone());
        }
    }

    /// A framework has come, gone, or changed what it wants: it is asked anew.
    pub(crate) fn ask_to_leave_anew(&mut self, turn: &mut Turn<'_>, framework_id: &FrameworkId) {
        for id in self.agents_to_leave(framework_id) {
            self.close_inverse_offer(turn, &id, framework_id, CloseInverse::FrameworkGone);
            self.ask_again(&id, framework_id, AskedAgain::Now);
        }
    }

    fn agents_to_leave(&self, framework_id: &FrameworkId) -> Vec<AgentId> {
        let of = self.view.inverse_offers.iter().filter(|(_, asked)| asked.contains_key(framework_id));
        of.map(|(id, _)| id.clone()).collect()
    }

    /// Brings inverse offers in line with what has changed. One message for each framework.
    pub(crate) fn settle_inverse_offers(&mut self, turn: &mut Turn<'_>) {
        let mut made: BTreeMap<FrameworkId, Vec<InverseOffer>> = BTreeMap::new();
        while let Some(id) = self.inverse_offers.look.pop_first() {
            let window = self.agents.get(&id).and_then(|agent| agent.unavailability);
            let held = window.map(|_| self.held_by_frameworks(&id)).unwrap_or_default();
            self.settle_those_known(turn, &id, window, &held);
            let Some(window) = window else { continue };
            for (framework_id, resources) in held {
                if let Some(offer) = self.settle_one(turn, &id, &framework_id, window, resources) {
                    made.entry(framework_id).or_default().push(offer);
                }
            }
        }
        for (framework_id, offers) in made {
            let conn = self.scheduler_conn(&framework_id).expect("only a connected framework is asked");
            turn.tell_scheduler(conn, SchedulerEvent::InverseOffers(offers));
        }
    }

    /// Forgets those who need not be asked any more.
    fn settle_those_known(
        &mut self,
        turn: &mut Turn<'_>,
        id: &AgentId,
        window: Option<Unavailability>,
        held: &BTreeMap<FrameworkId, Resources>,
    ) {
        let known = self.view.inverse_offers.get(id).map(Arc::clone).unwrap_or_default();
        let active = self.agent_conn(id).is_some();
        for (framework_id, asked) in known.iter() {
            let gone = if window != Some(asked.unavailability) {
                Some(CloseInverse::Changed)
            } else if !held.contains_key(framework_id) {
                Some(CloseInverse::Left)
            } else {
                None
            };
            if let Some(close) = gone {
                self.close_inverse_offer(turn, id, framework_id, close);
                self.ask_again(id, framework_id, AskedAgain::Now);
                let asked = self.view.inverse_offers.get_mut(id).expect("it is known");
                Arc::make_mut(asked).remove(framework_id);
            } else if !active {
                self.close_inverse_offer(turn, id, framework_id, CloseInverse::AgentAway);
            }
        }
        if self.view.inverse_offers.get(id).is_some_and(|asked| asked.is_empty()) {
            self.view.inverse_offers.remove(id);
        }
        self.inverse_offers.look.remove(id);
    }

    /// Brings in line what is asked of one framework about one agent; returns what it is to be asked now.
    fn settle_one(
        &mut self,
        turn: &mut Turn<'_>,
        id: &AgentId,
        framework_id: &FrameworkId,
        window: Unavailability,
        resources: Resources,
    ) -> Option<InverseOffer> {
        let asks = self.agent_conn(id).is_some() && self.takes_inverse_offers(framework_id);
        let (now, timeout) = (turn.now, self.config.offer_timeout);
        let asked = self.view.inverse_offers.entry(id.clone()).or_default();
        let asked = Arc::make_mut(asked).entry(framework_id.clone());
        let asked = asked.or_insert_with(|| InverseOfferView::new(window));
        asked.resources.clone_from(&resources);
        if !asks || asked.outstanding.is_some() || asked.asked_again != AskedAgain::Now {
            return None;
        }
        let inverse_offer_id = self.ids.inverse_offer();
        asked.outstanding = Some(inverse_offer_id.clone());
        asked.expires_at = Some(now + timeout);
        self.timers.set(Timer::InverseOffer(inverse_offer_id.clone()), now + timeout);
        self.inverse_offers.outstanding.insert(inverse_offer_id.clone(), (id.clone(), framework_id.clone()));
        self.view.counters.inverse_offers_made += 1;
        Some(InverseOffer {
            inverse_offer_id,
            framework_id: framework_id.clone(),
            agent_id: id.clone(),
            unavailability: window,
            resources,
        })
    }

    /// True of a framework that is connected and takes inverse offers.
    pub(crate) fn takes_inverse_offers(&self, id: &FrameworkId) -> bool {
        self.view.frameworks.get(id).is_some_and(|view| {
            view.state == FrameworkState::Active
                && view.options.capabilities.contains(&Capability::InverseOffers)
        })
    }

    /// What the tasks of each framework that may be asked hold of an agent.
    pub(crate) fn held_by_frameworks(&self, id: &AgentId) -> BTreeMap<FrameworkId, Resources> {
        let agent = &self.agents[id];
        let mut held: BTreeMap<FrameworkId, Resources> = BTreeMap::new();
        for key in &agent.tasks {
            let task = &self.view.tasks[key];
            if task.state.holds_resources() {
                *held.entry(key.0.clone()).or_default() += &task.info.resources.exclusive();
            }
        }
        for (key, stray) in &agent.strays {
            *held.entry(key.0.clone()).or_default() += &stray.resources;
        }
        // What a removed framework has is being killed.
        held.retain(|id, _| self.view.frameworks[id].state != FrameworkState::Removed);
        held
    }

    /// Closes an inverse offer, if one is outstanding. The one door: it alone tells the scheduler where it must know, and counts.
    pub(crate) fn close_inverse_offer(
        &mut self,
        turn: &mut Turn<'_>,
        agent_id: &AgentId,
        framework_id: &FrameworkId,
        close: CloseInverse,
    ) {
        let Some(asked) = self.asked_to_leave(agent_id, framework_id) else { return };
        let Some(id) = asked.outstanding.take() else { return };
        asked.expires_at = None;
        self.timers.cancel(&Timer::InverseOffer(id.clone()));
        self.inverse_offers.outstanding.remove(&id);
        let counters = &mut self.view.counters;
        match close {
            CloseInverse::Accepted => counters.inverse_offers_accepted += 1,
            CloseInverse::Declined => counters.inverse_offers_declined += 1,
            CloseInverse::TimedOut
            | CloseInverse::Changed
            | CloseInverse::Left
            | CloseInverse::AgentAway
            | CloseInverse::FrameworkGone => counters.inverse_offers_rescinded += 1,
        }
        let told = match close {
            CloseInverse::TimedOut | CloseInverse::Changed | CloseInverse::Left | CloseInverse::AgentAway => {
                true
            }
            CloseInverse::Accepted | CloseInverse::Declined | CloseInverse::FrameworkGone => false,
        };
        if let Some(conn) = self.scheduler_conn(framework_id).filter(|_| told) {
            turn.tell_scheduler(conn, SchedulerEvent::RescindInverseOffer(id));
        }
        self.look_who_leaves(agent_id);
    }

    /// Says when a framework may be asked again about an agent.
    pub(crate) fn ask_again(&mut self, agent_id: &AgentId, framework_id: &FrameworkId, again: AskedAgain) {
        let Some(asked) = self.asked_to_leave(agent_id, framework_id) else { return };
        asked.asked_again = again;
        let timer = Timer::InverseFilter(agent_id.clone(), framework_id.clone());
        match again {
            AskedAgain::At(at) => self.timers.set(timer, at),
            AskedAgain::Now | AskedAgain::Never => self.timers.cancel(&timer),
        }
        self.look_who_leaves(agent_id);
    }

    /// What is known of a framework that is to leave an agent, to be changed.
    pub(crate) fn asked_to_leave(
        &mut self,
        agent_id: &AgentId,
        framework_id: &FrameworkId,
    ) -> Option<&mut InverseOfferView> {
        let asked = self.view.inverse_offers.get_mut(agent_id)?;
        Arc::make_mut(asked).get_mut(framework_id)
    }
}
