//! Amounts of scalars as arrays of integers, and the capacity of the cluster that shares are measured against.

use apportion_types::{
    Resources,
    resources::{Entry, Name, Value},
};
use smallvec::SmallVec;

use crate::{share::DominantShare, weight::Weight};

/// Numbers the names of scalars in the order in which they appear.
#[derive(Debug, Clone)]
pub(crate) struct Kinds {
    names: Vec<Name>,
}

impl Default for Kinds {
    fn default() -> Self {
        Self { names: vec![Name::Cpus, Name::Mem, Name::Disk, Name::Gpus] }
    }
}

impl Kinds {
    pub(crate) fn number(&mut self, name: &Name) -> usize {
        self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.clone());
            self.names.len() - 1
        })
    }

    /// The number of a name, if it has one.
    pub(crate) fn find(&self, name: &Name) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// The scalars of some resources, whose names have numbers.
    pub(crate) fn quantities<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> Quantities {
        let mut quantities = Quantities::default();
        for entry in entries {
            if let Value::Scalar(milli) = entry.value() {
                let kind = self.find(entry.name()).expect("a name is numbered when it first appears");
                quantities.put(kind, quantities.of(kind).saturating_add(*milli));
            }
        }
        quantities
    }

    /// So much of one kind.
    pub(crate) fn one(&self, kind: usize, milli: i64) -> Resources {
        Resources::scalar(self.names[kind].clone(), milli)
    }

    /// The other way: each scalar by its name.
    pub(crate) fn resources(&self, quantities: &Quantities) -> Resources {
        let mut resources = Resources::new();
        for (name, &milli) in self.names.iter().zip(&quantities.milli) {
            resources += &Resources::scalar(name.clone(), milli);
        }
        resources
    }
}

/// Thousandths of each scalar, by its number in [`Kinds`]; what is missing at the end is zero.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quantities {
    milli: SmallVec<[i64; 4]>,
}

impl Quantities {
    pub(crate) fn put(&mut self, kind: usize, milli: i64) {
        if kind >= self.milli.len() {
            self.milli.resize(kind + 1, 0);
        }
        self.milli[kind] = milli;
    }

    pub(crate) fn of(&self, kind: usize) -> i64 {
        self.milli.get(kind).copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, other: &Quantities) {
        if self.milli.len() < other.milli.len() {
            self.milli.resize(other.milli.len(), 0);
        }
        for (sum, &milli) in self.milli.iter_mut().zip(&other.milli) {
            *sum = sum.checked_add(milli).expect("limits::SCALAR_MILLI_MAX keeps sums within an i64");
        }
    }

    /// Each kind of which there is some, and how much.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, i64)> + '_ {
        self.milli.iter().copied().enumerate().filter(|&(_, milli)| milli != 0)
    }

    /// Of each kind what is more, here or there.
    pub(crate) fn raise(&mut self, other: &Quantities) {
        for (kind, milli) in other.iter() {
            self.put(kind, self.of(kind).max(milli));
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.milli.iter().all(|&milli| milli == 0)
    }

    pub(crate) fn subtract(&mut self, other: &Quantities) {
        if self.milli.len() < other.milli.len() {
            self.milli.resize(other.milli.len(), 0);
        }
        for (rest, &milli) in self.milli.iter_mut().zip(&other.milli) {
            *rest -= milli;
            assert!(*rest >= 0, "more of a scalar is taken back than was given");
        }
    }
}

impl PartialEq for Quantities {
    fn eq(&self, other: &Self) -> bool {
        (0..self.milli.len().max(other.milli.len())).all(|kind| self.of(kind) == other.of(kind))
    }
}

/// All scalars of all agents.
#[derive(Debug, Clone)]
pub(crate) struct Capacity {
    total: Quantities,
    /// By number: true for what does not count for fairness.
    excluded: Vec<bool>,
    /// Counts changes, so that an order knows when all of its shares are outdated.
    version: u64,
}

impl Capacity {
    /// Without agents; scalars in `excluded` never make a share dominant.
    pub(crate) fn new(kinds: &mut Kinds, excluded: &[Name]) -> Self {
        let mut capacity = Self { total: Quantities::default(), excluded: Vec::new(), version: 0 };
        capacity.exclude(kinds, excluded);
        capacity
    }

    /// Has these scalars, and no others, never make a share dominant.
    pub(crate) fn exclude(&mut self, kinds: &mut Kinds, names: &[Name]) {
        self.excluded.clear();
        for name in names {
            let kind = kinds.number(name);
            self.excluded.resize(self.excluded.len().max(kind + 1), false);
            self.excluded[kind] = true;
        }
        self.version += 1;
    }

    pub(crate) fn add(&mut self, quantities: &Quantities) {
        self.total.add(quantities);
        self.version += 1;
    }

    pub(crate) fn subtract(&mut self, quantities: &Quantities) {
        self.total.subtract(quantities);
        self.version += 1;
    }

    pub(crate) fn total(&self) -> &Quantities {
        &self.total
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The greatest of an amount's shares of the whole, each divided by the weight.
    pub(crate) fn dominant_share(&self, allocated: &Quantities, weight: Weight) -> DominantShare {
        let mut dominant = DominantShare::NONE;
        for (kind, &milli) in allocated.milli.iter().enumerate() {
            if milli > 0 && !self.excluded.get(kind).is_some_and(|excluded| *excluded) {
                let total = self.total.of(kind);
                // Of what was lent and is called back more may be given than there is.
                if total > 0 {
                    dominant = dominant.max(DominantShare::new(milli.min(total), total, weight.milli()));
                }
            }
        }
        dominant
    }
}
