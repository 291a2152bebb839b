//! Reservations, volumes and what is lent, through the shell: what is on disk, what containers are given, what a restart keeps.

// All of this is test code.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use apportion_agent::{Agent, Config, Estimator, ResourceEstimator, RunError, Sample};
use apportion_containerizer::Fake;
use apportion_types::{
    Operation, OperationId, Reason, Resources, TaskInfo, TaskState,
    container::Exit,
    protocol::agent::{AgentMessage, MasterMessage},
};
use support::*;
use tokio::sync::watch;

const VOLUME: &str = "disk(+eng/ads)[data=var/data]:100";

fn resources(text: &str) -> Resources {
    text.parse().unwrap()
}

fn reserve(text: &str) -> Operation {
    Operation::Reserve { resources: resources(text) }
}

fn create(text: &str) -> Operation {
    Operation::Create { volumes: resources(text) }
}

fn destroy(text: &str) -> Operation {
    Operation::Destroy { volumes: resources(text) }
}

/// A task that uses these.
fn with(id: &str, argv: &[&str], held: &str) -> TaskInfo {
    TaskInfo { resources: resources(held), ..task(id, argv) }
}

/// What the next registration says that the agent has.
async fn total(master: &mut Master) -> (Stream, Resources) {
    let mut stream = master.stream().await;
    let AgentMessage::Register { total, .. } = stream.hear().await else { panic!("not Register") };
    stream.say(registered("a1")).await;
    (stream, total)
}

async fn gone(path: PathBuf) {
    let wait = async {
        while path.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{path:?} is still there"));
}

#[tokio::test]
async fn a_volume_outlives_its_tasks_and_the_agents_process() {
    let folder = tempfile::tempdir().unwrap();
    let (mut master, fake) = (Master::start().await, Fake::default());
    let agent = start(config(folder.path(), &master.address), fake.clone()).await;
    let (mut stream, ..) = master.registered().await;
    stream.apply("r1", reserve("disk(+eng/ads):300")).await;
    stream.apply("c1", create(VOLUME)).await;
    let volume = fs::canonicalize(folder.path()).unwrap().join("volumes/eng/ads/-/data");
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
    fs::write(volume.join("file"), "x").unwrap();
    stream.run(vec![with("t1", &["exit", "0"], &format!("cpus:1;{VOLUME}"))]).await;
    stream.until("t1", TaskState::Finished).await;
    let spec = fake.launched().pop().unwrap();
    let mounted: Vec<_> =
        spec.persistent.iter().map(|of| (of.source.clone(), of.path.to_str().unwrap())).collect();
    assert_eq!(mounted, [(volume.clone(), "var/data")]);
    assert_eq!(spec.limits.cpus_request_milli, 1000);
    agent.end().await.unwrap();

    let mut settings = config(folder.path(), &master.address);
    settings.resources = Some(resources("cpus:2;mem:1024;disk:500;ports:[1-2]"));
    let agent = start(settings, fake.next_agent()).await;
    let (mut stream, has) = total(&mut master).await;
    assert_eq!(has, resources(&format!("cpus:2;mem:1024;disk:200;disk(+eng/ads):200;{VOLUME};ports:[1-2]")));
    assert!(volume.join("file").exists());
    stream.apply("d1", destroy(VOLUME)).await;
    assert!(!volume.exists());
    // The name may be used again, without anything of the first.
    stream.apply("c2", create(VOLUME)).await;
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
    agent.end().await.unwrap();
}

#[tokio::test]
async fn settings_that_no_longer_hold_what_is_reserved_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut master, fake) = (Master::start().await, Fake::default());
    let settings = config(folder.path(), &master.address);
    let agent = start(settings.clone(), fake.clone()).await;
    let (mut stream, ..) = master.registered().await;
    stream.apply("r1", reserve("disk(+eng):800")).await;
    agent.end().await.unwrap();
    let smaller = Config { resources: Some(resources("cpus:4;mem:1024;disk:500")), ..settings.clone() };
    let error = start(smaller, fake.next_agent()).await.ended().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, RunError::Refused { .. }) && text.contains("hold disk:300 less"), "{text}");
    let agent = start(settings, fake.next_agent()).await;
    let (_stream, has) = total(&mut master).await;
    assert_eq!(has.reserved_for(&"eng".parse().unwrap()), resources("disk(+eng):800"));
    agent.end().await.unwrap();
}

