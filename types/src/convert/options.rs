//! What a framework wishes of offers.

use std::collections::BTreeMap;

use apportion_proto::v1;

use super::{ConvertError, Within as _, bounded, capability, from_ref, id, messages};
use crate::{
    FaultDomain, FrameworkOptions, OfferConstraints, Role,
    constraints::{Constraint, Pattern, Predicate, Selector},
    limits,
};

impl From<FrameworkOptions> for v1::FrameworkOptions {
    fn from(options: FrameworkOptions) -> Self {
        let mut roles: BTreeMap<Role, v1::RoleOptions> = BTreeMap::new();
        let named = |role: &Role| v1::RoleOptions { role: role.to_string(), ..Default::default() };
        for (role, constraints) in options.constraints {
            let group = |constraints: Vec<Constraint>| v1::ConstraintGroup {
                constraints: constraints.into_iter().map(Into::into).collect(),
            };
            roles.entry(role.clone()).or_insert_with(|| named(&role)).constraints =
                constraints.groups.into_iter().map(group).collect();
        }
        for (role, any_of) in options.min_allocatable {
            let any_of = any_of.into_iter().map(Into::into).collect();
            roles.entry(role.clone()).or_insert_with(|| named(&role)).min_allocatable =
                Some(v1::MinAllocatable { any_of });
        }
        Self {
            capabilities: options.capabilities.iter().map(|one| v1::Capability::from(*one) as i32).collect(),
            roles: roles.into_values().collect(),
            offers_max: options.offers_max,
            stand_by: options.stand_by,
        }
    }
}

/// Refuses: a capability that is not known, a role twice, more than [`limits::ROLES_MAX`] roles or [`limits::CONSTRAINTS_MAX`]
/// constraints of one, a pattern that cannot be used, an `offers_max` of zero.
impl TryFrom<v1::FrameworkOptions> for FrameworkOptions {
    type Error = ConvertError;

    fn try_from(wire: v1::FrameworkOptions) -> Result<Self, ConvertError> {
        if wire.roles.len() > limits::ROLES_MAX {
            let (count, most) = (wire.roles.len(), limits::ROLES_MAX);
            return Err(ConvertError::new(
                "roles",
                format_args!("{count} roles are more than are allowed, {most}"),
            ));
        }
        if wire.offers_max == Some(0) {
            return Err(ConvertError::new("offers_max", "is zero; suppress the roles to be offered nothing"));
        }
        if let Some(name) =
            wire.stand_by.as_deref().filter(|name| name.is_empty() || name.len() > limits::ID_BYTES_MAX)
        {
            let what = format_args!(
                "has {} bytes; name the scheduler with 1 to {}",
                name.len(),
                limits::ID_BYTES_MAX
            );
            return Err(ConvertError::new("stand_by", what));
        }
        let mut options =
            FrameworkOptions { offers_max: wire.offers_max, stand_by: wire.stand_by, ..Default::default() };
        for (index, number) in wire.capabilities.into_iter().enumerate() {
            if number > 0 && v1::Capability::try_from(number).is_err() {
                continue; // a later version can do more
            }
            options.capabilities.insert(capability(&format!("capabilities[{index}]"), number)?);
        }
        let mut seen = std::collections::BTreeSet::new();
        for (index, wire) in wire.roles.into_iter().enumerate() {
            let at = format!("roles[{index}]");
            let role: Role = id("role", &wire.role).within(&at)?;
            if !seen.insert(role.clone()) {
                return Err(ConvertError::new(
                    format!("{at}.role"),
                    format_args!("role `{role}` is named twice"),
                ));
            }
            let constraints = constraints(wire.constraints).within(&at)?;
            if !constraints.groups.is_empty() {
                options.constraints.insert(role.clone(), constraints);
            }
            if let Some(v1::MinAllocatable { any_of }) = wire.min_allocatable {
                if any_of.len() > limits::RESOURCE_NAMES_MAX {
                    let what = format_args!("{} minimums are more than are allowed", any_of.len());
                    return Err(ConvertError::new(format!("{at}.min_allocatable"), what));
                }
                options.min_allocatable.insert(role, messages("min_allocatable.any_of", any_of).within(&at)?);
            }
        }
        Ok(options)
    }
}

