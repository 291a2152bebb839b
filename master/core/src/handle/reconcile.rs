//! A framework asks what is known of its tasks.

use apportion_types::{AgentId, Reason, TaskId, TaskState, TaskStatus, limits, protocol::scheduler::Refusal};

use super::scheduler_stream::Caller;
use crate::{
    recovered::Cause,
    state::{State, ids::Origin, master_status, tasks::TaskKey},
    turn::Turn,
    view::AgentState,
};

impl State {
    pub(super) fn reconcile(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        tasks: Vec<(TaskId, Option<AgentId>)>,
    ) {
        if tasks.len() > limits::RECONCILE_TASKS_MAX {
            let message = format!(
                "the call names {} tasks; at most {} are allowed, name the others in further calls",
                tasks.len(),
                limits::RECONCILE_TASKS_MAX
            );
            return self.refuse(turn, caller.conn, caller.call_id, Refusal::Limit, message);
        }
        let id = &caller.framework_id;
        if tasks.is_empty() {
            let keys: Vec<TaskKey> =
                self.frameworks[id].tasks.keys().map(|task| (id.clone(), task.clone())).collect();
            return keys.iter().for_each(|key| self.answer_known(turn, key));
        }
        for (task_id, agent_id) in tasks {
            let key = (id.clone(), task_id);
            if self.view.tasks.contains_key(&key) {
                self.answer_known(turn, &key);
            } else {
                self.answer_unknown(turn, &key, agent_id.as_ref());
            }
        }
    }

    /// Answers with the newest status that was made for the framework: the task's own state may be further, but that news comes
    /// in an update to be acknowledged. Of an end the answer gives the reason of the end: a scheduler that hears it here first has to
    /// know whether to try again.
    pub(super) fn answer_known(&mut self, turn: &mut Turn<'_>, key: &TaskKey) {
        let task = self.view.tasks[key].clone();
        let state = task.status.as_ref().map_or(task.state, |status| status.state);
        let message = task.status.as_ref().map_or("", |status| &status.message);
        let why = task.status.as_ref().and_then(|status| status.reason).filter(|_| state.is_terminal());
        let reason = why.unwrap_or(Reason::Reconciliation);
        let answer = master_status(turn.now, &key.1, Some(&task.agent_id), state, reason, message);
        let container = task.status.as_ref().and_then(|status| status.container.clone());
        let findings = task.status.as_ref().map(|status| status.findings).unwrap_or_default();
        self.tell_status(turn, &key.0, TaskStatus { container, findings, ..answer });
    }

    /// Answers for a task that is not known, or not at all while its agent may be yet to return after a change of master.
    pub(super) fn answer_unknown(&mut self, turn: &mut Turn<'_>, key: &TaskKey, agent_id: Option<&AgentId>) {
        let awaits = self.awaits_agents_of(turn.now, &key.0);
        let (state, message) = match agent_id {
            None if awaits => return,
            None => (TaskState::Unknown, "the master knows no such task".to_owned()),
            Some(id) => {
                let known = self.view.agents.get(id).map(|agent| agent.state);
                let removed = self.lost.removed(id).filter(|_| known.is_none());
                match (known, self.ids.agent_origin(id)) {
                    (Some(AgentState::Recovered), _) => return,
                    (Some(AgentState::Unreachable), _) if !self.agents[id].heard => {
                        // Should it return without the task, the framework is told.
                        let said = &mut self.agent(id).said_unreachable;
                        let said = said.entry(key.0.clone()).or_default();
                        if said.len() >= limits::RECONCILE_TASKS_MAX && !said.contains(&key.1) {
                            return;
                        }
                        said.insert(key.1.clone());
                        let why = "has not returned since an earlier master, and cannot be reached";
                        (TaskState::Unreachable, format!("agent {id} {why}"))
                    }
                    // It cannot bring the task back: whatever it has it named when it registered here, or was given here since.
                    // Were the task said to be unreachable, nobody would say more when the agent returns without it.
                    (Some(AgentState::Unreachable), _) => {
                        (TaskState::Gone, format!("agent {id} cannot be reached, and had no such task"))
                    }
                    (Some(_), _) => {
                        (TaskState::Gone, format!("agent {id} is registered and has no such task"))
                    }
                    (None, _) if removed.is_some_and(|removed| removed.cause == Cause::Gone) => {
                        (TaskState::GoneByOperator, format!("agent {id} is gone: an operator has said so"))
                    }
                    (None, _) if removed.is_some() => (TaskState::Gone, format!("agent {id} was removed")),
                    (None, Origin::Foreign) if awaits => return,
                    (None, _) => {
                        (TaskState::Unknown, format!("the master knows neither the task nor agent {id}"))
                    }
                }
            }
        };
        let answer = master_status(turn.now, &key.1, agent_id, state, Reason::Reconciliation, message);
        self.tell_status(turn, &key.0, answer);
    }
}
