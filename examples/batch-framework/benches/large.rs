//! What one callback of the scheduler costs in a job of a thousand, ten thousand and a hundred thousand tasks: it must not grow.
//!
//! `cargo bench -p apportion-batch`; prints a line for each size.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and fails by panicking")]

use std::{sync::Arc, time::Instant};

use apportion_batch::{job::Job, scheduler::BatchScheduler};
use apportion_sdk::{TaskState, testing::Harness};
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
}
