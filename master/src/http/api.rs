//! What each page of the API gives, made of a view.

use apportion_master_core::{
    View,
    view::{AgentView, FrameworkView, OfferView, TaskView},
};
use apportion_types::document::{Agent, Amounts, Framework, Held, Offer, Task};
use serde::Serialize;

use crate::{
    lists::{self, TaskFilter},
    summary::{self, Cluster},
};

/// All that a master shows of itself; the document of the page `/api/v1/state`.
#[derive(Debug, Serialize)]
pub struct StateDocument {
    /// Who it is, and what it counts.
    pub cluster: Cluster,
    /// Every agent, in the order of their ids.
    pub agents: Vec<Agent>,
    /// Every framework, in the order of their ids.
    pub frameworks: Vec<Framework>,
    /// Every task that is remembered: those that have not ended in the order of frameworks and names, then the others as they ended.
    pub tasks: Vec<Task>,
    /// Every outstanding offer, in the order of their ids.
    pub offers: Vec<Offer>,
}

pub(crate) fn state(view: &View) -> StateDocument {
    let every = TaskFilter { completed: true, ..TaskFilter::default() };
    StateDocument {
        cluster: summary::cluster(view),
        agents: lists::agents(view, None).map(|(_, each)| agent(each)).collect(),
        frameworks: lists::frameworks(view, None).map(|(_, each)| framework(each)).collect(),
        tasks: lists::tasks(view, &every, None).map(|(_, each)| task(view, each)).collect(),
        offers: lists::offers(view, None).map(|(_, each)| offer(each)).collect(),
    }
}

pub(super) fn agent(agent: &AgentView) -> Agent {
    let state = summary::agent_state(agent.state);
    let held = Held::new(&agent.allocated, &agent.offered, agent.tasks as u64);
    let states = (state, agent.activation);
    Agent::new(agent.agent_id.clone(), &agent.info, &agent.total, states, agent.registered_at, held)
}

pub(super) fn framework(framework: &FrameworkView) -> Framework {
    Framework::new(
        framework.framework_id.clone(),
        &framework.info,
        summary::framework_state(framework.state),
        framework.subscribed_at,
        &framework.suppressed,
        Held::new(&framework.allocated, &framework.offered, framework.tasks as u64),
        &framework.declined,
    )
}

pub(super) fn task(view: &View, task: &TaskView) -> Task {
    Task::new(
        task.framework_id.clone(),
        (task.agent_id.clone(), summary::agent_address(view, &task.agent_id)),
        task.role.clone(),
        &task.info,
        task.state,
        task.status.as_deref(),
        task.accepted_at,
    )
}

pub(super) fn offer(OfferView { offer, made_at, expires_at }: &OfferView) -> Offer {
    Offer {
        offer_id: offer.offer_id.clone(),
        framework_id: offer.framework_id.clone(),
        agent_id: offer.agent_id.clone(),
        hostname: offer.place.hostname.clone(),
        role: offer.role.clone(),
        resources: Amounts(offer.resources.clone()),
        made_at_us: *made_at,
        expires_at_us: *expires_at,
        unavailability: offer.unavailability.map(Into::into),
    }
}
