use std::{io::Cursor, time::Duration};

use apportion_allocator::{HierarchicalConfig, Question, Quota, SorterKind, Weight};
use apportion_master_core::{
    Cause, CommitId, Config as CoreConfig, ConnId, Event, Maintenance, OperatorCall, Recovered,
    RecoveredAgent, RemovedAgent, RequestId, RoleChange,
};
use apportion_proto::v1::{self, journal_record::Record as WireRecord};
use apportion_types::{
    Activation, AgentCapability, AgentInfo, Command, Drain, FrameworkInfo, Operation, Resources, Role,
    Source, TaskInfo, TaskState, TaskStatus, Time, Unavailability, UpdateId, Window,
    protocol::{
        agent::{AgentMessage, AgentTask},
        scheduler::{
            Accept, Call, Claim, DeclineCode, DeclineReason, InvalidTask, OfferOperation, ResourceRequest,
        },
    },
};
use proptest::{collection, option, prelude::*};

use super::*;
use crate::frame;

/// A journal in memory.
pub(crate) fn journal(header: &Header, records: &[(Time, WireRecord)]) -> Vec<u8> {
    let mut bytes = LINE.to_vec();
    assert!(frame::append(&v1::JournalHeader::from(header), &mut bytes));
    let mut last = header.started_at;
    for (at, record) in records {
        let delta_us = at.since(last).as_micros() as u64;
        let record = v1::JournalRecord { delta_us, record: Some(record.clone()) };
        assert!(frame::append(&record, &mut bytes));
        last = *at;
    }
    bytes
}

/// The record of an event.
pub(crate) fn record(event: Event) -> WireRecord {
    event::record(event).expect("it changes something")
}

/// Opens a journal in memory.
pub(crate) fn open(bytes: Vec<u8>) -> Result<Journal<Cursor<Vec<u8>>>, JournalError> {
    Journal::new("x.journal", Cursor::new(bytes))
}

pub(crate) fn header() -> Header {
    let at = Some(Time::from_micros(900_000));
    let activation = Activation::Draining(Drain { grace_max: Some(Duration::from_secs(3)), mark_gone: true });
    let unreachable =
        RecoveredAgent { info: agent_info(), unreachable: true, unreachable_at: at, activation };
    let recovered = Recovered {
        agents: [(of("m0-A0001"), RecoveredAgent::new(agent_info())), (of("m0-A0002"), unreachable)].into(),
        removed_agents: [
            (of("m0-A0003"), RemovedAgent { at, cause: Cause::Gone }),
            (of("m0-A0004"), RemovedAgent { at: None, cause: Cause::Left }),
        ]
        .into(),
        frameworks: [(of("m0-F0001"), framework_info())].into(),
        removed_frameworks: [of("m0-F0002")].into(),
        maintenance: Maintenance { windows: windows(), down: [of("web-1")].into() },
    };
    Header::new(CoreConfig::new("m1"), HierarchicalConfig::default(), recovered, Time::from_micros(1_000_000))
}

fn windows() -> Vec<Window> {
    let start = Time::from_micros(1_700_000_000_000_000);
    let window = |machines: &[&str], duration| Window {
        machines: machines.iter().map(|name| of(name)).collect(),
        unavailability: Unavailability { start, duration },
    };
    vec![window(&["web-1", "web-2"], Some(Duration::from_millis(90_000))), window(&["db"], None)]
}

fn of<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn framework_info() -> FrameworkInfo {
    FrameworkInfo {
        name: "f".into(),
        principal: "ann".into(),
        roles: vec![of("etl"), Role::default()],
        failover_timeout: Duration::from_millis(1500),
        labels: [("a".into(), "b".into())].into(),
    }
}

