//! A rule that looks ahead: loads that come again each day, or each week.
//!
//! For each part of the period it remembers the most that was to be borne, averaged over periods with the newest counting half. What it
//! expects is what it remembers of the time to come, larger or smaller by as much as now is than what it remembers of now.

use std::time::Duration;

use apportion_sdk::Time;
use serde::{Deserialize, Serialize};

use super::{Load, Policy, Proposal, replicas_for, track::Target};

/// Parts of a period: five minutes of a day.
pub const PARTS: usize = 288;

/// What a new period counts against all before it.
const NEWEST: f64 = 0.5;

/// How far today may be from what is remembered before it is another kind of day: forecasts stay within this.
const FACTOR_MAX: f64 = 2.0;

/// What was learned; it can be kept over a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Season {
    /// How long until the load comes again.
    pub period: Duration,
    /// The most that was to be borne in each part; none where nothing was seen yet.
    parts: Vec<Option<f64>>,
    /// The part that is now, and the most in it so far.
    now: Option<(usize, f64)>,
}

impl Season {
    /// Nothing was seen yet.
    pub fn new(period: Duration) -> Self {
        Self { period, parts: vec![None; PARTS], now: None }
    }

    /// Whether it is of such a period, and whole: it may come from a file.
    pub fn fits(&self, period: Duration) -> bool {
        self.period == period
            && self.parts.len() == PARTS
            && self.parts.iter().flatten().all(|most| most.is_finite())
    }

    /// What is to be kept: what was seen of whole parts, which changes once in each.
    pub fn kept(&self) -> Season {
        Season { now: None, ..self.clone() }
    }

    /// Whether what is kept is not that any more.
    pub fn differs(&self, kept: &Season) -> bool {
        self.period != kept.period || self.parts != kept.parts
    }

    fn part(&self, at: Time) -> usize {
        let period = self.period.as_micros().max(1);
        let within = u128::from(at.as_micros()) % period;
        usize::try_from(within * PARTS as u128 / period).unwrap_or(0).min(PARTS - 1)
    }

    /// Takes in what is to be borne at a time; times only grow.
    pub fn learn(&mut self, at: Time, total: f64) {
        let part = self.part(at);
        match &mut self.now {
            Some((now, most)) if *now == part => *most = most.max(total),
            now => {
                if let Some((before, most)) = now.replace((part, total)) {
                    let kept = &mut self.parts[before];
                    *kept = Some(kept.map_or(most, |kept| kept + NEWEST * (most - kept)));
                }
            }
        }
    }

    /// What is to be borne at a time to come; none before one period was seen.
    pub fn forecast(&self, now: Time, total: f64, at: Time) -> Option<f64> {
        let then = self.parts[self.part(at)]?;
        let factor = match self.parts[self.part(now)] {
            Some(usual) if usual > 0.0 => (total / usual).clamp(1.0 / FACTOR_MAX, FACTOR_MAX),
            _ => 1.0,
        };
        Some(then * factor)
    }
}

/// Tracks a target, for what is and for what is expected to come.
#[derive(Debug, Clone)]
pub struct Seasonal {
    /// What each replica is to bear.
    pub target: Target,
    /// How far it looks ahead: as long as a replica takes to start.
    pub lead: Duration,
    /// What was learned.
    pub season: Season,
}

impl Policy for Seasonal {
    fn propose(&mut self, load: &Load) -> Proposal {
        let now = self.target.propose(load);
        let total = load.total();
        self.season.learn(load.at, total);
        let expected = self.season.forecast(load.at, total, load.at + self.lead);
        match expected.map(|expected| (expected, replicas_for(expected, self.target.target))) {
            Some((expected, replicas)) if replicas > now.replicas => {
                let lead = humantime::format_duration(self.lead);
                Proposal { replicas, why: format!("{expected:.1} in all is expected in {lead}") }
            }
            _ => now,
        }
    }

    fn learned(&self) -> Option<&Season> {
        Some(&self.season)
    }
}
