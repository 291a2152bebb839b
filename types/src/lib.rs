//! The values that every part of Apportion speaks of: ids, resources, tasks, offers, and the limits on each.
//!
//! Pure: no clock, no I/O, no runtime. [`convert`] is the only place that knows both these types and the wire.

pub mod container;
pub mod convert;
pub mod document;
pub mod framework;
pub mod ids;
pub mod limits;
pub mod protocol;
pub mod resources;
pub mod task;
pub mod text;
pub mod time;
pub mod timers;

pub use framework::{AgentInfo, FrameworkInfo, Offer};
pub use ids::{AgentId, FrameworkId, OfferId, Role, TaskId, UpdateId};
pub use resources::Resources;
pub use task::{Command, ContainerStatus, Reason, Source, TaskInfo, TaskState, TaskStatus, Volume};
pub use time::Time;
