//! The updates that were acknowledged last, so that a repetition is not told again.

use std::collections::{BTreeSet, VecDeque};

use apportion_types::UpdateId;

use crate::driver::bounds::UPDATES_REMEMBERED;

/// Updates with what they are about: agents make update ids, and do not know of each other.
#[derive(Debug)]
pub(super) struct Acknowledged<Id> {
    known: BTreeSet<(Id, UpdateId)>,
    /// The same, oldest first.
    order: VecDeque<(Id, UpdateId)>,
}

impl<Id: Ord + Clone> Acknowledged<Id> {
    pub(super) fn new() -> Self {
        Self { known: BTreeSet::new(), order: VecDeque::new() }
    }

    /// True when it was acknowledged, as far as that is remembered.
    pub(super) fn contains(&self, id: &Id, update_id: UpdateId) -> bool {
        self.known.contains(&(id.clone(), update_id))
    }

    pub(super) fn insert(&mut self, id: Id, update_id: UpdateId) {
        let update = (id, update_id);
        if !self.known.insert(update.clone()) {
            return;
        }
        self.order.push_back(update);
        if self.order.len() > UPDATES_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
