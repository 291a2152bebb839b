//! What machines have free, as numbers.

use std::collections::BTreeSet;

use apportion_types::{
    Resources,
    resources::{Name, Value},
};

use super::Machine;
use crate::offer;

/// The scalars of all machines: a row for each, a column for each name. What is not a scalar on no terms stands only in
/// [`Machine::free`].
#[derive(Debug, Clone)]
pub(super) struct Grid {
    pub(super) names: Vec<Name>,
    pub(super) scale: Vec<f64>,
    free: Vec<i64>,
}

/// A demand in the columns of a grid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) amounts: Vec<i64>,
    /// Whether that says all of it: when not, the machine itself must be asked.
    pub(super) is_all: bool,
}

impl Grid {
    pub(super) fn new(machines: &[Machine]) -> Grid {
        let usable: Vec<_> = machines.iter().map(|machine| offer::usable(&machine.free)).collect();
        let all = || usable.iter().chain(machines.iter().map(|machine| &machine.total));
        let names: BTreeSet<&Name> =
            all().flat_map(|resources| resources.scalars()).map(|(name, _)| name).collect();
        let names: Vec<Name> = names.into_iter().cloned().collect();
        let most = |name: &Name| all().map(|resources| resources.milli(name)).max().unwrap_or(0);
        let scale = names.iter().map(|name| 1.0 / most(name).max(1) as f64).collect();
        let free = usable.iter().flat_map(|free| names.iter().map(|name| free.milli(name))).collect();
        Grid { names, scale, free }
    }

    pub(super) fn width(&self) -> usize {
        self.names.len()
    }

    /// What is free on a machine.
    pub(super) fn free(&self, machine: usize) -> &[i64] {
        &self.free[machine * self.width()..][..self.width()]
    }

    /// Brings a machine's row in line with it.
    pub(super) fn update(&mut self, index: usize, machine: &Machine) {
        let usable = offer::usable(&machine.free);
        let width = self.width();
        for (free, name) in self.free[index * width..][..width].iter_mut().zip(&self.names) {
            *free = usable.milli(name);
        }
    }

    /// A demand's row; none when it asks for a scalar that no machine has.
    pub(super) fn row(&self, resources: &Resources) -> Option<Row> {
        let mut row = Row { amounts: vec![0; self.width()], is_all: true };
        for entry in resources.entries() {
            match entry.value() {
                Value::Scalar(milli) if entry.terms().is_none() => {
                    row.amounts[self.names.binary_search(entry.name()).ok()?] = *milli;
                }
                _ => row.is_all = false,
            }
        }
        Some(row)
    }
}

/// True when each amount is there.
pub(super) fn covers(free: &[i64], wanted: &[i64]) -> bool {
    free.iter().zip(wanted).all(|(free, wanted)| free >= wanted)
}
