//! Policies on replicas that are numbers.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Numbers {
    usable: bool,
    weight: u32,
    in_flight: u32,
    latency_us: f64,
}

impl Numbers {
    fn idle() -> Self {
        Self { usable: true, weight: 1, in_flight: 0, latency_us: 0.0 }
    }
}

struct All(Vec<Numbers>);

impl All {
    fn idle(count: usize) -> Self {
        Self(vec![Numbers::idle(); count])
    }

    fn weights(weights: &[u32]) -> Self {
        Self(weights.iter().map(|weight| Numbers { weight: *weight, ..Numbers::idle() }).collect())
    }

    fn picker(&self, policy: Policy) -> Picker {
        let ids: Vec<String> = (0..self.0.len()).map(|place| format!("replica-{place}")).collect();
        let members: Vec<_> =
            ids.iter().zip(&self.0).map(|(id, numbers)| (id.as_str(), numbers.weight)).collect();
        Picker::new(policy, &members, 0)
    }
}

impl Choice for All {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn usable(&self, place: usize) -> bool {
        self.0[place].usable
    }
    fn weight(&self, place: usize) -> u32 {
        self.0[place].weight
    }
    fn in_flight(&self, place: usize) -> u32 {
        self.0[place].in_flight
    }
    fn latency_us(&self, place: usize) -> f64 {
        self.0[place].latency_us
    }
}

const POLICIES: [Policy; 5] =
    [Policy::RoundRobin, Policy::Weighted, Policy::LeastOutstanding, Policy::PeakEwma, Policy::RingHash];

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(7)
}

fn places(picker: &mut Picker, all: &All, count: u64) -> Vec<usize> {
    let mut rng = rng();
    (0..count).map(|key| picker.pick(all, hash(&key.to_le_bytes()), &mut rng).unwrap()).collect()
}

#[test]
fn round_robin_goes_around_and_skips() {
    let mut all = All::idle(3);
    let mut picker = all.picker(Policy::RoundRobin);
    assert_eq!(places(&mut picker, &all, 4), [0, 1, 2, 0]);
    all.0[1].usable = false;
    assert_eq!(places(&mut picker, &all, 3), [2, 0, 2]);
}

#[test]
fn weights_are_spread_evenly() {
    let all = All::weights(&[5, 1, 1]);
    assert_eq!(places(&mut all.picker(Policy::Weighted), &all, 7), [0, 0, 1, 0, 0, 2, 0]);
}

#[test]
fn who_returns_is_owed_nothing() {
    let mut all = All::weights(&[1, 1]);
    let mut picker = all.picker(Policy::Weighted);
    all.0[1].usable = false;
    assert!(places(&mut picker, &all, 50).iter().all(|place| *place == 0));
    all.0[1].usable = true;
    assert_eq!(places(&mut picker, &all, 10).iter().sum::<usize>(), 5);
}

#[test]
fn least_outstanding_counts_by_weight_and_takes_turns() {
    let mut all = All::weights(&[1, 1, 4]);
    let mut picker = all.picker(Policy::LeastOutstanding);
    all.0[2].in_flight = 2;
    assert_eq!(places(&mut picker, &all, 2), [2, 2], "3 for a weight of 4 is less than 1 for 1");
    all.0[2].in_flight = 9;
    assert_eq!(places(&mut picker, &all, 4), [0, 1, 0, 1]);
    all.0[0].in_flight = 1;
    assert_eq!(places(&mut picker, &all, 2), [1, 1]);
}

#[test]
fn peak_ewma_avoids_who_is_slow_or_full() {
    let mut all = All::idle(2);
    all.0[0].latency_us = 50_000.0;
    all.0[1].latency_us = 1_000.0;
    let mut picker = all.picker(Policy::PeakEwma);
    assert!(places(&mut picker, &all, 50).iter().all(|place| *place == 1));
    all.0[1].in_flight = 60;
    assert!(places(&mut picker, &all, 50).iter().all(|place| *place == 0));
    all.0[0] = Numbers { in_flight: 1, ..Numbers::idle() };
    assert!(
        places(&mut picker, &all, 50).iter().all(|place| *place == 1),
        "no answer yet is not a quick answer"
    );
}

