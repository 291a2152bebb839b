//! A master that does what a test says, and an agent with containers that start nothing. Each test program uses what it needs.

#![allow(dead_code)]

pub(crate) mod world;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use apportion_agent::{Agent, Config, RunError};
use apportion_containerizer::Containerizer;
use apportion_proto::v1::{
    AgentServiceConnectRequest, AgentServiceConnectResponse,
    agent_service_server::{AgentService, AgentServiceServer},
};
use apportion_types::{
    AgentId, Command, FrameworkId, FrameworkInfo, Operation, OperationId, OperationState, Resources, Role,
    TaskId, TaskInfo, TaskState, TaskStatus,
    protocol::{
        LEADER, UNREACHED,
        agent::{AgentMessage, AgentTask, MasterMessage},
    },
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};

/// Far longer than anything takes; what is waited for comes or the test fails.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Master {
    pub(crate) address: String,
    streams: mpsc::UnboundedReceiver<Stream>,
    server: JoinHandle<()>,
}

/// One agent's stream, from the master's side.
pub(crate) struct Stream {
    requests: Streaming<AgentServiceConnectRequest>,
    responses: mpsc::Sender<Result<AgentServiceConnectResponse, Status>>,
}

struct Service(mpsc::UnboundedSender<Stream>);

/// Stands by, and names the leader or does not; to whom could not reach that one, the next.
struct StandBy {
    leader: Option<String>,
    next: Option<String>,
}

#[tonic::async_trait]
impl AgentService for StandBy {
    type ConnectStream = ReceiverStream<Result<AgentServiceConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentServiceConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut status = Status::unavailable("this master stands by");
        let unreached = request.metadata().get(UNREACHED).map(|leader| leader.to_str().unwrap().to_owned());
        let leader = if unreached.is_some() && unreached == self.leader { &self.next } else { &self.leader };
        if let Some(leader) = leader {
            status.metadata_mut().insert(LEADER, leader.parse().unwrap());
        }
        Err(status)
    }
}

/// A master that stands by all the while, and where it is.
pub(crate) async fn stand_by(leader: Option<&str>) -> String {
    stand_by_for(leader, leader).await
}

/// The same, which knows the next leader once an agent could not reach this one.
pub(crate) async fn stand_by_for(leader: Option<&str>, next: Option<&str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let [leader, next] = [leader, next].map(|leader| leader.map(str::to_owned));
    let service = AgentServiceServer::new(StandBy { leader, next });
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address
}

