//! Why a service has not the replicas that it is to have, in sentences for people. They are kept, for whoever asks later.

use apportion_sdk::{Place, Resources, resources::Name};
use serde::{Deserialize, Serialize};

use super::{Effect, Services};
use crate::{
    event::{Event, Told},
    spec::Spec,
};

/// Letters of a sentence that are kept: a task may say as much as it likes of its end.
const SENTENCE_MAX: usize = 300;

/// What holds a service back, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trouble {
    /// How the last replica ended that was to run, since a revision was complete.
    pub last_end: Option<End>,
    /// Why a revision was given up that came no further.
    pub given_up: Option<String>,
    /// Why no agent could ever run a replica that waits.
    pub impossible: Option<String>,
}

/// An end of a replica that was to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Of which one, and why.
    pub what: String,
    /// When it was told, in microseconds since the epoch.
    pub at_us: u64,
}

/// An agent, whatever runs there.
#[derive(Debug, Clone, PartialEq)]
pub struct Size {
    /// Where it is.
    pub place: Place,
    /// All that it has.
    pub total: Resources,
}

/// As much of a sentence as is kept.
pub(super) fn bounded(sentence: String) -> String {
    match sentence.char_indices().nth(SENTENCE_MAX) {
        Some((at, _)) => format!("{}…", &sentence[..at]),
        None => sentence,
    }
}

impl Services {
    /// Compares what waits for an offer with all agents, and tells once of replicas that none of them could ever run: they would wait for ever
    /// without a word.
    pub fn compare(&mut self, agents: &[Size], effects: &mut Vec<Effect>) {
        for (name, runtime) in &self.runtimes {
            let Some((_, revision)) = runtime.launch.last().copied() else { continue };
            let app = self.table.apps.get_mut(name).expect("only a service that is known launches");
            let why = impossible(app.revision(revision), agents).map(bounded);
            if app.trouble.impossible == why {
                continue;
            }
            app.trouble.impossible.clone_from(&why);
            if let Some(why) = why {
                effects.push(Effect::Tell(Told::of(name, Event::Impossible { revision, why })));
            }
        }
    }
}

/// Why none of the agents could ever run a replica. That there is none at all is no verdict: they may be about to register.
fn impossible(spec: &Spec, agents: &[Size]) -> Option<String> {
    let needs = spec.needs();
    let fits = |agent: &Size| agent.total.contains(&needs) && spec.shut_out(&agent.place).is_none();
    if agents.is_empty() || agents.iter().any(fits) {
        return None;
    }
    let places: Vec<&Place> = agents.iter().map(|agent| &agent.place).collect();
    let nowhere = spec.holds_nowhere(&places);
    let large = needs.iter().filter_map(|(name, value)| {
        let wanted = Resources::of(name.clone(), value.clone());
        let most = agents.iter().max_by_key(|agent| agent.total.milli(name))?;
        (!agents.iter().any(|agent| agent.total.contains(&wanted))).then(|| too_large(name, &wanted, most))
    });
    let mut reasons: Vec<String> = large.chain(nowhere).collect();
    if reasons.is_empty() {
        reasons.push("what it asks for is there, but no agent has all of it together".to_owned());
    }
    let none = match agents.len() {
        1 => "the only agent could not run one".to_owned(),
        several => format!("none of the {several} agents could run one"),
    };
    Some(format!("{none}: {}; ask for less, or add such an agent", reasons.join("; ")))
}

fn too_large(name: &Name, wanted: &Resources, most: &Size) -> String {
    let has = Resources::scalar(name.clone(), most.total.milli(name));
    match most.total.milli(name) {
        0 => format!("{wanted} is needed, and no agent has any"),
        _ => format!("{wanted} is needed, the most is {has} on {}", most.place.hostname),
    }
}
