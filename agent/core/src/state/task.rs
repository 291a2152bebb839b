//! One task on this agent, from RunTasks to the acknowledgement of its end.

use std::{net::IpAddr, time::Duration};

use apportion_types::{
    FrameworkInfo, Reason, Role, TaskId, TaskInfo, TaskState, Time, container::Limitation, limits,
    probe::Findings,
};

use super::{held::Held, probing::Probings};
use crate::event::TaskRecord;

/// A task.
#[derive(Debug)]
pub(crate) struct Task {
    /// As it was taken on.
    pub(crate) record: TaskRecord,
    /// Where its container is.
    pub(crate) phase: Phase,
    /// The newest state, also when it is not on disk yet. Changed by one function only, [`crate::AgentCore::update`].
    pub(crate) state: TaskState,
    /// The wish that it ends.
    pub(crate) kill: Option<Kill>,
    /// Its own addresses, from the start of its container on.
    pub(crate) addresses: Vec<IpAddr>,
    /// True where its resources are its own until it ends; false only of what was lost with a machine that has them no more.
    pub(crate) holds: bool,
    /// Whose affair its launch is, or was.
    pub(crate) launcher: Launcher,
    /// What its container is held to, or was asked to be; none when that is not known.
    pub(crate) held: Option<Held>,
    /// How many limits of its container were asked for.
    pub(crate) limits_asked: u64,
    /// The limit that it is killed for.
    pub(crate) limitation: Option<Limitation>,
    /// When its command was seen to run; only where something is asked of it or its time is bounded.
    pub(crate) started_at: Option<Time>,
    /// What is asked of it, while it runs and is not asked to end.
    pub(crate) probings: Probings,
    /// What is known of it beside its state.
    pub(crate) known: News,
    /// What of that was told.
    pub(crate) told: News,
    /// True once its framework is gone for ever: nobody will acknowledge its updates.
    pub(crate) framework_removed: bool,
}

impl Task {
    /// A task that nobody wishes to end, of which nothing is known beside its state.
    pub(crate) fn new(record: TaskRecord, phase: Phase, state: TaskState) -> Task {
        Task {
            record,
            phase,
            state,
            kill: None,
            addresses: Vec::new(),
            holds: true,
            launcher: Launcher::Here,
            held: None,
            limits_asked: 0,
            limitation: None,
            started_at: None,
            probings: Probings::new(),
            known: News::default(),
            told: News::default(),
            framework_removed: false,
        }
    }

    /// True when nobody needs to ask it to end.
    pub(crate) fn is_to_end(&self) -> bool {
        self.kill.is_some() || self.phase == Phase::Ending
    }

    /// From TERM to KILL when a kill does not say.
    pub(crate) fn own_grace(&self) -> Duration {
        self.record.info.kill_grace.unwrap_or(limits::KILL_GRACE_DEFAULT)
    }
}

/// What is known of a task beside its state. It is told when all that was told before is acknowledged, so that what changes often
/// never fills an update stream: of what nobody has taken yet only the newest is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct News {
    /// What its launch does.
    pub(crate) progress: String,
    /// What its checks say.
    pub(crate) findings: Findings,
}

/// Where the container of a task is; of one that an executor runs, where it is itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not begun: the task is not on disk yet.
    Checkpointing,
    /// On disk, and its turn has not come: it has no container, or its executor was not told of it.
    Waiting,
    /// Its turn has come, which is not on disk yet.
    Turning,
    /// Begun, the outcome is not known; its executor was told of it and has not said that it runs.
    Launching,
    /// Of an earlier process of the agent, and not found again yet.
    Attaching,
    /// Its command has been executed; its executor has said that it runs.
    Running,
    /// Over; what it used is not free yet, and its end is told when that is.
    Ending,
    /// None is left running. `kept` is true while the containerizer remembers it.
    Ended {
        /// Whether it is to be removed with the task.
        kept: bool,
    },
}

/// Which process of the agent launches a task, or has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Launcher {
    /// This one.
    Here,
    /// An earlier one.
    Before,
    /// An earlier one, and the machine was switched off since: if it ran then, it was lost.
    BeforeReboot,
}

/// The wish that a task ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kill {
    /// Whose wish it was first.
    pub(crate) reason: Reason,
    /// When it was first uttered: every grace counts from here.
    pub(crate) first_at: Time,
    /// When KILL follows TERM; only ever moves towards the past.
    pub(crate) kill_at: Time,
    /// True when it came before the command was executed.
    pub(crate) during_launch: bool,
    /// True when it came while the container of an earlier process was looked for: if that has ended by then, nothing was asked of it.
    pub(crate) while_attaching: bool,
    /// True once its executor was asked to end it without a grace.
    pub(crate) forced: bool,
}

impl Kill {
    /// True when nobody wished it: the task has failed at something, and the agent ends it for that.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(
            self.reason,
            Reason::ContainerLimitationDisk
                | Reason::ContainerLimitationMemory
                | Reason::ContainerLimitationPorts
                | Reason::MaxCompletionTime
                | Reason::Unhealthy
                | Reason::ExecutorTerminated
                | Reason::ExecutorSubscribeTimeout
        )
    }

    /// What the terminal status says of it. Whose wish it was counts for less than that nothing ran; but a preempted task is no
    /// failure of its framework's, which is to know it, and one whose task group has come to its end waits for no other.
    pub(crate) fn told_reason(&self) -> Reason {
        let told_all_the_same = matches!(
            self.reason,
            Reason::Preempted | Reason::AgentDraining | Reason::TaskGroupFailed | Reason::TaskGroupFinished
        );
        match self.during_launch && !told_all_the_same && !self.is_failure() {
            true => Reason::KilledDuringLaunch,
            false => self.reason,
        }
    }
}

/// Something that the master said of a task, to be done once its name is free.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// It is to run.
    Run { framework_info: FrameworkInfo, role: Role, info: Box<TaskInfo> },
    /// It and the others of its task group are to run.
    RunGroup { framework_info: FrameworkInfo, role: Role, members: Vec<TaskInfo> },
    /// It is to end.
    Kill { task_id: TaskId, grace: Option<Duration>, reason: Reason },
    /// It is believed here.
    Missing,
    /// Its framework is gone for ever.
    FrameworkRemoved,
}
