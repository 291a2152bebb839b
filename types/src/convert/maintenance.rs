//! Maintenance: windows, and the inverse offers that tell of them.

use std::{collections::BTreeSet, time::Duration};

use apportion_proto::v1;

use super::{ConvertError, Within as _, id, machine_mode, message, messages, millis, optional_id};
use crate::{
    InverseOffer, MachineId, Resources, Time, Unavailability, Window,
    document::{Amounts, InverseOfferState, MachineAgent, MachineStatus, MaintenanceWindow},
    limits,
};

impl From<Unavailability> for v1::Unavailability {
    fn from(unavailability: Unavailability) -> Self {
        Self { start_us: unavailability.start.as_micros(), duration_ms: unavailability.duration.map(millis) }
    }
}

/// Refuses: a duration of nothing.
impl TryFrom<v1::Unavailability> for Unavailability {
    type Error = ConvertError;

    fn try_from(wire: v1::Unavailability) -> Result<Self, ConvertError> {
        if wire.duration_ms == Some(0) {
            let what = "is nothing; leave it out for a window that stays open";
            return Err(ConvertError::new("duration_ms", what));
        }
        Ok(Self {
            start: Time::from_micros(wire.start_us),
            duration: wire.duration_ms.map(Duration::from_millis),
        })
    }
}

impl From<&Window> for v1::MaintenanceWindow {
    fn from(window: &Window) -> Self {
        Self {
            machines: window.machines.iter().map(ToString::to_string).collect(),
            unavailability: Some(window.unavailability.into()),
        }
    }
}

/// Refuses: no machine or one twice, what is no name, no window, more than [`limits::MAINTENANCE_MACHINES_MAX`] machines.
impl TryFrom<v1::MaintenanceWindow> for Window {
    type Error = ConvertError;

    fn try_from(wire: v1::MaintenanceWindow) -> Result<Self, ConvertError> {
        let machines = machines("machines", &wire.machines)?;
        Ok(Self { machines, unavailability: message("unavailability", wire.unavailability)? })
    }
}

/// Machines, at least one and none twice.
pub fn machines(field: &str, texts: &[String]) -> Result<BTreeSet<MachineId>, ConvertError> {
    if texts.is_empty() {
        let what = "is empty; name at least one machine, by the host name of its agents";
        return Err(ConvertError::new(field, what));
    }
    if texts.len() > limits::MAINTENANCE_MACHINES_MAX {
        let (count, most) = (texts.len(), limits::MAINTENANCE_MACHINES_MAX);
        let what = format_args!("{count} are more than the most that is allowed, {most}");
        return Err(ConvertError::new(field, what));
    }
    let mut machines = BTreeSet::new();
    for (index, text) in texts.iter().enumerate() {
        let machine: MachineId = id("", text).within(format_args!("{field}[{index}]"))?;
        if machines.contains(&machine) {
            let what = format_args!("machine `{machine}` is named twice");
            return Err(ConvertError::new(format!("{field}[{index}]"), what));
        }
        machines.insert(machine);
    }
    Ok(machines)
}

impl From<InverseOffer> for v1::InverseOffer {
    fn from(offer: InverseOffer) -> Self {
        Self {
            inverse_offer_id: offer.inverse_offer_id.to_string(),
            framework_id: offer.framework_id.to_string(),
            agent_id: offer.agent_id.to_string(),
            unavailability: Some(offer.unavailability.into()),
            resources: Some(offer.resources.into()),
        }
    }
}

impl TryFrom<v1::InverseOffer> for InverseOffer {
    type Error = ConvertError;

    fn try_from(wire: v1::InverseOffer) -> Result<Self, ConvertError> {
        Ok(Self {
            inverse_offer_id: id("inverse_offer_id", &wire.inverse_offer_id)?,
            framework_id: id("framework_id", &wire.framework_id)?,
            agent_id: id("agent_id", &wire.agent_id)?,
            unavailability: message("unavailability", wire.unavailability)?,
            resources: message("resources", wire.resources)?,
        })
    }
}

impl From<MaintenanceWindow> for v1::MaintenanceWindow {
    fn from(window: MaintenanceWindow) -> Self {
        Self {
            machines: window.machines.iter().map(ToString::to_string).collect(),
            unavailability: Some(v1::Unavailability {
                start_us: window.start_us.as_micros(),
                duration_ms: window.duration_ms,
            }),
        }
    }
}

impl TryFrom<v1::MachineStatus> for MachineStatus {
    type Error = ConvertError;

    fn try_from(wire: v1::MachineStatus) -> Result<Self, ConvertError> {
        let windows: Vec<Unavailability> = messages("windows", wire.windows)?;
        Ok(Self {
            machine: id("machine", &wire.machine)?,
            mode: machine_mode("mode", wire.mode)?,
            windows: windows.into_iter().map(Into::into).collect(),
            agents: messages("agents", wire.agents)?,
        })
    }
}

impl TryFrom<v1::MachineAgent> for MachineAgent {
    type Error = ConvertError;

    fn try_from(wire: v1::MachineAgent) -> Result<Self, ConvertError> {
        use v1::AgentState::*;
        let state = match v1::AgentState::try_from(wire.state).unwrap_or(Unspecified) {
            Active => "active",
            Disconnected => "disconnected",
            Unreachable => "unreachable",
            Recovered => "recovered",
            Unspecified => {
                let what = format_args!("{} is not a state of agents known here", wire.state);
                return Err(ConvertError::new("state", what));
            }
        };
        Ok(Self {
            agent_id: id("agent_id", &wire.agent_id)?,
            state,
            frameworks: messages("frameworks", wire.frameworks)?,
        })
    }
}

impl TryFrom<v1::InverseOfferSummary> for InverseOfferState {
    type Error = ConvertError;

    fn try_from(wire: v1::InverseOfferSummary) -> Result<Self, ConvertError> {
        use v1::InverseOfferAnswer::*;
        let answer = match v1::InverseOfferAnswer::try_from(wire.answer).unwrap_or(Unspecified) {
            Pending => "pending",
            Accepted => "accepted",
            Declined => "declined",
            NotAsked => "not_asked",
            Unspecified => {
                let what = format_args!("{} is not an answer known here", wire.answer);
                return Err(ConvertError::new("answer", what));
            }
        };
        let resources = wire.resources.map_or_else(|| Ok(Resources::new()), Resources::try_from);
        Ok(Self {
            framework_id: id("framework_id", &wire.framework_id)?,
            framework_name: wire.framework_name,
            answer,
            reason: wire.reason,
            answered_at_us: wire.answered_at_us.map(Time::from_micros),
            inverse_offer_id: optional_id("inverse_offer_id", wire.inverse_offer_id)?,
            expires_at_us: wire.expires_at_us.map(Time::from_micros),
            resources: Amounts(resources.within("resources")?),
        })
    }
}
