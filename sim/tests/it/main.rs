//! The simulator held to its promises.

mod replay;
mod support;
mod swarm;
