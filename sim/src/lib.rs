//! The whole cluster from one seed: the real master, the real agents, the real driver, and your scheduler, unchanged.

#![warn(missing_docs)]

mod check;
mod clock;
mod cluster;
pub mod conformance;
mod fault;
mod harness;
mod history;
mod machine;
mod network;
mod process;
mod queue;
mod random;
mod shrink;
mod sim;
pub mod trace;
mod world;

pub use fastrand::Rng;

pub use self::{
    cluster::Cluster,
    fault::{Chaos, Fault, Process, Timed, Ways},
    harness::{Found, SEED_VARIABLE, Searched, check, find},
    machine::{Behaviour, Ending, OnTerm},
    network::{Delays, Peer},
    process::{Framework, Handle, Store},
    sim::{Failure, Sim},
};
