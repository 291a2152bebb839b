//! Every bound of a connection, with its reason.

use std::time::Duration;

/// Events taken from the connection that the scheduler has not yet handled; further ones wait in the connection.
pub(super) const EVENTS_QUEUED: usize = 256;

/// Calls that the connection has not yet taken.
pub(super) const CALLS_QUEUED: usize = 1_024;

/// How long the connection may take no call before it counts as lost.
pub(super) const CALL_STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a run that ends waits for its last calls to be sent.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of one event. More than a master should send, so that one with more offers in a cycle than it should is not fatal.
pub(super) const EVENT_BYTES_MAX: usize = 64 << 20;
