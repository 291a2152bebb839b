//! What an operator may set about the agent's decisions. Defaults are those of [`apportion_types::limits`].

use std::{collections::BTreeSet, time::Duration};

use apportion_types::{AgentInfo, CpuSet, limits, resources::Name};

/// Settings of the state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The agent as it describes itself. Its resources are what it has before any operation: on no terms but static reservations.
    pub info: AgentInfo,
    /// Resources whose amounts nobody has set: at a restart they grow to what is held of them, where others make it fail.
    pub detected: BTreeSet<Name>,
    /// Names the life of the machine since it was switched on; none when that cannot be known.
    pub boot_id: Option<String>,
    /// The cores that containers may run on; none when they cannot be held to any, so that no task can have any of its own.
    pub cores: Option<CpuSet>,
    /// Processes and threads of a container when its task does not say.
    pub pids_default: u64,
    /// What a shutdown does to the tasks.
    pub on_shutdown: OnShutdown,
    /// How long a master may take to answer a registration before another stream is opened.
    pub register_timeout: Duration,
    /// First pause before an un-acknowledged update is sent again; doubles each time.
    pub update_retry_min: Duration,
    /// Longest pause before an un-acknowledged update is sent again.
    pub update_retry_max: Duration,
    /// Between KILLs to a container that does not end.
    pub kill_repeat: Duration,
}

/// What a shutdown does to the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnShutdown {
    /// They run on, for the next process of this agent to find.
    Keep,
    /// They are killed, each with its own grace, and the agent leaves the cluster.
    Kill {
        /// The longest grace that any task is given.
        grace_max: Duration,
    },
}

impl Config {
    /// The defaults, for an agent that describes itself so.
    pub fn new(info: AgentInfo) -> Self {
        Self {
            info,
            detected: BTreeSet::new(),
            boot_id: None,
            cores: None,
            pids_default: limits::PIDS_DEFAULT,
            on_shutdown: OnShutdown::Keep,
            register_timeout: Duration::from_secs(60),
            update_retry_min: limits::UPDATE_RETRY_MIN,
            update_retry_max: limits::UPDATE_RETRY_MAX,
            kill_repeat: Duration::from_secs(10),
        }
    }
}
