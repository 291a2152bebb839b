//! Bounds on what the core remembers for the sake of better answers. What a peer may ask for is bounded in
//! [`apportion_types::limits`].

/// Closed offers whose end is still told apart ("declined", "rescinded"); beyond that they are merely "no longer valid".
/// As many as three full cycles make.
pub(crate) const CLOSED_OFFERS_MAX: usize = 65_536;

/// Different reasons for declining that are counted for each framework; the rest is counted under [`DECLINE_OTHER`].
pub(crate) const DECLINE_REASONS_MAX: usize = 32;

/// Bytes of such a reason; the rest of it is cut off.
pub(crate) const DECLINE_REASON_BYTES_MAX: usize = 128;

/// Where further reasons are counted.
pub(crate) const DECLINE_OTHER: &str = "other";

/// Declines of each kind that are kept as samples for each framework.
pub(crate) const DECLINE_SAMPLES_MAX: usize = 4;
