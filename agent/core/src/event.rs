//! Everything that can happen to an agent: the closed list of what goes into [`crate::AgentCore::handle`].

use std::{collections::BTreeMap, net::IpAddr};

use apportion_types::{
    AgentId, CpuSet, Drain, FaultDomain, FrameworkId, FrameworkInfo, Resources, Role, TaskId, TaskInfo,
    TaskStatus, Time,
    container::{Limitation, Termination},
    probe::CheckResult,
    protocol::{
        agent::{AgentOperation, MasterMessage},
        executor::ExecutorCall,
    },
};

use crate::container::ContainerId;

/// A task's name within the cluster.
pub type TaskKey = (FrameworkId, TaskId);

/// One record of the log, numbered by the core in the order of its [`crate::Action::Checkpoint`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointId(pub u64);

/// Something that happened.
///
/// There is one stream to a master at a time: between its [`Event::Connected`] and its [`Event::Disconnected`] come its messages, in
/// the order in which the master sent them, and nothing of an older stream. Each executor has one stream at a time too: its calls come in the
/// order in which they were made, the first is [`ExecutorCall::Subscribe`], which begins a new stream, and nothing of an older one comes after
/// that. What an executor has said before its container ended comes before that end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What the log of an earlier process says. At most once, and before any other event.
    Recovered(Recovered),
    /// A stream to a master is open; nothing has been said on it.
    Connected,
    /// The stream ended, for whatever reason, also when the core wished it.
    Disconnected {
        /// Why, for people.
        reason: String,
    },
    /// The master spoke. A message that could not be converted never gets here.
    MasterMessage(MasterMessage),
    /// This record of the log and all before it will survive a crash of the machine.
    Checkpointed {
        /// The newest such record.
        checkpoint: CheckpointId,
    },
    /// A container's command has been executed; or, after [`crate::Action::Attach`], the container is known.
    Launched {
        /// The container.
        container_id: ContainerId,
        /// Its own addresses; none on the host's network.
        addresses: Vec<IpAddr>,
    },
    /// A launch that is under way does something that takes its time, such as pulling an image. The shell bounds how often it says so.
    LaunchProgress {
        /// The container.
        container_id: ContainerId,
        /// What it does and how far that is, for people.
        message: String,
    },
    /// A container was not started and nothing is left of it.
    LaunchFailed {
        /// The container.
        container_id: ContainerId,
        /// Why.
        failure: LaunchFailure,
    },
    /// A container is over, but what it used of the machine is not free yet: [`Event::Terminated`] or [`Event::ContainerLost`] follows.
    /// Only told where that takes its time.
    Ending {
        /// The container.
        container_id: ContainerId,
    },
    /// A container has ended, none of its processes is left, and what it used is free.
    Terminated {
        /// The container.
        container_id: ContainerId,
        /// How it ended.
        termination: Termination,
    },
    /// Nobody can say any more how a container ends: its runner's files are gone or unreadable.
    ContainerLost {
        /// The container.
        container_id: ContainerId,
        /// What is known, for people.
        message: String,
    },
    /// A container that still runs is over a limit that nothing but its death enforces.
    LimitExceeded {
        /// The container.
        container_id: ContainerId,
        /// Which.
        limitation: Limitation,
    },
    /// What came of a probe.
    Probed {
        /// The container.
        container_id: ContainerId,
        /// Which of its questions.
        kind: ProbeKind,
        /// Of this [`crate::Action::Probe`].
        number: u64,
        /// The answer.
        result: CheckResult,
        /// The answer, or why there is none, for people.
        message: String,
    },
    /// A signal did not get through. KILL is repeated by itself.
    SignalFailed {
        /// The container.
        container_id: ContainerId,
        /// Why, for people.
        message: String,
    },
    /// The executor in a container spoke. A message that could not be converted never gets here.
    Executor {
        /// The executor's container.
        container_id: ContainerId,
        /// What it said.
        call: ExecutorCall,
    },
    /// The stream of the executor in a container ended.
    ExecutorDisconnected {
        /// The executor's container.
        container_id: ContainerId,
        /// Why, for people.
        reason: String,
    },
    /// What came of a [`crate::Action::Limit`], and so of all before it, which need no answer; once more each time that it is tried again.
    Limited {
        /// The container.
        container_id: ContainerId,
        /// Of this one.
        number: u64,
        /// Whether the container is held to it; else why not, for people.
        result: Result<(), String>,
    },
    /// How much could be lent was estimated, however it compares to what is lent already. Before the first estimate nothing is.
    Oversubscribed {
        /// All of it revocable, whether tasks use it already or not.
        revocable: Resources,
    },
    /// The deadline of [`crate::AgentCore::next_deadline`] is reached.
    Tick,
    /// The process is asked to end. A second one ends it without waiting any longer.
    Shutdown,
}

