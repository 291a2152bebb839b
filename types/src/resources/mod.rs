//! Amounts of named resources, with exact arithmetic.
//!
//! Scalars are integers in thousandths of a unit (cpus: processors; mem and disk: MiB), ranges are inclusive and coalesced,
//! sets hold texts. Names with nothing left are absent, so equal amounts are equal values. Nothing is ever negative. Amounts on
//! different terms (reserved, a volume, revocable) are different things.
//! Follows Mesos' src/common/{values,resources}.cpp, without its floating point.

mod entries;
mod escape;
mod parse;
mod ranges;
mod reserve;
mod terms;

use std::{borrow::Cow, cmp::Ordering, collections::BTreeSet, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use self::entries::Entries;
pub use self::{
    parse::{ParseError, parse_scalar},
    ranges::Ranges,
    terms::{Dynamic, PersistentVolume, Reservation, Terms},
};
use crate::Role;

/// The name of a resource. Order: the five that every agent has first, then custom names by text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// Processors.
    Cpus,
    /// Memory, in MiB.
    Mem,
    /// Disk, in MiB.
    Disk,
    /// Graphics processors.
    Gpus,
    /// TCP and UDP ports.
    Ports,
    /// Any other; see [`Name::new`] for what it may be.
    Custom(Arc<str>),
}

impl Name {
    /// Takes a text as a name: a letter, then letters, digits, `_`, `-`, `.`; at most 64 bytes.
    pub fn new(text: &str) -> Option<Name> {
        Some(match text {
            "cpus" => Name::Cpus,
            "mem" => Name::Mem,
            "disk" => Name::Disk,
            "gpus" => Name::Gpus,
            "ports" => Name::Ports,
            _ => {
                let mut chars = text.chars();
                let good = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
                    && chars.all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
                    && text.len() <= 64;
                if !good {
                    return None;
                }
                Name::Custom(text.into())
            }
        })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        match self {
            Name::Cpus => "cpus",
            Name::Mem => "mem",
            Name::Disk => "disk",
            Name::Gpus => "gpus",
            Name::Ports => "ports",
            Name::Custom(text) => text,
        }
    }

    /// True for resources measured in MiB, which may be written with a unit (`1GiB`).
    pub fn is_bytes(&self) -> bool {
        matches!(self, Name::Mem | Name::Disk)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How much of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// Thousandths of a unit; positive.
    Scalar(i64),
    /// Inclusive ranges of integers; not empty.
    Ranges(Ranges),
    /// Distinct texts; not empty.
    Set(Box<BTreeSet<Arc<str>>>),
}

impl Value {
    fn is_empty(&self) -> bool {
        match self {
            Value::Scalar(milli) => *milli == 0,
            Value::Ranges(ranges) => ranges.is_empty(),
            Value::Set(set) => set.is_empty(),
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Value::Scalar(_) => 0,
            Value::Ranges(_) => 1,
            Value::Set(_) => 2,
        }
    }

    fn contains(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Scalar(a), Value::Scalar(b)) => a >= b,
            (Value::Ranges(a), Value::Ranges(b)) => a.contains(b),
            (Value::Set(a), Value::Set(b)) => a.is_superset(b),
            _ => false,
        }
    }

    fn add(&mut self, other: &Value) {
        match (self, other) {
            (Value::Scalar(a), Value::Scalar(b)) => *a = a.saturating_add(*b),
            (Value::Ranges(a), Value::Ranges(b)) => a.add(b),
            (Value::Set(a), Value::Set(b)) => a.extend(b.iter().cloned()),
            _ => unreachable!("entries are matched by kind"),
        }
    }

    /// Takes away what is there of `other`, never more.
    fn subtract(&mut self, other: &Value) {
        match (self, other) {
            (Value::Scalar(a), Value::Scalar(b)) => *a = (*a - *b).max(0),
            (Value::Ranges(a), Value::Ranges(b)) => a.subtract(b),
            (Value::Set(a), Value::Set(b)) => a.retain(|member| !b.contains(member)),
            _ => unreachable!("entries are matched by kind"),
        }
    }
}

/// An amount of one resource, on its terms.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    name: Name,
    /// None when they set nothing apart.
    terms: Option<Arc<Terms>>,
    value: Value,
}

impl Entry {
    /// What it is.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What sets it apart; none when nothing does.
    pub fn terms(&self) -> Option<&Terms> {
        self.terms.as_deref()
    }

    /// How much of it.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// For whom it is kept, if it is.
    pub fn role(&self) -> Option<&Role> {
        self.terms()?.role()
    }

    /// The volume on it, if there is one.
    pub fn volume(&self) -> Option<&PersistentVolume> {
        self.terms()?.volume.as_ref()
    }

    /// True when it is only lent.
    pub fn is_revocable(&self) -> bool {
        self.terms().is_some_and(|terms| terms.revocable)
    }

    /// True for a shared volume.
    pub fn is_shared(&self) -> bool {
        self.terms().is_some_and(Terms::is_shared)
    }

