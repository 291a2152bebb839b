use std::{os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use apportion_proto::v1::{
    ExecutorServiceConnectRequest as Request, ExecutorServiceConnectResponse as Response, ExecutorSubscribe,
    ExecutorUpdate, executor_service_client::ExecutorServiceClient,
    executor_service_connect_request::Message,
};
use apportion_types::{
    RunId, UpdateId, limits,
    protocol::executor::{ExecutorCall, ExecutorEvent, ExecutorRefuseCode},
};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Endpoint};

use super::*;

/// Far longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

/// An agent's side of one executor.
struct World {
    folder: tempfile::TempDir,
    executors: Executors,
    heard: mpsc::Receiver<Heard>,
    streams: Streams,
    id: ContainerId,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        World::in_folder(folder, |executors, id| drop(executors.make(id).unwrap()))
    }

    fn in_folder(folder: tempfile::TempDir, begin: impl FnOnce(&Executors, &ContainerId)) -> World {
        let id = ContainerId("1-1".to_owned());
        let (say, heard) = mpsc::channel(HEARD_MAX);
        // Far longer than the path of a socket may be.
        let paths = Paths::new(folder.path().join("x".repeat(200)));
        let executors = Executors::open(paths, say, &[id.0.clone()].into()).unwrap();
        begin(&executors, &id);
        World { folder, executors, heard, streams: Streams::default(), id }
    }

    fn token(&self) -> String {
        self.executors.place(&self.id).token().unwrap()
    }

    /// As a container sees it, with a path that is short enough.
    async fn connect(&self, token: &str) -> Result<(mpsc::Sender<Request>, Streaming<Response>), Status> {
        let folder = self.executors.place(&self.id).folder().to_owned();
        let seen = self.folder.path().join("seen");
        let _ = std::os::unix::fs::symlink(folder, &seen);
        let endpoint = Endpoint::from_shared(format!("unix://{}/socket", seen.display())).unwrap();
        let (calls, outgoing) = mpsc::channel(8);
        let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let mut client = ExecutorServiceClient::new(endpoint.connect().await.expect("it listens"));
        Ok((calls, client.connect(request).await?.into_inner()))
    }

    async fn subscribed(&mut self) -> (mpsc::Sender<Request>, Streaming<Response>) {
        let (calls, answers) = self.connect(&self.token()).await.unwrap();
        calls.send(subscribe().into()).await.unwrap();
        let heard = self.hear().await;
        assert_eq!(heard, Some(Event::Executor { container_id: self.id.clone(), call: subscribe() }));
        (calls, answers)
    }

    async fn hear(&mut self) -> Option<Event> {
        let heard = timeout(LONG, self.heard.recv()).await.expect("something is heard").unwrap();
        self.streams.hear(heard)
    }
}

fn subscribe() -> ExecutorCall {
    ExecutorCall::Subscribe { runs: vec![RunId::new("1-2").unwrap()], unacknowledged: Vec::new() }
}

fn update(number: u64) -> Request {
    let mut update_id = vec![0; 8];
    update_id.extend(number.to_be_bytes());
    let update_id = update_id.into();
    let state = apportion_proto::v1::TaskState::Running as i32;
    let update = ExecutorUpdate { run_id: "1-2".to_owned(), update_id, state, ..Default::default() };
    Request { message: Some(Message::Update(update)) }
}

async fn event(answers: &mut Streaming<Response>) -> Option<ExecutorEvent> {
    let answer = timeout(LONG, answers.message()).await.expect("an answer, or the end");
    answer.ok().flatten().map(|answer| ExecutorEvent::try_from(answer).unwrap())
}

/// Why the stream ends.
async fn refusal(answers: &mut Streaming<Response>) -> (ExecutorRefuseCode, String) {
    loop {
        match event(answers).await {
            Some(ExecutorEvent::Refuse { code, message }) => return (code, message),
            Some(_) => {}
            None => panic!("it ended without a word"),
        }
    }
}

#[tokio::test]
async fn only_who_brings_the_token_is_heard() {
    let world = World::new();
    assert_eq!(world.token().len(), 64);
    for (token, code) in [("", Code::PermissionDenied), (&*"0".repeat(64), Code::PermissionDenied)] {
        let status = world.connect(token).await.err().unwrap();
        assert!(
            status.code() == code && status.message().contains("APPORTION_EXECUTOR_TOKEN_FILE"),
            "{status}"
        );
    }
    let mode = |name: &str| {
        let path = world.executors.place(&world.id).folder().join(name);
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("token"), mode("socket"), mode("")), (0o400, 0o666, 0o755));
}