/// Which of a task's questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    /// Its health check.
    Health,
    /// Its check.
    Check,
}

/// Why a container was not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchFailure {
    /// Whose fault it is, for programs.
    pub kind: LaunchFailureKind,
    /// What failed and what to do, for people.
    pub message: String,
}

/// Whose fault it is that a container was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchFailureKind {
    /// The command's: not found, not permitted, not a program.
    Command,
    /// The machine's or the agent's.
    Container,
    /// Its image's: not there, not what its digest says, not to be unpacked.
    Image,
    /// An artifact's: not there, not what its checksum says, not to be unpacked.
    Artifact,
    /// Its network's: not configured here, or a plugin could not attach it.
    Network,
    /// The task's, for this machine: it asks for what this one cannot hold it to.
    Unenforceable,
    /// Nobody's: the launch had not begun when [`crate::Action::CancelLaunch`] came.
    Cancelled,
}

/// What an earlier process of this agent has left in its log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// The agent's id, if it was ever registered.
    pub agent_id: Option<AgentId>,
    /// The process that began last; none when the log is older than that is written.
    pub process: Option<ProcessRecord>,
    /// How the agent is drained, as far as it has heard; none when it is not.
    pub drain: Option<Drain>,
    /// What it had when an operation had changed that last; none when none ever did.
    pub total: Option<Resources>,
    /// What became of operations, as far as it was not acknowledged, in any order.
    pub operations: Vec<AgentOperation>,
    /// Its tasks, but for those whose end was acknowledged, in any order.
    pub tasks: Vec<RecoveredTask>,
    /// Update streams of tasks that it never had (answers to a master that asked for them).
    pub strays: Vec<(FrameworkId, TaskStatus)>,
    /// True when a part of the log could not be read that was not just its unfinished end: there may have been other tasks.
    pub damaged: bool,
}

/// A task of an earlier process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredTask {
    /// As it was taken on.
    pub task: TaskRecord,
    /// True for a member of a task group whose turn had not come: it never had a container.
    pub waits: bool,
    /// The newest update that was acknowledged.
    pub acknowledged: Option<TaskStatus>,
    /// Updates that were not acknowledged, the oldest first.
    pub updates: Vec<TaskStatus>,
    /// What is known of its times.
    pub times: Times,
}

impl RecoveredTask {
    /// True when the newest status says so.
    pub fn has_ended(&self) -> bool {
        let newest = self.updates.last().or(self.acknowledged.as_ref());
        newest.is_some_and(|status| status.state.is_terminal())
    }
}

/// What the log says of a process of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessRecord {
    /// The life of the machine that it belongs to; none when that cannot be known.
    pub boot_id: Option<String>,
    /// How the agent was set.
    pub settings: Settings,
}

/// The settings of an agent by which tasks are placed: a change of them is another agent to those that run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// See [`apportion_types::AgentInfo`].
    pub hostname: String,
    /// Without what operations made.
    pub resources: Resources,
    /// What frameworks place by.
    pub attributes: BTreeMap<String, String>,
    /// Where it stands.
    pub domain: Option<FaultDomain>,
}

/// What is known of the times of a task, beyond its statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// When its command was first seen to run; only where something is asked of it, or its time is bounded.
    pub started_at: Option<Time>,
    /// When KILL follows TERM, where that is another time than its own grace says.
    pub kill_at: Option<Time>,
}

/// What the log says of a task when it is taken on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// Its framework.
    pub framework_id: FrameworkId,
    /// The framework as it was then.
    pub framework_info: FrameworkInfo,
    /// The role whose resources it holds.
    pub role: Role,
    /// Its description.
    pub info: TaskInfo,
    /// Its container, or the name of its run for the executor that runs it.
    pub container_id: ContainerId,
    /// The cores that are its own, from when it is taken on to its end.
    pub cores: Option<CpuSet>,
}
