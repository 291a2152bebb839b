//! The network of a task.

use apportion_proto::v1;

use super::{ConvertError, enums, from_ref, id, messages, optional, shown};
use crate::{
    limits,
    network::{Network, Peer, PortMapping, PortRange, Protocol, Rule, is_network_name},
};

impl From<Network> for v1::Network {
    fn from(network: Network) -> Self {
        Self {
            name: network.name,
            ports: network.ports.into_iter().map(Into::into).collect(),
            policy: network.policy.into_iter().map(Into::into).collect(),
        }
    }
}

/// Refuses a name that is none, more ports than [`limits::PORT_MAPPINGS_MAX`], more rules than [`limits::NETWORK_RULES_MAX`], and what its
/// parts refuse.
impl TryFrom<v1::Network> for Network {
    type Error = ConvertError;

    fn try_from(wire: v1::Network) -> Result<Self, ConvertError> {
        if !is_network_name(&wire.name) {
            let what = format_args!(
                "`{}` names no network: a letter or digit, then at most {} more and `_.-`",
                shown(&wire.name),
                limits::NETWORK_NAME_BYTES_MAX - 1
            );
            return Err(ConvertError::new("name", what));
        }
        at_most("ports", wire.ports.len(), limits::PORT_MAPPINGS_MAX)?;
        at_most("policy", wire.policy.len(), limits::NETWORK_RULES_MAX)?;
        Ok(Self {
            name: wire.name,
            ports: messages("ports", wire.ports)?,
            policy: messages("policy", wire.policy)?,
        })
    }
}

fn at_most(field: &str, count: usize, most: usize) -> Result<(), ConvertError> {
    if count > most {
        return Err(ConvertError::new(field, format_args!("{count} are more than the {most} of a task")));
    }
    Ok(())
}

impl From<PortMapping> for v1::PortMapping {
    fn from(mapping: PortMapping) -> Self {
        Self {
            host_port: mapping.host_port.into(),
            container_port: mapping.container_port.into(),
            protocol: v1::NetworkProtocol::from(mapping.protocol) as i32,
        }
    }
}

impl TryFrom<v1::PortMapping> for PortMapping {
    type Error = ConvertError;

    fn try_from(wire: v1::PortMapping) -> Result<Self, ConvertError> {
        Ok(Self {
            host_port: port("host_port", wire.host_port)?,
            container_port: port("container_port", wire.container_port)?,
            protocol: optional_protocol(wire.protocol)?.unwrap_or(Protocol::Tcp),
        })
    }
}

impl From<Rule> for v1::NetworkRule {
    fn from(rule: Rule) -> Self {
        use v1::network_rule::Peer as Wire;
        Self {
            verdict: v1::NetworkVerdict::from(rule.verdict) as i32,
            direction: v1::NetworkDirection::from(rule.direction) as i32,
            peer: rule.peer.map(|peer| match peer {
                Peer::Cidr(cidr) => Wire::Cidr(cidr.to_string()),
                Peer::Role(role) => Wire::Role(role.to_string()),
            }),
            ports: rule.ports.map(Into::into),
            protocol: rule.protocol.map_or(0, |protocol| v1::NetworkProtocol::from(protocol) as i32),
        }
    }
}

impl TryFrom<v1::NetworkRule> for Rule {
    type Error = ConvertError;

    fn try_from(wire: v1::NetworkRule) -> Result<Self, ConvertError> {
        use v1::network_rule::Peer as Wire;
        Ok(Self {
            verdict: enums::network_verdict("verdict", wire.verdict)?,
            direction: enums::network_direction("direction", wire.direction)?,
            peer: match wire.peer {
                None => None,
                Some(Wire::Cidr(cidr)) => Some(Peer::Cidr(id("cidr", &cidr)?)),
                Some(Wire::Role(role)) => Some(Peer::Role(id("role", &role)?)),
            },
            ports: optional("ports", wire.ports)?,
            protocol: optional_protocol(wire.protocol)?,
        })
    }
}

impl From<PortRange> for v1::PortRange {
    fn from(range: PortRange) -> Self {
        Self { begin: range.begin.into(), end: range.end.into() }
    }
}

/// Refuses a range that ends before it begins.
impl TryFrom<v1::PortRange> for PortRange {
    type Error = ConvertError;

    fn try_from(wire: v1::PortRange) -> Result<Self, ConvertError> {
        let (begin, end) = (port("begin", wire.begin)?, port("end", wire.end)?);
        if end < begin {
            return Err(ConvertError::new("end", format_args!("{end} is below the first, {begin}")));
        }
        Ok(Self { begin, end })
    }
}

/// A port; 0 is none.
pub(super) fn port(field: &str, number: u32) -> Result<u16, ConvertError> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(ConvertError::new(field, format_args!("{number} is no port; give one from 1 to 65535"))),
    }
}

fn optional_protocol(number: i32) -> Result<Option<Protocol>, ConvertError> {
    match number {
        0 => Ok(None),
        number => enums::network_protocol("protocol", number).map(Some),
    }
}

from_ref!(Network => v1::Network);
