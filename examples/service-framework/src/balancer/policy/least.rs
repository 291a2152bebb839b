//! Who has the fewest requests for its weight; one after another among equals, or the first would get all when traffic is low.

use super::Choice;

/// Where the next search begins.
#[derive(Debug)]
pub struct LeastOutstanding {
    start: usize,
}

impl LeastOutstanding {
    pub(super) fn new(start: usize) -> Self {
        Self { start }
    }

    pub(super) fn pick(&mut self, among: &impl Choice) -> Option<usize> {
        let len = among.len();
        // Cross-multiplied, so that no rounding decides: a/v < b/w is a·w < b·v.
        let load =
            |place: usize| (u64::from(among.in_flight(place)) + 1, u64::from(among.weight(place).max(1)));
        let mut best: Option<usize> = None;
        for place in (0..len).map(|step| (self.start % len + step) % len) {
            if !among.usable(place) {
                continue;
            }
            let fewer = |best: usize| {
                let ((mine, my_weight), (its, its_weight)) = (load(place), load(best));
                mine * its_weight < its * my_weight
            };
            if best.is_none_or(fewer) {
                best = Some(place);
            }
        }
        self.start = best? + 1;
        best
    }
}
