//! Nobody is refused who keeps to the protocol.

use apportion_types::protocol::{
    agent::{MasterMessage, RefuseCode},
    scheduler::{ErrorCode, Event, Refusal},
};

use super::{Check, Happening, Verdict};
use crate::world::World;

/// No agent of the cluster ever hears that what it says is invalid, that it was removed, or that another has its id; no framework that its
/// subscription is refused, or that it calls out of order.
#[derive(Debug)]
pub(crate) struct Honest;

impl Check for Honest {
    fn name(&self) -> &'static str {
        "honest"
    }

    fn observe(&mut self, _world: &World, happening: &Happening<'_>) -> Verdict {
        match happening {
            Happening::AgentHears { agent, message: MasterMessage::Refuse { code, message } }
                if matches!(code, RefuseCode::Invalid | RefuseCode::Removed | RefuseCode::Replaced) =>
            {
                Err(format!("agent {agent} is refused ({code:?}): {message}"))
            }
            Happening::SchedulerHears {
                framework,
                event: Event::Refused { code: Refusal::OutOfOrder, message, .. },
            } => Err(format!("a call of framework {framework} is out of order: {message}")),
            Happening::SchedulerHears {
                framework,
                event: Event::Error { code: code @ (ErrorCode::Refused | ErrorCode::FailedOver), message },
            } => Err(format!("framework {framework} is refused ({code}): {message}")),
            _ => Ok(()),
        }
    }
}
