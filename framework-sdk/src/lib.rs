//! Schedulers for Apportion, and the driver that runs them.
//!
//! Apportion shares out a cluster in two levels: the master decides *who is offered what*, a scheduler, written on this crate,
//! decides *what runs where*. This one runs ten tasks and ends:
//!
//! ```no_run
//! use std::collections::BTreeSet;
//!
//! use apportion_sdk::{Context, Driver, Offer, Scheduler, Stop, Task, TaskId, TaskState, TaskStatus, async_trait};
//!
//! struct Ten {
//!     waiting: Vec<String>,
//!     running: BTreeSet<TaskId>,
//! }
//!
//! #[async_trait]
//! impl Scheduler for Ten {
//!     type Message = ();
//!
//!     async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
//!         for mut offer in offers {
//!             while let Some(name) = self.waiting.pop() {
//!                 let task = Task::new(&name).shell("echo hello").cpus(0.5).mem_mib(64);
//!                 let task = task.build().expect("a good task");
//!                 let task_id = task.task_id.clone();
//!                 if offer.launch(task).is_err() {
//!                     self.waiting.push(name); // it does not fit: on to the next offer
//!                     break;
//!                 }
//!                 self.running.insert(task_id);
//!             }
//!         } // each offer answers itself here: with its tasks, or by going back unused
//!     }
//!
//!     async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
//!         println!("{} is {}: {}", status.task_id, status.state, status.message);
//!         let never_ran = matches!(status.state, TaskState::Dropped | TaskState::Unknown);
//!         // An end may be told more than once, by the agent and by the master.
//!         if (never_ran || status.state.is_terminal()) && self.running.remove(&status.task_id) && never_ran {
//!             self.waiting.push(status.task_id.to_string()); // through nobody's fault: again
//!         }
//!         if self.running.is_empty() && self.waiting.is_empty() {
//!             cx.stop(Stop::Teardown);
//!         }
//!     }
//!
//!     fn wants_offers(&self) -> bool {
//!         !self.waiting.is_empty()
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let driver = Driver::builder("ten").master("127.0.0.1:5050").build()?;
//!     let waiting = (0..10).map(|number| format!("task-{number}")).collect();
//!     driver.run(Ten { waiting, running: BTreeSet::new() }).await?;
//!     Ok(())
//! }
//! ```
//!
//! # What the driver takes off a scheduler's hands
//!
//! **Offers cannot leak, and cannot be overspent.** An [`Offer`] subtracts what is [launched](Offer::launch) on it, and answers
//! itself when it is dropped. One that is rescinded meanwhile cannot hurt: tasks launched on it are told as
//! [`Dropped`](TaskState::Dropped), which is the state to launch again from. An [`Offer`] may be kept, but nothing is gained by it:
//! what is declined comes again.
//!
//! **Updates are acknowledged** when [`update`](Scheduler::update) returns. An agent repeats an update until then, over restarts of
//! its own, of the master and of the scheduler. So: store first, then return; and be ready to hear of an end twice, from the agent
//! and from the master, or after a crash in between. Acknowledging frees the task's id.
//!
//! **Tasks are reconciled.** Statuses that the master makes by itself are sent once, and may be lost with a connection. After
//! each subscription the driver asks for the state of every task that it launched and of those that
//! [`tasks`](Scheduler::tasks) names, with growing pauses, until each was told. A task that is [`Unknown`](TaskState::Unknown) or
//! [`Gone`](TaskState::Gone) then does not run; one that is [`Unreachable`](TaskState::Unreachable) may, and may come back.
//!
//! **Offers are asked for only while they are of use.** After each callback the driver asks
//! [`wants_offers`](Scheduler::wants_offers), and tells the master when the answer has changed. A scheduler that wants offers is
//! not made those that it has declined in the last seconds; when it gets new work meanwhile it asks for all again with
//! [`Context::revive`].
//!
//! **Kills are not forgotten.** A [`kill`](Context::kill) is repeated over lost connections until the task is told to have ended.
//!
//! **Lost connections are opened again**, with the same framework id, after a pause that grows from 0.1 to at most 10 seconds;
//! with several masters, of each in turn. Meanwhile tasks run on, for as long as the framework's
//! [failover time-out](driver::Builder::failover_timeout). Only the first connection must succeed in time.
//!
//! # More than launching
//!
//! **Reserved resources are used first**: a task that asks for `cpus:1` gets what is reserved for its role before what is not. An
//! offer's resources can be [reserved](Offer::reserve) and made into [volumes](Offer::create_volume), in order with its launches.
//!
//! **Wishes** of offers, such as [constraints](Constraint) on agents, go with the subscription ([`driver::Builder::options`]) and
//! change while the framework runs ([`Context::update_framework`]). Declines say [why](DeclineReason).
//!
//! **Task groups**: what belongs together on one agent, such as a server with what fills its folder and what ships its logs, is
//! [described](TaskGroup) and [launched](Offer::launch_group) as one.
//!
//! **Executors**: tasks that [run other tasks](Task::run_by) in their own container, where a container for each would cost too much. The module
//! `executor` is what they are written with.
//!
//! **Where a task goes** is a scheduler's own decision; [`placement`] has policies, rules and an index for it, and with the feature
//! `planner` plans for whole queues.
//!
//! **Several agents at once**: a [`Gang`] launches on all of its offers or on none. A scheduler that rather chooses for itself
//! [watches](Context::watch_free) what is free and [commits](Context::commit) claims on it.
//!
//! **Priorities**: what waits is [said](Context::request), and for a role of higher priority the master preempts; whoever must give
//! something back is [told](Scheduler::preempt) first.
//!
//! # Surviving a restart of the scheduler
//!
//! Store the framework id in [`subscribed`](Scheduler::subscribed), tasks before they are launched, and their states in
//! [`update`](Scheduler::update); a [`store`] is there for that. At the next start give the id to
//! [`Builder::framework_id`](driver::Builder::framework_id) and return the stored tasks from [`tasks`](Scheduler::tasks). The master takes
//! the newer of two subscriptions: a scheduler that
//! is still running elsewhere with the same id ends with [`DriverError::FailedOver`]. One that stayed away for longer than its
//! failover time-out ends with [`DriverError::Removed`], and begins anew without an id.
//!
//! **Several schedulers** of one framework, on several machines, need no election of their own: with
//! [`Builder::stand_by`](driver::Builder::stand_by) the master subscribes one of them, and the others
//! [stand by](Scheduler::standing_by) and take its place in turn. What they keep must be where each of them can load it when it is subscribed.
//!
//! # Testing
//!
//! A scheduler is plain code behind a trait that knows no clock and no network. [`testing::Harness`] drives one by hand: offers
//! and statuses in, calls out, time as the test wishes. The crate `apportion-sim`, as a dev-dependency, runs the same value on a whole
//! cluster in virtual time, with faults; its `conformance::check` holds it to what every scheduler promises, in hundreds of histories.
//!
//! # Features
//!
//! `net`, on unless turned off, is what needs a network or a thread and with it tokio and tonic: [`Driver`], [`Handle`], [`executor`],
//! [`lines`], [`operator`] and [`sandbox`]. Without it everything that a scheduler itself is written and tested with is there, and a
//! [`driver::Engine`] to run it in virtual time: no clock, no I/O and no chance is in what is left.
//!
//! `store`, on unless turned off, keeps a scheduler's state on a disk ([`store`](mod@store)).
//!
//! `planner`, off unless turned on, places queues by integer programming (`placement::plan`), with a solver in Rust. It looks at a clock only
//! when it is given a time.

