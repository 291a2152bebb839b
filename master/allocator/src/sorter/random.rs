//! Children in an order that is drawn, with their weights as odds.

use crate::{
    slab::{Key, NodeKey},
    sorter::Sorter,
};

/// SplitMix64 (Steele, Lea, Flood 2014): one word of state, equal seeds give equal numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Begins where these numbers say, whatever was drawn before.
    pub(crate) fn of(numbers: [u64; 3]) -> Self {
        numbers.into_iter().fold(Self(0), |before, number| Self(before.0 ^ number).fork())
    }

    /// One that goes its own way.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`; the bias is below 2^-10 for any sum of weights in memory, and far less for small ones.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// In which order children are asked.
pub(crate) enum Turns<K> {
    /// As they stand, from this place on.
    Ranked(usize),
    Drawn(Drawn<K>),
}

/// Each time one of those who are left, with the weights as odds.
pub(crate) struct Drawn<K> {
    left: Vec<(u32, K)>,
    weights: u64,
    random: Random,
}

impl<K: Copy> Turns<K> {
    /// The next of those that stand in `order`, which is always the same.
    pub(crate) fn next(&mut self, order: &[(K, NodeKey)]) -> Option<K> {
        match self {
            Turns::Ranked(place) => {
                let (key, _) = order.get(*place)?;
                *place += 1;
                Some(*key)
            }
            Turns::Drawn(drawn) => drawn.next(),
        }
    }
}

impl<K: Copy> Iterator for Drawn<K> {
    type Item = K;

    fn next(&mut self) -> Option<K> {
        if self.left.is_empty() {
            return None;
        }
        let mut ticket = self.random.below(self.weights);
        let winner = self.left.iter().position(|&(weight, _)| {
            let wins = ticket < u64::from(weight);
            ticket = ticket.saturating_sub(u64::from(weight));
            wins
        });
        let (weight, key) = self.left.swap_remove(winner.expect("a ticket is below the sum of weights"));
        self.weights -= u64::from(weight);
        Some(key)
    }
}

impl<N: Ord + Clone, K: Key> Sorter<N, K> {
    /// The listed children as they are to be asked: in order of fairness, or drawn when there is something to draw by.
    pub(crate) fn turns(&self, random: Option<Random>) -> Turns<K> {
        let Some(random) = random else { return Turns::Ranked(0) };
        let left: Vec<_> = self.order.iter().map(|&(key, node)| (self.weight(node).milli(), key)).collect();
        let weights = left.iter().map(|&(weight, _)| u64::from(weight)).sum();
        Turns::Drawn(Drawn { left, weights, random })
    }

    /// All of them, as they are to be asked.
    pub(crate) fn asked(&self, random: Option<Random>) -> Vec<K> {
        let mut turns = self.turns(random);
        std::iter::from_fn(|| turns.next(self.order())).collect()
    }
}
