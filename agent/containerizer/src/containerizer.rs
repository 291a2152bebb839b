//! The contract between an agent and whatever runs its containers.

use std::time::Duration;

use apportion_types::container::{Reading, Termination, Unenforced};
use async_trait::async_trait;

use crate::{
    error::{ContainerError, LaunchError},
    exec::{Exec, ExecError, ExecSpec},
    spec::{ContainerId, ContainerSpec, Leftover, Limits, Signal},
};

/// Runs containers on one machine.
///
/// All calls may run concurrently. Dropping a future does not undo what it began.
#[async_trait]
pub trait Containerizer: Send + Sync + 'static {
    /// What this machine cannot enforce, and why; constant for the life of the process.
    fn unenforced(&self) -> &[Unenforced];

    /// Starts a container and returns when its command has been executed (`execve` succeeded).
    ///
    /// On error nothing of it runs, and nothing is left but what this machine would not let be removed: [`Containerizer::remove`] tries
    /// again. An id that was ever used is refused.
    async fn launch(&self, spec: ContainerSpec) -> Result<(), LaunchError>;

    /// Waits until the container has ended, all of its processes are gone and its cgroups are removed.
    ///
    /// May be called any number of times, also after the end, until [`Containerizer::remove`].
    async fn wait(&self, id: &ContainerId) -> Result<Termination, ContainerError>;

    /// Sends a signal to every process of the container; a container that has ended is no error.
    async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<(), ContainerError>;

    /// Holds a running container to other limits from now on; one that has ended is no error.
    ///
    /// On error some of them may hold already. Memory that it holds is not taken from it: a ceiling below that is an error
    /// ([`ContainerError::is_busy`]), and all others hold then.
    async fn limit(&self, id: &ContainerId, limits: Limits) -> Result<(), ContainerError>;

    /// Executes one more command in a running container: in its namespaces and cgroups, with no more than its task may do.
    ///
    /// Returns when the command has been executed (`execve` succeeded). It ends with the container, with this process, and when
    /// [`crate::ExecProcess`] is dropped; whatever it started and left in the background ends with it.
    async fn exec(&self, id: &ContainerId, spec: ExecSpec) -> Result<Exec, ExecError>;

    /// What they have used so far and hold now, in the order of `ids`. All are looked at in one pass: many at once cost far less than one
    /// after the other.
    async fn usage(&self, ids: &[ContainerId]) -> Vec<Result<Reading, ContainerError>>;

    /// Its processes of this moment, by their numbers; none of one that has ended.
    async fn processes(&self, id: &ContainerId) -> Result<Vec<i32>, ContainerError>;

    /// Forgets an ended container and deletes its state folder (never its sandbox).
    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerError>;

    /// Containers of earlier agent processes that are still in the state folder. What does not run by then never will: a launch that was
    /// cut off before it had come to a runner is over. An error says nothing of any.
    async fn leftovers(&self) -> Result<Vec<Leftover>, ContainerError>;

    /// Removes what is shared by containers (parent cgroups), if none is left; called once at the end of the agent's life.
    async fn close(&self);
}

/// How long a runner may take from its start to the task's `execve`.
pub const LAUNCH_TIMEOUT: Duration = Duration::from_secs(30);
