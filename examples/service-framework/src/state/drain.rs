//! The end of a task to which clients are led by a balancer: it gets nothing new, finishes what it has, and is only then killed.
//!
//! Who leads them there reads in the [view](super::AppView) which tasks drain, and says when one has nothing left. That nobody says so, because
//! a client takes for ever or because there is nobody, holds its end up for as long as the description allows and no longer.

use std::time::Duration;

use apportion_sdk::{TaskId, Time};

use super::{Effect, Services};

/// What is added to the time that the balancer cuts off at, so that it comes first.
const SLACK: Duration = Duration::from_secs(5);

/// How far the end of a task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Drain {
    /// It was not taken away from clients, or was never theirs.
    #[default]
    Not,
    /// It gets nothing new, and may finish until then.
    Until(Time),
    /// It has finished, or had its time.
    Over,
}

impl Drain {
    pub(super) fn due(self) -> Option<Time> {
        match self {
            Drain::Until(at) => Some(at),
            Drain::Not | Drain::Over => None,
        }
    }
}

impl Services {
    /// Brings a doomed task to its end: at once, or when clients have finished with it if any may have been led there. `unknown` is for one
    /// that another scheduler doomed: whether that one has taken it away from them nobody knows.
    pub(super) fn end(&mut self, task_id: &TaskId, unknown: bool, now: Time, effects: &mut Vec<Effect>) {
        let placed = &self.table.placed[task_id];
        let balancer = self.table.apps[&placed.app].described.balancer.as_ref();
        let instance = self.instances.get_mut(task_id).expect("there is one for each task");
        match (balancer, instance.drain) {
            (Some(balancer), Drain::Not) if instance.ready_since.is_some() || unknown && !instance.heard => {
                instance.drain = Drain::Until(now + balancer.timeouts.drain + SLACK);
            }
            (Some(_), Drain::Until(_)) => {}
            _ => {
                instance.drain = Drain::Over;
                effects.push(Effect::Kill(task_id.clone()));
            }
        }
    }

    /// Clients have finished with a task that was taken away from them.
    pub fn drained(&mut self, task_id: &TaskId, effects: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get_mut(task_id) else { return };
        if instance.drain.due().is_some() {
            instance.drain = Drain::Over;
            effects.push(Effect::Kill(task_id.clone()));
        }
    }

    /// Kills what had its time to finish.
    pub(super) fn kill_undrained(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let due = |drain: Drain| drain.due().is_some_and(|at| at <= now);
        let late: Vec<_> = self
            .instances
            .iter()
            .filter(|(_, it)| due(it.drain))
            .map(|(task_id, _)| task_id.clone())
            .collect();
        for task_id in late {
            self.drained(&task_id, effects);
        }
    }
}
