//! What is done about each event: one file for each family of them.

mod accept;
mod acknowledge;
mod agent_stream;
mod agents;
mod allocate;
mod claims;
mod committed;
mod decline;
mod free;
mod inverse_offers;
mod kill;
mod maintenance;
mod operations;
mod operator;
mod preempt;
mod reconcile;
mod register;
mod request;
mod roles;
mod scheduler_stream;
mod stand_by;
mod status_update;
mod subscribe;
mod tick;
mod update_framework;
mod update_roles;

pub(crate) use maintenance::taken_down;
pub(crate) use subscribe::judge_info;

use crate::{event::Event, state::State, turn::Turn};

impl State {
    /// Takes in one event.
    pub(crate) fn handle(&mut self, turn: &mut Turn<'_>, event: Event) {
        if self.shut_down {
            return;
        }
        let tick = matches!(event, Event::Tick);
        match event {
            Event::SchedulerCall { conn, call_id, call } => self.scheduler_call(turn, conn, call_id, call),
            Event::SchedulerClosed { conn } => self.scheduler_closed(turn, conn),
            Event::AgentMessage { conn, message } => self.agent_message(turn, conn, message),
            Event::AgentClosed { conn } => self.agent_closed(turn, conn),
            Event::Operator { request, call } => self.operator_call(turn, request, call),
            Event::Committed { commit } => self.committed(turn, commit),
            Event::Tick => self.tick(turn),
            Event::Shutdown => self.shut_down(turn),
        }
        if !self.draining.is_empty() && !self.shut_down {
            self.settle_draining(turn);
        }
        if !self.preemptions.active.is_empty() {
            self.gather_all(turn);
        }
        self.settle_inverse_offers(turn);
        if !tick && !self.free_watchers.is_empty() && self.free_at.is_none() {
            self.free_at = Some(turn.now + self.config.allocation_coalesce);
        }
        if self.allocate_at.is_none() && self.allocator.is_dirty() && !self.shut_down {
            self.allocate_at = Some(turn.now + self.config.allocation_coalesce);
        }
    }
}
