//! What a master says to operators, as the documents that people's programs read.

use std::collections::BTreeMap;

use apportion_proto::v1;

use super::{ConvertError, Within as _, decline_code, id, message, messages, required, resources_sum, shown};
use crate::{
    Resources, Role, Time,
    document::{
        AgentVerdict, Amounts, DeclineSample, Explanation, Limit, Obstacle, RateLimit, ReservationState,
        RoleExplanation, RoleFramework, RoleMember, RoleSettings, RoleState, VerdictCount, VolumeState,
        Waiting,
    },
    resources::Name,
};

/// Resources of one agent or task; absent ones are none.
fn amounts(field: &str, wire: Option<v1::Resources>) -> Result<Amounts, ConvertError> {
    wire.map_or_else(|| Ok(Resources::new()), Resources::try_from).map(Amounts).within(field)
}

/// Resources of many agents or tasks together; absent ones are none.
fn sum(field: &str, wire: Option<v1::Resources>) -> Result<Amounts, ConvertError> {
    resources_sum(wire.unwrap_or_default()).map(Amounts).within(field)
}

/// The name of a verdict for programs, which is that of its number.
fn verdict(field: &str, number: i32) -> Result<&'static str, ConvertError> {
    use v1::Verdict::*;
    let verdict = v1::Verdict::try_from(number).unwrap_or(Unspecified);
    Ok(match verdict {
        Unspecified => {
            return Err(ConvertError::new(field, format_args!("{number} is not a verdict known here")));
        }
        Offered => "offered",
        Behind => "behind",
        Disconnected => "disconnected",
        Suppressed => "suppressed",
        OffersMax => "offers_max",
        AgentInactive => "agent_inactive",
        NothingFree => "nothing_free",
        UnderMinimum => "under_minimum",
        TooSmall => "too_small",
        Filtered => "filtered",
        Constraint => "constraint",
        Gpus => "gpus",
        Region => "region",
        QuotaLimit => "quota_limit",
        Headroom => "headroom",
    })
}

impl TryFrom<v1::RoleSettings> for RoleSettings {
    type Error = ConvertError;

    fn try_from(wire: v1::RoleSettings) -> Result<Self, ConvertError> {
        let quota = wire.quota.unwrap_or_default();
        let limit = |limit: v1::QuotaLimit| {
            let scalar = |(name, milli): (String, i64)| {
                let unknown =
                    || ConvertError::new("quota.limit", format_args!("`{}` is not a name", shown(&name)));
                Ok((Name::new(&name).ok_or_else(unknown)?, milli))
            };
            limit.scalars_milli.into_iter().map(scalar).collect::<Result<BTreeMap<_, _>, _>>().map(Limit)
        };
        Ok(Self {
            role: id("role", &wire.role)?,
            weight_milli: wire.weight_milli,
            priority: wire.priority,
            guarantee: sum("quota.guarantee", quota.guarantee)?,
            limit: quota.limit.map(limit).transpose()?,
        })
    }
}

impl TryFrom<v1::RoleSummary> for RoleState {
    type Error = ConvertError;

    fn try_from(wire: v1::RoleSummary) -> Result<Self, ConvertError> {
        Ok(Self {
            settings: message("settings", wire.settings)?,
            allocated: sum("allocated", wire.allocated)?,
            reserved: sum("reserved", wire.reserved)?,
            dominant_share_ppm: wire.dominant_share_ppm,
            frameworks: messages("frameworks", wire.frameworks)?,
            framework_count: wire.framework_count,
        })
    }
}

impl TryFrom<v1::RoleFramework> for RoleFramework {
    type Error = ConvertError;

    fn try_from(wire: v1::RoleFramework) -> Result<Self, ConvertError> {
        Ok(Self {
            framework_id: id("framework_id", &wire.framework_id)?,
            allocated: sum("allocated", wire.allocated)?,
            dominant_share_ppm: wire.dominant_share_ppm,
        })
    }
}

impl TryFrom<v1::ReservationSummary> for ReservationState {
    type Error = ConvertError;

    fn try_from(wire: v1::ReservationSummary) -> Result<Self, ConvertError> {
        Ok(Self {
            agent_id: id("agent_id", &wire.agent_id)?,
            hostname: wire.hostname,
            role: id("role", &wire.role)?,
            dynamic: wire.dynamic,
            principal: wire.principal,
            resources: amounts("resources", wire.resources)?,
        })
    }
}

