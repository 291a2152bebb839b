//! Containers on one machine: launch, signal, wait, measure, clean up.
//!
//! Each container has a *runner*: the agent's own binary, re-executed with `runner FOLDER`, single-threaded. It outlives the
//! agent. It makes the cgroups and namespaces, starts the task, reaps it, and leaves what happened in the container's folder.
//!
//! [`Native`] is the agent's side of it, [`runner_main`] the runner's, [`Fake`] a stand-in without processes for tests.
//! What the two sides say to each other is in `folder.rs`; all unsafe code of the project is in `linux/`.

pub mod cgroup;
mod containerizer;
mod error;
mod exec;
mod fake;
mod folder;
mod huge_pages;
mod linux;
mod native;
mod netns;
mod procfs;
mod runtime;
mod spec;
mod users;

pub use containerizer::{Containerizer, LAUNCH_TIMEOUT};
pub use error::{ContainerError, LaunchError, ProbeError};
pub use exec::{Exec, ExecError, ExecInput, ExecOutput, ExecProcess, ExecSpec, Finished, TerminalSize};
pub use fake::Fake;
pub use huge_pages::huge_pages;
#[doc(hidden)]
pub use linux::bare_loop;
pub use linux::{process_ended, runner_main};
pub use native::{Native, NativeConfig};
pub use netns::NetworkNamespaces;
pub use runtime::{Runtime, RuntimeError};
pub use spec::{
    AGENT_FOLDER, ContainerId, ContainerSpec, ImageRoot, Leftover, Limits, Mount, MountSource, NetworkSpec,
    OutputBounds, PersistentVolume, SANDBOX_IN_IMAGE, Signal,
};
pub use users::{UserRange, UserRangeError};
