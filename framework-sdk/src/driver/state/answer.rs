//! What becomes of offers: each is answered once, by an accept, as a part of a gang, or by a decline.

use std::time::Duration;

use apportion_types::{
    AgentId, OfferId, OperationId, OperationState, OperationStatus, Reason, Source, TaskId, TaskState,
    TaskStatus, Time, limits,
    protocol::scheduler::{Accept, Call, OfferOperation},
};

use super::{Callback, State};
use crate::{
    DeclineReason,
    answers::{Answer, Said},
    driver::bounds,
};

/// Declines that go into one call: refused for equally long (none: as the driver says), for the same reason.
struct Declined {
    refuse: Option<Duration>,
    reason: DeclineReason,
    offers: Vec<OfferId>,
}

/// How something ends of which the master will not speak.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// It is at fault itself.
    Error,
    /// It may be asked for again.
    Dropped(Reason),
}

impl State {
    /// Sends what was placed and gives back the rest.
    pub(super) fn answer(&mut self, now: Time, said: Vec<Said>) {
        if self.is_ending() {
            return;
        }
        let mut declines: Vec<Declined> = Vec::new();
        for one in said {
            match one {
                Said::Answer(answer) if answer.operations.is_empty() => {
                    let Answer { offers, refuse, reason, .. } = answer;
                    let valid = offers.into_iter().filter(|id| self.outstanding.remove(id)).collect();
                    gather(&mut declines, refuse, reason, valid);
                }
                Said::Answer(answer) if self.is_outstanding(&answer) => {
                    let (agent_id, accept) = self.accept(answer);
                    let operations = accept.operations.clone();
                    let call = self.send(Call::Accept(accept));
                    self.sent(call, &agent_id, operations);
                }
                Said::Answer(answer) => self.void(now, answer, Reason::InvalidOffers, &mut declines),
                Said::Gang(parts) if parts.iter().all(|part| self.is_outstanding(part)) => {
                    let parts: Vec<(AgentId, Accept)> =
                        parts.into_iter().map(|part| self.accept(part)).collect();
                    let accepts = parts.iter().map(|(_, accept)| accept.clone()).collect();
                    let call = self.send(Call::Gang { accepts });
                    for (agent_id, accept) in parts {
                        self.sent(call, &agent_id, accept.operations);
                    }
                }
                Said::Gang(parts) => {
                    for part in parts {
                        let valid = self.is_outstanding(&part);
                        let reason = if valid { Reason::GangRefused } else { Reason::InvalidOffers };
                        self.void(now, part, reason, &mut declines);
                    }
                }
                Said::Lease { mut offers, hold } => {
                    offers.retain(|offer| self.outstanding.contains(offer));
                    if !offers.is_empty() {
                        self.send_subscribed(Call::Lease { offers, hold });
                    }
                }
            }
        }
        self.decline(declines);
    }

    fn is_outstanding(&self, answer: &Answer) -> bool {
        answer.offers.iter().all(|id| self.outstanding.contains(id))
    }

    /// What uses the offers, which are not outstanding any more.
    fn accept(&mut self, Answer { offers, agent_id, operations, refuse, .. }: Answer) -> (AgentId, Accept) {
        offers.iter().for_each(|id| _ = self.outstanding.remove(id));
        let refuse = Some(refuse.unwrap_or_else(|| self.refusal()));
        (agent_id, Accept { offers, operations, refuse })
    }

    /// Notes what a call has asked for.
    fn sent(&mut self, call: u64, agent_id: &AgentId, operations: Vec<OfferOperation>) {
        for operation in operations {
            match operation {
                OfferOperation::Launch(tasks) | OfferOperation::LaunchGroup(tasks) => {
                    for task in tasks.into_iter().flatten() {
                        self.tasks.launched(task.task_id, agent_id.clone(), call);
                    }
                }
                OfferOperation::Convert { id, .. } => {
                    if let Some(id) = id {
                        self.operations.sent(id, agent_id.clone(), call);
                    }
                }
            }
        }
    }

