//! A write is in the registry: what was waiting for it is done.

use apportion_types::{
    AgentInfo,
    protocol::{agent::RefuseCode, scheduler::ErrorCode},
};

use crate::{
    action::{Action, OperatorReply, RegistryOp},
    event::CommitId,
    state::{
        State,
        agents::{AgentStream, Loss},
        commits::Then,
        frameworks::SchedulerStream,
    },
    turn::Turn,
};

impl State {
    pub(super) fn committed(&mut self, turn: &mut Turn<'_>, commit: CommitId) {
        match self.commits.done(commit) {
            Then::Register(registration) => self.registration_committed(turn, commit, *registration),
            Then::LoseAgent { agent_id: id, at } => {
                let Some(agent) = self.agents.get(&id) else { return };
                if agent.losing == Some(commit) {
                    let message = format!("agent {id} cannot be reached");
                    self.lost.unreachable(&id, at);
                    return self.lose_agent(turn, &id, Loss::Unreachable, &message);
                }
                // It was heard meanwhile. Unless it registers, which writes that by itself, the registry is put right.
                if !agent.leaving && !self.registering.contains_key(&id) {
                    let info = AgentInfo::clone(&self.view.agents[&id].info);
                    self.commits.ask(turn, RegistryOp::AdmitAgent { agent_id: id, info }, Then::Nothing);
                }
            }
            Then::RemoveAgent(removal) => self.removal_committed(turn, *removal),
            Then::SetActivation { agent_id, activation, request } => {
                self.activation_committed(turn, &agent_id, activation, request);
            }
            Then::Subscribe(subscription) => self.subscription_committed(turn, *subscription),
            Then::UpdateFramework(update) => self.framework_update_committed(turn, *update),
            Then::UpdateRoles(update) => self.roles_committed(turn, *update),
            Then::Maintenance(update) => self.maintenance_committed(turn, &update),
            Then::FrameworkRemoved { conns, message, request } => {
                for conn in conns.into_iter().filter(|conn| self.scheduler_streams.contains_key(conn)) {
                    turn.end_scheduler(conn, ErrorCode::Removed, message.as_str());
                }
                if let Some(request) = request {
                    turn.reply(request, Ok(OperatorReply::TornDown));
                }
            }
            Then::Nothing => {}
        }
    }

    /// The process ends: every peer that has spoken is told.
    pub(super) fn shut_down(&mut self, turn: &mut Turn<'_>) {
        self.shut_down = true;
        self.allocate_at = None;
        let why = "the master ends";
        for (conn, stream) in &self.scheduler_streams {
            if *stream == SchedulerStream::Closing {
                turn.actions.push(Action::CloseScheduler { conn: *conn });
            } else {
                turn.end_scheduler(*conn, ErrorCode::ShuttingDown, why);
            }
        }
        for (conn, stream) in &self.agent_streams {
            if *stream != AgentStream::Closing {
                turn.refuse_agent(*conn, RefuseCode::ShuttingDown, why);
            }
        }
    }
}
