//! The agent's state machine: events in, actions out. No clock, no I/O, no randomness; it names no path and no system call.
//!
//! [`Event`] is the closed list of what can happen, [`Action`] of what can be wanted; the shell (crate `apportion-agent`) turns one into
//! the other's consequences, the simulator does the same under a seed.
//!
//! What it promises: a task is on disk before it is launched; a status is on disk before it is sent; every status is sent, in order,
//! until it is acknowledged; an acknowledgement is on disk before what it ends is forgotten; a task that was asked to end is
//! signalled until it has ended. An executor is told of a task when that is on disk and its container is held to what the task brings, and what it
//! says is acknowledged when it is on disk. What an operation makes of the agent's resources is on disk before it is told, and before data of a
//! volume is deleted.

mod action;
mod backoff;
mod check;
mod config;
mod container;
mod event;
mod handle;
mod log;
mod state;
pub mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use apportion_types::{AgentId, Drain, Time, UpdateId, timers::Timers};

pub use action::{Action, Actions, Record, VolumeKey};
pub use backoff::Backoff;
pub use config::{Config, OnShutdown};
pub use container::{
    Ceilings, ContainerId, ContainerPlan, GroupPlan, PORTS_IN_ENVIRONMENT_MAX, Signal, VolumePlan,
    disk_limit_bytes,
};
pub use event::{
    CheckpointId, Event, LaunchFailure, LaunchFailureKind, ProbeKind, ProcessRecord, Recovered,
    RecoveredTask, Settings, TaskKey, TaskRecord, Times,
};
pub use log::{Log, LogError};
pub use view::{TaskView, View};

use state::{
    cores::Cores,
    executor::Executor,
    group::GroupKey,
    link::{Link, Shutdown},
    outcome::{OperationKey, Outcome},
    pool::Pool,
    stream::Stream,
    task::{Task, Waiting},
    timers::Timer,
};

/// The agent: runs the tasks that its master hands to it, and tells what became of them until that is acknowledged.
///
/// Call [`AgentCore::handle`] for each event, run its actions in order, and call it with [`Event::Tick`] when the time of
/// [`AgentCore::next_deadline`] is reached. Time may stand still but never goes back.
#[derive(Debug)]
pub struct AgentCore {
    config: Config,
    incarnation: u64,
    containers_named: u64,
    checkpoints_asked: u64,
    probes_asked: u64,
    agent_id: Option<AgentId>,
    /// There may have been tasks of which nothing is known.
    log_damaged: bool,
    updates_made: u64,
    link: Link,
    /// How long the master may be silent; as it said at registration.
    ping_timeout: std::time::Duration,
    shutdown: Option<Shutdown>,
    /// How the agent is drained; none while it is not.
    drain: Option<Drain>,
    /// Why it is gone, for people; empty while it is not.
    gone: String,
    tasks: BTreeMap<TaskKey, Task>,
    containers: BTreeMap<ContainerId, TaskKey>,
    /// The tasks that are here of each task group, by their places.
    groups: BTreeMap<GroupKey, BTreeMap<u32, TaskKey>>,
    /// Those of which a task has changed in this event.
    unsettled: BTreeSet<GroupKey>,
    /// Of each task that is an executor, and of each that a task names which has not ended.
    executors: BTreeMap<TaskKey, Executor>,
    /// Those that have changed in this event, or whose tasks have.
    unsettled_executors: BTreeSet<TaskKey>,
    streams: BTreeMap<TaskKey, Stream>,
    /// What the master said on this stream of tasks whose names are not free yet: the acknowledgement of an older task's end is on its
    /// way to the disk. In order.
    waiting: BTreeMap<TaskKey, Vec<Waiting>>,
    /// What is on its way to the disk, in order, and what follows when it is there.
    fences: VecDeque<(CheckpointId, Fence)>,
    timers: Timers<Timer>,
    pool: Pool,
    cores: Cores,
    /// What became of operations, as far as it is not acknowledged.
    outcomes: BTreeMap<OperationKey, Outcome>,
    /// True once a total was told on this stream: what the master had sent by then it took for granted.
    total_told: bool,
    /// Operations that came on this stream.
    applied: u64,
    view: View,
}

/// What follows when a record is on disk.
#[derive(Debug)]
enum Fence {
    /// Nothing.
    Nothing,
    /// The task is launched, or waits for its executor.
    Task(TaskKey),
    /// The tasks of a task group wait for their turns.
    Group(GroupKey),
    /// The member of a task group is launched.
    Turn(TaskKey),
    /// The update may be sent.
    Update(TaskKey, UpdateId),
    /// The head leaves its stream.
    Acknowledgement(TaskKey, UpdateId),
    /// Volumes are made and deleted, and the outcome may be sent.
    Operation(Box<Done>),
    /// The outcome is forgotten.
    OperationAcknowledgement(OperationKey, UpdateId),
}

/// What is to follow an operation once it is on disk.
#[derive(Debug, Default)]
struct Done {
    deleted: Vec<VolumeKey>,
    made: Vec<VolumeKey>,
    /// Its name and that of its outcome, if it was named.
    named: Option<(OperationKey, UpdateId)>,
}

impl AgentCore {
    /// An agent that has no tasks and no id yet; an [`Event::Recovered`] may give it some.
    ///
    /// `incarnation` must differ from that of every earlier process of this agent: update ids and container ids start with it.
    pub fn new(config: Config, incarnation: u64, now: Time) -> Self {
        let resources = config.info.resources.clone();
        Self {
            incarnation,
            containers_named: 0,
            checkpoints_asked: 0,
            probes_asked: 0,
            agent_id: None,
            log_damaged: false,
            updates_made: 0,
            link: Link::Down,
            ping_timeout: std::time::Duration::ZERO,
            shutdown: None,
            drain: None,
            gone: String::new(),
            tasks: BTreeMap::new(),
            containers: BTreeMap::new(),
            groups: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            executors: BTreeMap::new(),
            unsettled_executors: BTreeSet::new(),
            streams: BTreeMap::new(),
            waiting: BTreeMap::new(),
            fences: VecDeque::new(),
            timers: Timers::default(),
            pool: Pool::new(resources),
            cores: Cores::new(config.cores.clone()),
            outcomes: BTreeMap::new(),
            total_told: false,
            applied: 0,
            view: View { started_at: now, ..View::default() },
            config,
        }
    }

    /// When the next [`Event::Tick`] is due, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// A snapshot for readers, at the cost of a few reference counts.
    pub fn view(&self) -> View {
        View {
            agent_id: self.agent_id.clone(),
            resources: self.pool.total.clone(),
            free: self.pool.free.clone(),
            lent: self.pool.lent.clone().unwrap_or_default(),
            ..self.view.clone()
        }
    }
}
