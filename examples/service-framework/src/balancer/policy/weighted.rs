//! One after another by weight, evenly spread: nginx's smooth weighted round robin.
//!
//! Each gains its weight at every turn; who has most is picked and pays what all gained. Weights 5, 1, 1 give `a a b a a c a`,
//! where counting would give `a a a a a b c` and a burst of five on one replica.

use super::Choice;

/// What each has gained.
#[derive(Debug)]
pub struct Weighted {
    gained: Vec<i64>,
}

impl Weighted {
    pub(super) fn new(members: usize, start: usize) -> Self {
        let mut gained = vec![0; members];
        if let Some(first) = start.checked_rem(members) {
            gained[first] = 1;
        }
        Self { gained }
    }

    pub(super) fn pick(&mut self, among: &impl Choice) -> Option<usize> {
        let mut best: Option<usize> = None;
        let mut all = 0;
        for place in 0..among.len().min(self.gained.len()) {
            // Who cannot be used gains nothing, or it would be owed a burst when it returns.
            if !among.usable(place) {
                continue;
            }
            let weight = i64::from(among.weight(place).max(1));
            all += weight;
            self.gained[place] += weight;
            if best.is_none_or(|best| self.gained[place] > self.gained[best]) {
                best = Some(place);
            }
        }
        self.gained[best?] -= all;
        best
    }
}
