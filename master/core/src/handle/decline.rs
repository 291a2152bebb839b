//! A framework gives offers back.

use std::{collections::BTreeSet, time::Duration};

use apportion_types::{
    FrameworkId, Offer, OfferId, Time, limits,
    protocol::scheduler::{DeclineCode, DeclineReason, Refusal},
    text::cut,
};

use super::scheduler_stream::Caller;
use crate::{
    limits::{DECLINE_OTHER, DECLINE_REASON_BYTES_MAX, DECLINE_REASONS_MAX, DECLINE_SAMPLES_MAX},
    state::{State, offers::Close},
    turn::Turn,
    view::DeclineSample,
};

impl State {
    pub(super) fn decline(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        offers: Vec<OfferId>,
        refuse: Option<Duration>,
        reason: &DeclineReason,
    ) {
        if self.refuse_too_many_offers(turn, caller, offers.len()) {
            return;
        }
        let refuse_until = refuse_until(turn.now, refuse);
        let mut declined = 0;
        for id in self.outstanding_of(&caller.framework_id, &offers) {
            let closed = self.close_offer(turn, &id, Close::Declined { refuse_until });
            if declined == 0 {
                self.sample_decline(turn, reason, &closed.offer);
            }
            declined += 1;
        }
        let text = match reason.code {
            DeclineCode::Other => &reason.detail,
            code => code.as_str(),
        };
        self.count_decline_reason(&caller.framework_id, text, declined);
    }

    /// Keeps the newest declines of each reason, for people who ask why nothing is launched.
    fn sample_decline(&mut self, turn: &Turn<'_>, reason: &DeclineReason, offer: &Offer) {
        let sample = DeclineSample {
            at: turn.now,
            reason: DeclineReason {
                code: reason.code,
                detail: cut(reason.detail.clone(), limits::DECLINE_DETAIL_BYTES_MAX),
            },
            agent_id: offer.agent_id.clone(),
            role: offer.role.clone(),
            offered: offer.resources.clone(),
        };
        let samples = &mut self.framework_view(&offer.framework_id).decline_samples;
        let same = |known: &DeclineSample| known.reason.code == sample.reason.code;
        if samples.iter().filter(|known| same(known)).count() >= DECLINE_SAMPLES_MAX {
            let oldest = samples.iter().position(same).expect("there are some");
            samples.remove(oldest);
        }
        samples.push(sample);
    }

    /// Refuses a call that names more offers than one may; nothing of it is done.
    pub(super) fn refuse_too_many_offers(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        offers: usize,
    ) -> bool {
        let over = offers > limits::OFFERS_PER_CALL_MAX;
        if over {
            let message = format!(
                "the call names {offers} offers; at most {} are allowed",
                limits::OFFERS_PER_CALL_MAX
            );
            self.refuse(turn, caller.conn, caller.call_id, Refusal::Limit, message);
        }
        over
    }

    /// Those of the offers that are outstanding and the framework's own, each once.
    pub(super) fn outstanding_of(&self, framework_id: &FrameworkId, offers: &[OfferId]) -> BTreeSet<OfferId> {
        let own = |id: &&OfferId| {
            self.view.offers.get(*id).is_some_and(|view| view.offer.framework_id == *framework_id)
        };
        offers.iter().filter(own).cloned().collect()
    }

    pub(super) fn count_decline_reason(&mut self, framework_id: &FrameworkId, reason: &str, offers: u64) {
        if offers == 0 {
            return;
        }
        let reason = match cut(reason.to_owned(), DECLINE_REASON_BYTES_MAX) {
            none if none.is_empty() => DeclineCode::NotSaid.as_str().to_owned(),
            reason => reason,
        };
        let declined = &mut self.framework_view(framework_id).declined;
        // One place is kept for all others.
        let known = declined.contains_key(&reason) || declined.len() + 1 < DECLINE_REASONS_MAX;
        let reason = if known { reason } else { DECLINE_OTHER.to_owned() };
        *declined.entry(reason).or_default() += offers;
    }
}

/// When the filter of a call ends; none when it asks for none.
pub(super) fn refuse_until(now: Time, refuse: Option<Duration>) -> Option<Time> {
    let refuse = refuse.unwrap_or(limits::REFUSE_DEFAULT).min(limits::REFUSE_MAX);
    (!refuse.is_zero()).then(|| now + refuse)
}
