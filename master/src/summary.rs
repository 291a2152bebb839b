//! Lists and sums of a view, for every reader alike.

use std::sync::Arc;

use apportion_master_core::{
    View,
    view::{AgentState, AgentView, FrameworkState, FrameworkView, OfferView, TaskView},
};
use apportion_types::{AgentId, FrameworkId, Resources, TaskId, Time, document::Amounts};
use serde::Serialize;

/// The version of this software.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Who the master is and what it counts; the document of the page `/api/v1/cluster`.
#[derive(Debug, Serialize)]
pub struct Cluster {
    /// The master's process.
    pub master_id: String,
    /// The version of this software.
    pub version: &'static str,
    /// When the master started.
    pub started_at_us: Time,
    /// Agents that are not removed.
    pub agents: usize,
    /// Frameworks that are not removed.
    pub frameworks: usize,
    /// Tasks that have not ended.
    pub tasks: usize,
    /// Outstanding offers.
    pub offers: usize,
    /// What connected agents have.
    pub total: Amounts,
    /// What tasks hold.
    pub allocated: Amounts,
    /// What is in outstanding offers.
    pub offered: Amounts,
}

pub(crate) fn cluster(view: &View) -> Cluster {
    let active = view.agents.values().filter(|agent| agent.state == AgentState::Active);
    Cluster {
        master_id: view.master_id.clone(),
        version: VERSION,
        started_at_us: view.started_at,
        agents: view.agents.len(),
        frameworks: view.frameworks.values().filter(|each| each.state != FrameworkState::Removed).count(),
        tasks: view.tasks.values().filter(|task| !task.state.is_terminal()).count(),
        offers: view.offers.len(),
        total: sum(active.map(|agent| &agent.info.resources)),
        allocated: sum(view.agents.values().map(|agent| &agent.allocated)),
        offered: sum(view.agents.values().map(|agent| &agent.offered)),
    }
}

/// The sum over several agents, without what does not add up: ports of different agents.
fn sum<'a>(all: impl Iterator<Item = &'a Resources>) -> Amounts {
    Amounts(all.fold(Resources::new(), |total, each| total + &each.summable()))
}

/// Every agent, in the order of registration.
pub(crate) fn agents(view: &View) -> Vec<&AgentView> {
    let mut agents: Vec<&AgentView> = view.agents.values().map(Arc::as_ref).collect();
    agents.sort_by_key(|agent| agent.registered_at);
    agents
}

/// Every framework, in the order of subscription.
pub(crate) fn frameworks(view: &View) -> Vec<&FrameworkView> {
    let mut frameworks: Vec<&FrameworkView> = view.frameworks.values().map(Arc::as_ref).collect();
    frameworks.sort_by_key(|framework| framework.subscribed_at);
    frameworks
}

/// Every outstanding offer, in the order made.
pub(crate) fn offers(view: &View) -> Vec<&OfferView> {
    let mut offers: Vec<&OfferView> = view.offers.values().map(Arc::as_ref).collect();
    offers.sort_by_key(|offer| offer.made_at);
    offers
}

/// Which tasks are listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskFilter {
    /// Only of this framework.
    pub(crate) framework_id: Option<FrameworkId>,
    /// Only of this name.
    pub(crate) task_id: Option<TaskId>,
    /// Also those that have ended.
    pub(crate) completed: bool,
}

/// Tasks, in the order of acceptance.
pub(crate) fn tasks<'a>(view: &'a View, filter: &TaskFilter) -> Vec<&'a TaskView> {
    let wanted = |task: &TaskView| {
        filter.framework_id.as_ref().is_none_or(|id| *id == task.framework_id)
            && filter.task_id.as_ref().is_none_or(|id| *id == task.info.task_id)
            && (filter.completed || !task.state.is_terminal())
    };
    let completed = view.completed.values().filter(|_| filter.completed);
    let mut tasks: Vec<&TaskView> =
        completed.chain(view.tasks.values()).map(Arc::as_ref).filter(|task| wanted(task)).collect();
    tasks.sort_by_key(|task| task.accepted_at);
    tasks
}

/// `host:port` of the services of an agent; empty when it is removed.
pub(crate) fn agent_address<'a>(view: &'a View, agent_id: &AgentId) -> &'a str {
    view.agents.get(agent_id).map_or("", |agent| &agent.info.address)
}

/// The name of an agent's state.
pub(crate) fn agent_state(state: AgentState) -> &'static str {
    match state {
        AgentState::Active => "active",
        AgentState::Disconnected => "disconnected",
        AgentState::Unreachable => "unreachable",
    }
}

/// The name of a framework's state.
pub(crate) fn framework_state(state: FrameworkState) -> &'static str {
    match state {
        FrameworkState::Active => "active",
        FrameworkState::Disconnected => "disconnected",
        FrameworkState::Removed => "removed",
    }
}
