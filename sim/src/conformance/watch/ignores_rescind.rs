//! What was rescinded is not used any more.

use apportion_sdk::protocol::Event;

use super::FRAMEWORK;
use crate::{
    check::{Check, Happening, Verdict},
    conformance::Promise,
    process::Told,
    world::World,
};

#[derive(Default)]
pub(super) struct IgnoresRescind {
    /// Tasks placed on void offers so far, by the process that runs.
    seen: u64,
    /// The scheduler is just being told: this is the time to drop offers, with whatever stands on them.
    told_now: bool,
}

impl Check for IgnoresRescind {
    fn name(&self) -> &'static str {
        Promise::IgnoresRescind.name()
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match happening {
            Happening::SchedulerHandles { told: Told::Start, .. } => self.seen = 0,
            Happening::SchedulerHandles { told, .. } => {
                self.told_now = matches!(
                    told,
                    Told::Event(Event::Rescind(_) | Event::Error { .. })
                        | Told::Disconnected { .. }
                        | Told::Stop(_)
                );
            }
            Happening::SchedulerHandled { .. } => {
                let framework = &world.frameworks[FRAMEWORK];
                let Some(process) = &framework.process else { return Ok(()) };
                let before = std::mem::replace(&mut self.seen, process.launched_on_void());
                // Without a connection the driver has told so itself.
                if self.seen > before && !self.told_now && framework.conn().is_some() {
                    return Err(format!(
                        "{} task(s) were launched on an offer of which the scheduler had been told that it is no longer valid",
                        self.seen - before
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
