//! Offers of several agents, used all or nothing.

use std::collections::BTreeSet;

use apportion_types::{
    OperationId, Reason, TaskId, TaskInfo, limits,
    protocol::scheduler::{Accept, InvalidTask, OfferOperation, Refusal},
};

use super::{super::scheduler_stream::Caller, Answer, Fault, Names, Plan, TaskFault, judge_size};
use crate::{state::State, turn::Turn};

impl State {
    pub(in crate::handle) fn gang(&mut self, turn: &mut Turn<'_>, caller: &Caller, accepts: Vec<Accept>) {
        let offers: usize = accepts.iter().map(|accept| accept.offers.len()).sum();
        if self.refuse_too_many_offers(turn, caller, offers) {
            return;
        }
        if let Err((code, problem)) = self.judge_gang(caller, &accepts) {
            let refused = format!("{problem}; nothing of the gang is done");
            self.refuse(turn, caller.conn, caller.call_id, code, refused);
            let reason =
                if code == Refusal::InvalidOffers { Reason::InvalidOffers } else { Reason::GangRefused };
            return self.drop_gang(turn, caller, &accepts, &Answer::dropped(reason), &problem);
        }
        let mut names = Names::default();
        let plans: Vec<Plan> = accepts
            .iter()
            .map(|accept| self.plan(turn.now, &caller.framework_id, accept.clone(), &mut names))
            .collect();
        if plans.iter().all(|plan| plan.faults.is_empty()) {
            for plan in plans {
                self.do_plan(turn, caller, plan);
            }
            return;
        }
        self.refuse_gang(turn, caller, accepts, plans);
    }

    /// Judges the offers of a gang, and how much it asks for.
    fn judge_gang(&self, caller: &Caller, accepts: &[Accept]) -> Result<(), (Refusal, String)> {
        if accepts.is_empty() {
            return Err((Refusal::Invalid, "the gang has no accept".to_owned()));
        }
        if accepts.len() > limits::ACCEPTS_PER_GANG_MAX {
            let (count, most) = (accepts.len(), limits::ACCEPTS_PER_GANG_MAX);
            return Err((
                Refusal::Limit,
                format!("the gang holds {count} accepts; at most {most} are allowed"),
            ));
        }
        let mut seen = BTreeSet::new();
        for accept in accepts {
            self.judge_offers(&caller.framework_id, &accept.offers)
                .map_err(|what| (Refusal::InvalidOffers, what))?;
            if let Some(twice) = accept.offers.iter().find(|offer| !seen.insert(*offer)) {
                return Err((
                    Refusal::InvalidOffers,
                    format!("offer `{twice}` is in two accepts of the gang"),
                ));
            }
            judge_size(accept).map_err(|what| (Refusal::Limit, what))?;
        }
        Ok(())
    }

    /// A part cannot be done, so nothing is: what is at fault is told what is wrong with it, everything else that it was dropped.
    fn refuse_gang(&mut self, turn: &mut Turn<'_>, caller: &Caller, accepts: Vec<Accept>, plans: Vec<Plan>) {
        let (mut tasks, mut operations, mut problem) = (BTreeSet::new(), BTreeSet::new(), String::new());
        for fault in plans.iter().flat_map(|plan| &plan.faults) {
            match fault {
                Fault::Task(TaskFault { task_id, problem: what, .. }) => {
                    tasks.extend(task_id.clone());
                    problem.clone_from(what);
                }
                Fault::Operation { id, problem: what } => {
                    operations.extend(id.clone());
                    problem.clone_from(what);
                }
            }
        }
        let message = format!("a part of the gang cannot be done, so nothing of it is: {problem}");
        let innocent: Vec<Accept> =
            accepts.into_iter().map(|accept| without(accept, &tasks, &operations)).collect();
        self.drop_gang(turn, caller, &innocent, &Answer::dropped(Reason::GangRefused), &message);
        for plan in plans {
            let answer = Answer::error(Some(plan.agent_id));
            self.answer_faults(turn, caller, plan.faults, &answer);
        }
    }

    fn drop_gang(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        accepts: &[Accept],
        answer: &Answer,
        problem: &str,
    ) {
        for accept in accepts {
            self.void_accept(turn, caller, &accept.offers);
            self.answer_all(turn, caller, accept, answer, problem);
        }
    }
}

/// The accept but for these tasks and operations.
fn without(mut accept: Accept, tasks: &BTreeSet<TaskId>, operations: &BTreeSet<OperationId>) -> Accept {
    let known = |task: &Result<TaskInfo, InvalidTask>| match task {
        Ok(info) => tasks.contains(&info.task_id),
        Err(invalid) => invalid.task_id.as_ref().is_none_or(|id| tasks.contains(id)),
    };
    for operation in &mut accept.operations {
        match operation {
            OfferOperation::Launch(launched) | OfferOperation::LaunchGroup(launched) => {
                launched.retain(|task| !known(task))
            }
            OfferOperation::Convert { id, .. } => {
                id.take_if(|id| operations.contains(id));
            }
        }
    }
    accept
}
