//! What a scenario can say.
//!
//! ```text
//! config pids=N | on_shutdown=keep | on_shutdown=kill:2s | resources=cpus:4 | detected=cpus | hostname=H | attribute=NAME:VALUE|NAME
//!        domain=REGION/ZONE | boot=ID | cores=0-3|none      before everything else; starts afresh. An attribute without a value is not set any more
//! connect | disconnect | registered AGENT [missing=F/T]… [drain[:2s][:gone]] | ping N | refuse CODE TEXT
//! drain [2s][:gone] | drain no more
//! run F T RESOURCES [limits=…] [grace=1s] [pids=N] [writes=MIB] [env=A=B] [group=G/PART/PLACE/MEMBERS[/NETWORK]] [executor|by=T] [exclusive] [max=1min] [health=WHEN] [check=WHEN] [; T RESOURCES …]
//!                                    WHEN is `delay:1s,interval:2s,timeout:1s` and for health `grace:5s,failures:3` too; what is asked is TCP
//! kill F T [grace=1s] [reason=…]     ack F T N     remove F
//! apply F|operator O|- reserve|unreserve|create|destroy RESOURCES        an operation, named or not
//! apply F|operator O|- grow|shrink VOLUME by DISK                        DISK of shrink is its MiB alone
//! ack operation F O N
//! lend RESOURCES|nothing             what could be lent is estimated
//! written [N]                        all records asked for (or up to N) are on disk
//! launched C | progress C TEXT | launch failed C command|container|image|artifact|unenforceable|cancelled TEXT
//! ending C | ended C code=0|signal=9|lost [memory=LIMIT:PEAK]     lost C TEXT     signal failed C TEXT
//! answer C health|check exit=1|http=200|connected|refused|none [N]     to the last probe of its kind, or to the Nth of all
//! executor C subscribe [runs=C,C] [U:C:STATE[:healthy|unhealthy][:WORD]]…   the executor in C says what it runs, and what is not acknowledged
//! executor C say U:C:STATE[:…]       U is the number of its update, the second C the run
//! executor C gone                    its stream ends
//! limited C [N] [why]                the last limits that were asked for are in force, or those of number N; or why they are not
//! over C disk=LIMIT                  the sandbox of a running container holds more than it may
//! wait 10s                           time passes; what happens meanwhile is shown with its time
//! restart [damaged] [SETTING]…       a new process of the agent replays what is on disk; the rest of which could not be read
//! shutdown | view
//! ```
//!
//! C is the number of a container, counted from 1 as they are named.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use apportion_agent_core::{
    Action, AgentCore, CheckpointId, Config, ContainerId, Event, LaunchFailure, LaunchFailureKind, Log,
    OnShutdown, ProbeKind, Record, Recovered,
};
use apportion_types::{
    AgentCapability, AgentId, AgentInfo, Drain, FaultDomain, FrameworkInfo, OperationId, Reason, Resources,
    Role, RunId, TaskState, Time, UpdateId,
    container::{Exit, Limitation, Termination, Usage},
    limits,
    protocol::{
        agent::{MasterMessage, RefuseCode},
        executor::{ExecutorCall, ExecutorUpdate},
    },
    resources::Name,
};

use crate::{
    show,
    words::{self, duration, framework, resources, task, task_info},
};

pub(crate) struct World {
    now: Time,
    incarnation: u64,
    config: Config,
    agent: AgentCore,
    /// What earlier processes have written.
    log: Log,
    asked: Vec<Record>,
    written: usize,
    containers: Vec<ContainerId>,
    /// The last probe of each.
    probes: BTreeMap<(ContainerId, ProbeKind), u64>,
    /// The last limits of each.
    limits: BTreeMap<ContainerId, u64>,
}

