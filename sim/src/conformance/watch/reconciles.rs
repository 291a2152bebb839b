//! Once nothing happens any more, what the scheduler believes is so, and it is quiet.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use apportion_sdk::{TaskState, Time, protocol::Call};

use super::{FRAMEWORK, Shared, ledger};
use crate::{
    check::{Check, Happening, Verdict},
    conformance::Promise,
    fault::Process,
    world::World,
};

/// Calls are counted over so long.
const WINDOW: Duration = Duration::from_secs(300);

/// So many within it are not the last of something that comes to its end.
const CALLS_MOST: usize = 5;

pub(super) struct Reconciles {
    ledger: Shared,
    settle: Duration,
    /// When a process began last, or a fault.
    disturbed_at: Time,
    calls: VecDeque<(Time, &'static str)>,
}

impl Reconciles {
    pub(super) fn new(ledger: Shared, settle: Duration) -> Self {
        Self { ledger, settle, disturbed_at: Time::ZERO, calls: VecDeque::new() }
    }

    fn calls(&mut self, now: Time, since: Time, call: &Call) -> Verdict {
        self.calls.push_back((now, call.name()));
        while self.calls.front().is_some_and(|(at, _)| now.since(*at) > WINDOW) {
            self.calls.pop_front();
        }
        if now.since(since) <= self.settle || self.calls.len() <= CALLS_MOST {
            return Ok(());
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, name) in &self.calls {
            *counts.entry(name).or_default() += 1;
        }
        let counts: Vec<String> =
            counts.iter().map(|(name, count)| format!("{name} {count} times")).collect();
        Err(format!(
            "{:?} after anything went wrong it still calls: {} in the last {WINDOW:?}",
            now.since(since),
            counts.join(", ")
        ))
    }
}

impl Check for Reconciles {
    fn name(&self) -> &'static str {
        Promise::DoesNotReconcile.name()
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match happening {
            Happening::Fault(_) | Happening::Started(Process::Framework(_) | Process::Master) => {
                self.disturbed_at = world.now;
            }
            // Its rate is another's concern.
            Happening::SchedulerCalls {
                call: Call::Decline { .. } | Call::Suppress { .. } | Call::Revive { .. },
                ..
            } => {}
            Happening::SchedulerCalls { call, .. } => {
                return self.calls(world.now, world.faults_over_at.max(self.disturbed_at), call);
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        let framework = &world.frameworks[FRAMEWORK];
        let Some(process) = framework.process.as_ref().filter(|_| framework.ended.is_none()) else {
            return Ok(());
        };
        let ledger = self.ledger.borrow();
        for (task_id, _) in process.tasks() {
            let told = ledger::key(world, &task_id).and_then(|key| ledger.told.get(&key).copied());
            if let Some(state) = told.filter(|state| state.is_terminal() || *state == TaskState::Unknown) {
                return Err(format!("`tasks` names task {task_id}, of which it was told that it is {state}"));
            }
        }
        Ok(())
    }
}
