//! Networks of an agent's containers: attached by plugins of the Container Network Interface (CNI, 0.3.0 to 1.0.0), detached again
//! whatever happens meanwhile.
//!
//! A network is a list of plugins that the machine's operator has put into a folder. To *attach* is to make a network namespace that is a
//! file, to filter what goes in and out of it, and to have the plugins give it an interface, addresses, and ports of the host. Whoever is
//! attached is an *owner*: the name of a container, or of a group of containers that share one network.
//!
//! What is to be attached is on disk before it is; so the next process of the agent, or the first after the machine was started again,
//! detaches what nobody needs any more, however far the attaching had come.

mod chain;
mod error;
mod etc;
mod list;
mod members;
mod networks;
mod plugin;
mod policy;
mod ports;
mod processes;
mod record;
mod result;

pub use error::{AttachError, DetachError, OpenError};
pub use networks::{Attached, Networks, NetworksConfig, Wanted};
pub use plugin::{PluginError, Problem};

/// Does what may wait for a disk or the kernel beside what must not wait for them.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
