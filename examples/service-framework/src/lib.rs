//! Services on Apportion: so many replicas, kept running, and found again when the scheduler itself was restarted.
//!
//! A framework as an outside team would write it, on the SDK alone; and what is behind `apportion service run`. It shows what
//! the batch framework does not need: a scheduler that survives. Read it in this order:
//!
//! 1. [`scheduler`] places replicas: plan, write, act.
//! 2. [`state`] decides which replica needs a task. Pure, and tested against random clusters.
//! 3. [`store`] keeps the table on disk so that a crash at any moment leaves a whole one; [`keep`] lets a test or a simulation
//!    keep it in memory.
//! 4. [`run`](mod@run) is the program around it: signals, events, beginning anew.
//!
//! [`spec`] and [`template`] read the description, [`event`] is what is told.
//!
//! Beside them, and knowing nothing of them: [`balancer`] deals the requests to an app out among its replicas, and [`discovery`] tells
//! others by DNS and HTTP where these are.
//!
//! Not here, and not hidden: a change of the command reaches a replica when it next starts, since there is no rolling
//! deploy; a replica counts as well when it runs, since there is no health check.

#![warn(missing_docs)]

pub mod balancer;
pub mod discovery;
pub mod event;
pub mod keep;
pub mod run;
pub mod scale;
pub mod scheduler;
pub mod spec;
pub mod state;
pub mod store;
pub mod template;

pub use run::{Format, RunArgs, ServiceError, run};
