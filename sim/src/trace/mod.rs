//! A recorded cluster, replayed: its machines as agents, its tasks as what frameworks are asked to run.
//!
//! Two CSV texts go in. [`nodes`] and [`tasks`] read them, [`group`](mod@group) makes the tasks that ask for the same into one
//! framework each, [`record`] watches the run, and what comes out is a [`Report`] for programs and a picture of it, [`svg`].
//! Nothing here reads or writes a file: texts in, texts out.
//!
//! The form is that of the cluster trace that Alibaba published with Weng et al., "Beware of Fragmentation: Scheduling
//! GPU-Sharing Workloads with Fragmentation Gradient Descent", USENIX ATC 2023; `data/openb` holds it.
//!
//! # Shares of gpus
//!
//! The trace lets a task have a part of *one* gpu. Here an agent's gpus are one scalar, and a task that wants 460 thousandths of a
//! gpu asks for `gpus:0.46`. So shares add up over the devices of an agent: of two gpus that are each 60% in use, 0.8 are free, and
//! a task that wants 0.8 of one may be placed there though neither device has it. A replay is that much kinder than the cluster
//! that was recorded.

//!
//! # Virtual time
//!
//! [`replay`] runs the tasks on a [`Cluster`](crate::Cluster) of the trace's machines, for which a month is a minute. Recorded
//! clusters are larger than what they were recorded to do: `data/openb` has at most 56 tasks at once on its 1,523 machines. With
//! [`Options::load`] tasks come faster than in the trace while each runs for as long, until some have to wait.

mod frameworks;
pub mod group;
pub mod nodes;
mod options;
mod plan;
pub mod record;
mod replay;
mod report;
pub mod svg;
mod table;
pub mod tasks;
mod watch;

pub use self::{
    frameworks::{Ends, Frameworks, Wanted},
    group::Group,
    nodes::Node,
    options::Options,
    record::Recorder,
    replay::{Progress, ReplayError, replay},
    report::{Fairness, Level, Offers, OverTime, PerKind, Report, RoleReport, TaskCounts, Waits},
    table::{Column, Fault, TraceError},
    tasks::Task,
    watch::Misplaced,
};
