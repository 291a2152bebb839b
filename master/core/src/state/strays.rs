//! Tasks that should not be: their framework uses their name for another task, on another agent.
//!
//! It takes a change of master to get there: the framework did not wait for the first agent to return before it launched the task
//! anew. The newcomer is killed and never listed, but what it holds is in the books until it has ended.

use apportion_types::{AgentId, Resources, Role};

use super::{State, tasks::TaskKey};
use crate::view::FrameworkState;

/// What such a task holds of its agent.
#[derive(Debug, Clone)]
pub(crate) struct Stray {
    pub(crate) role: Role,
    /// Without shared volumes.
    pub(crate) resources: Resources,
}

impl State {
    /// Puts a stray task into the books.
    pub(crate) fn add_stray(&mut self, agent_id: &AgentId, key: &TaskKey, stray: Stray) {
        self.list_in_allocator(&key.0);
        self.allocator.charge(&key.0, &stray.role, agent_id, &stray.resources);
        self.agent_view(agent_id).allocated += &stray.resources;
        self.framework_view(&key.0).allocated += &stray.resources.summable();
        self.framework(&key.0).holding += 1;
        self.look_who_leaves(agent_id);
        let before = self.agent(agent_id).strays.insert(key.clone(), stray);
        assert!(before.is_none(), "task {} of {} is astray twice on agent {agent_id}", key.1, key.0);
    }

    /// Takes a stray task out of the books: it has ended, or its agent has gone.
    pub(crate) fn drop_stray(&mut self, agent_id: &AgentId, key: &TaskKey) {
        let stray = self.agent(agent_id).strays.remove(key).expect("the stray is known");
        self.allocator.recover(&key.0, &stray.role, agent_id, &stray.resources, None);
        self.agent_view(agent_id).allocated.saturating_sub(&stray.resources);
        self.look_who_leaves(agent_id);
        let framework = self.framework_view(&key.0);
        framework.allocated.saturating_sub(&stray.resources.summable());
        let removed = framework.state == FrameworkState::Removed;
        self.framework(&key.0).holding -= 1;
        if removed {
            self.retire_framework(&key.0);
        }
    }

    /// Takes all stray tasks of an agent out of the books.
    pub(crate) fn drop_strays(&mut self, agent_id: &AgentId) {
        while let Some(key) = self.agents[agent_id].strays.keys().next().cloned() {
            self.drop_stray(agent_id, &key);
        }
    }
}
