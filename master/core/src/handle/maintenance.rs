//! An operator plans maintenance, begins it, and ends it.

use std::{collections::BTreeSet, sync::Arc};

use apportion_types::{AgentCapability, AgentId, AgentInfo, MachineId, Window, protocol::agent::RefuseCode};

use crate::{
    action::{OperatorError, OperatorReply, RegistryOp},
    event::{ConnId, RequestId},
    maintenance::Maintenance,
    state::{
        State,
        commits::{MaintenanceUpdate, Then},
    },
    turn::Turn,
};

impl State {
    pub(super) fn update_schedule(&mut self, turn: &mut Turn<'_>, request: RequestId, windows: Vec<Window>) {
        let next = self.planned.asked.with_schedule(windows, turn.now);
        self.change_maintenance(turn, request, next);
    }

    pub(super) fn start_maintenance(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        machines: &BTreeSet<MachineId>,
    ) {
        let next = self.planned.asked.with_started(machines);
        self.change_maintenance(turn, request, next);
    }

    pub(super) fn stop_maintenance(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        machines: &BTreeSet<MachineId>,
    ) {
        let next = self.planned.asked.with_stopped(machines, turn.now);
        self.change_maintenance(turn, request, next);
    }

    /// Writes a new plan, which holds when it is written. What is asked for meanwhile goes by it already.
    fn change_maintenance(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        next: Result<Maintenance, OperatorError>,
    ) {
        match next {
            Err(error) => turn.reply(request, Err(error)),
            Ok(next) => {
                let next = Arc::new(next);
                self.planned.asked = next.clone();
                let then = Then::Maintenance(MaintenanceUpdate { request, maintenance: next.clone() });
                self.commits.ask(turn, RegistryOp::SetMaintenance { maintenance: next }, then);
            }
        }
    }

    /// The plan is written.
    pub(super) fn maintenance_committed(&mut self, turn: &mut Turn<'_>, update: &MaintenanceUpdate) {
        self.set_maintenance(turn, &update.maintenance);
        turn.reply(update.request, Ok(OperatorReply::MaintenanceUpdated));
    }

    /// Refuses an agent that registers from a machine that is down. It ends, and its id with it.
    pub(super) fn refuse_taken_down(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        (id, info): (Option<&AgentId>, &AgentInfo),
        why: String,
    ) {
        self.refuse_agent(turn, conn, taken_down(info), why);
        if let Some(id) = id.filter(|id| self.agents.contains_key(*id)) {
            self.end_taken_down(turn, id);
        }
    }
}

/// What an agent is told whose machine was taken down; an older one only hears that it was removed, and leaves what runs to the operator.
pub(crate) fn taken_down(info: &AgentInfo) -> RefuseCode {
    let knows = info.capabilities.contains(&AgentCapability::Drain);
    if knows { RefuseCode::Maintenance } else { RefuseCode::Removed }
}
