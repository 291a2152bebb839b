//! Everything that an agent can want done: the closed list of what comes out of [`crate::AgentCore::handle`].

use std::{collections::BTreeSet, time::Duration};

use apportion_types::{
    AgentId, CpuSet, Drain, FrameworkId, OperationId, Resources, Role, TaskId, TaskStatus, UpdateId,
    VolumeId,
    probe::Probe,
    protocol::{
        agent::{AgentMessage, AgentOperation},
        executor::{ExecutorEvent, ExecutorRefuseCode},
    },
    resources::Ranges,
};

use crate::{
    container::{Ceilings, ContainerId, ContainerPlan, Signal},
    event::{CheckpointId, ProbeKind, ProcessRecord, TaskRecord, Times},
};

/// Something to be done, in the order given. Nothing here can fail back into the decision that made it: what goes wrong comes in as
/// a later [`crate::Event`].
#[allow(clippy::large_enum_variant, reason = "moved once, from the core to the shell; a box would cost more")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Queue a message to the master. A stream that is already gone swallows it.
    Send(AgentMessage),
    /// End the stream and open another after a pause; [`crate::Event::Disconnected`] follows.
    Reconnect {
        /// Why, for people.
        reason: String,
    },
    /// Append to the log; answered by [`crate::Event::Checkpointed`]. A failure ends the process: it has promised nothing yet.
    Checkpoint {
        /// Which.
        checkpoint: CheckpointId,
        /// What.
        record: Record,
    },
    /// Start a container; answered by exactly one of [`crate::Event::Launched`] and [`crate::Event::LaunchFailed`]. After the
    /// former its end is waited for and told by [`crate::Event::Terminated`].
    Launch(Box<ContainerPlan>),
    /// Do not start this container if that has not begun; the answer of its launch says whether it was in time.
    CancelLaunch {
        /// The container.
        container_id: ContainerId,
    },
    /// Find a container that an earlier process may have started; answered by [`crate::Event::Launched`] when it runs, and then as after
    /// [`Action::Launch`]; by its end alone when that is known already; by [`crate::Event::ContainerLost`] when it is not there.
    Attach {
        /// The container.
        container_id: ContainerId,
        /// The run of its task group whose network it is in, if it is in that.
        group_network: Option<ContainerId>,
    },
    /// Take away the network that the containers of a run of a task group were in: all have ended, or never were. Who wants its ports of the
    /// host later waits until they are free.
    LeaveNetwork {
        /// The run.
        run: ContainerId,
    },
    /// Send a signal to every process of a container, after every earlier signal to it.
    Signal {
        /// The container.
        container_id: ContainerId,
        /// The signal.
        signal: Signal,
    },
    /// Ask something of a task; answered by exactly one [`crate::Event::Probed`] while the container runs. The timeout counts from when
    /// the asking begins, which may be later when much is asked at once.
    Probe {
        /// The container.
        container_id: ContainerId,
        /// Which of its questions.
        kind: ProbeKind,
        /// Never used again by this process.
        number: u64,
        /// What is asked.
        probe: Probe,
        /// How long an answer is awaited.
        timeout: Duration,
    },
    /// Queue a message to the executor in a container. A stream that is already gone swallows it.
    SendExecutor {
        /// The executor's container.
        container_id: ContainerId,
        /// What it is told.
        event: ExecutorEvent,
    },
    /// Tell the executor in a container why, and end its stream, if it has one. No [`crate::Event::ExecutorDisconnected`] need follow.
    DisconnectExecutor {
        /// The executor's container.
        container_id: ContainerId,
        /// Why, for programs.
        code: ExecutorRefuseCode,
        /// Why, for people.
        message: String,
    },
    /// Hold a container that runs to these ceilings from now on, in place of any before; answered by [`crate::Event::Limited`] while the
    /// container runs.
    Limit {
        /// The container.
        container_id: ContainerId,
        /// Counts the limits of this container that this process has asked for, from 1.
        number: u64,
        /// What it is held to, as far as this machine can.
        ceilings: Ceilings,
        /// Ports of this machine that are its own.
        ports: Ranges,
        /// The cores that it may run on; as before when none.
        cores: Option<CpuSet>,
    },
    /// Forget a container that has ended, and what is kept of it; never its sandbox.
    Remove {
        /// The container.
        container_id: ContainerId,
    },
    /// Make the folder of a persistent volume, empty, before anything that is wanted later. One that is there is left as it is.
    MakeVolume(VolumeKey),
    /// Delete a persistent volume and what is stored in it; one that is not there is no error. It must seem gone to what is wanted
    /// later. What fails or is cut off is made good by the [`Action::KeepVolumes`] of the next process.
    DeleteVolume(VolumeKey),
    /// Delete every persistent volume but these, as by [`Action::DeleteVolume`], and make those that are missing.
    KeepVolumes(BTreeSet<VolumeKey>),
    /// Write into the journal of the process, for people.
    Note {
        /// What.
        message: String,
    },
    /// End the process with this error: its master will not have it as it is. Tasks run on.
    Fail {
        /// What is wrong and what to do, for people.
        reason: String,
    },
    /// End the process: what a shutdown asked for is done. No action follows.
    Done {
        /// True when the master knows that the agent ends for good: its id must not be used again.
        unregistered: bool,
    },
}