pub(crate) fn agent_info() -> AgentInfo {
    AgentInfo {
        hostname: "host".into(),
        address: "127.0.0.1:5051".into(),
        resources: of("cpus:4;mem:4096;ports:[1-9,20-30];x:{a,b}"),
        attributes: [("rack".into(), "a".into())].into(),
        domain: None,
        unenforced: Vec::new(),
        version: "0".into(),
        capabilities: AgentCapability::ALL.into(),
        work_dir_id: String::new(),
    }
}

pub(crate) fn task_info(id: &str) -> TaskInfo {
    TaskInfo {
        task_id: of(id),
        name: String::new(),
        resources: of("cpus:1;mem:64"),
        limits: of("cpus:2"),
        pids_max: Some(7),
        command: Command { argv: vec!["true".into()], env: [("A".into(), "b".into())].into() },
        kill_grace: Some(Duration::from_millis(7)),
        labels: [].into(),
        volumes: Vec::new(),
        container: Default::default(),
        supervision: Default::default(),
        group: None,
        execution: Default::default(),
    }
}

pub(crate) fn status(id: &str, state: TaskState, update: u64) -> TaskStatus {
    TaskStatus {
        task_id: of(id),
        agent_id: None,
        state,
        reason: None,
        source: Source::Agent,
        message: "m".into(),
        at: Time::from_micros(5),
        update_id: Some(UpdateId::new(1, update)),
        container: None,
        findings: Default::default(),
        addresses: Vec::new(),
    }
}

