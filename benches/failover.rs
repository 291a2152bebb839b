//! What a failover costs: agents that come back to a new leader with their tasks, a registry that is read, and one that is written to.
//!
//! Emulated are the agents; real are the master with its shell and registry, and every message over gRPC on loopback. All of it shares the
//! processors of this machine. `--quick` takes a tenth of everything.

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

#[path = "failover/registry.rs"]
mod registry;

use std::{
    collections::BTreeMap,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use apportion_allocator::Hierarchical;
use apportion_benches::{Table, cpu_timed, ms, processor_of_all};
use apportion_master::{
    Server,
    registry::{Embedded, Registry as _},
};
use apportion_master_core::{Action, Config, ConnId, Event, Master, Recovered, RegistryOp};
use apportion_proto::v1::{
    AgentServiceConnectRequest, agent_service_client::AgentServiceClient,
    agent_service_connect_response::Message,
};
use apportion_types::{
    AgentCapability, AgentId, AgentInfo, Command, FrameworkId, FrameworkInfo, Resources, Role, TaskId,
    TaskInfo, TaskState, Time,
    protocol::agent::{AgentMessage, AgentTask},
};
use prost::Message as _;
use tokio_stream::StreamExt as _;
use tonic::transport::{Channel, Endpoint};

const FRAMEWORKS: usize = 200;
const TASKS_EACH: usize = 10;
const STREAMS_PER_CONNECTION: usize = 1000;

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let scale = if quick { 10 } else { 1 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(all(scale)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failover: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn all(scale: usize) -> Result<(), Failed> {
    let mut table = Table::new(&["what", "how many", "ms", "of processors, ms"]);
    core_alone(&mut table, 40_000 / scale)?;
    come_back(&mut table, 40_000 / scale).await?;
    cold_start(&mut table, 50_000 / scale).await?;
    println!("{table}");
    registry::writes(scale).await
}

/// What agents say when they register again, decoded and handled by the core of a master that knows them from its registry.
fn core_alone(table: &mut Table, agents: usize) -> Result<(), Failed> {
    let said: Vec<Vec<u8>> = (0..agents)
        .map(|number| AgentServiceConnectRequest::from(registration(number)).encode_to_vec())
        .collect();
    let mut recovered = Recovered::default();
    admissions(agents).into_iter().for_each(|op| recovered.apply(op));
    let allocator = Box::new(Hierarchical::new(Default::default()));
    let mut master = Master::recover(Config::new("m1"), recovered, allocator, Time::ZERO);
    let (spent, handled) = cpu_timed(|| -> Result<(), Failed> {
        let mut actions = Vec::new();
        for (number, bytes) in said.iter().enumerate() {
            let message = AgentMessage::try_from(AgentServiceConnectRequest::decode(bytes.as_slice())?)?;
            master.handle(
                Time::ZERO,
                Event::AgentMessage { conn: ConnId(number as u64), message },
                &mut actions,
            );
            let mut seen = 0;
            while seen < actions.len() {
                if let Action::Commit { commit, .. } = actions[seen] {
                    master.handle(Time::ZERO, Event::Committed { commit }, &mut actions);
                }
                seen += 1;
            }
            actions.clear();
        }
        Ok(())
    });
    handled?;
    assert_eq!(master.view().tasks.len(), agents * TASKS_EACH, "all are there");
    let what = format!("agents with {TASKS_EACH} tasks each: decoded and handled, without the wire");
    table.row(vec![what, agents.to_string(), ms(spent), ms(spent)]);
    Ok(())
}

/// The same over the wire, with everybody coming at once: from the first word until the last agent is told that it is registered.
async fn come_back(table: &mut Table, agents: usize) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    fill(folder.path(), agents).await?;
    let master = Started::new(folder.path()).await?;
    let mut channels = Vec::new();
    for _ in 0..agents.div_ceil(STREAMS_PER_CONNECTION) {
        channels.push(
            Endpoint::from_shared(format!("http://{}", master.address))?.tcp_nodelay(true).connect().await?,
        );
    }
    let requests: Vec<AgentServiceConnectRequest> =
        (0..agents).map(|number| registration(number).into()).collect();
    let (start, before) = (Instant::now(), processor_of_all());
    let mut coming = tokio::task::JoinSet::new();
    for (number, request) in requests.into_iter().enumerate() {
        coming.spawn(register(channels[number / STREAMS_PER_CONNECTION].clone(), request));
    }
    // Their streams stay open, as those of agents do.
    let mut streams = Vec::with_capacity(agents);
    while let Some(stream) = coming.join_next().await {
        streams.push(stream??);
    }
    let (took, spent) = (start.elapsed(), processor_of_all().saturating_sub(before));
    let what = format!("agents with {TASKS_EACH} tasks each: registered again, over the wire");
    table.row(vec![what, agents.to_string(), ms(took), ms(spent)]);
    drop(streams);
    master.stop().await
}

/// Registers, and returns once that stands.
async fn register(
    channel: Channel,
    request: AgentServiceConnectRequest,
) -> Result<impl Send + 'static, Failed> {
    let mut client = AgentServiceClient::new(channel);
    let said = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut stream = client.connect(said).await?.into_inner();
    loop {
        let message = stream.message().await?.ok_or("the master ended the stream")?;
        match message.message {
            Some(Message::Registered(_)) => return Ok(stream),
            Some(Message::Refuse(refuse)) => return Err(refuse.message.into()),
            _ => {}
        }
    }
}

/// A master that begins with what a registry kept, from its start until it answers.
async fn cold_start(table: &mut Table, agents: usize) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (wrote, written) = (Instant::now(), fill(folder.path(), agents).await);
    written?;
    table.row(vec![
        "entries of a registry on disk: written at once".to_owned(),
        (agents + FRAMEWORKS).to_string(),
        ms(wrote.elapsed()),
        "-".to_owned(),
    ]);
    let (start, before) = (Instant::now(), processor_of_all());
    let master = Started::new(folder.path()).await?;
    let operator = apportion_sdk::operator::Operator::connect(&master.address).await?;
    let knows = operator.cluster().await?.agents;
    let (took, spent) = (start.elapsed(), processor_of_all().saturating_sub(before));
    assert_eq!(knows, agents as u64, "all are known");
    let what = "agents of a registry on disk: from a master's start to its first answer";
    table.row(vec![what.to_owned(), agents.to_string(), ms(took), ms(spent)]);
    master.stop().await
}

