//! Which of the machines on which a task could go.

use apportion_types::resources::Name;

use super::{Demand, Machine};

/// Two numbers, compared one after the other: the least cost wins, and of equals the first machine.
pub type Cost = [f64; 2];

/// A rule of choice among machines on which a demand fits.
///
/// ```
/// use apportion_sdk::placement::{Candidate, Cost, Demand, Machine, Packing, Policy, Wanted};
///
/// /// The agents with the shortest ids.
/// struct ShortIds;
///
/// impl Policy for ShortIds {
///     fn cost(&self, candidate: &Candidate<'_>, _wanted: &Wanted<'_>) -> Cost {
///         [candidate.machine.agent_id.as_str().len() as f64, 0.0]
///     }
/// }
///
/// let packing = Packing::new(["long-one", "short", "brief"].map(|id| Machine::new(id, "cpus:1")));
/// assert_eq!(packing.choose(&Demand::new("cpus:1"), &ShortIds), Some(1));
/// ```
pub trait Policy {
    /// What it costs to place the demand there, where it fits.
    fn cost(&self, candidate: &Candidate<'_>, wanted: &Wanted<'_>) -> Cost;

    /// A cost that none is below among machines that have at least `low` and at most `high` free: where a better one is known
    /// already, none of them is looked at. Leave it out when nothing can be said.
    fn bound(&self, low: &[i64], high: &[i64], wanted: &Wanted<'_>) -> Cost {
        _ = (low, high, wanted);
        [f64::NEG_INFINITY; 2]
    }
}

/// A machine on which a demand fits.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its place among the machines of the packing.
    pub index: usize,
    /// The machine.
    pub machine: &'a Machine,
    /// What is free of each of the [names](Wanted::names), in thousandths.
    pub free: &'a [i64],
}

/// A demand, in numbers.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The demand.
    pub demand: &'a Demand,
    /// What scalars any machine has.
    pub names: &'a [Name],
    /// What is wanted of each of them on no terms, in thousandths.
    pub amounts: &'a [i64],
    /// For each of them one divided by the most that a machine has in all: with it processors and memory compare.
    pub scale: &'a [f64],
}

impl Wanted<'_> {
    /// What would be left of an amount of each, in parts of the most that a machine has, summed.
    fn left(&self, free: &[i64]) -> f64 {
        let left = free.iter().zip(self.amounts).zip(self.scale);
        left.map(|((free, wanted), scale)| (free - wanted) as f64 * scale).sum()
    }

    /// What is wanted times what is free of it, both in parts of the most that a machine has, summed.
    fn dot(&self, free: &[i64]) -> f64 {
        let both = free.iter().zip(self.amounts).zip(self.scale);
        both.map(|((free, wanted), scale)| *wanted as f64 * scale * (*free as f64 * scale)).sum()
    }
}

/// The first machine: of which it is known before which one it will be.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstFit;

impl Policy for FirstFit {
    fn cost(&self, _candidate: &Candidate<'_>, _wanted: &Wanted<'_>) -> Cost {
        [0.0; 2]
    }

    fn bound(&self, _low: &[i64], _high: &[i64], _wanted: &Wanted<'_>) -> Cost {
        [0.0; 2]
    }
}

/// The machine that has the least left afterwards: large tasks still find room elsewhere.
///
/// All that it has counts, also what the task does not ask for, so that a task without gpus keeps off machines with gpus; each in parts
/// of the most that a machine has of it, summed.
#[derive(Debug, Clone, Copy, Default)]
pub struct BestFit;

impl Policy for BestFit {
    fn cost(&self, candidate: &Candidate<'_>, wanted: &Wanted<'_>) -> Cost {
        [wanted.left(candidate.free), 0.0]
    }

    fn bound(&self, low: &[i64], _high: &[i64], wanted: &Wanted<'_>) -> Cost {
        [wanted.left(low), 0.0]
    }
}

/// The machine that has the most left afterwards: load is spread. Measured as in [`BestFit`].
#[derive(Debug, Clone, Copy, Default)]
pub struct WorstFit;

impl Policy for WorstFit {
    fn cost(&self, candidate: &Candidate<'_>, wanted: &Wanted<'_>) -> Cost {
        [-wanted.left(candidate.free), 0.0]
    }

    fn bound(&self, _low: &[i64], high: &[i64], wanted: &Wanted<'_>) -> Cost {
        [-wanted.left(high), 0.0]
    }
}

/// The machine whose free resources have the least dot product with the task's: little of what the task takes much of.
///
/// So it stands beside [`Fragmentation`](super::Fragmentation) in the work of Weng et al. (USENIX ATC 2023). Others take the greatest, which
/// spreads load as [`WorstFit`] does.
#[derive(Debug, Clone, Copy, Default)]
pub struct DotProduct;

impl Policy for DotProduct {
    fn cost(&self, candidate: &Candidate<'_>, wanted: &Wanted<'_>) -> Cost {
        [wanted.dot(candidate.free), 0.0]
    }

    fn bound(&self, low: &[i64], _high: &[i64], wanted: &Wanted<'_>) -> Cost {
        [wanted.dot(low), 0.0]
    }
}
