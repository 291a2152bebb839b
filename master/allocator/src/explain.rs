//! Why a framework is, or is not, offered something: the answer of the code that decides.

use std::{collections::BTreeMap, fmt};

use apportion_types::{AgentId, FrameworkId, Resources, Role, Time};

use crate::Weight;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Whose offers.
    pub framework: FrameworkId,
    /// Of this agent alone; of all when none.
    pub agent: Option<AgentId>,
    /// What a task of it would need, on no terms; nothing when it does not matter.
    pub needs: Resources,
}

/// The answer: what stands between the framework and an offer, for each of its roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// In the order of names.
    pub roles: Vec<RoleExplanation>,
}

/// The answer for one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleExplanation {
    /// The role.
    pub role: Role,
    /// Its dominant share, in millionths of the cluster.
    pub dominant_share_ppm: u64,
    /// What its share is divided by.
    pub weight: Weight,
    /// The framework's place, from 1, among all who may be offered something; none when it may not, or when the order is drawn.
    pub place: Option<usize>,
    /// Who is before it, nearest last; at most ten.
    pub ahead: Vec<(Role, FrameworkId)>,
    /// What keeps it from every offer, whatever the agent.
    pub obstacles: Vec<Obstacle>,
    /// For each agent asked about, what the next cycle would do with it, were it the only agent that is looked at; in the order of ids.
    pub agents: Vec<(AgentId, Verdict)>,
    /// How many agents there are of each verdict, over all that were asked about, by [`Verdict::code`].
    pub counts: BTreeMap<&'static str, u64>,
}

/// What one agent is to a framework in a role. The law, when no needs are asked about: it is `Offered` exactly when the next cycle, were
/// it now and were the agent the only one that it looks at, gives the framework something of it for the role, and that first;
/// `Behind` exactly when the framework could be given something of it as things stand, but such a cycle gives it nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It would be offered this.
    Offered(Resources),
    /// Somebody before it in the order takes it: he who is given some of the agent first.
    Behind(FrameworkId),
    /// It is not offered, because.
    Blocked(Obstacle),
}

/// Why nothing of an agent is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inactive {
    /// Its connection has ended.
    Disconnected,
    /// An operator has deactivated it.
    Deactivated,
    /// An operator has it drained.
    Draining,
    /// It is drained, and not reactivated.
    Drained,
}

impl fmt::Display for Inactive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Inactive::Disconnected => "is disconnected",
            Inactive::Deactivated => "is deactivated; an operator must reactivate it",
            Inactive::Draining => "is being drained; when that is done an operator must reactivate it",
            Inactive::Drained => "is drained; an operator must reactivate it",
        })
    }
}

/// What keeps a framework from an offer. Each has a code for programs and one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// The framework is disconnected.
    Disconnected,
    /// It has suppressed the role.
    Suppressed,
    /// It holds as many offers as it may.
    OffersMax {
        /// Outstanding.
        outstanding: u32,
        /// The bound.
        most: u32,
    },
    /// The agent is disconnected, deactivated, or drained.
    AgentInactive {
        /// Which of these.
        why: Inactive,
    },
    /// Nothing of the agent is free for the role: it is used, offered, or reserved for others.
    NothingFree {
        /// What others have reserved.
        reserved: Resources,
    },
    /// What is free is less than the minimum for an offer.
    UnderMinimum {
        /// What is free for the role.
        free: Resources,
    },
    /// What is free is less than a task needs.
    TooSmall {
        /// What is missing.
        missing: Resources,
    },
    /// It refused as much until then.
    Filtered {
        /// When the filter ends.
        until: Time,
    },
    /// A constraint of its own does not hold of the agent.
    Constraint {
        /// The first that fails in each group.
        failing: Vec<String>,
    },
    /// The agent has gpus, and the framework does not say that it can use some.
    Gpus,
    /// The agent is in another region, and the framework does not say that it is aware of regions.
    Region {
        /// The agent's.
        region: String,
    },
    /// The quota limit of the role, or of one above it, leaves no room.
    QuotaLimit {
        /// Whose limit.
        role: Role,
        /// What it may still have.
        room: Resources,
        /// What agents have that are yet to return, as far as the limit names it: it may be using that.
        expected: Resources,
    },
    /// What is free must be left for the guarantees of others.
    Headroom {
        /// What is missing beyond what is kept.
        kept: Resources,
    },
}

impl Obstacle {
    /// Its name for programs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Obstacle::Disconnected => "disconnected",
            Obstacle::Suppressed => "suppressed",
            Obstacle::OffersMax { .. } => "offers_max",
            Obstacle::AgentInactive { .. } => "agent_inactive",
            Obstacle::NothingFree { .. } => "nothing_free",
            Obstacle::UnderMinimum { .. } => "under_minimum",
            Obstacle::TooSmall { .. } => "too_small",
            Obstacle::Filtered { .. } => "filtered",
            Obstacle::Constraint { .. } => "constraint",
            Obstacle::Gpus => "gpus",
            Obstacle::Region { .. } => "region",
            Obstacle::QuotaLimit { .. } => "quota_limit",
            Obstacle::Headroom { .. } => "headroom",
        }
    }
}

impl Verdict {
    /// Its name for programs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Verdict::Offered(_) => "offered",
            Verdict::Behind(_) => "behind",
            Verdict::Blocked(obstacle) => obstacle.code(),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Disconnected => f.write_str("the framework is disconnected"),
            Obstacle::Suppressed => f.write_str("the framework has suppressed the role; it must revive it"),
            Obstacle::OffersMax { outstanding, most } => {
                write!(f, "the framework holds {outstanding} offers of at most {most}; it must answer some")
            }
            Obstacle::AgentInactive { why } => write!(f, "the agent {why}"),
            Obstacle::NothingFree { reserved } if reserved.is_empty() => {
                f.write_str("nothing of the agent is free")
            }
            Obstacle::NothingFree { reserved } => {
                write!(f, "what is free of the agent is kept for other roles: {reserved}")
            }
            Obstacle::UnderMinimum { free } => {
                write!(f, "what is free, {free}, is under the minimum for an offer")
            }
            Obstacle::TooSmall { missing } => write!(f, "too little is free, missing {missing}"),
            Obstacle::Filtered { until } => write!(f, "the framework refused as much, until {until}"),
            Obstacle::Constraint { failing } => {
                write!(
                    f,
                    "the framework's own constraints exclude the agent; not so: {}",
                    failing.join("; or ")
                )
            }
            Obstacle::Gpus => {
                f.write_str("the agent has gpus, and the framework lacks the capability gpu_resources")
            }
            Obstacle::Region { region } => {
                write!(
                    f,
                    "the agent is in region {region}, and the framework lacks the capability region_aware"
                )
            }
            Obstacle::QuotaLimit { role, room, expected } => {
                write!(f, "the quota limit of role {role} leaves ")?;
                match room.is_empty() {
                    true => f.write_str("nothing")?,
                    false => write!(f, "{room}")?,
                }
                match expected.is_empty() {
                    true => Ok(()),
                    false => {
                        write!(f, ", as it may be using {expected} on agents that have not returned yet")
                    }
                }
            }
            Obstacle::Headroom { kept } => {
                write!(f, "{kept} must stay free for the quota guarantees of other roles")
            }
        }
    }
}
