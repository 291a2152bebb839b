//! An agent tells what became of a task.

use apportion_types::{
    AgentId, FrameworkId, Source, TaskState, TaskStatus,
    protocol::agent::{MasterMessage, RefuseCode},
};

use crate::{
    event::ConnId,
    state::{
        State,
        tasks::{Step, TaskKey},
    },
    turn::Turn,
};

impl State {
    pub(super) fn status_update(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        agent_id: &AgentId,
        framework_id: FrameworkId,
        status: TaskStatus,
        latest_state: TaskState,
    ) {
        let status = self.agent_status(agent_id, status);
        let key = (framework_id, status.task_id.clone());
        let state = if status.state.is_terminal() { status.state } else { latest_state };
        if let Err(message) = self.judge_update(agent_id, &key, &status, state) {
            return self.refuse_agent(turn, conn, RefuseCode::Invalid, message);
        }
        if self.agents[agent_id].strays.contains_key(&key) {
            if state.is_terminal() {
                self.drop_stray(agent_id, &key);
            }
            return acknowledge_for_framework(turn, conn, key, &status);
        }
        let here = self.view.tasks.get(&key).map(|task| task.agent_id == *agent_id);
        if self.is_removed(&key.0) {
            // Nobody is left to acknowledge it: the agent is released, and what the task held is free once it has ended.
            if here == Some(true) {
                self.step_task(turn, &key, Step { state, status: None, last: state.is_terminal() });
            }
            return acknowledge_for_framework(turn, conn, key, &status);
        }
        if !self.frameworks.contains_key(&key.0) {
            return; // it may yet subscribe; the agent repeats the update
        }
        let repeated = status
            .update_id
            .is_some_and(|update_id| self.completed.is_acknowledged(&key, agent_id, update_id));
        match here {
            _ if repeated => acknowledge_for_framework(turn, conn, key, &status),
            // The name is in use again on another agent, so the framework has acknowledged the end of this one.
            Some(false) => acknowledge_for_framework(turn, conn, key, &status),
            Some(true) => {
                let last = state.is_terminal() && status.update_id.is_none();
                self.step_task(turn, &key, Step { state, status: Some(status), last });
            }
            None => self.tell_status(turn, &key.0, status),
        }
    }

    /// A status as it counts: by the agent of the stream, whatever it says of itself.
    pub(super) fn agent_status(&self, agent_id: &AgentId, status: TaskStatus) -> TaskStatus {
        TaskStatus { agent_id: Some(agent_id.clone()), source: Source::Agent, ..status }
    }

    fn judge_update(
        &self,
        agent_id: &AgentId,
        key: &TaskKey,
        status: &TaskStatus,
        state: TaskState,
    ) -> Result<(), String> {
        let what = || format!("the update of task `{}` of framework {}", key.1, key.0);
        for said in [status.state, state] {
            if matches!(said, TaskState::Staging | TaskState::Unreachable | TaskState::Unknown) {
                return Err(format!("{} says {said}, which only a master can say", what()));
            }
        }
        // Only of a task that could not be reached is nothing charged, and it can only come back into what is free.
        if let Some(task) = self.view.tasks.get(key).filter(|task| task.agent_id == *agent_id)
            && task.state == TaskState::Unreachable
            && state.holds_resources()
            && !self.allocator.free(agent_id).contains(&task.info.resources.firm())
        {
            return Err(format!(
                "{} says {state}, but the agent did not name the task at registration",
                what()
            ));
        }
        Ok(())
    }
}

/// Tells the agent that an update is dealt with, in place of a framework that will not.
fn acknowledge_for_framework(turn: &mut Turn<'_>, conn: ConnId, key: TaskKey, status: &TaskStatus) {
    if let Some(update_id) = status.update_id {
        let (framework_id, task_id) = key;
        turn.tell_agent(conn, MasterMessage::AcknowledgeUpdate { framework_id, task_id, update_id });
    }
}
