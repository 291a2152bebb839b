//! A master within the test's process, and peers driven by hand.

use std::{fmt::Debug, net::SocketAddr, sync::Arc, time::Duration};

use apportion_master::{Config, ServeError, Server, registry::Registry};
use apportion_proto::v1::{
    self, agent_service_client::AgentServiceClient, operator_service_client::OperatorServiceClient,
    scheduler_service_client::SchedulerServiceClient,
};
use apportion_types::{
    FrameworkInfo, Offer, Resources, TaskInfo, TaskState, TaskStatus,
    convert::scheduler_request,
    limits,
    protocol::{
        agent::{AgentMessage, MasterMessage},
        scheduler::{Call, Event},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

/// Far more than anything takes, on a machine however loaded.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

pub(crate) struct Master {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), ServeError>>,
}

pub(crate) fn config() -> Config {
    Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() }
}

impl Master {
    pub(crate) async fn start(config: Config) -> Self {
        Self::of(Server::bind(config).await.unwrap())
    }

    pub(crate) async fn with_registry(registry: Arc<dyn Registry>) -> Self {
        Self::of(Server::bind_with(config(), registry).await.unwrap())
    }

    fn of(server: Server) -> Self {
        let (stop, stopped) = oneshot::channel();
        let address = server.local_addr();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { address, stop: Some(stop), running }
    }

    /// Asks it to end.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Drops it in the middle of whatever it does, as a process ends that is killed.
    pub(crate) async fn abandon(self) {
        self.running.abort();
        let _ = self.running.await;
    }

    /// Waits for its end.
    pub(crate) async fn ended(self) -> Result<(), ServeError> {
        patiently("the master's end", self.running).await.unwrap()
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap()
    }

    pub(crate) async fn operator(&self) -> OperatorServiceClient<Channel> {
        OperatorServiceClient::new(self.channel().await)
    }

