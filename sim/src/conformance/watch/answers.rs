//! What asks for an answer gets one soon: an offer is used or given back, an inverse offer is accepted or declined.

use std::{collections::BTreeMap, time::Duration};

use apportion_sdk::{
    OfferId, Time,
    protocol::{Call, Event},
};

use super::FRAMEWORK;
use crate::{
    check::{Check, Happening, Verdict, answered},
    conformance::Promise,
    process::Told,
    world::World,
};

/// What is to be answered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    Offers,
    InverseOffers,
}

impl Asked {
    fn promise(self) -> Promise {
        match self {
            Asked::Offers => Promise::HoldsOffers,
            Asked::InverseOffers => Promise::IgnoresInverseOffers,
        }
    }

    /// Which of them are told.
    fn told(self, event: &Event) -> Vec<OfferId> {
        match (self, event) {
            (Asked::Offers, Event::Offers(offers)) => {
                offers.iter().map(|offer| offer.offer_id.clone()).collect()
            }
            (Asked::InverseOffers, Event::InverseOffers(offers)) => {
                offers.iter().map(|offer| offer.inverse_offer_id.clone()).collect()
            }
            _ => Vec::new(),
        }
    }

    fn rescinded(self, event: &Event) -> Option<&OfferId> {
        match (self, event) {
            (Asked::Offers, Event::Rescind(id)) | (Asked::InverseOffers, Event::RescindInverseOffer(id)) => {
                Some(id)
            }
            _ => None,
        }
    }

    /// Which of them are answered.
    fn answered(self, call: &Call) -> Vec<&OfferId> {
        match (self, call) {
            (Asked::Offers, call) => answered(call).into_iter().flat_map(|(offers, _)| offers).collect(),
            (
                Asked::InverseOffers,
                Call::AcceptInverseOffers { inverse_offers, .. }
                | Call::DeclineInverseOffers { inverse_offers, .. },
            ) => inverse_offers.iter().collect(),
            _ => Vec::new(),
        }
    }
}

/// Those in the scheduler's hands.
pub(super) struct Answers {
    asked: Asked,
    most: Duration,
    held: BTreeMap<OfferId, Time>,
    /// The oldest of them was told then, or later.
    oldest: Option<Time>,
}

impl Answers {
    pub(super) fn new(asked: Asked, most: Duration) -> Self {
        Self { asked, most, held: BTreeMap::new(), oldest: None }
    }

    fn void(&mut self) {
        self.held.clear();
        self.oldest = None;
    }

    fn look(&mut self) {
        self.oldest = self.held.values().min().copied();
    }
}

impl Check for Answers {
    fn name(&self) -> &'static str {
        self.asked.promise().name()
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match happening {
            Happening::SchedulerHears { event, .. } => {
                let told = self.asked.told(event);
                let rescinded = self.asked.rescinded(event).and_then(|id| self.held.remove(id)).is_some();
                if !told.is_empty() || rescinded {
                    self.held.extend(told.into_iter().map(|id| (id, world.now)));
                    self.look();
                }
            }
            // They are void, or the run is over.
            Happening::SchedulerHandles { told: Told::Start | Told::Disconnected { .. }, .. }
            | Happening::SchedulerCalls { call: Call::Subscribe { .. } | Call::Teardown, .. } => self.void(),
            Happening::SchedulerCalls { call, .. } => {
                let answered = self.asked.answered(call);
                if !answered.is_empty() {
                    self.held.retain(|id, _| !answered.contains(&id));
                    self.look();
                }
            }
            _ => {}
        }
        if self.oldest.is_none_or(|oldest| world.now.since(oldest) <= self.most) {
            return Ok(());
        }
        let framework = &world.frameworks[FRAMEWORK];
        if framework.process.is_none() || framework.ended.is_some() || framework.conn().is_none() {
            self.void();
            return Ok(());
        }
        let (id, told) = self.held.iter().min_by_key(|(_, told)| **told).expect("there is an oldest");
        let (since, most) = (world.now.since(*told), self.most);
        Err(match self.asked {
            Asked::Offers => {
                format!(
                    "offer {id} is held for {since:?} already, neither used nor given back; {most:?} is the most"
                )
            }
            Asked::InverseOffers => {
                format!(
                    "inverse offer {id} is neither accepted nor declined for {since:?} already; {most:?} is the most"
                )
            }
        })
    }
}