#[tonic::async_trait]
impl AgentService for Service {
    type ConnectStream = ReceiverStream<Result<AgentServiceConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentServiceConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (responses, outgoing) = mpsc::channel(64);
        let stream = Stream { requests: request.into_inner(), responses };
        self.0.send(stream).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Master {
    pub(crate) async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let (sender, streams) = mpsc::unbounded_channel();
        let server = tokio::spawn(async move {
            let service = AgentServiceServer::new(Service(sender));
            let incoming = TcpIncoming::from(listener);
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self { address, streams, server }
    }

    pub(crate) async fn stream(&mut self) -> Stream {
        timeout(LONG, self.streams.recv()).await.expect("an agent connects").unwrap()
    }

    /// The next stream, registered; and what it registered with.
    pub(crate) async fn registered(&mut self) -> (Stream, Option<AgentId>, Vec<AgentTask>) {
        let mut stream = self.stream().await;
        let AgentMessage::Register { agent_id, tasks, .. } = stream.hear().await else {
            panic!("not Register")
        };
        stream.say(registered("a1")).await;
        (stream, agent_id, tasks)
    }
}

pub(crate) fn registered(agent_id: &str) -> MasterMessage {
    MasterMessage::Registered {
        agent_id: AgentId::new(agent_id).unwrap(),
        master_id: "m1".to_owned(),
        ping_timeout: Duration::from_secs(600),
        missing_tasks: Vec::new(),
        drain: None,
    }
}

impl Stream {
    pub(crate) async fn say(&self, message: MasterMessage) {
        self.say_wire(message.into()).await;
    }

    pub(crate) async fn say_wire(&self, message: AgentServiceConnectResponse) {
        self.responses.send(Ok(message)).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> AgentMessage {
        self.next().await.expect("the agent ended the stream")
    }

    /// None when the agent has ended the stream.
    pub(crate) async fn next(&mut self) -> Option<AgentMessage> {
        let message = timeout(LONG, self.requests.message()).await.expect("the agent speaks");
        message.ok().flatten().map(|message| message.try_into().unwrap())
    }

    /// The next status update, acknowledged.
    pub(crate) async fn update(&mut self) -> TaskStatus {
        let (framework_id, status) = self.unacknowledged().await;
        self.say(MasterMessage::AcknowledgeUpdate {
            framework_id,
            task_id: status.task_id.clone(),
            update_id: status.update_id.unwrap(),
        })
        .await;
        status
    }

    pub(crate) async fn unacknowledged(&mut self) -> (FrameworkId, TaskStatus) {
        match self.hear().await {
            AgentMessage::StatusUpdate { framework_id, status, .. } => (framework_id, status),
            other => panic!("not StatusUpdate: {other:?}"),
        }
    }

    /// Acknowledges updates until this task is in this state. The same update may come twice.
    pub(crate) async fn until(&mut self, task_id: &str, state: TaskState) -> TaskStatus {
        loop {
            let status = self.update().await;
            if status.task_id.as_str() == task_id && status.state == state {
                return status;
            }
            assert!(
                !status.state.is_terminal() || status.task_id.as_str() != task_id,
                "instead of {state}: {status:?}"
            );
        }
    }

    /// The same of several tasks, in any order; what they said, in the order of `tasks`.
    pub(crate) async fn all_until(&mut self, tasks: &[&str], state: TaskState) -> Vec<TaskStatus> {
        let mut reached = BTreeMap::new();
        while reached.len() < tasks.len() {
            let status = self.update().await;
            if status.state == state && tasks.contains(&status.task_id.as_str()) {
                reached.insert(status.task_id.to_string(), status);
            } else {
                assert!(!status.state.is_terminal(), "instead of {state}: {status:?}");
            }
        }
        tasks.iter().map(|&task| reached.remove(task).unwrap()).collect()
    }

    /// Has an operation done, and waits until it is on disk. Status updates that come meanwhile come again.
    pub(crate) async fn apply(&mut self, id: &str, operation: Operation) {
        let operation_id = OperationId::new(id).unwrap();
        self.say(MasterMessage::Apply {
            framework_id: Some(framework_id()),
            operation_id: Some(operation_id.clone()),
            operation,
        })
        .await;
        let status = loop {
            match self.hear().await {
                AgentMessage::OperationUpdate(operation) if operation.status.operation_id == operation_id => {
                    break operation.status;
                }
                AgentMessage::OperationUpdate(_) | AgentMessage::StatusUpdate { .. } => {}
                other => panic!("not OperationUpdate: {other:?}"),
            }
        };
        assert_eq!(status.state, OperationState::Finished, "{status:?}");
        let update_id = status.update_id.unwrap();
        self.say(MasterMessage::AcknowledgeOperation {
            framework_id: framework_id(),
            operation_id,
            update_id,
        })
        .await;
    }

    pub(crate) async fn run(&self, tasks: Vec<TaskInfo>) {
        self.say(MasterMessage::RunTasks {
            framework_id: framework_id(),
            framework_info: Arc::new(FrameworkInfo {
                name: "test".to_owned(),
                principal: String::new(),
                roles: vec![Role::default()],
                failover_timeout: Duration::from_secs(60),
                labels: BTreeMap::new(),
            }),
            role: Role::default(),
            tasks: tasks.into_iter().map(Arc::new).collect(),
        })
        .await;
    }
}

pub(crate) fn framework_id() -> FrameworkId {
    FrameworkId::new("f1").unwrap()
}

pub(crate) fn task(id: &str, argv: &[&str]) -> TaskInfo {
    TaskInfo {
        task_id: TaskId::new(id).unwrap(),
        name: id.to_owned(),
        resources: "cpus:0.1;mem:32".parse().unwrap(),
        limits: Resources::new(),
        pids_max: None,
        volumes: Vec::new(),
        command: Command { argv: argv.iter().map(|word| (*word).to_owned()).collect(), env: BTreeMap::new() },
        kill_grace: None,
        labels: BTreeMap::new(),
        container: Default::default(),
        supervision: Default::default(),
        group: None,
        execution: Default::default(),
    }
}

/// An agent that runs until it is told to end.
pub(crate) struct Running {
    pub(crate) address: String,
    shutdown: Option<oneshot::Sender<()>>,
    run: JoinHandle<Result<(), RunError>>,
}

pub(crate) fn config(work_dir: &Path, master: &str) -> Config {
    Config {
        master: vec![master.to_owned()],
        listen: "127.0.0.1:0".parse().unwrap(),
        resources: Some("cpus:4;mem:1024;disk:1024;ports:[31000-31009]".parse().unwrap()),
        ..Config::new(work_dir)
    }
}

pub(crate) async fn start(config: Config, containerizer: impl Containerizer) -> Running {
    run(Agent::start(config, Arc::new(containerizer)).await.unwrap())
}

pub(crate) fn run(agent: Agent) -> Running {
    let address = agent.local_addr().to_string();
    let (shutdown, asked) = oneshot::channel();
    let run = tokio::spawn(agent.run(async move { drop(asked.await) }));
    Running { address, shutdown: Some(shutdown), run }
}

impl Running {
    pub(crate) fn ask_to_end(&mut self) {
        drop(self.shutdown.take());
    }

    pub(crate) async fn ended(self) -> Result<(), RunError> {
        timeout(LONG, self.run).await.expect("the agent ends").unwrap()
    }

    pub(crate) async fn end(mut self) -> Result<(), RunError> {
        self.ask_to_end();
        self.ended().await
    }
}
