//! What is found in a journal, as `-o json` gives it.

use std::{collections::BTreeMap, path::Path};

use apportion_master::replay::{
    self, Allocation, Cycle, Ending, Replay, RoleDifference, StateDocument, Sum, by_role,
};
use apportion_types::{AgentId, FrameworkId, Role, Time, document::Amounts};
use serde::Serialize;

use super::change::Change;

/// How a replay came to its end.
#[derive(Debug)]
pub(super) enum How {
    Ended(Ending),
    /// The journal could not be read any further; why.
    Broken(String),
}

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub(super) journal: JournalAnswer,
    /// As `/api/v1/state` of the master would have shown it.
    pub(super) state: StateDocument,
    pub(super) counts: Counts,
    pub(super) shares: Vec<Share>,
    /// With --set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) what_if: Option<WhatIfAnswer>,
}

/// What was replayed.
#[derive(Debug, Serialize)]
pub(super) struct JournalAnswer {
    pub(super) path: String,
    /// Of the software that recorded.
    pub(super) version: String,
    pub(super) master_id: String,
    pub(super) started_at_us: Time,
    /// The time of the last event that was replayed.
    pub(super) replayed_until_us: Time,
    pub(super) events: u64,
    /// `complete`, `incomplete`, `open`, `until` or `broken`.
    pub(super) ending: &'static str,
    /// Why the journal is incomplete or broken.
    pub(super) ending_reason: Option<String>,
}

/// What happened since the start.
#[derive(Debug, Serialize)]
pub(super) struct Counts {
    pub(super) allocation_cycles: u64,
    pub(super) offers_made: u64,
    pub(super) offers_accepted: u64,
    pub(super) offers_declined: u64,
    pub(super) offers_rescinded: u64,
    pub(super) tasks_launched: u64,
    /// Tasks that are remembered, by state.
    pub(super) tasks_by_state: BTreeMap<&'static str, u64>,
}

/// A role, or a framework in it, in order of fairness.
#[derive(Debug, Serialize)]
pub(super) struct Share {
    pub(super) role: Role,
    /// None for the role as a whole.
    pub(super) framework_id: Option<FrameworkId>,
    pub(super) dominant_share: f64,
    /// Offered or used.
    pub(super) allocated: Amounts,
    pub(super) allocations: u64,
}

/// What other settings would have offered.
#[derive(Debug, Serialize)]
pub(super) struct WhatIfAnswer {
    pub(super) set: Vec<String>,
    pub(super) cycles: Vec<CycleAnswer>,
    pub(super) roles: Vec<RoleAnswer>,
}

#[derive(Debug, Serialize)]
pub(super) struct CycleAnswer {
    pub(super) at_us: Time,
    /// Was offered, and would not have been.
    pub(super) only_in_run: Vec<Given>,
    /// Would have been offered, and was not.
    pub(super) only_with_set: Vec<Given>,
}

#[derive(Debug, Serialize)]
pub(super) struct Given {
    pub(super) role: Role,
    pub(super) framework_id: FrameworkId,
    pub(super) agent_id: AgentId,
    pub(super) resources: Amounts,
}

#[derive(Debug, Serialize)]
pub(super) struct RoleAnswer {
    pub(super) role: Role,
    pub(super) only_in_run: SumAnswer,
    pub(super) only_with_set: SumAnswer,
}

#[derive(Debug, Serialize)]
pub(super) struct SumAnswer {
    pub(super) offers: u64,
    pub(super) resources: Amounts,
}

impl Answer {
    pub(super) fn new(path: &Path, replay: &Replay, how: &How, what_if: Option<WhatIfAnswer>) -> Answer {
        let (view, header) = (replay.view(), replay.header());
        let (ending, ending_reason) = match how {
            How::Ended(Ending::Complete) => ("complete", None),
            How::Ended(Ending::Incomplete(why)) => ("incomplete", Some(why.clone())),
            How::Ended(Ending::Open) => ("open", None),
            How::Ended(Ending::Until) => ("until", None),
            How::Broken(why) => ("broken", Some(why.clone())),
        };
        let mut tasks_by_state = BTreeMap::new();
        for task in view.tasks.values().chain(view.completed.values()) {
            *tasks_by_state.entry(task.state.name()).or_default() += 1;
        }
        let share = |share: replay::Share| Share {
            role: share.role,
            framework_id: share.framework,
            dominant_share: share.dominant_share_ppm as f64 / 1e6,
            allocated: Amounts(share.allocated),
            allocations: share.allocations,
        };
        Answer {
            journal: JournalAnswer {
                path: path.display().to_string(),
                version: header.version.clone(),
                master_id: header.core.master_id.clone(),
                started_at_us: header.started_at,
                replayed_until_us: replay.now(),
                events: replay.events(),
                ending,
                ending_reason,
            },
            state: replay.document(),
            counts: Counts {
                allocation_cycles: view.counters.allocation_cycles,
                offers_made: view.counters.offers_made,
                offers_accepted: view.counters.offers_accepted,
                offers_declined: view.counters.offers_declined,
                offers_rescinded: view.counters.offers_rescinded,
                tasks_launched: view.counters.tasks_launched,
                tasks_by_state,
            },
            shares: replay.shares().into_iter().map(share).collect(),
            what_if,
        }
    }
}

impl WhatIfAnswer {
    pub(super) fn new(set: &[Change], cycles: Vec<Cycle>) -> WhatIfAnswer {
        let sum = |sum: Sum| SumAnswer { offers: sum.allocations, resources: Amounts(sum.resources) };
        let role = |(role, difference): (Role, RoleDifference)| RoleAnswer {
            role,
            only_in_run: sum(difference.only_real),
            only_with_set: sum(difference.only_other),
        };
        let roles = by_role(&cycles).into_iter().map(role).collect();
        let given = |all: Vec<Allocation>| all.into_iter().map(Given::from).collect();
        let cycle = |cycle: Cycle| CycleAnswer {
            at_us: cycle.at,
            only_in_run: given(cycle.only_real),
            only_with_set: given(cycle.only_other),
        };
        WhatIfAnswer {
            set: set.iter().map(ToString::to_string).collect(),
            cycles: cycles.into_iter().map(cycle).collect(),
            roles,
        }
    }
}

impl From<Allocation> for Given {
    fn from(Allocation { framework, role, agent, resources }: Allocation) -> Given {
        Given { role, framework_id: framework, agent_id: agent, resources: Amounts(resources) }
    }
}
