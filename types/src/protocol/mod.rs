//! What peers say to each other, as values: the wire's `oneof`s after conversion.

pub mod agent;
pub mod executor;
pub mod scheduler;

/// The metadata, or the header of HTTP, by which a master that stands by names the one that leads, as `host:port`.
pub const LEADER: &str = "apportion-leader";

/// The metadata by which a peer tells a master that stands by which leader, as named before, it could not reach: the answer is held a moment, in
/// case another one leads soon.
pub const UNREACHED: &str = "apportion-unreached";

/// How often in a row a peer goes at once where a master that stands by sends it: a new leader may be one more change away, and masters that
/// name each other must not keep it busy.
pub const LEADERS_FOLLOWED_MAX: u32 = 3;
