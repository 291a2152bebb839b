//! The scale test of the Mesos paper (NSDI 2011, section 6.4): many emulated agents, 200 frameworks that launch tasks without end,
//! and how long a task takes from the framework's decision until it is told that the task runs.
//!
//! Real are the master with its shell, the frameworks' drivers, the agents' state machines, and every message over gRPC on loopback.
//! Emulated are the agents' disks and containers: a record is written at once, and a container ends when its time is over. Agents share
//! connections, 1,000 streams on each, for file descriptors end before agents do. All of it shares the processors of this machine.
//!
//! `cargo bench -p apportion-benches --bench scale -- [--quick] [--agents N] [--running N] [--mean-ms N] [--seconds N]`

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::{Duration, Instant},
};

use apportion_agent_core::{Action, AgentCore, Config, ContainerId, Event};
use apportion_benches::{Table, ms, percentile, resident_bytes};
use apportion_proto::v1::{AgentServiceConnectRequest, agent_service_client::AgentServiceClient};
use apportion_sdk::{
    Context, Driver, FrameworkOptions, Offer, Scheduler, Stop, Task, TaskId, TaskState, TaskStatus,
    async_trait,
};
use apportion_types::{
    AgentCapability, AgentInfo, Time,
    container::{Exit, Termination, Usage},
    protocol::agent::MasterMessage,
};
use tokio::{sync::mpsc, time::sleep_until};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};

const FRAMEWORKS: usize = 200;
const STREAMS_PER_CONNECTION: usize = 1000;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What is run.
struct Load {
    agents: usize,
    /// Tasks that all frameworks together keep running.
    running: usize,
    /// The mean time that a task runs; drawn evenly from half of it to one and a half.
    mean: Duration,
    /// How long is measured.
    measured: Duration,
}

fn main() -> ExitCode {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let number = |name: &str| {
        let args: Vec<String> = std::env::args().collect();
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<usize>().ok()
    };
    let seconds =
        |default| Duration::from_secs(number("--seconds").map_or(default, |seconds| seconds as u64));
    let millis = |default| Duration::from_millis(number("--mean-ms").map_or(default, |ms| ms as u64));
    let load = |agents: usize, running: usize, mean_ms: u64| Load {
        agents: number("--agents").unwrap_or(agents),
        running: number("--running").unwrap_or(running),
        mean: millis(mean_ms),
        measured: seconds(if quick { 3 } else { 20 }),
    };
    let loads = match quick {
        true => vec![load(1_000, 600, 3_000)],
        // The paper's, at a rate that leaves these processors room, and one as fast as it goes.
        false => vec![
            load(1_000, 6_000, 30_000),
            load(10_000, 6_000, 30_000),
            load(50_000, 6_000, 30_000),
            load(1_000, 2_000, 100),
        ],
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut table = Table::new(&[
        "agents",
        "frameworks",
        "tasks running",
        "launches/s",
        "launch p50 ms",
        "p99 ms",
        "max ms",
        "agents joined in, ms",
        "MiB in all",
    ]);
    for load in loads {
        match runtime.block_on(run(&load)) {
            Ok(row) => table.row(row),
            Err(error) => {
                eprintln!("scale: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{table}");
    ExitCode::SUCCESS
}

async fn run(load: &Load) -> Result<Vec<String>, Failed> {
    let any_port = ([127, 0, 0, 1], 0).into();
    let config = apportion_master::Config { listen: any_port, ..Default::default() };
    let master = apportion_master::Server::bind(config).await?;
    let address = master.local_addr().to_string();
    let (stop_master, master_stopped) = tokio::sync::oneshot::channel::<()>();
    let master = tokio::spawn(master.run(async { drop(master_stopped.await) }));

    let start = Instant::now();
    let (joined, mut joins) = mpsc::unbounded_channel();
    let mut agents = tokio::task::JoinSet::new();
    for first in (0..load.agents).step_by(STREAMS_PER_CONNECTION) {
        let channel = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true).connect().await?;
        for number in first..(first + STREAMS_PER_CONNECTION).min(load.agents) {
            agents.spawn(agent(number, channel.clone(), joined.clone()));
        }
    }
    for _ in 0..load.agents {
        joins.recv().await.ok_or("an agent has ended")?;
    }
    let all_joined = start.elapsed();

    let (latency, mut latencies) = mpsc::unbounded_channel();
    let mut handles = Vec::new();
    let mut drivers = tokio::task::JoinSet::new();
    for number in 0..FRAMEWORKS {
        let options = FrameworkOptions { offers_max: Some(4), ..FrameworkOptions::default() };
        let driver = Driver::builder(format!("framework-{number}"))
            .master(address.clone())
            .options(options)
            .build()?;
        handles.push(driver.handle());
        let launcher = Launcher {
            number,
            made: 0,
            wanted: (load.running / FRAMEWORKS).max(1),
            mean: load.mean,
            live: BTreeMap::new(),
            latency: latency.clone(),
        };
        drivers.spawn(driver.run(launcher));
    }
    // Until the load is there, and a while more.
    let warm = load.mean.max(Duration::from_secs(2));
    let end_of_warming = Instant::now() + warm;
    while let Ok(Some(_)) = tokio::time::timeout_at(end_of_warming.into(), latencies.recv()).await {}
    let from = Instant::now();
    let mut measured: Vec<Duration> = Vec::new();
    while let Ok(Some(latency)) =
        tokio::time::timeout_at((from + load.measured).into(), latencies.recv()).await
    {
        measured.push(latency);
    }
    let seconds = from.elapsed().as_secs_f64();
    let memory = resident_bytes() >> 20;

    for handle in handles {
        let _ = handle.send(()).await;
    }
    while drivers.join_next().await.is_some() {}
    agents.shutdown().await;
    let _ = stop_master.send(());
    master.await??;
    if measured.is_empty() {
        return Err("no task was launched".into());
    }
    Ok(vec![
        load.agents.to_string(),
        FRAMEWORKS.to_string(),
        load.running.to_string(),
        format!("{:.0}", measured.len() as f64 / seconds),
        ms(percentile(measured.clone(), 50)),
        ms(percentile(measured.clone(), 99)),
        ms(percentile(measured, 100)),
        ms(all_joined),
        memory.to_string(),
    ])
}

/// Keeps so many tasks running.
struct Launcher {
    number: usize,
    made: u64,
    wanted: usize,
    mean: Duration,
    /// When each was launched.
    live: BTreeMap<TaskId, Instant>,
    latency: mpsc::UnboundedSender<Duration>,
}

#[async_trait]
impl Scheduler for Launcher {
    type Message = ();

    async fn message(&mut self, cx: &mut Context<'_>, (): ()) {
        cx.stop(Stop::Disconnect);
    }

    async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            while self.live.len() < self.wanted {
                self.made += 1;
                // Spread evenly and the same in each run.
                let part = (self.made * 7919 + self.number as u64 * 104_729) % 1000;
                let millis = self.mean.as_millis() as u64 * (500 + part) / 1000;
                let task = Task::new(format!("{}-{}", self.number, self.made))
                    .command(["sleep".to_owned(), millis.to_string()]);
                let task = task.cpus(1.0).mem_mib(16).build().expect("a good task");
                let task_id = task.task_id.clone();
                if offer.launch(task).is_err() {
                    break;
                }
                self.live.insert(task_id, Instant::now());
            }
        }
    }

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        if status.state == TaskState::Running
            && let Some(launched) = self.live.get(&status.task_id)
        {
            let _ = self.latency.send(launched.elapsed());
        }
        if status.state.is_terminal() {
            self.live.remove(&status.task_id);
        }
    }

    fn wants_offers(&self) -> bool {
        self.live.len() < self.wanted
    }
}

