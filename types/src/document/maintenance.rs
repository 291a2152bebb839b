//! Documents about maintenance: the schedule, and how machines stand.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Amounts;
use crate::{AgentId, FrameworkId, MachineId, MachineMode, OfferId, Time, Unavailability, Window};

/// The maintenance schedule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceSchedule {
    /// Its windows.
    pub windows: Vec<MaintenanceWindow>,
}

/// Machines that will be taken away together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceWindow {
    /// The host names of their agents.
    pub machines: Vec<MachineId>,
    /// From when.
    pub start_us: Time,
    /// For how long; until somebody says otherwise when none.
    #[serde(default)]
    pub duration_ms: Option<u64>,
}

impl From<&Window> for MaintenanceWindow {
    fn from(window: &Window) -> Self {
        Self {
            machines: window.machines.iter().cloned().collect(),
            start_us: window.unavailability.start,
            duration_ms: millis(window.unavailability),
        }
    }
}

/// Whole milliseconds of a duration, rounded up.
pub(crate) fn millis(unavailability: Unavailability) -> Option<u64> {
    let whole = |duration: Duration| duration.as_micros().div_ceil(1000);
    unavailability.duration.map(|duration| u64::try_from(whole(duration)).unwrap_or(u64::MAX))
}

/// How a machine stands with its maintenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineStatus {
    /// The host name of its agents.
    pub machine: MachineId,
    /// Whether something is planned, or done.
    pub mode: MachineMode,
    /// Its windows, the next one first.
    pub windows: Vec<MachineWindow>,
    /// Its agents.
    pub agents: Vec<MachineAgent>,
}

/// A window of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineWindow {
    /// From when.
    pub start_us: Time,
    /// For how long; until somebody says otherwise when none.
    pub duration_ms: Option<u64>,
}

impl From<Unavailability> for MachineWindow {
    fn from(unavailability: Unavailability) -> Self {
        Self { start_us: unavailability.start, duration_ms: millis(unavailability) }
    }
}

/// An agent of a machine, and who is to leave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineAgent {
    /// Its id.
    pub agent_id: AgentId,
    /// `active`, `disconnected`, `unreachable` or `recovered`.
    pub state: &'static str,
    /// Frameworks with tasks that hold something there.
    pub frameworks: Vec<InverseOfferState>,
}

/// What is known of a framework's leaving an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InverseOfferState {
    /// Its id.
    pub framework_id: FrameworkId,
    /// Its name.
    pub framework_name: String,
    /// `pending`, `accepted`, `declined`, or `not_asked` of one that takes no inverse offers.
    pub answer: &'static str,
    /// Why it declined.
    pub reason: String,
    /// When it answered.
    pub answered_at_us: Option<Time>,
    /// What is outstanding.
    pub inverse_offer_id: Option<OfferId>,
    /// When that will be rescinded by itself.
    pub expires_at_us: Option<Time>,
    /// What it holds there.
    pub resources: Amounts,
}
