//! What the master says.

use std::time::Duration;

use apportion_types::{
    FrameworkId, Offer, OperationState, OperationStatus, Reason, TaskState, TaskStatus, Time, limits,
    protocol::scheduler::{Call, ErrorCode, Event, Refusal},
};

use super::{Callback, Phase, State, answer::End};
use crate::{DriverError, Refused, Stop, Subscription};

impl State {
    pub(crate) fn event(&mut self, now: Time, event: Event) {
        match (&mut self.phase, event) {
            (
                Phase::Subscribing { .. } | Phase::StandingBy { .. } | Phase::Subscribed { .. },
                Event::Error { code, message },
            ) => {
                self.stream_ends(now, code, message);
            }
            (
                Phase::Subscribing { .. } | Phase::StandingBy { .. },
                Event::Subscribed { framework_id, heartbeat_interval, master_id },
            ) => {
                let known = self.framework_id.replace(framework_id.clone()).is_some();
                // Of several schedulers, another one may have been subscribed before.
                let resumed = known || self.described.current().1.stand_by.is_some();
                self.subscribed(now, heartbeat_interval, Subscription { framework_id, master_id, resumed });
            }
            (Phase::Subscribing { .. }, Event::StandingBy { framework_id, heartbeat_interval }) => {
                self.stands_by(now, framework_id, heartbeat_interval);
            }
            (Phase::Subscribing { .. }, Event::Heartbeat) => {}
            (Phase::StandingBy { heard, .. }, Event::Heartbeat) => *heard = now,
            (Phase::Subscribing { .. } | Phase::StandingBy { .. }, _) => {
                self.abandon(now, "the master spoke before it confirmed the subscription".to_owned());
            }
            (Phase::Subscribed { heard, .. }, event) => {
                *heard = now;
                if !self.is_ending() {
                    self.news(now, event);
                }
            }
            // Of a stream that was given up.
            (Phase::Idle | Phase::Waiting { .. } | Phase::Connecting { .. } | Phase::Ended, _) => {}
        }
    }

    fn stands_by(&mut self, now: Time, framework_id: FrameworkId, heartbeat_interval: Duration) {
        if self.was_subscribed {
            let framework_id = framework_id.to_string();
            let message = "it was subscribed while this one was not connected".to_owned();
            return self.end(Err(DriverError::FailedOver { framework_id, message }));
        }
        self.first_by = None;
        self.phase = Phase::StandingBy { heard: now, heartbeat: watched(heartbeat_interval) };
        self.framework_id = Some(framework_id.clone());
        self.tell(Callback::StandingBy(framework_id));
    }

    fn subscribed(&mut self, now: Time, heartbeat_interval: Duration, subscription: Subscription) {
        self.first_by = None;
        self.was_subscribed = true;
        let heartbeat = watched(heartbeat_interval);
        self.phase = Phase::Subscribed { since: now, heard: now, heartbeat };
        if self.teardown_by.is_some() {
            self.teardown();
        } else {
            self.tell(Callback::Subscribed(subscription));
        }
    }

    fn news(&mut self, now: Time, event: Event) {
        match event {
            Event::Offers(offers) => self.offers(offers),
            Event::Rescind(offer_id) => {
                // One that was just answered is not the scheduler's any more.
                if self.outstanding.remove(&offer_id) {
                    self.tell(Callback::Rescinded(offer_id));
                }
            }
            Event::Update(status) => self.update(status),
            Event::AgentLost { agent_id, message } => self.tell(Callback::AgentLost { agent_id, message }),
            Event::Refused { call_id, code, message } => self.refused(now, call_id, code, message),
            Event::Heartbeat => {}
            Event::OperationUpdate(status) => self.operation(status),
            Event::InverseOffers(offers) => {
                self.asked_to_leave.extend(offers.iter().map(|offer| offer.inverse_offer_id.clone()));
                self.tell(Callback::InverseOffers(offers));
            }
            Event::RescindInverseOffer(id) => {
                // One that was just answered is over.
                if self.asked_to_leave.remove(&id) {
                    self.tell(Callback::InverseOfferRescinded(id));
                }
            }
            Event::Preempt(preemption) => self.tell(Callback::Preempt(preemption)),
            Event::Free(free) => self.free(free),
            Event::Committed { call_id, claims } => self.committed(now, call_id, claims),
            Event::Subscribed { .. } | Event::StandingBy { .. } => {
                tracing::warn!("the master confirmed a subscription that stands; ignored")
            }
            Event::Error { .. } => unreachable!("errors are handled in every phase before"),
        }
    }

