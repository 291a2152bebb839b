//! One after another.

use super::Choice;

/// Where it is.
#[derive(Debug)]
pub struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    pub(super) fn new(next: usize) -> Self {
        Self { next }
    }

    pub(super) fn pick(&mut self, among: &impl Choice) -> Option<usize> {
        let place = first_from(among, self.next)?;
        self.next = place + 1;
        Some(place)
    }
}

/// The first usable one from here on, around.
pub(super) fn first_from(among: &impl Choice, start: usize) -> Option<usize> {
    let len = among.len();
    (0..len).map(|step| (start % len + step) % len).find(|place| among.usable(*place))
}
