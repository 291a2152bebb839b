//! What peers say to each other, as values: the wire's `oneof`s after conversion.

pub mod agent;
pub mod executor;
pub mod scheduler;