impl TryFrom<v1::VolumeSummary> for VolumeState {
    type Error = ConvertError;

    fn try_from(wire: v1::VolumeSummary) -> Result<Self, ConvertError> {
        let volume = required("volume", wire.volume)?;
        Ok(Self {
            agent_id: id("agent_id", &wire.agent_id)?,
            hostname: wire.hostname,
            role: id("role", &wire.role)?,
            volume_id: id("volume.volume_id", &volume.volume_id)?,
            path: volume.path,
            shared: volume.shared,
            principal: wire.principal,
            resources: amounts("resources", wire.resources)?,
            used: wire.used,
        })
    }
}

impl TryFrom<v1::ExplainResponse> for Explanation {
    type Error = ConvertError;

    fn try_from(wire: v1::ExplainResponse) -> Result<Self, ConvertError> {
        let state = match wire.state() {
            v1::FrameworkState::Active => "active",
            v1::FrameworkState::Disconnected => "disconnected",
            v1::FrameworkState::Removed => "removed",
            v1::FrameworkState::Unspecified => {
                let what = format_args!("{} is not a state known here", wire.state);
                return Err(ConvertError::new("state", what));
            }
        };
        let mut requests = Vec::new();
        for wire in wire.requests {
            let role: Role = id("requests.role", &wire.role)?;
            for request in wire.requests {
                let resources = amounts("requests.resources", request.resources)?;
                requests.push(Waiting { role: role.clone(), resources, count: request.count });
            }
        }
        let rate_limit = wire.rate_limit.map(|limit| RateLimit {
            calls_per_second_milli: limit.calls_per_second_milli,
            capacity: limit.capacity,
        });
        Ok(Self {
            framework_id: id("framework_id", &wire.framework_id)?,
            name: wire.name,
            state,
            summary: wire.summary,
            offers: wire.offers,
            rate_limit,
            roles: messages("roles", wire.roles)?,
            declined: wire.declined.into_iter().collect(),
            decline_samples: messages("decline_samples", wire.decline_samples)?,
            requests,
        })
    }
}

impl TryFrom<v1::RoleExplanation> for RoleExplanation {
    type Error = ConvertError;

    fn try_from(wire: v1::RoleExplanation) -> Result<Self, ConvertError> {
        Ok(Self {
            role: id("role", &wire.role)?,
            dominant_share_ppm: wire.dominant_share_ppm,
            weight_milli: wire.weight_milli,
            place: wire.place,
            ahead: messages("ahead", wire.ahead)?,
            obstacles: messages("obstacles", wire.obstacles)?,
            verdicts: messages("verdicts", wire.verdicts)?,
        })
    }
}

impl TryFrom<v1::RoleMember> for RoleMember {
    type Error = ConvertError;

    fn try_from(wire: v1::RoleMember) -> Result<Self, ConvertError> {
        Ok(Self { role: id("role", &wire.role)?, framework_id: id("framework_id", &wire.framework_id)? })
    }
}

impl TryFrom<v1::Obstacle> for Obstacle {
    type Error = ConvertError;

    fn try_from(wire: v1::Obstacle) -> Result<Self, ConvertError> {
        Ok(Self { code: verdict("code", wire.code)?, message: wire.message })
    }
}

impl TryFrom<v1::VerdictCount> for VerdictCount {
    type Error = ConvertError;

    fn try_from(wire: v1::VerdictCount) -> Result<Self, ConvertError> {
        Ok(Self {
            code: verdict("code", wire.code)?,
            agents: wire.agents,
            examples: messages("examples", wire.examples)?,
        })
    }
}

impl TryFrom<v1::AgentVerdict> for AgentVerdict {
    type Error = ConvertError;

    fn try_from(wire: v1::AgentVerdict) -> Result<Self, ConvertError> {
        Ok(Self { agent_id: id("agent_id", &wire.agent_id)?, message: wire.message })
    }
}

impl TryFrom<v1::DeclineSample> for DeclineSample {
    type Error = ConvertError;

    fn try_from(wire: v1::DeclineSample) -> Result<Self, ConvertError> {
        Ok(Self {
            at_us: Time::from_micros(wire.at_us),
            code: decline_code(wire.code).as_str(),
            detail: wire.detail,
            agent_id: id("agent_id", &wire.agent_id)?,
            role: id("role", &wire.role)?,
            offered: amounts("offered", Some(required("offered", wire.offered)?))?,
        })
    }
}
