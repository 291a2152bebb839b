//! The JSON documents: a public interface of their own, so that neither the wire's nor the core's types may change them.
//!
//! Times are microseconds since the Unix epoch. Resources stand both as the text that every tool reads and as numbers.
//! Environment variables of tasks are named without their values, which may be secrets.

use std::collections::BTreeMap;

use apportion_master_core::{
    View,
    view::{AgentState, AgentView, FrameworkState, FrameworkView, OfferView, TaskView},
};
use apportion_types::{
    ContainerStatus, Resources, TaskStatus,
    container::{Exit, Limitation},
};
use serde::Serialize;

use crate::summary::{self, TaskFilter};

/// Amounts of resources.
#[derive(Debug, Serialize)]
pub(super) struct Amounts {
    /// All of them, such as `cpus:2;mem:1024;ports:[31000-32000]`.
    text: String,
    /// The scalars: cpus in processors, mem and disk in MiB.
    scalars: BTreeMap<String, f64>,
}

impl From<&Resources> for Amounts {
    fn from(resources: &Resources) -> Self {
        let scalars =
            resources.scalars().map(|(name, milli)| (name.to_string(), milli as f64 / 1000.0)).collect();
        Self { text: resources.to_string(), scalars }
    }
}

/// `/api/v1/state`.
#[derive(Debug, Serialize)]
pub(super) struct StateDocument {
    cluster: Cluster,
    agents: Vec<Agent>,
    frameworks: Vec<Framework>,
    tasks: Vec<Task>,
    offers: Vec<Offer>,
}

/// `/api/v1/cluster`.
#[derive(Debug, Serialize)]
pub(super) struct Cluster {
    master_id: String,
    version: &'static str,
    started_at_us: u64,
    agents: usize,
    frameworks: usize,
    tasks: usize,
    offers: usize,
    total: Amounts,
    allocated: Amounts,
    offered: Amounts,
}

/// One of `/api/v1/agents`.
#[derive(Debug, Serialize)]
pub(super) struct Agent {
    agent_id: String,
    hostname: String,
    address: String,
    state: &'static str,
    version: String,
    registered_at_us: u64,
    attributes: BTreeMap<String, String>,
    /// Controls that it cannot enforce, and why.
    unenforced: BTreeMap<&'static str, String>,
    total: Amounts,
    allocated: Amounts,
    offered: Amounts,
    tasks: usize,
}

/// One of `/api/v1/frameworks`.
#[derive(Debug, Serialize)]
pub(super) struct Framework {
    framework_id: String,
    name: String,
    principal: String,
    state: &'static str,
    roles: Vec<String>,
    suppressed_roles: Vec<String>,
    failover_timeout_ms: u64,
    subscribed_at_us: u64,
    labels: BTreeMap<String, String>,
    allocated: Amounts,
    offered: Amounts,
    tasks: usize,
    /// Why it declined offers, and how often.
    declined: BTreeMap<String, u64>,
}

/// One of `/api/v1/tasks`.
#[derive(Debug, Serialize)]
pub(super) struct Task {
    task_id: String,
    name: String,
    framework_id: String,
    agent_id: String,
    /// `host:port` of its agent's services; empty when the agent is removed.
    agent_address: String,
    role: String,
    state: &'static str,
    accepted_at_us: u64,
    argv: Vec<String>,
    /// Names only.
    env: Vec<String>,
    resources: Amounts,
    limits: Amounts,
    pids_max: Option<u64>,
    kill_grace_ms: Option<u64>,
    labels: BTreeMap<String, String>,
    status: Option<Status>,
}

/// The newest status of a task.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    state: &'static str,
    reason: Option<&'static str>,
    source: &'static str,
    message: String,
    at_us: u64,
    container: Option<Container>,
}

/// How a container ended.
#[derive(Debug, Serialize)]
pub(super) struct Container {
    exit_code: Option<i32>,
    exit_signal: Option<i32>,
    memory_limit_exceeded_bytes: Option<u64>,
    cpu_us: u64,
    memory_peak_bytes: Option<u64>,
    started_at_us: u64,
    finished_at_us: u64,
}

/// One of `/api/v1/offers`.
#[derive(Debug, Serialize)]
pub(super) struct Offer {
    offer_id: String,
    framework_id: String,
    agent_id: String,
    hostname: String,
    role: String,
    resources: Amounts,
    made_at_us: u64,
    expires_at_us: u64,
}

pub(super) fn state(view: &View) -> StateDocument {
    StateDocument {
        cluster: cluster(view),
        agents: agents(view),
        frameworks: frameworks(view),
        tasks: tasks(view, &TaskFilter { completed: true, ..TaskFilter::default() }),
        offers: offers(view),
    }
}

