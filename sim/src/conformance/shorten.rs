//! The shortest history that still breaks a promise, as far as it is found.

use apportion_sdk::Scheduler;

use super::{
    Conformance, Promise,
    plan::{Plan, Trouble},
    play::{Breach, Played},
};
use crate::{fault::Timed, history::History, shrink::agent_of};

/// Histories that may be played to make one shorter.
const ATTEMPTS_MAX: usize = 150;

impl<S: Scheduler + 'static> Conformance<S> {
    /// Plays a history that breaks a promise with ever less in it.
    pub(super) fn shorten(
        &self,
        plan: Plan,
        expected: Option<usize>,
        breach: Breach,
    ) -> (Plan, Breach, Vec<String>) {
        let mut shortening =
            Shortening { conformance: self, expected, promise: breach.promise, attempts: 0, best: plan };
        shortening.fewer_troubles();
        shortening.fewer_agents();
        shortening.earlier_deaths();
        shortening.fewer_troubles();
        let best = shortening.best;
        let last = self.play(&best, expected, History::kept());
        (best, last.breach.unwrap_or(breach), last.lines)
    }
}

struct Shortening<'a, S> {
    conformance: &'a Conformance<S>,
    expected: Option<usize>,
    promise: Promise,
    attempts: usize,
    best: Plan,
}

impl<S: Scheduler + 'static> Shortening<'_, S> {
    /// Takes a shorter history for the best one when it breaks the same promise.
    fn try_out(&mut self, plan: Plan) -> bool {
        self.attempts += 1;
        if self.attempts > ATTEMPTS_MAX {
            return false;
        }
        let Played { breach, .. } = self.conformance.play(&plan, self.expected, History::default());
        let same = breach.is_some_and(|breach| breach.promise == self.promise);
        if same {
            self.best = plan;
        }
        same
    }

    /// There are few, so one after the other will do.
    fn fewer_troubles(&mut self) {
        let mut at = 0;
        while at < self.best.troubles.len() {
            let mut plan = self.best.clone();
            plan.troubles.remove(at);
            if !self.try_out(plan) {
                at += 1;
            }
        }
    }

    fn fewer_agents(&mut self) {
        // How much work can run at once may depend on them.
        if self.promise == Promise::BreaksWhenCrashed {
            return;
        }
        while self.best.agents.len() > 1 {
            let mut plan = self.best.clone();
            plan.agents.pop();
            let count = plan.agents.len();
            plan.troubles.retain(|trouble| match trouble {
                Trouble::Fault(Timed { fault, .. }) => agent_of(fault).is_none_or(|agent| agent < count),
                Trouble::Window { machine, .. } => *machine < count,
                Trouble::Dies { .. } | Trouble::Kill { .. } => true,
            });
            if !self.try_out(plan) {
                break;
            }
        }
    }

    /// The shortest prefix of what the scheduler is handed before it dies.
    fn earlier_deaths(&mut self) {
        for index in 0..self.best.troubles.len() {
            let Trouble::Dies { after, death } = self.best.troubles[index] else { continue };
            for earlier in 1..after {
                let mut plan = self.best.clone();
                plan.troubles[index] = Trouble::Dies { after: earlier, death };
                if self.try_out(plan) {
                    break;
                }
            }
        }
    }
}
