//! Executors over a real connection, against a scripted agent.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use apportion_proto::v1::{
    ExecutorServiceConnectRequest, ExecutorServiceConnectResponse,
    executor_service_server::{ExecutorService, ExecutorServiceServer},
};
use apportion_sdk::{
    FrameworkId, Reason, Task, TaskId, TaskState, async_trait,
    executor::{End, Executor, ExecutorError, Launched, Runner},
};
use apportion_types::{
    RunId,
    protocol::executor::{ExecutorCall, ExecutorEvent, ExecutorRefuseCode, ExecutorUpdate},
};
use tokio::{net::UnixListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::server::LONG;

const TOKEN: &str = "0123abcd";

/// Accepts streams of an executor and hands them to the test.
struct Agent {
    folder: tempfile::TempDir,
    sessions: mpsc::UnboundedReceiver<Session>,
    server: JoinHandle<()>,
}

/// One stream of an executor.
struct Session {
    calls: Streaming<ExecutorServiceConnectRequest>,
    events: mpsc::Sender<Result<ExecutorServiceConnectResponse, Status>>,
}

struct Service(mpsc::UnboundedSender<Session>);

#[tonic::async_trait]
impl ExecutorService for Service {
    type ConnectStream = ReceiverStream<Result<ExecutorServiceConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ExecutorServiceConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let said = request.metadata().get("authorization").and_then(|said| said.to_str().ok());
        if said != Some(&format!("Bearer {TOKEN}")) {
            return Err(Status::permission_denied("that is not the token"));
        }
        let (events, outgoing) = mpsc::channel(8);
        let session = Session { calls: request.into_inner(), events };
        self.0.send(session).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

impl Agent {
    fn start() -> Agent {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let (sender, sessions) = mpsc::unbounded_channel();
        let server = tokio::spawn(async move {
            let server = Server::builder().add_service(ExecutorServiceServer::new(Service(sender)));
            server.serve_with_incoming(UnixListenerStream::new(listener)).await.unwrap();
        });
        Agent { folder, sessions, server }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn runner(&self) -> Runner {
        Runner::new(self.socket(), &self.folder.path().join("token")).unwrap()
    }

    /// The next stream, subscribed: with what the executor says that it runs and has not heard the acknowledgement of.
    async fn subscribed(&mut self) -> (Session, Vec<String>, Vec<ExecutorUpdate>) {
        let session = timeout(LONG, self.sessions.recv()).await.expect("an executor connects");
        let mut session = session.expect("the server runs");
        let ExecutorCall::Subscribe { runs, unacknowledged } = session.call().await else {
            panic!("the first call is a subscription");
        };
        let (framework_id, executor) = (FrameworkId::new("f1").unwrap(), TaskId::new("pool").unwrap());
        session.send(ExecutorEvent::Subscribed { framework_id, executor, agent_id: None }).await;
        (session, runs.iter().map(ToString::to_string).collect(), unacknowledged)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Session {
    async fn call(&mut self) -> ExecutorCall {
        let request = timeout(LONG, self.calls.message()).await.expect("a call");
        ExecutorCall::try_from(request.unwrap().expect("a call before the end")).unwrap()
    }

    async fn update(&mut self) -> ExecutorUpdate {
        let ExecutorCall::Update(update) = self.call().await else { panic!("an update") };
        update
    }

    async fn send(&self, event: ExecutorEvent) {
        timeout(LONG, self.events.send(Ok(event.into()))).await.expect("taken").expect("it listens");
    }

    async fn launch(&self, run: &str, argv: &[&str]) {
        let info = Task::new(run).command(argv.iter().copied()).cpus(0.1).build().unwrap();
        self.send(ExecutorEvent::Launch { run_id: RunId::new(run).unwrap(), info }).await;
    }

    async fn kill(&self, run: &str, grace: Duration) {
        let (run_id, reason) = (RunId::new(run).unwrap(), Reason::KilledByFramework);
        self.send(ExecutorEvent::Kill { run_id, grace, reason }).await;
    }

    async fn acknowledge(&self, update: &ExecutorUpdate) {
        self.send(ExecutorEvent::Acknowledge { update_id: update.update_id }).await;
    }
}

/// What tasks do is their command.
#[derive(Default, Clone)]
struct Scripted {
    begun: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Executor for Scripted {
    async fn run(&self, task: &Launched) -> End {
        let name = task.info().task_id.to_string();
        self.begun.lock().unwrap().push(name.clone());
        match task.info().command.argv[0].as_str() {
            "run" => {
                task.running("it runs").await;
                task.healthy(true, "it is well").await;
                End::Finished("done".to_owned())
            }
            "wait" => {
                let wish = task.killed().await;
                End::Killed(format!("{:?}", wish.reason))
            }
            "linger" => {
                task.overdue().await;
                End::Killed("late".to_owned())
            }
            _ => panic!("no such script"),
        }
    }
}

/// Its tasks end first, and what is told of them is heard.
#[tokio::test]
async fn a_shutdown_waits_until_all_is_told() {
    let mut agent = Agent::start();
    let (shut_down, shutdown) = tokio::sync::oneshot::channel::<()>();
    let run = agent.runner().run_until(Scripted::default(), async { drop(shutdown.await) });
    let run = tokio::spawn(run);
    let (mut session, ..) = agent.subscribed().await;
    session.launch("r1", &["wait"]).await;
    session.launch("r2", &["run"]).await;
    for _ in 0..2 {
        let update = session.update().await;
        session.acknowledge(&update).await;
    }
    let end = session.update().await;
    shut_down.send(()).unwrap();
    session.kill("r1", Duration::ZERO).await;
    let killed = session.update().await;
    session.acknowledge(&killed).await;
    assert!(!run.is_finished(), "one end is not heard yet");
    session.acknowledge(&end).await;
    ended(run).await.unwrap();
}

type Run = JoinHandle<Result<(), ExecutorError>>;

fn run(runner: Runner) -> (Scripted, Run) {
    let scripted = Scripted::default();
    (scripted.clone(), tokio::spawn(runner.run(scripted)))
}

async fn ended(run: Run) -> Result<(), ExecutorError> {
    timeout(LONG, run).await.expect("the run ends").expect("the run does not panic")
}

#[tokio::test]
async fn what_is_told_is_told_again_until_it_is_acknowledged() {
    let mut agent = Agent::start();
    let (scripted, run) = run(agent.runner());
    let (mut session, runs, unacknowledged) = agent.subscribed().await;
    assert_eq!((runs.len(), unacknowledged.len()), (0, 0));
    session.launch("r1", &["run"]).await;
    session.launch("r1", &["run"]).await;
    session.launch("r2", &["wait"]).await;
    let told = [session.update().await, session.update().await, session.update().await];
    let states = told.each_ref().map(|update| (update.state, update.message.as_str(), update.healthy));
    assert_eq!(
        states,
        [
            (TaskState::Running, "it runs", None),
            (TaskState::Running, "it is well", Some(true)),
            (TaskState::Finished, "done", None)
        ]
    );
    session.acknowledge(&told[0]).await;
    session.kill("r2", Duration::ZERO).await;
    let killed = session.update().await;
    assert_eq!((killed.state, killed.message.as_str()), (TaskState::Killed, "KilledByFramework"));
    drop(session);

    let (session, runs, unacknowledged) = agent.subscribed().await;
    assert_eq!(runs, ["r1", "r2"]);
    assert_eq!(unacknowledged, [told[1].clone(), told[2].clone(), killed.clone()]);
    for update in &unacknowledged {
        session.acknowledge(update).await;
    }
    let message = "try again".to_owned();
    session.send(ExecutorEvent::Refuse { code: ExecutorRefuseCode::TooSlow, message }).await;
    let (session, runs, unacknowledged) = agent.subscribed().await;
    assert_eq!((runs.len(), unacknowledged.len()), (0, 0));

    let message = "that was all".to_owned();
    session.send(ExecutorEvent::Refuse { code: ExecutorRefuseCode::Ended, message }).await;
    ended(run).await.unwrap();
    assert_eq!(*scripted.begun.lock().unwrap(), ["r1", "r2"], "each once");
}

#[tokio::test]
async fn a_task_that_lingers_or_panics_hurts_no_other() {
    let mut agent = Agent::start();
    let (_, run) = run(agent.runner());
    let (mut session, ..) = agent.subscribed().await;
    session.launch("lingers", &["linger"]).await;
    session.launch("panics", &["what"]).await;
    let update = session.update().await;
    assert_eq!((update.run_id.as_str(), update.state), ("panics", TaskState::Failed));
    assert_eq!(update.message, "its executor panicked: no such script");
    session.kill("lingers", LONG * 10).await;
    session.kill("lingers", Duration::from_millis(1)).await;
    let update = session.update().await;
    assert_eq!((update.run_id.as_str(), update.message.as_str()), ("lingers", "late"));
    run.abort();
}

#[tokio::test]
async fn a_refusal_ends_the_run_and_says_why() {
    for (code, text) in [
        (ExecutorRefuseCode::Invalid, "the agent refused this executor: the words"),
        (ExecutorRefuseCode::Replaced, "another process has subscribed as this executor"),
    ] {
        let mut agent = Agent::start();
        let (_, run) = run(agent.runner());
        let (session, ..) = agent.subscribed().await;
        session.send(ExecutorEvent::Refuse { code, message: "the words".to_owned() }).await;
        let error = ended(run).await.unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
    let agent = Agent::start();
    let file = agent.folder.path().join("other");
    fs::write(&file, "guessed").unwrap();
    let (_, run) = run(Runner::new(agent.socket(), &file).unwrap());
    let error = ended(run).await.unwrap_err();
    assert!(
        matches!(&error, ExecutorError::Refused { message } if message.contains("not the token")),
        "{error}"
    );
    fs::write(&file, "two\nlines").unwrap();
    assert!(matches!(Runner::new(agent.socket(), &file), Err(ExecutorError::Token { .. })));
    fs::remove_file(&file).unwrap();
    let error = Runner::new(agent.socket(), &file).unwrap_err().to_string();
    assert!(error.contains("other") && error.contains("as the user of its task"), "{error}");
}

#[tokio::test]
async fn an_agent_that_is_away_for_too_long_is_given_up() {
    let mut agent = Agent::start();
    let (_, run) = run(agent.runner().away_max(Duration::from_millis(500)));
    let (session, ..) = agent.subscribed().await;
    session.launch("r1", &["wait"]).await;
    let socket = agent.socket();
    agent.server.abort();
    drop(session);
    let error = ended(run).await.unwrap_err();
    assert!(
        matches!(&error, ExecutorError::Away { socket: at, away, .. } if *at == socket && *away >= Duration::from_millis(500)),
        "{error}"
    );
}
