//! What is measured becomes a number of replicas: the only way in which that changes without an order.
//!
//! The number stands where an operator's does, so whoever spoke last is heard: an operator's holds until the next decision, as with
//! `kubectl scale` under a HorizontalPodAutoscaler, and none at all (where at least one is to be there) until an operator ends it.
//! It is decided here, with what is so at this moment, and not where it is measured: no decision comes too late for what it was made from.

use std::collections::BTreeMap;

use apportion_sdk::Time;
use serde::{Deserialize, Serialize};

use super::{App, Effect, Phase, Scaled, Services};
use crate::{
    event::{Event, Told},
    scale::{Changed, Decision, Measured, Replica, Sample, Scale, Scaler, Season, Subject, Unknown},
    spec::Spec,
};

/// Changes that are remembered over a restart.
const CHANGES_MAX: usize = 20;

/// What is kept of scaling a service, beside the number itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// What rules have learned of times to come, by what they measure.
    pub learned: BTreeMap<String, Season>,
    /// The last changes, oldest first.
    pub changes: Vec<Change>,
}

/// Another number of replicas by what was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When, from, and to.
    #[serde(flatten)]
    pub changed: Changed,
    /// Why, in a line for people.
    pub why: String,
}

/// The scaler of a service at work.
#[derive(Debug)]
pub(super) struct Scaling {
    pub(super) scaler: Scaler,
    /// Rules that do not know, of which that was told.
    told: BTreeMap<usize, String>,
}

/// The number of replicas that is ordered, once a description is taken.
///
/// Without `[scale]` what was ordered holds while the description says the number that it said then. With it, a number in the description
/// is where a service begins; one that is there stays as many as it is, within the bounds, so that nobody shrinks it by changing
/// something else.
pub(super) fn ordered(before: Option<&App>, spec: &Spec) -> Option<Scaled> {
    let before = before.filter(|app| !app.removed);
    let described = spec.replicas;
    let Some(scale) = &spec.scale else {
        return before.and_then(|app| app.scaled).filter(|scaled| scaled.described == described);
    };
    let replicas = match before.map(|app| (app.replicas(), app)) {
        Some((replicas @ 1.., _)) => bounded(scale, replicas),
        // It sleeps on.
        Some(_) if scale.min == 0 => 0,
        // Somebody wants it out of the way, and did not speak of it now.
        Some((_, app)) if app.scaled.is_some() && !sleeps(app) => 0,
        None if described == 0 && scale.min == 0 => 0,
        // It is to begin, or to sleep no more.
        _ => bounded(scale, described),
    };
    (replicas != described).then_some(Scaled { described, replicas })
}

/// Whether a service has no replica until somebody asks for one.
fn sleeps(app: &App) -> bool {
    app.replicas() == 0 && app.described.scale.as_ref().is_some_and(|scale| scale.min == 0)
}

fn bounded(scale: &Scale, replicas: u32) -> u32 {
    let bounds = scale.bounds();
    replicas.clamp(*bounds.start(), *bounds.end())
}

impl Services {
    /// What is to be measured.
    pub fn subjects(&self) -> Vec<Subject> {
        let subject = |(name, app): (&String, &App)| {
            let scale = app.described.scale.as_ref().filter(|_| app.started && !app.removed)?;
            Some(Subject {
                service: name.clone(),
                interval: scale.interval,
                rules: scale.rules.clone(),
                framework_id: self.table.framework_id.clone(),
                tasks: self
                    .table
                    .tasks_of(name)
                    .filter(|(task_id, placed)| !placed.doomed && self.is_ready(task_id))
                    .map(|(task_id, placed)| (task_id.clone(), placed.agent_id.clone()))
                    .collect(),
                asleep: sleeps(app),
            })
        };
        self.table.apps.iter().filter_map(subject).collect()
    }

    /// Takes what was measured, and scales by it.
    pub fn measured(&mut self, all: &[Measured], now: Time, effects: &mut Vec<Effect>) {
        for measured in all {
            self.scale_by(measured, now, effects);
        }
    }

    /// Somebody waits for a replica of a service that sleeps.
    pub fn wanted(&mut self, name: &str, now: Time, effects: &mut Vec<Effect>) {
        if self.table.apps.get(name).is_some_and(sleeps) {
            let traffic = Some(crate::scale::Traffic { busy: true, ..Default::default() });
            let measured = Measured { service: name.to_owned(), traffic, ..Measured::default() };
            self.scale_by(&measured, now, effects);
        }
    }

    fn scale_by(&mut self, measured: &Measured, now: Time, effects: &mut Vec<Effect>) {
        let name = &measured.service;
        let Some(app) = self.table.apps.get(name).filter(|app| app.started && !app.removed) else { return };
        let Some(scale) = app.described.scale.clone() else { return };
        let (sample, unknown) = self.sample(app, &scale, measured, now);
        let scaling = self.scaling(name, scale);
        let decision = scaling.scaler.decide(&sample);
        scaling.tell(name, &unknown, effects);
        self.learn(name);
        if decision.to != decision.from {
            self.obey(name, &decision, effects);
            self.settle(name, now, effects);
        }
    }

