//! Sums and names of a view, for every reader alike.

use apportion_master_core::{
    View,
    view::{AgentState, FrameworkState},
};
use apportion_types::{AgentId, Resources, Time, document::Amounts};
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
        total: sum(active.map(|agent| &agent.total)),
        allocated: sum(view.agents.values().map(|agent| &agent.allocated)),
        offered: sum(view.agents.values().map(|agent| &agent.offered)),
    }
}

/// The sum over several agents, without what does not add up: ports of different agents.
fn sum<'a>(all: impl Iterator<Item = &'a Resources>) -> Amounts {
    Amounts(all.fold(Resources::new(), |total, each| total + &each.summable()))
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
        AgentState::Recovered => "recovered",
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
