//! The lists that operators read, in pages and in the order of keys, out of the published view.

mod held;
mod page;
mod roles;

use std::{ops::Bound, sync::Arc};

use apportion_master_core::{
    View,
    view::{AgentView, FrameworkView, OfferView, TaskView},
};
use apportion_types::{AgentId, FrameworkId, OfferId, TaskId};

use self::page::TaskPlace;
pub(crate) use self::{
    held::{Reservation, Volume, reservations, volumes},
    page::{Key, Page, Wanted},
    roles::{RoleRow, roles},
};

/// Everything behind a key, or everything.
fn behind<K: Clone>(after: Option<&K>) -> (Bound<K>, Bound<K>) {
    (after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone())), Bound::Unbounded)
}

/// Agents behind this one, in the order of their ids.
pub(crate) fn agents<'a>(
    view: &'a View,
    after: Option<&AgentId>,
) -> impl Iterator<Item = (AgentId, &'a AgentView)> + use<'a> {
    view.agents.range(behind(after)).map(|(id, agent)| (id.clone(), Arc::as_ref(agent)))
}

/// Frameworks behind this one, in the order of their ids.
pub(crate) fn frameworks<'a>(
    view: &'a View,
    after: Option<&FrameworkId>,
) -> impl Iterator<Item = (FrameworkId, &'a FrameworkView)> + use<'a> {
    view.frameworks.range(behind(after)).map(|(id, framework)| (id.clone(), Arc::as_ref(framework)))
}

/// Outstanding offers behind this one, in the order of their ids.
pub(crate) fn offers<'a>(
    view: &'a View,
    after: Option<&OfferId>,
) -> impl Iterator<Item = (OfferId, &'a OfferView)> + use<'a> {
    view.offers.range(behind(after)).map(|(id, offer)| (id.clone(), Arc::as_ref(offer)))
}

/// Which tasks are listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskFilter {
    /// Only of this framework.
    pub(crate) framework_id: Option<FrameworkId>,
    /// Only of this name.
    pub(crate) task_id: Option<TaskId>,
    /// Also those that have ended.
    pub(crate) completed: bool,
}

impl TaskFilter {
    fn wants(&self, task: &TaskView) -> bool {
        self.framework_id.as_ref().is_none_or(|id| *id == task.framework_id)
            && self.task_id.as_ref().is_none_or(|id| *id == task.info.task_id)
            && (self.completed || !task.state.is_terminal())
    }
}

/// Tasks behind this place: those that are not acknowledged as ended in the order of frameworks and names, then the others, as they
/// ended. So one that ends while pages are read is listed in one of the two at least.
pub(crate) fn tasks<'a>(
    view: &'a View,
    filter: &'a TaskFilter,
    after: Option<&TaskPlace>,
) -> impl Iterator<Item = (TaskPlace, &'a TaskView)> + use<'a> {
    let (live, ended) = match after {
        None => (Some(Bound::Unbounded), Bound::Unbounded),
        Some(TaskPlace::Live(framework, task)) => {
            (Some(Bound::Excluded((framework.clone(), task.clone()))), Bound::Unbounded)
        }
        Some(TaskPlace::Ended(number)) => (None, Bound::Excluded(*number)),
    };
    // Those of a framework stand together.
    let first =
        filter.framework_id.clone().map(|id| (id, TaskId::new("!").expect("it is the least task id")));
    let live = live.map(|start| match (start, first) {
        (Bound::Excluded(key), Some(first)) if key >= first => Bound::Excluded(key),
        (_, Some(first)) => Bound::Included(first),
        (start, None) => start,
    });
    let live = live.into_iter().flat_map(|start| view.tasks.range((start, Bound::Unbounded)));
    let of_framework = |id: &FrameworkId| filter.framework_id.as_ref().is_none_or(|wanted| wanted == id);
    let live = live.take_while(move |((id, _), _)| of_framework(id));
    let live = live.map(|((framework, task), view)| (TaskPlace::Live(framework.clone(), task.clone()), view));
    let ended = filter.completed.then(|| view.completed.range((ended, Bound::Unbounded)));
    let ended = ended.into_iter().flatten().map(|(number, view)| (TaskPlace::Ended(*number), view));
    live.chain(ended).map(|(place, task)| (place, Arc::as_ref(task))).filter(|(_, task)| filter.wants(task))
}
