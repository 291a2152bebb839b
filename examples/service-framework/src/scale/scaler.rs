//! From proposals to a decision: bounds in number and in time.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use apportion_sdk::Time;
use serde::{Deserialize, Serialize};

use super::{Because, Decision, Load, Mean, Policy, Said, Sample, Scale, Season, decision::History};

/// What [`Scale::up_step`] and [`Scale::down_step`] count over.
const MINUTE: Duration = Duration::from_secs(60);

/// Decides for one service.
#[derive(Debug)]
pub struct Scaler {
    scale: Scale,
    policies: Vec<Box<dyn Policy>>,
    /// What was recommended, for as long as the longer of the windows.
    recommended: VecDeque<(Time, u32)>,
    /// What was changed within the last minute.
    changed: VecDeque<Changed>,
    /// When something was asked of the service, or it was seen first.
    busy_at: Option<Time>,
    history: History,
}

/// A number of replicas took the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    /// When, in microseconds since the epoch.
    pub at_us: u64,
    /// How many there were to be.
    pub from: u32,
    /// How many there are to be since.
    pub to: u32,
}

impl Changed {
    fn since(&self, now: Time) -> Duration {
        now.since(Time::from_micros(self.at_us))
    }
}

impl Scaler {
    /// One that has seen nothing yet, but what one before it has [learned](Scaler::learned) and last [changed](Scaler::changed).
    pub fn new(scale: Scale, learned: &BTreeMap<String, Season>, changed: &[Changed]) -> Self {
        let policies = scale.rules.iter().map(|rule| rule.policy(learned.get(&rule.learns()))).collect();
        let (recommended, changed) = (VecDeque::new(), changed.iter().copied().collect());
        Self { scale, policies, recommended, changed, busy_at: None, history: History::default() }
    }

    /// By what it decides.
    pub fn scale(&self) -> &Scale {
        &self.scale
    }

    /// Decides by another description from now on. While its rules are the same, what was seen counts on.
    pub fn describe(&mut self, scale: Scale, learned: &BTreeMap<String, Season>) {
        if scale.rules == self.scale.rules {
            self.scale = scale;
        } else {
            let changed: Vec<_> = self.changed.iter().copied().collect();
            *self = Self::new(scale, learned, &changed);
        }
    }

    /// What its rules have learned of times to come, by what they measure; only what differs from what is kept already.
    pub fn learned(&self, kept: &BTreeMap<String, Season>) -> BTreeMap<String, Season> {
        let rules = self.scale.rules.iter().zip(&self.policies);
        let learned = rules.filter_map(|(rule, policy)| Some((rule.learns(), policy.learned()?)));
        let new = learned.filter(|(key, season)| kept.get(key).is_none_or(|kept| season.differs(kept)));
        new.map(|(key, season)| (key, season.kept())).collect()
    }

    /// What was changed within the last minute, as far as was decided here.
    pub fn changed(&self) -> impl Iterator<Item = &Changed> {
        self.changed.iter()
    }

    /// When a change that must stand for a while has stood for so long, if nothing else is measured until then; none when none is
    /// waited for.
    pub fn stands_at(&self) -> Option<Time> {
        let last = self.history.all().next_back()?;
        let Because::Stabilising { window } = last.because else { return None };
        let now = last.to;
        // From what was recommended last on back: since when nothing else was.
        let (_, wanted) = *self.recommended.back()?;
        let other = |recommended: u32| if wanted > now { recommended <= now } else { recommended >= now };
        let standing = self.recommended.iter().rev().take_while(|(_, recommended)| !other(*recommended));
        standing.last().map(|(since, _)| *since + window)
    }

    /// What was decided.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// How many replicas there are to be now. Samples come in order of time.
    pub fn decide(&mut self, sample: &Sample) -> Decision {
        let said = self.ask(sample);
        let (to, because) = self.choose(sample, &said);
        if to != sample.replicas {
            let at_us = sample.at.as_micros();
            self.changed.push_back(Changed { at_us, from: sample.replicas, to });
        }
        let (at, from, ready) = (sample.at, sample.replicas, sample.ready);
        let decision = Decision { at, from, ready, to, said, because };
        self.history.push(decision.clone());
        decision
    }

    /// What each rule says.
    fn ask(&mut self, sample: &Sample) -> Vec<Said> {
        let unknown = Err("it was not measured".to_owned());
        let rules = self.scale.rules.iter().zip(&mut self.policies).enumerate();
        let asked = rules.map(|(place, (rule, policy))| {
            let known = Said {
                rule: rule.to_string(),
                value: None,
                aim: rule.aim.value(),
                replicas: None,
                why: String::new(),
            };
            match sample.values.get(place).unwrap_or(&unknown) {
                Ok(Mean { value, of }) if value.is_finite() && *value >= 0.0 => {
                    let Sample { at, replicas, ready, .. } = *sample;
                    let load = Load { at, replicas, ready, measured: *of, value: *value };
                    let proposal = policy.propose(&load);
                    Said {
                        value: Some(*value),
                        replicas: Some(proposal.replicas),
                        why: proposal.why,
                        ..known
                    }
                }
                Ok(Mean { value, .. }) => Said { why: format!("{value} is no measurement"), ..known },
                Err(why) => Said { why: why.clone(), ..known },
            }
        });
        asked.collect()
    }

