//! What readers see, on the wire.

use apportion_master_core::{
    View,
    view::{AgentState, AgentView, DeclineSample, FrameworkState, FrameworkView, OfferView, TaskView},
};
use apportion_proto::v1;
use apportion_types::{Role, convert::activation_message, protocol::scheduler::ResourceRequest};

use super::change;
use crate::{
    lists::{Reservation, RoleRow, Volume},
    summary,
};

pub(crate) fn agent_state(state: AgentState) -> v1::AgentState {
    match state {
        AgentState::Active => v1::AgentState::Active,
        AgentState::Disconnected => v1::AgentState::Disconnected,
        AgentState::Unreachable => v1::AgentState::Unreachable,
        AgentState::Recovered => v1::AgentState::Recovered,
    }
}

pub(crate) fn agent(agent: &AgentView) -> v1::AgentSummary {
    let state = agent_state(agent.state);
    let (activation, drain) = activation_message(agent.activation);
    v1::AgentSummary {
        agent_id: agent.agent_id.to_string(),
        info: Some((&*agent.info).into()),
        state: state as i32,
        registered_at_us: agent.registered_at.as_micros(),
        allocated: Some((&agent.allocated).into()),
        offered: Some((&agent.offered).into()),
        tasks: agent.tasks as u64,
        total: Some((&agent.total).into()),
        revocable: Some((&agent.revocable).into()),
        activation: activation as i32,
        drain,
    }
}

pub(crate) fn framework_state(state: FrameworkState) -> v1::FrameworkState {
    match state {
        FrameworkState::Active => v1::FrameworkState::Active,
        FrameworkState::Disconnected => v1::FrameworkState::Disconnected,
        FrameworkState::Removed => v1::FrameworkState::Removed,
    }
}

pub(crate) fn framework(framework: &FrameworkView) -> v1::FrameworkSummary {
    v1::FrameworkSummary {
        framework_id: framework.framework_id.to_string(),
        info: Some((&*framework.info).into()),
        state: framework_state(framework.state) as i32,
        subscribed_at_us: framework.subscribed_at.as_micros(),
        suppressed_roles: framework.suppressed.iter().map(ToString::to_string).collect(),
        allocated: Some((&framework.allocated).into()),
        offered: Some((&framework.offered).into()),
        tasks: framework.tasks as u64,
        declined: framework.declined.iter().map(|(reason, count)| (reason.clone(), *count)).collect(),
        options: Some((&*framework.options).into()),
        decline_samples: framework.decline_samples.iter().map(decline_sample).collect(),
        requests: requests(framework),
    }
}

pub(crate) fn decline_sample(sample: &DeclineSample) -> v1::DeclineSample {
    v1::DeclineSample {
        at_us: sample.at.as_micros(),
        code: v1::DeclineCode::from(sample.reason.code) as i32,
        detail: sample.reason.detail.clone(),
        agent_id: sample.agent_id.to_string(),
        role: sample.role.to_string(),
        offered: Some((&sample.offered).into()),
    }
}

/// What a framework says that it waits to place.
pub(crate) fn requests(framework: &FrameworkView) -> Vec<v1::Request> {
    let waiting = |request: &ResourceRequest| v1::ResourceRequest {
        resources: Some((&request.resources).into()),
        count: request.count,
    };
    let request = |(role, requests): (&Role, &Vec<ResourceRequest>)| v1::Request {
        role: role.to_string(),
        requests: requests.iter().map(waiting).collect(),
    };
    framework.requests.iter().map(request).collect()
}

pub(crate) fn task(view: &View, task: &TaskView) -> v1::TaskSummary {
    v1::TaskSummary {
        framework_id: task.framework_id.to_string(),
        agent_id: task.agent_id.to_string(),
        role: task.role.to_string(),
        info: Some((&*task.info).into()),
        state: v1::TaskState::from(task.state) as i32,
        status: task.status.as_deref().map(Into::into),
        accepted_at_us: task.accepted_at.as_micros(),
        agent_address: summary::agent_address(view, &task.agent_id).to_owned(),
    }
}

pub(crate) fn offer(offer: &OfferView) -> v1::OfferSummary {
    v1::OfferSummary {
        offer: Some((&offer.offer).into()),
        made_at_us: offer.made_at.as_micros(),
        expires_at_us: offer.expires_at.as_micros(),
    }
}

pub(crate) fn role(name: &Role, row: &RoleRow) -> v1::RoleSummary {
    let framework = |share: &apportion_allocator::Share| v1::RoleFramework {
        framework_id: share.framework.as_ref().map(ToString::to_string).unwrap_or_default(),
        allocated: Some((&share.allocated).into()),
        dominant_share_ppm: share.dominant_share_ppm,
    };
    v1::RoleSummary {
        settings: Some(change::role_settings(name, &row.settings)),
        allocated: Some((&row.allocated).into()),
        reserved: Some((&row.reserved).into()),
        dominant_share_ppm: row.dominant_share_ppm,
        frameworks: row.frameworks.iter().map(framework).collect(),
        framework_count: row.framework_count,
    }
}

pub(crate) fn reservation(row: Reservation<'_>) -> v1::ReservationSummary {
    let made = row.terms.reservations.last().and_then(|last| last.dynamic.as_ref());
    v1::ReservationSummary {
        agent_id: row.agent.agent_id.to_string(),
        hostname: row.agent.info.hostname.clone(),
        role: row.terms.role().map(ToString::to_string).unwrap_or_default(),
        dynamic: made.is_some(),
        principal: made.map(|made| made.principal.clone()).unwrap_or_default(),
        resources: Some(row.resources.into()),
    }
}

pub(crate) fn volume(row: Volume<'_>) -> v1::VolumeSummary {
    let made = row.terms.reservations.last().and_then(|last| last.dynamic.as_ref());
    v1::VolumeSummary {
        agent_id: row.agent.agent_id.to_string(),
        hostname: row.agent.info.hostname.clone(),
        role: row.terms.role().map(ToString::to_string).unwrap_or_default(),
        volume: Some(v1::PersistentVolume {
            volume_id: row.volume.id.to_string(),
            path: row.volume.path.clone(),
            shared: row.volume.shared,
        }),
        principal: made.map(|made| made.principal.clone()).unwrap_or_default(),
        resources: Some(row.resources.into()),
        used: row.used,
    }
}

/// The number of a verdict or obstacle, by the allocator's name for it.
pub(crate) fn verdict(code: &str) -> v1::Verdict {
    v1::Verdict::from_str_name(&format!("VERDICT_{}", code.to_uppercase()))
        .expect("every verdict of the allocator has a number")
}
