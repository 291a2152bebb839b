//! Frameworks that are told what is free in the cluster.

use std::collections::BTreeSet;

use apportion_types::{
    AgentId, FrameworkId, Role,
    protocol::scheduler::{Event as SchedulerEvent, FreeAgent, FreeState},
};

use super::scheduler_stream::Caller;
use crate::{state::State, turn::Turn};

impl State {
    /// Begins to tell a framework what is free, with everything; or ends it.
    pub(super) fn watch_free(&mut self, turn: &mut Turn<'_>, caller: &Caller, on: bool) {
        let id = &caller.framework_id;
        if !on {
            return self.stop_watching_free(id);
        }
        // What changed until now is told to those who watched before, so that what follows is news to all.
        self.tell_free(turn);
        if self.free_watchers.insert(id.clone()) && self.free_watchers.len() == 1 {
            self.allocator.watch_free(true);
        }
        let all: Vec<AgentId> = self.view.agents.keys().cloned().collect();
        self.framework(id).free_version = Some(1);
        let agents = self.free_agents(id, &all).into_iter().filter(|agent| !agent.free.is_empty()).collect();
        let free = FreeState { version: 1, snapshot: true, agents };
        turn.tell_scheduler(caller.conn, SchedulerEvent::Free(free));
    }

    pub(crate) fn stop_watching_free(&mut self, id: &FrameworkId) {
        self.framework(id).free_version = None;
        if self.free_watchers.remove(id) && self.free_watchers.is_empty() {
            self.allocator.watch_free(false);
            self.free_at = None;
        }
    }

    /// Tells every watching framework what has changed.
    pub(super) fn tell_free(&mut self, turn: &mut Turn<'_>) {
        self.free_at = None;
        if self.free_watchers.is_empty() {
            return;
        }
        let changed = self.allocator.free_changes();
        if changed.is_empty() {
            return;
        }
        for id in self.free_watchers.clone() {
            let conn = self.scheduler_conn(&id).expect("only a connected framework watches");
            let agents = self.free_agents(&id, &changed);
            let version = self.framework(&id).free_version.as_mut().expect("a watcher counts");
            *version += 1;
            let free = FreeState { version: *version, snapshot: false, agents };
            turn.tell_scheduler(conn, SchedulerEvent::Free(free));
        }
    }

    /// What a framework may know to be free on some agents: what is open to one of its roles.
    fn free_agents(&self, id: &FrameworkId, agents: &[AgentId]) -> Vec<FreeAgent> {
        let roles: &BTreeSet<Role> = &self.view.frameworks[id].info.roles.iter().cloned().collect();
        let each = |agent_id: &AgentId| {
            let view = self.view.agents.get(agent_id).filter(|view| view.is_in_use());
            let free = view.map(|_| self.allocator.free(agent_id)).unwrap_or_default();
            let free = free.only(|entry| {
                entry.role().is_none_or(|kept| roles.iter().any(|role| role == kept || role.is_below(kept)))
            });
            let place = view.filter(|_| !free.is_empty()).map(|_| self.agents[agent_id].place.clone());
            FreeAgent { agent_id: agent_id.clone(), free, place }
        };
        agents.iter().map(each).collect()
    }
}
