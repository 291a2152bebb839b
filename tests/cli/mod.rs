//! The real binary, as people and scripts use it.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

mod clients;
mod daemons;
mod dev;
mod registry;
mod replay;
mod sim;
mod usage;
