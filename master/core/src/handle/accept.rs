//! A framework uses offers.

use std::collections::BTreeSet;

use apportion_types::{
    AgentId, FrameworkId, OfferId, Reason, Resources, Role, TaskId, TaskInfo, TaskState, limits,
    protocol::{
        agent::MasterMessage,
        scheduler::{Accept, InvalidTask, OfferOperation, Refusal},
    },
    resources::Name,
};

use super::{decline::refuse_until, scheduler_stream::Caller};
use crate::{
    state::{State, master_status, offers::Close, tasks::Charge},
    turn::Turn,
    view::{OfferView, TaskView},
};

type Described = Result<TaskInfo, InvalidTask>;

impl State {
    pub(super) fn accept(&mut self, turn: &mut Turn<'_>, caller: &Caller, accept: Accept) {
        let Accept { offers, operations, refuse } = accept;
        let tasks: Vec<Described> = operations
            .into_iter()
            .flat_map(|operation| match operation {
                OfferOperation::Launch(tasks) => tasks,
                OfferOperation::Convert { .. } => Vec::new(),
            })
            .collect();
        if self.refuse_too_many_offers(turn, caller, offers.len()) {
            return;
        }
        let id = &caller.framework_id;
        if let Err(problem) = self.judge_offers(id, &offers) {
            self.void_accept(turn, caller, &offers);
            self.refuse(
                turn,
                caller.conn,
                caller.call_id,
                Refusal::InvalidOffers,
                format!("{problem}; nothing is launched"),
            );
            let answer = Answer { state: TaskState::Dropped, reason: Reason::InvalidOffers, agent_id: None };
            return self.answer_all(turn, caller, &tasks, &answer, &problem);
        }
        if tasks.len() > limits::TASKS_PER_ACCEPT_MAX {
            let problem = format!(
                "the accept holds {} tasks; at most {} are allowed, launch the others with further offers",
                tasks.len(),
                limits::TASKS_PER_ACCEPT_MAX
            );
            self.void_accept(turn, caller, &offers);
            self.refuse(
                turn,
                caller.conn,
                caller.call_id,
                Refusal::Limit,
                format!("{problem}; nothing is launched"),
            );
            let answer = Answer { state: TaskState::Error, reason: Reason::TaskInvalid, agent_id: None };
            return self.answer_all(turn, caller, &tasks, &answer, &problem);
        }
        let refuse_until = refuse_until(turn.now, refuse);
        if tasks.is_empty() {
            for offer in &offers {
                self.close_offer(turn, offer, Close::Declined { refuse_until });
            }
            return self.count_decline_reason(id, "accepted without a task", offers.len() as u64);
        }

        let mut remaining = Resources::new();
        let mut place = None;
        for offer in &offers {
            let closed = self.close_offer(turn, offer, Close::Accepted);
            remaining += &closed.offer.resources;
            place = Some((closed.offer.agent_id.clone(), closed.offer.role.clone()));
        }
        let (agent_id, role) = place.expect("an accept that is judged good names an offer");
        let launched = self.place_tasks(turn, caller, &agent_id, &role, tasks, &mut remaining);
        let used = offers.len() as u64;
        let counters = &mut self.view.counters;
        counters.tasks_launched += launched.len() as u64;
        *if launched.is_empty() { &mut counters.offers_declined } else { &mut counters.offers_accepted } +=
            used;
        if !remaining.is_empty() {
            self.allocator.recover(id, &role, &agent_id, &remaining, refuse_until);
        }
        if !launched.is_empty() {
            let conn = self.agent_conn(&agent_id).expect("an agent with an outstanding offer is connected");
            let framework_info = self.view.frameworks[id].info.clone();
            let run =
                MasterMessage::RunTasks { framework_id: id.clone(), framework_info, role, tasks: launched };
            turn.tell_agent(conn, run);
        }
    }

