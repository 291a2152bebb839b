//! A scheduler's stream: which calls are heard, and what its end means.

use apportion_types::{
    FrameworkId, limits,
    protocol::scheduler::{Call, Refusal},
};

use crate::{
    event::ConnId,
    state::{State, frameworks::SchedulerStream, offers::Close},
    turn::Turn,
};

/// One call of a subscribed framework.
pub(crate) struct Caller {
    /// Its stream.
    pub(crate) conn: ConnId,
    /// The scheduler's number of the call.
    pub(crate) call_id: u64,
    /// Who calls.
    pub(crate) framework_id: FrameworkId,
}

impl State {
    pub(super) fn scheduler_call(&mut self, turn: &mut Turn<'_>, conn: ConnId, call_id: u64, call: Call) {
        let framework_id = match (self.scheduler_streams.get(&conn), &call) {
            (Some(SchedulerStream::Closing), _) => return,
            (None, Call::Subscribe { .. }) => {
                let Call::Subscribe { info, framework_id, suppressed, options } = call else {
                    unreachable!("the call was just matched")
                };
                return self.subscribe(turn, conn, info, framework_id, suppressed, options);
            }
            (Some(_), Call::Subscribe { .. }) => {
                let message =
                    "this stream has subscribed already; a second subscription needs a stream of its own";
                return self.refuse(turn, conn, call_id, Refusal::OutOfOrder, message);
            }
            (Some(SchedulerStream::Subscribing), _) => {
                let message = "the subscription is not yet taken; wait for Subscribed before any other call";
                return self.refuse(turn, conn, call_id, Refusal::OutOfOrder, message);
            }
            (Some(SchedulerStream::StandingBy(id)), _) => {
                let message = format!(
                    "the scheduler stands by: another one of framework {id} is subscribed; wait for Subscribed"
                );
                return self.refuse(turn, conn, call_id, Refusal::OutOfOrder, message);
            }
            (None, _) => {
                let message = "the first call of a stream must be Subscribe";
                return self.refuse(turn, conn, call_id, Refusal::OutOfOrder, message);
            }
            (Some(SchedulerStream::Subscribed(id)), _) => id.clone(),
        };
        let caller = Caller { conn, call_id, framework_id };
        if let Err(message) = self.take_from_rate(turn, &caller, &call) {
            return self.refuse(turn, conn, call_id, Refusal::RateLimited, message);
        }
        match call {
            Call::Subscribe { .. } => unreachable!("handled above"),
            Call::Teardown => self.teardown(turn, &caller),
            Call::Accept(accept) => self.accept(turn, &caller, accept),
            Call::Decline { offers, refuse, reason } => self.decline(turn, &caller, offers, refuse, &reason),
            Call::AcceptInverseOffers { inverse_offers, refuse } => {
                self.accept_inverse_offers(turn, &caller, &inverse_offers, refuse);
            }
            Call::DeclineInverseOffers { inverse_offers, refuse, reason } => {
                self.decline_inverse_offers(turn, &caller, &inverse_offers, refuse, reason);
            }
            Call::Suppress { roles } => self.suppress(turn, &caller, roles),
            Call::Revive { roles } => self.revive(turn, &caller, roles),
            Call::Kill { task_id, grace } => self.kill(turn, &caller, task_id, grace),
            Call::Acknowledge { agent_id, task_id, update_id } => {
                self.acknowledge(turn, &caller.framework_id, &agent_id, task_id, update_id);
            }
            Call::Reconcile { tasks } => self.reconcile(turn, &caller, tasks),
            Call::UpdateFramework { info, suppressed, options } => {
                self.update_framework(turn, &caller, info, suppressed, options);
            }
            Call::Gang { accepts } => self.gang(turn, &caller, accepts),
            Call::Lease { offers, hold } => {
                let until = turn.now + hold.min(limits::LEASE_MAX);
                self.lease(turn, &caller, offers, until);
            }
            Call::AcknowledgeOperation { agent_id, operation_id, update_id } => {
                self.acknowledge_operation(turn, &caller.framework_id, &agent_id, operation_id, update_id);
            }
            Call::ReconcileOperations { operations } => self.reconcile_operations(turn, &caller, operations),
            Call::Request { role, requests } => self.request(turn, &caller, role, requests),
            Call::WatchFree { on } => self.watch_free(turn, &caller, on),
            Call::Commit { role, claims, all_or_nothing } => {
                self.commit_claims(turn, &caller, role, claims, all_or_nothing);
            }
        }
    }

    /// Counts a call against the rate of its principal. Acknowledgements are free: they end what waits.
    fn take_from_rate(&mut self, turn: &Turn<'_>, caller: &Caller, call: &Call) -> Result<(), String> {
        if matches!(call, Call::Acknowledge { .. } | Call::AcknowledgeOperation { .. } | Call::Teardown) {
            return Ok(());
        }
        let principal = &self.view.frameworks[&caller.framework_id].info.principal;
        let limit = self.config.rate_limits.get(principal).copied().or(self.config.rate_limit_default);
        let Some(limit) = limit else { return Ok(()) };
        let principal = principal.clone();
        self.rates.take(turn.now, &principal, &limit).map_err(|wait| {
            self.framework_view(&caller.framework_id).calls_rate_limited += 1;
            format!(
                "principal `{principal}` may make {} calls a second; the next is taken in {wait:?}, nothing of this one was done",
                limit.per_second_milli as f64 / 1000.0
            )
        })
    }

    /// The stream of a scheduler ended.
    pub(super) fn scheduler_closed(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        match self.scheduler_streams.remove(&conn) {
            Some(SchedulerStream::Subscribed(id)) => {
                self.disconnect_framework(turn, &id, Close::FrameworkGone);
                self.let_next_in(turn, &id, false);
            }
            Some(SchedulerStream::StandingBy(id)) => self.stand_by_closed(conn, &id),
            Some(SchedulerStream::Subscribing | SchedulerStream::Closing) | None => {}
        }
    }

    /// The framework ends itself; the answer is the end of its stream, once that is written.
    fn teardown(&mut self, turn: &mut Turn<'_>, caller: &Caller) {
        self.tear_down_framework(
            turn,
            &caller.framework_id,
            "the framework was torn down by its scheduler",
            None,
        );
    }
}
