//! A dominant share as an exact fraction.

use std::cmp::Ordering;

/// `part / (whole × weight)`, compared exactly: a rounded share would break ties by noise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DominantShare {
    part: u64,
    whole: u64,
    weight: u32,
}

impl DominantShare {
    pub(crate) const NONE: DominantShare = DominantShare { part: 0, whole: 1, weight: 1 };

    pub(crate) fn new(part_milli: i64, whole_milli: i64, weight: u32) -> Self {
        assert!(0 <= part_milli && part_milli <= whole_milli, "a share is of what is there");
        assert!(whole_milli > 0 && weight > 0, "a share is of something");
        Self { part: part_milli.unsigned_abs(), whole: whole_milli.unsigned_abs(), weight }
    }

    /// In millionths of the cluster, rounded down, without the weight.
    pub(crate) fn ppm(self) -> u64 {
        let ppm = u128::from(self.part) * 1_000_000 / u128::from(self.whole);
        u64::try_from(ppm).expect("a share is at most one")
    }
}

/// `a × b × c` as a high and a low part: up to 160 bits, more than the largest primitive holds.
fn product(a: u64, b: u64, c: u32) -> (u128, u64) {
    let ab = u128::from(a) * u128::from(b);
    let low = (ab & u128::from(u64::MAX)) * u128::from(c);
    let high = (ab >> 64) * u128::from(c) + (low >> 64);
    (high, low as u64)
}

impl Ord for DominantShare {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.whole == other.whole && self.weight == other.weight {
            return self.part.cmp(&other.part);
        }
        product(self.part, other.whole, other.weight).cmp(&product(other.part, self.whole, self.weight))
    }
}

impl PartialOrd for DominantShare {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for DominantShare {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for DominantShare {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_fractions_are_equal_and_near_ones_are_not() {
        assert_eq!(DominantShare::new(1, 3, 1), DominantShare::new(2, 6, 1));
        assert_eq!(DominantShare::new(2, 3, 2), DominantShare::new(1, 3, 1));
        assert_eq!(DominantShare::NONE, DominantShare::new(0, i64::MAX, 7));
        let (a, b) = (i64::MAX - 1, i64::MAX);
        assert!(DominantShare::new(a - 1, a, 1) < DominantShare::new(a, b, 1));
        assert!(DominantShare::new(b, b, u32::MAX) < DominantShare::new(a, a, u32::MAX - 1));
        assert_eq!(DominantShare::new(1, 3, 5).ppm(), 333_333);
    }

    proptest! {
        #[test]
        fn compares_as_products(a in 0..1000i64, b in 1000..2000i64, v in 1..9u32, c in 0..1000i64, d in 1000..2000i64, w in 1..9u32) {
            let products = (a * d * i64::from(w)).cmp(&(c * b * i64::from(v)));
            prop_assert_eq!(DominantShare::new(a, b, v).cmp(&DominantShare::new(c, d, w)), products);
            let scale = i64::from(u32::MAX);
            let large = DominantShare::new(a * scale, b * scale, v);
            prop_assert_eq!(large.cmp(&DominantShare::new(c, d, w)), products);
        }
    }
}
