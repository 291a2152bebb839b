//! What operators change, between the wire and the core. A journal keeps it in the same form.

use std::collections::BTreeMap;

use apportion_allocator::{Quota, QuotaLimit, Weight};
use apportion_master_core::{OperatorCall, RoleChange, view::RoleSettings};
use apportion_proto::v1;
use apportion_types::{
    AgentId, Drain, Operation, Resources, Role,
    convert::ConvertError,
    resources::{Entry, Value},
};

/// The wish to change roles. Refuses a role that is named twice, or of which nothing changes.
pub(crate) fn update_roles(wire: v1::UpdateRolesRequest) -> Result<OperatorCall, ConvertError> {
    let mut changes = BTreeMap::new();
    if wire.changes.is_empty() {
        return Err(ConvertError::new("changes", "is empty; name a role and what changes of it"));
    }
    for (at, wire) in wire.changes.into_iter().enumerate() {
        let within = |error: ConvertError| error.within(format_args!("changes[{at}]"));
        let role: Role = parsed("role", &wire.role).map_err(within)?;
        let change = RoleChange {
            weight: wire.weight_milli.map(weight).transpose().map_err(within)?,
            quota: wire.quota.map(quota).transpose().map_err(|error| within(error.within("quota")))?,
            priority: wire.priority,
        };
        if change == RoleChange::default() {
            let what = format_args!("nothing of role `{role}` changes; give a weight, a priority or a quota");
            return Err(within(ConvertError::new("", what)));
        }
        if changes.contains_key(&role) {
            let what = format_args!("role `{role}` is named twice");
            return Err(within(ConvertError::new("role", what)));
        }
        changes.insert(role, change);
    }
    Ok(OperatorCall::UpdateRoles { changes, force: wire.force })
}

/// The same on the wire.
pub(crate) fn update_roles_request(
    changes: BTreeMap<Role, RoleChange>,
    force: bool,
) -> v1::UpdateRolesRequest {
    let change = |(role, change): (Role, RoleChange)| v1::RoleChange {
        role: role.to_string(),
        weight_milli: change.weight.map(Weight::milli),
        priority: change.priority,
        quota: change.quota.as_ref().map(quota_message),
    };
    v1::UpdateRolesRequest { changes: changes.into_iter().map(change).collect(), force }
}

/// The wish to do an operation with resources of an agent. Refuses one that makes no sense whatever the agent has.
pub(crate) fn operate(wire: v1::OperateRequest) -> Result<OperatorCall, ConvertError> {
    let agent_id: AgentId = parsed("agent_id", &wire.agent_id)?;
    let operation = wire.operation.ok_or_else(|| ConvertError::new("operation", "is missing"))?;
    let operation = Operation::try_from(operation).map_err(|error| error.within("operation"))?;
    if let Err(what) = operation.conversion() {
        return Err(ConvertError::new(format!("operation.{}", operation.name()), what));
    }
    Ok(OperatorCall::Operate { agent_id, operation })
}

/// The same on the wire.
pub(crate) fn operate_request(agent_id: &AgentId, operation: Operation) -> v1::OperateRequest {
    v1::OperateRequest { agent_id: agent_id.to_string(), operation: Some(operation.into()) }
}

/// The wish that an agent is not offered.
pub(crate) fn deactivate(wire: &v1::DeactivateAgentRequest) -> Result<OperatorCall, ConvertError> {
    Ok(OperatorCall::DeactivateAgent { agent_id: parsed("agent_id", &wire.agent_id)? })
}

/// The wish that it is offered again.
pub(crate) fn reactivate(wire: &v1::ReactivateAgentRequest) -> Result<OperatorCall, ConvertError> {
    Ok(OperatorCall::ReactivateAgent { agent_id: parsed("agent_id", &wire.agent_id)? })
}

