//! Batch jobs on Apportion: a job file in, one task for each of its elements, in stages that wait for each other, a summary out.
//!
//! A framework as an outside team would write it, on the SDK alone; and the job runner behind `apportion batch run`. Read it in
//! this order:
//!
//! 1. [`scheduler`] is the framework proper: it passes on what happens, and has `launch` place tasks on offers.
//! 2. [`state`] decides everything else: what waits for what, retries, time-outs, what is lost. Pure, and tested against random clusters.
//! 3. [`job`] turns the job file, or what a program describes, into something in which nothing can be wrong any more.
//! 4. [`run`](mod@run) is the program around the scheduler: signals, progress, outputs, the exit code.
//!
//! The others serve these: [`keep`] writes down where a job is, [`capacity`] explains why a task could never run, [`output`] fetches what tasks print and
//! [`collect`] what they leave,
//! [`report`] and [`summary`] tell the result to programs and to people, and [`timeline`] draws it.

#![warn(missing_docs)]

pub mod capacity;
pub mod client;
pub mod collect;
pub mod command;
mod error;
pub mod job;
pub mod keep;
mod launch;
pub mod output;
pub mod progress;
pub mod queue;
pub mod report;
pub mod run;
pub mod scheduler;
pub mod serve;
pub mod state;
pub mod summary;
pub mod timeline;

pub use command::{Command, command};
pub use run::{BatchError, Format, RunArgs, run};
pub use serve::{ServeArgs, serve};