fn round_trip(event: &Event) -> Result<Event, TestCaseError> {
    let header = header();
    let bytes = journal(&header, &[(header.started_at, record(event.clone()))]);
    let mut journal = open(bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(journal.header(), &header);
    let entry = journal.next().expect("there is one");
    match entry.map_err(|error| TestCaseError::fail(error.to_string()))?.record {
        Record::Event(event) => Ok(event),
        other => Err(TestCaseError::fail(format!("{other:?}"))),
    }
}

fn task() -> impl Strategy<Value = Result<TaskInfo, InvalidTask>> {
    let invalid = (option::of("[a-z]{1,4}"), ".{0,20}")
        .prop_map(|(id, message)| InvalidTask { task_id: id.map(|id| of(&id)), message });
    prop_oneof!["[a-z]{1,4}".prop_map(|id| Ok(task_info(&id))), invalid.prop_map(Err)]
}

fn event() -> impl Strategy<Value = Event> {
    let conn = || any::<u64>().prop_map(ConnId);
    let refuse = option::of((0..1_000_000u64).prop_map(Duration::from_millis));
    let accept = (collection::vec("[a-z]{1,4}", 0..3), collection::vec(task(), 0..6), refuse).prop_map(
        |(offers, tasks, refuse)| {
            let operations = vec![OfferOperation::Launch(tasks)];
            Call::Accept(Accept { offers: offers.iter().map(|id| of(id)).collect(), operations, refuse })
        },
    );
    let convert = OfferOperation::Convert {
        id: Some(of("op1")),
        operation: Operation::Reserve { resources: of("cpus(+etl@ann):1") },
    };
    let waiting = vec![ResourceRequest { resources: of("cpus:1"), count: 3 }];
    let claim = Claim { agent_id: of("a1"), tasks: vec![Ok(task_info("t"))] };
    let others = proptest::sample::select(vec![
        Call::Subscribe {
            info: framework_info(),
            framework_id: Some(of("f1")),
            suppressed: vec![of("etl")],
            options: Box::default(),
        },
        Call::Gang {
            accepts: vec![Accept { offers: vec![of("o1")], operations: vec![convert], refuse: None }],
        },
        Call::Request { role: of("etl"), requests: waiting },
        Call::WatchFree { on: true },
        Call::Commit { role: of("etl"), claims: vec![claim], all_or_nothing: true },
        Call::Teardown,
        Call::Decline {
            offers: vec![of("o1"), of("o2")],
            refuse: None,
            reason: DeclineReason::new(DeclineCode::TooSmall),
        },
        Call::Suppress { roles: Vec::new() },
        Call::Revive { roles: vec![of("a/b")] },
        Call::Kill { task_id: of("t"), grace: Some(Duration::ZERO) },
        Call::Acknowledge { agent_id: of("a1"), task_id: of("t"), update_id: UpdateId::new(1, 2) },
        Call::Reconcile { tasks: vec![(of("t"), None), (of("u"), Some(of("a1")))] },
    ]);
    let agent_task = AgentTask {
        framework_id: of("f1"),
        framework_info: framework_info(),
        role: of("etl"),
        info: task_info("t"),
        state: TaskState::Running,
        unacknowledged: Some(status("t", TaskState::Starting, 3)),
    };
    let messages = proptest::sample::select(vec![
        AgentMessage::Register {
            info: agent_info(),
            agent_id: None,
            total: of("cpus(+etl@ann):1"),
            tasks: vec![agent_task],
            operations: Vec::new(),
        },
        AgentMessage::StatusUpdate {
            framework_id: of("f1"),
            status: status("t", TaskState::Running, 1),
            latest_state: TaskState::Failed,
        },
        AgentMessage::Pong { sequence: 4 },
        AgentMessage::Unregister { message: "bye".into() },
    ]);
    let grace = option::of(any::<u32>().prop_map(|ms| Duration::from_millis(ms.into())));
    let operator = prop_oneof![
        (option::of("[a-z]{1,4}"), grace).prop_map(|(id, grace)| OperatorCall::KillTask {
            framework_id: id.map(|id| of(&id)),
            task_id: of("t"),
            grace
        }),
        Just(OperatorCall::UpdateSchedule { windows: windows() }),
        Just(OperatorCall::StartMaintenance { machines: ["m1".parse().unwrap()].into() }),
        Just(OperatorCall::StopMaintenance {
            machines: ["m1".parse().unwrap(), "m2".parse().unwrap()].into()
        }),
        Just(OperatorCall::TeardownFramework { framework_id: of("f1") }),
        Just(OperatorCall::DeactivateAgent { agent_id: of("a1") }),
        Just(OperatorCall::ReactivateAgent { agent_id: of("a1") }),
        Just(OperatorCall::MarkAgentGone { agent_id: of("a1") }),
        (option::of(0..=86_400_000u64), any::<bool>()).prop_map(|(grace, mark_gone)| {
            let drain = Drain { grace_max: grace.map(Duration::from_millis), mark_gone };
            OperatorCall::DrainAgent { agent_id: of("a1"), drain }
        }),
        (option::of(1..u32::MAX), option::of(any::<i32>()), any::<bool>()).prop_map(
            |(weight, priority, force)| {
                let quota = Some(Quota { guarantee: of("cpus:2"), limit: Some(of("cpus:4;gpus:0")) });
                let weight = weight.and_then(Weight::from_milli);
                let changes = [(of("etl"), RoleChange { weight, quota, priority })].into();
                OperatorCall::UpdateRoles { changes, force }
            }
        ),
        Just(OperatorCall::Operate {
            agent_id: of("a1"),
            operation: Operation::Create { volumes: of("disk(+etl@ann)[data=data]:64") },
        }),
    ];
    prop_oneof![
        (conn(), any::<u64>(), prop_oneof![accept, others])
            .prop_map(|(conn, call_id, call)| { Event::SchedulerCall { conn, call_id, call } }),
        conn().prop_map(|conn| Event::SchedulerClosed { conn }),
        (conn(), messages).prop_map(|(conn, message)| Event::AgentMessage { conn, message }),
        conn().prop_map(|conn| Event::AgentClosed { conn }),
        (any::<u64>(), operator)
            .prop_map(|(request, call)| Event::Operator { request: RequestId(request), call }),
        any::<u64>().prop_map(|commit| Event::Committed { commit: CommitId(commit) }),
        Just(Event::Tick),
        Just(Event::Shutdown),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_event_comes_back_as_it_was(event in event()) {
        prop_assert_eq!(round_trip(&event)?, event);
    }
}

#[test]
fn a_question_leaves_no_record() {
    let question = Question { framework: of("f1"), agent: None, needs: Resources::new() };
    for call in [OperatorCall::Explain(question), OperatorCall::Shares] {
        assert_eq!(event::record(Event::Operator { request: RequestId(1), call }), None);
    }
}

#[test]
fn settings_of_the_allocator_come_back_as_they_were() {
    let mut header = header();
    header.allocator.allocatable_min = vec![Resources::new(), of("cpus:1;mem:3")];
    header.allocator.fairness_excluded = vec![apportion_types::resources::Name::Gpus];
    header.allocator.weights = [(of("etl"), of("1.5"))].into();
    let quota = Quota { guarantee: of("cpus:2"), limit: Some(of("cpus:4;gpus:0")) };
    header.allocator.quotas = [(Role::default(), quota)].into();
    header.allocator.filter_gpus = true;
    header.allocator.region = Some("eu".to_owned());
    header.allocator.offers_max = 7;
    header.allocator.sorter = SorterKind::Random { seed: u64::MAX };
    assert_eq!(open(journal(&header, &[])).unwrap().header(), &header);
}

#[test]
fn a_header_that_no_master_can_have_is_refused_by_name() {
    let refusal = |change: fn(&mut Header)| {
        let mut header = header();
        change(&mut header);
        open(journal(&header, &[])).unwrap_err().to_string()
    };
    let text = refusal(|header| header.core.scheduler_heartbeat = Duration::ZERO);
    assert!(text.contains("the setting `scheduler_heartbeat` is 0s; set it to 1ms or more"), "{text}");
    assert!(text.contains("at byte 20 of the journal x.journal"), "{text}");
    assert!(refusal(|header| header.core.master_id = "a b".into()).contains("cannot be the start of ids"));
    assert!(refusal(|header| header.core.master_id = "x".repeat(190)).contains("cannot be the start of ids"));
    assert!(refusal(|header| header.started_at = Time::from_micros(u64::MAX)).contains("so late a time"));
}

#[test]
fn a_task_that_was_taken_and_is_refused_now_is_an_error() {
    let call = Call::Accept(Accept::launch(Vec::new(), vec![task_info("t")], None));
    let mut wire = record(Event::SchedulerCall { conn: ConnId(1), call_id: 1, call });
    let WireRecord::SchedulerCall(call) = &mut wire else { panic!("{wire:?}") };
    let request = call.request.as_mut().unwrap().call.as_mut().unwrap();
    let v1::scheduler_service_connect_request::Call::Accept(accept) = request else { panic!("{request:?}") };
    let Some(v1::operation::Operation::Launch(launch)) = &mut accept.operations[0].operation else {
        panic!("{accept:?}")
    };
    launch.tasks[0].pids_max = Some(0);
    let error =
        open(journal(&header(), &[(header().started_at, wire)])).unwrap().next().unwrap().unwrap_err();
    assert!(error.to_string().contains("a task that was taken is refused: "), "{error}");
}

#[test]
fn other_files_and_formats_are_told_apart() {
    let refusal = |bytes: &[u8]| open(bytes.to_vec()).unwrap_err();
    for other in [&b""[..], b"apportion log 1\n", b"apportion journal", b"{\"a\": 1}", &[0; 100]] {
        let error = refusal(other);
        assert!(matches!(error, JournalError::NotAJournal { .. }), "{error}");
        assert!(error.to_string().contains("x.journal is not a journal"), "{error}");
    }
    let error = refusal(b"apportion journal 2\nwhatever").to_string();
    assert!(error.contains("x.journal is a journal of format `2` (byte 0)"), "{error}");
    assert!(error.contains("read it with the version that wrote it"), "{error}");
    let error = refusal(LINE);
    assert!(matches!(error, JournalError::Cut { offset: 20, .. }), "{error}");
}
