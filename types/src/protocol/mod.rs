//! What peers say to the master and hear from it, as values: the wire's `oneof`s after conversion.

pub mod agent;
pub mod scheduler;
