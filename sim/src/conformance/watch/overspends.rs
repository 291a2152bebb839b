//! Nothing is launched that must be refused as it stands.

use apportion_sdk::{
    TaskState,
    protocol::{Event, Refusal},
};

use crate::{
    check::{Check, Happening, Verdict},
    conformance::Promise,
    world::World,
};

pub(super) struct Overspends;

impl Check for Overspends {
    fn name(&self) -> &'static str {
        Promise::Overspends.name()
    }

    fn observe(&mut self, _world: &World, happening: &Happening<'_>) -> Verdict {
        match happening {
            Happening::SchedulerHears { event: Event::Update(status), .. }
                if status.state == TaskState::Error =>
            {
                Err(format!("task {} was refused: {}", status.task_id, status.message))
            }
            // Others are met by those who are late, through nobody's fault.
            Happening::SchedulerHears {
                event: Event::Refused { code: Refusal::Invalid | Refusal::Limit, message, .. },
                ..
            } => Err(format!("a call was refused: {message}")),
            _ => Ok(()),
        }
    }
}
