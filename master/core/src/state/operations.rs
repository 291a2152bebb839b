//! Operations that frameworks have named: what is known of each until its framework has acknowledged it.

use std::collections::BTreeMap;

use apportion_types::{
    AgentId, FrameworkId, OperationId, OperationState, OperationStatus, Reason, Time, limits,
    protocol::scheduler::Event as SchedulerEvent, text::cut,
};

use super::State;
use crate::turn::Turn;

/// An operation, sent and not yet acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) agent_id: AgentId,
    /// What its agent says of it; none until it does.
    pub(crate) status: Option<OperationStatus>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    of: BTreeMap<FrameworkId, BTreeMap<OperationId, Sent>>,
    none: BTreeMap<OperationId, Sent>,
}

impl Operations {
    /// Those of one framework.
    pub(crate) fn of(&self, framework_id: &FrameworkId) -> &BTreeMap<OperationId, Sent> {
        self.of.get(framework_id).unwrap_or(&self.none)
    }

    /// One is sent to its agent.
    pub(crate) fn sent(&mut self, framework_id: &FrameworkId, id: &OperationId, agent_id: &AgentId) {
        let sent = Sent { agent_id: agent_id.clone(), status: None };
        self.of.entry(framework_id.clone()).or_default().insert(id.clone(), sent);
    }

    /// Its agent has said what became of it.
    pub(crate) fn told(&mut self, framework_id: &FrameworkId, agent_id: &AgentId, status: OperationStatus) {
        let id = status.operation_id.clone();
        let sent = Sent { agent_id: agent_id.clone(), status: Some(status) };
        self.of.entry(framework_id.clone()).or_default().insert(id, sent);
    }

    pub(crate) fn forget(&mut self, framework_id: &FrameworkId, id: &OperationId) -> Option<Sent> {
        let of = self.of.get_mut(framework_id)?;
        let sent = of.remove(id);
        if of.is_empty() {
            self.of.remove(framework_id);
        }
        sent
    }

    pub(crate) fn forget_framework(&mut self, framework_id: &FrameworkId) {
        self.of.remove(framework_id);
    }

    /// True while anything is known of an operation on an agent: nobody has acknowledged what became of it.
    pub(crate) fn any_on(&self, agent_id: &AgentId) -> bool {
        self.of.values().flat_map(BTreeMap::values).any(|sent| sent.agent_id == *agent_id)
    }

    /// Those on an agent of which it has not said what became of them.
    pub(crate) fn pending_on(&self, agent_id: &AgentId) -> Vec<(FrameworkId, OperationId)> {
        let pending = |(_, sent): &(&OperationId, &Sent)| sent.agent_id == *agent_id && sent.status.is_none();
        let of = self.of.iter().flat_map(|(framework_id, of)| {
            of.iter().filter(pending).map(|(id, _)| (framework_id.clone(), id.clone()))
        });
        of.collect()
    }
}

/// What the master says of an operation: sent once, never to be acknowledged.
pub(crate) fn operation_status<'a>(
    now: Time,
    id: &'a OperationId,
    agent_id: Option<&'a AgentId>,
    state: OperationState,
) -> impl FnOnce(Option<Reason>, &str) -> OperationStatus + 'a {
    let agent_id = agent_id.cloned();
    move |reason, message| OperationStatus {
        operation_id: id.clone(),
        agent_id,
        state,
        reason,
        message: cut(message.to_owned(), limits::STATUS_MESSAGE_BYTES_MAX),
        at: now,
        update_id: None,
    }
}

impl State {
    /// Sends what became of an operation to its framework, if that is connected.
    pub(crate) fn tell_operation(
        &self,
        turn: &mut Turn<'_>,
        framework_id: &FrameworkId,
        status: OperationStatus,
    ) {
        if let Some(conn) = self.scheduler_conn(framework_id) {
            turn.tell_scheduler(conn, SchedulerEvent::OperationUpdate(status));
        }
    }
}
