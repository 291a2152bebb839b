//! The free state that watching frameworks are told, what became of their claims, and notices of preemption.

use std::sync::Arc;

use apportion_proto::v1;

use super::{ConvertError, claim_refusal, from_ref, id, ids, message, messages, optional, optional_id};
use crate::{
    Place, Time,
    protocol::scheduler::{ClaimResult, FreeAgent, FreeState, Preemption},
};

impl From<Preemption> for v1::Preempt {
    fn from(preemption: Preemption) -> Self {
        Self {
            agent_id: preemption.agent_id.to_string(),
            resources: Some(preemption.resources.into()),
            task_ids: preemption.tasks.iter().map(ToString::to_string).collect(),
            at_us: preemption.at.as_micros(),
            for_role: preemption.for_role.to_string(),
        }
    }
}

impl TryFrom<v1::Preempt> for Preemption {
    type Error = ConvertError;

    fn try_from(wire: v1::Preempt) -> Result<Self, ConvertError> {
        Ok(Self {
            agent_id: id("agent_id", &wire.agent_id)?,
            resources: message("resources", wire.resources)?,
            tasks: ids("task_ids", &wire.task_ids)?,
            at: Time::from_micros(wire.at_us),
            for_role: id("for_role", &wire.for_role)?,
        })
    }
}

impl From<FreeState> for v1::FreeState {
    fn from(free: FreeState) -> Self {
        let agents = free.agents.into_iter().map(Into::into).collect();
        Self { version: free.version, snapshot: free.snapshot, agents }
    }
}

impl TryFrom<v1::FreeState> for FreeState {
    type Error = ConvertError;

    fn try_from(wire: v1::FreeState) -> Result<Self, ConvertError> {
        Ok(Self { version: wire.version, snapshot: wire.snapshot, agents: messages("agents", wire.agents)? })
    }
}

impl From<FreeAgent> for v1::FreeAgent {
    fn from(agent: FreeAgent) -> Self {
        Self {
            agent_id: agent.agent_id.to_string(),
            free: Some(agent.free.into()),
            place: agent.place.map(|place| Arc::unwrap_or_clone(place).into()),
        }
    }
}

impl TryFrom<v1::FreeAgent> for FreeAgent {
    type Error = ConvertError;

    fn try_from(wire: v1::FreeAgent) -> Result<Self, ConvertError> {
        Ok(Self {
            agent_id: id("agent_id", &wire.agent_id)?,
            free: message("free", wire.free)?,
            place: optional::<_, Place>("place", wire.place)?.map(Arc::new),
        })
    }
}

impl From<Place> for v1::AgentPlace {
    fn from(place: Place) -> Self {
        Self {
            hostname: place.hostname,
            address: place.address,
            attributes: place.attributes.into_iter().collect(),
            domain: place.domain.map(Into::into),
        }
    }
}

impl TryFrom<v1::AgentPlace> for Place {
    type Error = ConvertError;

    fn try_from(wire: v1::AgentPlace) -> Result<Self, ConvertError> {
        Ok(Self {
            hostname: wire.hostname,
            address: wire.address,
            attributes: wire.attributes.into_iter().collect(),
            domain: optional("domain", wire.domain)?,
        })
    }
}

impl From<ClaimResult> for v1::ClaimResult {
    fn from(result: ClaimResult) -> Self {
        match result {
            ClaimResult::Taken => Self::default(),
            ClaimResult::Refused { code, message, winner } => Self {
                refusal: Some(v1::ClaimRefusal::from(code) as i32),
                message,
                winner: winner.map(|id| id.to_string()),
            },
        }
    }
}

impl TryFrom<v1::ClaimResult> for ClaimResult {
    type Error = ConvertError;

    fn try_from(wire: v1::ClaimResult) -> Result<Self, ConvertError> {
        Ok(match wire.refusal {
            None => ClaimResult::Taken,
            Some(number) => ClaimResult::Refused {
                code: claim_refusal("refusal", number)?,
                message: wire.message,
                winner: optional_id("winner", wire.winner)?,
            },
        })
    }
}

from_ref!(FreeState => v1::FreeState, Preemption => v1::Preempt, ClaimResult => v1::ClaimResult);
