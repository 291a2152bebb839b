//! What became of operations on agents' resources: told by agents, confirmed and asked for by frameworks, wished for by operators.

use apportion_types::{
    AgentId, FrameworkId, Operation, OperationId, OperationState, Reason, Resources, TaskState, UpdateId,
    limits,
    operation::Conversion,
    protocol::{
        agent::{AgentOperation, MasterMessage},
        scheduler::Refusal,
    },
};

use super::scheduler_stream::Caller;
use crate::{
    action::{OperatorError, OperatorReply},
    event::ConnId,
    state::{
        State,
        offers::Close,
        operations::operation_status,
        tasks::{Charge, Step, TaskKey},
    },
    turn::Turn,
    view::AgentState,
};

impl State {
    /// An agent says what became of an operation.
    pub(super) fn operation_update(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        id: &AgentId,
        told: AgentOperation,
    ) {
        let AgentOperation { framework_id, status } = told;
        let status = apportion_types::OperationStatus { agent_id: Some(id.clone()), ..status };
        if self.is_removed(&framework_id) {
            // Nobody is left to acknowledge it.
            if let Some(update_id) = status.update_id {
                let operation_id = status.operation_id;
                turn.tell_agent(
                    conn,
                    MasterMessage::AcknowledgeOperation { framework_id, operation_id, update_id },
                );
            }
            return;
        }
        if self.frameworks.contains_key(&framework_id) {
            self.operations.told(&framework_id, id, status.clone());
            self.tell_operation(turn, &framework_id, status);
        }
        // Else the framework may yet subscribe; the agent repeats what it said.
    }

    /// What an agent says at its registration of operations, and what follows for those of which it says nothing.
    pub(super) fn take_named_operations(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        id: &AgentId,
        operations: Vec<AgentOperation>,
    ) {
        for operation in operations {
            self.operation_update(turn, conn, id, operation);
        }
        let message = format!("agent {id} was disconnected before the operation reached it");
        self.drop_operations(turn, id, Reason::AgentDisconnected, &message);
    }

    /// Gives up the operations on an agent of which it has said nothing, and never will.
    pub(crate) fn drop_operations(
        &mut self,
        turn: &mut Turn<'_>,
        id: &AgentId,
        reason: Reason,
        message: &str,
    ) {
        for (framework_id, operation_id) in self.operations.pending_on(id) {
            self.operations.forget(&framework_id, &operation_id);
            let status = operation_status(turn.now, &operation_id, Some(id), OperationState::Dropped);
            self.tell_operation(turn, &framework_id, status(Some(reason), message));
        }
    }

    /// The framework confirms what became of an operation.
    pub(super) fn acknowledge_operation(
        &mut self,
        turn: &mut Turn<'_>,
        framework_id: &FrameworkId,
        agent_id: &AgentId,
        operation_id: OperationId,
        update_id: UpdateId,
    ) {
        let known = self.operations.of(framework_id).get(&operation_id);
        let current = known.is_some_and(|sent| {
            sent.agent_id == *agent_id
                && sent.status.as_ref().is_some_and(|status| status.update_id == Some(update_id))
        });
        if !current {
            self.view.counters.acknowledgements_ignored += 1;
            return;
        }
        self.view.counters.acknowledgements += 1;
        self.operations.forget(framework_id, &operation_id);
        // An agent that is not connected says it again when it returns, and is answered then.
        if let Some(conn) = self.agent_conn(agent_id) {
            let framework_id = framework_id.clone();
            turn.tell_agent(
                conn,
                MasterMessage::AcknowledgeOperation { framework_id, operation_id, update_id },
            );
        }
    }

    /// The framework asks what is known of its operations.
    pub(super) fn reconcile_operations(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        operations: Vec<(OperationId, Option<AgentId>)>,
    ) {
        if operations.len() > limits::RECONCILE_TASKS_MAX {
            let (count, most) = (operations.len(), limits::RECONCILE_TASKS_MAX);
            let message = format!("the call names {count} operations; at most {most} are allowed");
            return self.refuse(turn, caller.conn, caller.call_id, Refusal::Limit, message);
        }
        let id = &caller.framework_id;
        let asked = match operations.is_empty() {
            true => self.operations.of(id).keys().map(|operation| (operation.clone(), None)).collect(),
            false => operations,
        };
        for (operation_id, agent_id) in asked {
            self.answer_operation(turn, id, &operation_id, agent_id.as_ref());
        }
    }

    fn answer_operation(
        &self,
        turn: &mut Turn<'_>,
        id: &FrameworkId,
        operation: &OperationId,
        agent: Option<&AgentId>,
    ) {
        let known = self.operations.of(id).get(operation);
        let agent_id = known.map(|sent| &sent.agent_id).or(agent);
        let state = known.and_then(|sent| sent.status.as_ref());
        let unreachable = agent_id.is_some_and(|id| {
            self.view.agents.get(id).is_some_and(|view| view.state == AgentState::Unreachable)
        });
        let (state, message) = match (known, state) {
            (Some(_), Some(status)) => (status.state, status.message.as_str()),
            (Some(_), None) if unreachable => (OperationState::Unreachable, "its agent cannot be reached"),
            (Some(_), None) => (OperationState::Pending, ""),
            (None, _) if unreachable && agent_id.is_some_and(|id| !self.agents[id].heard) => {
                (OperationState::Unreachable, "its agent has not returned since an earlier master")
            }
            // What an earlier master knew, an agent brings back with it.
            (None, _) if self.awaits_agents_of(turn.now, id) => return,
            (None, _) => (OperationState::Unknown, "the master knows no such operation"),
        };
        let status = operation_status(turn.now, operation, agent_id, state);
        self.tell_operation(turn, id, status(Some(Reason::Reconciliation), message));
    }

