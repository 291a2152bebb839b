//! Operators that watch: a snapshot, then what changes.

mod change;
mod hub;
#[cfg(test)]
mod tests;
mod watcher;

pub(crate) use self::{
    change::{Change, Kind},
    hub::{Hub, Position},
    watcher::{Told, WatchEnd},
};
