//! An offer is used or given back soon.

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

/// The offers in the scheduler's hands.
pub(super) struct HoldsOffers {
    most: Duration,
    held: BTreeMap<OfferId, Time>,
    /// The oldest of them was told then, or later.
    oldest: Option<Time>,
}

impl HoldsOffers {
    pub(super) fn new(most: Duration) -> Self {
        Self { most, held: BTreeMap::new(), oldest: None }
    }

    fn forget(&mut self, offers: &[OfferId]) {
        for offer in offers {
            self.held.remove(offer);
        }
        self.oldest = self.held.values().min().copied();
    }
}

impl Check for HoldsOffers {
    fn name(&self) -> &'static str {
        Promise::HoldsOffers.name()
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match happening {
            Happening::SchedulerHears { event: Event::Offers(offers), .. } => {
                self.held.extend(offers.iter().map(|offer| (offer.offer_id.clone(), world.now)));
                self.forget(&[]);
            }
            Happening::SchedulerHears { event: Event::Rescind(offer), .. } => {
                self.forget(std::slice::from_ref(offer));
            }
            // They are void, or the run is over.
            Happening::SchedulerHandles { told: Told::Start | Told::Disconnected { .. }, .. }
            | Happening::SchedulerCalls { call: Call::Subscribe { .. } | Call::Teardown, .. } => {
                self.held.clear();
                self.oldest = None;
            }
            Happening::SchedulerCalls { call, .. } => {
                answered(call).into_iter().for_each(|(offers, _)| self.forget(offers));
            }
            _ => {}
        }
        if self.oldest.is_none_or(|oldest| world.now.since(oldest) <= self.most) {
            return Ok(());
        }
        let framework = &world.frameworks[FRAMEWORK];
        if framework.process.is_none() || framework.ended.is_some() || framework.conn().is_none() {
            self.held.clear();
            self.oldest = None;
            return Ok(());
        }
        let (offer, told) = self.held.iter().min_by_key(|(_, told)| **told).expect("there is an oldest");
        Err(format!(
            "offer {offer} is held for {:?} already, neither used nor given back; {:?} is the most",
            world.now.since(*told),
            self.most
        ))
    }
}
