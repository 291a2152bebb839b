//! What operators and their tools ask a master: lists, watches, explanations, changes.

mod maintenance;
mod pages;
mod watch;
mod wishes;

use std::{collections::BTreeMap, time::Duration};

use apportion_proto::v1::{self, operator_service_client::OperatorServiceClient};
use apportion_types::{
    Activation, AgentId, AgentInfo, Drain, FrameworkId, FrameworkInfo, FrameworkOptions, OfferId, Resources,
    Role, TaskId, TaskInfo, TaskState, TaskStatus, Time, Unavailability,
    convert::{ConvertError, activation, resources_sum, task_state},
    protocol::LEADERS_FOLLOWED_MAX,
    text::chain,
};
use tokio::task::JoinSet;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::address::{describe, endpoints, leader};

pub use self::{
    pages::Page,
    watch::{Change, Position, Told, Watch, Watched},
    wishes::{Quota, RoleChange},
};

/// The largest answer that is taken: a page with the largest entry that there may be.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long one of several masters may take to say whether it leads.
const LEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take: masters answer from memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to a master, for reading what it knows and for an operator's wishes. Cheap to clone; reconnects by itself.
#[derive(Debug, Clone)]
pub struct Operator {
    client: OperatorServiceClient<Channel>,
    /// Without a bound on how long an answer takes.
    watching: OperatorServiceClient<Channel>,
    address: String,
}

/// Why a question to a master has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// The master's address is not one.
    #[error("`{address}` is not the address of a master: {why}; use `host:port` or `http://host:port`")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The master cannot be reached.
    #[error("no master answers at {address} ({why}); is one running there? `apportion dev` starts one")]
    Connect {
        /// Its address.
        address: String,
        /// How it failed.
        why: String,
    },
    /// What was named does not exist.
    #[error("{message}")]
    NotFound {
        /// The master's words.
        message: String,
    },
    /// The master refused, or the connection broke.
    #[error("{call} at the master at {address} failed: {message}")]
    Failed {
        /// What was asked.
        call: &'static str,
        /// The master.
        address: String,
        /// How it failed.
        message: String,
    },
    /// The answer cannot be understood: the master is of another version.
    #[error(
        "{call}: the answer of the master at {address} was not understood: {source}; are both of one version?"
    )]
    Malformed {
        /// What was asked.
        call: &'static str,
        /// The master.
        address: String,
        /// What is wrong with it.
        source: ConvertError,
    },
}

/// Why one address leads to no leader.
struct NoLeader {
    /// A master answered.
    said: bool,
    error: OperatorError,
}

/// Who the master is and what it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cluster {
    /// Names the master's process.
    pub master_id: String,
    /// The version of its software.
    pub version: String,
    /// When it started.
    pub started_at: Time,
    /// Agents that it knows.
    pub agents: u64,
    /// Frameworks that it knows.
    pub frameworks: u64,
    /// Tasks that have not ended.
    pub tasks: u64,
    /// Outstanding offers.
    pub offers: u64,
    /// Of all connected agents; numbers only, as in the next two.
    pub total: Resources,
    /// Of tasks that hold resources.
    pub allocated: Resources,
    /// In outstanding offers.
    pub offered: Resources,
}

/// An agent as the master sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentSummary {
    /// Its id.
    pub agent_id: AgentId,
    /// As it describes itself.
    pub info: AgentInfo,
    /// Whether it takes part.
    pub state: AgentState,
    /// Whether an operator lets it be offered.
    pub activation: Activation,
    /// When it was registered first.
    pub registered_at: Time,
    /// What it has now: what it says of itself, as operations have changed it.
    pub total: Resources,
    /// What it lends beside that.
    pub revocable: Resources,
    /// Held by tasks.
    pub allocated: Resources,
    /// In outstanding offers.
    pub offered: Resources,
    /// Tasks that have not ended.
    pub tasks: u64,
}

/// Whether an agent takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AgentState {
    /// Connected; its resources are offered.
    Active,
    /// Its connection ended; its tasks are believed to run.
    Disconnected,
    /// It did not return in time.
    Unreachable,
    /// An earlier master knew it, and it has not returned to this one yet; its tasks are believed to run.
    Recovered,
}

/// A framework as the master sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameworkSummary {
    /// Its id.
    pub framework_id: FrameworkId,
    /// As it describes itself.
    pub info: FrameworkInfo,
    /// Whether it takes part.
    pub state: FrameworkState,
    /// When it subscribed first.
    pub subscribed_at: Time,
    /// Roles for which it wants no offers.
    pub suppressed_roles: Vec<Role>,
    /// Held by its tasks.
    pub allocated: Resources,
    /// In its outstanding offers.
    pub offered: Resources,
    /// Tasks that have not ended.
    pub tasks: u64,
    /// How often it declined, by the reasons that it gave.
    pub declined: BTreeMap<String, u64>,
    /// What it wishes of offers.
    pub options: FrameworkOptions,
}