    fn order(&self, name: &Name, terms: Option<&Terms>, kind: u8) -> Ordering {
        let by_name = self.name.cmp(name);
        by_name.then_with(|| self.terms().cmp(&terms)).then(self.value.kind().cmp(&kind))
    }

    /// A volume is whole or not there.
    fn contains(&self, value: &Value) -> bool {
        match self.volume() {
            Some(_) => self.value == *value,
            None => self.value.contains(value),
        }
    }

    fn subtract(&mut self, value: &Value) {
        match self.volume() {
            None => self.value.subtract(value),
            Some(_) if self.value == *value => self.value = Value::Scalar(0),
            Some(_) => {}
        }
    }

    fn add(&mut self, value: &Value) {
        match self.volume() {
            // There is one of it, however many hold it.
            Some(_) => debug_assert!(self.value == *value, "a volume is one size at a time"),
            None => self.value.add(value),
        }
    }
}

/// Amounts of named resources. One name may hold a scalar and ranges and a set beside each other, and each on several [`Terms`];
/// they never mix.
///
/// A persistent volume is an entry of its own, whole or not there; adding one that is there already changes nothing.
///
/// ```
/// use apportion_types::Resources;
///
/// let agent: Resources = "cpus:2;mem:1GiB;ports:[31000-32000]".parse()?;
/// let task: Resources = "cpus:0.5;mem:256;ports:[31000-31001]".parse()?;
/// let rest = agent.checked_sub(&task).ok_or("it does not fit")?;
/// assert_eq!(rest.to_string(), "cpus:1.5;mem:768;ports:[31002-32000]");
/// assert_eq!(rest + &task, agent);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Terms stand between the name and its colon: reservations (`+` for dynamic ones, with `@principal` and `?label=value`), a
/// volume, `{revocable}`.
///
/// ```
/// use apportion_types::{Resources, Role};
///
/// let agent: Resources = "cpus:2;cpus(eng):4;cpus{revocable}:1;disk(eng,+eng/ads@ann)[data=var/lib]:100".parse()?;
/// assert_eq!(agent.cpus_milli(), 7000);
/// assert_eq!(agent.unreserved().to_string(), "cpus:2;cpus{revocable}:1");
/// assert_eq!(agent.reserved_for(&Role::new("eng")?).to_string(), "cpus(eng):4");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Resources {
    /// Sorted by name, then terms, then kind; each such once; no empty value.
    entries: Entries,
}

impl Resources {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// An amount of one scalar, in thousandths. Nothing when `milli` is not positive.
    pub fn scalar(name: Name, milli: i64) -> Self {
        let mut resources = Self::new();
        resources.insert(name, Value::Scalar(milli.max(0)));
        resources
    }

    /// An amount of one resource.
    pub fn of(name: Name, value: Value) -> Self {
        let mut resources = Self::new();
        resources.insert(name, value);
        resources
    }

    /// Adds an amount of one resource, on no terms.
    pub fn insert(&mut self, name: Name, value: Value) {
        self.insert_on(name, None, value);
    }

    /// Adds an amount of one resource on some terms, which [`Terms::judge`] has found good.
    pub fn insert_on(&mut self, name: Name, terms: Option<Arc<Terms>>, value: Value) {
        if value.is_empty() {
            return;
        }
        debug_assert!(!matches!(value, Value::Scalar(milli) if milli < 0), "an amount is never negative");
        let terms = terms.filter(|terms| !terms.is_plain());
        match self.position(&name, terms.as_deref(), value.kind()) {
            Ok(index) => self.entries.change(index, |entry| entry.add(&value)),
            Err(index) => self.entries.insert(index, Entry { name, terms, value }),
        }
    }

