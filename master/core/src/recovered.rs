//! What a registry keeps of agents and frameworks, and a new master knows from the start.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use apportion_types::{Activation, AgentId, AgentInfo, FrameworkId, FrameworkInfo, Time, limits};

use crate::{
    action::RegistryOp,
    handle::judge_info,
    maintenance::Maintenance,
    state::ids::{Ids, Origin},
};

/// Agents and frameworks of earlier masters, as their registry has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Agents that take part.
    pub agents: BTreeMap<AgentId, RecoveredAgent>,
    /// Agents that were removed, until they are forgotten; their ids are refused.
    pub removed_agents: BTreeMap<AgentId, RemovedAgent>,
    /// Frameworks that take part.
    pub frameworks: BTreeMap<FrameworkId, FrameworkInfo>,
    /// Ids of frameworks that were removed; refused for ever.
    pub removed_frameworks: BTreeSet<FrameworkId>,
    /// What is planned of maintenance.
    pub maintenance: Maintenance,
}

/// An agent as a registry keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredAgent {
    /// As it described itself last.
    pub info: AgentInfo,
    /// It did not return in time.
    pub unreachable: bool,
    /// Since when, where that is known.
    pub unreachable_at: Option<Time>,
    /// Whether an operator lets it be offered.
    pub activation: Activation,
}

impl RecoveredAgent {
    /// One that takes part and may be offered.
    pub fn new(info: AgentInfo) -> Self {
        Self { info, unreachable: false, unreachable_at: None, activation: Activation::Active }
    }
}

/// An agent that was removed, as a registry keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemovedAgent {
    /// When; none when nobody knows.
    pub at: Option<Time>,
    /// How that came.
    pub cause: Cause,
}

/// How an agent came to be removed. Of two that are said of one agent the later here counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Cause {
    /// It has unregistered, or never heard its id.
    #[default]
    Left,
    /// Its machine was taken down for maintenance: what runs of it, should it return, is to end, and it may take part anew.
    TakenDown,
    /// An operator has declared it gone.
    Gone,
}

impl Cause {
    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Left => "removed",
            Cause::TakenDown => "taken down",
            Cause::Gone => "gone",
        }
    }
}

impl Recovered {
    /// Makes one change; what is set for roles is kept elsewhere. What is removed stays so: an admission of a removed id changes nothing.
    pub fn apply(&mut self, op: RegistryOp) {
        match op {
            RegistryOp::AdmitAgent { agent_id, info } => {
                if !self.removed_agents.contains_key(&agent_id) {
                    let activation = self.agents.get(&agent_id).map(|agent| agent.activation);
                    let activation = activation.unwrap_or_default();
                    self.agents.insert(agent_id, RecoveredAgent { activation, ..RecoveredAgent::new(info) });
                }
            }
            RegistryOp::MarkUnreachable { agent_id, at } => {
                if let Some(agent) = self.agents.get_mut(&agent_id) {
                    agent.unreachable = true;
                    agent.unreachable_at = agent.unreachable_at.or(at);
                }
            }
            RegistryOp::RemoveAgent { agent_id, removed } => {
                self.agents.remove(&agent_id);
                let known = self.removed_agents.entry(agent_id).or_insert(removed);
                known.at = known.at.or(removed.at);
                known.cause = known.cause.max(removed.cause);
            }
            RegistryOp::SetActivation { agent_id, activation } => {
                if let Some(agent) = self.agents.get_mut(&agent_id) {
                    agent.activation = activation;
                }
            }
            RegistryOp::ForgetAgent { agent_id } => {
                self.agents.remove(&agent_id);
                self.removed_agents.remove(&agent_id);
            }
            RegistryOp::AdmitFramework { framework_id, info } => {
                if !self.removed_frameworks.contains(&framework_id) {
                    self.frameworks.insert(framework_id, info);
                }
            }
            RegistryOp::RemoveFramework { framework_id } => {
                self.frameworks.remove(&framework_id);
                self.removed_frameworks.insert(framework_id);
            }
            RegistryOp::ForgetFramework { framework_id } => _ = self.removed_frameworks.remove(&framework_id),
            RegistryOp::SetMaintenance { maintenance } => {
                self.maintenance = Arc::unwrap_or_clone(maintenance)
            }
            RegistryOp::SetRole { .. } => {}
        }
    }

    /// Why no master of this name can have found this in its registry, if none can.
    pub fn judge(&self, master_id: &str) -> Result<(), String> {
        let ids = Ids::new(master_id);
        let of_agents = self.agents.keys().chain(self.removed_agents.keys());
        if let Some(id) = of_agents.into_iter().find(|id| ids.agent_origin(id) != Origin::Foreign) {
            return Err(format!("agent {id} has an id that master {master_id} is yet to give"));
        }
        let of_frameworks = self.frameworks.keys().chain(&self.removed_frameworks);
        if let Some(id) = of_frameworks.into_iter().find(|id| ids.framework_origin(id) != Origin::Foreign) {
            return Err(format!("framework {id} has an id that master {master_id} is yet to give"));
        }
        if let Some(id) = self.agents.keys().find(|id| self.removed_agents.contains_key(id)) {
            return Err(format!("agent {id} takes part and is removed"));
        }
        if let Some(id) = self.frameworks.keys().find(|id| self.removed_frameworks.contains(id)) {
            return Err(format!("framework {id} takes part and is removed"));
        }
        for (id, info) in &self.frameworks {
            judge_info(info, &[]).map_err(|why| format!("framework {id}: {why}"))?;
        }
        self.maintenance.judge()
    }

    /// How many agents are awaited: those that took part when the earlier master was last heard of.
    pub(crate) fn awaited(&self) -> usize {
        self.agents.values().filter(|agent| !agent.unreachable).count()
    }
}

/// How many agents that did not return are given up at once, of so many that were awaited.
pub(crate) fn given_up_at_once(awaited: usize) -> usize {
    (awaited / limits::RECOVERED_AGENTS_GIVEN_UP_PART).max(1)
}
