//! A framework confirms an update.

use apportion_types::{AgentId, FrameworkId, TaskId, UpdateId, protocol::agent::MasterMessage};

use crate::{state::State, turn::Turn};

impl State {
    /// Passes an acknowledgement on. The acknowledgement of a terminal update completes the task also while its agent is
    /// not connected: should the agent repeat the update, it is answered from the memory of completed tasks.
    pub(super) fn acknowledge(
        &mut self,
        turn: &mut Turn<'_>,
        framework_id: &FrameworkId,
        agent_id: &AgentId,
        task_id: TaskId,
        update_id: UpdateId,
    ) {
        let key = (framework_id.clone(), task_id);
        let conn = self.agent_conn(agent_id);
        let mut completes = false;
        let known = self.view.tasks.get(&key).map(|task| task.agent_id == *agent_id);
        if let Some(here) = known {
            let task = self.task(&key);
            let expected = task.unacknowledged.as_ref().and_then(|status| status.update_id);
            if expected != Some(update_id) || !here {
                self.view.counters.acknowledgements_ignored += 1;
                return;
            }
            let status = task.unacknowledged.take();
            completes = status.is_some_and(|status| status.state.is_terminal());
        } else if conn.is_none() {
            self.view.counters.acknowledgements_ignored += 1;
            return;
        }
        self.view.counters.acknowledgements += 1;
        if let Some(conn) = conn {
            let (framework_id, task_id) = key.clone();
            turn.tell_agent(conn, MasterMessage::AcknowledgeUpdate { framework_id, task_id, update_id });
        }
        if completes {
            self.complete_task(&key);
        }
    }
}
