//! Why a framework is, or is not, offered something.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Amounts;
use crate::{AgentId, FrameworkId, Role, Time};

/// The answer to why a framework is, or is not, offered something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The framework.
    pub framework_id: FrameworkId,
    /// For people.
    pub name: String,
    /// Whether it takes part.
    pub state: &'static str,
    /// One line for each thing to know, the most important first.
    pub summary: Vec<String>,
    /// Offers that it holds now.
    pub offers: u64,
    /// How many calls its principal may make, if that is limited.
    pub rate_limit: Option<RateLimit>,
    /// In the order of names.
    pub roles: Vec<RoleExplanation>,
    /// Why it declined offers, and how often.
    pub declined: BTreeMap<String, u64>,
    /// The newest of each reason, oldest first.
    pub decline_samples: Vec<DeclineSample>,
    /// What it says that it waits to place.
    pub requests: Vec<Waiting>,
}

/// How many calls a principal may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    /// On average, in thousandths.
    pub calls_per_second_milli: u64,
    /// At once.
    pub capacity: u32,
}

/// What stands between a framework and an offer for one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleExplanation {
    /// The role.
    pub role: Role,
    /// In millionths of the cluster.
    pub dominant_share_ppm: u64,
    /// What the share is divided by, in thousandths.
    pub weight_milli: u32,
    /// From 1, among all who may be offered something; none when it may not.
    pub place: Option<u64>,
    /// Who is before it, nearest last; at most ten.
    pub ahead: Vec<RoleMember>,
    /// What keeps it from every offer, whatever the agent.
    pub obstacles: Vec<Obstacle>,
    /// Over the agents that were asked about; the most frequent first.
    pub verdicts: Vec<VerdictCount>,
}

/// A framework in a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleMember {
    /// The role.
    pub role: Role,
    /// The framework.
    pub framework_id: FrameworkId,
}

/// Something that keeps a framework from offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

/// How many agents are the same to a framework.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerdictCount {
    /// For programs.
    pub code: &'static str,
    /// How many.
    pub agents: u64,
    /// The first five.
    pub examples: Vec<AgentVerdict>,
}

/// What one agent is to a framework.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentVerdict {
    /// The agent.
    pub agent_id: AgentId,
    /// For people.
    pub message: String,
}

/// An offer that was declined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeclineSample {
    /// When.
    pub at_us: Time,
    /// Why, for programs.
    pub code: &'static str,
    /// Why, in the framework's words.
    pub detail: String,
    /// Whose resources they were.
    pub agent_id: AgentId,
    /// For which role.
    pub role: Role,
    /// What was offered.
    pub offered: Amounts,
}

/// A kind of task that a framework waits to place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// For which role.
    pub role: Role,
    /// What one needs.
    pub resources: Amounts,
    /// How many.
    pub count: u32,
}
