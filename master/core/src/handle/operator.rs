//! An operator asks for something to be done.

use std::time::Duration;

use apportion_types::{FrameworkId, Reason, TaskId};

use crate::{
    action::{OperatorError, OperatorReply},
    event::{OperatorCall, RequestId},
    state::{State, tasks::TaskKey},
    turn::Turn,
    view::FrameworkState,
};

impl State {
    pub(super) fn operator_call(&mut self, turn: &mut Turn<'_>, request: RequestId, call: OperatorCall) {
        match call {
            OperatorCall::KillTask { framework_id, task_id, grace } => {
                let result = self.operator_kill(turn, framework_id, task_id, grace);
                turn.reply(request, result);
            }
            OperatorCall::UpdateRoles { changes, force } => self.update_roles(turn, request, changes, force),
            OperatorCall::UpdateSchedule { windows } => self.update_schedule(turn, request, windows),
            OperatorCall::StartMaintenance { machines } => self.start_maintenance(turn, request, &machines),
            OperatorCall::StopMaintenance { machines } => self.stop_maintenance(turn, request, &machines),
            OperatorCall::Operate { agent_id, operation } => {
                let result = self.operate(turn, &agent_id, operation);
                turn.reply(request, result);
            }
            OperatorCall::DeactivateAgent { agent_id } => self.deactivate_agent(turn, request, &agent_id),
            OperatorCall::ReactivateAgent { agent_id } => self.reactivate_agent(turn, request, &agent_id),
            OperatorCall::DrainAgent { agent_id, drain } => self.drain_agent(turn, request, &agent_id, drain),
            OperatorCall::MarkAgentGone { agent_id } => self.mark_agent_gone(turn, request, &agent_id),
            OperatorCall::Explain(question) => {
                let result = match self.frameworks.contains_key(&question.framework) {
                    true => {
                        Ok(OperatorReply::Explained(Box::new(self.allocator.explain(turn.now, &question))))
                    }
                    false => {
                        Err(OperatorError::NotFound { what: format!("framework `{}`", question.framework) })
                    }
                };
                turn.reply(request, result);
            }
            OperatorCall::Shares => turn.reply(request, Ok(OperatorReply::Shares(self.allocator.shares()))),
            OperatorCall::TeardownFramework { framework_id: id } => {
                let what = format!("framework `{id}`");
                match self.view.frameworks.get(&id).map(|view| view.state) {
                    None => turn.reply(request, Err(OperatorError::NotFound { what })),
                    Some(FrameworkState::Removed) => turn.reply(request, Err(OperatorError::Ended { what })),
                    Some(_) => {
                        let message = "the framework was torn down by an operator; subscribe without an id to begin anew";
                        self.tear_down_framework(turn, &id, message, Some(request));
                    }
                }
            }
        }
    }

    fn operator_kill(
        &mut self,
        turn: &mut Turn<'_>,
        framework_id: Option<FrameworkId>,
        task_id: TaskId,
        grace: Option<Duration>,
    ) -> Result<OperatorReply, OperatorError> {
        let key = self.find_task(framework_id, task_id)?;
        self.wish_kill(turn, &key, grace, Reason::KilledByOperator);
        Ok(OperatorReply::KillRequested { framework_id: key.0 })
    }

    /// The one task that an operator means, among those that have not ended.
    fn find_task(
        &self,
        framework_id: Option<FrameworkId>,
        task_id: TaskId,
    ) -> Result<TaskKey, OperatorError> {
        let frameworks: Vec<FrameworkId> = match framework_id {
            Some(id) if !self.frameworks.contains_key(&id) => {
                return Err(OperatorError::NotFound { what: format!("framework `{id}`") });
            }
            Some(id) => vec![id],
            None => self.frameworks.keys().cloned().collect(),
        };
        let (mut live, mut ended) = (Vec::new(), false);
        for id in frameworks {
            let key = (id, task_id.clone());
            match self.view.tasks.get(&key) {
                Some(task) if !task.state.is_terminal() => live.push(key),
                Some(_) => ended = true,
                None => ended |= self.completed.find(&self.view, &key).is_some(),
            }
        }
        let what = || format!("task `{task_id}`");
        match (live.len(), ended) {
            (0, true) => Err(OperatorError::Ended { what: what() }),
            (0, false) => Err(OperatorError::NotFound { what: what() }),
            (1, _) => Ok(live.swap_remove(0)),
            _ => {
                let names: Vec<&str> = live.iter().map(|(id, _)| id.as_str()).collect();
                Err(OperatorError::Ambiguous { task_id: task_id.to_string(), frameworks: names.join(", ") })
            }
        }
    }
}