/// Whether a framework takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameworkState {
    /// Subscribed.
    Active,
    /// Its failover time-out is running.
    Disconnected,
    /// Torn down or timed out.
    Removed,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Only of this framework.
    pub framework_id: Option<FrameworkId>,
    /// Only of this name.
    pub task_id: Option<TaskId>,
    /// Also tasks that have ended, as far as the master remembers them.
    pub completed: bool,
}

/// A task as the master sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskSummary {
    /// Its framework.
    pub framework_id: FrameworkId,
    /// Its agent.
    pub agent_id: AgentId,
    /// The role whose resources it holds.
    pub role: Role,
    /// As its framework describes it.
    pub info: TaskInfo,
    /// Its state.
    pub state: TaskState,
    /// The newest status; none before the first.
    pub status: Option<TaskStatus>,
    /// When its accept was taken.
    pub accepted_at: Time,
    /// `host:port` of its agent's services, such as [`sandbox`](crate::sandbox).
    pub agent_address: String,
}

/// An outstanding offer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OfferSummary {
    /// Its id.
    pub offer_id: OfferId,
    /// To whom.
    pub framework_id: FrameworkId,
    /// Whose resources.
    pub agent_id: AgentId,
    /// The agent's host.
    pub hostname: String,
    /// For which role.
    pub role: Role,
    /// What is offered.
    pub resources: Resources,
    /// When it was made.
    pub made_at: Time,
    /// When it will be rescinded by itself.
    pub expires_at: Time,
    /// When the agent's machine is to be taken away, if that is planned.
    pub unavailability: Option<Unavailability>,
}

impl Operator {
    /// Connects to the master at `host:port` or `http://host:port`, or of several with commas between them to the one that leads. All are
    /// asked at once; one that stands by is left for the one that it names.
    pub async fn connect(address: &str) -> Result<Self, OperatorError> {
        let masters = endpoints(address).map_err(|(address, why)| OperatorError::Address { address, why })?;
        // The only one is waited for as long as for any answer.
        let patience = if masters.len() == 1 { ANSWER_TIMEOUT } else { LEADER_TIMEOUT };
        let mut asked = JoinSet::new();
        for (address, endpoint) in masters {
            asked.spawn(Self::led(address, endpoint, patience));
        }
        let mut failed: Option<NoLeader> = None;
        while let Some(answer) = asked.join_next().await {
            match answer.expect("asking a master does not panic") {
                Ok(operator) => return Ok(operator),
                // What a master says tells more than that there is none at another address.
                Err(other) if failed.as_ref().is_none_or(|known| other.said && !known.said) => {
                    failed = Some(other)
                }
                Err(_) => {}
            }
        }
        Err(failed.expect("a list of addresses has one at least").error)
    }

    /// Connects to a master, or to the one that leads by its word.
    async fn led(mut address: String, mut endpoint: Endpoint, patience: Duration) -> Result<Self, NoLeader> {
        const CALL: &str = "asking for the leader";
        let mut followed = 0;
        loop {
            let operator =
                Self::to(address, endpoint).await.map_err(|error| NoLeader { said: false, error })?;
            let mut client = operator.client.clone();
            let asked = client.get_cluster(v1::GetClusterRequest {});
            let (said, status) = match tokio::time::timeout(patience, asked).await {
                Ok(Err(status)) if status.code() == Code::Unavailable => (true, status),
                // Whatever else is wrong is said to whoever asks for something.
                Ok(_) => return Ok(operator),
                Err(_) => {
                    (false, Status::deadline_exceeded(format!("there was no answer within {patience:?}")))
                }
            };
            match leader(&status) {
                Some(leads) if followed < LEADERS_FOLLOWED_MAX => (address, endpoint) = leads,
                _ => return Err(NoLeader { said, error: operator.failed(CALL, &status) }),
            }
            followed += 1;
        }
    }

