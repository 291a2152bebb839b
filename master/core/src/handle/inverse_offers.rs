//! A framework answers inverse offers, or does not.

use std::{collections::BTreeSet, time::Duration};

use apportion_types::{AgentId, FrameworkId, OfferId, Time, limits, text::cut};

use super::scheduler_stream::Caller;
use crate::{
    state::{State, inverse_offers::CloseInverse},
    turn::Turn,
    view::{AskedAgain, InverseAnswer},
};

impl State {
    /// The framework will have left these agents in time.
    pub(super) fn accept_inverse_offers(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        offers: &[OfferId],
        refuse: Option<Duration>,
    ) {
        let again = refuse.map_or(AskedAgain::Never, |refuse| asked_again(turn.now, refuse));
        let answer = InverseAnswer { accepted: true, reason: String::new(), at: turn.now };
        self.answer_inverse_offers(turn, caller, offers, CloseInverse::Accepted, again, &answer);
    }

    /// The framework will not, or cannot.
    pub(super) fn decline_inverse_offers(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        offers: &[OfferId],
        refuse: Option<Duration>,
        reason: String,
    ) {
        let again = asked_again(turn.now, refuse.unwrap_or(limits::INVERSE_REFUSE_DEFAULT));
        let reason = cut(reason, limits::DECLINE_DETAIL_BYTES_MAX);
        let answer = InverseAnswer { accepted: false, reason, at: turn.now };
        self.answer_inverse_offers(turn, caller, offers, CloseInverse::Declined, again, &answer);
    }

    fn answer_inverse_offers(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        offers: &[OfferId],
        close: CloseInverse,
        again: AskedAgain,
        answer: &InverseAnswer,
    ) {
        if self.refuse_too_many_offers(turn, caller, offers.len()) {
            return;
        }
        let own = |id: &OfferId| {
            let asked = self.inverse_offers.outstanding.get(id);
            asked.filter(|(_, framework_id)| *framework_id == caller.framework_id).cloned()
        };
        let asked: BTreeSet<(AgentId, FrameworkId)> = offers.iter().filter_map(own).collect();
        for (agent_id, framework_id) in asked {
            self.close_inverse_offer(turn, &agent_id, &framework_id, close);
            self.ask_again(&agent_id, &framework_id, again);
            if let Some(asked) = self.asked_to_leave(&agent_id, &framework_id) {
                asked.answer = Some(answer.clone());
            }
        }
    }

    /// An inverse offer was not answered in time. What was answered before stays the answer.
    pub(super) fn inverse_offer_timed_out(&mut self, turn: &mut Turn<'_>, id: &OfferId) {
        let asked = self.inverse_offers.outstanding.get(id).cloned();
        let (agent_id, framework_id) = asked.expect("an inverse offer with a timer is outstanding");
        self.close_inverse_offer(turn, &agent_id, &framework_id, CloseInverse::TimedOut);
        let again = asked_again(turn.now, limits::INVERSE_REFUSE_DEFAULT);
        self.ask_again(&agent_id, &framework_id, again);
    }
}

fn asked_again(now: Time, refuse: Duration) -> AskedAgain {
    AskedAgain::At(now + refuse.clamp(limits::INVERSE_REFUSE_MIN, limits::REFUSE_MAX))
}
