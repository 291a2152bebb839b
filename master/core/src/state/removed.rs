//! Which frameworks were removed: as many as are remembered.

use std::collections::BTreeSet;

use apportion_types::{FrameworkId, limits};

/// The most that are forgotten at once: each is a write.
const SURPLUS_MAX: usize = 1000;

/// Ids of removed frameworks, those of this master and of earlier ones.
///
/// Their order is that of their age: an id begins with that of the master which gave it, and that with when the master began.
#[derive(Debug, Default)]
pub(crate) struct RemovedIds(BTreeSet<FrameworkId>);

impl RemovedIds {
    pub(crate) fn contains(&self, id: &FrameworkId) -> bool {
        self.0.contains(id)
    }

    pub(crate) fn extend(&mut self, ids: impl IntoIterator<Item = FrameworkId>) {
        self.0.extend(ids);
    }

    /// Takes out the oldest of those beyond [`limits::REMOVED_FRAMEWORKS_MAX`].
    pub(crate) fn take_surplus(&mut self) -> Vec<FrameworkId> {
        let surplus = self.0.len().saturating_sub(limits::REMOVED_FRAMEWORKS_MAX).min(SURPLUS_MAX);
        (0..surplus).map_while(|_| self.0.pop_first()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(master: u64, number: usize) -> FrameworkId {
        FrameworkId::new(format!("m{master:x}-1-F{number:06}")).unwrap()
    }

    #[test]
    fn the_oldest_of_too_many_are_forgotten_some_at_a_time() {
        let mut removed = RemovedIds::default();
        removed.extend((0..limits::REMOVED_FRAMEWORKS_MAX).map(|number| id(2, number)));
        assert!(removed.take_surplus().is_empty(), "as many as may be remembered");
        removed.extend([id(1, 7), id(3, 0)]);
        assert_eq!(removed.take_surplus(), [id(1, 7), id(2, 0)]);
        assert!(removed.contains(&id(2, 1)) && removed.contains(&id(3, 0)) && !removed.contains(&id(1, 7)));
        removed.extend((0..2 * SURPLUS_MAX).map(|number| id(4, number)));
        assert_eq!(removed.take_surplus().len(), SURPLUS_MAX);
        assert_eq!(removed.take_surplus().len(), SURPLUS_MAX);
        assert!(removed.take_surplus().is_empty());
    }
}