    /// Judges each task alone, takes the good ones into the books, and answers for the others.
    fn place_tasks(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        agent_id: &AgentId,
        role: &Role,
        tasks: Vec<Described>,
        remaining: &mut Resources,
    ) -> Vec<TaskInfo> {
        let id = &caller.framework_id;
        let answer =
            Answer { state: TaskState::Error, reason: Reason::TaskInvalid, agent_id: Some(agent_id.clone()) };
        let mut launched = Vec::with_capacity(tasks.len());
        let mut over_limit = 0;
        for task in tasks {
            let info = match task {
                Ok(info) => info,
                Err(invalid) => {
                    self.answer_invalid(turn, caller, &answer, invalid.task_id.as_ref(), &invalid.message);
                    continue;
                }
            };
            let judged = if self.frameworks[id].tasks.len() < limits::TASKS_PER_FRAMEWORK_MAX {
                self.judge_task(id, agent_id, &info, remaining)
            } else {
                over_limit += 1;
                Err(format!(
                    "the framework has {} tasks, the most that is allowed",
                    limits::TASKS_PER_FRAMEWORK_MAX
                ))
            };
            match judged {
                Ok(rest) => {
                    *remaining = rest;
                    launched.push(info.clone());
                    let view = TaskView {
                        framework_id: id.clone(),
                        agent_id: agent_id.clone(),
                        role: role.clone(),
                        info,
                        state: TaskState::Staging,
                        status: None,
                        accepted_at: turn.now,
                    };
                    self.add_task(view, None, Charge::Offered);
                }
                Err(problem) => self.answer_invalid(turn, caller, &answer, Some(&info.task_id), &problem),
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
        launched
    }

    /// Gives back the offers of an accept of which nothing is done: they are consumed all the same.
    fn void_accept(&mut self, turn: &mut Turn<'_>, caller: &Caller, offers: &[OfferId]) {
        for offer in self.outstanding_of(&caller.framework_id, offers) {
            self.close_offer(turn, &offer, Close::Void);
        }
    }

    fn answer_all(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        tasks: &[Described],
        answer: &Answer,
        problem: &str,
    ) {
        for task in tasks {
            let task_id = match task {
                Ok(info) => Some(&info.task_id),
                Err(invalid) => invalid.task_id.as_ref(),
            };
            if let Some(task_id) = task_id {
                self.answer_invalid(turn, caller, answer, Some(task_id), problem);
            }
        }
    }

    /// Answers for a task that is not launched; for one without so much as an id, the call is refused.
    fn answer_invalid(
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

    /// Judges the offers of an accept; says which is not valid, and why.
    fn judge_offers(&self, id: &FrameworkId, offers: &[OfferId]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        let mut first: Option<&OfferView> = None;
        for offer_id in offers {
            if !seen.insert(offer_id) {
                return Err(format!("offer `{offer_id}` is named twice in the accept"));
            }
            let view = match self.view.offers.get(offer_id) {
                None => return Err(self.why_not_outstanding(offer_id)),
                Some(view) if view.offer.framework_id != *id => {
                    return Err(format!("offer `{offer_id}` was made to another framework"));
                }
                Some(view) => view,
            };
            let (one, other) = (&first.get_or_insert(view).offer, &view.offer);
            if one.agent_id != other.agent_id {
                return Err(format!(
                    "offers `{}` and `{}` are of two agents, {} and {}; an accept takes offers of one agent and one role",
                    one.offer_id, other.offer_id, one.agent_id, other.agent_id
                ));
            }
            if one.role != other.role {
                return Err(format!(
                    "offers `{}` and `{}` are for two roles, {} and {}; an accept takes offers of one agent and one role",
                    one.offer_id, other.offer_id, one.role, other.role
                ));
            }
        }
        first.map(|_| ()).ok_or_else(|| "the accept names no offer".to_owned())
    }

    /// Judges one task against what the tasks before it left; returns what it leaves.
    fn judge_task(
        &self,
        id: &FrameworkId,
        agent_id: &AgentId,
        info: &TaskInfo,
        remaining: &Resources,
    ) -> Result<Resources, String> {
        let task_id = &info.task_id;
        if let Some(known) = self.view.tasks.get(&(id.clone(), task_id.clone())) {
            let what =
                if known.state.is_terminal() { "whose end is not acknowledged yet" } else { "which goes on" };
            return Err(format!(
                "task id `{task_id}` is in use by a {} task on agent {}, {what}; \
                 an id is free again when the end of its task is acknowledged",
                known.state, known.agent_id
            ));
        }
        if self.agents[agent_id].strays.contains_key(&(id.clone(), task_id.clone())) {
            return Err(format!(
                "agent {agent_id} is still ending an older task of the id `{task_id}`; use another id"
            ));
        }
        if info.resources.is_empty() {
            return Err(format!("task `{task_id}` asks for no resources; ask at least for some cpus or mem"));
        }
        for (name, value) in info.limits.iter() {
            if !matches!(name, Name::Cpus | Name::Mem) {
                return Err(format!("task `{task_id}` limits {name}; only cpus and mem can be limited"));
            }
            if info.limits.milli(name) < info.resources.milli(name) {
                let asked = Resources::scalar(name.clone(), info.resources.milli(name));
                return Err(format!(
                    "task `{task_id}` limits {name} to {value}, which is less than it asks for, {asked}"
                ));
            }
        }
        remaining.checked_sub(&info.resources).ok_or_else(|| {
            let offered =
                if remaining.is_empty() { "nothing left".to_owned() } else { remaining.to_string() };
            format!(
                "task `{task_id}` needs {}, the offer has {offered}, missing {}",
                info.resources,
                remaining.missing(&info.resources)
            )
        })
    }
}

/// How tasks that are not launched are answered.
struct Answer {
    state: TaskState,
    reason: Reason,
    agent_id: Option<AgentId>,
}
