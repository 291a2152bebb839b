//! The real binary in real processes: what a person or a script sees of it, and what a whole cluster does.

mod cli;
mod cluster;
mod support;
