//! What executors say and hear.

use super::*;

fn update() -> impl Strategy<Value = ExecutorUpdate> {
    let state = proptest::sample::select(&ExecutorUpdate::STATES[..]);
    (run_id(), update_id(), state, ".{0,8}", option::of(any::<bool>())).prop_map(
        |(run_id, update_id, state, message, healthy)| ExecutorUpdate {
            run_id,
            update_id,
            state,
            message,
            healthy,
        },
    )
}

pub(in crate::convert) fn executor_call() -> impl Strategy<Value = ExecutorCall> {
    prop_oneof![
        (collection::vec(run_id(), 0..3), collection::vec(update(), 0..3))
            .prop_map(|(runs, unacknowledged)| ExecutorCall::Subscribe { runs, unacknowledged }),
        update().prop_map(ExecutorCall::Update),
    ]
}

pub(in crate::convert) fn executor_event() -> impl Strategy<Value = ExecutorEvent> {
    let code = proptest::sample::select(vec![
        ExecutorRefuseCode::Invalid,
        ExecutorRefuseCode::Replaced,
        ExecutorRefuseCode::TooSlow,
        ExecutorRefuseCode::ShuttingDown,
        ExecutorRefuseCode::Ended,
    ]);
    prop_oneof![
        (framework_id(), task_id(), option::of(agent_id())).prop_map(|(framework_id, executor, agent_id)| {
            ExecutorEvent::Subscribed { framework_id, executor, agent_id }
        }),
        (run_id(), task_info()).prop_map(|(run_id, info)| ExecutorEvent::Launch { run_id, info }),
        (run_id(), millis(limits::KILL_GRACE_MAX), reason())
            .prop_map(|(run_id, grace, reason)| ExecutorEvent::Kill { run_id, grace, reason }),
        update_id().prop_map(|update_id| ExecutorEvent::Acknowledge { update_id }),
        (code, ".{0,8}").prop_map(|(code, message)| ExecutorEvent::Refuse { code, message }),
    ]
}
