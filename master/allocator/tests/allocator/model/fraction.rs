//! Shares as fractions.

use std::cmp::Ordering;

use apportion_allocator::Weight;

#[derive(Debug, Clone, Copy)]
pub(super) struct Fraction {
    part: i128,
    whole: i128,
}

impl Fraction {
    pub(super) const NONE: Fraction = Fraction { part: 0, whole: 1 };

    /// At most one: of what is only lent, more may be held than there is now.
    pub(super) fn new(part: i64, whole: i64) -> Self {
        Self { part: i128::from(part.min(whole)), whole: i128::from(whole) }
    }

    pub(super) fn divided_by(self, weight: Weight) -> Self {
        // A weight of one is a thousand thousandths.
        Self { part: self.part * 1000, whole: self.whole * i128::from(weight.milli()) }
    }

    pub(super) fn ppm(self) -> u64 {
        u64::try_from(self.part * 1_000_000 / self.whole).expect("a share is positive")
    }
}

impl Ord for Fraction {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.part * other.whole).cmp(&(other.part * self.whole))
    }
}

impl PartialOrd for Fraction {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Fraction {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Fraction {}
