//! A master whose every word the test says, on a real port.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use apportion_proto::v1::{
    SchedulerServiceConnectRequest, SchedulerServiceConnectResponse,
    scheduler_service_server::{SchedulerService, SchedulerServiceServer},
};
use apportion_sdk::{
    AgentId, FrameworkId, OfferId, Role, Source, TaskId, TaskState, TaskStatus, Time, UpdateId,
    protocol::{Call, Event},
};
use apportion_types::protocol::{LEADER, UNREACHED};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// Far more than anything here takes, on a machine that does much else.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Accepts streams of schedulers and hands them to the test.
pub(crate) struct Master {
    pub(crate) address: String,
    sessions: mpsc::UnboundedReceiver<Session>,
    server: JoinHandle<()>,
}

/// One stream of a scheduler.
pub(crate) struct Session {
    calls: Streaming<SchedulerServiceConnectRequest>,
    events: mpsc::Sender<Result<SchedulerServiceConnectResponse, Status>>,
}

struct Service(mpsc::UnboundedSender<Session>);

/// What a master answers that stands by, and knows the leader or does not.
pub(crate) fn standing_by(leader: Option<&str>) -> Status {
    let mut status = Status::unavailable("this master stands by");
    if let Some(leader) = leader {
        status.metadata_mut().insert(LEADER, leader.parse().unwrap());
    }
    status
}

/// Stands by, and names a leader; to whom could not reach that one, the next.
struct StandBy {
    leader: Option<String>,
    next: Option<String>,
}

#[tonic::async_trait]
impl SchedulerService for StandBy {
    type ConnectStream = ReceiverStream<Result<SchedulerServiceConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<SchedulerServiceConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let unreached = request.metadata().get(UNREACHED).map(|leader| leader.to_str().unwrap().to_owned());
        let leader = if unreached.is_some() && unreached == self.leader { &self.next } else { &self.leader };
        Err(standing_by(leader.as_deref()))
    }
}

/// A master that stands by all the while, and where it is.
pub(crate) async fn stand_by(leader: Option<&str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    stand_by_on(listener, leader, leader);
    address
}

/// The same on a port that is open, which knows the next leader once a scheduler could not reach this one.
pub(crate) fn stand_by_on(listener: TcpListener, leader: Option<&str>, next: Option<&str>) {
    let [leader, next] = [leader, next].map(|leader| leader.map(str::to_owned));
    let service = SchedulerServiceServer::new(StandBy { leader, next });
    let server = Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
}

#[tonic::async_trait]
impl SchedulerService for Service {
    type ConnectStream = ReceiverStream<Result<SchedulerServiceConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<SchedulerServiceConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (events, outgoing) = mpsc::channel(1);
        let session = Session { calls: request.into_inner(), events };
        self.0.send(session).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

impl Master {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let (sender, sessions) = mpsc::unbounded_channel();
        let server = tokio::spawn(async move {
            let server = Server::builder().add_service(SchedulerServiceServer::new(Service(sender)));
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { address: address.to_string(), sessions, server }
    }

    /// The next stream that a scheduler opens.
    pub(crate) async fn session(&mut self) -> Session {
        timeout(LONG, self.sessions.recv()).await.expect("a scheduler connects").expect("the server runs")
    }

    /// The next stream, subscribed: with the id that the scheduler came with.
    pub(crate) async fn subscribed(&mut self, heartbeat: Duration) -> (Session, Option<FrameworkId>) {
        let mut session = self.session().await;
        let Call::Subscribe { framework_id, .. } = session.call().await else {
            panic!("the first call is a subscription");
        };
        session.send(subscribed(heartbeat)).await;
        (session, framework_id)
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Session {
    /// The next call; none when the scheduler has ended the stream, in order or not.
    pub(crate) async fn next(&mut self) -> Option<Call> {
        let request = timeout(LONG, self.calls.message()).await.expect("a call, or the end");
        request.ok().flatten().map(|request| Call::try_from(request).unwrap())
    }

    pub(crate) async fn call(&mut self) -> Call {
        self.next().await.expect("a call")
    }

    pub(crate) async fn send(&self, event: Event) {
        self.send_raw(event.into()).await;
    }

    pub(crate) async fn send_raw(&self, event: SchedulerServiceConnectResponse) {
        timeout(LONG, self.events.send(Ok(event))).await.expect("taken").expect("the scheduler listens");
    }
}

pub(crate) fn subscribed(heartbeat_interval: Duration) -> Event {
    let framework_id = FrameworkId::new("f1").unwrap();
    Event::Subscribed { framework_id, heartbeat_interval, master_id: "m1".to_owned() }
}

pub(crate) fn offers(offers: &[(&str, &str)]) -> Event {
    let offer = |(id, agent): &(&str, &str)| apportion_types::Offer {
        unavailability: None,
        offer_id: OfferId::new(id).unwrap(),
        framework_id: FrameworkId::new("f1").unwrap(),
        agent_id: AgentId::new(agent).unwrap(),
        role: Role::default(),
        resources: "cpus:4;mem:1024".parse().unwrap(),
        place: Arc::new(apportion_types::Place {
            hostname: (*agent).to_owned(),
            address: format!("{agent}:5051"),
            ..Default::default()
        }),
    };
    Event::Offers(offers.iter().map(offer).collect())
}

pub(crate) fn update(task: &str, state: TaskState, update: u64) -> Event {
    Event::Update(TaskStatus {
        task_id: TaskId::new(task).unwrap(),
        agent_id: Some(AgentId::new("a1").unwrap()),
        state,
        reason: None,
        source: Source::Agent,
        message: String::new(),
        at: Time::ZERO,
        update_id: Some(UpdateId::new(0, update)),
        container: None,
        findings: Default::default(),
        addresses: Vec::new(),
    })
}
