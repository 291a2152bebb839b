//! For schedulers that choose for themselves: what is free in the cluster, and claims on it.

use std::{collections::BTreeMap, sync::Arc};

use apportion_types::{
    AgentId, Place, Resources, Role, TaskId, TaskInfo,
    protocol::scheduler::{Claim, ClaimResult, FreeState},
};

use crate::{DoesNotFit, offer};

/// What is free in the cluster, kept up to date by what [`Scheduler::free`](crate::Scheduler::free) is told, and planned on.
///
/// ```
/// use apportion_sdk::{FreeView, Role, Task, testing};
///
/// let mut view = FreeView::default();
/// view.apply(&testing::free(1, true, &[("agent-1", "cpus:4;cpus(eng):1"), ("agent-2", "cpus:1")]));
/// let role = Role::new("eng")?;
/// let task = Task::new("t").command(["true"]).cpus(2.0).build()?;
/// let agent_id = view.agents().next().expect("agent-1 has something free").0.clone();
/// let claim = view.claim(&role, &agent_id, vec![task])?;
/// assert_eq!(view.free(&agent_id).to_string(), "cpus:3");
/// # let _ = claim; // for Context::commit
/// view.apply(&testing::free(2, false, &[("agent-1", "")]));
/// assert!(view.free(&agent_id).is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It is a guess: what it shows may be gone when a claim reaches the master, which then names the winner. It is void once the
/// connection is lost; the driver asks anew, and a snapshot comes first.
#[derive(Debug, Clone, Default)]
pub struct FreeView {
    version: u64,
    free: BTreeMap<AgentId, Resources>,
    places: BTreeMap<AgentId, Arc<Place>>,
}

impl FreeView {
    /// Takes what was told. What was planned since is forgotten for the agents that it names.
    pub fn apply(&mut self, state: &FreeState) {
        self.version = state.version;
        if state.snapshot {
            self.free.clear();
        }
        for agent in &state.agents {
            if let Some(place) = &agent.place {
                self.places.insert(agent.agent_id.clone(), place.clone());
            }
            match agent.free.is_empty() {
                true => self.free.remove(&agent.agent_id),
                false => self.free.insert(agent.agent_id.clone(), agent.free.clone()),
            };
        }
    }

    /// The version that was applied last; 0 before the first.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Every agent that has something free, and what, in the order of ids.
    pub fn agents(&self) -> impl Iterator<Item = (&AgentId, &Resources)> {
        self.free.iter()
    }

    /// What is free on an agent.
    pub fn free(&self, agent: &AgentId) -> Resources {
        self.free.get(agent).cloned().unwrap_or_default()
    }

    /// Where an agent is.
    pub fn place(&self, agent: &AgentId) -> Option<&Place> {
        self.places.get(agent).map(|place| &**place)
    }

    /// Forgets an agent that is lost.
    pub fn forget(&mut self, agent: &AgentId) {
        self.free.remove(agent);
        self.places.remove(agent);
    }

    /// Plans tasks on what is free on an agent for a role, on terms as [`Offer::launch`](crate::Offer::launch) chooses them; fails
    /// without any change at the first that does not fit.
    pub fn claim(&mut self, role: &Role, agent: &AgentId, tasks: Vec<TaskInfo>) -> Result<Claim, DoesNotFit> {
        let mut left = self.free(agent);
        let mut planned = Vec::with_capacity(tasks.len());
        for task in tasks {
            match offer::pick(&left.open_to(role), &task.resources) {
                Ok(resources) => {
                    left.saturating_sub(&resources.exclusive());
                    planned.push(Ok(TaskInfo { resources, ..task }));
                }
                Err(missing) => {
                    let task = Box::new(task);
                    return Err(DoesNotFit { task, agent_id: agent.clone(), missing });
                }
            }
        }
        match left.is_empty() {
            true => self.free.remove(agent),
            false => self.free.insert(agent.clone(), left),
        };
        Ok(Claim { agent_id: agent.clone(), tasks: planned })
    }
}

/// What became of one claim of a [`commit`](crate::Context::commit).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claimed {
    /// The agent.
    pub agent_id: AgentId,
    /// The tasks that were claimed for.
    pub tasks: Vec<TaskId>,
    /// Whether they are launched; if not, why, and who was before.
    pub result: ClaimResult,
}
