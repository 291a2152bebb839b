//! One seed gives one run.

use std::time::Duration;

use super::support::small;

fn history(seed: u64) -> Vec<String> {
    let mut sim = small().0.start_with_history(seed);
    sim.run_until_idle(Duration::from_secs(3600)).unwrap();
    sim.history().to_vec()
}

#[test]
fn the_same_seed_gives_the_same_history_to_the_byte() {
    for seed in 0..10 {
        let (once, again) = (history(seed), history(seed));
        assert!(once.len() > 100, "{} lines", once.len());
        assert_eq!(once, again);
    }
}

#[test]
fn other_seeds_give_other_histories() {
    assert_ne!(history(1), history(2));
}

#[test]
fn who_looks_on_changes_nothing() {
    for seed in 0..10 {
        let (mut checked, mut unchecked) = (small().0.start(seed), small().0.start_unchecked(seed));
        for sim in [&mut checked, &mut unchecked] {
            sim.run_until_idle(Duration::from_secs(3600)).unwrap();
        }
        assert_eq!(checked.steps(), unchecked.steps());
        assert_eq!(checked.master().counters, unchecked.master().counters);
        assert_eq!(checked.master().completed, unchecked.master().completed);
    }
}
