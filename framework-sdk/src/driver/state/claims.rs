//! Choosing without offers: what waits, what is free, and claims on it.

use apportion_types::{
    AgentId, Reason, Role, TaskId, Time, limits,
    protocol::scheduler::{Call, Claim, ClaimRefusal, ClaimResult, FreeState, ResourceRequest},
};

use super::{Callback, State, answer::End};
use crate::{
    Claimed,
    offer::{ACCEPT_BYTES_MAX, of_task},
};

/// The claims of one commit: their agents and tasks.
pub(super) type Claims = Vec<(AgentId, Vec<TaskId>)>;

impl State {
    pub(super) fn request(&mut self, role: Role, requests: Vec<ResourceRequest>) {
        let said = self.requests.get(&role).map_or(&[][..], Vec::as_slice);
        if !self.requests_met.remove(&role) && said == requests {
            return;
        }
        match requests.is_empty() {
            true => self.requests.remove(&role),
            false => self.requests.insert(role.clone(), requests.clone()),
        };
        self.send_subscribed(Call::Request { role, requests });
    }

    pub(super) fn watch_free(&mut self, on: bool) {
        if self.watching != on {
            (self.watching, self.free_version) = (on, None);
            self.send_subscribed(Call::WatchFree { on });
        }
    }

    pub(super) fn free(&mut self, free: FreeState) {
        if !self.watching {
            return; // it crossed our wish on the way
        }
        let follows = self.free_version.is_some_and(|told| told + 1 == free.version);
        if free.snapshot || follows {
            self.free_version = Some(free.version);
            self.tell(Callback::Free(free));
        } else if self.free_version.take().is_some() {
            tracing::warn!(
                version = free.version,
                "a change of what is free was lost; all of it is asked for anew"
            );
            self.send_subscribed(Call::WatchFree { on: true });
        }
    }

    pub(super) fn commit(&mut self, now: Time, role: Role, claims: Vec<Claim>, all_or_nothing: bool) {
        let tasks = || claims.iter().flat_map(|claim| &claim.tasks).flatten();
        let (count, bytes) = (tasks().count(), tasks().map(of_task).sum::<usize>());
        let problem = if !self.is_subscribed() {
            Some("there is no connection; commit again when there is one".to_owned())
        } else if count > limits::TASKS_PER_ACCEPT_MAX || bytes > ACCEPT_BYTES_MAX {
            let most = limits::TASKS_PER_ACCEPT_MAX;
            Some(format!(
                "one commit can carry {most} tasks and {ACCEPT_BYTES_MAX} bytes of descriptions, not {count} and {bytes}; make several"
            ))
        } else {
            None
        };
        let named: Claims = claims
            .iter()
            .map(|claim| {
                let tasks = claim.tasks.iter().flatten().map(|task| task.task_id.clone());
                (claim.agent_id.clone(), tasks.collect())
            })
            .collect();
        if let Some(problem) = problem {
            for (agent_id, task_id) in named
                .iter()
                .flat_map(|(agent_id, tasks)| tasks.iter().map(move |task_id| (agent_id, task_id)))
            {
                let end = End::Dropped(Reason::InvalidOffers);
                self.tell_ended(now, task_id.clone(), agent_id, end, problem.clone());
            }
            return;
        }
        let call = self.send(Call::Commit { role, claims, all_or_nothing });
        for (agent_id, tasks) in &named {
            for task_id in tasks {
                self.tasks.launched(task_id.clone(), agent_id.clone(), call);
            }
        }
        self.claims.insert(call, named);
    }

    pub(super) fn committed(&mut self, now: Time, call: u64, results: Vec<ClaimResult>) {
        let Some(claims) = self.claims.remove(&call) else { return };
        let claimed = claims.iter().zip(&results).map(|((agent_id, tasks), result)| Claimed {
            agent_id: agent_id.clone(),
            tasks: tasks.clone(),
            result: result.clone(),
        });
        self.tell(Callback::Committed(claimed.collect()));
        for ((agent_id, tasks), result) in claims.into_iter().zip(results) {
            let ClaimResult::Refused { code, message, .. } = result else { continue };
            let reason = match code {
                ClaimRefusal::AllOrNothing => Reason::GangRefused,
                _ => Reason::InvalidOffers,
            };
            for (task_id, _) in self.tasks.refused(call, |task_id| tasks.contains(task_id)) {
                let message = format!("its claim was refused: {message}");
                self.tell_ended(now, task_id, &agent_id, End::Dropped(reason), message);
            }
        }
    }
}
