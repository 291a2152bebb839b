//! How long answers took: counts in buckets that are a sixteenth of a power of two wide, so any quantile is right to 6 %.
//!
//! Counting is one atomic addition; sorting out is left to who reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets for each power of two.
const PARTS: u64 = 16;

/// The longest that is told apart: 2^32 µs, more than an hour.
const EXPONENT_MAX: u32 = 32;

const BUCKETS: usize = ((EXPONENT_MAX - 3 + 1) as u64 * PARTS) as usize;

fn bucket(us: u64) -> usize {
    let us = us.min((1 << EXPONENT_MAX) - 1);
    if us < PARTS {
        return us as usize;
    }
    let exponent = us.ilog2();
    let part = (us >> (exponent - 4)) & (PARTS - 1);
    (u64::from(exponent - 3) * PARTS + part) as usize
}

/// The most that falls into a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PARTS {
        return bucket;
    }
    let exponent = bucket / PARTS + 3;
    ((PARTS + bucket % PARTS + 1) << (exponent - 4)) - 1
}

/// Counts of durations, in microseconds.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[AtomicU64]>,
    sum_us: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), sum_us: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// One more took so long.
    pub fn record(&self, us: u64) {
        self.counts[bucket(us)].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    fn clear(&self) {
        self.counts.iter().for_each(|count| count.store(0, Relaxed));
        self.sum_us.store(0, Relaxed);
    }

    /// What was counted until now.
    pub fn counts(&self) -> Counts {
        let counts = self.counts.iter().map(|count| count.load(Relaxed)).collect();
        Counts { counts, sum_us: self.sum_us.load(Relaxed) }
    }
}

/// What a [`Histogram`] had counted at some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    counts: Vec<u64>,
    sum_us: u64,
}

impl Counts {
    /// How many.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All durations together, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// How many took at most so long; exact where a bucket ends, else those of the bucket that holds it are left out.
    pub fn at_most(&self, us: u64) -> u64 {
        self.counts
            .iter()
            .enumerate()
            .take_while(|(place, _)| upper(*place) <= us)
            .map(|(_, count)| count)
            .sum()
    }

    /// The microseconds that this part of all (0.99 for the 99th percentile) did not exceed; 0 for none at all.
    pub fn quantile(&self, part: f64) -> u64 {
        let rank = (self.count() as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        place.map_or(0, upper)
    }

    fn add(&mut self, other: &Counts) {
        self.counts.resize(BUCKETS, 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum_us += other.sum_us;
    }
}

/// Seconds of one slot of [`Recent`].
const SLOT_SECONDS: u64 = 5;
const SLOTS: usize = 3;

/// What the last ten to fifteen seconds counted: what a scaler and a person want to know, neither of whom cares for yesterday.
#[derive(Debug, Default)]
pub struct Recent {
    slots: [Slot; SLOTS],
}

#[derive(Debug, Default)]
struct Slot {
    /// Which five seconds since the start this is, from 1.
    turn: AtomicU64,
    histogram: Histogram,
}

impl Recent {
    /// One took so long, and ended at this second since the start.
    pub fn record(&self, second: u64, us: u64) {
        let turn = second / SLOT_SECONDS + 1;
        let slot = &self.slots[turn as usize % SLOTS];
        let before = slot.turn.load(Relaxed);
        // One of the threads that come first in a turn wipes the slot. What another counts meanwhile may be lost; nobody bills by it.
        if before != turn && slot.turn.compare_exchange(before, turn, Relaxed, Relaxed).is_ok() {
            slot.histogram.clear();
        }
        slot.histogram.record(us);
    }

    /// What is in the slots that are not older than this second allows.
    pub fn counts(&self, second: u64) -> Counts {
        let turn = second / SLOT_SECONDS + 1;
        let mut all = Counts::default();
        for slot in &self.slots {
            if slot.turn.load(Relaxed) + SLOTS as u64 > turn {
                all.add(&slot.histogram.counts());
            }
        }
        all
    }
}

/// Seconds over which a rate is told.
const RATE_SECONDS: u64 = 10;
const RATE_SLOTS: usize = 16;

/// How many came in each of the last seconds.
#[derive(Debug, Default)]
pub struct Rate {
    /// The second and, in the lower half, its count: one word, so that the two never disagree.
    slots: [AtomicU64; RATE_SLOTS],
}

impl Rate {
    /// One came at this second since the start.
    pub fn record(&self, second: u64) {
        let slot = &self.slots[second as usize % RATE_SLOTS];
        let word = slot.load(Relaxed);
        let begun = word >> 32 == second;
        // Of several that begin a second one does, and the others count on.
        if begun || slot.compare_exchange(word, (second << 32) | 1, Relaxed, Relaxed).is_err() {
            slot.fetch_add(1, Relaxed);
        }
    }

    /// Mean of each second, over the last ten whole ones or as many as there were.
    pub fn per_second(&self, second: u64) -> f64 {
        let seconds = RATE_SECONDS.min(second);
        if seconds == 0 {
            // The first second is not over; what it has is the best guess.
            return (self.slots[0].load(Relaxed) & u64::from(u32::MAX)) as f64;
        }
        let count = |at: u64| {
            let word = self.slots[at as usize % RATE_SLOTS].load(Relaxed);
            if word >> 32 == at { word & u64::from(u32::MAX) } else { 0 }
        };
        (second - seconds..second).map(count).sum::<u64>() as f64 / seconds as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quantile_is_right_to_a_sixteenth(mut values in proptest::collection::vec(0u64..4_000_000_000, 1..200), part in 0.0f64..1.0) {
            let histogram = Histogram::default();
            values.iter().for_each(|us| histogram.record(*us));
            values.sort();
            let rank = ((values.len() as f64 * part).ceil().max(1.0) as usize).min(values.len());
            let exact = values[rank - 1];
            let told = histogram.counts().quantile(part);
            prop_assert!(told >= exact && told <= exact + exact / 16, "{told} for {exact}");
        }

        #[test]
        fn buckets_follow_each_other(us in 0u64..1 << 32) {
            prop_assert!(upper(bucket(us)) >= us);
            prop_assert!(bucket(us) == 0 || upper(bucket(us) - 1) < us);
        }
    }

    #[test]
    fn recent_is_recent() {
        let recent = Recent::default();
        recent.record(0, 100);
        recent.record(7, 200);
        assert_eq!(recent.counts(7).count(), 2);
        assert_eq!(recent.counts(16).count(), 1);
        assert_eq!(recent.counts(100).count(), 0);
        recent.record(15, 300);
        assert_eq!(recent.counts(15).count(), 2, "the slot of the first seconds began anew");
    }

    #[test]
    fn a_rate_is_of_whole_seconds() {
        let rate = Rate::default();
        (0..5).for_each(|_| rate.record(0));
        assert_eq!(rate.per_second(0), 5.0);
        (0..15).for_each(|_| rate.record(1));
        assert_eq!(rate.per_second(2), 10.0);
        assert_eq!(rate.per_second(11), 1.5);
        assert_eq!(rate.per_second(40), 0.0);
    }
}
