//! The driver on the network: the one part of this crate that knows a runtime, a clock and chance.

mod bounds;
mod builder;
mod clock;
mod handle;
mod link;
mod run;

use std::{collections::BTreeMap, fmt};

use apportion_types::{FrameworkId, FrameworkInfo, limits};
use tokio::sync::mpsc;
use tonic::transport::Endpoint;

use self::handle::Told;
pub use self::{
    builder::{BuildError, Builder},
    handle::{Ended, Handle, MESSAGES_MAX},
};
use super::{Config, DriverError};
use crate::{Scheduler, Stop};

/// Runs one scheduler against a master, and keeps it subscribed until it ends.
///
/// `M` is what a [`Handle`] may send, the scheduler's [`Message`](Scheduler::Message); it is inferred from
/// [`run`](Driver::run).
pub struct Driver<M> {
    config: Config,
    endpoints: Vec<Endpoint>,
    handle: Handle<M>,
    inbox: mpsc::Receiver<Told<M>>,
}

impl Driver<std::convert::Infallible> {
    /// Begins a driver for a framework of this name, which is for people and need not be unique.
    pub fn builder(name: impl Into<String>) -> Builder {
        let name = name.into();
        Driver::builder_of(FrameworkInfo {
            principal: name.clone(),
            name,
            roles: Vec::new(),
            failover_timeout: limits::FAILOVER_TIMEOUT_DEFAULT,
            labels: BTreeMap::new(),
        })
    }

    /// Begins a driver for a framework that is already described.
    pub fn builder_of(info: FrameworkInfo) -> Builder {
        Builder::new(info)
    }
}

impl<M: Send + 'static> Driver<M> {
    /// What other parts of the program speak to the scheduler through.
    pub fn handle(&self) -> Handle<M> {
        self.handle.clone()
    }

    /// Connects, and runs the scheduler until it ends, its program ends it, or the master says that it is over.
    ///
    /// Lost connections are opened again with the same framework id, after a pause that grows, for as long as it takes.
    /// A panic of the scheduler is a panic of this future. Dropping the future disconnects the framework: its tasks run on for
    /// the failover time-out.
    pub async fn run<S: Scheduler<Message = M>>(self, scheduler: S) -> Result<Outcome<S>, DriverError> {
        // Ours would keep the inbox open for ever.
        drop(self.handle);
        run::run(self.config, self.endpoints, self.inbox, scheduler).await
    }
}

impl<M> fmt::Debug for Driver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// A run that ended as it was asked to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome<S> {
    /// The scheduler, given back.
    pub scheduler: S,
    /// The framework's id; none when it never subscribed.
    pub framework_id: Option<FrameworkId>,
    /// How it ended.
    pub stop: Stop,
}
