//! From an id to its key.

use std::{
    borrow::Borrow,
    hash::{BuildHasherDefault, DefaultHasher, Hash},
};

/// Finds keys by id in constant time; a tree of ten thousand ids is a dozen cache misses for each call that names one.
///
/// Its hash is the same in every run, and it has no iteration whose order could matter. Ids are given by the master, so
/// nobody can choose them to collide.
#[derive(Debug, Clone)]
#[expect(clippy::disallowed_types, reason = "only looked up, never iterated")]
pub(crate) struct Index<I, K>(std::collections::HashMap<I, K, BuildHasherDefault<DefaultHasher>>);

impl<I, K> Default for Index<I, K> {
    fn default() -> Self {
        Self(Default::default())
    }
}

impl<I: Hash + Eq, K: Copy> Index<I, K> {
    pub(crate) fn find<Q: Hash + Eq + ?Sized>(&self, id: &Q) -> Option<K>
    where
        I: Borrow<Q>,
    {
        self.0.get(id).copied()
    }

    /// What it stood for before, if it did.
    pub(crate) fn insert(&mut self, id: I, key: K) -> Option<K> {
        self.0.insert(id, key)
    }

    pub(crate) fn remove(&mut self, id: &I) {
        self.0.remove(id);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