#[tokio::test]
async fn what_breaks_the_rules_is_refused_with_a_reason() {
    let long = Request {
        message: Some(Message::Update(ExecutorUpdate {
            message: "x".repeat(limits::EXECUTOR_MESSAGE_BYTES_MAX),
            ..Default::default()
        })),
    };
    // Much larger in memory than on the wire.
    let many = ExecutorSubscribe { unacknowledged: vec![Default::default(); 1 << 20], ..Default::default() };
    let many = Request { message: Some(Message::Subscribe(many)) };
    for (first, second, why) in [
        (many, None, "1048576 runs and updates are more than the 2000 of an executor"),
        (update(1), None, "the first message must be the subscription"),
        (Request::default(), None, "a message breaks its rule: message"),
        (subscribe().into(), Some(subscribe().into()), "a stream has one subscription"),
        (subscribe().into(), Some(Request::default()), "a message breaks its rule"),
        (subscribe().into(), Some(long), "length too large"),
    ] {
        let mut world = World::new();
        let (calls, mut answers) = world.connect(&world.token()).await.unwrap();
        calls.send(first).await.unwrap();
        if let Some(second) = second {
            calls.send(second).await.unwrap();
            let heard = (world.hear().await, world.hear().await);
            let stood =
                matches!(heard, (Some(Event::Executor { .. }), Some(Event::ExecutorDisconnected { .. })));
            assert!(stood, "{heard:?}");
        }
        let (code, message) = refusal(&mut answers).await;
        assert!(code == ExecutorRefuseCode::Invalid && message.contains(why), "{message}");
        assert_eq!(event(&mut answers).await, None);
    }
}

#[tokio::test]
async fn a_newer_stream_takes_the_place_of_the_older() {
    let mut world = World::new();
    let (older, mut answers) = world.subscribed().await;
    let (newer, mut newest) = world.subscribed().await;
    assert_eq!(refusal(&mut answers).await.0, ExecutorRefuseCode::Replaced);
    // Whatever comes of the older one is nobody's business any more.
    drop((older, answers));
    let update_id = UpdateId::new(0, 7);
    world.streams.send(&world.id, ExecutorEvent::Acknowledge { update_id });
    assert_eq!(event(&mut newest).await, Some(ExecutorEvent::Acknowledge { update_id }));
    newer.send(update(7)).await.unwrap();
    loop {
        match world.hear().await {
            None => {}
            Some(Event::Executor { call: ExecutorCall::Update(update), .. }) => {
                break assert_eq!(update.update_id, update_id);
            }
            other => panic!("{other:?}"),
        }
    }
    drop(newer);
    let heard = world.hear().await;
    assert!(matches!(heard, Some(Event::ExecutorDisconnected { .. })), "{heard:?}");
}

#[tokio::test]
async fn who_does_not_read_is_left_and_who_does_not_wait_is_not_read() {
    let mut world = World::new();
    let (calls, mut answers) = world.subscribed().await;
    let flood = tokio::spawn(async move {
        let mut said = 0;
        while calls.send(update(said)).await.is_ok() {
            said += 1;
        }
    });
    for _ in 0..limits::EXECUTOR_UPDATES_MAX {
        assert!(matches!(world.hear().await, Some(Event::Executor { .. })));
    }
    assert!(world.heard.try_recv().is_err(), "none is acknowledged yet");
    world.streams.send(&world.id, ExecutorEvent::Acknowledge { update_id: UpdateId::new(0, 0) });
    assert!(matches!(world.hear().await, Some(Event::Executor { .. })), "one more for each that is");

    let kill = || ExecutorEvent::Kill {
        run_id: RunId::new("1-2").unwrap(),
        grace: Duration::ZERO,
        reason: apportion_types::Reason::KilledByFramework,
    };
    // Without a pause: nobody reads in between.
    for _ in 0..2 * streams::OUTBOX_MAX {
        world.streams.send(&world.id, kill());
    }
    assert_eq!(refusal(&mut answers).await.0, ExecutorRefuseCode::TooSlow);
    let heard = world.hear().await;
    assert!(matches!(heard, Some(Event::ExecutorDisconnected { .. })), "{heard:?}");
    flood.abort();
}

#[tokio::test]
async fn what_was_said_before_the_end_of_a_container_is_heard_before_it() {
    let mut world = World::new();
    let (calls, _answers) = world.subscribed().await;
    for number in 0..5 {
        calls.send(update(number)).await.unwrap();
    }
    drop(calls);
    let message = "it has ended".to_owned();
    let end = || Event::ContainerLost { container_id: world.id.clone(), message: message.clone() };
    world.executors.tell_end(&world.id, end()).await.unwrap();
    let end = end();
    let mut updates = 0;
    loop {
        match world.hear().await {
            Some(Event::Executor { .. }) => updates += 1,
            Some(Event::ExecutorDisconnected { .. }) => {}
            other => break assert_eq!(other, Some(end)),
        }
    }
    assert_eq!(updates, 5);
    // Of other containers it is for others to tell.
    let other = Event::Tick;
    assert_eq!(world.executors.tell_end(&ContainerId("1-9".to_owned()), other.clone()).await, Err(other));
    let folder = world.executors.place(&world.id).folder().to_owned();
    world.executors.remove(&world.id).unwrap();
    world.executors.remove(&world.id).unwrap();
    assert!(!Path::new(&folder).exists());
}

#[tokio::test]
async fn a_later_process_listens_in_the_same_folder_with_the_same_token() {
    let mut world = World::new();
    let token = world.token();
    let (calls, mut answers) = world.subscribed().await;
    let World { folder, executors, .. } = world;
    drop(executors);
    assert_eq!(event(&mut answers).await, None, "the stream ends with the process");
    drop(calls);
    let mut world = World::in_folder(folder, |executors, id| executors.resume(id).unwrap());
    assert_eq!(world.token(), token);
    world.subscribed().await;
    // One that the log knows nothing of is nobody's.
    let (say, _heard) = mpsc::channel(1);
    let executors = Executors::open(world.executors.paths.clone(), say, &BTreeSet::new()).unwrap();
    assert!(!executors.place(&world.id).folder().exists());
    executors.resume(&world.id).unwrap();
}
