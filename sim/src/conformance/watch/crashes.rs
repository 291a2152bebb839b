//! However the scheduler is crashed, the work comes to its end.

use super::{FRAMEWORK, Shared};
use crate::{
    check::{Check, Happening, Verdict},
    conformance::Promise,
    world::World,
};

pub(super) struct Crashes {
    ledger: Shared,
    /// How much work came to its end, or ran on, when nothing went wrong.
    expected: Option<usize>,
}

impl Crashes {
    pub(super) fn new(ledger: Shared, expected: Option<usize>) -> Self {
        Self { ledger, expected }
    }
}

impl Check for Crashes {
    fn name(&self) -> &'static str {
        Promise::BreaksWhenCrashed.name()
    }

    fn observe(&mut self, _world: &World, _happening: &Happening<'_>) -> Verdict {
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        let Some(expected) = self.expected else { return Ok(()) };
        let fulfilled = self.ledger.borrow().fulfilled(world);
        if fulfilled >= expected {
            return Ok(());
        }
        let name = &world.frameworks[FRAMEWORK].program.info().name;
        Err(format!(
            "without a crash {expected} pieces of work of `{name}` come to their end or run on, after the crash only {fulfilled}"
        ))
    }
}
