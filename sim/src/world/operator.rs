//! An operator who takes agents out of use, and puts them back: he asks until it is done.

use std::{collections::VecDeque, time::Duration};

use apportion_master_core::{OperatorCall, OperatorError, RequestId};
use apportion_types::{AgentId, Drain, Time};

use super::{What, World};

/// Between two looks whether it is done.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// What an operator wishes of one agent, one wish after the other.
#[derive(Debug)]
pub(crate) struct Operator {
    agent_id: AgentId,
    wishes: VecDeque<(Time, OperatorCall)>,
    /// The master's process that was asked, and the question.
    asked: Option<(u64, RequestId)>,
}

impl World {
    /// An operator has an agent deactivated or drained for a time, and puts it back into use after that.
    pub(super) fn takes_out(&mut self, agent: usize, drain: Option<Drain>, lasts: Duration) {
        let Some(agent_id) = self.agent_id(agent) else { return };
        // One operator at a time: of two, who is answered last need not be who was heard last.
        if self.operators.iter().any(|operator| operator.agent_id == agent_id && !operator.wishes.is_empty())
        {
            return;
        }
        let out = |agent_id: AgentId| match drain {
            Some(drain) => OperatorCall::DrainAgent { agent_id, drain },
            None => OperatorCall::DeactivateAgent { agent_id },
        };
        let back = OperatorCall::ReactivateAgent { agent_id: agent_id.clone() };
        self.wishes(agent_id.clone(), [(self.now, out(agent_id)), (self.now + lasts, back)]);
    }

    /// An operator declares an agent gone.
    pub(super) fn declares_gone(&mut self, agent: usize) {
        let Some(agent_id) = self.agent_id(agent) else { return };
        self.wishes(agent_id.clone(), [(self.now, OperatorCall::MarkAgentGone { agent_id })]);
    }

    fn wishes<const N: usize>(&mut self, agent_id: AgentId, wishes: [(Time, OperatorCall); N]) {
        self.operators.push(Operator { agent_id, wishes: wishes.into(), asked: None });
        self.operator_looks(self.operators.len() - 1);
    }

    /// An operator looks whether his wish is done, and asks for it, or for the next one.
    pub(super) fn operator_looks(&mut self, number: usize) {
        if let Some((life, request)) = self.operators[number].asked {
            // What a master has said that forgot it all is void.
            let lives = life == self.master.life && self.master.core.is_some();
            let stands = lives || self.keeps_registry();
            match self.master.reply(request).filter(|_| stands) {
                Some(Ok(_)) => {
                    let done = self.operators[number].wishes.pop_front();
                    if let Some((_, call)) = done {
                        self.observe(&crate::check::Happening::OperatorAnswered { call: &call });
                    }
                }
                // Not as things are, or not any more: an agent that is not there needs nothing.
                Some(Err(OperatorError::Conflict { .. })) => {}
                Some(Err(_)) => self.operators[number].wishes.clear(),
                None if lives => return self.operator_waits(number),
                None => {} // whom he asked is no more
            }
            self.operators[number].asked = None;
        }
        let Some((at, call)) = self.operators[number].wishes.front().cloned() else { return };
        if at <= self.now && self.master.core.is_some() {
            let request = self.asks(call);
            self.operators[number].asked = Some((self.master.life, request));
        }
        self.operator_waits(number);
    }

    fn operator_waits(&mut self, number: usize) {
        let begins = self.operators[number].wishes.front().map_or(self.now, |(at, _)| *at);
        let at = begins.max(self.now + LOOKS_EVERY);
        self.faults_over_at = self.faults_over_at.max(at);
        self.queue.push(at, What::OperatorLooks { number });
    }
}