/// One emulated agent: a real state machine and a real stream, a disk that is quick and containers that only take time.
async fn agent(number: usize, channel: Channel, joined: mpsc::UnboundedSender<()>) -> Result<(), Failed> {
    let info = AgentInfo {
        hostname: format!("host-{number}"),
        address: format!("host-{number}:5051"),
        resources: "cpus:32;mem:4096;ports:[31000-32000]".parse()?,
        attributes: [("rack".to_owned(), format!("r{}", number % 40))].into(),
        domain: None,
        unenforced: Vec::new(),
        version: String::new(),
        capabilities: AgentCapability::ALL.into(),
        work_dir_id: String::new(),
    };
    let begun = Instant::now();
    let now = || Time::from_micros(begun.elapsed().as_micros() as u64);
    let mut core = AgentCore::new(Config::new(info), number as u64 + 1, now());
    let (outbox, outgoing) = mpsc::unbounded_channel::<AgentServiceConnectRequest>();
    let mut ends: BTreeSet<(Instant, ContainerId)> = BTreeSet::new();
    let feed = |event: Event, ends: &mut BTreeSet<(Instant, ContainerId)>, core: &mut AgentCore| {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = Vec::new();
            core.handle(now(), event, &mut actions);
            for action in actions {
                match action {
                    Action::Send(message) => drop(outbox.send(message.into())),
                    Action::Checkpoint { checkpoint, .. } => {
                        events.push_back(Event::Checkpointed { checkpoint })
                    }
                    Action::Launch(plan) => {
                        let millis = plan.argv.get(1).and_then(|text| text.parse().ok()).unwrap_or(0);
                        ends.insert((
                            Instant::now() + Duration::from_millis(millis),
                            plan.container_id.clone(),
                        ));
                        events.push_back(Event::Launched {
                            container_id: plan.container_id,
                            addresses: Vec::new(),
                        });
                    }
                    _ => {}
                }
            }
        }
    };
    feed(Event::Connected, &mut ends, &mut core);
    let mut client = AgentServiceClient::new(channel);
    let mut stream = client.connect(UnboundedReceiverStream::new(outgoing)).await?.into_inner();
    loop {
        let next_end = ends.first().map(|(at, _)| *at);
        let deadline = core.next_deadline().map(|at| begun + Duration::from_micros(at.as_micros()));
        let wake = next_end
            .into_iter()
            .chain(deadline)
            .min()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            message = stream.message() => {
                let Some(message) = message? else { return Err("the master ended the stream".into()) };
                let message = MasterMessage::try_from(message)?;
                if matches!(message, MasterMessage::Registered { .. }) {
                    let _ = joined.send(());
                }
                feed(Event::MasterMessage(message), &mut ends, &mut core);
            }
            () = sleep_until(wake.into()) => {
                while ends.first().is_some_and(|(at, _)| *at <= Instant::now()) {
                    let (_, container_id) = ends.pop_first().expect("there is one");
                    let termination = Termination {
                        exit: Some(Exit::Code(0)),
                        limitation: None,
                        usage: Usage::default(),
                        started_at: now(),
                        finished_at: now(),
                    };
                    feed(Event::Terminated { container_id, termination }, &mut ends, &mut core);
                }
                feed(Event::Tick, &mut ends, &mut core);
            }
        }
    }
}
