//! Frameworks and agents as they describe themselves, and offers.

use std::{collections::BTreeSet, sync::Arc};

use apportion_proto::v1;

use super::{
    ConvertError, agent_capability, bounded, control, duration, from_ref, id, ids, map_bytes, message,
    messages, millis, optional, shown,
};
use crate::{
    AgentInfo, FrameworkInfo, Offer, Place, Role,
    container::{Control, Unenforced},
    limits,
};

impl From<FrameworkInfo> for v1::FrameworkInfo {
    fn from(info: FrameworkInfo) -> Self {
        Self {
            name: info.name,
            principal: info.principal,
            roles: texts(&info.roles),
            failover_timeout_ms: Some(millis(info.failover_timeout)),
            labels: info.labels.into_iter().collect(),
        }
    }
}

/// Roles as texts.
pub(super) fn texts(roles: &[Role]) -> Vec<String> {
    roles.iter().map(|role| role.as_str().to_owned()).collect()
}

/// Refuses: no role, a role twice, more than [`limits::ROLES_MAX`], a failover time-out above
/// [`limits::FAILOVER_TIMEOUT_MAX`], more than [`limits::DESCRIPTION_BYTES_MAX`] of text.
impl TryFrom<v1::FrameworkInfo> for FrameworkInfo {
    type Error = ConvertError;

    fn try_from(wire: v1::FrameworkInfo) -> Result<Self, ConvertError> {
        let bytes = wire.name.len() + wire.principal.len() + map_bytes(&wire.labels);
        bounded("name, principal and labels", bytes, limits::DESCRIPTION_BYTES_MAX)?;
        if wire.roles.is_empty() {
            return Err(ConvertError::new(
                "roles",
                "is empty; name at least one, such as the default role `*`",
            ));
        }
        if wire.roles.len() > limits::ROLES_MAX {
            let (count, most) = (wire.roles.len(), limits::ROLES_MAX);
            return Err(ConvertError::new(
                "roles",
                format_args!("{count} are more than the most that is allowed, {most}"),
            ));
        }
        let roles = distinct_roles("roles", &wire.roles)?;
        let failover_timeout = match wire.failover_timeout_ms {
            Some(millis) => duration("failover_timeout_ms", millis, limits::FAILOVER_TIMEOUT_MAX)?,
            None => limits::FAILOVER_TIMEOUT_DEFAULT,
        };
        Ok(Self {
            name: wire.name,
            principal: wire.principal,
            roles,
            failover_timeout,
            labels: wire.labels.into_iter().collect(),
        })
    }
}

/// Roles, none twice.
fn distinct_roles(field: &str, texts: &[String]) -> Result<Vec<Role>, ConvertError> {
    let roles: Vec<Role> = ids(field, texts)?;
    let mut seen = BTreeSet::new();
    match roles.iter().position(|role| !seen.insert(role)) {
        Some(index) => Err(ConvertError::new(
            format!("{field}[{index}]"),
            format_args!("role `{}` is given twice", roles[index]),
        )),
        None => Ok(roles),
    }
}

impl From<AgentInfo> for v1::AgentInfo {
    fn from(info: AgentInfo) -> Self {
        Self {
            hostname: info.hostname,
            address: info.address,
            resources: Some(info.resources.into()),
            attributes: info.attributes.into_iter().collect(),
            unenforced: info.unenforced.into_iter().map(Into::into).collect(),
            version: info.version,
            domain: info.domain.map(Into::into),
            capabilities: info
                .capabilities
                .into_iter()
                .map(|one| v1::AgentCapability::from(one) as i32)
                .collect(),
            work_dir_id: info.work_dir_id,
        }
    }
}

/// Passes over capabilities that are not known: they are a newer agent's. Refuses: no host name, an address that is not `host:port`, missing resources, a control named twice, more than
/// [`limits::DESCRIPTION_BYTES_MAX`] of text.
impl TryFrom<v1::AgentInfo> for AgentInfo {
    type Error = ConvertError;

