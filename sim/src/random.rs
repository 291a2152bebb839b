//! Chance, all of it from one seed.

use std::time::Duration;

use fastrand::Rng;

/// One stream of chance for each purpose, so that a change in one leaves the others as they were: a shrunk run still looks like the
/// one that it comes from.
#[derive(Debug)]
pub(crate) struct Chance {
    pub(crate) network: Rng,
    pub(crate) disks: Rng,
    pub(crate) processes: Rng,
    pub(crate) tasks: Rng,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            network: stream(seed, 1),
            disks: stream(seed, 2),
            processes: stream(seed, 3),
            tasks: stream(seed, 4),
        }
    }
}

/// A stream that has nothing to do with those of other purposes or seeds.
pub(crate) fn stream(seed: u64, purpose: u64) -> Rng {
    Rng::with_seed(mix(seed ^ mix(purpose)))
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): near seeds become far ones.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A duration within both bounds.
pub(crate) fn between(rng: &mut Rng, least: Duration, most: Duration) -> Duration {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(rng.u64(micros(least)..=micros(most).max(micros(least))))
}

/// True so many times in a million.
pub(crate) fn hits(rng: &mut Rng, per_million: u32) -> bool {
    per_million > 0 && rng.u32(0..1_000_000) < per_million
}
