//! The entries of some resources: shared by all that hold the same, until one of them changes.

use std::{ops::Deref, sync::Arc};

use super::Entry;

/// In order, each once, none empty. Cloning counts a reference; there is nothing on the heap when there is nothing at all.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Entries(Option<Arc<Vec<Entry>>>);

impl Entries {
    /// Its own, to be changed: copied first when others hold the same.
    fn own(&mut self) -> &mut Vec<Entry> {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    /// Changes the value of one; its place must not change by that. When it becomes empty, [`Entries::remove_empty`] follows.
    pub(super) fn change(&mut self, index: usize, change: impl FnOnce(&mut Entry)) {
        change(&mut self.own()[index]);
    }

    pub(super) fn insert(&mut self, index: usize, entry: Entry) {
        self.own().insert(index, entry);
    }

    /// Takes out those that have become empty.
    pub(super) fn remove_empty(&mut self) {
        if self.iter().all(|entry| entry.value.is_empty()) {
            self.0 = None;
        } else if self.iter().any(|entry| entry.value.is_empty()) {
            self.own().retain(|entry| !entry.value.is_empty());
        }
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        self.0.as_ref().map_or(&[], |entries| entries)
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(iter: I) -> Self {
        let entries: Vec<Entry> = iter.into_iter().collect();
        Self((!entries.is_empty()).then(|| Arc::new(entries)))
    }
}
