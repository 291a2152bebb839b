//! What each page of the API gives, made of a view.

use apportion_master_core::{
    View,
    view::{AgentView, FrameworkView, OfferView, TaskView},
};
use apportion_types::document::{Agent, Amounts, Framework, Held, Offer, Task};
use serde::Serialize;

use crate::summary::{self, Cluster, TaskFilter};

/// All that a master shows of itself; the document of the page `/api/v1/state`.
#[derive(Debug, Serialize)]
pub struct StateDocument {
    /// Who it is, and what it counts.
    pub cluster: Cluster,
    /// Every agent, in the order of registration.
    pub agents: Vec<Agent>,
    /// Every framework, in the order of subscription.
    pub frameworks: Vec<Framework>,
    /// Every task that is remembered, in the order of acceptance.
    pub tasks: Vec<Task>,
    /// Every outstanding offer, in the order made.
    pub offers: Vec<Offer>,
}

pub(crate) fn state(view: &View) -> StateDocument {
    StateDocument {
        cluster: summary::cluster(view),
        agents: agents(view),
        frameworks: frameworks(view),
        tasks: tasks(view, &TaskFilter { completed: true, ..TaskFilter::default() }),
        offers: offers(view),
    }
}

pub(super) fn agents(view: &View) -> Vec<Agent> {
    summary::agents(view).into_iter().map(agent).collect()
}

pub(super) fn frameworks(view: &View) -> Vec<Framework> {
    summary::frameworks(view).into_iter().map(framework).collect()
}

pub(super) fn tasks(view: &View, filter: &TaskFilter) -> Vec<Task> {
    summary::tasks(view, filter).into_iter().map(|each| task(view, each)).collect()
}

pub(super) fn offers(view: &View) -> Vec<Offer> {
    summary::offers(view).into_iter().map(offer).collect()
}

fn agent(agent: &AgentView) -> Agent {
    let state = summary::agent_state(agent.state);
    let held = Held::new(&agent.allocated, &agent.offered, agent.tasks as u64);
    Agent::new(agent.agent_id.clone(), &agent.info, &agent.total, state, agent.registered_at, held)
}

fn framework(framework: &FrameworkView) -> Framework {
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

fn task(view: &View, task: &TaskView) -> Task {
    Task::new(
        task.framework_id.clone(),
        (task.agent_id.clone(), summary::agent_address(view, &task.agent_id)),
        task.role.clone(),
        &task.info,
        task.state,
        task.status.as_ref(),
        task.accepted_at,
    )
}

fn offer(OfferView { offer, made_at, expires_at }: &OfferView) -> Offer {
    Offer {
        offer_id: offer.offer_id.clone(),
        framework_id: offer.framework_id.clone(),
        agent_id: offer.agent_id.clone(),
        hostname: offer.hostname.clone(),
        role: offer.role.clone(),
        resources: Amounts(offer.resources.clone()),
        made_at_us: *made_at,
        expires_at_us: *expires_at,
    }
}
