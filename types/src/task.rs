//! Tasks: what a framework asks for, the states, and the legal moves between them.

use std::{collections::BTreeMap, fmt, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    container::{Exit, Limitation, Usage},
    container_info::{ContainerInfo, Volume},
    execution::Execution,
    group::GroupInfo,
    ids::{AgentId, TaskId, UpdateId},
    probe::{Findings, Supervision},
    resources::Resources,
    time::Time,
};

/// The state of a task.
///
/// ```text
///            accept
///  (none) ──────────► Staging ─► Starting ─► Running ─► Killing ─► Finished Failed Killed
///                        │           │          │          │
///                        └───────────┴─────┬────┴──────────┘
///                                          ├─► Error Dropped Gone GoneByOperator      (terminal)
///                                          └─► Unreachable ─► any state that its agent reports when it returns
/// ```
///
/// Terminal is final. What each means is what is *known* (Mesos: include/mesos/v1/mesos.proto, `TaskState`, for
/// partition-aware frameworks; there is no LOST here).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Accepted by the master, not yet started. Never sent by an agent.
    Staging,
    /// The agent is starting its container.
    Starting,
    /// Its command has been executed.
    Running,
    /// Asked to end, not yet ended.
    Killing,
    /// Terminal: ended by itself with code 0.
    Finished,
    /// Terminal: ended otherwise, or could not be started.
    Failed,
    /// Terminal: ended because a framework, an operator or a drain wished it.
    Killed,
    /// Terminal: its description was refused; it never ran.
    Error,
    /// Terminal: it provably never ran, through nobody's fault; send it again.
    Dropped,
    /// Terminal: it was on an agent that is registered and does not know it any more.
    Gone,
    /// Terminal: an operator declared its agent gone.
    GoneByOperator,
    /// Its agent cannot be reached; it may still run, and may come back.
    Unreachable,
    /// The master knows nothing of it and cannot; only in answers to reconciliation.
    Unknown,
}

impl TaskState {
    /// Every state.
    pub const ALL: [TaskState; 13] = [
        TaskState::Staging,
        TaskState::Starting,
        TaskState::Running,
        TaskState::Killing,
        TaskState::Finished,
        TaskState::Failed,
        TaskState::Killed,
        TaskState::Error,
        TaskState::Dropped,
        TaskState::Gone,
        TaskState::GoneByOperator,
        TaskState::Unreachable,
        TaskState::Unknown,
    ];

    /// True for a state that no task leaves.
    pub fn is_terminal(self) -> bool {
        use TaskState::*;
        matches!(self, Finished | Failed | Killed | Error | Dropped | Gone | GoneByOperator)
    }

    /// True when a task holds its resources in this state.
    pub fn holds_resources(self) -> bool {
        matches!(self, TaskState::Staging | TaskState::Starting | TaskState::Running | TaskState::Killing)
    }

    /// True when a task in state `self` may be in state `next` afterwards.
    ///
    /// Updates of a live task never go back ([`TaskState::Starting`] after [`TaskState::Running`]); a repeated state is a
    /// legal update with newer data.
    pub fn may_become(self, next: TaskState) -> bool {
        use TaskState::*;
        match (self, next) {
            (from, _) if from.is_terminal() => false,
            (_, Unknown) | (Unknown, _) => false,
            (_, Staging) => self == Staging,
            (Unreachable, _) => true,
            (_, to) if to.is_terminal() || to == Unreachable => true,
            (from, to) => from <= to,
        }
    }

