//! A framework that chooses for itself uses what is free: optimistic, for another may have been first.

use std::collections::BTreeSet;

use apportion_types::{
    AgentId, FrameworkId, Reason, Resources, Role, TaskId, limits,
    protocol::scheduler::{Claim, ClaimRefusal, ClaimResult, Event as SchedulerEvent, Refusal},
};

use super::{
    accept::{Answer, Fault, Names, Plan, TaskFault},
    scheduler_stream::Caller,
};
use crate::{state::State, turn::Turn, view::AgentState};

/// A claim that was judged, and what it has of the allocator.
type Judged = Result<Plan, Refused>;

/// A claim that is refused as a whole.
struct Refused {
    code: ClaimRefusal,
    message: String,
    winner: Option<FrameworkId>,
    /// What is wrong with tasks of it, if that is why.
    faults: Vec<Fault>,
}

impl Refused {
    fn new(code: ClaimRefusal, message: String) -> Self {
        Self { code, message, winner: None, faults: Vec::new() }
    }
}

impl State {
    pub(super) fn commit_claims(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        role: Role,
        claims: Vec<Claim>,
        all_or_nothing: bool,
    ) {
        if let Err((code, message)) = self.judge_commit(caller, &role, &claims) {
            return self.refuse(turn, caller.conn, caller.call_id, code, message);
        }
        let mut names = Names::default();
        let mut judged: Vec<(Claim, Judged)> = Vec::with_capacity(claims.len());
        for claim in claims {
            let result = self.claim(turn, caller, &role, &claim, all_or_nothing, &mut names);
            judged.push((claim, result));
        }
        let refused = all_or_nothing && judged.iter().any(|(_, result)| result.is_err());
        let mut results = Vec::with_capacity(judged.len());
        for (claim, result) in judged {
            match result {
                Ok(plan) if refused => {
                    self.unclaim(caller, &plan, &claim);
                    let message = "another claim of the commit was refused".to_owned();
                    self.answer_claim(turn, caller, &claim, &message, Vec::new());
                    results.push(ClaimResult::Refused {
                        code: ClaimRefusal::AllOrNothing,
                        message,
                        winner: None,
                    });
                }
                Ok(mut plan) => {
                    let faults = std::mem::take(&mut plan.faults);
                    let answer = Answer::error(Some(plan.agent_id.clone()));
                    self.do_plan(turn, caller, plan);
                    self.answer_faults(turn, caller, faults, &answer);
                    results.push(ClaimResult::Taken);
                }
                Err(Refused { code, message, winner, faults }) => {
                    self.answer_claim(turn, caller, &claim, &message, faults);
                    results.push(ClaimResult::Refused { code, message, winner });
                }
            }
        }
        let counters = &mut self.view.counters;
        let taken = results.iter().filter(|result| **result == ClaimResult::Taken).count() as u64;
        counters.claims_taken += taken;
        counters.claims_refused += results.len() as u64 - taken;
        let committed = SchedulerEvent::Committed { call_id: caller.call_id, claims: results };
        turn.tell_scheduler(caller.conn, committed);
    }

    /// Judges a commit as a whole.
    fn judge_commit(&self, caller: &Caller, role: &Role, claims: &[Claim]) -> Result<(), (Refusal, String)> {
        let own = &self.view.frameworks[&caller.framework_id].info.roles;
        if !own.contains(role) {
            let message = format!("role `{role}` is not among the framework's roles; nothing is claimed");
            return Err((Refusal::NotFound, message));
        }
        let most = limits::ACCEPTS_PER_GANG_MAX;
        if claims.is_empty() || claims.len() > most {
            return Err((Refusal::Limit, format!("a commit holds 1 to {most} claims, not {}", claims.len())));
        }
        let mut agents = BTreeSet::new();
        for claim in claims {
            if !agents.insert(&claim.agent_id) {
                let message = format!("agent `{}` is in two claims; make them one", claim.agent_id);
                return Err((Refusal::Invalid, message));
            }
            if claim.tasks.is_empty() || claim.tasks.len() > limits::TASKS_PER_ACCEPT_MAX {
                let (count, most) = (claim.tasks.len(), limits::TASKS_PER_ACCEPT_MAX);
                return Err((Refusal::Limit, format!("a claim holds 1 to {most} tasks, not {count}")));
            }
        }
        Ok(())
    }

