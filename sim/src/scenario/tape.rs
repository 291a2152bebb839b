//! What happens between two commands: as lines, or counted.

use std::{cell::RefCell, rc::Rc};

use apportion_types::{
    Time,
    protocol::{
        agent::MasterMessage,
        scheduler::{Call, Event},
    },
};

use crate::{
    check::{Check, Happening, Verdict},
    clock::START,
    history::{describe, stamp},
    world::World,
};

/// How much is said of what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// How often each kind of thing happened.
    Counts,
    /// What takes effect, a line each: what processes and tasks do, and what frameworks are told.
    #[default]
    Effects,
    /// Every message where it is sent and where it takes effect, and every write.
    Everything,
}

/// What is counted, in the order in which it is shown.
const COUNTED: [&str; 10] =
    ["faults", "deaths", "starts", "offers", "rescinds", "accepts", "launches", "runs", "ends", "updates"];

/// What has happened since the last command.
#[derive(Debug, Default)]
pub(super) struct Tape {
    detail: Detail,
    lines: Vec<String>,
    counts: [u64; COUNTED.len()],
    /// When it was taken last.
    taken_at: Time,
}

impl Tape {
    pub(super) fn new(detail: Detail) -> Self {
        Self { detail, taken_at: START, ..Self::default() }
    }

    /// Takes what is on it, and goes on with nothing.
    pub(super) fn take(&mut self, now: Time) -> Vec<String> {
        let mut lines = std::mem::take(&mut self.lines);
        let counted = std::mem::take(&mut self.counts);
        let moved =
            std::mem::replace(&mut self.taken_at, now) != now || counted.iter().any(|count| *count > 0);
        if self.detail == Detail::Counts && moved {
            let mut line = stamp(now);
            for (name, count) in COUNTED.into_iter().zip(counted) {
                if count > 0 {
                    line += &format!(" {name} {count}");
                }
            }
            lines.push(line);
        }
        lines
    }

    fn note(&mut self, now: Time, happening: &Happening<'_>) {
        let wanted = match self.detail {
            Detail::Counts => return self.count(happening),
            Detail::Effects => takes_effect(happening),
            Detail::Everything => true,
        };
        if let Some(what) = wanted.then(|| describe(happening)).flatten() {
            self.lines.push(format!("{} {what}", stamp(now)));
        }
    }

    fn count(&mut self, happening: &Happening<'_>) {
        let (name, count) = match happening {
            Happening::Fault(_) => ("faults", 1),
            Happening::Crashed(_) => ("deaths", 1),
            Happening::Started(_) => ("starts", 1),
            Happening::SchedulerHears { event: Event::Offers(offers), .. } => ("offers", offers.len()),
            Happening::SchedulerHears { event: Event::Rescind(_), .. } => ("rescinds", 1),
            Happening::SchedulerHears { event: Event::Update(_), .. } => ("updates", 1),
            Happening::SchedulerCalls {
                call: Call::Accept { .. } | Call::Gang { .. } | Call::Commit { .. },
                ..
            } => ("accepts", 1),
            Happening::Launching { .. } => ("launches", 1),
            Happening::Running { .. } => ("runs", 1),
            Happening::Ended { .. } => ("ends", 1),
            _ => return,
        };
        let place = COUNTED.iter().position(|known| *known == name).expect("what is counted has a name");
        self.counts[place] += count as u64;
    }
}

fn takes_effect(happening: &Happening<'_>) -> bool {
    match happening {
        Happening::Started(_)
        | Happening::Crashed(_)
        | Happening::Rebooted { .. }
        | Happening::Wiped { .. }
        | Happening::Fault(_)
        | Happening::SchedulerHears { .. }
        | Happening::Running { .. }
        | Happening::Ended { .. } => true,
        Happening::SchedulerCalls { call, .. } => {
            matches!(
                call,
                Call::Accept { .. }
                    | Call::Gang { .. }
                    | Call::Commit { .. }
                    | Call::Lease { .. }
                    | Call::UpdateFramework { .. }
                    | Call::Request { .. }
                    | Call::Decline { .. }
                    | Call::Kill { .. }
                    | Call::Teardown
            )
        }
        Happening::AgentHears { message, .. } => !matches!(
            message,
            MasterMessage::AcknowledgeUpdate { .. }
                | MasterMessage::AcknowledgeOperation { .. }
                | MasterMessage::RunTasks { .. }
        ),
        _ => false,
    }
}

/// Puts what happens on a tape; finds nothing wrong.
pub(super) struct Recorder(pub(super) Rc<RefCell<Tape>>);

impl Check for Recorder {
    fn name(&self) -> &'static str {
        "scenario"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        self.0.borrow_mut().note(world.now, happening);
        Ok(())
    }
}
