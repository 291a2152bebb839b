//! Who answers sooner, of two at random: Finagle's peak EWMA.
//!
//! The mean of latencies follows a rise at once (the peak) and a fall slowly, so a replica that stalls is left alone after its
//! first slow answer. A guess at how long a request would take is that mean for each request already there, and the new one.
//! Two at random instead of the best of all: with many balancers the best would get everybody's next request.

use super::{Choice, round_robin::first_from};

/// Over how long an answer is forgotten, as in Finagle.
const DECAY_US: f64 = 10_000_000.0;

/// What a replica that has requests but never answered is taken for.
const UNKNOWN_US: f64 = 1_000_000.0;

/// A mean of latencies that rises at once and falls slowly. Time comes in, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeakEwma {
    mean_us: f64,
    at_us: u64,
}

impl PeakEwma {
    /// An answer took so long.
    pub fn observe(&mut self, now_us: u64, took_us: u64) {
        let took = took_us as f64;
        let kept = self.kept(now_us);
        self.mean_us = if took > self.mean_us { took } else { self.mean_us * kept + took * (1.0 - kept) };
        self.at_us = self.at_us.max(now_us);
    }

    /// What it is now: one that nobody asks is forgiven by and by, or it would never be asked again.
    pub fn at(&self, now_us: u64) -> f64 {
        self.mean_us * self.kept(now_us)
    }

    fn kept(&self, now_us: u64) -> f64 {
        (-(now_us.saturating_sub(self.at_us) as f64) / DECAY_US).exp()
    }
}

fn cost(among: &impl Choice, place: usize) -> f64 {
    let (latency, in_flight) = (among.latency_us(place), f64::from(among.in_flight(place)));
    let latency = if latency == 0.0 && in_flight > 0.0 { UNKNOWN_US } else { latency };
    latency * (in_flight + 1.0) / f64::from(among.weight(place).max(1))
}

pub(super) fn pick(among: &impl Choice, rng: &mut fastrand::Rng) -> Option<usize> {
    let len = among.len();
    if len == 0 {
        return None;
    }
    let one = first_from(among, rng.usize(..len))?;
    if len == 1 {
        return Some(one);
    }
    // Another one: from the places beside the first.
    let other = first_from(among, one + 1 + rng.usize(..len - 1))?;
    Some(if cost(among, other) < cost(among, one) { other } else { one })
}
