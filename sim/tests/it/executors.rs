//! Whatever happens to executors and to those that they run.

use std::time::Duration;

use apportion_sim::Chaos;

#[path = "../../mutants/seeds/executors.rs"]
mod workload;

use workload::{all_done, cluster};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn whatever_happens_to_executors_the_properties_hold() {
    apportion_sim::check(0..50, || cluster(Chaos::bad_day(120 * SECOND)), all_done);
}

#[test]
fn whatever_dies_around_executors_the_properties_hold() {
    let wild = || Chaos {
        agent_crashes: 12.0,
        reboots: 2.0,
        disk_failures: 3.0,
        out_of_memory: 4.0,
        ..Chaos::bad_day(200 * SECOND)
    };
    apportion_sim::check(0..50, || cluster(wild()), all_done);
}
