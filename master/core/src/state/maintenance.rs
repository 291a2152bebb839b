//! Windows of machines, and how they reach the agents there: the one door by which what is planned changes.

use std::{collections::BTreeMap, sync::Arc};

use apportion_types::{AgentId, MachineId, Unavailability};

use super::{
    State,
    commits::{Removal, Then},
    offers::Close,
    timers::Timer,
};
use crate::{
    action::RegistryOp,
    handle::taken_down,
    maintenance::Maintenance,
    recovered::{Cause, RemovedAgent},
    turn::Turn,
};

/// What is planned, as far as readers need not see it.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    /// As it will be when everything that was asked for is written.
    pub(crate) asked: Arc<Maintenance>,
    /// The window of each machine that has any: that which it is in, or the next.
    current: BTreeMap<MachineId, Unavailability>,
}

impl State {
    /// Begins with what a registry has.
    pub(crate) fn recover_maintenance(&mut self, maintenance: &Maintenance) {
        let maintenance = Arc::new(maintenance.without_past(self.view.started_at));
        self.planned.asked = maintenance.clone();
        self.index_maintenance(maintenance);
    }

    /// Goes by a new plan from now on, which is written. Offers of agents whose window changes are made anew, and agents of machines that are
    /// down end.
    pub(crate) fn set_maintenance(&mut self, turn: &mut Turn<'_>, maintenance: &Maintenance) {
        self.index_maintenance(Arc::new(maintenance.without_past(turn.now)));
        let ids: Vec<AgentId> = self.view.agents.keys().cloned().collect();
        for id in &ids {
            let window = self.window_of(&self.view.agents[id].info.hostname);
            let agent = self.agent(id);
            if agent.unavailability != window {
                agent.unavailability = window;
                self.close_offers_of_agent(turn, id, Close::Maintenance);
                self.look_who_leaves(id);
            }
        }
        for id in &ids {
            if self.why_down(&self.view.agents[id].info.hostname).is_some() {
                self.take_down(turn, id);
            }
        }
    }

    /// Windows that are over count no more. The registry is told with the next change.
    pub(crate) fn windows_end(&mut self, turn: &mut Turn<'_>) {
        self.planned.asked = Arc::new(self.planned.asked.without_past(turn.now));
        let maintenance = self.view.maintenance.clone();
        self.set_maintenance(turn, &maintenance);
    }

    fn index_maintenance(&mut self, maintenance: Arc<Maintenance>) {
        self.timers.cancel(&Timer::WindowEnds);
        if let Some(end) = maintenance.next_end() {
            self.timers.set(Timer::WindowEnds, end);
        }
        let first = |(machine, windows): (MachineId, Vec<Unavailability>)| Some((machine, *windows.first()?));
        self.planned.current = maintenance.by_machine().into_iter().filter_map(first).collect();
        self.view.maintenance = maintenance;
    }

    /// The window of the machine of this name, if it has one.
    pub(crate) fn window_of(&self, hostname: &str) -> Option<Unavailability> {
        if self.planned.current.is_empty() {
            return None;
        }
        self.planned.current.get(&MachineId::new(hostname).ok()?).copied()
    }

    /// Why no agent of this host may take part, if so.
    pub(crate) fn why_down(&self, hostname: &str) -> Option<String> {
        if self.view.maintenance.down.is_empty() {
            return None;
        }
        let machine = MachineId::new(hostname).ok()?;
        self.view.maintenance.down.contains(&machine).then(|| {
            format!(
                "machine `{machine}` is down for maintenance; end all tasks, and start the agent again when the operator has ended it with \
                 `apportion maintenance stop {machine}`"
            )
        })
    }

    /// Ends the participation of an agent whose machine is down. Who hears it ends with its tasks; who cannot be told is as if it had not
    /// returned.
    fn take_down(&mut self, turn: &mut Turn<'_>, id: &AgentId) {
        if self.agents[id].conn.is_some() {
            return self.end_taken_down(turn, id);
        }
        let decided = self.agents[id].losing.is_some() || self.agents[id].leaving;
        if !decided && self.view.agents[id].state != crate::view::AgentState::Unreachable {
            self.timers.cancel(&Timer::Reregister(id.clone()));
            self.give_up_agent(turn, id.clone());
        }
    }

    /// An agent whose machine is down is told to end, and never returns under its id.
    pub(crate) fn end_taken_down(&mut self, turn: &mut Turn<'_>, id: &AgentId) {
        if std::mem::replace(&mut self.agent(id).leaving, true) {
            return;
        }
        self.agent(id).losing = None;
        let hostname = self.view.agents[id].info.hostname.clone();
        if let Some(conn) = self.agent_conn(id) {
            let why =
                self.why_down(&hostname).unwrap_or_else(|| "its machine is down for maintenance".to_owned());
            let code = taken_down(&self.view.agents[id].info);
            self.refuse_agent(turn, conn, code, why);
        }
        self.timers.cancel(&Timer::Reregister(id.clone()));
        self.await_agent_no_more(id);
        let message = format!("agent {id} was removed: its machine is down for maintenance");
        let removed = RemovedAgent { at: Some(turn.now), cause: Cause::TakenDown };
        let op = RegistryOp::RemoveAgent { agent_id: id.clone(), removed };
        let removal = Removal { agent_id: id.clone(), removed, conn: None, message, request: None };
        self.commits.ask(turn, op, Then::RemoveAgent(Box::new(removal)));
    }
}