    pub(crate) async fn scheduler(&self) -> Scheduler {
        let (calls, receiver) = mpsc::channel(64);
        let mut client = SchedulerServiceClient::new(self.channel().await);
        let events = client.connect(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Scheduler { calls: Some(calls), events, call_id: 0, offers: Vec::new() }
    }

    pub(crate) async fn agent(&self) -> Agent {
        let (messages, receiver) = mpsc::channel(64);
        let mut client = AgentServiceClient::new(self.channel().await)
            .max_decoding_message_size(limits::AGENT_MESSAGE_BYTES_MAX);
        let received = client.connect(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Agent { messages: Some(messages), received }
    }

    /// Reads a page over HTTP/1.1.
    pub(crate) async fn page(&self, path: &str, accept: &str) -> Page {
        self.exchange(&format!("GET {path}"), &format!("accept: {accept}"), "").await
    }

    /// Posts a document.
    pub(crate) async fn post(&self, path: &str, body: &serde_json::Value) -> Page {
        self.exchange(&format!("POST {path}"), "content-type: application/json", &body.to_string()).await
    }

    async fn exchange(&self, what: &str, header: &str, body: &str) -> Page {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{what} HTTP/1.1\r\nhost: x\r\n{header}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        patiently("a page", stream.read_to_string(&mut answer)).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Page { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    /// Reads a document of the JSON interface.
    pub(crate) async fn json(&self, path: &str) -> serde_json::Value {
        let page = self.page(path, "application/json").await;
        assert_eq!(page.status, 200, "{}", page.body);
        serde_json::from_str(&page.body).unwrap()
    }

    /// The value of a metric, by its name and labels.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let page = self.page("/metrics", "*/*").await;
        let line = page.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// Waits until a metric has a value.
    pub(crate) async fn metric_reaches(&self, name: &str, value: f64) {
        patiently(&format!("{name} to be {value}"), async {
            while self.metric(name).await.unwrap_or(0.0) < value {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A scheduler's stream.
pub(crate) struct Scheduler {
    calls: Option<mpsc::Sender<v1::SchedulerServiceConnectRequest>>,
    events: Streaming<v1::SchedulerServiceConnectResponse>,
    call_id: u64,
    /// Offers that came while something else was waited for.
    offers: Vec<Offer>,
}

impl Scheduler {
    pub(crate) async fn send(&mut self, request: v1::SchedulerServiceConnectRequest) {
        self.calls.as_ref().unwrap().send(request).await.unwrap();
    }

    pub(crate) async fn call(&mut self, call: Call) -> u64 {
        self.call_id += 1;
        self.send(scheduler_request(self.call_id, call)).await;
        self.call_id
    }

    /// Ends its side of the stream.
    pub(crate) fn hang_up(&mut self) {
        self.calls = None;
    }

    /// The next event; none at the stream's end.
    pub(crate) async fn event(&mut self) -> Result<Option<Event>, Status> {
        let event = patiently("an event", self.events.message()).await?;
        Ok(event.map(|event| Event::try_from(event).unwrap()))
    }

    /// The next event that is neither a heartbeat nor offers, which are kept.
    pub(crate) async fn expect(&mut self) -> Event {
        loop {
            match self.event().await.unwrap().expect("the stream goes on") {
                Event::Heartbeat => {}
                Event::Offers(offers) => self.offers.extend(offers),
                event => return event,
            }
        }
    }

    /// The next offer, kept or new.
    pub(crate) async fn offer(&mut self) -> Offer {
        while self.offers.is_empty() {
            match self.event().await.unwrap().expect("the stream goes on") {
                Event::Offers(offers) => self.offers.extend(offers),
                Event::Heartbeat => {}
                other => panic!("{other:?} instead of an offer"),
            }
        }
        self.offers.remove(0)
    }

    /// The next update of a state.
    pub(crate) async fn update(&mut self, state: TaskState) -> TaskStatus {
        match self.expect().await {
            Event::Update(status) if status.state == state => status,
            other => panic!("{other:?} instead of an update to {state}"),
        }
    }

    pub(crate) async fn subscribe(&mut self, info: FrameworkInfo) -> apportion_types::FrameworkId {
        self.call(subscribe(info)).await;
        match self.expect().await {
            Event::Subscribed { framework_id, .. } => framework_id,
            other => panic!("{other:?} instead of a subscription"),
        }
    }
}

/// An agent's stream.
pub(crate) struct Agent {
    messages: Option<mpsc::Sender<v1::AgentServiceConnectRequest>>,
    received: Streaming<v1::AgentServiceConnectResponse>,
}

impl Agent {
    pub(crate) async fn send(&mut self, message: AgentMessage) {
        self.send_wire(message.into()).await;
    }

    pub(crate) async fn send_wire(&mut self, message: v1::AgentServiceConnectRequest) {
        self.messages.as_ref().unwrap().send(message).await.unwrap();
    }

    /// Ends its side of the stream.
    pub(crate) fn hang_up(&mut self) {
        self.messages = None;
    }

    /// The next message; none at the stream's end.
    pub(crate) async fn message(&mut self) -> Result<Option<MasterMessage>, Status> {
        let message = patiently("a message", self.received.message()).await?;
        Ok(message.map(|message| MasterMessage::try_from(message).unwrap()))
    }

    /// The next message that is no ping; pings are answered.
    pub(crate) async fn expect(&mut self) -> MasterMessage {
        loop {
            match self.message().await.unwrap().expect("the stream goes on") {
                MasterMessage::Ping { sequence } => self.send(AgentMessage::Pong { sequence }).await,
                message => return message,
            }
        }
    }

    pub(crate) async fn register(&mut self, resources: &str) -> apportion_types::AgentId {
        let info = agent_info(resources);
        let total = info.resources.clone();
        let (tasks, operations) = (Vec::new(), Vec::new());
        self.send(AgentMessage::Register { info, agent_id: None, total, tasks, operations }).await;
        match self.expect().await {
            MasterMessage::Registered { agent_id, missing_tasks, .. } if missing_tasks.is_empty() => agent_id,
            other => panic!("{other:?} instead of a registration"),
        }
    }
}

pub(crate) fn resources(text: &str) -> Resources {
    text.parse().unwrap()
}

pub(crate) fn agent_info(text: &str) -> apportion_types::AgentInfo {
    apportion_types::AgentInfo {
        hostname: "host-1".to_owned(),
        address: "127.0.0.1:5051".to_owned(),
        resources: resources(text),
        attributes: [("rack".to_owned(), "r1".to_owned())].into(),
        domain: None,
        unenforced: Vec::new(),
        version: "0".to_owned(),
        capabilities: apportion_types::AgentCapability::ALL.into(),
        work_dir_id: String::new(),
    }
}

/// The first subscription of a framework without wishes.
pub(crate) fn subscribe(info: FrameworkInfo) -> Call {
    Call::Subscribe { info, framework_id: None, suppressed: Vec::new(), options: Box::default() }
}

pub(crate) fn framework(name: &str) -> FrameworkInfo {
    FrameworkInfo {
        name: name.to_owned(),
        principal: "tester".to_owned(),
        roles: vec![apportion_types::Role::default()],
        failover_timeout: Duration::from_secs(60),
        labels: Default::default(),
    }
}

pub(crate) fn task(id: &str, text: &str) -> TaskInfo {
    TaskInfo {
        task_id: apportion_types::TaskId::new(id).unwrap(),
        name: id.to_owned(),
        resources: resources(text),
        limits: Resources::new(),
        pids_max: None,
        volumes: Vec::new(),
        command: apportion_types::Command {
            argv: vec!["sleep".to_owned(), "1".to_owned()],
            env: [("TOKEN".to_owned(), "secret".to_owned())].into(),
        },
        kill_grace: None,
        labels: Default::default(),
        container: Default::default(),
        supervision: Default::default(),
        group: None,
        execution: Default::default(),
    }
}

/// The message of a status, for assertions on both.
pub(crate) fn refused<T: Debug>(result: Result<T, Status>) -> (tonic::Code, String) {
    let status = result.unwrap_err();
    (status.code(), status.message().to_owned())
}
