//! Batch jobs on Apportion.

pub mod capacity;
pub mod job;
pub mod output;
pub mod progress;
pub mod report;
pub mod scheduler;
pub mod state;
pub mod summary;
