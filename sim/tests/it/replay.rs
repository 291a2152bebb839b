//! One seed gives one run.

use std::time::Duration;

use super::support::small;

#[test]
fn a_small_cluster_has_bad_days() {
    for seed in 0..20 {
        let mut sim = small().start(seed);
        let done = sim.run_until_idle(Duration::from_secs(3600));
        eprintln!("{seed} {:?} {} steps {:?}", done, sim.steps(), sim.elapsed());
    }
}
