//! What an operator may set about the master's decisions. Defaults are those of [`apportion_types::limits`].

use std::time::Duration;

use apportion_types::limits;

/// Settings of the state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Names this master process; unique among all that ever were, and the start of every id that it gives.
    pub master_id: String,
    /// How long an offer may be held.
    pub offer_timeout: Duration,
    /// How long changes are gathered before an allocation runs.
    pub allocation_coalesce: Duration,
    /// Between pings of an agent.
    pub agent_ping_interval: Duration,
    /// Pings that may go unanswered.
    pub agent_pings_missed_max: u32,
    /// How long a disconnected agent may take to return.
    pub agent_reregister_timeout: Duration,
    /// Between heartbeats to a scheduler.
    pub scheduler_heartbeat: Duration,
}

impl Config {
    /// The defaults, for a process of this name.
    pub fn new(master_id: impl Into<String>) -> Self {
        Self {
            master_id: master_id.into(),
            offer_timeout: limits::OFFER_TIMEOUT,
            allocation_coalesce: limits::ALLOCATION_COALESCE,
            agent_ping_interval: limits::AGENT_PING_INTERVAL,
            agent_pings_missed_max: limits::AGENT_PINGS_MISSED_MAX,
            agent_reregister_timeout: limits::AGENT_REREGISTER_TIMEOUT,
            scheduler_heartbeat: limits::SCHEDULER_HEARTBEAT,
        }
    }
}
