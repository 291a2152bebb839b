//! The real binary in real processes: what a person or a script sees of it, and what a whole cluster does.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod cli;
mod cluster;
#[path = "../master/tests/support/etcd.rs"]
mod etcd;
mod support;
