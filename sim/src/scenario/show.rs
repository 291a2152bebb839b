//! How things stand, as lines.

use super::{
    condition::{agent_state, agent_view, framework_state, framework_view},
    declared::number_of,
    jobs::{Jobs, Stage},
    words::{Line, Parsed},
};
use crate::{Sim, process::Handle};

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    Agents,
    Frameworks,
    Tasks,
    Offers,
    Faults,
    Counters,
}

const KINDS: &[(&str, Show)] = &[
    ("agents", Show::Agents),
    ("frameworks", Show::Frameworks),
    ("tasks", Show::Tasks),
    ("offers", Show::Offers),
    ("faults", Show::Faults),
    ("counters", Show::Counters),
];

impl Show {
    pub(super) fn parse(line: &mut Line<'_>) -> Parsed<Show> {
        let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        let expected = format!("one of {}", names.join(", "));
        let word = line.word(&expected)?;
        let found = KINDS.iter().find(|(name, _)| *name == word.text);
        found.map(|(_, show)| *show).ok_or_else(|| word.wrong("cannot be shown", expected))
    }
}

/// At least one line.
pub(super) fn lines(what: Show, sim: &Sim) -> Vec<String> {
    let lines = match what {
        Show::Agents => agents(sim),
        Show::Frameworks => frameworks(sim),
        Show::Tasks => tasks(sim),
        Show::Offers => offers(sim),
        Show::Faults => {
            let faults = sim.world().script.iter();
            faults.map(|timed| format!("at {:?} {}", timed.at, timed.fault)).collect()
        }
        Show::Counters => counters(sim),
    };
    if lines.is_empty() { vec!["none".to_owned()] } else { lines }
}

fn agents(sim: &Sim) -> Vec<String> {
    let line = |number| {
        let view = agent_view(sim, number);
        let mut line = format!("agent {number} {}", agent_state(view));
        if let Some(agent) = view {
            let (allocated, offered) = (some(&agent.allocated), some(&agent.offered));
            line += &format!(
                " as {} allocated {allocated} offered {offered} tasks {}",
                agent.agent_id, agent.tasks
            );
            if agent.total.has_terms() {
                line += &format!(" of {}", agent.total);
            }
        }
        if sim.world().agents[number].core.is_none() {
            line += ", its process is down";
        }
        line
    };
    (0..sim.world().agents.len()).map(line).collect()
}

fn frameworks(sim: &Sim) -> Vec<String> {
    let line = |(number, framework): (usize, &crate::world::FrameworkProcess)| {
        let name = &framework.program.info().name;
        let view = framework_view(sim, name);
        let mut line = format!("{name} {}", framework_state(view));
        if let Some(view) = view {
            line += &format!(" as {} allocated {}", view.framework_id, some(&view.allocated));
        }
        match sim.scheduler(Handle::<Jobs>::new(number)) {
            Some(jobs) => {
                for stage in Stage::ALL {
                    line += &format!(" {} {}", stage.name(), jobs.count(stage));
                }
            }
            None => line += ", its process is down",
        }
        line
    };
    sim.world().frameworks.iter().enumerate().map(line).collect()
}

fn tasks(sim: &Sim) -> Vec<String> {
    let view = sim.master();
    let line = |task: &apportion_master_core::view::TaskView| {
        let agent = view.agents.get(&task.agent_id).and_then(|agent| number_of(&agent.info.hostname));
        let agent = agent.map_or_else(|| task.agent_id.to_string(), |number| format!("agent {number}"));
        format!("{} {} on {agent} {}", task.info.task_id, task.state, task.info.resources)
    };
    view.tasks.values().map(|task| line(task)).collect()
}

fn offers(sim: &Sim) -> Vec<String> {
    let view = sim.master();
    let line = |offer: &apportion_master_core::view::OfferView| {
        let offer = &offer.offer;
        let name = view.frameworks.get(&offer.framework_id).map_or("?", |framework| &framework.info.name);
        format!("{} to {name}: {} on {}", offer.offer_id, offer.resources, offer.place.hostname)
    };
    view.offers.values().map(|offer| line(offer)).collect()
}

fn counters(sim: &Sim) -> Vec<String> {
    let counters = &sim.master().counters;
    let ended: String =
        counters.tasks_ended.iter().map(|(state, count)| format!(" {state} {count}")).collect();
    vec![
        format!(
            "offers made {} accepted {} declined {} rescinded {} (timed out {})",
            counters.offers_made,
            counters.offers_accepted,
            counters.offers_declined,
            counters.offers_rescinded,
            counters.offers_timed_out
        ),
        format!(
            "tasks launched {} ended{}",
            counters.tasks_launched,
            if ended.is_empty() { " 0" } else { &ended }
        ),
        format!(
            "updates forwarded {} acknowledged {}, agents unreachable {}, calls refused {}",
            counters.updates_forwarded,
            counters.acknowledgements,
            counters.agents_unreachable,
            counters.calls_refused
        ),
    ]
}

fn some(resources: &apportion_types::Resources) -> String {
    if resources.is_empty() { "nothing".to_owned() } else { resources.to_string() }
}
