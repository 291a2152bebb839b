//! Why a call failed, said so that a person can act on it.

use std::{io, path::PathBuf, time::Duration};

use apportion_types::CpuSet;

use crate::{procfs, spec::ContainerId, users::UserRange};

/// Why a container was not started. Each message names what failed and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The id cannot name a folder and a cgroup.
    #[error("container id {id:?} cannot be used: {reason}; choose one plain path component")]
    InvalidId {
        /// The id.
        id: ContainerId,
        /// What is wrong with it.
        reason: String,
    },
    /// The id names a container that is running, or that has ended and was not removed, or a launch under way.
    #[error("container id {id} was used before; choose another")]
    IdUsed {
        /// The id.
        id: ContainerId,
    },
    /// There is no program to execute.
    #[error("the command is empty; name a program to run")]
    EmptyCommand,
    /// A command argument or environment entry cannot be passed to a program.
    #[error("{what} cannot be passed to a program: it holds a zero byte, or its name is empty or holds '='")]
    Unpassable {
        /// Which one.
        what: String,
    },
    /// No such program.
    #[error("command {command:?} not found in {searched}; install it or give its path")]
    CommandNotFound {
        /// The program as given.
        command: String,
        /// Where it was looked for: `PATH=…`, or the file system.
        searched: String,
    },
    /// The program exists but may not be executed.
    #[error(
        "permission denied to execute {program:?}; it must be a file with its execute bit set, on a file system not mounted noexec"
    )]
    PermissionDenied {
        /// The path of the program.
        program: String,
    },
    /// The program exists but the kernel cannot execute it.
    #[error("cannot execute {program:?}: {hint}")]
    NotExecutable {
        /// The path of the program.
        program: String,
        /// What probably is wrong.
        hint: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The sandbox folder cannot be used.
    #[error("sandbox {path:?}: {what} failed; it must be a folder that the agent's user can write to")]
    Sandbox {
        /// The file or folder.
        path: PathBuf,
        /// What was done to it.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A volume cannot be shown to the task.
    #[error("volume {path:?} {what}")]
    Volume {
        /// The path as given.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// The image's layers cannot become a root, or it holds something in a place that must be the container's own.
    #[error("image: {path:?} {what}")]
    Image {
        /// A folder of the agent, or a path in the image.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// There is no such user for the task to run as.
    #[error("user {user:?} {what}")]
    User {
        /// As given.
        user: String,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// The container cannot be in its network.
    #[error("its network {what}")]
    Network {
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// The task cannot be started in this folder.
    #[error(
        "working directory {path:?} cannot be entered: {what}; name a folder that the task's user can enter"
    )]
    WorkingDir {
        /// As given.
        path: PathBuf,
        /// What the kernel said.
        what: String,
    },
    /// A cgroup could not be made, filled or entered.
    #[error(
        "cgroup file {file:?}: {what} failed; another program may have changed the hierarchy, or a limit is out of range"
    )]
    Cgroup {
        /// The file or folder.
        file: PathBuf,
        /// What was done to it, with the value written.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel killed it for want of memory before its program ran.
    #[error("memory limit of {limit_bytes} bytes is too small to start a process; raise it")]
    MemoryTooSmall {
        /// The limit.
        limit_bytes: u64,
    },
    /// The OCI runtime refused the container, or cannot do what was asked.
    #[error("the OCI runtime {what}")]
    Runtime {
        /// Which call failed, and what the runtime said.
        what: String,
    },
    /// A namespace, mount or privilege could not be set up.
    #[error(
        "setting up the container failed at: {step}; restart the agent to have it probe again what this machine allows"
    )]
    Setup {
        /// The step.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The container's own folder could not be written.
    #[error(
        "state file {path:?} cannot be written; check space and permissions of the agent's work directory"
    )]
    State {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The runner's process could not be started.
    #[error("the runner {command:?} cannot be started")]
    Spawn {
        /// The command.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The runner ended without a word, for example because somebody killed it.
    #[error("the runner ended before the task started ({status}); its log says: {log}")]
    RunnerDied {
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// The runner said something else than a runner of this version says.
    #[error("the runner's answer {answer:?} cannot be read; runner and agent must be of one version")]
    Garbled {
        /// What it said.
        answer: String,
        /// Why that cannot be read.
        source: serde_json::Error,
    },
    /// The runner took too long and was killed.
    #[error("the task did not start within {after:?}; the machine is overloaded or a file system hangs")]
    TimedOut {
        /// How long it was given.
        after: Duration,
    },
}

/// Why a call about a container failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// No container of that name is known: never launched, failed to launch, or removed.
    #[error("no container {id}; it was never launched or has been removed")]
    Unknown {
        /// The id.
        id: ContainerId,
    },
    /// It has not ended yet.
    #[error("container {id} still runs; wait for its end before removing it")]
    StillRunning {
        /// The id.
        id: ContainerId,
    },
    /// A file of its folder cannot be read or written.
    #[error("state file {path:?} cannot be used; check the agent's work directory")]
    State {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of its folder holds something else than expected.
    #[error(
        "state file {path:?} is damaged; remove the container's folder once none of its processes is left"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: serde_json::Error,
    },
    /// Its runner lives but does not answer on its socket.
    #[error("the runner of container {id} does not answer; see runner.log in its folder")]
    Unresponsive {
        /// The id.
        id: ContainerId,
        /// What the connection said.
        source: io::Error,
    },
    /// It cannot be held to other limits.
    #[error("container {id} cannot be held to other limits: {file:?}: {what} failed")]
    Limit {
        /// The id.
        id: ContainerId,
        /// The cgroup file.
        file: PathBuf,
        /// What was done to it, with the value written.
        what: String,
        /// What the kernel said; that it is busy when it holds more memory than that.
        source: io::Error,
    },
    /// What a killed runner left could not be cleared away.
    #[error("container {id} cannot be cleared away: {file:?}: {what} failed")]
    Cleanup {
        /// The id.
        id: ContainerId,
        /// The cgroup file or folder.
        file: PathBuf,
        /// What was done to it.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Which of its processes run could not be seen.
    #[error("which processes of container {id} run cannot be seen in /proc")]
    Unseen {
        /// The id.
        id: ContainerId,
        /// What the system said.
        source: io::Error,
    },
    /// A process could not be watched.
    #[error("process {pid} of container {id} cannot be watched")]
    Watch {
        /// The id.
        id: ContainerId,
        /// The process.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ContainerError {
    /// True when the machine or this process is short of descriptors or memory: it says nothing of the container, and passes.
    pub fn is_shortage(&self) -> bool {
        match self {
            Self::State { source, .. }
            | Self::Unseen { source, .. }
            | Self::Watch { source, .. }
            | Self::Unresponsive { source, .. } => procfs::is_shortage(source),
            _ => false,
        }
    }
}

impl ContainerError {
    /// True when it holds more memory than it is to be held to. That may change.
    pub fn is_busy(&self) -> bool {
        matches!(self, ContainerError::Limit { source, .. } if source.kind() == io::ErrorKind::ResourceBusy)
    }
}

/// Why no containers can be run here at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// A trial container could not be started, even with nothing enforced.
    #[error("a trial container cannot be started, even with nothing enforced")]
    Trial {
        /// Why.
        source: LaunchError,
    },
    /// The OCI runtime that was asked for cannot run containers here.
    #[error("the OCI runtime `{runtime}` cannot be used: {what}")]
    Runtime {
        /// As it was given.
        runtime: String,
        /// What was tried, what came of it, and what to do.
        what: String,
    },
    /// Containers cannot have users of their own here.
    #[error("containers cannot be given the {} users from {range} on: {what}", UserRange::COUNT)]
    Users {
        /// What was asked for.
        range: UserRange,
        /// What was tried, what came of it, and what to do.
        what: String,
    },
    /// Containers are to run on processors that this machine does not have, or has switched off.
    #[error("processors {missing} of the cpuset {wanted} are not online; this machine has {online}")]
    Cpuset {
        /// What was asked for.
        wanted: Box<CpuSet>,
        /// What of it is not there.
        missing: Box<CpuSet>,
        /// What is.
        online: Box<CpuSet>,
    },
    /// The configured parent cgroup is no absolute path of plain components.
    #[error(
        "parent cgroup {path:?} cannot be used; give plain names separated by slashes, such as apportion/agent-1"
    )]
    CgroupParent {
        /// The path.
        path: String,
    },
    /// The state folder cannot be made.
    #[error("state folder {path:?} cannot be made; check permissions of the agent's work directory")]
    State {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
