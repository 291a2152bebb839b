//! What runs a scheduler: a connection that is opened anew when it is lost, and a pure state behind it.

mod bounds;
mod clock;
mod engine;
mod error;
mod link;
mod random;
mod run;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use apportion_types::{FrameworkId, FrameworkInfo, Role, limits};
use tokio::sync::mpsc;
use tonic::transport::Endpoint;

pub use self::{
    engine::{Dropped, Engine},
    error::{BuildError, DriverError},
    state::{Action, Config, Input},
};
use crate::{Scheduler, Stop, address};

/// How long the first subscription may take unless said otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages that wait for the scheduler; [`Handle::send`] waits when there are more.
pub const MESSAGES_MAX: usize = 1024;

/// Describes a driver: which framework, which masters.
#[derive(Debug, Clone)]
#[must_use = "a driver is made by `build`"]
pub struct Builder {
    info: FrameworkInfo,
    roles: Vec<String>,
    framework_id: Option<FrameworkId>,
    masters: Vec<String>,
    connect_timeout: Duration,
    refuse: Duration,
    seed: Option<u64>,
}

impl Builder {
    /// Who runs the framework; its name when not given. Does not change over re-subscriptions.
    pub fn principal(mut self, principal: impl Into<String>) -> Self {
        self.info.principal = principal.into();
        self
    }

    /// One more role for which it takes offers; the default role `*` when none is given.
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// How long its tasks run on while no scheduler is connected; 60 s when not given.
    pub fn failover_timeout(mut self, timeout: Duration) -> Self {
        self.info.failover_timeout = timeout;
        self
    }

    /// Free text for people and tools.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.info.labels.insert(name.into(), value.into());
        self
    }

    /// The id of an earlier subscription, whose tasks are to be taken over. Another scheduler that is connected with this id is
    /// ended by it.
    pub fn framework_id(mut self, framework_id: Option<FrameworkId>) -> Self {
        self.framework_id = framework_id;
        self
    }

    /// The address of a master, `host:port` or `http://host:port`. When several are given they are tried in turn.
    pub fn master(mut self, address: impl Into<String>) -> Self {
        self.masters.push(address.into());
        self
    }

    /// How long the first subscription may take before [`Driver::run`] fails; [`CONNECT_TIMEOUT`] when not given. Later
    /// connections are tried for ever.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long what was refused is not offered again where an offer does not say, give or take a fifth at random; 5 s when
    /// not given.
    pub fn refuse_for(mut self, refuse: Duration) -> Self {
        self.refuse = refuse.min(limits::REFUSE_MAX);
        self
    }

    /// Where the driver's random numbers start: for runs that can be repeated. Random when not given.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The driver, not yet connected.
    pub fn build<M: Send + 'static>(self) -> Result<Driver<M>, BuildError> {
        let mut info = self.info;
        info.roles = roles(&self.roles)?;
        if info.failover_timeout > limits::FAILOVER_TIMEOUT_MAX {
            let (timeout, timeout_max) = (info.failover_timeout, limits::FAILOVER_TIMEOUT_MAX);
            return Err(BuildError::FailoverTimeout { timeout, timeout_max });
        }
        if self.masters.is_empty() {
            return Err(BuildError::NoMaster);
        }
        let endpoint = |address: &String| {
            address::endpoint(address).map_err(|why| BuildError::Address { address: address.clone(), why })
        };
        let endpoints = self.masters.iter().map(endpoint).collect::<Result<Vec<_>, _>>()?;
        let (outbox, inbox) = mpsc::channel(MESSAGES_MAX);
        let config = Config {
            info,
            framework_id: self.framework_id,
            masters: self.masters,
            connect_timeout: self.connect_timeout,
            refuse: self.refuse,
            seed: self.seed.unwrap_or_else(|| RandomState::new().hash_one(())),
        };
        Ok(Driver { config, endpoints, handle: Handle { outbox }, inbox })
    }
}

/// The roles, or what is wrong with one.
fn roles(texts: &[String]) -> Result<Vec<Role>, BuildError> {
    if texts.is_empty() {
        return Ok(vec![Role::default()]);
    }
    let mut seen = BTreeSet::new();
    let mut roles = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let role = Role::new(text)?;
        if index >= limits::ROLES_MAX || !seen.insert(role.clone()) {
            let (role, position, roles_max) = (text.clone(), index + 1, limits::ROLES_MAX);
            return Err(BuildError::Roles { role, position, roles_max });
        }
        roles.push(role);
    }
    Ok(roles)
}

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
        Builder {
            roles: info.roles.iter().map(Role::to_string).collect(),
            info,
            framework_id: None,
            masters: Vec::new(),
            connect_timeout: CONNECT_TIMEOUT,
            refuse: limits::REFUSE_DEFAULT,
            seed: None,
        }
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

/// What the rest of the program tells a driver.
#[derive(Debug)]
enum Told<M> {
    Message(M),
    Stop(Stop),
}

/// Speaks to a running scheduler from other tasks. Cheap to clone; messages of one handle arrive in the order sent.
pub struct Handle<M> {
    outbox: mpsc::Sender<Told<M>>,
}

/// The driver has ended; the message is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the scheduler's driver has ended")]
pub struct Ended<M>(pub M);

impl<M> Handle<M> {
    /// Tells the scheduler something; waits while [`MESSAGES_MAX`] wait already.
    pub async fn send(&self, message: M) -> Result<(), Ended<M>> {
        match self.outbox.send(Told::Message(message)).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendError(Told::Message(message))) => Err(Ended(message)),
            Err(mpsc::error::SendError(Told::Stop(_))) => unreachable!("what is given back is what was sent"),
        }
    }

    /// Ends the run, as [`Context::stop`](crate::Context::stop) does from within.
    pub async fn stop(&self, stop: Stop) -> Result<(), Ended<()>> {
        self.outbox.send(Told::Stop(stop)).await.map_err(|_| Ended(()))
    }

    /// True when the driver has ended.
    pub fn is_ended(&self) -> bool {
        self.outbox.is_closed()
    }
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { outbox: self.outbox.clone() }
    }
}

impl<M> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("ended", &self.is_ended()).finish()
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
