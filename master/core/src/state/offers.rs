//! Outstanding offers: the one door that makes them, the one that closes them, and the memory of those closed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use apportion_allocator::Allocation;
use apportion_types::{Offer, OfferId, Time, limits, protocol::scheduler::Event as SchedulerEvent};

use super::{State, ids::Origin, timers::Timer};
use crate::{limits::CLOSED_OFFERS_MAX, turn::Turn, view::OfferView};

/// Why an offer is closed: decides where its resources go, who is told, and what is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// Used: its resources go to the accept, which places all of them.
    Accepted,
    /// Given back, not to be made again until then.
    Declined {
        /// When the filter ends; none for no filter.
        refuse_until: Option<Time>,
    },
    /// Used in a call of which another offer was not valid.
    Void,
    /// Held too long.
    TimedOut,
    /// Its agent was disconnected, lost or removed, or has changed.
    AgentLost,
    /// Its agent was deactivated.
    Deactivated,
    /// What it holds is needed for an operation, or is no more.
    Changed,
    /// What it holds is needed for a quota.
    Quota,
    /// The window of its agent's machine has changed.
    Maintenance,
    /// Its role is no longer among the framework's.
    RoleGone,
    /// Its framework was disconnected or removed.
    FrameworkGone,
    /// Its framework has subscribed anew.
    FailedOver,
}

impl Close {
    /// What became of the offer.
    fn became(self) -> &'static str {
        match self {
            Close::Accepted => "it was already accepted",
            Close::Declined { .. } => "it was already declined",
            Close::Void => "it was already used, in an accept that was refused",
            Close::TimedOut => "it was rescinded, because it was held too long",
            Close::AgentLost => "it was rescinded, because its agent was lost",
            Close::Deactivated => "it was rescinded, because its agent was deactivated",
            Close::Changed => "it was rescinded, because an operation changes what it holds",
            Close::Quota => "it was rescinded, to make room for a quota",
            Close::Maintenance => {
                "it was rescinded, because the maintenance of its agent's machine is planned otherwise"
            }
            Close::RoleGone => "it was rescinded, because its role is no longer among the framework's",
            Close::FrameworkGone => "it was rescinded, because the framework was disconnected",
            Close::FailedOver => "it became void when the framework subscribed anew",
        }
    }
}

/// How the offers closed last came to their end, by the number in their ids.
#[derive(Debug, Default)]
pub(crate) struct ClosedOffers {
    how: BTreeMap<u64, Close>,
    order: VecDeque<u64>,
}

impl ClosedOffers {
    fn push(&mut self, number: u64, how: Close) {
        let before = self.how.insert(number, how);
        assert!(before.is_none(), "offer {number} is closed twice");
        self.order.push_back(number);
        if self.order.len() > CLOSED_OFFERS_MAX {
            let oldest = self.order.pop_front().expect("it is not empty");
            self.how.remove(&oldest);
        }
    }
}

impl State {
    /// Makes an offer of what was gathered for a preemption, which no cycle counts.
    pub(crate) fn open_gathered_offer(&mut self, now: Time, given: Allocation) -> Offer {
        let offer = self.open_offer(now, given);
        self.gathered_offers.insert(offer.offer_id.clone());
        offer
    }

    /// Makes an offer of what a cycle gave. The one door by which an offer comes to be.
    pub(crate) fn open_offer(&mut self, now: Time, given: Allocation) -> Offer {
        let offer_id = self.ids.offer();
        self.agent_view(&given.agent).offered += &given.resources.exclusive();
        let agent = self.agent(&given.agent);
        agent.offers.insert(offer_id.clone());
        let offer = Offer {
            offer_id: offer_id.clone(),
            framework_id: given.framework,
            agent_id: given.agent,
            role: given.role,
            resources: given.resources,
            place: agent.place.clone(),
            unavailability: agent.unavailability,
        };
        self.framework_view(&offer.framework_id).offered += &offer.resources.exclusive().summable();
        self.framework(&offer.framework_id).offers.insert(offer_id.clone());
        let expires_at = now + self.config.offer_timeout;
        self.timers.set(Timer::Offer(offer_id.clone()), expires_at);
        let view = OfferView { offer: offer.clone(), made_at: now, expires_at };
        self.view.offers.insert(offer_id, Arc::new(view));
        self.view.counters.offers_made += 1;
        offer
    }

