//! What has changed from one published view to the next.

use std::sync::Arc;

use apportion_master_core::{
    View,
    view::{AgentView, FrameworkView, OfferView, RoleSettings, TaskView},
};
use apportion_types::{AgentId, FrameworkId, OfferId, Role, TaskId};
use imbl::{OrdMap, ordmap::DiffItem};

/// What can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Agents,
    Frameworks,
    Tasks,
    Offers,
    Roles,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Kind; 5] =
        [Kind::Agents, Kind::Frameworks, Kind::Tasks, Kind::Offers, Kind::Roles];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Agents => "agents",
            Kind::Frameworks => "frameworks",
            Kind::Tasks => "tasks",
            Kind::Offers => "offers",
            Kind::Roles => "roles",
        }
    }
}

/// Something is so now, or is not there any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Agent(Arc<AgentView>),
    AgentRemoved(AgentId),
    Framework(Arc<FrameworkView>),
    FrameworkRemoved(FrameworkId),
    Task(Arc<TaskView>),
    TaskRemoved(FrameworkId, TaskId),
    Offer(Arc<OfferView>),
    OfferRemoved(OfferId),
    Role(Role, RoleSettings),
    RoleRemoved(Role),
}

impl Change {
    /// Of what it is a change.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Change::Agent(_) | Change::AgentRemoved(_) => Kind::Agents,
            Change::Framework(_) | Change::FrameworkRemoved(_) => Kind::Frameworks,
            Change::Task(_) | Change::TaskRemoved(..) => Kind::Tasks,
            Change::Offer(_) | Change::OfferRemoved(_) => Kind::Offers,
            Change::Role(..) | Change::RoleRemoved(_) => Kind::Roles,
        }
    }
}

/// All changes from one view to another. What the two share is not looked at.
pub(crate) fn changes(old: &View, new: &View) -> Vec<Change> {
    let mut out = Vec::new();
    let there = |role: &Role, settings: &RoleSettings| Change::Role(role.clone(), settings.clone());
    differences(&old.roles, &new.roles, there, |role| Change::RoleRemoved(role.clone()), &mut out);
    let there = |_: &_, agent: &Arc<_>| Change::Agent(Arc::clone(agent));
    differences(&old.agents, &new.agents, there, |id| Change::AgentRemoved(id.clone()), &mut out);
    let there = |_: &_, framework: &Arc<_>| Change::Framework(Arc::clone(framework));
    let gone = |id: &FrameworkId| Change::FrameworkRemoved(id.clone());
    differences(&old.frameworks, &new.frameworks, there, gone, &mut out);
    // The last state of a task comes before its removal, and before another task of its name.
    let ended = old.completed.diff(&new.completed).filter_map(|item| match item {
        DiffItem::Add(_, task) => Some(Change::Task(Arc::clone(task))),
        DiffItem::Update { .. } | DiffItem::Remove(..) => None,
    });
    out.extend(ended);
    let there = |_: &_, task: &Arc<_>| Change::Task(Arc::clone(task));
    let gone = |(framework, id): &(FrameworkId, TaskId)| Change::TaskRemoved(framework.clone(), id.clone());
    differences(&old.tasks, &new.tasks, there, gone, &mut out);
    let there = |_: &_, offer: &Arc<_>| Change::Offer(Arc::clone(offer));
    differences(&old.offers, &new.offers, there, |id| Change::OfferRemoved(id.clone()), &mut out);
    out
}

fn differences<K: Ord, V: PartialEq>(
    old: &OrdMap<K, V>,
    new: &OrdMap<K, V>,
    there: impl Fn(&K, &V) -> Change,
    gone: impl Fn(&K) -> Change,
    out: &mut Vec<Change>,
) {
    out.extend(old.diff(new).map(|item| match item {
        DiffItem::Add(key, value) | DiffItem::Update { new: (key, value), .. } => there(key, value),
        DiffItem::Remove(key, _) => gone(key),
    }));
}

/// Everything there is, as changes from nothing.
pub(crate) fn everything(view: &View) -> impl Iterator<Item = Change> + Send {
    let roles = view.roles.iter().map(|(role, settings)| Change::Role(role.clone(), settings.clone()));
    let agents = view.agents.values().cloned().map(Change::Agent);
    let frameworks = view.frameworks.values().cloned().map(Change::Framework);
    let tasks = view.tasks.values().cloned().map(Change::Task);
    let offers = view.offers.values().cloned().map(Change::Offer);
    roles.chain(agents).chain(frameworks).chain(tasks).chain(offers)
}
