//! Describing a driver, and what can be wrong with the description.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use apportion_types::{FrameworkId, FrameworkInfo, FrameworkOptions, Role, ids::RoleError, limits};

use super::{Driver, handle};
use crate::{
    address,
    driver::{CONNECT_TIMEOUT, Config},
};

/// Describes a driver: which framework, which masters.
#[derive(Debug, Clone)]
#[must_use = "a driver is made by `build`"]
pub struct Builder {
    info: FrameworkInfo,
    options: FrameworkOptions,
    stand_by: bool,
    roles: Vec<String>,
    framework_id: Option<FrameworkId>,
    masters: Vec<String>,
    connect_timeout: Duration,
    refuse: Duration,
    seed: Option<u64>,
}

impl Builder {
    pub(super) fn new(info: FrameworkInfo) -> Self {
        Self {
            roles: info.roles.iter().map(Role::to_string).collect(),
            info,
            options: FrameworkOptions::default(),
            stand_by: false,
            framework_id: None,
            masters: Vec::new(),
            connect_timeout: CONNECT_TIMEOUT,
            refuse: limits::REFUSE_DEFAULT,
            seed: None,
        }
    }

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

    /// What it wishes of offers, such as [`Options`](crate::Options) builds; no wishes when not given.
    pub fn options(mut self, options: FrameworkOptions) -> Self {
        self.options = options;
        self
    }

    /// The id of an earlier subscription, whose tasks are to be taken over. Another scheduler that is connected with this id is
    /// ended by it.
    pub fn framework_id(mut self, framework_id: Option<FrameworkId>) -> Self {
        self.framework_id = framework_id;
        self
    }

    /// The framework has several schedulers, in processes of their own, of which one is subscribed and the others stand by. This one is
    /// named among them by its host, its process and chance.
    ///
    /// The first that subscribes leads. The others are told [`standing_by`](crate::Scheduler::standing_by), and when its connection ends, one of
    /// them is [`subscribed`](crate::Scheduler::subscribed) within milliseconds, where it loads what the one before kept. A leader that
    /// lost its connection and finds another in its place ends with [`FailedOver`](crate::driver::DriverError::FailedOver): start it again,
    /// to stand by. Without a [`framework_id`](Builder::framework_id) the framework is found by its name and principal.
    pub fn stand_by(mut self) -> Self {
        self.stand_by = true;
        self
    }

    /// The address of a master, `host:port` or `http://host:port`, or of several with commas between them. When several are given they are
    /// tried in turn; one that stands by is left for the one that it names as the leader.
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
        let (masters, endpoints) = address::endpoints(&self.masters.join(","))
            .map_err(|(address, why)| BuildError::Address { address, why })?
            .into_iter()
            .unzip();
        let (handle, inbox) = handle::channel();
        let config = Config {
            info,
            options: FrameworkOptions { stand_by: self.stand_by.then(scheduler_name), ..self.options },
            framework_id: self.framework_id,
            masters,
            connect_timeout: self.connect_timeout,
            refuse: self.refuse,
            seed: self.seed.unwrap_or_else(|| RandomState::new().hash_one(())),
        };
        Ok(Driver { config, endpoints, handle, inbox })
    }
}

/// No other scheduler has it, and people see where this one is.
fn scheduler_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let chance = RandomState::new().hash_one(()) as u32;
    format!("{}:{}:{chance:08x}", host.trim(), std::process::id())
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

/// Why a driver cannot be built from what it was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No master was named.
    #[error("no master is given; give its address, such as `127.0.0.1:5050`")]
    NoMaster,
    /// A master's address is not one.
    #[error("`{address}` is not the address of a master: {why}; use `host:port` or `http://host:port`")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// A role breaks its rule.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// A role is named twice, or there are too many.
    #[error("role `{role}` is the framework's {position}. of at most {roles_max} roles, or is named twice")]
    Roles {
        /// The role.
        role: String,
        /// Its place.
        position: usize,
        /// The bound.
        roles_max: usize,
    },
    /// The failover time-out is longer than allowed.
    #[error("a failover time-out of {timeout:?} is longer than the longest, {timeout_max:?}")]
    FailoverTimeout {
        /// What was given.
        timeout: Duration,
        /// The bound.
        timeout_max: Duration,
    },
}
