//! Roles, reservations and volumes.

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, Serializer};

use super::Amounts;
use crate::{
    AgentId, FrameworkId, Resources, Role, VolumeId,
    resources::{Name, Value},
};

/// A role, what is set for it, and what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleState {
    /// What is set for it.
    #[serde(flatten)]
    pub settings: RoleSettings,
    /// Offered to and used by its frameworks and those of roles below it.
    pub allocated: Amounts,
    /// Reserved for it and for roles below it, used or not.
    pub reserved: Amounts,
    /// Its dominant share, in millionths of the cluster.
    pub dominant_share_ppm: u64,
    /// Its own frameworks, in order of fairness; the first hundred.
    pub frameworks: Vec<RoleFramework>,
    /// All of them.
    pub framework_count: u64,
}

/// What an operator has set for a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleSettings {
    /// The role.
    pub role: Role,
    /// How much it counts beside its siblings, in thousandths.
    pub weight_milli: u32,
    /// Whom it may preempt: those of lower priority.
    pub priority: i32,
    /// Kept for it while it has less.
    pub guarantee: Amounts,
    /// The most that it may have; whatever there is when none.
    pub limit: Option<Limit>,
}

/// The most of some scalars, in thousandths by name. Zero forbids, so it is no [`Resources`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit(pub BTreeMap<Name, i64>);

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, milli)) in self.0.iter().enumerate() {
            write!(f, "{}{name}:{}", if index == 0 { "" } else { ";" }, Value::Scalar(*milli))?;
        }
        Ok(())
    }
}

/// Written as [`Amounts`] are.
impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            text: String,
            scalars: BTreeMap<&'a str, f64>,
        }
        let scalars = self.0.iter().map(|(name, milli)| (name.as_str(), *milli as f64 / 1000.0)).collect();
        Form { text: self.to_string(), scalars }.serialize(serializer)
    }
}

/// The share of a framework within a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleFramework {
    /// The framework.
    pub framework_id: FrameworkId,
    /// Offered to it and used by it.
    pub allocated: Amounts,
    /// In millionths of the cluster.
    pub dominant_share_ppm: u64,
}

/// All that one agent has under one reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReservationState {
    /// The agent.
    pub agent_id: AgentId,
    /// Its host.
    pub hostname: String,
    /// For whom it is kept.
    pub role: Role,
    /// Whether an operation made it; else it stands in the agent's own settings.
    pub dynamic: bool,
    /// Who made it.
    pub principal: String,
    /// What is reserved, on its terms; volumes among it.
    pub resources: Amounts,
}

/// A persistent volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeState {
    /// The agent.
    pub agent_id: AgentId,
    /// Its host.
    pub hostname: String,
    /// For whom its disk is kept.
    pub role: Role,
    /// Its name for its role on its agent.
    pub volume_id: VolumeId,
    /// Where a task sees it.
    pub path: String,
    /// Whether several tasks may use it at once.
    pub shared: bool,
    /// Who made its disk's reservation.
    pub principal: String,
    /// It as it is, on its terms.
    pub resources: Amounts,
    /// Whether tasks use it.
    pub used: bool,
}

impl RoleSettings {
    /// What is set for a role for which nothing is.
    pub fn none(role: Role) -> Self {
        let guarantee = Amounts(Resources::new());
        Self { role, weight_milli: 1000, priority: 0, guarantee, limit: None }
    }
}