    /// The name shown to people and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            TaskState::Staging => "staging",
            TaskState::Starting => "starting",
            TaskState::Running => "running",
            TaskState::Killing => "killing",
            TaskState::Finished => "finished",
            TaskState::Failed => "failed",
            TaskState::Killed => "killed",
            TaskState::Error => "error",
            TaskState::Dropped => "dropped",
            TaskState::Gone => "gone",
            TaskState::GoneByOperator => "gone_by_operator",
            TaskState::Unreachable => "unreachable",
            TaskState::Unknown => "unknown",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a task is in its state; the message beside it is for people, this is for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The command ended by itself.
    CommandExited,
    /// The command could not be executed: not found, not permitted, no working directory.
    CommandNotExecuted,
    /// The container could not be made.
    ContainerLaunchFailed,
    /// Above its memory limit.
    ContainerLimitationMemory,
    /// The container's runner was lost, so how it ended is not known.
    ContainerLost,
    /// Killed before it was started.
    KilledDuringLaunch,
    /// Killed as its framework wished.
    KilledByFramework,
    /// Killed as an operator wished.
    KilledByOperator,
    /// Its framework was torn down, or did not return within its failover time-out.
    FrameworkRemoved,
    /// An offer of the accept was not valid (used, declined, rescinded, foreign, unknown, of another agent).
    InvalidOffers,
    /// The description of the task was refused.
    TaskInvalid,
    /// Its agent is not connected.
    AgentDisconnected,
    /// Its agent was removed.
    AgentRemoved,
    /// Its agent does not answer.
    AgentUnreachable,
    /// Its agent is registered again.
    AgentReregistered,
    /// Its agent does not know it.
    AgentForgot,
    /// An answer to a reconciliation; one that tells a known end has the reason of that end.
    Reconciliation,
    /// Killed for a role of higher priority, or because what was lent is needed by its owner.
    Preempted,
    /// Its agent has not the reserved resources or the volumes that it was to use.
    ResourcesUnknown,
    /// Another part of its gang could not be taken.
    GangRefused,
    /// The operation makes no sense, or not with what the accept has.
    OperationInvalid,
    /// Above its disk limit.
    ContainerLimitationDisk,
    /// Its image could not be pulled, verified or unpacked.
    ImageNotAvailable,
    /// An artifact could not be fetched, verified or unpacked.
    ArtifactNotFetched,
    /// It ran as long as it may.
    MaxCompletionTime,
    /// Its health check failed as often as it may.
    Unhealthy,
    /// What its health check says is new.
    HealthChanged,
    /// What its check found is new.
    CheckChanged,
    /// Its agent cannot hold it, or another of its task group, to what it asks for.
    NotEnforceable,
    /// Its agent has not its network, or could not attach it.
    NetworkNotAvailable,
    /// It listened on a port of its agent that it does not hold.
    ContainerLimitationPorts,
    /// It, or another task of its task group, was refused; so all were.
    TaskGroupInvalid,
    /// Another task of its task group failed, or ended before its time; so all were killed.
    TaskGroupFailed,
    /// The main tasks of its task group have finished: it is not needed any more.
    TaskGroupFinished,
    /// Its executor has ended, or does not know it any more.
    ExecutorTerminated,
    /// Its executor, or the executor that it is, had tasks and was not subscribed for too long.
    ExecutorSubscribeTimeout,
    /// Its agent is being drained.
    AgentDraining,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 37] = [
        Reason::CommandExited,
        Reason::CommandNotExecuted,
        Reason::ContainerLaunchFailed,
        Reason::ContainerLimitationMemory,
        Reason::ContainerLost,
        Reason::KilledDuringLaunch,
        Reason::KilledByFramework,
        Reason::KilledByOperator,
        Reason::FrameworkRemoved,
        Reason::InvalidOffers,
        Reason::TaskInvalid,
        Reason::AgentDisconnected,
        Reason::AgentRemoved,
        Reason::AgentUnreachable,
        Reason::AgentReregistered,
        Reason::AgentForgot,
        Reason::Reconciliation,
        Reason::Preempted,
        Reason::ResourcesUnknown,
        Reason::GangRefused,
        Reason::OperationInvalid,
        Reason::ContainerLimitationDisk,
        Reason::ImageNotAvailable,
        Reason::ArtifactNotFetched,
        Reason::MaxCompletionTime,
        Reason::Unhealthy,
        Reason::HealthChanged,
        Reason::CheckChanged,
        Reason::NotEnforceable,
        Reason::NetworkNotAvailable,
        Reason::ContainerLimitationPorts,
        Reason::TaskGroupInvalid,
        Reason::TaskGroupFailed,
        Reason::TaskGroupFinished,
        Reason::ExecutorTerminated,
        Reason::ExecutorSubscribeTimeout,
        Reason::AgentDraining,
    ];

    /// The name shown to people and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Reason::CommandExited => "command_exited",
            Reason::CommandNotExecuted => "command_not_executed",
            Reason::ContainerLaunchFailed => "container_launch_failed",
            Reason::ContainerLimitationMemory => "container_limitation_memory",
            Reason::ContainerLost => "container_lost",
            Reason::KilledDuringLaunch => "killed_during_launch",
            Reason::KilledByFramework => "killed_by_framework",
            Reason::KilledByOperator => "killed_by_operator",
            Reason::FrameworkRemoved => "framework_removed",
            Reason::InvalidOffers => "invalid_offers",
            Reason::TaskInvalid => "task_invalid",
            Reason::AgentDisconnected => "agent_disconnected",
            Reason::AgentRemoved => "agent_removed",
            Reason::AgentUnreachable => "agent_unreachable",
            Reason::AgentReregistered => "agent_reregistered",
            Reason::AgentForgot => "agent_forgot",
            Reason::Reconciliation => "reconciliation",
            Reason::Preempted => "preempted",
            Reason::ResourcesUnknown => "resources_unknown",
            Reason::GangRefused => "gang_refused",
            Reason::OperationInvalid => "operation_invalid",
            Reason::ContainerLimitationDisk => "container_limitation_disk",
            Reason::ImageNotAvailable => "image_not_available",
            Reason::ArtifactNotFetched => "artifact_not_fetched",
            Reason::MaxCompletionTime => "max_completion_time",
            Reason::Unhealthy => "unhealthy",
            Reason::HealthChanged => "health_changed",
            Reason::CheckChanged => "check_changed",
            Reason::NotEnforceable => "not_enforceable",
            Reason::NetworkNotAvailable => "network_not_available",
            Reason::ContainerLimitationPorts => "container_limitation_ports",
            Reason::TaskGroupInvalid => "task_group_invalid",
            Reason::TaskGroupFailed => "task_group_failed",
            Reason::TaskGroupFinished => "task_group_finished",
            Reason::ExecutorTerminated => "executor_terminated",
            Reason::ExecutorSubscribeTimeout => "executor_subscribe_timeout",
            Reason::AgentDraining => "agent_draining",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who made a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The master: best effort, never to be acknowledged.
    Master,
    /// The agent: repeated until acknowledged.
    Agent,
}