    fn position(&self, name: &Name, terms: Option<&Terms>, kind: u8) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.order(name, terms, kind))
    }

    fn position_of(&self, entry: &Entry) -> Result<usize, usize> {
        self.position(&entry.name, entry.terms(), entry.value.kind())
    }

    /// True when there is nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Each amount on its terms, in the order of names, terms and kinds.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Each name and value, in the order of names. A name stands there once for all terms that it is on.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Name, &Value)> {
        self.entries.iter().map(|entry| (&entry.name, &entry.value))
    }

    /// Thousandths of a scalar, on whatever terms; zero when there is none.
    pub fn milli(&self, name: &Name) -> i64 {
        self.scalars()
            .filter(|(known, _)| *known == name)
            .fold(0, |sum: i64, (_, milli)| sum.saturating_add(milli))
    }

    /// Thousandths of a processor.
    pub fn cpus_milli(&self) -> i64 {
        self.milli(&Name::Cpus)
    }

    /// Thousandths of a MiB of memory.
    pub fn mem_milli(&self) -> i64 {
        self.milli(&Name::Mem)
    }

    /// Memory in bytes, rounded down.
    pub fn mem_bytes(&self) -> u64 {
        milli_mib_to_bytes(self.mem_milli())
    }

    /// The ranges of a name, on whatever terms, if there are some.
    pub fn ranges(&self, name: &Name) -> Option<Cow<'_, Ranges>> {
        let ranges = self.entries.iter().filter_map(|entry| match &entry.value {
            Value::Ranges(ranges) if entry.name == *name => Some(Cow::Borrowed(ranges)),
            _ => None,
        });
        ranges.reduce(|mut all, more| {
            all.to_mut().add(&more);
            all
        })
    }

    /// The ports, if there are some.
    pub fn ports(&self) -> Option<Cow<'_, Ranges>> {
        self.ranges(&Name::Ports)
    }

    /// Each scalar and its thousandths, in the order of names; once for all terms that it is on.
    pub fn scalars(&self) -> impl Iterator<Item = (&Name, i64)> {
        self.entries.iter().filter_map(|entry| match entry.value {
            Value::Scalar(milli) => Some((&entry.name, milli)),
            _ => None,
        })
    }

    /// What of it can be summed over agents: ranges and sets of different agents are not the same things, and neither are volumes.
    /// Terms but for volumes are kept.
    #[must_use]
    pub fn summable(&self) -> Resources {
        if self
            .entries
            .iter()
            .all(|entry| matches!(entry.value, Value::Scalar(_)) && entry.volume().is_none())
        {
            return self.clone();
        }
        let mut sum = Resources::new();
        for entry in self.entries.iter().filter(|entry| matches!(entry.value, Value::Scalar(_))) {
            let terms = match entry.volume() {
                None => entry.terms.clone(),
                Some(_) => entry.terms().map(|terms| Arc::new(Terms { volume: None, ..terms.clone() })),
            };
            sum.insert_on(entry.name.clone(), terms, entry.value.clone());
        }
        sum
    }

    /// True when all of `other` is in here, on the same terms.
    pub fn contains(&self, other: &Resources) -> bool {
        self.entries.same(&other.entries)
            || other.entries.iter().all(|entry| {
                self.position_of(entry).is_ok_and(|index| self.entries[index].contains(&entry.value))
            })
    }

    /// This less `other`; none when `other` is not all in here.
    #[must_use]
    pub fn checked_sub(&self, other: &Resources) -> Option<Resources> {
        self.contains(other).then(|| {
            let mut rest = self.clone();
            rest.saturating_sub(other);
            rest
        })
    }

    /// Takes away what is here of `other`, never more.
    pub fn saturating_sub(&mut self, other: &Resources) {
        // As a rule an offer or a task takes all that was there: then nothing is copied to be emptied.
        if self == other {
            *self = Resources::new();
            return;
        }
        for entry in other.entries.iter() {
            if let Ok(index) = self.position_of(entry) {
                self.entries.change(index, |mine| mine.subtract(&entry.value));
            }
        }
        self.entries.remove_empty();
    }

    /// What is missing here to hold `other`: `other` less this.
    pub fn missing(&self, other: &Resources) -> Resources {
        let mut missing = other.clone();
        missing.saturating_sub(self);
        missing
    }
}

/// Bytes of so many thousandths of a MiB, rounded down; zero for a negative number.
pub fn milli_mib_to_bytes(milli: i64) -> u64 {
    let bytes = u128::from(milli.max(0).unsigned_abs()) * (1 << 20) / 1000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Thousandths of a MiB of so many bytes, rounded down.
pub fn bytes_to_milli_mib(bytes: u64) -> i64 {
    i64::try_from(u128::from(bytes) * 1000 / (1 << 20)).unwrap_or(i64::MAX)
}

impl std::ops::AddAssign<&Resources> for Resources {
    fn add_assign(&mut self, other: &Resources) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        for entry in other.entries.iter() {
            match self.position_of(entry) {
                Ok(index) => self.entries.change(index, |mine| mine.add(&entry.value)),
                Err(index) => self.entries.insert(index, entry.clone()),
            }
        }
    }
}

impl std::ops::Add<&Resources> for Resources {
    type Output = Resources;

    fn add(mut self, other: &Resources) -> Resources {
        self += other;
        self
    }
}

impl<'a> std::iter::Sum<&'a Resources> for Resources {
    fn sum<I: Iterator<Item = &'a Resources>>(iter: I) -> Resources {
        iter.fold(Resources::new(), |sum, each| sum + each)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Scalar(milli) => write_milli(f, *milli),
            Value::Ranges(ranges) => ranges.fmt(f),
            Value::Set(set) => {
                f.write_str("{")?;
                for (index, member) in set.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "," })?;
                    f.write_str(member)?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_milli(f: &mut fmt::Formatter<'_>, milli: i64) -> fmt::Result {
    match milli % 1000 {
        0 => write!(f, "{}", milli / 1000),
        rest => {
            let decimals = format!("{rest:03}");
            write!(f, "{}.{}", milli / 1000, decimals.trim_end_matches('0'))
        }
    }
}

/// The text that [`Resources::from_str`](std::str::FromStr) reads back: `cpus:2;mem:1024;ports:[31000-32000]`.
impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Entry { name, terms, value }) in self.entries.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ";" })?;
            match terms {
                None => write!(f, "{name}:{value}")?,
                Some(terms) => write!(f, "{name}{terms}:{value}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for Resources {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Resources {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
