//! Resources: what the text form and the arithmetic rely on is checked here.

use std::{collections::BTreeSet, sync::Arc};

use apportion_proto::v1::{self, resource::Value as Wire};
use prost::Message as _;

use super::{ConvertError, Within as _, from_ref, id, shown};
use crate::{
    limits,
    resources::{Dynamic, Entry, Name, PersistentVolume, Ranges, Reservation, Resources, Terms, Value},
};

impl From<Resources> for v1::Resources {
    fn from(resources: Resources) -> Self {
        Self::from(&resources)
    }
}

impl From<&Resources> for v1::Resources {
    fn from(resources: &Resources) -> Self {
        let each = |entry: &Entry| v1::Resource {
            name: entry.name().as_str().to_owned(),
            value: Some(match entry.value() {
                Value::Scalar(milli) => Wire::ScalarMilli(*milli),
                Value::Ranges(ranges) => Wire::Ranges(ranges.into()),
                Value::Set(set) => {
                    Wire::Set(v1::Set { members: set.iter().map(|member| (**member).to_owned()).collect() })
                }
            }),
            terms: entry.terms().map(Into::into),
        };
        Self { resources: resources.entries().map(each).collect() }
    }
}

impl From<Ranges> for v1::Ranges {
    fn from(ranges: Ranges) -> Self {
        Self { ranges: ranges.iter().map(|(first, last)| v1::Range { first, last }).collect() }
    }
}

from_ref!(Ranges => v1::Ranges);

/// How much may stand in one place.
struct Bounds {
    bytes: usize,
    names: usize,
    scalar_milli: i64,
}

/// Of one agent, task or offer.
const ONE: Bounds = Bounds {
    bytes: limits::RESOURCES_BYTES_MAX,
    names: limits::RESOURCE_NAMES_MAX,
    scalar_milli: limits::SCALAR_MILLI_MAX,
};

/// Of many of them.
const SUM: Bounds = Bounds { bytes: usize::MAX, names: usize::MAX, scalar_milli: i64::MAX };

/// Refuses: a name that is none or stands twice for a kind of value on the same terms, terms that contradict themselves, an amount that is missing, negative or above
/// [`limits::SCALAR_MILLI_MAX`], a range that ends before it begins, more than [`limits::RANGES_MAX`] disjoint ranges,
/// members of sets that the text form cannot hold, more than [`limits::RESOURCE_NAMES_MAX`] resources.
impl TryFrom<v1::Resources> for Resources {
    type Error = ConvertError;

    fn try_from(wire: v1::Resources) -> Result<Self, ConvertError> {
        resources(wire, &ONE)
    }
}

impl Resources {
    /// Why nobody could read these as those of one agent, task or offer, from a wire or a disk, if nobody could: there is too much.
    pub fn too_much(&self) -> Option<ConvertError> {
        resources(self.into(), &ONE).err()
    }
}

/// Takes resources of many agents, tasks or offers together: judged as those of one, but for how much there is.
pub fn resources_sum(wire: v1::Resources) -> Result<Resources, ConvertError> {
    resources(wire, &SUM)
}

fn resources(wire: v1::Resources, bounds: &Bounds) -> Result<Resources, ConvertError> {
    let bytes = wire.encoded_len();
    if bytes > bounds.bytes {
        let what = format_args!("{bytes} bytes are more than the most that is allowed, {}", bounds.bytes);
        return Err(ConvertError::new("", what));
    }
    if wire.resources.len() > bounds.names {
        let (count, most) = (wire.resources.len(), bounds.names);
        return Err(ConvertError::new(
            "",
            format_args!("{count} resources are more than the most that is allowed, {most}"),
        ));
    }
    let mut resources = Resources::new();
    let mut seen = BTreeSet::new();
    for (index, v1::Resource { name: text, value, terms }) in wire.resources.into_iter().enumerate() {
        let Some(name) = Name::new(&text) else {
            let what = format_args!(
                "`{}` is not a name (a letter, then letters, digits, `_-.`; at most 64)",
                shown(&text)
            );
            return Err(ConvertError::new(format!("[{index}].name"), what));
        };
        let refuse = |what: String| ConvertError::new(text.clone(), what);
        let value = match value {
            None => return Err(refuse("has no value".to_owned())),
            Some(Wire::ScalarMilli(milli)) => scalar(&name, milli, bounds.scalar_milli),
            Some(Wire::Ranges(ranges)) => self::ranges(ranges),
            Some(Wire::Set(set)) => self::set(&name, set),
        }
        .map_err(refuse)?;
        let kind = match value {
            Value::Scalar(_) => "scalar",
            Value::Ranges(_) => "ranges",
            Value::Set(_) => "set",
        };
        let terms = terms.map(Terms::try_from).transpose().within(&text)?;
        if let Some(terms) = &terms {
            terms.fit(&name).map_err(refuse)?;
        }
        let terms = terms.filter(|terms| !terms.is_plain()).map(Arc::new);
        if !seen.insert((name.clone(), terms.clone(), kind)) {
            return Err(refuse("is given twice".to_owned()));
        }
        resources.insert_on(name, terms, value);
    }
    Ok(resources)
}