    /// An agent has other resources than the master believes: the books are begun anew.
    pub(super) fn correct_total(
        &mut self,
        turn: &mut Turn<'_>,
        id: &AgentId,
        total: Resources,
        applied: u64,
    ) {
        // What is still on its way to the agent is not in it, and tasks that use that are not lost: the next Total has both.
        if applied < self.agents[id].applies_sent || self.view.agents[id].total == total {
            return;
        }
        self.close_offers_of_agent(turn, id, Close::Changed);
        self.agent_view(id).total = total;
        self.recharge_agent(turn, id);
    }

    /// An agent lends more or less than before.
    pub(super) fn set_revocable(&mut self, turn: &mut Turn<'_>, id: &AgentId, revocable: Resources) {
        let before = std::mem::replace(&mut self.agent_view(id).revocable, revocable.clone());
        if !revocable.contains(&before) {
            let lent = |view: &crate::view::OfferView| !view.offer.resources.revocable().is_empty();
            let offers: Vec<_> = self.agents[id].offers.iter().cloned().collect();
            for offer in
                offers.iter().filter(|offer| lent(&self.view.offers[*offer])).cloned().collect::<Vec<_>>()
            {
                self.close_offer(turn, &offer, Close::Changed);
            }
        }
        self.allocator.set_revocable(id, &revocable);
    }

    /// Begins an agent's books anew, with its tasks as far as what it has holds them. The agent answers for the others: it refused
    /// them for the same reason.
    fn recharge_agent(&mut self, turn: &mut Turn<'_>, id: &AgentId) {
        let strays = self.agents[id].strays.clone();
        self.drop_strays(id);
        let tasks: Vec<TaskKey> = self.agents[id].tasks.iter().cloned().collect();
        self.reset_agent(id);
        for (key, stray) in strays {
            if self.allocator.free(id).contains(&stray.resources.firm()) {
                self.add_stray(id, &key, stray);
            }
        }
        for key in tasks {
            let task = self.view.tasks[&key].clone();
            if !task.state.holds_resources() {
                continue;
            }
            if self.allocator.free(id).contains(&task.info.resources.firm()) {
                self.charge_task(&key, Charge::Free);
            } else {
                self.step_task(turn, &key, Step { state: TaskState::Dropped, status: None, last: false });
            }
        }
    }

    /// An operator changes what an agent has. What is offered of it is taken back as far as it is needed.
    pub(super) fn operate(
        &mut self,
        turn: &mut Turn<'_>,
        id: &AgentId,
        operation: Operation,
    ) -> Result<OperatorReply, OperatorError> {
        let invalid = |why: String| OperatorError::Invalid { why };
        let conflict = |why: String| OperatorError::Conflict { why };
        let name = operation.name();
        let conversion = operation.conversion().map_err(|why| invalid(format!("{name}: {why}")))?;
        let Some(view) = self.view.agents.get(id).cloned() else {
            return Err(OperatorError::NotFound { what: format!("agent `{id}`") });
        };
        let Some(conn) = self.agent_conn(id) else {
            return Err(conflict(format!("{name}: agent {id} is not connected; try again when it is")));
        };
        if !view.total.contains(&conversion.consumed) {
            let missing = view.total.missing(&conversion.consumed);
            return Err(conflict(format!("{name}: agent {id} has {}, missing {missing}", view.total)));
        }
        self.judge_conversion(id, name, &conversion, &view.total).map_err(conflict)?;
        if !self.clear_for(turn, id, &conversion) {
            let missing = self.allocator.free(id).missing(&conversion.consumed);
            let why = format!("{name}: tasks on agent {id} use some of it, {missing}; end them first");
            return Err(conflict(why));
        }
        self.rescind_shared(turn, id, &conversion.consumed);
        let done = self.allocator.convert_free(id, &conversion);
        assert!(done, "what is free was cleared for the operation");
        self.convert_agent(id, &conversion);
        self.agent(id).applies_sent += 1;
        turn.tell_agent(conn, MasterMessage::Apply { framework_id: None, operation_id: None, operation });
        Ok(OperatorReply::Operated)
    }

    /// Takes back offers of an agent until what an operation consumes is free; false, and none is taken back, when tasks hold it.
    fn clear_for(&mut self, turn: &mut Turn<'_>, id: &AgentId, conversion: &Conversion) -> bool {
        let consumed = conversion.consumed.exclusive();
        let offers: Vec<_> = self.agents[id].offers.iter().cloned().collect();
        let offered: Resources = offers.iter().map(|offer| &self.view.offers[offer].offer.resources).sum();
        if !(self.allocator.free(id) + &offered.exclusive()).contains(&consumed) {
            return false;
        }
        for offer in offers {
            let missing = self.allocator.free(id).missing(&consumed);
            if missing.is_empty() {
                break;
            }
            let helps = self.view.offers[&offer].offer.resources.entries().any(|entry| {
                missing
                    .entries()
                    .any(|wanted| wanted.name() == entry.name() && wanted.terms() == entry.terms())
            });
            if helps {
                self.close_offer(turn, &offer, Close::Changed);
            }
        }
        true
    }
}
