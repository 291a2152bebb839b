//! How many replicas a service is to have: automatic scaling, decided by pure functions of what was measured.
//!
//! 1. [`spec`] is the table `[scale]` of a description: from how few to how many, by which rules, how fast.
//! 2. Each rule is a [`Policy`]: it makes of what was measured a proposal. [`track`] has those that look at now, [`season`] one that
//!    looks ahead.
//! 3. [`Scaler`] takes the largest proposal, and lets it be so within bounds: not on every flicker, not too much at once, not without need.
//! 4. Every answer is a [`Decision`] that says why; [`plot`] draws them.
//!
//! The shape is that of Kubernetes' HorizontalPodAutoscaler, which people know: the largest proposal wins, nothing shrinks while a
//! measurement is missing, and a proposal must have stood for a while.

pub mod decision;
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
    scaler::Scaler,
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
    /// For each rule, in order, the mean of its metric over the replicas that are ready; or why it is not known.
    pub values: Vec<Result<f64, String>>,
    /// Whether anything was asked of the service since the last sample, or waits to be; none when nobody can tell.
    pub busy: Option<bool>,
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
    /// The mean over these.
    pub value: f64,
}

impl Load {
    /// What all replicas bear together.
    pub fn total(&self) -> f64 {
        self.value * f64::from(self.ready)
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
}

/// So many replicas that each bears at most `each`.
fn replicas_for(total: f64, each: f64) -> u32 {
    // A hair over is not one more: sums of means are not exact.
    let replicas = (total / each - 1e-6).ceil();
    if replicas.is_finite() { replicas.clamp(0.0, f64::from(u32::MAX)) as u32 } else { 0 }
}
