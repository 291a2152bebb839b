//! What one callback of the scheduler costs in a job of a thousand, ten thousand and a hundred thousand tasks: it must not grow. And what
//! placing a task costs when 1,500 machines are offered at once, beside a look at each of them for each task.
//!
//! `cargo bench -p apportion-batch`; prints a line for each size.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and fails by panicking")]

use std::{sync::Arc, time::Instant};

use apportion_batch::{job::Job, scheduler::BatchScheduler};
use apportion_sdk::{
    Resources, TaskState,
    placement::{BestFit, Demand, Machine, Packing},
    testing::Harness,
};
use tokio::sync::mpsc;

/// Tasks that are launched by one offer, and end.
const BATCH: usize = 1_000;

fn main() {
    for tasks in [1_000, 10_000, 100_000] {
        let resources = "cpus:0.01;mem:1".parse().unwrap();
        let job = Job::builder("j").command(["true"]).resources(resources).count(tasks).build().unwrap();
        // Nobody listens to the news.
        let mut harness = Harness::new(BatchScheduler::new(Arc::new(job), mpsc::unbounded_channel().0));
        harness.offer("a", "cpus:10;mem:100000");
        let launched = harness.launched();
        assert_eq!(launched.len(), BATCH);
        let started = Instant::now();
        for task in &launched {
            harness.update("a", task.task_id.as_str(), TaskState::Running);
            harness.update("a", task.task_id.as_str(), TaskState::Finished);
        }
        let each = started.elapsed() / (2 * BATCH as u32);
        let started = Instant::now();
        if tasks > BATCH {
            harness.offer("a", "cpus:10;mem:100000");
            assert_eq!(harness.launched().len(), BATCH);
        }
        let launch = started.elapsed() / BATCH as u32;
        println!("{tasks:>7} tasks: {each:?} for each update, {launch:?} for each launch");
    }
    many_machines();
}

/// Machines of a cluster, and tasks that are placed on them in one callback.
const MACHINES: usize = 1_500;
const PLACED: usize = 10_000;

/// Tasks of which each has an index of its own made, as `placement::best_fit` does: there is no patience for all of them.
const ALONE: usize = 200;

fn many_machines() {
    let needs: Resources = "cpus:1;mem:100".parse().unwrap();
    let machines: Vec<_> = (0..MACHINES)
        .map(|number| (format!("a{number}"), format!("cpus:{};mem:9000", 8 + number % 9)))
        .collect();
    let offers: Vec<_> =
        machines.iter().map(|(name, resources)| (name.as_str(), resources.as_str())).collect();

    let mut left: Vec<_> = offers.iter().map(|(name, free)| Machine::new(name, free)).collect();
    let started = Instant::now();
    for _ in 0..ALONE {
        let best = Packing::new(left.iter().cloned()).choose(&Demand::of(needs.clone()), &BestFit).unwrap();
        left[best].free.saturating_sub(&needs);
    }
    let alone = started.elapsed() / ALONE as u32;

    let mut packing = Packing::new(offers.iter().map(|(name, free)| Machine::new(name, free)));
    let demand = Demand::of(needs.clone());
    let started = Instant::now();
    (0..PLACED).for_each(|_| _ = packing.place(&demand, &BestFit).unwrap());
    let indexed = started.elapsed() / PLACED as u32;

    let job = Job::builder("j").command(["true"]).resources(needs).count(PLACED).build().unwrap();
    let mut harness = Harness::new(BatchScheduler::new(Arc::new(job), mpsc::unbounded_channel().0));
    let started = Instant::now();
    harness.offers(&offers);
    let whole = started.elapsed() / PLACED as u32;
    assert_eq!(harness.launched().len(), PLACED);
    println!(
        "{MACHINES} machines: a task costs {alone:?} with an index of its own, {indexed:?} with one for all; {whole:?} to its accept"
    );
}
