//! The real binary in real processes: what a person or a script sees of it, and what a whole cluster does.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod cli;
mod cluster;
mod support;
