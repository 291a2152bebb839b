//! Services on Apportion: so many replicas, kept running, and found again when the scheduler itself was restarted.
//!
//! A framework as an outside team would write it, on the SDK alone; and what is behind `apportion service run`. It shows what
//! the batch framework does not need: a scheduler that survives. Read it in this order:
//!
//! 1. [`scheduler`] places replicas: plan, write, act.
//! 2. [`state`] decides what each service needs: `app.rs` is what it is to be, `plan.rs` what is to be launched and killed for that,
//!    `rollout.rs` how an update moves along. Pure, and tested against random clusters.
//! 3. [`keep`] opens the folder in which all that is stored, with the SDK's store.
//! 4. [`run`](mod@run) is the program around it: signals, events, beginning anew. [`serve`](mod@serve) is the same for many services, which
//!    [`api`] and [`command`](mod@command) give to it while it runs; [`logs`] reads what they write.
//!
//! 5. [`front`] leads clients to replicas. It follows what the scheduler says of them, and tells it when they have finished with one.
//!
//! [`spec`] and [`template`] read the description, [`event`] is what is told.
//!
//! Beside them, and knowing nothing of offers: [`balancer`] deals the requests to an app out among its replicas, [`discovery`] tells others by
//! DNS and HTTP where these are, and [`scale`] decides how many there are to be. The front has the first two; for the third [`measure`] asks
//! agents, balancers and Prometheus what is so, and `state/scaling.rs` obeys.

#![warn(missing_docs)]

pub mod api;
pub mod balancer;
pub mod command;
pub mod discovery;
pub mod event;
pub mod front;
pub mod keep;
pub mod logs;
pub mod measure;
pub mod run;
pub mod scale;
pub mod scheduler;
pub mod serve;
pub mod spec;
pub mod state;
pub mod template;

pub use command::{Command, command};
pub use run::{Format, RunArgs, ServiceError, run};
pub use serve::{ServeArgs, serve};
