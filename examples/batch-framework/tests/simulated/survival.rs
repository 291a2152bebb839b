//! What a job that is kept survives: its own program's end, at any moment.

use std::{sync::Arc, time::Duration};

use apportion_batch::{
    job::Job,
    keep::Keeper,
    scheduler::{BatchScheduler, Order},
    state::Outcome,
};
use apportion_sdk::{Stop, Time};
use apportion_sim::{Chaos, Cluster, Failure, Fault, Framework, Handle, Sim, check};
use tokio::sync::mpsc;

use crate::program::{Begun, LONG, job, same, takes_its_time, three_agents};

/// A job whose program is run again, by whom or what ever, until it has ended.
pub(crate) fn kept(cluster: &mut Cluster, job: Job) -> Handle<BatchScheduler> {
    let job = Arc::new(job);
    let framework = Framework::stored("j", move |store| {
        let (keeper, kept) = Keeper::open(store.clone(), &job, Time::ZERO).unwrap();
        // Nobody listens to the news.
        BatchScheduler::kept(Arc::clone(&job), (keeper, kept.state), mpsc::unbounded_channel().0)
    });
    cluster.add(framework.failover_timeout(Duration::from_secs(600)))
}

pub(crate) fn is_done(sim: &Sim, job: Handle<BatchScheduler>) -> bool {
    sim.scheduler(job).is_some_and(|job| job.state().is_done())
}

/// The program leaves: again if it died, and left its word unheard or forgot it, before the framework had ended.
pub(crate) fn leave(sim: &mut Sim, job: Handle<BatchScheduler>) -> Result<(), Failure> {
    for _ in 0..2 {
        if sim.ended(job).is_none() {
            sim.tell(job, Order::Leave);
            sim.run_until_idle(LONG)?;
        }
    }
    same(sim, "how the framework ended", sim.ended(job), Some(Stop::Teardown))
}

/// Nothing is lost, and nothing is done twice: neither what had ended, nor what ran meanwhile.
#[test]
fn a_program_that_dies_at_any_moment_goes_on_where_it_was() {
    let build = || {
        let begun = Begun::none(40);
        let counted = begun.clone();
        // Half of the deaths within the first seconds, in which everything is launched.
        let mut cluster = three_agents().workload(move |task, rng| {
            counted.count(task);
            takes_its_time(task, rng)
        });
        for number in 0..20 {
            let at = Duration::from_millis(50 * number);
            cluster = cluster.fault(at, Fault::framework_dies(0, Duration::from_millis(7)));
        }
        let chaos = Chaos {
            lasts: Duration::from_secs(60),
            longest: Duration::from_secs(5),
            framework_crashes: 20.0,
            ..Chaos::NONE
        };
        let job = kept(&mut cluster, job().count(40).build().unwrap());
        (cluster.chaos(chaos), (job, begun))
    };
    check(0..60, build, |sim, (job, begun)| {
        sim.run_until(LONG, "the job is done", |sim| is_done(sim, *job))?;
        let state = sim.scheduler(*job).expect("it is up").state().clone();
        let outcomes = state.tasks().iter().map(|task| task.end().unwrap().outcome);
        same(sim, "how tasks ended", outcomes.collect(), vec![Outcome::Succeeded; 40])?;
        same(sim, "how often machines began each", begun.all(), vec![1; 40])?;
        leave(sim, *job)
    });
}

/// What may have been lost runs again, what has ended does not.
#[test]
fn a_job_survives_a_bad_day() {
    let build = || {
        let chaos = Chaos { framework_crashes: 4.0, ..Chaos::bad_day(Duration::from_secs(120)) };
        let mut cluster = three_agents().chaos(chaos).workload(takes_its_time);
        let job = kept(&mut cluster, job().count(20).retries(20).build().unwrap());
        (cluster, job)
    };
    check(0..60, build, |sim, job| {
        sim.run_until(LONG, "the job is done", |sim| is_done(sim, *job))?;
        let counts = sim.scheduler(*job).expect("it is up").state().counts();
        same(sim, "tasks that succeeded", counts.succeeded, 20)?;
        sim.run_until_idle(LONG)?;
        same(sim, "what runs when the job is done", sim.running().count(), 0)
    });
}
