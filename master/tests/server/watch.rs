//! Operators that watch.

use apportion_proto::v1::{self, WatchKind, watch_change::Change};
use apportion_types::{
    TaskState,
    protocol::scheduler::{Accept, Call},
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tonic::{Code, Streaming};

use crate::harness::{Master, config, framework, patiently, refused, task};

async fn watch(
    master: &Master,
    kinds: &[WatchKind],
    since: Option<v1::WatchPosition>,
) -> Streaming<v1::WatchResponse> {
    let kinds = kinds.iter().map(|kind| *kind as i32).collect();
    master.operator().await.watch(v1::WatchRequest { kinds, since }).await.unwrap().into_inner()
}

async fn next(watching: &mut Streaming<v1::WatchResponse>) -> v1::WatchResponse {
    patiently("what is told", watching.message()).await.unwrap().expect("the stream goes on")
}

/// Reads on until there is this change.
async fn until(
    watching: &mut Streaming<v1::WatchResponse>,
    wanted: impl Fn(&Change) -> bool,
) -> v1::WatchResponse {
    loop {
        let told = next(watching).await;
        if told.changes.iter().any(|change| wanted(change.change.as_ref().unwrap())) {
            return told;
        }
    }
}

#[tokio::test]
async fn a_task_is_watched_from_its_launch_to_its_end() {
    let master = Master::start(config()).await;
    let (mut scheduler, mut agent) = (master.scheduler().await, master.agent().await);
    let framework_id = scheduler.subscribe(framework("f")).await;
    let mut all = watch(&master, &[], None).await;
    let snapshot = next(&mut all).await;
    assert!(snapshot.snapshot && snapshot.complete);
    let Some(Change::Framework(known)) = &snapshot.changes[0].change else { panic!("{snapshot:?}") };
    assert_eq!(known.framework_id, framework_id.as_str());
    let mut tasks = watch(&master, &[WatchKind::Tasks], None).await;
    assert!(next(&mut tasks).await.changes.is_empty());

    let agent_id = agent.register("cpus:4;mem:4096").await;
    let told = until(&mut all, |change| matches!(change, Change::Agent(_))).await;
    assert!(!told.snapshot);
    let offer = scheduler.offer().await;
    until(&mut all, |change| matches!(change, Change::Offer(_))).await;
    let launch = Accept::launch(vec![offer.offer_id], vec![task("t", "cpus:1;mem:64")], None);
    scheduler.call(Call::Accept(launch)).await;
    agent.expect().await;
    until(&mut all, |change| matches!(change, Change::OfferRemoved(_))).await;
    let told = next(&mut tasks).await;
    let Some(Change::Task(launched)) = &told.changes[0].change else { panic!("{told:?}") };
    assert_eq!((launched.agent_id.as_str(), launched.state()), (agent_id.as_str(), v1::TaskState::Staging));

    // Its end is told before it is gone.
    let position = told.position.clone();
    let teardown = v1::TeardownFrameworkRequest { framework_id: framework_id.to_string() };
    master.operator().await.teardown_framework(teardown).await.unwrap();
    drop(tasks);
    let mut tasks = watch(&master, &[WatchKind::Tasks], position).await;
    let mut states = Vec::new();
    let mut removed = false;
    while !removed {
        let told = next(&mut tasks).await;
        assert!(!told.snapshot, "it goes on where it was");
        for change in told.changes {
            match change.change.unwrap() {
                Change::Task(task) => states.push(task.state()),
                Change::TaskRemoved(key) => {
                    removed = true;
                    assert_eq!(
                        (key.framework_id.as_str(), key.task_id.as_str()),
                        (framework_id.as_str(), "t")
                    );
                }
                other => panic!("{other:?}"),
            }
            if states.last() == Some(&v1::TaskState::from(TaskState::Killing)) {
                // The agent ends it, and nobody is left to acknowledge that.
                agent.expect().await;
                let status = crate::lifecycle::status(&agent_id, "t", TaskState::Killed, 1);
                let message = apportion_types::protocol::agent::AgentMessage::StatusUpdate {
                    framework_id: framework_id.clone(),
                    status,
                    latest_state: TaskState::Killed,
                };
                agent.send(message).await;
            }
        }
    }
    assert_eq!(states.last(), Some(&v1::TaskState::Killed), "{states:?}");
}

#[tokio::test]
async fn a_position_that_is_not_known_begins_anew_and_says_so() {
    let master = Master::start(config()).await;
    let elsewhere = v1::WatchPosition { master_id: "elsewhere".to_owned(), version: u64::MAX };
    let mut watching = watch(&master, &[WatchKind::Agents], Some(elsewhere)).await;
    let first = next(&mut watching).await;
    assert!(first.snapshot && first.complete && first.changes.is_empty());
    for number in [0, 99, -1] {
        let request = v1::WatchRequest { kinds: vec![number], since: None };
        let (code, message) = refused(master.operator().await.watch(request).await);
        assert!(
            code == Code::InvalidArgument && message.contains("is not a kind that can be watched"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn watchers_are_told_that_the_master_ends() {
    let mut master = Master::start(config()).await;
    let mut watching = watch(&master, &[], None).await;
    next(&mut watching).await;
    assert_eq!(master.metric("apportion_master_streams{peer=\"watcher\"}").await, Some(1.0));
    master.stop();
    let status = patiently("the end", watching.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("the master ends"), "{status}");
    master.ended().await.unwrap();
}

#[tokio::test]
async fn lines_and_events_tell_the_same() {
    let master = Master::start(config()).await;
    for (accept, id, data) in [("*/*", "", ""), ("text/event-stream", "id: ", "data: ")] {
        let mut agent = master.agent().await;
        let stream = tokio::net::TcpStream::connect(master.address).await.unwrap();
        let mut stream = BufReader::new(stream);
        let request =
            format!("GET /api/v1/watch?kinds=agents,roles HTTP/1.0\r\nhost: x\r\naccept: {accept}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut lines = stream.lines();
        let mut read = async |start: &str| loop {
            let line = patiently("a line", lines.next_line()).await.unwrap().expect("there is more");
            if let Some(text) =
                line.strip_prefix(start).filter(|text| !id.is_empty() || text.starts_with('{'))
            {
                return text.to_owned();
            }
        };
        if !id.is_empty() {
            assert!(read(id).await.contains('@'));
        }
        let first: serde_json::Value = serde_json::from_str(&read(data).await).unwrap();
        assert_eq!((&first["snapshot"], &first["complete"]), (&true.into(), &true.into()));
        let agent_id = agent.register("cpus:1;mem:64").await;
        let told: serde_json::Value = serde_json::from_str(&read(data).await).unwrap();
        assert_eq!(told["changes"][0]["agent"]["agent_id"], agent_id.as_str());
    }
    for (query, what) in [("kinds=agent", "`agent` cannot be watched"), ("since=7", "is not a position")] {
        let page = master.page(&format!("/api/v1/watch?{query}"), "*/*").await;
        assert!(page.status == 400 && page.body.contains(what), "{}", page.body);
    }
}