/// What is executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program and its arguments. A shell is asked for by naming it: `["/bin/sh", "-c", "…"]`. Of a task with an image it may be
    /// empty, for the image's own command; behind an image's entrypoint it does not stand, but in its place.
    pub argv: Vec<String>,
    /// The environment beside what the agent sets (`PATH`, `HOME`, `TMPDIR`, `APPORTION_*`); wins over it.
    pub env: BTreeMap<String, String>,
}

/// A task as its framework describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// Its name, unique in its framework among tasks that are not yet acknowledged as ended.
    pub task_id: TaskId,
    /// For people; need not be unique.
    pub name: String,
    /// What it asks for and is charged with. `cpus` and `mem` are also its ceilings, unless `limits` says otherwise.
    pub resources: Resources,
    /// Ceilings above the request for `cpus` and `mem`, not charged: a task may burst into what others leave idle.
    pub limits: Resources,
    /// Processes and threads at once; the agent's default when none.
    pub pids_max: Option<u64>,
    /// What is executed.
    pub command: Command,
    /// From TERM to KILL; [`crate::limits::KILL_GRACE_DEFAULT`] when none.
    pub kill_grace: Option<Duration>,
    /// Free text for people and tools; shown, never read.
    pub labels: BTreeMap<String, String>,
    /// What it sees beside its root and its sandbox.
    pub volumes: Vec<Volume>,
    /// Its image, its user, what is fetched for it.
    pub container: ContainerInfo,
    /// What is asked of it while it runs, and how long it may.
    pub supervision: Supervision,
    /// The task group that it is of.
    pub group: Option<Box<GroupInfo>>,
    /// What runs it, and whether it runs others.
    pub execution: Execution,
}

/// What is known of a task at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The task.
    pub task_id: TaskId,
    /// Its agent, where one is known.
    pub agent_id: Option<AgentId>,
    /// Its state.
    pub state: TaskState,
    /// Why; none for an ordinary step forward.
    pub reason: Option<Reason>,
    /// Who says so.
    pub source: Source,
    /// For people.
    pub message: String,
    /// When it was so, by the clock of whoever says so.
    pub at: Time,
    /// Present exactly when it must be acknowledged; repeated until it is.
    pub update_id: Option<UpdateId>,
    /// How its container ended or what it used, where known.
    pub container: Option<ContainerStatus>,
    /// What its checks say.
    pub findings: Findings,
    /// Its own addresses, from its start; none on the network of its host.
    pub addresses: Vec<IpAddr>,
}

/// The part of a status that comes from the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// How its first process ended.
    pub exit: Option<Exit>,
    /// The limit that ended it.
    pub limitation: Option<Limitation>,
    /// What it used.
    pub usage: Usage,
    /// When its first process was started.
    pub started_at: Time,
    /// When it ended.
    pub finished_at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_is_final_and_live_tasks_never_go_back() {
        use TaskState::*;
        for from in TaskState::ALL {
            for to in TaskState::ALL {
                let legal = from.may_become(to);
                if from.is_terminal() || from == Unknown || to == Unknown {
                    assert!(!legal, "{from} to {to}");
                } else if to.is_terminal() || from == Unreachable && to != Staging {
                    assert!(legal, "{from} to {to}");
                }
            }
        }
        assert!(Staging.may_become(Running) && Running.may_become(Running) && Running.may_become(Killing));
        assert!(
            !Running.may_become(Starting) && !Killing.may_become(Running) && !Running.may_become(Staging)
        );
        assert!(Unreachable.may_become(Running) && Running.may_become(Unreachable));
    }

    #[test]
    fn names_are_unique() {
        let states: std::collections::BTreeSet<_> = TaskState::ALL.iter().map(|s| s.name()).collect();
        assert_eq!(states.len(), TaskState::ALL.len());
        let reasons: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(reasons.len(), Reason::ALL.len());
    }
}
