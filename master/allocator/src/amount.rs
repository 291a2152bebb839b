//! Resources with what a cycle asks of them worked out once.

use std::{ops::Deref, sync::Arc};

use apportion_types::{
    Resources,
    resources::{Entry, Value},
};

use crate::quantities::{Kinds, Quantities};

/// Some resources, shared by all that hold, refuse or could be offered exactly these: as a rule what an agent has free goes
/// to and fro whole, and then nothing is copied or compared.
#[derive(Debug, Clone)]
pub(crate) struct Amount(Arc<Worked>);

#[derive(Debug)]
struct Worked {
    resources: Resources,
    /// What counts for shares: all but shared volumes.
    quantities: Quantities,
    /// What counts for quotas: unreserved, and not only lent. None when that is all that counts for shares.
    plain: Option<Quantities>,
    has_terms: bool,
    shares: bool,
    allocatable: bool,
}

/// What amounts are measured by.
#[derive(Debug, Clone)]
pub(crate) struct Measure {
    pub(crate) kinds: Kinds,
    /// One of these whole makes an amount worth offering.
    pub(crate) allocatable_min: Vec<Resources>,
    /// Those of them that are of one kind.
    pub(crate) floors: Vec<(usize, i64)>,
}

/// True when there is as much as the minimum, on whatever terms.
pub(crate) fn holds(resources: &Resources, min: &Resources) -> bool {
    let enough = |entry: &Entry| match entry.value() {
        Value::Scalar(milli) => resources.milli(entry.name()) >= *milli,
        value => resources.plain().contains(&Resources::of(entry.name().clone(), value.clone())),
    };
    resources.contains(min) || !min.has_terms() && min.entries().all(enough)
}

/// True when there is as much as one of the minimums, or when there are none.
pub(crate) fn holds_any(resources: &Resources, minimums: &[Resources]) -> bool {
    minimums.is_empty() || minimums.iter().any(|min| holds(resources, min))
}

impl Measure {
    pub(crate) fn new(kinds: Kinds, allocatable_min: Vec<Resources>) -> Self {
        let mut measure = Self { kinds, allocatable_min: Vec::new(), floors: Vec::new() };
        measure.set_minimums(allocatable_min);
        measure
    }

    pub(crate) fn set_minimums(&mut self, minimums: Vec<Resources>) {
        self.floors.clear();
        for min in &minimums {
            let mut scalars = min.scalars();
            if let (Some((name, milli)), 1, false) = (scalars.next(), min.entries().len(), min.has_terms()) {
                self.floors.push((self.kinds.number(name), milli));
            }
        }
        self.allocatable_min = minimums;
    }

    /// Makes sure that the names of some resources have numbers. Before their first [`Measure::amount`].
    pub(crate) fn learn(&mut self, resources: &Resources) {
        for (name, _) in resources.scalars() {
            self.kinds.number(name);
        }
    }

    pub(crate) fn amount(&self, resources: Resources) -> Amount {
        let has_terms = resources.has_terms();
        let mut worked = Worked {
            quantities: Quantities::default(),
            plain: None,
            has_terms,
            shares: has_terms && resources.entries().any(Entry::is_shared),
            allocatable: !resources.is_empty() && holds_any(&resources, &self.allocatable_min),
            resources,
        };
        match has_terms {
            false => worked.quantities = self.kinds.quantities(worked.resources.entries()),
            true => {
                let entries = worked.resources.entries();
                worked.quantities = self.kinds.quantities(entries.filter(|entry| !entry.is_shared()));
                let plain = worked.resources.entries().filter(|entry| entry.terms().is_none());
                worked.plain = Some(self.kinds.quantities(plain));
            }
        }
        Amount(Arc::new(worked))
    }

    pub(crate) fn sum(&self, a: Amount, b: &Amount) -> Amount {
        let sum = Arc::try_unwrap(a.0).map_or_else(|shared| shared.resources.clone(), |own| own.resources);
        self.amount(sum + b)
    }

    /// `a` less `b`, which is in it; none when nothing is left.
    pub(crate) fn difference(&self, a: Amount, b: &Resources) -> Option<Amount> {
        let mut rest =
            Arc::try_unwrap(a.0).map_or_else(|shared| shared.resources.clone(), |own| own.resources);
        rest.saturating_sub(b);
        self.some(rest)
    }

    /// The amount; none of nothing.
    pub(crate) fn some(&self, resources: Resources) -> Option<Amount> {
        (!resources.is_empty()).then(|| self.amount(resources))
    }
}

impl Amount {
    /// True when both are one; equal ones may still be two.
    pub(crate) fn same(&self, other: &Amount) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What of it counts for shares.
    pub(crate) fn quantities(&self) -> &Quantities {
        &self.0.quantities
    }

    /// What of it counts for quotas.
    pub(crate) fn plain(&self) -> &Quantities {
        self.0.plain.as_ref().unwrap_or(&self.0.quantities)
    }

    /// Some of it is reserved, a volume, or lent.
    pub(crate) fn has_terms(&self) -> bool {
        self.0.has_terms
    }

    /// There are shared volumes in it.
    pub(crate) fn shares(&self) -> bool {
        self.0.shares
    }

    /// There is enough of it to be offered.
    pub(crate) fn is_allocatable(&self) -> bool {
        self.0.allocatable
    }
}

impl Deref for Amount {
    type Target = Resources;

    fn deref(&self) -> &Resources {
        &self.0.resources
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimum_is_held_on_whatever_terms() {
        let of = |text: &str| text.parse::<Resources>().unwrap();
        let mixed = of("cpus:0.5;cpus(eng):0.5;disk(eng)[v=v]:10;ports(eng):[1-9]");
        assert!(holds(&mixed, &of("cpus:1;disk:10;ports:[2-3]")));
        assert!(holds(&mixed, &of("cpus(eng):0.5")));
        for more in ["cpus:1.001", "mem:1", "ports:[9-10]", "cpus(eng):1"] {
            assert!(!holds(&mixed, &of(more)), "{more}");
        }
        assert!(holds_any(&mixed, &[]) && !holds_any(&mixed, &[of("mem:1"), of("cpus:2")]));
    }
}