    fn try_from(wire: v1::AgentInfo) -> Result<Self, ConvertError> {
        let reasons: usize = wire.unenforced.iter().map(|each| each.reason.len()).sum();
        let bytes = wire.hostname.len()
            + wire.address.len()
            + wire.version.len()
            + wire.work_dir_id.len()
            + map_bytes(&wire.attributes)
            + reasons;
        let fields = "hostname, address, attributes, reasons, version and work_dir_id";
        bounded(fields, bytes, limits::DESCRIPTION_BYTES_MAX)?;
        if wire.hostname.is_empty() {
            return Err(ConvertError::new("hostname", "is empty"));
        }
        let port = wire
            .address
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty())
            .map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            let what = format_args!("`{}` is not `host:port`", shown(&wire.address));
            return Err(ConvertError::new("address", what));
        }
        // What only a later version can enforce, nobody asks for here.
        let known = |one: &v1::Unenforced| v1::Control::try_from(one.control).is_ok();
        let unenforced: Vec<v1::Unenforced> = wire.unenforced.into_iter().filter(known).collect();
        if unenforced.len() > Control::ALL.len() {
            return Err(ConvertError::new("unenforced", "names a control twice"));
        }
        Ok(Self {
            resources: message("resources", wire.resources)?,
            unenforced: messages("unenforced", unenforced)?,
            hostname: wire.hostname,
            address: wire.address,
            attributes: wire.attributes.into_iter().collect(),
            version: wire.version,
            domain: optional("domain", wire.domain)?,
            capabilities: wire
                .capabilities
                .into_iter()
                .filter_map(|number| agent_capability("capabilities", number).ok())
                .collect(),
            work_dir_id: wire.work_dir_id,
        })
    }
}

impl From<Unenforced> for v1::Unenforced {
    fn from(unenforced: Unenforced) -> Self {
        Self { control: v1::Control::from(unenforced.control) as i32, reason: unenforced.reason }
    }
}

impl TryFrom<v1::Unenforced> for Unenforced {
    type Error = ConvertError;

    fn try_from(wire: v1::Unenforced) -> Result<Self, ConvertError> {
        Ok(Self { control: control("control", wire.control)?, reason: wire.reason })
    }
}

impl From<Offer> for v1::Offer {
    fn from(offer: Offer) -> Self {
        let place = Arc::unwrap_or_clone(offer.place);
        Self {
            offer_id: offer.offer_id.to_string(),
            framework_id: offer.framework_id.to_string(),
            agent_id: offer.agent_id.to_string(),
            role: offer.role.to_string(),
            resources: Some(offer.resources.into()),
            hostname: place.hostname,
            address: place.address,
            attributes: place.attributes.into_iter().collect(),
            domain: place.domain.map(Into::into),
            unavailability: offer.unavailability.map(Into::into),
        }
    }
}

impl TryFrom<v1::Offer> for Offer {
    type Error = ConvertError;

    fn try_from(wire: v1::Offer) -> Result<Self, ConvertError> {
        let place = Place {
            hostname: wire.hostname,
            address: wire.address,
            attributes: wire.attributes.into_iter().collect(),
            domain: optional("domain", wire.domain)?,
        };
        Ok(Self {
            offer_id: id("offer_id", &wire.offer_id)?,
            framework_id: id("framework_id", &wire.framework_id)?,
            agent_id: id("agent_id", &wire.agent_id)?,
            role: id("role", &wire.role)?,
            resources: message("resources", wire.resources)?,
            place: Arc::new(place),
            unavailability: optional("unavailability", wire.unavailability)?,
        })
    }
}

from_ref!(
    FrameworkInfo => v1::FrameworkInfo,
    AgentInfo => v1::AgentInfo,
    Unenforced => v1::Unenforced,
    Offer => v1::Offer,
);
