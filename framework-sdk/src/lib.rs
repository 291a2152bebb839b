//! What scheduler authors see.

#![warn(missing_docs)]

mod answers;
mod context;
pub mod driver;
mod offer;
pub mod placement;
mod scheduler;
mod task;

pub use apportion_types::{
    AgentId, AgentInfo, Command, ContainerStatus, FrameworkId, FrameworkInfo, OfferId, Reason, Resources,
    Role, Source, TaskId, TaskInfo, TaskState, TaskStatus, Time, UpdateId, container, ids, limits,
    protocol::scheduler::Refusal, resources,
};
pub use async_trait::async_trait;

pub use self::{
    context::Context,
    driver::{BuildError, Driver, DriverError, Handle, Outcome},
    offer::{DeclineReason, DoesNotFit, Offer},
    scheduler::{Refused, Scheduler, Stop, Subscription},
    task::{Task, TaskError},
};
