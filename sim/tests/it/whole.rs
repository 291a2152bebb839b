//! The whole offer model at once: quotas, reservations, preemption, gangs and optimistic commits, on a bad minute.

use apportion_sim::scenario::Scenario;

/// The text that `apportion sim --scenario sim/scenarios/whole-model.txt --seeds 0..100000` plays under more seeds.
const TEXT: &str = include_str!("../../scenarios/whole-model.txt");

fn seeds_run_clean(seeds: std::ops::Range<u64>) {
    let scenario = Scenario::parse("whole-model.txt", TEXT).unwrap();
    apportion_sim::check(seeds, || (scenario.build(), ()), |sim, ()| scenario.story(sim));
}

// Two tests, for two threads.

#[test]
fn the_first_seeds_of_the_whole_model_run_clean() {
    seeds_run_clean(0..50);
}

#[test]
fn the_next_seeds_of_the_whole_model_run_clean() {
    seeds_run_clean(50..100);
}
