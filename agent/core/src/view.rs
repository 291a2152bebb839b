//! What readers see: a snapshot that costs nothing to take, since its map shares structure with the core's own.

use std::{collections::BTreeMap, sync::Arc};

use apportion_types::{AgentId, Resources, Role, TaskInfo, TaskState, TaskStatus, Time};
use imbl::OrdMap;

use crate::{container::ContainerId, event::TaskKey};

/// A snapshot of the agent.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Its id, once it was registered.
    pub agent_id: Option<AgentId>,
    /// The master that has registered it, while the stream to it lasts.
    pub master_id: Option<String>,
    /// When this process started.
    pub started_at: Time,
    /// All that it has to offer, but for what it lends.
    pub resources: Resources,
    /// What of it tasks do not hold.
    pub free: Resources,
    /// What it could lend, by the last estimate.
    pub lent: Resources,
    /// Tasks whose end is not acknowledged.
    pub tasks: OrdMap<TaskKey, Arc<TaskView>>,
    /// Counts since the process started.
    pub counters: Counters,
}

/// A task as its agent sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskView {
    /// The role whose resources it holds.
    pub role: Role,
    /// Its description.
    pub info: Arc<TaskInfo>,
    /// Its container. Of a task that an executor runs it is the name of its run alone: what it does, writes and uses is in the container of
    /// its executor.
    pub container_id: ContainerId,
    /// Its newest state.
    pub state: TaskState,
    /// Its newest status, if there is one.
    pub status: Option<TaskStatus>,
}

/// Counts since the start of the process; they only grow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Containers whose launch was begun.
    pub launches: u64,
    /// Launches that failed.
    pub launch_failures: u64,
    /// Terminal updates, by the name of their state.
    pub tasks_ended: BTreeMap<&'static str, u64>,
    /// Updates made.
    pub updates_made: u64,
    /// Updates sent, repetitions among them.
    pub updates_sent: u64,
    /// Acknowledgements that matched.
    pub acknowledgements: u64,
    /// Registrations that stood.
    pub registrations: u64,
    /// Operations done.
    pub operations_done: u64,
    /// Operations refused.
    pub operations_refused: u64,
    /// Tasks killed because what they were lent is needed.
    pub tasks_preempted: u64,
}
