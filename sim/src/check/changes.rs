//! What one decision of the master has changed.

use std::sync::Arc;

use apportion_agent_core::TaskKey;
use apportion_master_core::{
    View,
    view::{AgentView, FrameworkView, OfferView, TaskView},
};
use apportion_types::{AgentId, FrameworkId, OfferId};
use imbl::{OrdMap, ordmap::DiffItem};

/// One entry that came, went or is another.
#[derive(Debug, Clone)]
pub(crate) struct Change<K, V> {
    pub(crate) key: K,
    pub(crate) before: Option<Arc<V>>,
    pub(crate) after: Option<Arc<V>>,
}

impl<K, V> Change<K, V> {
    /// The new entry, where there was none.
    pub(crate) fn added(&self) -> Option<&Arc<V>> {
        self.after.as_ref().filter(|_| self.before.is_none())
    }

    /// The old entry, where there is none now.
    pub(crate) fn removed(&self) -> Option<&Arc<V>> {
        self.before.as_ref().filter(|_| self.after.is_none())
    }
}

/// The differences of two views, each list in the order of its keys. Costs what differs, not what there is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    pub(crate) agents: Vec<Change<AgentId, AgentView>>,
    pub(crate) frameworks: Vec<Change<FrameworkId, FrameworkView>>,
    pub(crate) tasks: Vec<Change<TaskKey, TaskView>>,
    pub(crate) completed: Vec<Change<u64, TaskView>>,
    pub(crate) offers: Vec<Change<OfferId, OfferView>>,
}

impl Changes {
    pub(crate) fn between(before: &View, after: &View) -> Self {
        Self {
            agents: changes(&before.agents, &after.agents),
            frameworks: changes(&before.frameworks, &after.frameworks),
            tasks: changes(&before.tasks, &after.tasks),
            completed: changes(&before.completed, &after.completed),
            offers: changes(&before.offers, &after.offers),
        }
    }
}

fn changes<K: Ord + Clone, V: Eq>(
    before: &OrdMap<K, Arc<V>>,
    after: &OrdMap<K, Arc<V>>,
) -> Vec<Change<K, V>> {
    let change = |key: &K, before: Option<&Arc<V>>, after: Option<&Arc<V>>| Change {
        key: key.clone(),
        before: before.cloned(),
        after: after.cloned(),
    };
    if before.ptr_eq(after) {
        return Vec::new();
    }
    let items = before.diff(after);
    items
        .map(|item| match item {
            DiffItem::Add(key, new) => change(key, None, Some(new)),
            DiffItem::Update { old: (key, old), new: (_, new) } => change(key, Some(old), Some(new)),
            DiffItem::Remove(key, old) => change(key, Some(old), None),
        })
        .collect()
}
