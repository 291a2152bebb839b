use std::{collections::BTreeMap, sync::mpsc, time::Duration};

use apportion_agent_core::{CheckpointId, ContainerId, ProcessRecord, Record, Settings, TaskRecord, Times};
use apportion_types::{
    AgentId, Command, FaultDomain, FrameworkId, FrameworkInfo, OperationId, OperationState, OperationStatus,
    Resources, Role, Source, TaskId, TaskInfo, TaskState, TaskStatus, Time, UpdateId,
    protocol::agent::AgentOperation,
};
use proptest::prelude::*;

use super::{frame::HEADER, *};
use crate::paths::Paths;

fn framework_id() -> FrameworkId {
    FrameworkId::new("f1").unwrap()
}

pub(super) fn agent(id: &str) -> Record {
    Record::Agent { agent_id: AgentId::new(id).unwrap() }
}

pub(super) fn task(id: &str) -> Record {
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
            task_id: TaskId::new(id).unwrap(),
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
        cores: (id == "t1").then(|| "0-1,3".parse().unwrap()),
    }))
}

pub(super) fn process() -> Record {
    let settings = Settings {
        hostname: "host".to_owned(),
        resources: "cpus:4;cpus(eng):2".parse().unwrap(),
        attributes: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        domain: Some(FaultDomain { region: "eu".to_owned(), zone: "a".to_owned() }),
    };
    Record::Process(ProcessRecord { boot_id: Some("one".to_owned()), settings })
}

pub(super) fn update(id: &str, number: u64, state: TaskState) -> Record {
    let status = TaskStatus {
        task_id: TaskId::new(id).unwrap(),
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
    };
    Record::Update { framework_id: framework_id(), status }
}

pub(super) fn acknowledgement(id: &str, number: u64) -> Record {
    let task_id = TaskId::new(id).unwrap();
    Record::Acknowledgement { framework_id: framework_id(), task_id, update_id: UpdateId::new(1, number) }
}

