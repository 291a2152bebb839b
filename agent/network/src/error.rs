//! Why a network cannot be had.

use std::{io, path::PathBuf};

use apportion_types::network::Protocol;

use crate::plugin::PluginError;

/// Why an owner was not attached to a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There is no list of plugins of that name.
    #[error(
        "it is not configured on this agent: no list of plugins in {folder:?} has that name{}; have the agent's operator add it, or place the task on another agent",
        unreadable.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
    )]
    Unknown {
        /// Where lists are looked for.
        folder: PathBuf,
        /// What is there and is no list, and why.
        unreadable: Option<String>,
    },
    /// What is configured is none that can be used.
    #[error("its list of plugins {path:?} {what}")]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// The task maps ports, and the network cannot.
    #[error(
        "none of its plugins maps ports; have the agent's operator add `portmap`, with the capability `portMappings`, to its list, or map none"
    )]
    NoPortMap,
    /// The task maps a port that leads elsewhere.
    #[error(
        "port {port} ({protocol}) of the host still leads to `{owner}`, {why}; have the agent's operator see to that, or place the task on another agent or port"
    )]
    PortHeld {
        /// The port.
        port: u16,
        /// Of what.
        protocol: Protocol,
        /// Whom it leads to.
        owner: String,
        /// Why it still does.
        why: String,
    },
    /// The agent may not.
    #[error("it takes an agent that runs as root")]
    NotRoot,
    /// A plugin did not do what it was asked to.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The owner is being detached, or what an attaching that failed has left of it.
    #[error(
        "it is being detached, or what is left of it from an attaching that failed; launch the tasks anew, as another task group"
    )]
    Leaving,
    /// What was left of the owner from before the machine was started again is still there.
    #[error("what is left of it from before the machine was started again cannot be detached")]
    Left(#[from] DetachError),
    /// There is no namespace.
    #[error("its namespace {path:?} cannot be made")]
    Namespace {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What goes in and out cannot be filtered.
    #[error(
        "its policy cannot be put in force: {what}; the agent needs the program `nft` (Debian: nftables) and a kernel with nftables"
    )]
    Policy {
        /// What `nft` said.
        what: String,
    },
    /// What must be on disk is not.
    #[error("{path:?} cannot be written; check space and permissions of the agent's work directory")]
    State {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why something of an owner is left. What is known of it stays, so that it can be tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetachError {
    /// A plugin did not do what it was asked to; the others have been asked all the same.
    #[error("network `{network}` cannot be detached")]
    Plugin {
        /// The network.
        network: String,
        /// The plugin, and what it said.
        source: PluginError,
    },
    /// What is on disk, or the namespace.
    #[error("what is kept of a network in {path:?} cannot be read, marked or removed")]
    State {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why what an earlier process has left cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("folder {path:?} cannot be used; check permissions of the agent's work directory")]
pub struct OpenError {
    /// The folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}