#[tokio::test]
async fn what_a_crash_left_of_destroyed_volumes_is_deleted_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (mut master, fake) = (Master::start().await, Fake::default());
    let settings = config(folder.path(), &master.address);
    let agent = start(settings.clone(), fake.clone()).await;
    let (mut stream, ..) = master.registered().await;
    stream.apply("r1", reserve("disk(+eng):300")).await;
    stream.apply("c1", create("disk(+eng)[kept=data]:100")).await;
    agent.end().await.unwrap();
    // As if the record of a destroy were on disk, and the process had died before it moved the data away, or before it deleted it.
    let volumes = folder.path().join("volumes/eng/-");
    let (stale, moved) = (volumes.join("stale"), folder.path().join("volumes.deleted/0"));
    for path in [&stale, &moved] {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("file"), "x").unwrap();
    }
    let agent = start(settings, fake.next_agent()).await;
    let (_stream, ..) = master.registered().await;
    gone(stale).await;
    gone(moved).await;
    assert!(volumes.join("kept").is_dir());
    agent.end().await.unwrap();
}

#[tokio::test]
async fn reservations_and_volumes_stay_with_the_machine_when_its_agent_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let (mut master, fake) = (Master::start().await, Fake::default());
    let mut settings = config(folder.path(), &master.address);
    settings.kill_tasks_on_exit = true;
    let mut agent = start(settings.clone(), fake.clone()).await;
    let (mut stream, ..) = master.registered().await;
    stream.apply("r1", reserve("disk(+eng/ads):100")).await;
    stream.apply("c1", create(VOLUME)).await;
    let file = folder.path().join("volumes/eng/ads/-/data/file");
    fs::write(&file, "x").unwrap();
    agent.ask_to_end();
    while !matches!(stream.hear().await, AgentMessage::Unregister { .. }) {}
    drop(stream);
    agent.ended().await.unwrap();
    let agent = start(settings, fake.next_agent()).await;
    let mut stream = master.stream().await;
    let AgentMessage::Register { agent_id, total, operations, .. } = stream.hear().await else {
        panic!("not Register")
    };
    assert_eq!((agent_id, operations.len()), (None, 0));
    assert!(total.contains(&resources(VOLUME)), "{total}");
    assert!(file.exists());
    agent.end().await.unwrap();
}

#[tokio::test]
async fn an_operation_that_does_not_fit_is_answered_with_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut master = Master::start().await;
    let agent = start(config(folder.path(), &master.address), Fake::default()).await;
    let (mut stream, ..) = master.registered().await;
    let operation_id = Some(OperationId::new("o1").unwrap());
    let apply = MasterMessage::Apply {
        framework_id: Some(framework_id()),
        operation_id,
        operation: reserve("disk(+eng):9999"),
    };
    stream.say(apply).await;
    let AgentMessage::Total { total, .. } = stream.hear().await else { panic!("not Total") };
    assert_eq!(total, resources("cpus:4;mem:1024;disk:1024;ports:[31000-31009]"));
    let AgentMessage::OperationUpdate(operation) = stream.hear().await else { panic!("not OperationUpdate") };
    assert_eq!(operation.status.reason, Some(Reason::ResourcesUnknown), "{operation:?}");
    stream.run(vec![with("t1", &["exit", "0"], "cpus(+eng):1")]).await;
    assert_eq!(stream.until("t1", TaskState::Dropped).await.reason, Some(Reason::ResourcesUnknown));
    agent.end().await.unwrap();
}

