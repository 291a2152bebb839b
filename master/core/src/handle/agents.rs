//! An operator takes an agent out of use, and back; what is known of lost agents is forgotten.

use apportion_types::{Activation, AgentCapability, AgentId, Drain, limits, protocol::agent::RefuseCode};

use crate::{
    action::{OperatorError, OperatorReply, RegistryOp},
    event::RequestId,
    recovered::{Cause, RemovedAgent},
    state::{
        State,
        agents::{AgentStream, Loss},
        commits::{Removal, Then},
        timers::Timer,
    },
    turn::Turn,
    view::AgentState,
};

impl State {
    pub(super) fn deactivate_agent(&mut self, turn: &mut Turn<'_>, request: RequestId, id: &AgentId) {
        self.change_activation(turn, request, id, |asked| match asked {
            Activation::Active => Ok(Activation::Deactivated),
            // Which is more than that.
            asked => Ok(asked),
        });
    }

    pub(super) fn reactivate_agent(&mut self, turn: &mut Turn<'_>, request: RequestId, id: &AgentId) {
        self.change_activation(turn, request, id, |asked| match asked {
            Activation::Draining(Drain { mark_gone: true, .. }) => Err(format!(
                "agent {id} is being drained and will be gone; it never takes part again, so start a new agent in its place"
            )),
            Activation::Draining(_) => Err(format!(
                "agent {id} is being drained; wait until it is drained, then reactivate it. If it never returns, declare it gone"
            )),
            _ => Ok(Activation::Active),
        });
    }

    pub(super) fn drain_agent(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        id: &AgentId,
        drain: Drain,
    ) {
        if let Some(grace) = drain.grace_max.filter(|grace| *grace > limits::KILL_GRACE_MAX) {
            let why = format!("a grace of {grace:?} is more than the most, {:?}", limits::KILL_GRACE_MAX);
            return turn.reply(request, Err(OperatorError::Invalid { why }));
        }
        let knows = |view: &crate::view::AgentView| view.info.capabilities.contains(&AgentCapability::Drain);
        if let Some(view) = self.view.agents.get(id).filter(|view| !knows(view)) {
            let why = format!(
                "agent {id} is of version `{}`, which cannot be drained; deactivate it and kill its tasks, or bring it up to date first",
                view.info.version
            );
            return turn.reply(request, Err(OperatorError::Conflict { why }));
        }
        self.change_activation(turn, request, id, |_| Ok(Activation::Draining(drain)));
    }

    /// Writes what an operator wishes of an agent, after all that was wished before. What is so already is written again, so that whoever
    /// asked is answered when it lasts.
    fn change_activation(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        id: &AgentId,
        decide: impl FnOnce(Activation) -> Result<Activation, String>,
    ) {
        let decided = self
            .judge_known(id)
            .and_then(|()| decide(self.agents[id].asked).map_err(|why| OperatorError::Conflict { why }));
        match decided {
            Ok(activation) => self.ask_activation(turn, Some(request), id, activation),
            Err(error) => turn.reply(request, Err(error)),
        }
    }

    fn ask_activation(
        &mut self,
        turn: &mut Turn<'_>,
        request: Option<RequestId>,
        id: &AgentId,
        activation: Activation,
    ) {
        self.agent(id).asked = activation;
        let op = RegistryOp::SetActivation { agent_id: id.clone(), activation };
        self.commits.ask(turn, op, Then::SetActivation { agent_id: id.clone(), activation, request });
    }

    /// What an operator wishes of an agent is written.
    pub(super) fn activation_committed(
        &mut self,
        turn: &mut Turn<'_>,
        id: &AgentId,
        activation: Activation,
        request: Option<RequestId>,
    ) {
        let known = self.judge_known(id);
        if known.is_ok() {
            self.set_activation(turn, id, activation);
            self.plan_preemptions_soon(turn.now);
        }
        if let Some(request) = request {
            turn.reply(request, known.map(|()| OperatorReply::AgentUpdated));
        }
    }

    /// Judges whether an agent can be told anything any more.
    fn judge_known(&self, id: &AgentId) -> Result<(), OperatorError> {
        match self.agents.get(id) {
            Some(agent) if !agent.leaving => Ok(()),
            None if self.lost.removed(id).is_none() => {
                Err(OperatorError::NotFound { what: format!("agent `{id}`") })
            }
            _ => Err(OperatorError::Ended { what: format!("agent `{id}`") }),
        }
    }

    pub(super) fn mark_agent_gone(&mut self, turn: &mut Turn<'_>, request: RequestId, id: &AgentId) {
        match (self.agents.contains_key(id), self.lost.removed(id)) {
            (true, _) => self.ask_gone(turn, id, Some(request)),
            (false, Some(RemovedAgent { cause: Cause::Gone, .. })) => {
                turn.reply(request, Ok(OperatorReply::AgentUpdated));
            }
            (false, Some(_)) => {
                turn.reply(request, Err(OperatorError::Ended { what: format!("agent `{id}`") }));
            }
            (false, None) => {
                turn.reply(request, Err(OperatorError::NotFound { what: format!("agent `{id}`") }));
            }
        }
    }