impl World {
    pub(crate) fn new() -> Self {
        let info = AgentInfo {
            hostname: "host".to_owned(),
            address: "host:5051".to_owned(),
            resources: "cpus:4;mem:4096;ports:[31000-31009]".parse().unwrap(),
            attributes: BTreeMap::new(),
            domain: None,
            unenforced: Vec::new(),
            version: "1".to_owned(),
            capabilities: AgentCapability::ALL.into(),
            work_dir_id: String::new(),
        };
        Self::started(Config::new(info))
    }

    fn started(config: Config) -> Self {
        let now = Time::ZERO;
        let agent = AgentCore::new(config.clone(), 1, now);
        Self {
            now,
            incarnation: 1,
            config,
            agent,
            log: Log::default(),
            asked: Vec::new(),
            written: 0,
            containers: Vec::new(),
            probes: BTreeMap::new(),
            limits: BTreeMap::new(),
        }
    }

    pub(crate) fn command(&mut self, line: &str) -> Vec<String> {
        // The one space within resources.
        let line = line.replace(" shared]", "\u{1}shared]");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["config", settings @ ..] => {
                self.configure(settings);
                Vec::new()
            }
            ["wait", pause] => self.wait(duration(pause)),
            ["restart", "damaged", settings @ ..] => {
                self.set(settings);
                self.restart(true)
            }
            ["restart", settings @ ..] => {
                self.set(settings);
                self.restart(false)
            }
            ["view"] => self.view(),
            words => {
                let event = self.event(words);
                self.handle(event)
            }
        }
    }

    fn configure(&mut self, settings: &[&str]) {
        self.set(settings);
        *self = Self::started(self.config.clone());
    }

    fn set(&mut self, settings: &[&str]) {
        let config = &mut self.config;
        for setting in settings {
            match setting.split_once('=').unwrap() {
                ("hostname", name) => config.info.hostname = name.to_owned(),
                ("boot", id) => config.boot_id = Some(id.to_owned()),
                ("cores", "none") => config.cores = None,
                ("cores", text) => config.cores = Some(text.parse().unwrap()),
                ("domain", text) => {
                    let (region, zone) = text.split_once('/').unwrap();
                    config.info.domain =
                        Some(FaultDomain { region: region.to_owned(), zone: zone.to_owned() });
                }
                ("attribute", text) => {
                    match text.split_once(':') {
                        Some((name, value)) => {
                            config.info.attributes.insert(name.to_owned(), value.to_owned())
                        }
                        None => config.info.attributes.remove(text),
                    };
                }
                ("pids", number) => config.pids_default = number.parse().unwrap(),
                ("resources", text) => config.info.resources = resources(text),
                ("detected", "") => config.detected.clear(),
                ("detected", names) => {
                    config.detected = names.split(',').map(|name| Name::new(name).unwrap()).collect();
                }
                ("on_shutdown", "keep") => config.on_shutdown = OnShutdown::Keep,
                ("on_shutdown", kill) => {
                    let grace_max = duration(kill.strip_prefix("kill:").unwrap());
                    config.on_shutdown = OnShutdown::Kill { grace_max };
                }
                other => panic!("setting {other:?}"),
            }
        }
    }

    fn container(&self, number: &str) -> ContainerId {
        self.containers[number.parse::<usize>().unwrap() - 1].clone()
    }

    fn event(&mut self, words: &[&str]) -> Event {
        match words {
            ["connect"] => Event::Connected,
            ["disconnect"] => Event::Disconnected { reason: "connection reset".to_owned() },
            ["written"] => {
                self.written = self.asked.len();
                Event::Checkpointed { checkpoint: CheckpointId(self.written as u64) }
            }
            ["written", number] => {
                self.written = number.parse().unwrap();
                Event::Checkpointed { checkpoint: CheckpointId(self.written as u64) }
            }
            ["launched", c, addresses @ ..] => Event::Launched {
                container_id: self.container(c),
                addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            },
            ["progress", c, text @ ..] => {
                Event::LaunchProgress { container_id: self.container(c), message: text.join(" ") }
            }
            ["answer", c, kind, result, number @ ..] => {
                let container_id = self.container(c);
                let kind = match *kind {
                    "health" => ProbeKind::Health,
                    "check" => ProbeKind::Check,
                    _ => panic!("kind `{kind}`"),
                };
                let number = match number {
                    [] => self.probes[&(container_id.clone(), kind)],
                    number => number[0].parse().unwrap(),
                };
                let result = words::check_result(result);
                Event::Probed { container_id, kind, number, result, message: result.to_string() }
            }
            ["over", c, limit] => {
                let limitation = match limit.split_once('=').unwrap() {
                    ("disk", bytes) => Limitation::Disk { limit_bytes: bytes.parse().unwrap() },
                    ("port", port) => Limitation::Port { port: port.parse().unwrap() },
                    _ => panic!("limit `{limit}`"),
                };
                Event::LimitExceeded { container_id: self.container(c), limitation }
            }
            ["launch", "failed", c, kind, text @ ..] => {
                let kind = match *kind {
                    "command" => LaunchFailureKind::Command,
                    "container" => LaunchFailureKind::Container,
                    "image" => LaunchFailureKind::Image,
                    "artifact" => LaunchFailureKind::Artifact,
                    "network" => LaunchFailureKind::Network,
                    "unenforceable" => LaunchFailureKind::Unenforceable,
                    "cancelled" => LaunchFailureKind::Cancelled,
                    _ => panic!("kind `{kind}`"),
                };
                let failure = LaunchFailure { kind, message: text.join(" ") };
                Event::LaunchFailed { container_id: self.container(c), failure }
            }
            ["ending", c] => Event::Ending { container_id: self.container(c) },
            ["ended", c, how @ ..] => {
                Event::Terminated { container_id: self.container(c), termination: self.termination(how) }
            }
            ["lost", c, text @ ..] => {
                Event::ContainerLost { container_id: self.container(c), message: text.join(" ") }
            }
            ["signal", "failed", c, text @ ..] => {
                Event::SignalFailed { container_id: self.container(c), message: text.join(" ") }
            }
            ["executor", c, "subscribe", said @ ..] => {
                let (runs, said): (Vec<&str>, Vec<&str>) =
                    said.iter().partition(|word| word.starts_with("runs="));
                let runs = runs.iter().flat_map(|runs| runs["runs=".len()..].split(','));
                let runs = runs.map(|run| self.run_id(run)).collect();
                let unacknowledged = said.iter().map(|said| self.executor_update(said)).collect();
                let call = ExecutorCall::Subscribe { runs, unacknowledged };
                Event::Executor { container_id: self.container(c), call }
            }
            ["executor", c, "say", said] => {
                let call = ExecutorCall::Update(self.executor_update(said));
                Event::Executor { container_id: self.container(c), call }
            }
            ["executor", c, "gone"] => Event::ExecutorDisconnected {
                container_id: self.container(c),
                reason: "connection reset".to_owned(),
            },
            ["limited", c, rest @ ..] => {
                let container_id = self.container(c);
                let number = rest.first().and_then(|number| number.parse().ok());
                let why = &rest[usize::from(number.is_some())..];
                let number = number.unwrap_or_else(|| self.limits[&container_id]);
                let result = if why.is_empty() { Ok(()) } else { Err(why.join(" ")) };
                Event::Limited { container_id, number, result }
            }
            ["lend", "nothing"] => Event::Oversubscribed { revocable: Resources::new() },
            ["lend", text] => Event::Oversubscribed { revocable: resources(text) },
            ["shutdown"] => Event::Shutdown,
            words => Event::MasterMessage(self.message(words)),
        }
    }

    /// A run of this number, or, as `strange`, of none that the agent knows.
    fn run_id(&self, number: &str) -> RunId {
        match number {
            "strange" => RunId::new("99-1").unwrap(),
            number => RunId::new(self.container(number).0).unwrap(),
        }
    }

    fn executor_update(&self, text: &str) -> ExecutorUpdate {
        let mut words = text.split(':');
        let mut next = || words.next().unwrap();
        let update_id = UpdateId::new(0, next().parse().unwrap());
        let run_id = self.run_id(next());
        let state = next();
        let state = TaskState::ALL.into_iter().find(|known| known.name() == state).unwrap();
        let mut update = ExecutorUpdate { run_id, update_id, state, message: String::new(), healthy: None };
        for word in words {
            match word {
                "healthy" => update.healthy = Some(true),
                "unhealthy" => update.healthy = Some(false),
                word => update.message = word.to_owned(),
            }
        }
        update
    }

    fn termination(&self, how: &[&str]) -> Termination {
        let mut termination = Termination {
            exit: None,
            limitation: None,
            usage: Usage::default(),
            started_at: self.now,
            finished_at: self.now,
        };
        for part in how {
            match part.split_once('=') {
                None if *part == "lost" => {}
                Some(("code", code)) => termination.exit = Some(Exit::Code(code.parse().unwrap())),
                Some(("signal", signal)) => termination.exit = Some(Exit::Signal(signal.parse().unwrap())),
                Some(("memory", bytes)) => {
                    let (limit, peak) = bytes.split_once(':').unwrap();
                    termination.limitation = Some(Limitation::Memory { limit_bytes: limit.parse().unwrap() });
                    termination.usage.memory_peak_bytes = Some(peak.parse().unwrap());
                }
                _ => panic!("`{part}`"),
            }
        }
        termination
    }

    fn message(&self, words: &[&str]) -> MasterMessage {
        match words {
            ["registered", agent, missing @ ..] => MasterMessage::Registered {
                agent_id: AgentId::new(agent).unwrap(),
                master_id: "m1".to_owned(),
                ping_timeout: limits::AGENT_PING_INTERVAL * limits::AGENT_PINGS_MISSED_MAX,
                drain: missing.iter().find(|text| text.starts_with("drain")).map(|text| drain(text)),
                missing_tasks: missing
                    .iter()
                    .filter(|text| !text.starts_with("drain"))
                    .map(|text| text.strip_prefix("missing=").unwrap().split_once('/').unwrap())
                    .map(|(f, t)| (framework(f), task(t)))
                    .collect(),
            },
            ["drain", "no", "more"] => MasterMessage::Drain(None),
            ["drain"] => MasterMessage::Drain(Some(drain("drain"))),
            ["drain", how] => MasterMessage::Drain(Some(drain(&format!("drain:{how}")))),
            ["ping", number] => MasterMessage::Ping { sequence: number.parse().unwrap() },
            ["refuse", code, text @ ..] => {
                let code = match *code {
                    "invalid" => RefuseCode::Invalid,
                    "removed" => RefuseCode::Removed,
                    "replaced" => RefuseCode::Replaced,
                    "too_slow" => RefuseCode::TooSlow,
                    "shutting_down" => RefuseCode::ShuttingDown,
                    "gone" => RefuseCode::Gone,
                    "maintenance" => RefuseCode::Maintenance,
                    _ => panic!("code `{code}`"),
                };
                MasterMessage::Refuse { code, message: text.join(" ") }
            }
            ["run", f, tasks @ ..] => MasterMessage::RunTasks {
                framework_id: framework(f),
                framework_info: Arc::new(FrameworkInfo {
                    name: "batch".to_owned(),
                    principal: String::new(),
                    roles: vec![Role::default()],
                    failover_timeout: Duration::from_secs(60),
                    labels: BTreeMap::new(),
                }),
                role: Role::default(),
                tasks: tasks.split(|word| *word == ";").map(task_info).map(Arc::new).collect(),
            },
            ["kill", f, t, options @ ..] => {
                let (mut grace, mut reason) = (None, Reason::KilledByFramework);
                for option in options {
                    match option.split_once('=').unwrap() {
                        ("grace", text) => grace = Some(duration(text)),
                        ("reason", text) => {
                            reason = Reason::ALL.into_iter().find(|r| r.name() == text).unwrap()
                        }
                        other => panic!("{other:?}"),
                    }
                }
                MasterMessage::KillTask { framework_id: framework(f), task_id: task(t), grace, reason }
            }
            ["apply", f, o, operation @ ..] => MasterMessage::Apply {
                framework_id: (*f != "operator").then(|| framework(f)),
                operation_id: (*o != "-").then(|| OperationId::new(*o).unwrap()),
                operation: words::operation(operation),
            },
            ["ack", "operation", f, o, number] => MasterMessage::AcknowledgeOperation {
                framework_id: framework(f),
                operation_id: OperationId::new(*o).unwrap(),
                update_id: self.update_id(number),
            },
            ["ack", f, t, number] => MasterMessage::AcknowledgeUpdate {
                framework_id: framework(f),
                task_id: task(t),
                update_id: self.update_id(number),
            },
            ["remove", f] => MasterMessage::RemoveFramework { framework_id: framework(f) },
            _ => panic!("`{}`", words.join(" ")),
        }
    }

    /// An update of this process, or, as `1.7`, of an earlier one.
    fn update_id(&self, number: &str) -> UpdateId {
        let (incarnation, number) = match number.split_once('.') {
            Some((incarnation, number)) => (incarnation.parse().unwrap(), number),
            None => (self.incarnation, number),
        };
        UpdateId::new(incarnation, number.parse().unwrap())
    }

    fn handle(&mut self, event: Event) -> Vec<String> {
        let mut actions = Vec::new();
        self.agent.handle(self.now, event, &mut actions);
        self.agent.check();
        for action in &actions {
            match action {
                Action::Checkpoint { record, .. } => {
                    self.containers.extend(record.taken_on().iter().map(|task| task.container_id.clone()));
                    self.asked.push(record.clone());
                }
                Action::Probe { container_id, kind, number, .. } => {
                    self.probes.insert((container_id.clone(), *kind), *number);
                }
                Action::Limit { container_id, number, .. } => {
                    self.limits.insert(container_id.clone(), *number);
                }
                _ => continue,
            }
        }
        actions.iter().map(show::action).collect()
    }

    fn wait(&mut self, pause: Duration) -> Vec<String> {
        let end = self.now + pause;
        let mut out = Vec::new();
        while let Some(due) = self.agent.next_deadline().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            let at = format!("at {:.3}s ", self.now.as_micros() as f64 / 1e6);
            out.extend(self.handle(Event::Tick).into_iter().map(|action| format!("{at}{action}")));
        }
        self.now = end;
        out
    }

    /// Replays what is on disk.
    fn restart(&mut self, damaged: bool) -> Vec<String> {
        for record in self.asked.drain(..).take(self.written) {
            self.log.apply(record).unwrap();
        }
        self.written = 0;
        self.incarnation += 1;
        self.agent = AgentCore::new(self.config.clone(), self.incarnation, self.now);
        self.handle(Event::Recovered(Recovered { damaged, ..self.log.recovered() }))
    }

    fn view(&self) -> Vec<String> {
        let view = self.agent.view();
        let mut out = vec![format!(
            "agent {:?} master {:?} free {}",
            view.agent_id.map(|id| id.to_string()),
            view.master_id,
            view.free
        )];
        if view.resources != self.config.info.resources {
            out.push(format!("total {}", view.resources));
        }
        out.extend(
            view.tasks
                .iter()
                .map(|((f, t), task)| format!("{f}/{t} {} in {}", task.state, task.container_id)),
        );
        out
    }
}

/// How the agent is drained, written `drain`, `drain:2s`, `drain:gone` or `drain:2s:gone`.
fn drain(text: &str) -> Drain {
    let mut drain = Drain::default();
    for part in text.split(':').skip(1) {
        match part {
            "gone" => drain.mark_gone = true,
            grace => drain.grace_max = Some(duration(grace)),
        }
    }
    drain
}
