//! The simulator held to its promises.

mod mixed;
mod regressions;
mod replay;
mod support;
mod swarm;