#[test]
fn a_mean_rises_at_once_and_falls_slowly() {
    let mut mean = PeakEwma::default();
    mean.observe(0, 1_000);
    mean.observe(1_000_000, 80_000);
    assert_eq!(mean.at(1_000_000), 80_000.0);
    mean.observe(2_000_000, 1_000);
    assert!(mean.at(2_000_000) > 70_000.0);
    assert!(mean.at(60_000_000) < 500.0, "who is left alone is forgiven");
}

#[test]
fn the_ring_shares_by_weight() {
    let all = All::weights(&[1, 1, 2]);
    let places = places(&mut all.picker(Policy::RingHash), &all, 10_000);
    let share = |which| places.iter().filter(|place| **place == which).count();
    assert!((3_800..6_200).contains(&share(2)), "{}", share(2));
    assert!((1_800..3_200).contains(&share(0)), "{}", share(0));
}

#[test]
fn only_the_keys_of_who_left_move() {
    let mut all = All::idle(8);
    let mut picker = all.picker(Policy::RingHash);
    let before = places(&mut picker, &all, 2_000);
    all.0[3].usable = false;
    let after = places(&mut picker, &all, 2_000);
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || *before == 3);
    }
    // And so it is when the ring is made anew without it, the others at other places.
    let ids: Vec<String> =
        (0..8).filter(|place| *place != 3).map(|place| format!("replica-{place}")).collect();
    let members: Vec<_> = ids.iter().map(|id| (id.as_str(), 1)).collect();
    let anew = places(&mut Picker::new(Policy::RingHash, &members, 0), &All::idle(7), 2_000);
    let names: Vec<_> = anew.iter().map(|place| ids[*place].clone()).collect();
    assert!(after.iter().zip(names).all(|(place, name)| name == format!("replica-{place}")));
}

proptest! {
    /// Whatever the numbers: who is picked is usable, and nobody is picked only when nobody is.
    #[test]
    fn who_is_picked_is_usable(
        numbers in proptest::collection::vec((any::<bool>(), any::<u32>(), any::<u32>(), 0.0f64..1e12), 0..12),
        keys in proptest::collection::vec(any::<u64>(), 1..20), seed: u64, start: usize,
    ) {
        let all = All(numbers.into_iter().map(|(usable, weight, in_flight, latency_us)| {
            Numbers { usable, weight: weight % 4, in_flight, latency_us }
        }).collect());
        let mut rng = fastrand::Rng::with_seed(seed);
        for policy in POLICIES {
            let ids: Vec<String> = (0..all.len()).map(|place| place.to_string()).collect();
            let members: Vec<_> = ids.iter().zip(&all.0).map(|(id, numbers)| (id.as_str(), numbers.weight)).collect();
            let mut picker = Picker::new(policy, &members, start);
            for key in &keys {
                match picker.pick(&all, *key, &mut rng) {
                    Some(place) => prop_assert!(all.usable(place)),
                    None => prop_assert!(!all.0.iter().any(|numbers| numbers.usable)),
                }
            }
        }
    }

    /// Round robin and weights are fair to the request over each whole turn.
    #[test]
    fn a_turn_is_fair(weights in proptest::collection::vec(1u32..9, 1..8), turns in 1u32..5) {
        let all = All::weights(&weights);
        let sum: u32 = weights.iter().sum();
        let ids: Vec<String> = (0..all.len()).map(|place| place.to_string()).collect();
        let members: Vec<_> = ids.iter().map(|id| (id.as_str(), 1)).collect();
        let mut weighted = Weighted::new(members.len(), 0);
        let mut counts = vec![0; weights.len()];
        for _ in 0..sum * turns {
            counts[weighted.pick(&all).unwrap()] += 1;
        }
        let fair = weights.iter().zip(&counts).all(|(weight, count)| weight * turns == *count);
        prop_assert!(fair, "{weights:?} gave {counts:?}");
    }
}
