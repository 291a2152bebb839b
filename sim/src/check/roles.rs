//! What each role has, in the master's view.

use std::collections::BTreeMap;

use apportion_master_core::view::{OfferView, TaskView};
use apportion_types::{Resources, Role};

use super::{Change, Changes};

/// Scalars that a role's tasks hold and that it is offered, summed from the view's tasks and offers.
#[derive(Debug, Default)]
pub(crate) struct RoleSums(BTreeMap<Role, Resources>);

impl RoleSums {
    pub(crate) fn follow(&mut self, changes: &Changes) {
        for Change { before, after, .. } in &changes.tasks {
            before.as_deref().and_then(of_task).into_iter().for_each(|(role, held)| self.take(role, held));
            after.as_deref().and_then(of_task).into_iter().for_each(|(role, held)| self.put(role, held));
        }
        for Change { before, after, .. } in &changes.offers {
            before.as_deref().map(of_offer).into_iter().for_each(|(role, held)| self.take(role, held));
            after.as_deref().map(of_offer).into_iter().for_each(|(role, held)| self.put(role, held));
        }
    }

    pub(crate) fn of(&self, role: &Role) -> Resources {
        self.0.get(role).cloned().unwrap_or_default()
    }

    /// Of all roles together.
    pub(crate) fn total(&self) -> Resources {
        self.0.values().sum()
    }

    pub(crate) fn put(&mut self, role: &Role, held: &Resources) {
        *self.0.entry(role.clone()).or_default() += &held.summable();
    }

    pub(crate) fn take(&mut self, role: &Role, held: &Resources) {
        let Some(sum) = self.0.get_mut(role) else { return };
        sum.saturating_sub(&held.summable());
        if sum.is_empty() {
            self.0.remove(role);
        }
    }
}

fn of_task(task: &TaskView) -> Option<(&Role, &Resources)> {
    task.state.holds_resources().then_some((&task.role, &task.info.resources))
}

fn of_offer(view: &OfferView) -> (&Role, &Resources) {
    (&view.offer.role, &view.offer.resources)
}
