//! Launching on what is free without having been offered it.

use std::{collections::BTreeMap, time::Duration};

use apportion_sdk::{AgentId, Context, TaskInfo, protocol::Claim};

use super::Jobs;

/// How long nothing is claimed after a claim was refused, or a task ended.
pub(super) const PAUSE: Duration = Duration::from_secs(2);

/// Tasks of one commit.
const TASKS_MAX: usize = 8;

impl Jobs {
    /// Commits tasks to whatever looks free; every other time all or nothing.
    pub(super) fn claim(&mut self, cx: &mut Context<'_>) {
        if !self.work.optimistic || !cx.is_subscribed() || cx.now() < self.claims_from {
            return;
        }
        let mut claims: BTreeMap<AgentId, Vec<TaskInfo>> = BTreeMap::new();
        let numbers: Vec<usize> = self.waiting.iter().take(TASKS_MAX).copied().collect();
        for number in &numbers {
            let agents: Vec<AgentId> = self.view.agents().map(|(agent, _)| agent.clone()).collect();
            let task = self.described(*number, Vec::new());
            let claimed = agents
                .into_iter()
                .find_map(|agent| self.view.claim(&self.work.role, &agent, vec![task.clone()]).ok());
            let Some(Claim { agent_id, tasks }) = claimed else { break };
            self.launched(*number, agent_id.clone());
            claims.entry(agent_id).or_default().extend(tasks.into_iter().flatten());
        }
        let claims: Vec<Claim> = claims
            .into_iter()
            .map(|(agent_id, tasks)| Claim { agent_id, tasks: tasks.into_iter().map(Ok).collect() })
            .collect();
        let all_or_nothing = claims.len().is_multiple_of(2);
        cx.commit(&self.work.role, claims, all_or_nothing);
    }
}