pub(super) fn cluster(view: &View) -> Cluster {
    let cluster = summary::cluster(view);
    Cluster {
        master_id: cluster.master_id,
        version: cluster.version,
        started_at_us: cluster.started_at.as_micros(),
        agents: cluster.agents,
        frameworks: cluster.frameworks,
        tasks: cluster.tasks,
        offers: cluster.offers,
        total: (&cluster.total).into(),
        allocated: (&cluster.allocated).into(),
        offered: (&cluster.offered).into(),
    }
}

pub(super) fn agents(view: &View) -> Vec<Agent> {
    summary::agents(view).into_iter().map(agent).collect()
}

pub(super) fn frameworks(view: &View) -> Vec<Framework> {
    summary::frameworks(view).into_iter().map(framework).collect()
}

pub(super) fn tasks(view: &View, filter: &TaskFilter) -> Vec<Task> {
    summary::tasks(view, filter).into_iter().map(|each| task(view, each)).collect()
}

pub(super) fn offers(view: &View) -> Vec<Offer> {
    summary::offers(view).into_iter().map(offer).collect()
}

fn agent(agent: &AgentView) -> Agent {
    let unenforced = &agent.info.unenforced;
    Agent {
        agent_id: agent.agent_id.to_string(),
        hostname: agent.info.hostname.clone(),
        address: agent.info.address.clone(),
        state: match agent.state {
            AgentState::Active => "active",
            AgentState::Disconnected => "disconnected",
            AgentState::Unreachable => "unreachable",
        },
        version: agent.info.version.clone(),
        registered_at_us: agent.registered_at.as_micros(),
        attributes: agent.info.attributes.clone(),
        unenforced: unenforced.iter().map(|each| (each.control.name(), each.reason.clone())).collect(),
        total: (&agent.info.resources).into(),
        allocated: (&agent.allocated).into(),
        offered: (&agent.offered).into(),
        tasks: agent.tasks,
    }
}

fn framework(framework: &FrameworkView) -> Framework {
    Framework {
        framework_id: framework.framework_id.to_string(),
        name: framework.info.name.clone(),
        principal: framework.info.principal.clone(),
        state: match framework.state {
            FrameworkState::Active => "active",
            FrameworkState::Disconnected => "disconnected",
            FrameworkState::Removed => "removed",
        },
        roles: framework.info.roles.iter().map(ToString::to_string).collect(),
        suppressed_roles: framework.suppressed.iter().map(ToString::to_string).collect(),
        failover_timeout_ms: millis(framework.info.failover_timeout),
        subscribed_at_us: framework.subscribed_at.as_micros(),
        labels: framework.info.labels.clone(),
        allocated: (&framework.allocated).into(),
        offered: (&framework.offered).into(),
        tasks: framework.tasks,
        declined: framework.declined.clone(),
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn task(view: &View, task: &TaskView) -> Task {
    let info = &task.info;
    Task {
        task_id: info.task_id.to_string(),
        name: info.name.clone(),
        framework_id: task.framework_id.to_string(),
        agent_id: task.agent_id.to_string(),
        agent_address: summary::agent_address(view, &task.agent_id).to_owned(),
        role: task.role.to_string(),
        state: task.state.name(),
        accepted_at_us: task.accepted_at.as_micros(),
        argv: info.command.argv.clone(),
        env: info.command.env.keys().cloned().collect(),
        resources: (&info.resources).into(),
        limits: (&info.limits).into(),
        pids_max: info.pids_max,
        kill_grace_ms: info.kill_grace.map(millis),
        labels: info.labels.clone(),
        status: task.status.as_ref().map(status),
    }
}

fn status(status: &TaskStatus) -> Status {
    Status {
        state: status.state.name(),
        reason: status.reason.map(|reason| reason.name()),
        source: match status.source {
            apportion_types::Source::Master => "master",
            apportion_types::Source::Agent => "agent",
        },
        message: status.message.clone(),
        at_us: status.at.as_micros(),
        container: status.container.as_ref().map(container),
    }
}

fn container(container: &ContainerStatus) -> Container {
    let (exit_code, exit_signal) = match container.exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    Container {
        exit_code,
        exit_signal,
        memory_limit_exceeded_bytes: container
            .limitation
            .map(|Limitation::Memory { limit_bytes }| limit_bytes),
        cpu_us: container.usage.cpu_us,
        memory_peak_bytes: container.usage.memory_peak_bytes,
        started_at_us: container.started_at.as_micros(),
        finished_at_us: container.finished_at.as_micros(),
    }
}

fn offer(offer: &OfferView) -> Offer {
    Offer {
        offer_id: offer.offer.offer_id.to_string(),
        framework_id: offer.offer.framework_id.to_string(),
        agent_id: offer.offer.agent_id.to_string(),
        hostname: offer.offer.hostname.clone(),
        role: offer.offer.role.to_string(),
        resources: (&offer.offer.resources).into(),
        made_at_us: offer.made_at.as_micros(),
        expires_at_us: offer.expires_at.as_micros(),
    }
}
