//! What becomes of offers: each is answered once, by an accept or a decline.

use std::time::Duration;

use apportion_types::{
    AgentId, OfferId, Reason, Source, TaskId, TaskState, TaskStatus, Time, limits,
    protocol::scheduler::{Accept, Call},
};

use super::{Callback, State};
use crate::{DeclineReason, answers::Answer, driver::bounds};

/// Declines that go into one call: refused for equally long (none: as the driver says), for the same reason.
struct Declined {
    refuse: Option<Duration>,
    reason: DeclineReason,
    offers: Vec<OfferId>,
}

impl State {
    /// Sends what was placed and gives back the rest.
    ///
    /// An offer that is no longer outstanding cannot be used: the tasks on it are told as dropped here, without asking the
    /// master, which would say the same or could not be asked; the valid parts of a merged offer go back without a filter.
    pub(super) fn answer(&mut self, now: Time, answers: Vec<Answer>) {
        if self.is_ending() {
            return;
        }
        let mut declines: Vec<Declined> = Vec::new();
        for Answer { offers, agent_id, tasks, refuse, reason } in answers {
            let count = offers.len();
            let valid: Vec<OfferId> = offers.into_iter().filter(|id| self.outstanding.remove(id)).collect();
            if tasks.is_empty() {
                gather(&mut declines, refuse, reason, valid);
            } else if valid.len() == count {
                let refuse = Some(refuse.unwrap_or_else(|| self.refusal()));
                let task_ids: Vec<TaskId> = tasks.iter().map(|task| task.task_id.clone()).collect();
                let accept = self.send(Call::Accept(Accept::launch(valid, tasks, refuse)));
                for task_id in task_ids {
                    self.tasks.launched(task_id, agent_id.clone(), accept);
                }
            } else {
                gather(
                    &mut declines,
                    Some(Duration::ZERO),
                    DeclineReason::WAITING.with("another part was rescinded"),
                    valid,
                );
                self.launched_on_void += tasks.len() as u64;
                let message = "its offer was no longer valid when it was used; launch it on another";
                for task in tasks {
                    self.tell_ended(now, task.task_id, &agent_id, TaskState::Dropped, message.to_owned());
                }
            }
        }
        self.decline(declines);
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
        state: TaskState,
        message: String,
    ) {
        let invalid = state == TaskState::Error;
        let status = TaskStatus {
            task_id,
            agent_id: Some(agent_id.clone()),
            state,
            reason: Some(if invalid { Reason::TaskInvalid } else { Reason::InvalidOffers }),
            source: Source::Master,
            message,
            at: now,
            update_id: None,
            container: None,
        };
        self.tasks.heard(&status);
        self.tell(Callback::Update(status));
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