    /// Closes an outstanding offer. The one door: it alone returns the resources to the allocator, tells the scheduler where it
    /// must know, and counts. Only of [`Close::Accepted`] are the resources handed to the caller instead.
    pub(crate) fn close_offer(&mut self, turn: &mut Turn<'_>, id: &OfferId, close: Close) -> Arc<OfferView> {
        let closed = self.view.offers.remove(id).expect("the offer is outstanding");
        let offer = &closed.offer;
        self.timers.cancel(&Timer::Offer(id.clone()));
        self.agent_view(&offer.agent_id).offered.saturating_sub(&offer.resources.exclusive());
        self.agent(&offer.agent_id).offers.remove(id);
        self.framework_view(&offer.framework_id)
            .offered
            .saturating_sub(&offer.resources.exclusive().summable());
        self.framework(&offer.framework_id).offers.remove(id);
        let number = self.ids.offer_number(id).expect("an outstanding offer is one of ours");
        self.closed_offers.push(number, close);
        if !self.gathered_offers.remove(id) {
            self.allocator.offers_closed(&offer.framework_id, 1);
        }

        let refuse_until = match close {
            Close::Accepted => return closed,
            Close::Declined { refuse_until } => refuse_until,
            Close::TimedOut => Some(turn.now + limits::REFUSE_DEFAULT),
            Close::Void
            | Close::AgentLost
            | Close::Deactivated
            | Close::Changed
            | Close::Quota
            | Close::Maintenance
            | Close::RoleGone
            | Close::FrameworkGone
            | Close::FailedOver => None,
        };
        self.allocator.recover(
            &offer.framework_id,
            &offer.role,
            &offer.agent_id,
            &offer.resources,
            refuse_until,
        );
        let counters = &mut self.view.counters;
        match close {
            Close::Declined { .. } | Close::Void => counters.offers_declined += 1,
            Close::TimedOut => {
                counters.offers_timed_out += 1;
                counters.offers_rescinded += 1;
            }
            Close::AgentLost
            | Close::Deactivated
            | Close::Changed
            | Close::Quota
            | Close::Maintenance
            | Close::RoleGone
            | Close::FrameworkGone
            | Close::FailedOver => counters.offers_rescinded += 1,
            Close::Accepted => {}
        }
        if matches!(
            close,
            Close::TimedOut
                | Close::AgentLost
                | Close::Deactivated
                | Close::Changed
                | Close::Quota
                | Close::Maintenance
                | Close::RoleGone
        ) && let Some(conn) = self.scheduler_conn(&offer.framework_id)
        {
            turn.tell_scheduler(conn, SchedulerEvent::Rescind(id.clone()));
        }
        closed
    }

    /// Why an offer that is not outstanding is not, for the person who used it.
    pub(crate) fn why_not_outstanding(&self, id: &OfferId) -> String {
        let how = self.ids.offer_number(id).and_then(|number| self.closed_offers.how.get(&number));
        match (self.ids.offer_origin(id), how) {
            (_, Some(how)) => format!("offer `{id}` is no longer valid: {}", how.became()),
            (Origin::Ours, None) => {
                format!("offer `{id}` is no longer valid: it was accepted, declined or rescinded long ago")
            }
            (Origin::Foreign | Origin::NeverGiven, None) => {
                format!("offer `{id}` is unknown: this master ({}) has not made it", self.config.master_id)
            }
        }
    }
}