/// A persistent volume's name on its agent: the role that its disk is reserved for, and its id.
pub type VolumeKey = (Role, VolumeId);

/// One record of the log. Replayed in order, it says what the agent has, which tasks there are, and what of them is still to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The agent was registered.
    Agent {
        /// Under this id.
        agent_id: AgentId,
    },
    /// A process of the agent began, in another life of the machine or with other settings than the one before.
    Process(ProcessRecord),
    /// The agent is drained from here on, or is not any more.
    Drain(Option<Drain>),
    /// A task was taken on.
    Task(Box<TaskRecord>),
    /// The tasks of a task group were taken on, all of one framework and in the order of their places; none of them has its turn yet.
    Group(Vec<TaskRecord>),
    /// The turn of a member of a task group has come: from here on it may have a container.
    Turn {
        /// The task's framework.
        framework_id: FrameworkId,
        /// The task.
        task_id: TaskId,
    },
    /// Times of a task are known. One that is not given stays as it was.
    Times {
        /// The task's framework.
        framework_id: FrameworkId,
        /// The task.
        task_id: TaskId,
        /// What is known.
        times: Times,
    },
    /// A status was made and stands at the end of its task's update stream.
    Update {
        /// The task's framework.
        framework_id: FrameworkId,
        /// The status.
        status: TaskStatus,
    },
    /// The head of a task's update stream is off it; a terminal one ends the task.
    Acknowledgement {
        /// The task's framework.
        framework_id: FrameworkId,
        /// The task.
        task_id: TaskId,
        /// The head.
        update_id: UpdateId,
    },
    /// An operation was done or refused; in one record, so that neither is on disk without the other.
    Operation {
        /// All that the agent has after it; none when it has changed nothing.
        total: Option<Resources>,
        /// What became of it; none when its framework did not name it.
        outcome: Option<AgentOperation>,
    },
    /// What became of an operation is acknowledged.
    OperationAcknowledgement {
        /// The operation's framework.
        framework_id: FrameworkId,
        /// The operation.
        operation_id: OperationId,
        /// The update.
        update_id: UpdateId,
    },
}

impl Record {
    /// The tasks that are taken on by it.
    pub fn taken_on(&self) -> &[TaskRecord] {
        match self {
            Record::Task(task) => std::slice::from_ref(task),
            Record::Group(tasks) => tasks,
            _ => &[],
        }
    }
}

/// Where the core puts its actions.
pub type Actions = Vec<Action>;
