//! Many seeds of a small cluster on a bad day.

use std::time::Duration;

use apportion_sim::{Failure, Handle, Sim};

use super::support::{JOBS, Jobs, small};

/// Whatever happens on the way, all work is done in the end.
pub(crate) fn to_the_end(sim: &mut Sim, frameworks: &Vec<Handle<Jobs>>) -> Result<(), Failure> {
    sim.run_until_idle(Duration::from_secs(3600))?;
    for framework in frameworks {
        let finished = sim.scheduler(*framework).map(|jobs| jobs.finished);
        if finished != Some(JOBS) {
            return Err(sim.failure(format!("{finished:?} of {JOBS} jobs of {framework:?} are finished")));
        }
    }
    Ok(())
}

// Two tests, for two threads: a thousand seeds in all.

#[test]
fn the_first_seeds_run_clean() {
    apportion_sim::check(0..500, small, to_the_end);
}

#[test]
fn the_next_seeds_run_clean() {
    apportion_sim::check(500..1000, small, to_the_end);
}
