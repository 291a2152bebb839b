//! Sets of integers held as inclusive, sorted, coalesced ranges.

use std::fmt;

/// Integers as inclusive ranges: sorted, disjoint, never touching (`[1-2],[3-5]` is `[1-5]`).
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// The range from `first` to `last`, both in it; empty when `last` is before `first`.
    pub fn single(first: u64, last: u64) -> Self {
        [(first, last)].into_iter().collect()
    }

    /// True when no integer is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each range, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Each integer, in order.
    pub fn values(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|&(first, last)| first..=last)
    }

    /// How many integers are in it; saturates.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum: u64, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }

    /// True when every integer of `other` is in it.
    pub fn contains(&self, other: &Ranges) -> bool {
        let mut ours = self.0.iter();
        let mut current = ours.next();
        other.0.iter().all(|&(first, last)| {
            while let Some(&(_, end)) = current {
                if end >= first {
                    break;
                }
                current = ours.next();
            }
            current.is_some_and(|&(start, end)| start <= first && last <= end)
        })
    }

    /// Adds the integers of `other`.
    pub fn add(&mut self, other: &Ranges) {
        *self = self.iter().chain(other.iter()).collect();
    }

    /// Takes away the integers of `other`.
    pub fn subtract(&mut self, other: &Ranges) {
        let mut rest = Vec::with_capacity(self.0.len());
        let mut holes = other.0.iter().peekable();
        for &(first, last) in &self.0 {
            let mut start = Some(first);
            while let (Some(from), Some(&&(hole_first, hole_last))) = (start, holes.peek()) {
                if hole_last < from {
                    holes.next();
                    continue;
                }
                if hole_first > last {
                    break;
                }
                if hole_first > from {
                    rest.push((from, hole_first - 1));
                }
                if hole_last >= last {
                    start = None;
                    break;
                }
                start = Some(hole_last + 1);
                holes.next();
            }
            if let Some(from) = start {
                rest.push((from, last));
            }
        }
        self.0 = rest;
    }
}

impl FromIterator<(u64, u64)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(iter: I) -> Self {
        let mut all: Vec<(u64, u64)> = iter.into_iter().filter(|(first, last)| first <= last).collect();
        all.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(1);
        for (first, last) in all {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, (first, last)) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            write!(f, "{first}-{last}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
