//! The real binary, as people and scripts use it.

mod clients;
mod daemons;
mod dev;
mod support;
mod usage;