    /// Takes what the claim's good tasks need of its agent.
    fn claim(
        &mut self,
        turn: &Turn<'_>,
        caller: &Caller,
        role: &Role,
        claim: &Claim,
        all_or_nothing: bool,
        names: &mut Names,
    ) -> Judged {
        let (id, agent_id) = (&caller.framework_id, &claim.agent_id);
        if self.view.agents.get(agent_id).is_none_or(|view| view.state != AgentState::Active) {
            let message = format!("agent {agent_id} is not there, or takes no part now");
            return Err(Refused::new(ClaimRefusal::NotFree, message));
        }
        let plan = self.plan_claim(id, role, agent_id.clone(), claim.tasks.clone(), names);
        if plan.steps.is_empty() || all_or_nothing && !plan.faults.is_empty() {
            let what = first_problem(&plan.faults);
            let message = format!("tasks for agent {agent_id} cannot be launched: {what}");
            return Err(Refused { faults: plan.faults, ..Refused::new(ClaimRefusal::NotAllowed, message) });
        }
        let needed = plan.needs();
        let shared: Resources =
            claim.tasks.iter().flatten().map(|info| &info.resources).sum::<Resources>().shared();
        if !self.allocator.free(agent_id).open_to(role).contains(&shared) {
            let message = format!("agent {agent_id} has no volume `{shared}` for the role");
            return Err(Refused::new(ClaimRefusal::NotFree, message));
        }
        match self.allocator.claim(turn.now, id, role, agent_id, &needed) {
            Ok(()) => Ok(Plan { unused: Resources::new(), ..plan }),
            Err(denied) => {
                let holder = denied.winner.or_else(|| match denied.code {
                    ClaimRefusal::NotFree => self.holder_of(agent_id, &needed).filter(|holder| holder != id),
                    _ => None,
                });
                Err(Refused { winner: holder, ..Refused::new(denied.code, denied.message) })
            }
        }
    }

    /// Who was offered, or has last launched with, some of what is missing on an agent.
    fn holder_of(&self, agent_id: &AgentId, needed: &Resources) -> Option<FrameworkId> {
        let missing = self.allocator.free(agent_id).missing(needed);
        let helps = |resources: &Resources| {
            resources.entries().any(|entry| missing.entries().any(|wanted| wanted.name() == entry.name()))
        };
        let agent = &self.agents[agent_id];
        let offers = agent.offers.iter().rev().map(|offer| &self.view.offers[offer].offer);
        let offered =
            offers.filter(|offer| helps(&offer.resources)).map(|offer| offer.framework_id.clone()).next();
        offered.or_else(|| {
            let tasks = agent.tasks.iter().map(|key| &self.view.tasks[key]);
            let holding = tasks.filter(|task| task.state.holds_resources() && helps(&task.info.resources));
            holding.max_by_key(|task| task.accepted_at).map(|task| task.framework_id.clone())
        })
    }

    fn unclaim(&mut self, caller: &Caller, plan: &Plan, claim: &Claim) {
        self.allocator.recover(&caller.framework_id, &plan.role, &claim.agent_id, &plan.needs(), None);
    }

    /// Tells the tasks of a refused claim: those that something is wrong with of that, the others of why the claim is refused.
    fn answer_claim(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        claim: &Claim,
        message: &str,
        faults: Vec<Fault>,
    ) {
        let told: BTreeSet<TaskId> = tasks(&faults).filter_map(|fault| fault.task_id.clone()).collect();
        self.answer_faults(turn, caller, faults, &Answer::error(Some(claim.agent_id.clone())));
        let answer = Answer::dropped(Reason::InvalidOffers);
        for task in &claim.tasks {
            let task_id = match task {
                Ok(info) => Some(&info.task_id),
                Err(invalid) => invalid.task_id.as_ref(),
            };
            if let Some(task_id) = task_id.filter(|task_id| !told.contains(*task_id)) {
                self.answer_task(turn, caller, &answer, Some(task_id), message);
            }
        }
    }
}

fn tasks(faults: &[Fault]) -> impl Iterator<Item = &TaskFault> {
    faults.iter().filter_map(|fault| match fault {
        Fault::Task(fault) => Some(fault),
        Fault::Operation { .. } => None,
    })
}

/// What is wrong with the first of these, and how many more cannot be launched.
fn first_problem(faults: &[Fault]) -> String {
    let first = tasks(faults).next().expect("a claim has tasks, and what is not launched is a fault");
    match faults.len() - 1 {
        0 => first.problem.clone(),
        more => format!("{}; nor can {more} more", first.problem),
    }
}
