//! What an operator may set about the master's decisions. Defaults are those of [`apportion_types::limits`].

use std::{collections::BTreeMap, time::Duration};

use apportion_types::{Role, limits};

use crate::view::RoleSettings;

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
    /// Offers made in one allocation cycle; what is left is offered in the next, a moment later.
    pub offers_per_cycle_max: usize,
    /// How many calls the frameworks of a principal may make together, but for acknowledgements: those end what waits.
    pub rate_limits: BTreeMap<String, RateLimit>,
    /// The same for each principal that is not named; no limit when none.
    pub rate_limit_default: Option<RateLimit>,
    /// What is set for roles at the start.
    pub roles: BTreeMap<Role, RoleSettings>,
    /// From the notice of a preemption to the kill.
    pub preemption_grace: Duration,
}

/// A number of calls per time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Thousandths of a call each second, on and on.
    pub per_second_milli: u64,
    /// How many may be made at once after a pause; at least one.
    pub capacity: u32,
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
            offers_per_cycle_max: limits::OFFERS_PER_CYCLE_MAX,
            rate_limits: BTreeMap::new(),
            rate_limit_default: None,
            roles: BTreeMap::new(),
            preemption_grace: limits::PREEMPTION_GRACE,
        }
    }
}