/// Three tasks: one that runs, one whose end is acknowledged, one whose end is not; and a stray.
fn some() -> Vec<Record> {
    use TaskState::*;
    vec![
        agent("a1"),
        process(),
        task("runs"),
        Record::Times {
            framework_id: framework_id(),
            task_id: TaskId::new("runs").unwrap(),
            times: Times { started_at: Some(Time::from_micros(7)), kill_at: Some(Time::from_micros(9)) },
        },
        task("over"),
        task("ended"),
        update("runs", 1, Starting),
        update("over", 2, Starting),
        update("ended", 3, Starting),
        acknowledgement("runs", 1),
        acknowledgement("over", 2),
        update("runs", 4, Running),
        update("over", 5, Failed),
        update("ended", 6, Finished),
        acknowledgement("over", 5),
        acknowledgement("ended", 3),
        update("stray", 7, Gone),
        operation("o1", 8, Some("cpus:1;cpus(+eng@ann?a=b):1;disk(eng)[data=var/data shared]:5")),
        operation("o2", 9, None),
        Record::OperationAcknowledgement {
            framework_id: framework_id(),
            operation_id: OperationId::new("o2").unwrap(),
            update_id: UpdateId::new(1, 9),
        },
    ]
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

pub(super) fn write(paths: &Paths, first: u64, records: Vec<Record>) {
    let (tell, told) = mpsc::channel();
    let replay = read(&paths.log()).unwrap();
    let store = Store::open(paths, replay, move |result| tell.send(result).unwrap()).unwrap();
    let last = first + records.len() as u64 - 1;
    for (index, record) in records.into_iter().enumerate() {
        store.append(CheckpointId(first + index as u64), record);
    }
    drop(store);
    let told: Vec<u64> = told.iter().map(|told| told.unwrap().0).collect();
    assert!(told.is_sorted() && told.last() == Some(&last), "{told:?}");
}

pub(super) fn paths() -> (tempfile::TempDir, Paths) {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::new(folder.path());
    (folder, paths)
}

fn check(recovered: &Recovered) {
    check_tasks(recovered);
    let total = "cpus:1;cpus(+eng@ann?a=b):1;disk(eng)[data=var/data shared]:5";
    assert_eq!(recovered.total.as_ref().unwrap().to_string(), total);
    let operations: Vec<_> = recovered.operations.iter().map(|of| of.status.operation_id.as_str()).collect();
    assert_eq!(operations, ["o1"]);
}

fn check_tasks(recovered: &Recovered) {
    assert_eq!(recovered.agent_id.as_ref().unwrap().as_str(), "a1");
    let tasks: Vec<_> = recovered
        .tasks
        .iter()
        .map(|task| {
            let states: Vec<_> = task.updates.iter().map(|status| status.state).collect();
            (task.task.info.task_id.as_str(), task.acknowledged.as_ref().map(|status| status.state), states)
        })
        .collect();
    use TaskState::*;
    assert_eq!(tasks, [("ended", Some(Starting), vec![Finished]), ("runs", Some(Starting), vec![Running])]);
    assert_eq!(recovered.strays.len(), 1);
    assert_eq!(recovered.strays[0].1.state, Gone);
    assert!(!recovered.damaged);
}

#[test]
fn what_was_written_is_read_back_also_after_it_was_rewritten() {
    let (_folder, paths) = paths();
    assert_eq!(read(&paths.log()).unwrap().recovered, Recovered::default());
    write(&paths, 1, some());
    let long = fs::metadata(paths.log()).unwrap().len();
    let first = read(&paths.log()).unwrap();
    check(&first.recovered);
    assert_eq!(first.unreadable_bytes, 0);
    // A new process rewrites it: shorter, and saying the same.
    write(&paths, 1, vec![agent("a1")]);
    assert!(fs::metadata(paths.log()).unwrap().len() < long);
    let second = read(&paths.log()).unwrap();
    assert_eq!(second.recovered, first.recovered);
    // And goes on from there.
    write(&paths, 1, vec![acknowledgement("ended", 6), acknowledgement("stray", 7), task("over")]);
    let third = read(&paths.log()).unwrap().recovered;
    let names: Vec<_> = third.tasks.iter().map(|task| task.task.info.task_id.as_str()).collect();
    assert_eq!((names, third.strays.len()), (vec!["over", "runs"], 0));
}

#[test]
fn a_log_that_is_mostly_about_tasks_that_are_no_more_is_rewritten_while_the_agent_runs() {
    let (_folder, paths) = paths();
    let mut records = vec![agent("a1"), task("stays"), update("stays", 1, TaskState::Starting)];
    let mut bytes = 0;
    for number in 2.. {
        let id = format!("t{number}");
        let Record::Task(mut large) = task(&id) else { unreachable!() };
        large.info.labels.insert("large".to_owned(), "x".repeat(120 << 10));
        bytes += 120 << 10;
        records.push(Record::Task(large));
        records.push(update(&id, number, TaskState::Failed));
        records.push(acknowledgement(&id, number));
        if bytes > 18 << 20 {
            break;
        }
    }
    write(&paths, 1, records);
    let length = fs::metadata(paths.log()).unwrap().len();
    assert!(length < bytes / 2, "{length} of {bytes} bytes");
    let recovered = read(&paths.log()).unwrap().recovered;
    let names: Vec<_> = recovered.tasks.iter().map(|task| task.task.info.task_id.as_str()).collect();
    assert_eq!(names, ["stays"]);
}

#[test]
fn a_write_that_was_cut_off_loses_nothing_before_it() {
    let (_folder, paths) = paths();
    write(&paths, 1, some());
    let before = fs::read(paths.log()).unwrap();
    let mut records = some();
    records.truncate(1);
    records.push(update("runs", 9, TaskState::Running));
    write(&paths, 1, records);
    // The second process's log: what was, then two records.
    let whole = fs::read(paths.log()).unwrap();
    let mut shortened = 0;
    for length in (HEADER.len()..whole.len()).rev().take(40) {
        fs::write(paths.log(), &whole[..length]).unwrap();
        let replay = read(&paths.log()).unwrap();
        check_without_last(&replay.recovered);
        shortened += usize::from(replay.unreadable_bytes > 0);
    }
    assert!(shortened > 30);
    // Zeros where pages did not get to the disk.
    let mut zeros = before;
    zeros.extend([0; 5000]);
    fs::write(paths.log(), &zeros).unwrap();
    let replay = read(&paths.log()).unwrap();
    check(&replay.recovered);
    assert_eq!(replay.unreadable_bytes, 5000);
    // The next process starts with a clean file.
    write(&paths, 1, vec![agent("a2")]);
    assert_eq!(read(&paths.log()).unwrap().unreadable_bytes, 0);
}

fn check_without_last(recovered: &Recovered) {
    let mut recovered = recovered.clone();
    assert!(!recovered.damaged);
    assert_eq!(recovered.tasks[1].updates.len(), 1);
    recovered.damaged = false;
    check(&recovered);
}

#[test]
fn a_header_that_was_cut_off_is_an_empty_log_and_another_is_refused() {
    let (_folder, paths) = paths();
    for length in 0..HEADER.len() {
        fs::write(paths.log(), &HEADER[..length]).unwrap();
        assert_eq!(read(&paths.log()).unwrap().recovered, Recovered::default());
    }
    fs::write(paths.log(), "apportion log 2\n").unwrap();
    assert!(matches!(read(&paths.log()), Err(StoreError::Version { .. })));
    let message = read(&paths.log()).unwrap_err().to_string();
    assert!(message.contains("this version"), "{message}");
}

#[test]
fn a_record_that_does_not_follow_is_refused_with_its_place() {
    let (_folder, paths) = paths();
    let mut bytes = HEADER.to_vec();
    frame::append(&record::to_wire(task("t")), &mut bytes);
    let second = bytes.len() as u64;
    frame::append(&record::to_wire(acknowledgement("t", 1)), &mut bytes);
    fs::write(paths.log(), bytes).unwrap();
    let error = read(&paths.log()).unwrap_err();
    let StoreError::Record { offset, source: RecordError::Order(_), .. } = error else { panic!("{error}") };
    assert_eq!(offset, second);
}

#[test]
fn a_record_that_is_none_is_refused_with_what_is_wrong() {
    use apportion_proto::v1;
    let agent = v1::CheckpointAgent { agent_id: "a b".to_owned() };
    let update = v1::CheckpointUpdate { framework_id: "f1".to_owned(), status: None };
    let acknowledgement = v1::CheckpointAcknowledgement {
        framework_id: "f1".to_owned(),
        task_id: "t".to_owned(),
        update_id: vec![1, 2].into(),
    };
    let unnamed =
        v1::CheckpointOperation { status: Some(v1::OperationStatus::default()), ..Default::default() };
    use v1::checkpoint_record::Record as Wire;
    for (wire, why) in [
        (None, "record: is missing, or of a kind not known here"),
        (Some(Wire::Agent(agent)), "agent_id: "),
        (Some(Wire::Task(v1::CheckpointTask::default())), "framework_info: is missing"),
        (Some(Wire::Update(update)), "status: is missing"),
        (Some(Wire::Acknowledgement(acknowledgement)), "update_id: has 2 bytes instead of 16"),
        (Some(Wire::Operation(unnamed)), "framework_id: is missing"),
        (
            Some(Wire::OperationAcknowledgement(v1::CheckpointOperationAcknowledgement::default())),
            "framework_id: ",
        ),
    ] {
        let error = record::from_wire(v1::CheckpointRecord { record: wire, ..Default::default() })
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(why), "{error}");
    }
}

