//! The values that every part of Apportion speaks of: ids, resources, tasks, offers, and the limits on each.
//!
//! Pure: no clock, no I/O, no runtime. [`convert`] is the only place that knows both these types and the wire.

pub mod activation;
pub mod constraints;
pub mod container;
pub mod container_info;
pub mod convert;
pub mod cpuset;
pub mod document;
pub mod execution;
pub mod framework;
pub mod group;
pub mod huge_pages;
pub mod ids;
pub mod image;
pub mod io;
pub mod limits;
pub mod maintenance;
pub mod network;
pub mod operation;
pub mod pressure;
pub mod probe;
pub mod protocol;
pub mod resources;
pub mod task;
pub mod text;
pub mod time;
pub mod timers;

pub use activation::{Activation, Drain};
pub use constraints::OfferConstraints;
pub use container_info::{Artifact, ContainerInfo, Rlimit, RlimitResource, Volume, VolumeSource};
pub use cpuset::CpuSet;
pub use execution::Execution;
pub use framework::{
    AgentCapability, AgentInfo, Capability, FaultDomain, FrameworkInfo, FrameworkOptions, Offer, Place,
};
pub use group::{GroupError, GroupInfo, Part};
pub use huge_pages::HugePages;
pub use ids::{
    AgentId, FrameworkId, GroupId, MachineId, OfferId, OperationId, Role, RunId, TaskId, UpdateId, VolumeId,
};
pub use image::{Image, ImageReference, PullPolicy};
pub use io::IoLimits;
pub use maintenance::{InverseOffer, MachineMode, Unavailability, Window};
pub use network::Network;
pub use operation::{Operation, OperationState, OperationStatus};
pub use probe::{Check, CheckResult, Findings, HealthCheck, Probe, Schedule, Supervision};
pub use resources::Resources;
pub use task::{Command, ContainerStatus, Reason, Source, TaskInfo, TaskState, TaskStatus};
pub use time::Time;
