//! Services on a simulated cluster: the scheduler as it is, on the real master and the real agents, in virtual time.
//!
//! Each test builds a cluster, says what its tasks do and what goes wrong, and tells a story of a service on it. It is told again
//! under many seeds; each has other delays, other clocks, and other faults at other moments. What a story is about:
//!
//! - `replicas`: they come up, end, are lost, and are scaled.
//! - `helpers`: what runs before them and beside them comes and goes with them.
//! - `scaling`: there are as many as what is measured asks for.
//! - `updates`: they are replaced by others, or not.
//! - `survival`: the scheduler, the master, or everybody dies, and the service does not.
//!
//! [`program`] is the program around the scheduler, as far as a story needs one.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod helpers;
mod program;
mod replicas;
mod scaling;
mod survival;
mod updates;