    /// Writes that an agent is gone. From now on it is not heard and nothing is offered of it; it is told when that is written.
    fn ask_gone(&mut self, turn: &mut Turn<'_>, id: &AgentId, request: Option<RequestId>) {
        let conn = self.registering.remove(id).or_else(|| self.agent_conn(id));
        if let Some(conn) = conn {
            self.agent_streams.insert(conn, AgentStream::Closing);
        }
        let agent = self.agent(id);
        let connected = agent.conn.is_some();
        (agent.leaving, agent.losing, agent.gone) = (true, None, true);
        if connected {
            self.disconnect_agent(turn, id);
        }
        self.timers.cancel(&Timer::Reregister(id.clone()));
        self.await_agent_no_more(id);
        let removed = RemovedAgent { at: Some(turn.now), cause: Cause::Gone };
        let message = format!("agent {id} is gone: an operator has said so");
        let op = RegistryOp::RemoveAgent { agent_id: id.clone(), removed };
        let removal = Removal { agent_id: id.clone(), removed, conn, message, request };
        self.commits.ask(turn, op, Then::RemoveAgent(Box::new(removal)));
    }

    /// It is written that an agent goes for ever.
    pub(super) fn removal_committed(&mut self, turn: &mut Turn<'_>, removal: Removal) {
        let Removal { agent_id: id, removed, conn, message, request } = removal;
        let knows =
            self.view.agents.get(&id).map(|view| view.info.capabilities.contains(&AgentCapability::Drain));
        if knows.is_some() {
            let loss = if removed.cause == Cause::Gone { Loss::Gone } else { Loss::Removed };
            self.lose_agent(turn, &id, loss, &message);
        }
        self.remove_lost(turn.now, &id, removed);
        if let Some(conn) = conn.filter(|conn| self.agent_streams.contains_key(conn)) {
            match removed.cause {
                Cause::Gone => {
                    let (code, message) = gone(&id, knows == Some(true));
                    turn.refuse_agent(conn, code, message);
                }
                Cause::Left | Cause::TakenDown => turn.close_agent(conn),
            }
        }
        if let Some(request) = request {
            turn.reply(request, Ok(OperatorReply::AgentUpdated));
        }
    }

    /// Goes on with those that are drained: whoever has no task and no operation left is.
    pub(super) fn settle_draining(&mut self, turn: &mut Turn<'_>) {
        let empty: Vec<AgentId> = self.draining.iter().filter(|id| self.is_drained(id)).cloned().collect();
        for id in empty {
            let Activation::Draining(drain) = self.agents[&id].asked else { continue };
            match drain.mark_gone {
                true => self.ask_gone(turn, &id, None),
                false => self.ask_activation(turn, None, &id, Activation::Drained(drain)),
            }
        }
    }

    /// True of an agent that is connected, so that what it has is known, and has nothing that anybody waits for.
    fn is_drained(&self, id: &AgentId) -> bool {
        let agent = &self.agents[id];
        let settled = agent.asked == self.view.agents[id].activation && !agent.leaving;
        let empty = agent.tasks.is_empty() && agent.strays.is_empty();
        settled && agent.conn.is_some() && empty && !self.operations.any_on(id)
    }

    /// Forgets some of the agents that were lost long ago, or are too many.
    pub(super) fn forget_agents(&mut self, turn: &mut Turn<'_>) {
        for id in self.lost.take_undated() {
            let at = self.lost.since(&id);
            let op = match self.lost.removed(&id) {
                Some(removed) => {
                    RegistryOp::RemoveAgent { agent_id: id, removed: RemovedAgent { at, ..removed } }
                }
                None => RegistryOp::MarkUnreachable { agent_id: id, at },
            };
            self.commits.ask(turn, op, Then::Nothing);
        }
        let due = self.lost.due(turn.now);
        let more = due.len() == limits::LOST_AGENTS_FORGOTTEN_MAX;
        // Whatever is under way with it is waited for.
        let settled = |id: &AgentId| {
            let idle = |agent: &crate::state::agents::Agent, view: &crate::view::AgentView| {
                view.state == AgentState::Unreachable && !agent.leaving && agent.asked == view.activation
            };
            let known = self.agents.get(id).zip(self.view.agents.get(id));
            known.is_none_or(|(agent, view)| idle(agent, view)) && !self.registering.contains_key(id)
        };
        let forgotten: Vec<AgentId> = due.into_iter().filter(|id| settled(id)).collect();
        for id in forgotten {
            self.forget_agent(&id);
            self.commits.ask(turn, RegistryOp::ForgetAgent { agent_id: id }, Then::Nothing);
        }
        if !self.lost.is_empty() {
            let pause = match more {
                true => limits::LOST_AGENTS_FORGOTTEN_PAUSE,
                false => limits::LOST_AGENTS_FORGOTTEN_INTERVAL,
            };
            self.timers.set(Timer::ForgetAgents, turn.now + pause);
        }
    }
}

/// What an agent is told that an operator has declared gone; an older one only hears that it was removed.
pub(super) fn gone(id: &AgentId, knows: bool) -> (RefuseCode, String) {
    let message = format!(
        "an operator has declared agent {id} gone for ever, and its id is never used again; to let the machine take part as a new agent, \
         start it with an empty work directory"
    );
    (if knows { RefuseCode::Gone } else { RefuseCode::Removed }, message)
}
