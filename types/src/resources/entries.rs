//! The entries of some resources: shared by all that hold the same, until one of them changes.

use std::{iter, ops::Deref, sync::Arc};

use super::Entry;

/// In order, each once, none empty. Cloning counts a reference; there is nothing on the heap when there is nothing at all, and else
/// one block without room to spare: millions are held, and one is rarely added to.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Entries(Option<Arc<[Entry]>>);

impl Entries {
    /// True when both are one; equal ones may still be two.
    pub(super) fn same(&self, other: &Entries) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// Changes the value of one; its place must not change by that. When it becomes empty, [`Entries::remove_empty`] follows. What
    /// others hold as well is copied first.
    pub(super) fn change(&mut self, index: usize, change: impl FnOnce(&mut Entry)) {
        let entries = self.0.as_mut().expect("there is one to change");
        change(&mut Arc::make_mut(entries)[index]);
    }

    pub(super) fn insert(&mut self, index: usize, entry: Entry) {
        let (before, after) = self.split_at(index);
        self.0 = Some(before.iter().cloned().chain(iter::once(entry)).chain(after.iter().cloned()).collect());
    }

    /// Takes out those that have become empty.
    pub(super) fn remove_empty(&mut self) {
        if self.iter().any(|entry| entry.value.is_empty()) {
            *self = self.iter().filter(|entry| !entry.value.is_empty()).cloned().collect();
        }
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        self.0.as_deref().unwrap_or(&[])
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(iter: I) -> Self {
        let entries: Vec<Entry> = iter.into_iter().collect();
        Self((!entries.is_empty()).then(|| entries.into()))
    }
}