    async fn to(address: String, endpoint: Endpoint) -> Result<Self, OperatorError> {
        let watching = endpoint.connect_lazy();
        let channel = match endpoint.timeout(ANSWER_TIMEOUT).connect().await {
            Ok(channel) => channel,
            Err(error) => return Err(OperatorError::Connect { address, why: chain(&error) }),
        };
        let client =
            |channel| OperatorServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { client: client(channel), watching: client(watching), address })
    }

    /// Who the master is and what it counts.
    pub async fn cluster(&self) -> Result<Cluster, OperatorError> {
        const CALL: &str = "asking for the cluster";
        let answer = self.client.clone().get_cluster(v1::GetClusterRequest {}).await;
        let wire = answer.map_err(|status| self.failed(CALL, &status))?.into_inner();
        self.understood(CALL, Cluster::try_from(wire))
    }

    /// Asks for a task to end, after `grace` or its own grace when none. Needs the framework only when several have a task of
    /// this name; names it. Returns when the wish is recorded, not when the task has ended.
    pub async fn kill(
        &self,
        framework_id: Option<&FrameworkId>,
        task_id: &TaskId,
        grace: Option<Duration>,
    ) -> Result<FrameworkId, OperatorError> {
        const CALL: &str = "killing a task";
        let request = v1::KillTaskRequest {
            framework_id: framework_id.map(ToString::to_string),
            task_id: task_id.to_string(),
            grace_ms: grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)),
        };
        let answer = self.client.clone().kill_task(request).await;
        let wire = answer.map_err(|status| self.failed(CALL, &status))?.into_inner();
        self.understood(CALL, id("framework_id", &wire.framework_id))
    }

    /// Has nothing of an agent offered any more; its tasks run on. Returns when that is written.
    pub async fn deactivate_agent(&self, agent_id: &AgentId) -> Result<(), OperatorError> {
        let request = v1::DeactivateAgentRequest { agent_id: agent_id.to_string() };
        match self.client.clone().deactivate_agent(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(self.failed("deactivating an agent", &status)),
        }
    }

    /// Has an agent offered again that was deactivated or is drained. Returns when that is written.
    pub async fn reactivate_agent(&self, agent_id: &AgentId) -> Result<(), OperatorError> {
        let request = v1::ReactivateAgentRequest { agent_id: agent_id.to_string() };
        match self.client.clone().reactivate_agent(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(self.failed("reactivating an agent", &status)),
        }
    }

    /// Has nothing of an agent offered any more, and its tasks killed, now or when it returns. Returns when that is written, not when the
    /// agent is drained: its [`AgentSummary::activation`] says so then.
    pub async fn drain_agent(&self, agent_id: &AgentId, drain: Drain) -> Result<(), OperatorError> {
        let request = v1::DrainAgentRequest { agent_id: agent_id.to_string(), drain: Some(drain.into()) };
        match self.client.clone().drain_agent(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(self.failed("draining an agent", &status)),
        }
    }

    /// Declares an agent gone for ever. Returns when that is written.
    pub async fn mark_agent_gone(&self, agent_id: &AgentId) -> Result<(), OperatorError> {
        let request = v1::MarkAgentGoneRequest { agent_id: agent_id.to_string() };
        match self.client.clone().mark_agent_gone(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(self.failed("declaring an agent gone", &status)),
        }
    }

    /// Ends a framework for ever and kills its tasks. Returns when that is recorded.
    pub async fn teardown(&self, framework_id: &FrameworkId) -> Result<(), OperatorError> {
        let request = v1::TeardownFrameworkRequest { framework_id: framework_id.to_string() };
        match self.client.clone().teardown_framework(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(self.failed("tearing a framework down", &status)),
        }
    }

    fn failed(&self, call: &'static str, status: &Status) -> OperatorError {
        let (address, message) = (self.address.clone(), describe(status));
        match status.code() {
            Code::NotFound => OperatorError::NotFound { message },
            Code::Unavailable => OperatorError::Connect { address, why: message },
            _ => OperatorError::Failed { call, address, message },
        }
    }

    fn understood<T>(&self, call: &'static str, answer: Result<T, ConvertError>) -> Result<T, OperatorError> {
        answer.map_err(|source| OperatorError::Malformed { call, address: self.address.clone(), source })
    }
}

fn all<W, T: TryFrom<W, Error = ConvertError>>(field: &str, wire: Vec<W>) -> Result<Vec<T>, ConvertError> {
    let each =
        |(index, wire)| T::try_from(wire).map_err(|error| error.within(format_args!("{field}[{index}]")));
    wire.into_iter().enumerate().map(each).collect()
}

fn id<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, ConvertError> {
    text.parse().map_err(|error| ConvertError::new(field, error))
}

/// A part that must be there.
fn part<W, T: TryFrom<W, Error = ConvertError>>(field: &str, wire: Option<W>) -> Result<T, ConvertError> {
    let wire = wire.ok_or_else(|| ConvertError::new(field, "is missing"))?;
    T::try_from(wire).map_err(|error| error.within(field))
}

/// Resources; absent ones are none.
fn amounts(field: &str, wire: Option<v1::Resources>) -> Result<Resources, ConvertError> {
    wire.map_or_else(|| Ok(Resources::new()), |wire| part(field, Some(wire)))
}

