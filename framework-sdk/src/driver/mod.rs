//! What runs a scheduler: a connection that is opened anew when it is lost, and a pure state behind it.

mod bounds;
mod engine;
mod error;
#[cfg(feature = "net")]
mod net;
pub(crate) mod random;
mod state;

use std::time::Duration;

#[cfg(feature = "net")]
pub use self::net::{BuildError, Builder, Driver, Ended, Handle, MESSAGES_MAX, Outcome};
pub use self::{
    engine::{Dropped, Engine},
    error::DriverError,
    state::{Action, Config, Input},
};

/// How long the first subscription may take unless said otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