    fn offers(&mut self, offers: Vec<Offer>) {
        let new: Vec<Offer> =
            offers.into_iter().filter(|offer| self.outstanding.insert(offer.offer_id.clone())).collect();
        if new.is_empty() {
            return;
        }
        let met = new.iter().map(|offer| &offer.role).filter(|role| self.requests.contains_key(*role));
        self.requests_met.extend(met.cloned());
        if self.wants_offers {
            self.tell(Callback::Offers(new));
        } else {
            // They crossed our Suppress on the way.
            let ids = new.into_iter().map(|offer| offer.offer_id).collect::<Vec<_>>();
            for id in &ids {
                self.outstanding.remove(id);
            }
            self.decline_untold(ids);
        }
    }

    fn update(&mut self, status: TaskStatus) {
        self.reconciliation.told(&status.task_id);
        self.tasks.heard(&status);
        // Told alive although it is to end: whoever was to hear of the wish has not, or has forgotten it. A kill may be repeated.
        if matches!(status.state, TaskState::Staging | TaskState::Starting | TaskState::Running)
            && let Some(grace) = self.tasks.kill_wish(&status.task_id)
        {
            self.send_subscribed(Call::Kill { task_id: status.task_id.clone(), grace });
        }
        match (status.update_id, &status.agent_id) {
            (Some(update_id), Some(agent_id)) if self.tasks.is_acknowledged(&status.task_id, update_id) => {
                let (agent_id, task_id) = (agent_id.clone(), status.task_id);
                self.send_subscribed(Call::Acknowledge { agent_id, task_id, update_id });
                return;
            }
            (Some(_), None) => {
                let task = status.task_id.as_str();
                tracing::warn!(
                    task,
                    "an update names no agent and cannot be acknowledged; the master is at fault"
                );
            }
            _ => {}
        }
        self.tell(Callback::Update(status));
    }

    fn operation(&mut self, status: OperationStatus) {
        // A master that came after the operation was sent knows nothing of it, and tells nothing when its agent returns.
        if status.state != OperationState::Unreachable {
            self.operations_asked.told(&status.operation_id);
        }
        self.operations.heard(&status);
        if let (Some(update_id), Some(agent_id)) = (status.update_id, &status.agent_id)
            && self.operations.is_acknowledged(&status.operation_id, update_id)
        {
            let (agent_id, operation_id) = (agent_id.clone(), status.operation_id);
            self.send_subscribed(Call::AcknowledgeOperation { agent_id, operation_id, update_id });
            return;
        }
        if status.update_id.is_some() && status.agent_id.is_none() {
            let operation = status.operation_id.as_str();
            tracing::warn!(
                operation,
                "what became of an operation names no agent and cannot be acknowledged; the master is at fault"
            );
        }
        self.tell(Callback::Operation(status));
    }

    fn refused(&mut self, now: Time, call_id: u64, code: Refusal, message: String) {
        let call = self.calls.iter().rev().find(|(id, _)| *id == call_id).map(|(_, kind)| *kind);
        tracing::warn!(call = call.unwrap_or("unknown"), ?code, "the master refused a call: {message}");
        self.tell(Callback::Refused(Refused { call, code, message: message.clone() }));
        self.described.refused(call_id);
        self.claims.remove(&call_id);
        let end = if code == Refusal::Invalid { End::Error } else { End::Dropped(Reason::InvalidOffers) };
        let message = format!("the {} that held it was refused: {message}", call.unwrap_or("call"));
        for (task_id, agent_id) in self.tasks.refused(call_id, |_| true) {
            self.tell_ended(now, task_id, &agent_id, end, message.clone());
        }
        for (operation_id, agent_id) in self.operations.refused(call_id) {
            self.tell_undone(now, operation_id, agent_id, end, message.clone());
        }
    }

    /// The master says why it ends the stream: for ever, or for now.
    fn stream_ends(&mut self, now: Time, code: ErrorCode, message: String) {
        let framework_id = self.name();
        match code {
            ErrorCode::Removed if self.teardown_by.is_some() => self.end(Ok(Stop::Teardown)),
            ErrorCode::Removed => self.end(Err(DriverError::Removed { framework_id, message })),
            ErrorCode::FailedOver => self.end(Err(DriverError::FailedOver { framework_id, message })),
            ErrorCode::Refused => self.end(Err(DriverError::Refused { framework_id, message })),
            ErrorCode::TooSlow | ErrorCode::ShuttingDown => {
                self.abandon(now, format!("the master ended the connection ({code}): {message}"));
            }
        }
    }
}

/// A master that tells no interval cannot be watched more closely than one that tells the default.
fn watched(heartbeat_interval: Duration) -> Duration {
    if heartbeat_interval.is_zero() { limits::SCHEDULER_HEARTBEAT } else { heartbeat_interval }
}