/// The wish that it has no task any more.
pub(crate) fn drain(wire: v1::DrainAgentRequest) -> Result<OperatorCall, ConvertError> {
    let drain = wire.drain.map(Drain::try_from).transpose().map_err(|error| error.within("drain"))?;
    let agent_id = parsed("agent_id", &wire.agent_id)?;
    Ok(OperatorCall::DrainAgent { agent_id, drain: drain.unwrap_or_default() })
}

/// The word that it is gone.
pub(crate) fn gone(wire: &v1::MarkAgentGoneRequest) -> Result<OperatorCall, ConvertError> {
    Ok(OperatorCall::MarkAgentGone { agent_id: parsed("agent_id", &wire.agent_id)? })
}

/// What is set for a role.
pub(crate) fn role_settings(role: &Role, settings: &RoleSettings) -> v1::RoleSettings {
    v1::RoleSettings {
        role: role.to_string(),
        weight_milli: settings.weight.milli(),
        priority: settings.priority,
        quota: Some(quota_message(&settings.quota)).filter(|_| settings.quota != Quota::default()),
    }
}

/// The same, from the wire.
pub(crate) fn settings_of_role(wire: v1::RoleSettings) -> Result<(Role, RoleSettings), ConvertError> {
    let settings = RoleSettings {
        weight: weight(wire.weight_milli)?,
        quota: wire.quota.map(quota).transpose().map_err(|error| error.within("quota"))?.unwrap_or_default(),
        priority: wire.priority,
    };
    Ok((parsed("role", &wire.role)?, settings))
}

/// A quota on the wire.
pub(crate) fn quota_message(quota: &Quota) -> v1::Quota {
    let limit = |limit: &QuotaLimit| v1::QuotaLimit {
        scalars_milli: limit.iter().map(|(name, milli)| (name.to_string(), milli)).collect(),
    };
    v1::Quota {
        guarantee: Some((&quota.guarantee).into()).filter(|_| !quota.guarantee.is_empty()),
        limit: quota.limit.as_ref().map(limit),
    }
}

fn weight(milli: u32) -> Result<Weight, ConvertError> {
    let zero = || {
        ConvertError::new("weight_milli", "is zero; give 1 or more, or leave it out for the weight to stay")
    };
    Weight::from_milli(milli).ok_or_else(zero)
}

fn quota(wire: v1::Quota) -> Result<Quota, ConvertError> {
    let guarantee = wire.guarantee.map_or_else(|| Ok(Resources::new()), Resources::try_from);
    let guarantee = guarantee.map_err(|error| error.within("guarantee"))?;
    guarantee_judged(&guarantee).map_err(|what| ConvertError::new("guarantee", what))?;
    Ok(Quota { guarantee, limit: wire.limit.map(quota_limit).transpose()? })
}

/// Refuses what nobody can be sure of over the whole cluster: ports, sets, and what is on terms.
pub(crate) fn guarantee_judged(guarantee: &Resources) -> Result<(), String> {
    let odd = |entry: &&Entry| entry.terms().is_some() || !matches!(entry.value(), Value::Scalar(_));
    match guarantee.entries().find(odd) {
        Some(entry) => Err(format!(
            "{} is more than a plain number; guarantee scalars, such as `cpus:4;mem:8GiB`",
            entry.name()
        )),
        None => Ok(()),
    }
}

fn quota_limit(wire: v1::QuotaLimit) -> Result<QuotaLimit, ConvertError> {
    let mut scalars: Vec<(String, i64)> = wire.scalars_milli.into_iter().collect();
    scalars.sort();
    // The rules stand with the text that operators write.
    let part = |(name, milli): &(String, i64)| match milli {
        ..0 => format!("{name}:-"),
        _ => format!("{name}:{}", Value::Scalar(*milli)),
    };
    let text: Vec<String> = scalars.iter().map(part).collect();
    text.join(";").parse().map_err(|error| ConvertError::new("limit", error))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, ConvertError> {
    text.parse().map_err(|error| ConvertError::new(field, error))
}
