//! One task on a handful of offers.

use std::time::Duration;

use apportion_types::{Resources, Time};

use super::{BestFit, Demand, FirstFit, Packing, Policy, WorstFit};
use crate::Offer;

/// True when all of `wanted` is left in the offer, on whatever terms [`Offer::launch`] would take it.
pub fn fits(offer: &Offer, wanted: &Resources) -> bool {
    offer.missing(wanted).is_empty()
}

/// The index of the first offer in which `wanted` fits.
pub fn first_fit(offers: &[Offer], wanted: &Resources) -> Option<usize> {
    choose(offers, wanted, &FirstFit)
}

/// The index of the offer in which `wanted` leaves the least: large offers are kept for large tasks ([`BestFit`]).
///
/// The first of equals wins, and nothing is random: equal input gives equal output. Each call looks at every offer; for many
/// tasks make a [`Packing`] of the offers once.
pub fn best_fit(offers: &[Offer], wanted: &Resources) -> Option<usize> {
    choose(offers, wanted, &BestFit)
}

/// The index of the offer in which `wanted` leaves the most: load is spread ([`WorstFit`]).
pub fn worst_fit(offers: &[Offer], wanted: &Resources) -> Option<usize> {
    choose(offers, wanted, &WorstFit)
}

/// True when a task that takes `longest` at the most (for ever, when none) is over before the agent's machine is taken away for maintenance:
/// always where no maintenance is planned. Time to start and to end is the caller's to add.
pub fn ends_in_time(offer: &Offer, now: Time, longest: Option<Duration>) -> bool {
    offer.unavailability().is_none_or(|window| !window.cuts_off(now, longest))
}

fn choose(offers: &[Offer], wanted: &Resources, policy: &dyn Policy) -> Option<usize> {
    Packing::new(offers).choose(&Demand::of(wanted.clone()), policy)
}
