//! Every bound of the driver's decisions, with its reason.

use std::time::Duration;

/// First pause before a lost connection is opened again: a master that restarts is back within a second.
pub(crate) const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest pause (Mesos: 1 min). Short against the default failover time-out, and with jitter no burden: a thousand
/// frameworks make a hundred attempts a second at most. A tenth of the failover time-out where that is less.
pub(crate) const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(10);

/// The same where there are several masters: when one is lost, another one leads within a few seconds. A thousand frameworks make some
/// thousand attempts a second at most, which stand-bys answer from memory.
pub(crate) const RECONNECT_PAUSE_SEVERAL_MAX: Duration = Duration::from_secs(1);

/// How long one attempt to connect and subscribe may take before another master is tried.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Heartbeats that may be missed before a stream is dead (Mesos: 5).
pub(crate) const HEARTBEATS_MISSED_MAX: u32 = 5;

/// First pause before tasks that were not answered are reconciled again; doubles each time.
pub(crate) const RECONCILE_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Longest such pause: agents may take ten minutes to return after a change of master.
pub(crate) const RECONCILE_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Tasks of one reconciliation: with ids of the greatest length they fill half a message.
pub(crate) const RECONCILE_TASKS_PER_CALL: usize = 5_000;

/// Offers of one decline: with ids of the greatest length they fill half a message.
pub(crate) const DECLINE_OFFERS_PER_CALL: usize = 10_000;

/// How long a teardown may take to be confirmed.
pub(crate) const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Acknowledged updates that are remembered, so that a repetition is not told again. An agent repeats only those whose
/// acknowledgement was lost, so these are the ones of the last moments.
pub(crate) const UPDATES_REMEMBERED: usize = 16_384;

/// Calls whose kind is remembered for a refusal: the master answers within what is on the way.
pub(crate) const CALLS_REMEMBERED: usize = 4_096;
