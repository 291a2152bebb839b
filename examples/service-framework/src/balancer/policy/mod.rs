//! Who gets the next request: one file for each answer.
//!
//! A policy sees replicas as numbers (weight, requests under way, latency) and gives the place of one. It has no network, no
//! clock and no chance of its own: a test hands these in, and so does a worker. Each worker has a picker of its own, so nothing
//! here is shared between threads.

mod ewma;
mod least;
mod ring;
mod round_robin;
mod weighted;

pub use self::{ewma::PeakEwma, ring::hash};
use self::{least::LeastOutstanding, ring::Ring, round_robin::RoundRobin, weighted::Weighted};
use super::config::Policy;

/// The replicas from which one is picked, as a policy sees them.
pub trait Choice {
    /// How many there are; places count from 0.
    fn len(&self) -> usize;

    /// Whether there is nobody.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this one may be picked: it is not full, and this request did not fail there already.
    fn usable(&self, place: usize) -> bool;

    /// From 1; twice the weight is to get twice as much.
    fn weight(&self, place: usize) -> u32;

    /// Requests that it has at the moment.
    fn in_flight(&self, place: usize) -> u32;

    /// What a request there takes, in microseconds; 0 when nothing is known.
    fn latency_us(&self, place: usize) -> f64;
}

/// A policy, and what it must remember between two requests.
#[derive(Debug)]
pub enum Picker {
    /// One after another.
    RoundRobin(RoundRobin),
    /// One after another, by weight.
    Weighted(Weighted),
    /// Who has the fewest.
    LeastOutstanding(LeastOutstanding),
    /// Of two at random who answers sooner.
    PeakEwma,
    /// Who is next on the ring.
    RingHash(Ring),
}

impl Picker {
    /// A picker for members of these ids and weights, which come at the same places in every [`Choice`]. When members change a new
    /// one is made; `start` is where it begins, lest the first member get a request too many at each change.
    pub fn new(policy: Policy, members: &[(&str, u32)], start: usize) -> Self {
        match policy {
            Policy::RoundRobin => Self::RoundRobin(RoundRobin::new(start)),
            Policy::Weighted => Self::Weighted(Weighted::new(members.len(), start)),
            Policy::LeastOutstanding => Self::LeastOutstanding(LeastOutstanding::new(start)),
            Policy::PeakEwma => Self::PeakEwma,
            Policy::RingHash => Self::RingHash(Ring::new(members)),
        }
    }

    /// The place of who gets the next request; nobody when none is usable.
    pub fn pick(&mut self, among: &impl Choice, key: u64, rng: &mut fastrand::Rng) -> Option<usize> {
        match self {
            Self::RoundRobin(policy) => policy.pick(among),
            Self::Weighted(policy) => policy.pick(among),
            Self::LeastOutstanding(policy) => policy.pick(among),
            Self::PeakEwma => ewma::pick(among, rng),
            Self::RingHash(ring) => ring.pick(among, key),
        }
    }
}

#[cfg(test)]
mod tests;
