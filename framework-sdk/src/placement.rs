//! Choosing where a task goes. Pure functions over what offers have left; use them or write your own.

use std::time::Duration;

use apportion_types::{Resources, Time};

use crate::Offer;

/// True when all of `wanted` is left in the offer, on whatever terms [`Offer::launch`] would take it.
pub fn fits(offer: &Offer, wanted: &Resources) -> bool {
    offer.missing(wanted).is_empty()
}

/// The index of the first offer in which `wanted` fits.
pub fn first_fit(offers: &[Offer], wanted: &Resources) -> Option<usize> {
    offers.iter().position(|offer| fits(offer, wanted))
}

/// The index of the offer in which `wanted` leaves the least: large offers are kept for large tasks.
///
/// What would be left is measured as a share of what the offer holds now, summed over the scalars that are wanted, so that
/// an agent with much memory and an agent with many processors compare. The first of equals wins, and nothing is random:
/// equal input gives equal output.
pub fn best_fit(offers: &[Offer], wanted: &Resources) -> Option<usize> {
    let fitting = offers.iter().enumerate().filter(|(_, offer)| fits(offer, wanted));
    fitting.min_by_key(|(_, offer)| slack(&offer.usable(), wanted)).map(|(index, _)| index)
}

/// The index of the offer in which `wanted` leaves the most: load is spread.
///
/// Measured as in [`best_fit`].
pub fn worst_fit(offers: &[Offer], wanted: &Resources) -> Option<usize> {
    let fitting = offers.iter().enumerate().filter(|(_, offer)| fits(offer, wanted));
    fitting.min_by_key(|(_, offer)| u64::MAX - slack(&offer.usable(), wanted)).map(|(index, _)| index)
}

/// True when a task that takes `longest` at the most (for ever, when none) is over before the agent's machine is taken away for maintenance:
/// always where no maintenance is planned. Time to start and to end is the caller's to add.
pub fn ends_in_time(offer: &Offer, now: Time, longest: Option<Duration>) -> bool {
    offer.unavailability().is_none_or(|window| !window.cuts_off(now, longest))
}

/// What is left of each wanted scalar, in millionths of what is there, summed.
fn slack(there: &Resources, wanted: &Resources) -> u64 {
    wanted
        .scalars()
        .map(|(name, milli)| {
            let (all, rest) = (there.milli(name), there.milli(name) - milli);
            u64::try_from(i128::from(rest) * 1_000_000 / i128::from(all.max(1))).unwrap_or(0)
        })
        .sum()
}