#![warn(missing_docs)]

#[cfg(feature = "net")]
mod address;
mod answers;
mod context;
mod decline;
pub mod driver;
#[cfg(feature = "net")]
pub mod executor;
mod free;
mod gang;
mod group;
#[cfg(feature = "net")]
pub mod lines;
mod offer;
#[cfg(feature = "net")]
pub mod operator;
mod options;
pub mod placement;
pub mod preempt;
#[cfg(feature = "net")]
pub mod sandbox;
mod scheduler;
pub mod store;
mod task;
pub mod testing;

pub use apportion_types::{
    AgentId, AgentInfo, Artifact, Capability, Check, CheckResult, Command, ContainerInfo, ContainerStatus,
    Execution, FaultDomain, Findings, FrameworkId, FrameworkInfo, FrameworkOptions, GroupError, GroupId,
    GroupInfo, HealthCheck, Image, ImageReference, InverseOffer, IoLimits, MachineId, Network, OfferId,
    Operation, OperationId, OperationState, OperationStatus, Part, Place, Probe, PullPolicy, Reason,
    Resources, Rlimit, RlimitResource, Role, Schedule, Source, Supervision, TaskId, TaskInfo, TaskState,
    TaskStatus, Time, Unavailability, UpdateId, Volume, VolumeSource, Window, constraints, container,
    container_info, ids, image, limits, network, protocol::scheduler as protocol, resources,
};
pub use async_trait::async_trait;

#[cfg(feature = "net")]
pub use self::driver::{BuildError, Driver, Handle, Outcome};
pub use self::{
    context::Context,
    decline::DeclineReason,
    driver::DriverError,
    free::{Claimed, FreeView},
    gang::{Gang, GangTooLarge},
    group::{TaskGroup, TaskGroupError, TaskGroupInfo},
    offer::{CannotConvert, DoesNotFit, GroupDoesNotFit, Made, Offer},
    options::{Constraint, Options, Property},
    scheduler::{Refused, Scheduler, Stop, Subscription},
    task::{Task, TaskError},
};