    fn choose(&mut self, sample: &Sample, said: &[Said]) -> (u32, Because) {
        let Sample { at, replicas: now, busy, .. } = *sample;
        if busy != Some(false) || self.busy_at.is_none() {
            self.busy_at = Some(at);
        }
        // What sleeps is woken at once, whatever else holds: somebody waits.
        if now == 0 && self.scale.min == 0 && self.scale.max > 0 {
            return match busy {
                Some(true) => (1, Because::Woken),
                _ => (0, Because::Asleep),
            };
        }
        // The same in Kubernetes: somebody wants it out of the way for a while.
        if now == 0 {
            return (0, Because::Paused);
        }
        let idle_for = self.busy_at.map_or(Duration::ZERO, |busy_at| at.since(busy_at));
        if self.scale.min == 0 && busy == Some(false) && idle_for >= self.scale.idle_after {
            return (0, Because::Idle { after: self.scale.idle_after });
        }
        let (wanted, because) = match largest(now, said) {
            (wanted, _) if wanted < now && sample.updating => (now, Because::Updating),
            proposed => proposed,
        };
        let (to, because) = self.stabilised(at, now, wanted, because);
        let (to, because) = self.stepwise(at, now, to, because);
        // Only idleness leads to none.
        let bounds = self.scale.bounds();
        match to {
            to if to < *bounds.start() => (*bounds.start(), Because::Min),
            to if to > *bounds.end() => (*bounds.end(), Because::Max),
            to => (to, because),
        }
    }

    /// A number must have been recommended for all of a window: the least of it is what more are added to, the most what is left.
    fn stabilised(&mut self, at: Time, now: u32, wanted: u32, because: Because) -> (u32, Because) {
        let (up, down) = (self.scale.up_after, self.scale.down_after);
        self.recommended.push_back((at, wanted));
        // The oldest that is needed is the newest that is as old as the window.
        while self.recommended.get(1).is_some_and(|(second, _)| at.since(*second) >= up.max(down)) {
            self.recommended.pop_front();
        }
        let within = |window: Duration| {
            self.recommended
                .iter()
                .filter(move |(then, _)| at.since(*then) <= window)
                .map(|(_, wanted)| *wanted)
        };
        let least = within(up).min().unwrap_or(wanted);
        let most = within(down).max().unwrap_or(wanted);
        // One that has not watched for long enough has not seen that it stood.
        let watched = self.recommended.front().map_or(Duration::ZERO, |(first, _)| at.since(*first));
        if now < least && watched >= up {
            return (least, if least == wanted { because } else { Because::Stabilising { window: up } });
        }
        if now > most && watched >= down {
            return (most, if most == wanted { because } else { Because::Stabilising { window: down } });
        }
        match wanted {
            wanted if wanted > now => (now, Because::Stabilising { window: up }),
            wanted if wanted < now => (now, Because::Stabilising { window: down }),
            _ => (now, because),
        }
    }

    /// No more than a step is changed within a minute.
    fn stepwise(&mut self, at: Time, now: u32, to: u32, because: Because) -> (u32, Because) {
        while self.changed.front().is_some_and(|changed| changed.since(at) >= MINUTE) {
            self.changed.pop_front();
        }
        let sum = |change: fn(&Changed) -> u32| self.changed.iter().map(change).sum::<u32>();
        let added = sum(|Changed { from, to, .. }| to.saturating_sub(*from));
        let removed = sum(|Changed { from, to, .. }| from.saturating_sub(*to));
        let most = now.saturating_add(self.scale.up_step.saturating_sub(added));
        let least = now.saturating_sub(self.scale.down_step.saturating_sub(removed));
        match to {
            to if to > most => (most, Because::Step { a_minute: self.scale.up_step }),
            to if to < least => (least, Because::Step { a_minute: self.scale.down_step }),
            to => (to, because),
        }
    }
}

/// The largest proposal; no fewer than there are while a rule does not know.
fn largest(now: u32, said: &[Said]) -> (u32, Because) {
    let known = said.iter().enumerate().filter_map(|(place, said)| Some((place, said.replicas?)));
    // The first of equals.
    let largest = known.rev().max_by_key(|(_, replicas)| *replicas);
    match largest {
        None => (now, Because::Unmeasured),
        Some((_, replicas)) if replicas < now && said.iter().any(|said| said.replicas.is_none()) => {
            (now, Because::PartlyUnmeasured)
        }
        Some((place, replicas)) => (replicas, Because::Rule { place }),
    }
}
