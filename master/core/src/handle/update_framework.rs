//! A framework changes what it is and what it wants, while it runs.

use std::sync::Arc;

use apportion_types::{FrameworkInfo, FrameworkOptions, OfferId, Role, Time, protocol::scheduler::Refusal};

use super::{scheduler_stream::Caller, subscribe::judge_info};
use crate::{
    action::RegistryOp,
    state::{
        State,
        commits::{FrameworkUpdate, Then},
        offers::Close,
        timers::Timer,
    },
    turn::Turn,
    view::FrameworkState,
};

impl State {
    /// Judges the change, and does it when it is written.
    pub(super) fn update_framework(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        info: FrameworkInfo,
        suppressed: Vec<Role>,
        options: Box<FrameworkOptions>,
    ) {
        let id = caller.framework_id.clone();
        let known = &self.view.frameworks[&id].info;
        let judged = judge_info(&info, &suppressed).and_then(|()| match known.principal == info.principal {
            true => Ok(()),
            false => Err(format!(
                "framework {id} belongs to principal `{}`, not `{}`; a framework cannot change its principal",
                known.principal, info.principal
            )),
        });
        if let Err(message) = judged {
            return self.refuse(turn, caller.conn, caller.call_id, Refusal::Invalid, message);
        }
        let written = **known == info;
        let update = Box::new(FrameworkUpdate { framework_id: id.clone(), info, suppressed, options });
        if written {
            return self.framework_update_committed(turn, *update);
        }
        let op = RegistryOp::AdmitFramework { framework_id: id, info: update.info.clone() };
        self.commits.ask(turn, op, Then::UpdateFramework(update));
    }

    /// The change is written. A framework that was disconnected meanwhile says anew what it wants when it returns.
    pub(super) fn framework_update_committed(&mut self, turn: &mut Turn<'_>, update: FrameworkUpdate) {
        let FrameworkUpdate { framework_id: id, info, suppressed, options } = update;
        let connected =
            self.view.frameworks.get(&id).is_some_and(|view| view.state == FrameworkState::Active);
        if !connected {
            // The registry has what it does not know itself to be: its next subscription is to be written.
            if let Some(framework) = self.frameworks.get_mut(&id) {
                framework.recorded = false;
            }
            return;
        }
        let took = self.takes_inverse_offers(&id);
        let view = self.framework_view(&id);
        view.info = Arc::new(info);
        view.suppressed = suppressed;
        view.options = std::sync::Arc::from(options);
        let roles = view.info.roles.clone();
        view.requests.retain(|role, _| roles.contains(role));
        let gone = |offer: &&OfferId| !roles.contains(&self.view.offers[*offer].offer.role);
        let offers: Vec<OfferId> = self.frameworks[&id].offers.iter().filter(gone).cloned().collect();
        for offer in offers {
            self.close_offer(turn, &offer, Close::RoleGone);
        }
        self.tell_allocator_wants(&id);
        if took != self.takes_inverse_offers(&id) {
            self.ask_to_leave_anew(turn, &id);
        }
    }

    /// Lets offers be held until a later time. It never shortens how long they may.
    pub(super) fn lease(&mut self, turn: &mut Turn<'_>, caller: &Caller, offers: Vec<OfferId>, until: Time) {
        if self.refuse_too_many_offers(turn, caller, offers.len()) {
            return;
        }
        let own = self.outstanding_of(&caller.framework_id, &offers);
        if let Some(missing) = offers.iter().find(|offer| !own.contains(*offer)) {
            let why = match self.view.offers.contains_key(missing) {
                true => format!("offer `{missing}` was made to another framework"),
                false => self.why_not_outstanding(missing),
            };
            let message = format!("{why}; nothing is held longer");
            return self.refuse(turn, caller.conn, caller.call_id, Refusal::InvalidOffers, message);
        }
        for id in own {
            let view = self.view.offers.get_mut(&id).expect("the offer is outstanding");
            let view = std::sync::Arc::make_mut(view);
            view.expires_at = view.expires_at.max(until);
            self.timers.set(Timer::Offer(id), view.expires_at);
        }
    }
}