impl From<&Terms> for v1::ResourceTerms {
    fn from(terms: &Terms) -> Self {
        let dynamic = |dynamic: &Dynamic| v1::DynamicReservation {
            principal: dynamic.principal.clone(),
            labels: dynamic.labels.clone().into_iter().collect(),
        };
        let reservation = |reservation: &Reservation| v1::Reservation {
            role: reservation.role.to_string(),
            dynamic: reservation.dynamic.as_ref().map(dynamic),
        };
        let volume = |volume: &PersistentVolume| v1::PersistentVolume {
            volume_id: volume.id.to_string(),
            path: volume.path.clone(),
            shared: volume.shared,
        };
        Self {
            reservations: terms.reservations.iter().map(reservation).collect(),
            volume: terms.volume.as_ref().map(volume),
            revocable: terms.revocable,
        }
    }
}

/// Refuses what [`Terms::judge`] refuses, and a role or volume id that is none.
impl TryFrom<v1::ResourceTerms> for Terms {
    type Error = ConvertError;

    fn try_from(wire: v1::ResourceTerms) -> Result<Self, ConvertError> {
        let reservation = |wire: v1::Reservation| {
            let dynamic = wire.dynamic.map(|v1::DynamicReservation { principal, labels }| Dynamic {
                principal,
                labels: labels.into_iter().collect(),
            });
            Ok(Reservation { role: id("reservations.role", &wire.role)?, dynamic })
        };
        let volume = |wire: v1::PersistentVolume| {
            let id = id("volume.volume_id", &wire.volume_id)?;
            Ok(PersistentVolume { id, path: wire.path, shared: wire.shared })
        };
        let terms = Terms {
            reservations: wire
                .reservations
                .into_iter()
                .map(reservation)
                .collect::<Result<_, ConvertError>>()?,
            volume: wire.volume.map(volume).transpose()?,
            revocable: wire.revocable,
        };
        terms.judge().map_err(|what| ConvertError::new("", what))?;
        Ok(terms)
    }
}

fn scalar(name: &Name, milli: i64, milli_max: i64) -> Result<Value, String> {
    if name == &Name::Ports {
        return Err("ports are ranges, not a number".to_owned());
    }
    if milli < 0 {
        return Err(format!("is negative: {milli} thousandths"));
    }
    if milli > milli_max {
        return Err(format!("{milli} thousandths are more than the most that is allowed, {milli_max}"));
    }
    Ok(Value::Scalar(milli))
}

fn ranges(wire: v1::Ranges) -> Result<Value, String> {
    if let Some(range) = wire.ranges.iter().find(|range| range.last < range.first) {
        return Err(format!("the range {}-{} ends before it begins", range.first, range.last));
    }
    let ranges: Ranges = wire.ranges.into_iter().map(|range| (range.first, range.last)).collect();
    if ranges.iter().len() > limits::RANGES_MAX {
        let most = limits::RANGES_MAX;
        return Err(format!(
            "{} disjoint ranges are more than the most that is allowed, {most}",
            ranges.iter().len()
        ));
    }
    Ok(Value::Ranges(ranges))
}

fn set(name: &Name, wire: v1::Set) -> Result<Value, String> {
    if name == &Name::Ports {
        return Err("ports are ranges, not a set".to_owned());
    }
    if wire.members.len() > limits::SET_MEMBERS_MAX {
        return Err(format!(
            "{} members are more than the most that is allowed, {}",
            wire.members.len(),
            limits::SET_MEMBERS_MAX
        ));
    }
    let mut set = BTreeSet::new();
    for member in wire.members {
        // What the text form could not read back.
        let odd = |c: char| c.is_control() || "{}[]:;,".contains(c);
        if member.is_empty() || member.trim() != member || member.contains(odd) {
            return Err(format!("`{}` is not a member of a set", shown(&member)));
        }
        let member: Arc<str> = member.into();
        if !set.insert(Arc::clone(&member)) {
            return Err(format!("`{}` is in the set twice", shown(&member)));
        }
    }
    Ok(Value::Set(Box::new(set)))
}
