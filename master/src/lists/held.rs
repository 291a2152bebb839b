//! What agents have on terms: reservations and volumes.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use apportion_master_core::{View, view::AgentView};
use apportion_types::{
    Resources,
    resources::{Entry, PersistentVolume, Terms},
};

use super::page::HeldPlace;

/// All that one agent has under one reservation.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    pub(crate) agent: &'a AgentView,
    /// The terms of all of it, but for volumes.
    pub(crate) terms: Terms,
    /// What is reserved, volumes among it.
    pub(crate) resources: Resources,
}

/// A volume of an agent.
#[derive(Debug)]
pub(crate) struct Volume<'a> {
    pub(crate) agent: &'a AgentView,
    pub(crate) terms: &'a Terms,
    pub(crate) volume: &'a PersistentVolume,
    /// It as it is.
    pub(crate) resources: Resources,
    /// Whether tasks use it.
    pub(crate) used: bool,
}

/// Reservations behind this place, in the order of agents and of their texts.
pub(crate) fn reservations<'a>(
    view: &'a View,
    after: Option<&HeldPlace>,
) -> impl Iterator<Item = (HeldPlace, Reservation<'a>)> + use<'a> {
    rows(view, after.cloned(), |agent| {
        let mut rows: BTreeMap<String, Reservation<'a>> = BTreeMap::new();
        for entry in agent.total.entries() {
            let Some(terms) = entry.terms().filter(|terms| terms.role().is_some()) else { continue };
            let terms = Terms { volume: None, ..terms.clone() };
            let row = rows.entry(terms.to_string()).or_insert_with(|| Reservation {
                agent,
                terms,
                resources: Resources::new(),
            });
            row.resources += &one(entry);
        }
        rows
    })
}

/// Volumes behind this place, in the order of agents, roles and names.
pub(crate) fn volumes<'a>(
    view: &'a View,
    after: Option<&HeldPlace>,
) -> impl Iterator<Item = (HeldPlace, Volume<'a>)> + use<'a> {
    rows(view, after.cloned(), |agent| {
        let mut rows = BTreeMap::new();
        for entry in agent.total.entries() {
            let (Some(terms), Some(volume)) = (entry.terms(), entry.volume()) else { continue };
            let resources = one(entry);
            let used = agent.allocated.contains(&resources);
            let role = terms.role().expect("a volume is reserved");
            rows.insert(format!("{role} {}", volume.id), Volume { agent, terms, volume, resources, used });
        }
        rows
    })
}

/// What each agent has, by a text that orders it.
fn rows<'a, R>(
    view: &'a View,
    after: Option<HeldPlace>,
    of: impl Fn(&'a AgentView) -> BTreeMap<String, R>,
) -> impl Iterator<Item = (HeldPlace, R)> {
    let start = after.as_ref().map_or(Bound::Unbounded, |place| Bound::Included(place.agent.clone()));
    let agents = view.agents.range((start, Bound::Unbounded)).map(|(_, agent)| Arc::as_ref(agent));
    let agents = agents.filter(|agent| agent.total.has_terms());
    let all = agents.flat_map(move |agent| {
        let place = |text| HeldPlace { agent: agent.agent_id.clone(), text };
        of(agent).into_iter().map(move |(text, row)| (place(text), row))
    });
    all.skip_while(move |(place, _)| after.as_ref().is_some_and(|after| place <= after))
}

fn one(entry: &Entry) -> Resources {
    let mut one = Resources::new();
    one.insert_on(entry.name().clone(), entry.terms().cloned().map(Arc::new), entry.value().clone());
    one
}