/// Resources of many agents or tasks together; absent ones are none.
fn sum(field: &str, wire: Option<v1::Resources>) -> Result<Resources, ConvertError> {
    resources_sum(wire.unwrap_or_default()).map_err(|error| error.within(field))
}

fn roles(field: &str, wire: &[String]) -> Result<Vec<Role>, ConvertError> {
    wire.iter().map(|text| id(field, text)).collect()
}

impl TryFrom<v1::GetClusterResponse> for Cluster {
    type Error = ConvertError;

    fn try_from(wire: v1::GetClusterResponse) -> Result<Self, ConvertError> {
        Ok(Self {
            master_id: wire.master_id,
            version: wire.version,
            started_at: Time::from_micros(wire.started_at_us),
            agents: wire.agents,
            frameworks: wire.frameworks,
            tasks: wire.tasks,
            offers: wire.offers,
            total: sum("total", wire.total)?,
            allocated: sum("allocated", wire.allocated)?,
            offered: sum("offered", wire.offered)?,
        })
    }
}

impl TryFrom<v1::AgentSummary> for AgentSummary {
    type Error = ConvertError;

    fn try_from(wire: v1::AgentSummary) -> Result<Self, ConvertError> {
        let state = match wire.state() {
            v1::AgentState::Active => AgentState::Active,
            v1::AgentState::Disconnected => AgentState::Disconnected,
            v1::AgentState::Unreachable => AgentState::Unreachable,
            v1::AgentState::Recovered => AgentState::Recovered,
            v1::AgentState::Unspecified => return Err(unknown("state", wire.state)),
        };
        Ok(Self {
            agent_id: id("agent_id", &wire.agent_id)?,
            info: part("info", wire.info)?,
            state,
            activation: activation(wire.activation, wire.drain)?,
            registered_at: Time::from_micros(wire.registered_at_us),
            total: amounts("total", wire.total)?,
            revocable: amounts("revocable", wire.revocable)?,
            allocated: amounts("allocated", wire.allocated)?,
            offered: amounts("offered", wire.offered)?,
            tasks: wire.tasks,
        })
    }
}

impl TryFrom<v1::FrameworkSummary> for FrameworkSummary {
    type Error = ConvertError;

    fn try_from(wire: v1::FrameworkSummary) -> Result<Self, ConvertError> {
        let state = match wire.state() {
            v1::FrameworkState::Active => FrameworkState::Active,
            v1::FrameworkState::Disconnected => FrameworkState::Disconnected,
            v1::FrameworkState::Removed => FrameworkState::Removed,
            v1::FrameworkState::Unspecified => return Err(unknown("state", wire.state)),
        };
        Ok(Self {
            framework_id: id("framework_id", &wire.framework_id)?,
            info: part("info", wire.info)?,
            state,
            subscribed_at: Time::from_micros(wire.subscribed_at_us),
            suppressed_roles: roles("suppressed_roles", &wire.suppressed_roles)?,
            allocated: sum("allocated", wire.allocated)?,
            offered: sum("offered", wire.offered)?,
            tasks: wire.tasks,
            declined: wire.declined.into_iter().collect(),
            options: wire
                .options
                .map_or_else(|| Ok(FrameworkOptions::default()), |options| part("options", Some(options)))?,
        })
    }
}

impl TryFrom<v1::TaskSummary> for TaskSummary {
    type Error = ConvertError;

    fn try_from(wire: v1::TaskSummary) -> Result<Self, ConvertError> {
        Ok(Self {
            framework_id: id("framework_id", &wire.framework_id)?,
            agent_id: id("agent_id", &wire.agent_id)?,
            role: id("role", &wire.role)?,
            info: part("info", wire.info)?,
            state: task_state("state", wire.state)?,
            status: wire.status.map(|status| part("status", Some(status))).transpose()?,
            accepted_at: Time::from_micros(wire.accepted_at_us),
            agent_address: wire.agent_address,
        })
    }
}

impl TryFrom<v1::OfferSummary> for OfferSummary {
    type Error = ConvertError;

    fn try_from(wire: v1::OfferSummary) -> Result<Self, ConvertError> {
        let offer: apportion_types::Offer = part("offer", wire.offer)?;
        Ok(Self {
            offer_id: offer.offer_id,
            framework_id: offer.framework_id,
            agent_id: offer.agent_id,
            hostname: offer.place.hostname.clone(),
            role: offer.role,
            resources: offer.resources,
            made_at: Time::from_micros(wire.made_at_us),
            expires_at: Time::from_micros(wire.expires_at_us),
            unavailability: offer.unavailability,
        })
    }
}

fn unknown(field: &str, number: i32) -> ConvertError {
    ConvertError::new(field, format_args!("{number} is not a state known here"))
}
