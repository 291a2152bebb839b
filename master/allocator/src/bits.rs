//! Sets of dense keys, one bit each: small, ordered, and joined or compared 64 at a time.

use std::marker::PhantomData;

use crate::slab::Key;

#[derive(Debug, Clone)]
pub(crate) struct BitSet<K> {
    words: Vec<u64>,
    len: usize,
    key: PhantomData<K>,
}

impl<K> Default for BitSet<K> {
    fn default() -> Self {
        Self { words: Vec::new(), len: 0, key: PhantomData }
    }
}

fn place<K: Key>(key: K) -> (usize, u64) {
    (key.index() / 64, 1 << (key.index() % 64))
}

impl<K: Key> BitSet<K> {
    /// True when it was not there.
    pub(crate) fn insert(&mut self, key: K) -> bool {
        let (word, bit) = place(key);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += usize::from(new);
        new
    }

    /// True when it was there.
    pub(crate) fn remove(&mut self, key: K) -> bool {
        let was = self.contains(key);
        if was {
            let (word, bit) = place(key);
            self.words[word] &= !bit;
            self.len -= 1;
        }
        was
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        let (word, bit) = place(key);
        self.words.get(word).is_some_and(|w| w & bit != 0)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn clear(&mut self) {
        self.words.fill(0);
        self.len = 0;
    }

    /// Adds all of `other`.
    pub(crate) fn extend_from(&mut self, other: &BitSet<K>) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, theirs) in self.words.iter_mut().zip(&other.words) {
            self.len += (theirs & !*word).count_ones() as usize;
            *word |= theirs;
        }
    }

    /// Adds those of `other` that are in `allowed`.
    pub(crate) fn extend_from_both(&mut self, other: &BitSet<K>, allowed: &BitSet<K>) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for ((word, theirs), allowed) in self.words.iter_mut().zip(&other.words).zip(&allowed.words) {
            let both = theirs & allowed;
            self.len += (both & !*word).count_ones() as usize;
            *word |= both;
        }
    }

    /// The first that is not before `index`.
    pub(crate) fn next_from(&self, index: usize) -> Option<K> {
        let mut word = index / 64;
        let mut bits = self.words.get(word)? & (u64::MAX << (index % 64));
        while bits == 0 {
            word += 1;
            bits = *self.words.get(word)?;
        }
        Some(K::at(word * 64 + bits.trailing_zeros() as usize))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = K> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            let mut word = word;
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
                word &= word - 1;
                Some(K::at(index * 64 + bit))
            })
        })
    }

    /// True when each is in one of the two.
    pub(crate) fn is_within(&self, one: Option<&BitSet<K>>, other: Option<&BitSet<K>>) -> bool {
        let word = |set: Option<&BitSet<K>>, index| {
            set.and_then(|set| set.words.get(index)).copied().unwrap_or_default()
        };
        let within = |(index, ours): (usize, &u64)| ours & !(word(one, index) | word(other, index)) == 0;
        self.words.iter().enumerate().all(within)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::slab::AgentKey;

    fn both(indexes: &[usize]) -> (BitSet<AgentKey>, BTreeSet<usize>) {
        let mut set = BitSet::default();
        for &index in indexes {
            set.insert(AgentKey::at(index));
        }
        (set, indexes.iter().copied().collect())
    }

    fn indexes(keys: impl Iterator<Item = AgentKey>) -> Vec<usize> {
        keys.map(AgentKey::index).collect()
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(
            ours in proptest::collection::vec(0..300usize, 0..40),
            theirs in proptest::collection::vec(0..300usize, 0..40),
            from in 0..400usize,
        ) {
            let (mut set, mut model) = both(&ours);
            let (other, other_model) = both(&theirs);
            prop_assert_eq!(set.is_within(Some(&other), None), model.is_subset(&other_model));
            let (odd, odd_model) = both(&ours.iter().copied().filter(|index| index % 2 == 1).collect::<Vec<_>>());
            let joined: BTreeSet<usize> = other_model.union(&odd_model).copied().collect();
            prop_assert_eq!(set.is_within(Some(&odd), Some(&other)), model.is_subset(&joined));
            let mut some = odd;
            some.extend_from_both(&other, &set);
            let common: BTreeSet<usize> = other_model.intersection(&model).copied().collect();
            prop_assert_eq!(indexes(some.iter()), odd_model.union(&common).copied().collect::<Vec<_>>());
            prop_assert_eq!(some.len(), some.iter().count());
            prop_assert_eq!(set.next_from(from).map(AgentKey::index), model.range(from..).next().copied());

            set.extend_from(&other);
            model.extend(&other_model);
            prop_assert_eq!(indexes(set.iter()), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.remove(AgentKey::at(from)), model.remove(&from));
            prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
            prop_assert!(set.is_within(None, Some(&set.clone())));
        }
    }
}
