//! A task that runs is known to the scheduler that launched it.

use std::collections::BTreeSet;

use super::{FRAMEWORK, Shared, ledger};
use crate::{
    check::{Check, Happening, Verdict},
    conformance::Promise,
    world::World,
};

pub(super) struct Remembers(Shared);

impl Remembers {
    pub(super) fn new(ledger: Shared) -> Self {
        Self(ledger)
    }
}

impl Check for Remembers {
    fn name(&self) -> &'static str {
        Promise::ForgetsTask.name()
    }

    fn observe(&mut self, _world: &World, _happening: &Happening<'_>) -> Verdict {
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        let framework = &world.frameworks[FRAMEWORK];
        let Some(process) = framework.process.as_ref().filter(|_| framework.ended.is_none()) else {
            return Ok(());
        };
        // One that stores nothing is another framework after a crash, and what it launched ends without it.
        if !framework.program.remembers() {
            return Ok(());
        }
        let known: BTreeSet<_> = process.tasks().into_iter().map(|(task_id, _)| task_id).collect();
        let ledger = self.0.borrow();
        for key in ledger::running(world).filter(|key| Some(&key.0) == world.framework_id(FRAMEWORK)) {
            // An end that was asked for comes, unless the task hangs for longer than this history.
            let killed = ledger.launched.get(key).is_some_and(|task| task.killed);
            if !known.contains(&key.1) && !killed {
                return Err(format!(
                    "task {} runs on, but `tasks` does not name it, and its end was not asked for",
                    key.1
                ));
            }
        }
        Ok(())
    }
}
