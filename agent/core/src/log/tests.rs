use std::time::Duration;

use apportion_types::{Command, FrameworkInfo, OperationState, Role, Source, TaskInfo, TaskState, Time};

use super::*;
use crate::ContainerId;

fn framework_id() -> FrameworkId {
    FrameworkId::new("f1").unwrap()
}

fn task_id(id: &str) -> TaskId {
    TaskId::new(id).unwrap()
}

fn agent(id: &str) -> Record {
    Record::Agent { agent_id: AgentId::new(id).unwrap() }
}

fn task(id: &str) -> Record {
    Record::Task(Box::new(TaskRecord {
        framework_id: framework_id(),
        framework_info: FrameworkInfo {
            name: "test".to_owned(),
            principal: String::new(),
            roles: vec![Role::default()],
            failover_timeout: Duration::from_secs(60),
            labels: BTreeMap::new(),
        },
        role: Role::default(),
        info: TaskInfo {
            task_id: task_id(id),
            name: String::new(),
            resources: "cpus:1".parse().unwrap(),
            limits: Resources::new(),
            pids_max: None,
            volumes: Vec::new(),
            command: Command { argv: vec!["work".to_owned()], env: BTreeMap::new() },
            kill_grace: None,
            labels: BTreeMap::new(),
            container: Default::default(),
            supervision: Default::default(),
            group: None,
            execution: Default::default(),
        },
        container_id: ContainerId(format!("c-{id}")),
        cores: None,
    }))
}

fn status(id: &str, number: u64, state: TaskState) -> TaskStatus {
    TaskStatus {
        task_id: task_id(id),
        agent_id: None,
        state,
        reason: None,
        source: Source::Agent,
        message: String::new(),
        at: Time::from_micros(number),
        update_id: Some(UpdateId::new(1, number)),
        container: None,
        findings: Default::default(),
        addresses: Vec::new(),
    }
}

fn update(id: &str, number: u64, state: TaskState) -> Record {
    Record::Update { framework_id: framework_id(), status: status(id, number, state) }
}

fn acknowledgement(id: &str, number: u64) -> Record {
    Record::Acknowledgement {
        framework_id: framework_id(),
        task_id: task_id(id),
        update_id: UpdateId::new(1, number),
    }
}

fn log(records: impl IntoIterator<Item = Record>) -> Log {
    let mut log = Log::default();
    records.into_iter().for_each(|record| log.apply(record).unwrap());
    log
}

fn operation(id: &str, number: u64, total: Option<&str>) -> Record {
    let status = OperationStatus {
        operation_id: OperationId::new(id).unwrap(),
        agent_id: None,
        state: OperationState::Finished,
        reason: None,
        message: String::new(),
        at: Time::from_micros(number),
        update_id: Some(UpdateId::new(1, number)),
    };
    Record::Operation {
        total: total.map(|total| total.parse().unwrap()),
        outcome: Some(AgentOperation { framework_id: framework_id(), status }),
    }
}

fn operation_acknowledgement(id: &str, number: u64) -> Record {
    Record::OperationAcknowledgement {
        framework_id: framework_id(),
        operation_id: OperationId::new(id).unwrap(),
        update_id: UpdateId::new(1, number),
    }
}

fn times(id: &str, started_at: Option<u64>, kill_at: Option<u64>) -> Record {
    let time = |micros: Option<u64>| micros.map(Time::from_micros);
    let times = Times { started_at: time(started_at), kill_at: time(kill_at) };
    Record::Times { framework_id: framework_id(), task_id: task_id(id), times }
}

fn process(boot_id: &str) -> ProcessRecord {
    let settings = crate::Settings {
        hostname: "host".to_owned(),
        resources: "cpus:4".parse().unwrap(),
        attributes: BTreeMap::new(),
        domain: None,
    };
    ProcessRecord { boot_id: Some(boot_id.to_owned()), settings }
}

/// Three tasks: one that runs, one whose end is acknowledged, one whose end is not; a stray; and three operations: one whose outcome is
/// acknowledged, one that nobody named, one that was refused.
fn some() -> Log {
    use TaskState::*;
    log([
        agent("a1"),
        Record::Process(process("one")),
        Record::Process(process("two")),
        task("runs"),
        task("over"),
        task("ended"),
        update("runs", 1, Starting),
        update("over", 2, Starting),
        update("ended", 3, Starting),
        acknowledgement("runs", 1),
        acknowledgement("over", 2),
        times("runs", Some(4), None),
        times("runs", None, Some(9)),
        times("over", Some(5), None),
        times("runs", None, Some(7)),
        update("runs", 4, Running),
        update("over", 5, Failed),
        update("ended", 6, Finished),
        acknowledgement("over", 5),
        acknowledgement("ended", 3),
        update("stray", 7, Gone),
        operation("done", 8, Some("cpus:3;cpus(+eng):1")),
        operation_acknowledgement("done", 8),
        Record::Operation { total: Some("cpus:2;cpus(+eng):2".parse().unwrap()), outcome: None },
        operation("refused", 9, None),
    ])
}

