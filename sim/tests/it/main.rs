//! The simulator held to its promises.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod executors;
mod mixed;
mod regressions;
mod replay;
mod support;
mod swarm;
mod whole;
mod writes;
