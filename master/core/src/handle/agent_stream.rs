//! An agent's stream: which messages are heard, and what its end means.

use apportion_types::{
    AgentId,
    protocol::agent::{AgentMessage, RefuseCode},
};

use super::register::Has;
use crate::{
    action::RegistryOp,
    event::ConnId,
    recovered::{Cause, RemovedAgent},
    state::{
        State,
        agents::AgentStream,
        commits::{Removal, Then},
        timers::Timer,
    },
    turn::Turn,
};

impl State {
    pub(super) fn agent_message(&mut self, turn: &mut Turn<'_>, conn: ConnId, message: AgentMessage) {
        match (self.agent_streams.get(&conn).cloned(), message) {
            (Some(AgentStream::Closing), _) => {}
            (
                None | Some(AgentStream::Registered(_)),
                AgentMessage::Register { info, agent_id, total, tasks, operations },
            ) => {
                self.register(turn, conn, agent_id, Has { info, total, tasks, operations });
            }
            (None, _) => {
                self.agent_streams.insert(conn, AgentStream::Closing);
                turn.refuse_agent(
                    conn,
                    RefuseCode::Invalid,
                    "the first message of a stream must be Register",
                );
            }
            (Some(AgentStream::Registering(_, id)), AgentMessage::Unregister { message }) => {
                self.unregister(turn, conn, id, message);
            }
            // A repeated Register asks for what is on its way; whatever else was said too early, the agent says again.
            (Some(AgentStream::Registering(..)), _) => {}
            (Some(AgentStream::Registered(id)), message) => match message {
                AgentMessage::Register { .. } => unreachable!("handled above"),
                AgentMessage::StatusUpdate { framework_id, status, latest_state } => {
                    self.status_update(turn, conn, &id, framework_id, status, latest_state);
                }
                AgentMessage::OperationUpdate(told) => self.operation_update(turn, conn, &id, told),
                AgentMessage::Total { total, applied } => self.correct_total(turn, &id, total, applied),
                AgentMessage::Oversubscribed { revocable } => self.set_revocable(turn, &id, revocable),
                AgentMessage::Pong { sequence } => self.pong(turn, &id, sequence),
                AgentMessage::Unregister { message } => self.unregister(turn, conn, id, message),
            },
        }
    }

    /// The stream of an agent ended.
    pub(super) fn agent_closed(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        match self.agent_streams.remove(&conn) {
            Some(AgentStream::Registered(id)) => self.disconnect_agent(turn, &id),
            Some(AgentStream::Registering(_, id)) => {
                self.registering.remove(&id);
            }
            Some(AgentStream::Closing) | None => {}
        }
    }

    /// Ends the stream of an agent that has said what cannot be, with the reason.
    pub(crate) fn refuse_agent(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        code: RefuseCode,
        message: String,
    ) {
        self.end_agent_stream(turn, conn);
        turn.refuse_agent(conn, code, message);
    }

    /// Hears nothing more of a stream, and whoever it spoke for is disconnected.
    pub(super) fn end_agent_stream(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        match self.agent_streams.insert(conn, AgentStream::Closing) {
            Some(AgentStream::Registered(id)) => self.disconnect_agent(turn, &id),
            Some(AgentStream::Registering(_, id)) => {
                self.registering.remove(&id);
            }
            Some(AgentStream::Closing) | None => {}
        }
    }

    fn pong(&mut self, turn: &mut Turn<'_>, id: &AgentId, sequence: u64) {
        let agent = self.agent(id);
        if sequence == 0 || sequence > agent.ping_sequence {
            return;
        }
        agent.pings_unanswered = 0;
        if agent.losing.take().is_some() {
            self.timers.set(Timer::Ping(id.clone()), turn.now + self.config.agent_ping_interval);
        }
    }

    /// The agent ends for good. From now on nothing is offered on it and its id is refused; when that is written it goes.
    fn unregister(&mut self, turn: &mut Turn<'_>, conn: ConnId, id: AgentId, message: String) {
        self.registering.remove(&id);
        self.agent_streams.insert(conn, AgentStream::Closing);
        let Some(agent) = self.agents.get_mut(&id) else {
            // It was never let in, so there is nothing to undo but the write.
            return turn.close_agent(conn);
        };
        agent.leaving = true;
        agent.losing = None;
        if agent.conn.is_some() {
            self.disconnect_agent(turn, &id);
        }
        self.timers.cancel(&Timer::Reregister(id.clone()));
        self.await_agent_no_more(&id);
        let message = if message.is_empty() {
            format!("agent {id} was removed: it has unregistered")
        } else {
            format!("agent {id} was removed: it has unregistered: {message}")
        };
        let removed = RemovedAgent { at: Some(turn.now), cause: Cause::Left };
        let op = RegistryOp::RemoveAgent { agent_id: id.clone(), removed };
        let removal = Removal { agent_id: id, removed, conn: Some(conn), message, request: None };
        self.commits.ask(turn, op, Then::RemoveAgent(Box::new(removal)));
    }
}
