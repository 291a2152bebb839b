//! Dense integer keys, and the values that they name.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt::Debug,
    marker::PhantomData,
    ops::{Index, IndexMut},
};

/// A dense integer of one kind, so that the key of an agent is never taken for that of a role.
pub(crate) trait Key: Copy + Ord + Debug {
    fn at(index: usize) -> Self;
    fn index(self) -> usize;
}

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) struct $name(u32);

        impl Key for $name {
            fn at(index: usize) -> Self {
                Self(u32::try_from(index).expect("fewer than 2^32 of anything fit in memory"))
            }

            fn index(self) -> usize {
                self.0 as usize
            }
        }
    )+};
}

keys! {
    /// An agent.
    AgentKey;
    /// A framework.
    FrameworkKey;
    /// A role.
    RoleKey;
    /// A framework within one of its roles: the leaf that is given resources.
    ClientKey;
    /// A child within one sorter.
    NodeKey;
    /// A refused amount within one agent's filters.
    RefusedKey;
}

/// Values by key. A new value takes the lowest free key, so that keys stay dense and are determined by the calls alone.
#[derive(Debug, Clone)]
pub(crate) struct Slab<K, T> {
    values: Vec<Option<T>>,
    free: BinaryHeap<Reverse<usize>>,
    key: PhantomData<K>,
}

impl<K, T> Default for Slab<K, T> {
    fn default() -> Self {
        Self { values: Vec::new(), free: BinaryHeap::new(), key: PhantomData }
    }
}

impl<K: Key, T> Slab<K, T> {
    pub(crate) fn insert(&mut self, value: T) -> K {
        self.insert_with(|_| value)
    }

    /// Adds a value that is told its key.
    pub(crate) fn insert_with(&mut self, value: impl FnOnce(K) -> T) -> K {
        let index = match self.free.pop() {
            Some(Reverse(index)) => index,
            None => {
                self.values.push(None);
                self.values.len() - 1
            }
        };
        self.values[index] = Some(value(K::at(index)));
        K::at(index)
    }

    pub(crate) fn remove(&mut self, key: K) -> T {
        self.free.push(Reverse(key.index()));
        self.values[key.index()].take().expect("a key that is removed names a value")
    }

    pub(crate) fn find_mut(&mut self, key: K) -> Option<&mut T> {
        self.values.get_mut(key.index())?.as_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }

    /// One more than the highest key that was ever taken.
    pub(crate) fn bound(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.values.iter().enumerate().filter_map(|(index, value)| Some((K::at(index), value.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        self.values.iter_mut().enumerate().filter_map(|(index, value)| Some((K::at(index), value.as_mut()?)))
    }
}

impl<K: Key, T> Index<K> for Slab<K, T> {
    type Output = T;

    fn index(&self, key: K) -> &T {
        self.values[key.index()].as_ref().expect("a key names a value")
    }
}

impl<K: Key, T> IndexMut<K> for Slab<K, T> {
    fn index_mut(&mut self, key: K) -> &mut T {
        self.values[key.index()].as_mut().expect("a key names a value")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_key_is_taken() {
        let mut slab = Slab::<AgentKey, char>::default();
        let keys: Vec<_> = "abcd".chars().map(|c| slab.insert(c)).collect();
        slab.remove(keys[2]);
        slab.remove(keys[0]);
        assert_eq!((slab.len(), slab.bound()), (2, 4));
        assert_eq!(slab.insert('e'), keys[0]);
        assert_eq!(slab.insert('f'), keys[2]);
        assert_eq!(slab.insert('g').index(), 4);
        assert_eq!(slab.iter().map(|(_, c)| *c).collect::<String>(), "ebfdg");
    }
}
