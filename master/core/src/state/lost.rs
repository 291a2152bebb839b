//! What is remembered of agents that cannot be reached, or were removed: for a time, and not of too many.

use std::collections::{BTreeMap, BTreeSet};

use apportion_types::{AgentId, Time, limits};

use crate::recovered::RemovedAgent;

/// Agents that were lost, and since when.
#[derive(Debug, Default)]
pub(crate) struct LostAgents {
    /// Those that were removed; the others cannot be reached.
    removed: BTreeMap<AgentId, RemovedAgent>,
    since: BTreeMap<AgentId, Time>,
    /// The same, oldest first.
    order: BTreeSet<(Time, AgentId)>,
    /// Those of which the registry does not say since when.
    undated: BTreeSet<AgentId>,
}

impl LostAgents {
    /// How an agent was removed, if it was and that is remembered.
    pub(crate) fn removed(&self, id: &AgentId) -> Option<RemovedAgent> {
        self.removed.get(id).copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Since when an agent is lost, if it is and that is remembered.
    pub(crate) fn since(&self, id: &AgentId) -> Option<Time> {
        self.since.get(id).copied()
    }

    /// An agent cannot be reached.
    pub(crate) fn unreachable(&mut self, id: &AgentId, at: Time) {
        self.found(id);
        self.since.insert(id.clone(), at);
        self.order.insert((at, id.clone()));
    }

    /// An agent was removed. How it was said to be removed before stays.
    pub(crate) fn remove(&mut self, id: &AgentId, removed: RemovedAgent, now: Time) {
        let known = self.removed.entry(id.clone()).or_insert(removed);
        known.cause = known.cause.max(removed.cause);
        let at = *known.at.get_or_insert(now);
        self.unreachable(id, at);
    }

    /// One that an earlier master has lost.
    pub(crate) fn recover(
        &mut self,
        id: &AgentId,
        removed: Option<RemovedAgent>,
        at: Option<Time>,
        now: Time,
    ) {
        match removed {
            Some(removed) => self.remove(id, removed, now),
            None => self.unreachable(id, at.unwrap_or(now)),
        }
        if at.is_none() {
            self.undated.insert(id.clone());
        }
    }

    /// An agent is not lost any more, as far as it was only not reached.
    pub(crate) fn found(&mut self, id: &AgentId) {
        if let Some(at) = self.since.remove(id) {
            self.order.remove(&(at, id.clone()));
        }
        self.undated.remove(id);
    }

    /// Forgets an agent.
    pub(crate) fn forget(&mut self, id: &AgentId) {
        self.found(id);
        self.removed.remove(id);
    }

    /// Some of those that are to be forgotten, the oldest first.
    pub(crate) fn due(&self, now: Time) -> Vec<AgentId> {
        let too_many = self.order.len().saturating_sub(limits::LOST_AGENTS_MAX);
        let is_old = |at: Time| at + limits::LOST_AGENTS_AGE_MAX <= now;
        let due =
            self.order.iter().enumerate().take_while(|(place, (at, _))| *place < too_many || is_old(*at));
        due.map(|(_, (_, id))| id.clone()).take(limits::LOST_AGENTS_FORGOTTEN_MAX).collect()
    }

    /// Some of those of which the registry is yet to say since when, and what it is to say; not asked for again.
    pub(crate) fn take_undated(&mut self) -> Vec<AgentId> {
        let some: Vec<AgentId> =
            self.undated.iter().take(limits::LOST_AGENTS_FORGOTTEN_MAX).cloned().collect();
        some.iter().for_each(|id| _ = self.undated.remove(id));
        some
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::recovered::Cause;

    fn agent(number: usize) -> AgentId {
        AgentId::new(format!("m0-A{number:04}")).unwrap()
    }

    #[test]
    fn what_is_old_or_too_much_is_due_oldest_first_and_few_at_a_time() {
        let mut lost = LostAgents::default();
        let start = Time::ZERO + Duration::from_secs(1);
        for number in 0..limits::LOST_AGENTS_MAX + limits::LOST_AGENTS_FORGOTTEN_MAX + 1 {
            lost.unreachable(&agent(number), start + Duration::from_secs(number as u64));
        }
        let due = lost.due(start);
        assert_eq!((due.len(), &due[0]), (limits::LOST_AGENTS_FORGOTTEN_MAX, &agent(0)));
        due.iter().for_each(|id| lost.forget(id));
        assert_eq!(lost.due(start), [agent(limits::LOST_AGENTS_FORGOTTEN_MAX)]);
        lost.forget(&agent(limits::LOST_AGENTS_FORGOTTEN_MAX));
        assert!(lost.due(start).is_empty(), "as many as may be remembered");
        let oldest = limits::LOST_AGENTS_FORGOTTEN_MAX + 1;
        let its_end = start + Duration::from_secs(oldest as u64) + limits::LOST_AGENTS_AGE_MAX;
        assert_eq!(lost.due(its_end), [agent(oldest)], "it is two weeks old");
    }

    #[test]
    fn an_agent_that_was_found_is_not_forgotten_and_one_that_was_removed_twice_keeps_its_time() {
        let mut lost = LostAgents::default();
        let later = Time::ZERO + limits::LOST_AGENTS_AGE_MAX;
        lost.unreachable(&agent(1), Time::ZERO);
        lost.found(&agent(1));
        assert!(lost.due(later).is_empty() && lost.is_empty());
        lost.remove(&agent(2), RemovedAgent { at: Some(Time::ZERO), cause: Cause::Left }, Time::ZERO);
        lost.remove(&agent(2), RemovedAgent { at: Some(later), cause: Cause::Gone }, later);
        assert_eq!(lost.removed(&agent(2)), Some(RemovedAgent { at: Some(Time::ZERO), cause: Cause::Gone }));
        assert_eq!(lost.due(later), [agent(2)]);
    }
}