#[test]
fn records_come_back_from_the_wire_as_they_were() {
    for record in some() {
        assert_eq!(record::from_wire(record::to_wire(record.clone())).unwrap(), record);
    }
}

/// A log of the same tasks, by an agent that knew no operations and no terms of resources.
#[test]
fn a_log_of_the_time_before_operations_is_read() {
    let (_folder, paths) = paths();
    fs::write(paths.log(), include_bytes!("recorded/without_operations")).unwrap();
    let replay = read(&paths.log()).unwrap();
    check_tasks(&replay.recovered);
    assert_eq!((replay.recovered.total, replay.recovered.operations.len()), (None, 0));
    let task = &replay.recovered.tasks[0].task;
    assert_eq!(task.info.resources, "cpus:1.5;mem:64;ports:[31000-31001];licences:{a,b}".parse().unwrap());
}

#[test]
fn reservations_and_volumes_stay_when_a_log_is_begun_anew_for_another_agent() {
    let (_folder, paths) = paths();
    begin_anew(&paths).unwrap();
    write(&paths, 1, some());
    begin_anew(&paths).unwrap();
    let recovered = read(&paths.log()).unwrap().recovered;
    let total = recovered.total.clone();
    assert!(total.is_some());
    assert_eq!(recovered, Recovered { total, ..Recovered::default() });
    write(&paths, 1, vec![agent("a2"), task("t")]);
    fs::remove_file(paths.log()).unwrap();
    write(&paths, 1, vec![agent("a2"), task("t")]);
    begin_anew(&paths).unwrap();
    assert!(!paths.log().exists());
}

#[test]
fn a_failed_write_is_told_and_nothing_after_it() {
    let (folder, paths) = paths();
    let (tell, told) = mpsc::channel();
    let store =
        Store::open(&paths, read(&paths.log()).unwrap(), move |result| tell.send(result).unwrap()).unwrap();
    // The id is written beside the log: a folder in its place fails the write for root too.
    fs::create_dir(folder.path().join("agent_id")).unwrap();
    store.append(CheckpointId(1), agent("a1"));
    let error = told.recv().unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Write { .. }), "{error}");
    store.append(CheckpointId(2), agent("a1"));
    drop(store);
    assert!(told.recv().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to one byte, no wrong record is read, and what is lost is owned up to.
    #[test]
    fn a_flipped_bit_is_noticed(at in 0usize..10_000, bit in 0u8..8) {
        let mut bytes = HEADER.to_vec();
        let mut ends = vec![bytes.len()];
        for record in some() {
            frame::append(&record::to_wire(record), &mut bytes);
            ends.push(bytes.len());
        }
        let at = HEADER.len() + at % (bytes.len() - HEADER.len());
        bytes[at] ^= 1 << bit;
        let whole = ends.iter().filter(|end| **end <= at).count() - 1;
        let mut frames = Frames::new(&bytes).unwrap();
        let mut count = 0;
        while let Some((_, record)) = frames.next() {
            prop_assert_eq!(record.unwrap(), record::to_wire(some().swap_remove(count)));
            count += 1;
        }
        prop_assert_eq!(count, whole);
        let tail = frames.tail();
        prop_assert_eq!(tail.bytes as usize, bytes.len() - ends[whole]);
        // In the last record alone a flipped length cannot be told from a write that was cut off.
        if whole + 2 < ends.len() {
            prop_assert!(tail.damaged);
        }
    }

    /// Bytes of anybody are read without a panic.
    #[test]
    fn any_bytes_are_read(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        bytes.splice(0..0, HEADER.iter().copied());
        let mut frames = Frames::new(&bytes).unwrap();
        while frames.next().is_some() {}
        frames.tail();
    }
}
