//! A driver answers each offer at most once, and only one that it holds.

use std::collections::{BTreeMap, BTreeSet};

use apportion_types::{OfferId, protocol::scheduler::Event};

use super::{Check, Happening, Verdict, answered};
use crate::{fault::Process, world::World};

/// An offer that a driver accepts or declines was told to it on this connection, was not rescinded since, and is not answered
/// already.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    held: BTreeMap<usize, BTreeSet<OfferId>>,
}

impl Check for Answers {
    fn name(&self) -> &'static str {
        "answers"
    }

    fn observe(&mut self, _world: &World, happening: &Happening<'_>) -> Verdict {
        match *happening {
            Happening::SchedulerHears { framework, event } => {
                let held = self.held.entry(framework).or_default();
                match event {
                    Event::Subscribed { .. } => held.clear(),
                    Event::Offers(offers) => held.extend(offers.iter().map(|offer| offer.offer_id.clone())),
                    Event::Rescind(offer) => {
                        held.remove(offer);
                    }
                    _ => {}
                }
            }
            Happening::SchedulerCalls { framework, call, .. } => {
                let held = self.held.entry(framework).or_default();
                let mut offers = answered(call).into_iter().flat_map(|(offers, _)| offers);
                if let Some(id) = offers.find(|id| !held.remove(*id)) {
                    return Err(format!("framework {framework} answers offer {id}, which it does not hold"));
                }
            }
            Happening::Crashed(Process::Framework(framework)) => {
                self.held.remove(&framework);
            }
            _ => {}
        }
        Ok(())
    }
}