async fn lent(stream: &mut Stream) -> Resources {
    loop {
        match stream.hear().await {
            AgentMessage::Oversubscribed { revocable } => return revocable,
            AgentMessage::StatusUpdate { .. } => {}
            other => panic!("not Oversubscribed: {other:?}"),
        }
    }
}

/// Says what the test says, and shows it what it was asked with.
struct Scripted {
    cpus: Arc<AtomicU64>,
    seen: watch::Sender<Option<Sample>>,
}

impl ResourceEstimator for Scripted {
    fn estimate(&mut self, sample: &Sample) -> Option<Resources> {
        self.seen.send_replace(Some(sample.clone()));
        Some(resources(&format!("cpus:{}", self.cpus.load(Ordering::Relaxed))))
    }
}

#[tokio::test]
async fn what_is_lent_is_told_and_taken_back_from_the_youngest() {
    let folder = tempfile::tempdir().unwrap();
    let (mut master, fake) = (Master::start().await, Fake::default());
    let mut settings = config(folder.path(), &master.address);
    settings.oversubscription_interval_ms = 5;
    let (cpus, (seen, mut sample)) = (Arc::new(AtomicU64::new(2)), watch::channel(None));
    let agent = Agent::start(settings, Arc::new(fake.clone())).await.unwrap();
    let agent = run(agent.with_estimator(Scripted { cpus: cpus.clone(), seen }));
    let (mut stream, ..) = master.registered().await;
    assert_eq!(lent(&mut stream).await, resources("cpus{revocable}:2"));
    let borrower = |id| with(id, &["serve"], "cpus{revocable}:1;mem:32");
    for id in ["old", "young"] {
        stream.run(vec![borrower(id)]).await;
        stream.until(id, TaskState::Running).await;
    }
    assert_eq!(fake.launched()[0].limits.cpus_request_milli, 10);
    let both = |sample: &Option<Sample>| sample.as_ref().is_some_and(|sample| sample.tasks.len() == 2);
    let sample = tokio::time::timeout(LONG, sample.wait_for(both)).await.unwrap().unwrap().clone().unwrap();
    assert_eq!(sample.total, resources("cpus:4;mem:1024;disk:1024;ports:[31000-31009]"));
    assert_eq!(sample.tasks[0].container, fake.launched()[0].id.0);
    assert_eq!(sample.tasks[0].resources, resources("cpus{revocable}:1;mem:32"));
    assert!(sample.tasks[0].cpu_us.is_some());
    cpus.store(1, Ordering::Relaxed);
    assert_eq!(lent(&mut stream).await, resources("cpus{revocable}:1"));
    let end = stream.until("young", TaskState::Killed).await;
    assert_eq!(end.reason, Some(Reason::Preempted), "{end:?}");
    // There is enough for the other.
    fake.end(&fake.launched()[0].id, Exit::Code(0));
    assert_eq!(stream.until("old", TaskState::Finished).await.reason, Some(Reason::CommandExited));
    agent.end().await.unwrap();
}

#[tokio::test]
async fn an_agent_lends_what_it_is_set_to_and_says_where_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let mut master = Master::start().await;
    let mut settings = config(folder.path(), &master.address);
    settings.estimator = Estimator::Fixed(resources("cpus:1;mem:64"));
    settings.domain =
        Some(apportion_types::FaultDomain { region: "eu".to_owned(), zone: "eu-1a".to_owned() });
    let agent = start(settings, Fake::default()).await;
    let mut stream = master.stream().await;
    let AgentMessage::Register { info, .. } = stream.hear().await else { panic!("not Register") };
    assert_eq!(info.domain.unwrap().zone, "eu-1a");
    stream.say(registered("a1")).await;
    assert_eq!(lent(&mut stream).await, resources("cpus{revocable}:1;mem{revocable}:64"));
    agent.end().await.unwrap();
}