    /// The scaler of a service, by what is described now.
    fn scaling(&mut self, name: &str, scale: Scale) -> &mut Scaling {
        let empty = Past::default();
        let past = self.table.scaling.get(name).unwrap_or(&empty);
        let runtime = self.runtimes.get_mut(name).expect("there is one for each service");
        let scaling = runtime.scaling.get_or_insert_with(|| {
            let changed: Vec<_> = past.changes.iter().map(|change| change.changed).collect();
            Scaling { scaler: Scaler::new(scale.clone(), &past.learned, &changed), told: BTreeMap::new() }
        });
        if *scaling.scaler.scale() != scale {
            scaling.told.clear();
            scaling.scaler.describe(scale, &past.learned);
        }
        scaling
    }

    /// What was decided last, while it is scaled.
    pub(super) fn last_decision(&self, name: &str) -> Option<Decision> {
        self.table.apps[name].described.scale.as_ref()?;
        self.runtimes[name].scaling.as_ref()?.scaler.history().all().next_back().cloned()
    }

    /// What is so now, with what was measured a moment ago.
    fn sample(
        &self,
        app: &App,
        scale: &Scale,
        measured: &Measured,
        now: Time,
    ) -> (Sample, Vec<Option<Unknown>>) {
        let tasks = self.table.tasks_of(&measured.service);
        let ready: Vec<Replica<'_>> = tasks
            .filter(|(task_id, placed)| !placed.doomed && self.is_ready(task_id))
            .map(|(task_id, placed)| Replica { task_id, asked: &app.revision(placed.revision).resources })
            .collect();
        let means: Vec<_> = scale.rules.iter().map(|rule| measured.mean(rule, &ready)).collect();
        let unknown = means.iter().map(|mean| mean.as_ref().err().cloned()).collect();
        let sample = Sample {
            at: now,
            replicas: app.replicas(),
            ready: u32::try_from(ready.len()).unwrap_or(u32::MAX),
            values: means.into_iter().map(|mean| mean.map_err(|unknown| unknown.why)).collect(),
            busy: measured.traffic.map(|traffic| traffic.busy),
            updating: self.replaces(&measured.service, app),
        };
        (sample, unknown)
    }

    /// Whether replicas take the place of others. Not when there is nothing that they replace, and not when nothing comes of it: replicas for
    /// which there is no room would otherwise be wanted for ever.
    fn replaces(&self, name: &str, app: &App) -> bool {
        app.phase != Phase::Steady && app.stable().is_some() && !self.runtimes[name].progress.is_stalled()
    }

    /// Keeps what was learned, once there is more of it.
    fn learn(&mut self, name: &str) {
        let Some(scaling) = self.runtimes.get(name).and_then(|runtime| runtime.scaling.as_ref()) else {
            return;
        };
        let empty = BTreeMap::new();
        let known = self.table.scaling.get(name).map_or(&empty, |past| &past.learned);
        let learned = scaling.scaler.learned(known);
        if !learned.is_empty() {
            self.table.scaling.entry(name.to_owned()).or_default().learned.extend(learned);
        }
    }

    fn obey(&mut self, name: &str, decision: &Decision, effects: &mut Vec<Effect>) {
        let app = self.table.apps.get_mut(name).expect("it was just found");
        let (described, replicas) = (app.described.replicas, decision.to);
        app.scaled = (replicas != described).then_some(Scaled { described, replicas });
        let changed = Changed { at_us: decision.at.as_micros(), from: decision.from, to: decision.to };
        let why = decision.to_string();
        let changes = &mut self.table.scaling.entry(name.to_owned()).or_default().changes;
        changes.push(Change { changed, why: why.clone() });
        changes.drain(..changes.len().saturating_sub(CHANGES_MAX));
        self.runtimes.get_mut(name).expect("there is one for each service").complete = false;
        let event = Event::Autoscaled { from: decision.from, to: decision.to, why };
        effects.push(Effect::Tell(Told::of(name, event)));
    }
}

impl Scaling {
    /// Tells of each rule once that it does not know, and once that it does again.
    fn tell(&mut self, name: &str, unknown: &[Option<Unknown>], effects: &mut Vec<Effect>) {
        for (place, unknown) in unknown.iter().enumerate() {
            let rule = self.scaler.scale().rules[place].metric.to_string();
            let event = match unknown {
                Some(unknown) if unknown.trouble && !self.told.contains_key(&place) => {
                    self.told.insert(place, unknown.why.clone());
                    Event::Unmeasured { rule, why: unknown.why.clone() }
                }
                None if self.told.remove(&place).is_some() => Event::MeasuredAgain { rule },
                _ => continue,
            };
            effects.push(Effect::Tell(Told::of(name, event)));
        }
    }
}
