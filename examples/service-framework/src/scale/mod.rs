//! How many replicas a service is to have: automatic scaling, decided by pure functions of what was measured.
//!
//! 1. [`spec`] is the table `[scale]` of a description: from how few to how many, by which rules, how fast.
//! 2. Each rule is a [`Policy`]: it makes of what was measured a proposal. [`track`] has those that look at now, [`season`] one that
//!    looks ahead.
//! 3. [`Scaler`] takes the largest proposal, and lets it be so within bounds: not on every flicker, not too much at once, not without need.
//! 4. Every answer is a [`Decision`] that says why; [`plot`] draws them.
//!
//! The shape is that of Kubernetes' HorizontalPodAutoscaler, which people know: the largest proposal wins, nothing shrinks while a
//! rule knows nothing, a replica that could not be asked counts as idle when there are to be more and as busy when there are to be fewer, a
//! proposal must have stood for a while, and a service that an operator has scaled to none is left alone.
//!
//! What is measured comes from outside: [`measure`](crate::measure) asks agents, balancers and Prometheus, `state/scaling.rs` makes a
//! [`Sample`] of that and obeys the [`Decision`].

pub mod decision;
mod measured;
pub mod plot;
pub mod prometheus;
mod scaler;
pub mod season;
pub mod spec;
#[cfg(test)]
mod tests;
pub mod track;

use apportion_sdk::Time;

pub use self::{
    decision::{Because, Decision, Said},
    measured::{Measured, Replica, Subject, Traffic, Unknown, Used},
    scaler::{Changed, Scaler},
    season::Season,
    spec::{Aim, Metric, Predict, Rule, Scale},
};

/// What was measured of a service at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Time,
    /// How many replicas are wanted.
    pub replicas: u32,
    /// How many of them do their work.
    pub ready: u32,
    /// For each rule, in order, what its metric is; or why it is not known.
    pub values: Vec<Result<Mean, String>>,
    /// Whether anything was asked of the service since the last sample, or waits to be; none when nobody can tell.
    pub busy: Option<bool>,
    /// Whether replicas are being replaced, so that two may bear what is one's.
    pub updating: bool,
}

/// The mean of a metric over replicas that are ready.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Over so many: all that are ready, or fewer when not all of them could be asked.
    pub of: u32,
}

/// What one rule sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// When.
    pub at: Time,
    /// How many replicas are wanted.
    pub replicas: u32,
    /// How many of them do their work.
    pub ready: u32,
    /// How many of these were measured.
    pub measured: u32,
    /// The mean over those.
    pub value: f64,
}

impl Load {
    /// What all replicas bear together, at the least: those that were not measured bear nothing.
    pub fn total(&self) -> f64 {
        self.value * f64::from(self.measured)
    }

    /// What they bear at the most that is believed: those that were not measured bear what each is to bear.
    pub fn total_at_most(&self, each: f64) -> f64 {
        self.total() + each * f64::from(self.ready.saturating_sub(self.measured))
    }
}

/// What a rule would have.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// How many replicas.
    pub replicas: u32,
    /// Why, for people.
    pub why: String,
}

/// A rule at work. It is asked at every sample whose value is known, in order of time.
pub trait Policy: std::fmt::Debug + Send {
    /// What it would have now.
    fn propose(&mut self, load: &Load) -> Proposal;

    /// What it has learned, to be kept over a restart.
    fn learned(&self) -> Option<&Season> {
        None
    }
}

/// So many replicas that each bears at most `each`.
fn replicas_for(total: f64, each: f64) -> u32 {
    // A hair over is not one more: sums of means are not exact.
    let replicas = (total / each - 1e-6).ceil();
    if replicas.is_finite() { replicas.clamp(0.0, f64::from(u32::MAX)) as u32 } else { 0 }
}
