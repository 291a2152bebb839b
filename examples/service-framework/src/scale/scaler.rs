//! From proposals to a decision: bounds in number and in time.

use std::{collections::VecDeque, time::Duration};

use apportion_sdk::Time;

use super::{Because, Decision, Load, Policy, Said, Sample, Scale, decision::History};

/// What [`Scale::up_step`] and [`Scale::down_step`] count over.
const MINUTE: Duration = Duration::from_secs(60);

/// Decides for one service.
#[derive(Debug)]
pub struct Scaler {
    scale: Scale,
    policies: Vec<Box<dyn Policy>>,
    /// What was recommended, for as long as the longer of the windows.
    recommended: VecDeque<(Time, u32)>,
    /// What was changed within the last minute: when, from, to.
    changed: VecDeque<(Time, u32, u32)>,
    /// When something was asked of the service, or it was seen first.
    busy_at: Option<Time>,
    history: History,
}

impl Scaler {
    /// One that has seen nothing yet.
    pub fn new(scale: Scale) -> Self {
        let policies = scale.rules.iter().map(|rule| rule.policy()).collect();
        let (recommended, changed) = (VecDeque::new(), VecDeque::new());
        Self { scale, policies, recommended, changed, busy_at: None, history: History::default() }
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
            self.changed.push_back((sample.at, sample.replicas, to));
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
                Ok(value) if value.is_finite() && *value >= 0.0 => {
                    let Sample { at, replicas, ready, .. } = *sample;
                    let proposal = policy.propose(&Load { at, replicas, ready, value: *value });
                    Said {
                        value: Some(*value),
                        replicas: Some(proposal.replicas),
                        why: proposal.why,
                        ..known
                    }
                }
                Ok(value) => Said { why: format!("{value} is no measurement"), ..known },
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
        let idle_for = self.busy_at.map_or(Duration::ZERO, |busy_at| at.since(busy_at));
        if self.scale.min == 0 && busy == Some(false) && idle_for >= self.scale.idle_after {
            return (0, Because::Idle { after: self.scale.idle_after });
        }
        let (wanted, because) = largest(now, said);
        let (to, because) = self.stabilised(at, now, wanted, because);
        let (to, because) = self.stepwise(at, now, to, because);
        // Only idleness leads to none.
        let min = self.scale.min.max(1).min(self.scale.max);
        match to {
            to if to < min => (min, Because::Min),
            to if to > self.scale.max => (self.scale.max, Because::Max),
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
        while self.changed.front().is_some_and(|(then, ..)| at.since(*then) >= MINUTE) {
            self.changed.pop_front();
        }
        let sum = |change: fn(&(Time, u32, u32)) -> u32| self.changed.iter().map(change).sum::<u32>();
        let added = sum(|(_, from, to)| to.saturating_sub(*from));
        let removed = sum(|(_, from, to)| from.saturating_sub(*to));
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
