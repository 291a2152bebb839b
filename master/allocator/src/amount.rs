//! Resources with what a cycle asks of them worked out once.

use std::{ops::Deref, sync::Arc};

use apportion_types::Resources;

use crate::quantities::{Kinds, Quantities};

/// Some resources, shared by all that hold, refuse or could be offered exactly these: as a rule what an agent has free goes
/// to and fro whole, and then nothing is copied or compared.
#[derive(Debug, Clone)]
pub(crate) struct Amount(Arc<Worked>);

#[derive(Debug)]
struct Worked {
    resources: Resources,
    quantities: Quantities,
    allocatable: bool,
}

/// What amounts are measured by.
#[derive(Debug, Clone)]
pub(crate) struct Measure {
    pub(crate) kinds: Kinds,
    /// One of these whole makes an amount worth offering.
    pub(crate) allocatable_min: Vec<Resources>,
}

impl Measure {
    pub(crate) fn amount(&mut self, resources: Resources) -> Amount {
        let minimums = &self.allocatable_min;
        let enough = minimums.is_empty() || minimums.iter().any(|min| resources.contains(min));
        Amount(Arc::new(Worked {
            quantities: self.kinds.quantities(&resources),
            allocatable: !resources.is_empty() && enough,
            resources,
        }))
    }

    pub(crate) fn sum(&mut self, a: Amount, b: &Amount) -> Amount {
        let sum = Arc::try_unwrap(a.0).map_or_else(|shared| shared.resources.clone(), |own| own.resources);
        self.amount(sum + b)
    }

    /// `a` less `b`, which is in it; none when nothing is left.
    pub(crate) fn difference(&mut self, a: Amount, b: &Resources) -> Option<Amount> {
        let mut rest =
            Arc::try_unwrap(a.0).map_or_else(|shared| shared.resources.clone(), |own| own.resources);
        rest.saturating_sub(b);
        (!rest.is_empty()).then(|| self.amount(rest))
    }
}

impl Amount {
    /// True when both are one; equal ones may still be two.
    pub(crate) fn same(&self, other: &Amount) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn quantities(&self) -> &Quantities {
        &self.0.quantities
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
