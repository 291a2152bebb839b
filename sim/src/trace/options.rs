//! What a replay may be asked to be.

use std::{num::NonZeroU32, time::Duration};

use serde::{Serialize, Serializer};

/// How a trace is replayed. A report tells these, since they change what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Options {
    /// What all chance comes from: one seed gives one replay.
    pub seed: u64,
    /// How many times as fast as in the trace tasks come. They run for as long as there, so that more are alive at once.
    pub load: NonZeroU32,
    /// How long the replay goes on after the last task came, while some wait or run.
    #[serde(rename = "tail_us", serialize_with = "micros")]
    pub tail: Duration,
    /// Between pings of an agent, and between heartbeats to a scheduler. Nobody is ever lost in a replay, so these only cost time.
    #[serde(rename = "ping_interval_us", serialize_with = "micros")]
    pub ping_interval: Duration,
    /// How long what a framework refused is not offered to it again, unless its agent comes to have more, or it gets new work after
    /// it had none. A framework whose tasks all ask for the same has no use for what it has refused.
    #[serde(rename = "refuse_us", serialize_with = "micros")]
    pub refuse: Duration,
}

impl Default for Options {
    /// Tasks come as in the trace, with one hour after the last. Intervals are longer than those of a real cluster, where a month takes a
    /// month.
    fn default() -> Self {
        Self {
            seed: 0,
            load: NonZeroU32::MIN,
            tail: Duration::from_secs(3600),
            ping_interval: Duration::from_secs(86_400),
            refuse: Duration::from_secs(600),
        }
    }
}

fn micros<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}