#[test]
fn what_is_not_over_is_recovered() {
    use TaskState::*;
    let recovered = some().recovered();
    assert_eq!(recovered.agent_id.unwrap().as_str(), "a1");
    assert!(!recovered.damaged);
    let Record::Task(ended) = task("ended") else { unreachable!() };
    let ended = RecoveredTask {
        task: *ended,
        waits: false,
        acknowledged: Some(status("ended", 3, Starting)),
        updates: vec![status("ended", 6, Finished)],
        times: Times::default(),
    };
    assert_eq!((recovered.tasks.len(), &recovered.tasks[0]), (2, &ended));
    assert_eq!(recovered.tasks[1].acknowledged, Some(status("runs", 1, Starting)));
    assert_eq!(recovered.tasks[1].updates, [status("runs", 4, Running)]);
    let (started_at, kill_at) = (Some(Time::from_micros(4)), Some(Time::from_micros(7)));
    assert_eq!(recovered.tasks[1].times, Times { started_at, kill_at });
    assert_eq!(recovered.process, Some(process("two")));
    assert_eq!(recovered.strays, [(framework_id(), status("stray", 7, Gone))]);
    assert_eq!(recovered.total, Some("cpus:2;cpus(+eng):2".parse().unwrap()));
    let operations: Vec<_> = recovered.operations.iter().map(|of| of.status.operation_id.as_str()).collect();
    assert_eq!(operations, ["refused"]);
}

#[test]
fn the_short_log_says_the_same_without_what_is_over() {
    let whole = some();
    let records: Vec<_> = whole.records().collect();
    assert!(
        !records
            .iter()
            .any(|record| matches!(record, Record::Task(task) if task.info.task_id.as_str() == "over"))
    );
    let what = "an agent, a process, a total, an outcome, two tasks with three records of updates each, the times of one, a stray";
    assert_eq!(records.len(), 14, "{what}");
    assert_eq!(log(records), whole);
    assert_eq!(Log::default().records().count(), 0);
}

#[test]
fn an_id_is_free_again_when_its_end_is_acknowledged() {
    let mut log = some();
    for record in [acknowledgement("ended", 6), acknowledgement("stray", 7), task("ended"), task("over")] {
        log.apply(record).unwrap();
    }
    let names = log.recovered().tasks.into_iter().map(|task| task.task.info.task_id.to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["ended", "over", "runs"]);
    assert!(log.recovered().strays.is_empty());
}

#[test]
fn a_record_that_does_not_follow_is_refused_and_changes_nothing() {
    let mut nameless = status("runs", 9, TaskState::Killing);
    nameless.update_id = None;
    let nameless = Record::Update { framework_id: framework_id(), status: nameless };
    let mut unfinished = operation("pending", 11, Some("cpus:9"));
    if let Record::Operation { outcome: Some(outcome), .. } = &mut unfinished {
        outcome.status.state = OperationState::Pending;
    }
    for (record, why) in [
        (task("runs"), "task `runs` is there already and has not ended"),
        (task("stray"), "task `stray` is there already and has not ended"),
        (nameless, "update of task `runs` has no update id"),
        (acknowledgement("nobody", 1), "does not name the head of the update stream of task `nobody`"),
        (times("over", Some(1), None), "task `over` was never taken on, or is over"),
        (times("stray", Some(1), None), "task `stray` was never taken on, or is over"),
        (acknowledgement("runs", 1), "does not name the head"),
        (acknowledgement("runs", 5), "does not name the head"),
        (operation("refused", 10, None), "outcome of operation `refused` is no new one"),
        (unfinished, "outcome of operation `pending` is no new one"),
        (operation_acknowledgement("refused", 10), "names no outcome of operation `refused`"),
        (operation_acknowledgement("done", 8), "names no outcome of operation `done`"),
    ] {
        let mut log = some();
        let error = log.apply(record).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(log, some(), "{why}");
    }
}

#[test]
fn only_what_the_machine_has_is_left_for_another_agent() {
    let legacy = some().legacy();
    let total = Some("cpus:2;cpus(+eng):2".parse().unwrap());
    assert_eq!(legacy.recovered(), Recovered { total, ..Recovered::default() });
    assert_eq!(Log::default().legacy(), Log::default());
}

#[test]
fn a_group_is_there_as_a_whole_and_each_member_waits_until_its_turn() {
    let members = |ids: &[&str]| {
        let member = |id: &&str| {
            let Record::Task(task) = task(id) else { unreachable!() };
            *task
        };
        Record::Group(ids.iter().map(member).collect())
    };
    let turn = |id: &str| Record::Turn { framework_id: framework_id(), task_id: task_id(id) };
    let mut group = log([members(&["one", "two"]), turn("one")]);
    let waits = |log: &Log| -> Vec<bool> { log.recovered().tasks.iter().map(|task| task.waits).collect() };
    assert_eq!(waits(&group), [false, true]);
    let short = log(group.records());
    assert_eq!(short, group);
    assert_eq!(group.apply(turn("one")), Err(LogError::NotWaiting { task_id: task_id("one") }));
    assert_eq!(group.apply(turn("three")), Err(LogError::NotWaiting { task_id: task_id("three") }));
    let exists = Err(LogError::TaskExists { task_id: task_id("two") });
    assert_eq!(group.apply(members(&["three", "two"])), exists);
    assert_eq!(group, short, "nothing of what is refused is there");
}