/// A master that serves.
struct Started {
    address: String,
    stop: tokio::sync::oneshot::Sender<()>,
    served: tokio::task::JoinHandle<Result<(), apportion_master::ServeError>>,
}

impl Started {
    async fn new(work_dir: &Path) -> Result<Self, Failed> {
        let listen = ([127, 0, 0, 1], 0).into();
        let config =
            apportion_master::Config { listen, work_dir: Some(work_dir.to_owned()), ..Default::default() };
        let server = Server::bind(config).await?;
        let address = server.local_addr().to_string();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(server.run(async { drop(stopped.await) }));
        Ok(Self { address, stop, served })
    }

    async fn stop(self) -> Result<(), Failed> {
        let _ = self.stop.send(());
        Ok(self.served.await??)
    }
}

/// A registry as an earlier master left it.
async fn fill(work_dir: &Path, agents: usize) -> Result<(), Failed> {
    let registry = Embedded::open(work_dir)?;
    Ok(registry.commit(admissions(agents)).await?)
}

fn admissions(agents: usize) -> Vec<RegistryOp> {
    let agents = (0..agents)
        .map(|number| RegistryOp::AdmitAgent { agent_id: agent_id(number), info: agent_info(number) });
    let frameworks = (0..FRAMEWORKS).map(|number| RegistryOp::AdmitFramework {
        framework_id: framework_id(number),
        info: framework_info(number),
    });
    agents.chain(frameworks).collect()
}

fn agent_id(number: usize) -> AgentId {
    AgentId::new(format!("m0-A{number:05}")).expect("a good id")
}

fn framework_id(number: usize) -> FrameworkId {
    FrameworkId::new(format!("m0-F{number:04}")).expect("a good id")
}

fn framework_info(number: usize) -> FrameworkInfo {
    FrameworkInfo {
        name: format!("framework {number}"),
        principal: "bench".to_owned(),
        roles: vec![Role::default()],
        failover_timeout: Duration::from_secs(3600),
        labels: BTreeMap::new(),
    }
}

fn agent_info(number: usize) -> AgentInfo {
    AgentInfo {
        hostname: format!("host-{number}.cluster.example"),
        address: format!("host-{number}.cluster.example:5051"),
        resources: "cpus:24;mem:4096;disk:4096;ports:[31000-32000]".parse().expect("good resources"),
        attributes: [("rack".to_owned(), format!("r{}", number % 40))].into(),
        domain: None,
        unenforced: Vec::new(),
        version: "0.1.0".to_owned(),
        capabilities: AgentCapability::ALL.into(),
        work_dir_id: String::new(),
    }
}

/// What an agent says that an earlier master knew, with its tasks.
fn registration(number: usize) -> AgentMessage {
    let task = |index: usize| AgentTask {
        framework_id: framework_id((number + index) % FRAMEWORKS),
        framework_info: framework_info((number + index) % FRAMEWORKS),
        role: Role::default(),
        info: TaskInfo {
            task_id: TaskId::new(format!("task-{number}-{index}")).expect("a good id"),
            name: "a task".to_owned(),
            resources: "cpus:1;mem:64".parse().expect("good resources"),
            limits: Resources::new(),
            pids_max: None,
            command: Command { argv: vec!["/bin/sleep".to_owned(), "30".to_owned()], env: BTreeMap::new() },
            kill_grace: None,
            labels: BTreeMap::new(),
            volumes: Vec::new(),
            container: Default::default(),
            supervision: Default::default(),
            group: None,
            execution: Default::default(),
        },
        state: TaskState::Running,
        unacknowledged: None,
    };
    let info = agent_info(number);
    AgentMessage::Register {
        total: info.resources.clone(),
        info,
        agent_id: Some(agent_id(number)),
        tasks: (0..TASKS_EACH).map(task).collect(),
        operations: Vec::new(),
    }
}
