//! One piece of work does not run twice at once.

use std::collections::BTreeSet;

use apportion_agent_core::TaskKey;
use apportion_sdk::TaskInfo;

use super::{FRAMEWORK, Shared, ledger};
use crate::{
    check::{Check, Happening, Verdict},
    conformance::Promise,
    world::World,
};

pub(super) struct LaunchesTwice {
    ledger: Shared,
    /// A task, and one of the same work that had to be taken for alive when the first was launched. Whether both ever run shows later:
    /// of the earlier one it may only not have been told yet that it has ended.
    rivals: BTreeSet<(TaskKey, TaskKey)>,
}

impl LaunchesTwice {
    pub(super) fn new(ledger: Shared) -> Self {
        Self { ledger, rivals: BTreeSet::new() }
    }

    fn launches(&mut self, world: &World, task: &TaskInfo) -> Verdict {
        let Some(key) = ledger::key(world, &task.task_id) else { return Ok(()) };
        let ledger = self.ledger.borrow();
        // Twice within one callback is left to the master to refuse.
        let earlier = |task: &ledger::Launched| task.input != world.frameworks[FRAMEWORK].inputs;
        if ledger.must_be_alive(&key) && ledger.launched.get(&key).is_some_and(earlier) {
            return Err(format!("task {} is launched again, though nothing has told that it ended", key.1));
        }
        let work = ledger.work_of(task);
        for (other, launched) in &ledger.launched {
            if *other != key
                && other.0 == key.0
                && launched.work == work
                && !launched.killed
                && ledger.must_be_alive(other)
            {
                self.rivals.insert((key.clone(), other.clone()));
            }
        }
        Ok(())
    }
}

impl Check for LaunchesTwice {
    fn name(&self) -> &'static str {
        Promise::LaunchesTwice.name()
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match happening {
            Happening::SchedulerCalls { call, .. } => {
                call.tasks().into_iter().flatten().try_for_each(|task| self.launches(world, task))
            }
            Happening::Running { task, .. } if !self.rivals.is_empty() => {
                for other in ledger::running(world) {
                    let pairs = [((*task).clone(), other.clone()), (other.clone(), (*task).clone())];
                    if let Some((later, earlier)) = pairs.iter().find(|pair| self.rivals.contains(*pair)) {
                        let work = &self.ledger.borrow().launched[later].work;
                        return Err(format!(
                            "tasks {} and {} are both `{work}` and run at once; when the second was launched nothing had told that \
                             the first had ended",
                            earlier.1, later.1
                        ));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
