//! The whole cluster from one seed: the real master, the real agents, the real driver, and your scheduler, unchanged.
//!
//! Take it as a dev-dependency beside the SDK. What runs here is what runs on a cluster: the same state machines, fed in virtual time by
//! a network that delays, cuts and breaks, by disks that fail, by processes that die and come back with what they had really stored.
//! There is no thread, no socket and no clock, so a failure found once is found again, from its seed.
//!
//! This holds a scheduler to its word over a thousand agents, a fifth of which are cut off while the master fails over:
//!
//! ```
//! use apportion_sdk::{Context, Offer, Scheduler, Task, TaskId, TaskState, TaskStatus, async_trait};
//! use apportion_sim::{Behaviour, Cluster, Fault, Framework, Peer};
//! use std::{collections::BTreeSet, time::Duration};
//! struct Tasks { waiting: Vec<String>, finished: BTreeSet<TaskId> }
//!
//! #[async_trait]
//! impl Scheduler for Tasks {
//!     type Message = ();
//!     async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
//!         for mut offer in offers {
//!             let Some(name) = self.waiting.pop() else { break };
//!             let task = Task::new(&name).command(["work"]).cpus(1.0).mem_mib(64).build().unwrap();
//!             if offer.launch(task).is_err() { self.waiting.push(name) } // it does not fit
//!         }
//!     }
//!     async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
//!         match status.state {
//!             TaskState::Finished => _ = self.finished.insert(status.task_id), // may be told twice
//!             state if state.is_terminal() => self.waiting.push(format!("{}-again", status.task_id)),
//!             _ => {}
//!         }
//!     }
//!     fn wants_offers(&self) -> bool { !self.waiting.is_empty() }
//! }
//!
//! const SECOND: Duration = Duration::from_secs(1);
//! let new = || Tasks { waiting: (0..2_000).map(|n| format!("task-{n}")).collect(), finished: BTreeSet::new() };
//! let build = || {
//!     let mut cluster = Cluster::new().agents(1_000, "cpus:8;mem:16384")
//!         .workload(|_, rng| Behaviour::succeeds_after(rng.u32(5..30) * SECOND))
//!         .faults(5 * SECOND, (0..200).map(|agent| Fault::cut(Peer::Agent(agent), 60 * SECOND)))
//!         .fault(9 * SECOND, Fault::master_dies(SECOND));
//!     let tasks = cluster.add(Framework::new("tasks", new));
//!     (cluster, tasks)
//! };
//! apportion_sim::check(0..2, build, |sim, &tasks| {
//!     sim.run_until_idle(3600 * SECOND)?;
//!     assert_eq!(sim.scheduler(tasks).unwrap().finished.len(), 2_000);
//!     Ok(())
//! });
//! ```
//!
//! When an expectation or a property of the system itself is broken, the run is made again with fewer faults and fewer agents for as
//! long as it still breaks; then the seed, the faults that it needs, the history that led to it and the command that runs it again are
//! told.
//!
//! # What is held of every scheduler
//!
//! What a story does not ask for is asked by [`conformance`]: it plays hundreds of generated histories at any scheduler, and tells which
//! of the promises that every scheduler makes it breaks, such as to give offers back, to survive a crash at any moment, to come to rest.
//!
//! # What is held in every run
//!
//! Beside what a test expects, every run is held to the properties of the system, among them: no resource is given twice; an offer
//! is closed exactly once; no acknowledged update is lost; every accepted task becomes known; no task runs that nobody knows, or without its executor;
//! task moves are legal; tasks survive a change of master; quotas hold; shares are fair; queues are bounded.
//!
//! # What is simulated
//!
//! | part | as it is | simulated |
//! |---|---|---|
//! | master, allocator, agent | their cores | the loop around each; the registry, which outlives the master in three seeds of four, as with a work directory |
//! | framework | the driver's engine and the scheduler | the connection |
//! | network | | two lanes for each connection, in order; delays, stragglers, cuts one way or both, breaks |
//! | an agent's disk | the log and how it is summed up | how long writes take; what a crash leaves of those under way; failures |
//! | containers | | a [`Behaviour`] for each task: starts late, not at all, ends, hangs, runs out of memory |
//! | executors | | what they are told and say; streams that break, and executors that never open one or end nothing they are asked to end |
//! | clocks | | for each process its own, wrong and too fast or slow if wished |

#![warn(missing_docs)]

mod check;
mod clock;
mod cluster;
pub mod conformance;
mod fault;
mod harness;
mod history;
mod machine;
mod network;
mod process;
mod queue;
mod random;
pub mod scenario;
mod shrink;
mod sim;
pub mod trace;
mod world;
mod write;

pub use fastrand::Rng;

pub use self::{
    cluster::Cluster,
    fault::{Chaos, Fault, Process, Timed, Ways},
    harness::{Found, SEED_VARIABLE, Searched, check, find, find_at_every_write},
    machine::{Answers, Behaviour, Ending, OnTerm},
    network::{Delays, Peer},
    process::{Framework, Handle, Store},
    sim::{Failure, Sim},
    write::KillAt,
};
