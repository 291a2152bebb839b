//! What an agent knows. Data and its own small rules; what happens to it is in [`crate::handle`].

pub(crate) mod cores;
pub(crate) mod executor;
pub(crate) mod group;
pub(crate) mod held;
pub(crate) mod link;
pub(crate) mod outcome;
pub(crate) mod pool;
pub(crate) mod probing;
pub(crate) mod repeat;
pub(crate) mod settings;
pub(crate) mod stream;
pub(crate) mod task;
pub(crate) mod timers;
