//! The named operations that the driver knows.

use std::collections::BTreeMap;

use apportion_types::{AgentId, OperationId, OperationState, OperationStatus, UpdateId};

use super::acknowledged::Acknowledged;

/// An operation whose end was not told.
#[derive(Debug)]
struct Open {
    agent_id: Option<AgentId>,
    /// The call that asked for it, until something is heard of it.
    call: Option<u64>,
}

/// What is known of operations: what to reconcile after a lost connection, and what was told already.
#[derive(Debug)]
pub(super) struct Operations {
    open: BTreeMap<OperationId, Open>,
    acknowledged: Acknowledged<OperationId>,
}

impl Operations {
    pub(super) fn new() -> Self {
        Self { open: BTreeMap::new(), acknowledged: Acknowledged::new() }
    }

    /// Asked for by this call.
    pub(super) fn sent(&mut self, id: OperationId, agent_id: AgentId, call: u64) {
        self.open.insert(id, Open { agent_id: Some(agent_id), call: Some(call) });
    }

    /// Something was told of one.
    pub(super) fn heard(&mut self, status: &OperationStatus) {
        if status.state.is_terminal() || status.state == OperationState::Unknown {
            self.open.remove(&status.operation_id);
        } else {
            let open = Open { agent_id: status.agent_id.clone(), call: None };
            self.open.insert(status.operation_id.clone(), open);
        }
    }

    /// Forgets the operations of a call of which nothing was heard, and names them with their agents.
    pub(super) fn refused(&mut self, call: u64) -> Vec<(OperationId, Option<AgentId>)> {
        let unheard: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| open.call == Some(call))
            .map(|(id, open)| (id.clone(), open.agent_id.clone()))
            .collect();
        for (id, _) in &unheard {
            self.open.remove(id);
        }
        unheard
    }

    /// Every operation whose end was not told, with its agent.
    pub(super) fn open(&self) -> impl Iterator<Item = (OperationId, Option<AgentId>)> {
        self.open.iter().map(|(id, open)| (id.clone(), open.agent_id.clone()))
    }

    /// True when the scheduler was told this update before, as far as that is remembered.
    pub(super) fn is_acknowledged(&self, id: &OperationId, update_id: UpdateId) -> bool {
        self.acknowledged.contains(id, update_id)
    }

    /// The scheduler was told this update.
    pub(super) fn acknowledge(&mut self, id: OperationId, update_id: UpdateId) {
        self.acknowledged.insert(id, update_id);
    }
}
