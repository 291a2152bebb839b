//! The services on the wire.

pub(crate) mod agent;
pub(crate) mod change;
pub(crate) mod maintenance;
pub(crate) mod operator;
pub(crate) mod scheduler;
mod status;
pub(crate) mod stream;
pub(crate) mod wire;