    /// An offer that is no longer outstanding, or a part of whose gang is not, cannot be used: what was placed on it is told as
    /// dropped here, without asking the master, which would say the same or could not be asked; what is valid of it goes back without a
    /// filter.
    fn void(&mut self, now: Time, answer: Answer, reason: Reason, declines: &mut Vec<Declined>) {
        let Answer { offers, agent_id, operations, .. } = answer;
        let valid = offers.into_iter().filter(|id| self.outstanding.remove(id)).collect();
        let declined = DeclineReason::WAITING.with("another part was rescinded");
        gather(declines, Some(Duration::ZERO), declined, valid);
        let (message, undone) = match reason {
            Reason::GangRefused => {
                let message = "another offer of its gang was no longer valid; try it with others";
                (message, message)
            }
            _ => (
                "its offer was no longer valid when it was used; launch it on another",
                "its offer was no longer valid when it was used; do it on another",
            ),
        };
        let end = End::Dropped(reason);
        for operation in operations {
            match operation {
                OfferOperation::Launch(tasks) | OfferOperation::LaunchGroup(tasks) => {
                    for task in tasks.into_iter().flatten() {
                        self.launched_on_void += u64::from(reason == Reason::InvalidOffers);
                        self.tell_ended(now, task.task_id, &agent_id, end, message.to_owned());
                    }
                }
                OfferOperation::Convert { id, .. } => {
                    if let Some(id) = id {
                        self.tell_undone(now, id, Some(agent_id.clone()), end, undone.to_owned());
                    }
                }
            }
        }
    }

    fn decline(&mut self, declines: Vec<Declined>) {
        for Declined { refuse, reason, offers } in declines {
            for chunk in offers.chunks(bounds::DECLINE_OFFERS_PER_CALL) {
                let refuse = Some(refuse.unwrap_or_else(|| self.refusal()));
                self.send_subscribed(Call::Decline {
                    offers: chunk.to_vec(),
                    refuse,
                    reason: reason.clone().into(),
                });
            }
        }
    }

    /// Tells a task as ended that the master will not speak of.
    pub(super) fn tell_ended(
        &mut self,
        now: Time,
        task_id: TaskId,
        agent_id: &AgentId,
        end: End,
        message: String,
    ) {
        let (state, reason) = match end {
            End::Error => (TaskState::Error, Reason::TaskInvalid),
            End::Dropped(reason) => (TaskState::Dropped, reason),
        };
        let status = TaskStatus {
            task_id,
            agent_id: Some(agent_id.clone()),
            state,
            reason: Some(reason),
            source: Source::Master,
            message,
            at: now,
            update_id: None,
            container: None,
            findings: Default::default(),
            addresses: Vec::new(),
        };
        self.tasks.heard(&status);
        self.tell(Callback::Update(status));
    }

    /// Tells an operation as not done that the master will not speak of.
    pub(super) fn tell_undone(
        &mut self,
        now: Time,
        operation_id: OperationId,
        agent_id: Option<AgentId>,
        end: End,
        message: String,
    ) {
        let (state, reason) = match end {
            End::Error => (OperationState::Error, Reason::OperationInvalid),
            End::Dropped(reason) => (OperationState::Dropped, reason),
        };
        let reason = Some(reason);
        let status =
            OperationStatus { operation_id, agent_id, state, reason, message, at: now, update_id: None };
        self.operations.heard(&status);
        self.tell(Callback::Operation(status));
    }

    /// How long a refusal holds where the scheduler does not say: spread, so that refused offers do not all return at once.
    fn refusal(&mut self) -> Duration {
        let refuse = self.config.refuse;
        self.random.between(refuse * 4 / 5, refuse * 6 / 5).min(limits::REFUSE_MAX)
    }

    /// Gives offers back of which the scheduler was not told.
    pub(super) fn decline_untold(&mut self, offers: Vec<OfferId>) {
        self.decline(vec![Declined { refuse: None, reason: DeclineReason::NO_WORK, offers }]);
    }
}

/// Gathers what goes into one call.
fn gather(
    declines: &mut Vec<Declined>,
    refuse: Option<Duration>,
    reason: DeclineReason,
    mut offers: Vec<OfferId>,
) {
    if offers.is_empty() {
        return;
    }
    match declines.iter_mut().find(|group| group.refuse == refuse && group.reason == reason) {
        Some(group) => group.offers.append(&mut offers),
        None => declines.push(Declined { refuse, reason, offers }),
    }
}
