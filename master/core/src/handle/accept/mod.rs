//! A framework uses offers.
//!
//! What an accept asks for is first judged as a whole into a [`Plan`], which changes nothing; then the plan is done, which cannot fail.
//! A gang is several plans, done when all are without fault.

mod apply;
mod executor;
mod gang;
mod group;
mod judge;
mod plan;

use apportion_types::{
    AgentId, OfferId, OperationState, Reason, TaskId, TaskState, limits,
    protocol::scheduler::{Accept, OfferOperation, Refusal},
};

use self::plan::FaultKind;
pub(super) use self::plan::{Fault, Names, Plan, TaskFault};
use super::{decline::refuse_until, scheduler_stream::Caller};
use crate::{
    state::{State, master_status, offers::Close, operations::operation_status},
    turn::Turn,
};

impl State {
    pub(super) fn accept(&mut self, turn: &mut Turn<'_>, caller: &Caller, accept: Accept) {
        if self.refuse_too_many_offers(turn, caller, accept.offers.len()) {
            return;
        }
        let id = &caller.framework_id;
        if let Err(problem) = self.judge_offers(id, &accept.offers) {
            self.void_accept(turn, caller, &accept.offers);
            let refused = format!("{problem}; nothing is done");
            self.refuse(turn, caller.conn, caller.call_id, Refusal::InvalidOffers, refused);
            return self.answer_all(turn, caller, &accept, &Answer::dropped(Reason::InvalidOffers), &problem);
        }
        if let Err(problem) = judge_size(&accept) {
            self.void_accept(turn, caller, &accept.offers);
            let refused = format!("{problem}; nothing is done");
            self.refuse(turn, caller.conn, caller.call_id, Refusal::Limit, refused);
            return self.answer_all(turn, caller, &accept, &Answer::error(None), &problem);
        }
        if accept.operations.iter().all(is_empty) {
            let refuse_until = refuse_until(turn.now, accept.refuse);
            for offer in &accept.offers {
                self.close_offer(turn, offer, Close::Declined { refuse_until });
            }
            return self.count_decline_reason(id, "accepted without a task", accept.offers.len() as u64);
        }
        let mut plan = self.plan(turn.now, id, accept, &mut Names::default());
        let faults = std::mem::take(&mut plan.faults);
        let answer = Answer::error(Some(plan.agent_id.clone()));
        self.do_plan(turn, caller, plan);
        self.answer_faults(turn, caller, faults, &answer);
    }

    /// Gives back the offers of an accept of which nothing is done: they are consumed all the same.
    fn void_accept(&mut self, turn: &mut Turn<'_>, caller: &Caller, offers: &[OfferId]) {
        for offer in self.outstanding_of(&caller.framework_id, offers) {
            self.close_offer(turn, &offer, Close::Void);
        }
    }

    /// Answers for everything in an accept of which nothing is done.
    fn answer_all(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        accept: &Accept,
        answer: &Answer,
        problem: &str,
    ) {
        for operation in &accept.operations {
            match operation {
                OfferOperation::Launch(tasks) | OfferOperation::LaunchGroup(tasks) => {
                    for task in tasks {
                        let task_id = match task {
                            Ok(info) => Some(&info.task_id),
                            Err(invalid) => invalid.task_id.as_ref(),
                        };
                        if task_id.is_some() {
                            self.answer_task(turn, caller, answer, task_id, problem);
                        }
                    }
                }
                OfferOperation::Convert { id: Some(id), .. } => {
                    let status = operation_status(turn.now, id, answer.agent_id.as_ref(), answer.operation);
                    self.tell_operation(turn, &caller.framework_id, status(Some(answer.reason), problem));
                }
                OfferOperation::Convert { id: None, .. } => {}
            }
        }
    }

    /// Answers for each part of an accept that could not be done.
    pub(super) fn answer_faults(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        faults: Vec<Fault>,
        answer: &Answer,
    ) {
        let mut over_limit = 0;
        for fault in faults {
            match fault {
                Fault::Task(TaskFault { task_id, kind, in_group, problem }) => {
                    over_limit += u64::from(kind == FaultKind::Limit);
                    let reason = match (kind, in_group) {
                        (FaultKind::NotEnforceable, _) => Reason::NotEnforceable,
                        (FaultKind::Invalid | FaultKind::Limit, true) => Reason::TaskGroupInvalid,
                        (FaultKind::Invalid | FaultKind::Limit, false) => answer.reason,
                    };
                    let answer = Answer { reason, ..answer.clone() };
                    self.answer_task(turn, caller, &answer, task_id.as_ref(), &problem);
                }
                Fault::Operation { id: Some(id), problem } => {
                    let status =
                        operation_status(turn.now, &id, answer.agent_id.as_ref(), OperationState::Error);
                    self.tell_operation(
                        turn,
                        &caller.framework_id,
                        status(Some(Reason::OperationInvalid), &problem),
                    );
                }
                Fault::Operation { id: None, problem } => {
                    self.refuse(turn, caller.conn, caller.call_id, Refusal::Invalid, problem);
                }
            }
        }
        if over_limit > 0 {
            let message = format!(
                "{over_limit} tasks of the accept are not launched: the framework has {} tasks, the most that is allowed; \
                 acknowledge the ends of others first",
                limits::TASKS_PER_FRAMEWORK_MAX
            );
            self.refuse(turn, caller.conn, caller.call_id, Refusal::Limit, message);
        }
    }

    /// Answers for a task that is not launched; for one without so much as an id, the call is refused.
    pub(super) fn answer_task(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        answer: &Answer,
        task_id: Option<&TaskId>,
        problem: &str,
    ) {
        match task_id {
            Some(task_id) => {
                let agent_id = answer.agent_id.as_ref();
                let status = master_status(turn.now, task_id, agent_id, answer.state, answer.reason, problem);
                self.tell_status(turn, &caller.framework_id, status);
            }
            None => self.refuse(turn, caller.conn, caller.call_id, Refusal::Invalid, problem),
        }
    }
}

/// Whether it launches nothing, and is right in it: a task group without tasks is a fault.
fn is_empty(operation: &OfferOperation) -> bool {
    matches!(operation, OfferOperation::Launch(tasks) if tasks.is_empty())
}

/// Judges how much an accept asks for.
fn judge_size(accept: &Accept) -> Result<(), String> {
    let (tasks, operations) = (accept.tasks().count(), accept.operations.len());
    if tasks > limits::TASKS_PER_ACCEPT_MAX {
        let most = limits::TASKS_PER_ACCEPT_MAX;
        return Err(format!(
            "the accept holds {tasks} tasks; at most {most} are allowed, launch the others with further offers"
        ));
    }
    if operations > limits::OPERATIONS_PER_ACCEPT_MAX {
        let most = limits::OPERATIONS_PER_ACCEPT_MAX;
        return Err(format!("the accept holds {operations} operations; at most {most} are allowed"));
    }
    Ok(())
}

/// How what is not done is answered.
#[derive(Clone)]
pub(super) struct Answer {
    state: TaskState,
    operation: OperationState,
    reason: Reason,
    agent_id: Option<AgentId>,
}

impl Answer {
    /// It may be sent again as it is.
    pub(super) fn dropped(reason: Reason) -> Self {
        Self { state: TaskState::Dropped, operation: OperationState::Dropped, reason, agent_id: None }
    }

    /// It is at fault itself.
    pub(super) fn error(agent_id: Option<AgentId>) -> Self {
        Self {
            state: TaskState::Error,
            operation: OperationState::Error,
            reason: Reason::TaskInvalid,
            agent_id,
        }
    }
}
