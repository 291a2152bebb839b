//! What must outlive the scheduler: who it is, and which task is which replica.

use std::collections::{BTreeMap, BTreeSet};

use apportion_sdk::{AgentId, FrameworkId, TaskId};
use serde::{Deserialize, Serialize};

/// The version of the file; another one is refused rather than guessed at.
pub const VERSION: u32 = 1;

/// The part of a service that is stored: small, and written as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// [`VERSION`].
    pub version: u32,
    /// The service's name: a state of another service is not taken over by mistake.
    pub service: String,
    /// The framework; none before its first subscription.
    pub framework_id: Option<FrameworkId>,
    /// The number of replicas that was ordered while the service ran, unless it is the description's own. Absent in a table that was
    /// written before there were such orders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled: Option<Scaled>,
    /// How many tasks were ever launched. Each has this number in its id, so that no id is used twice.
    pub launches: u64,
    /// The task of each replica that has one.
    pub placed: BTreeMap<u32, Placed>,
    /// Tasks that may still run though their replica was replaced; killed when they are heard of.
    pub strays: BTreeSet<TaskId>,
}

/// Another number of replicas than the description says. It holds over restarts for as long as the description says the same
/// number: whoever changes that one wants what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaled {
    /// The description's number when this was ordered.
    pub described: u32,
    /// The number that was ordered.
    pub replicas: u32,
}

/// The task of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// Its id.
    pub task_id: TaskId,
    /// Its agent.
    pub agent_id: AgentId,
    /// The agent's host.
    pub hostname: String,
    /// The ports that it was given.
    pub ports: Vec<u16>,
}

impl Placed {
    /// Where it can be reached: `host:port`, for each port.
    pub fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("{}:{port}", self.hostname)).collect()
    }
}

impl Table {
    /// That of a service that never ran.
    pub fn new(service: &str) -> Self {
        Self {
            version: VERSION,
            service: service.to_owned(),
            framework_id: None,
            scaled: None,
            launches: 0,
            placed: BTreeMap::new(),
            strays: BTreeSet::new(),
        }
    }
}
