//! Jobs on a simulated cluster: the scheduler as it is, on the real master and the real agents, in virtual time.
//!
//! Each test builds a cluster, says what its tasks do and what goes wrong, and tells a story of a job on it. It is told again under
//! many seeds; each has other delays, other clocks, and other faults at other moments. What a story is about:
//!
//! - `dag`: stages that wait for each other, while everything fails.
//! - `ends`: what becomes of tasks that succeed, fail, hang, or are too large.
//! - `orders`: what the program around the scheduler asks for.
//! - `outages`: what happens while the master, an agent, or the job's own process is away.
//! - `queue`: several users, and a daemon that is killed.
//! - `stragglers`: second copies of what takes long.
//! - `survival`: what a job that is kept survives.
//!
//! [`program`] is the program, as far as a story needs one.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod dag;
mod ends;
mod orders;
mod outages;
mod program;
mod queue;
mod stragglers;
mod survival;
