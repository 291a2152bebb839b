//! Random sequences of events, sensible and senseless: the laws of `check.rs` hold after each, and whatever a sensible peer is
//! promised is kept.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod cluster;

use std::collections::BTreeMap;

use apportion_master_core::Action;
use apportion_types::protocol::{agent::MasterMessage, scheduler::Event};
use cluster::Cluster;
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// The master checks its laws after each event by itself; it panics on its own mistakes and on nobody else's.
    #[test]
    fn the_laws_hold_whatever_happens(earlier: bool, ops in proptest::collection::vec(cluster::op(), 1..120)) {
        let mut cluster = Cluster::warm(earlier);
        for op in &ops {
            cluster.play(op);
        }
    }

    /// The same events lead to the same actions.
    #[test]
    fn the_same_events_lead_to_the_same_actions(ops in proptest::collection::vec(cluster::op(), 1..60)) {
        let play = || {
            let mut cluster = Cluster::warm(false);
            ops.iter().for_each(|op| cluster.play(op));
            cluster.log
        };
        prop_assert_eq!(play(), play());
    }

    /// When all is heard and every peer behaves, everything comes to rest: every task ends, every end is acknowledged once it
    /// is told, and every agent is whole again.
    #[test]
    fn everything_comes_to_rest_when_peers_behave(earlier: bool, ops in proptest::collection::vec(cluster::op(), 1..80)) {
        let mut cluster = Cluster::warm(earlier);
        for op in &ops {
            cluster.play(op);
        }
        cluster.settle();
        let view = cluster.view();
        prop_assert_eq!(view.tasks.len(), 0, "tasks are left: {:?}", view.tasks);
        for agent in view.agents.values() {
            prop_assert!(agent.allocated.is_empty(), "agent {} holds {}", agent.agent_id, agent.allocated);
        }
    }
}

#[test]
fn a_shut_down_master_tells_all_and_says_no_more() {
    Cluster::warm(false).shut_down();
}

/// What kind of thing an action is, for counting.
fn kind(action: &Action) -> String {
    match action {
        Action::ToScheduler { event: Event::Update(status), .. } => {
            let reason = status.reason.map_or("", |reason| reason.name());
            format!("update {} {reason} {:?}", status.state, status.source)
        }
        Action::ToScheduler { event: Event::Refused { code, .. }, .. } => format!("refused {code:?}"),
        Action::ToScheduler { event: Event::Error { code, .. }, .. } => format!("error {code:?}"),
        Action::ToScheduler { event, .. } => name(event),
        Action::ToAgent { message: MasterMessage::Refuse { code, .. }, .. } => format!("refuse {code:?}"),
        Action::ToAgent { message: MasterMessage::Registered { missing_tasks, .. }, .. } => {
            format!("registered, missing some: {}", !missing_tasks.is_empty())
        }
        Action::ToAgent { message, .. } => name(message),
        Action::Commit { op, .. } => name(op),
        Action::Reply { result, .. } => name(result),
        Action::CloseScheduler { .. } | Action::CloseAgent { .. } => "close".to_owned(),
    }
}

/// The first word of a value's form.
fn name(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or("").to_owned()
}

/// The sequences are of use only if they get anywhere.
#[test]
fn the_random_sequences_get_everywhere() {
    let mut runner = TestRunner::deterministic();
    let ops = proptest::collection::vec(cluster::op(), 60..120);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..200 {
        let mut cluster = Cluster::warm(false);
        ops.new_tree(&mut runner).unwrap().current().iter().for_each(|op| cluster.play(op));
        cluster.log.iter().for_each(|action| *counts.entry(kind(action)).or_default() += 1);
    }
    let expected = [
        "AcknowledgeUpdate",
        "AgentLost",
        "Drain",
        "KillTask",
        "MarkUnreachable",
        "Offers",
        "RemoveAgent",
        "RemoveFramework",
        "Rescind",
        "RunTasks",
        "SetActivation",
        "StandingBy",
        "error FailedOver",
        "error Refused",
        "error Removed",
        "refuse Gone",
        "refuse Invalid",
        "refuse Replaced",
        "refused Invalid",
        "refused InvalidOffers",
        "refused NotFound",
        "refused OutOfOrder",
        "registered, missing some: true",
        "update dropped  Agent",
        "update dropped invalid_offers Master",
        "update error task_invalid Master",
        "update failed  Agent",
        "update gone agent_removed Master",
        "update gone_by_operator agent_removed Master",
        "update killed  Agent",
        "update running  Agent",
        "update running agent_reregistered Master",
        "update unreachable agent_unreachable Master",
    ];
    let missing: Vec<_> = expected.iter().filter(|kind| !counts.contains_key(**kind)).collect();
    assert!(missing.is_empty(), "never seen: {missing:?}, of {counts:#?}");
}
