//! Who refuses does so at a bearable rate.

use std::{collections::VecDeque, time::Duration};

use apportion_sdk::{
    Time,
    protocol::{Call, Event},
};

use crate::{
    check::{Check, Happening, Verdict},
    conformance::Promise,
    world::World,
};

/// Calls are counted over so long.
const WINDOW: Duration = Duration::from_secs(10);

pub(super) struct Spins {
    most: usize,
    /// Since anything else happened.
    calls: VecDeque<Time>,
}

impl Spins {
    pub(super) fn new(per_second: f64) -> Self {
        Self { most: (per_second * WINDOW.as_secs_f64()) as usize, calls: VecDeque::new() }
    }
}

impl Check for Spins {
    fn name(&self) -> &'static str {
        Promise::SpinsOnDecline.name()
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match happening {
            Happening::SchedulerCalls {
                call: Call::Decline { .. } | Call::Suppress { .. } | Call::Revive { .. },
                ..
            } => {
                self.calls.push_back(world.now);
                while self.calls.front().is_some_and(|first| world.now.since(*first) > WINDOW) {
                    self.calls.pop_front();
                }
                if self.calls.len() > self.most {
                    let first = self.calls[0];
                    return Err(format!(
                        "offers were refused, suppressed or revived {} times within {:?} in which nothing else happened",
                        self.calls.len(),
                        world.now.since(first)
                    ));
                }
            }
            Happening::SchedulerHears {
                event: Event::Offers(_) | Event::Rescind(_) | Event::Heartbeat,
                ..
            } => {}
            Happening::SchedulerHears { .. }
            | Happening::SchedulerCalls { call: Call::Accept { .. }, .. }
            | Happening::Fault(_) => self.calls.clear(),
            _ => {}
        }
        Ok(())
    }
}