fn constraints(wire: Vec<v1::ConstraintGroup>) -> Result<OfferConstraints, ConvertError> {
    let count: usize = wire.iter().map(|group| group.constraints.len().max(1)).sum();
    if count > limits::CONSTRAINTS_MAX {
        let most = limits::CONSTRAINTS_MAX;
        return Err(ConvertError::new(
            "constraints",
            format_args!("{count} constraints are more than are allowed, {most}"),
        ));
    }
    let group = |(index, group): (usize, v1::ConstraintGroup)| {
        messages("constraints", group.constraints).within(format_args!("constraints[{index}]"))
    };
    Ok(OfferConstraints { groups: wire.into_iter().enumerate().map(group).collect::<Result<_, _>>()? })
}

impl From<Constraint> for v1::Constraint {
    fn from(constraint: Constraint) -> Self {
        let (selector, attribute) = match constraint.selector {
            Selector::Hostname => (v1::Selector::Hostname, String::new()),
            Selector::Region => (v1::Selector::Region, String::new()),
            Selector::Zone => (v1::Selector::Zone, String::new()),
            Selector::Attribute(name) => (v1::Selector::Attribute, name),
        };
        let (predicate, text) = match constraint.predicate {
            Predicate::Exists => (v1::Predicate::Exists, String::new()),
            Predicate::Equals(text) => (v1::Predicate::Equals, text),
            Predicate::Matches(pattern) => (v1::Predicate::Matches, pattern.as_str().to_owned()),
        };
        Self {
            selector: selector as i32,
            attribute,
            predicate: predicate as i32,
            text,
            negated: constraint.negated,
        }
    }
}

impl TryFrom<v1::Constraint> for Constraint {
    type Error = ConvertError;

    fn try_from(wire: v1::Constraint) -> Result<Self, ConvertError> {
        let bytes = wire.attribute.len().max(wire.text.len());
        bounded("attribute and text", bytes, limits::PATTERN_TEXT_BYTES_MAX)?;
        let unknown = |field: &str, number: i32| {
            ConvertError::new(field, format_args!("{number} is not a number known here"))
        };
        let selector = match v1::Selector::try_from(wire.selector) {
            Ok(v1::Selector::Hostname) => Selector::Hostname,
            Ok(v1::Selector::Region) => Selector::Region,
            Ok(v1::Selector::Zone) => Selector::Zone,
            Ok(v1::Selector::Attribute) if wire.attribute.is_empty() => {
                return Err(ConvertError::new("attribute", "is missing"));
            }
            Ok(v1::Selector::Attribute) => Selector::Attribute(wire.attribute),
            Ok(v1::Selector::Unspecified) => return Err(ConvertError::new("selector", "is not set")),
            Err(_) => return Err(unknown("selector", wire.selector)),
        };
        let predicate = match v1::Predicate::try_from(wire.predicate) {
            Ok(v1::Predicate::Exists) => Predicate::Exists,
            Ok(v1::Predicate::Equals) => Predicate::Equals(wire.text),
            Ok(v1::Predicate::Matches) => {
                Predicate::Matches(Pattern::new(wire.text).map_err(|error| ConvertError::new("text", error))?)
            }
            Ok(v1::Predicate::Unspecified) => return Err(ConvertError::new("predicate", "is not set")),
            Err(_) => return Err(unknown("predicate", wire.predicate)),
        };
        Ok(Self { selector, predicate, negated: wire.negated })
    }
}

impl From<FaultDomain> for v1::FaultDomain {
    fn from(domain: FaultDomain) -> Self {
        Self { region: domain.region, zone: domain.zone }
    }
}

/// Refuses a region or zone without a name.
impl TryFrom<v1::FaultDomain> for FaultDomain {
    type Error = ConvertError;

    fn try_from(wire: v1::FaultDomain) -> Result<Self, ConvertError> {
        for (field, text) in [("region", &wire.region), ("zone", &wire.zone)] {
            if text.is_empty() {
                return Err(ConvertError::new(field, "is empty"));
            }
            bounded(field, text.len(), limits::ID_BYTES_MAX)?;
        }
        Ok(Self { region: wire.region, zone: wire.zone })
    }
}

from_ref!(FrameworkOptions => v1::FrameworkOptions, FaultDomain => v1::FaultDomain);
