//! The batch scheduler held to what every scheduler promises.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::sync::Arc;

use apportion_batch::{
    job::{Builder, Job},
    scheduler::{BatchScheduler, Order},
};
use apportion_sdk::{Capability, Options};
use apportion_sim::conformance::Conformance;
use tokio::sync::mpsc;

/// It stores nothing: a job whose program dies is begun anew. The program leaves when the job is done.
fn conformance(job: Builder) -> Conformance<BatchScheduler> {
    let job = Arc::new(job.build().unwrap());
    // Nobody listens to the news.
    Conformance::new(move || BatchScheduler::new(Arc::clone(&job), mpsc::unbounded_channel().0))
        .framework(|framework| {
            framework.options(Options::new().capability(Capability::InverseOffers).build())
        })
        .messages(|sim, batch| {
            let done = sim.scheduler(batch).is_some_and(|batch| batch.state().is_done());
            if done && sim.ended(batch).is_none() {
                sim.tell(batch, Order::Leave);
            }
        })
}

fn job() -> Builder {
    Job::builder("job").command(["work", "${index}"]).resources("cpus:1;mem:128".parse().unwrap()).count(5)
}

#[test]
fn a_job_keeps_every_promise() {
    conformance(job().retries(2)).run().assert_ok();
}

#[test]
fn a_job_whose_tasks_may_take_seconds_only_keeps_every_promise() {
    conformance(job().timeout(std::time::Duration::from_secs(6))).seed(2).run().assert_ok();
}
