//! The JSON documents for programs: what the master's pages and `apportion … -o json` give.
//!
//! A public interface: fields are only ever added. Times are microseconds since the Unix epoch. Environment variables of tasks
//! are named without their values, which may be secrets.

mod explain;
mod maintenance;
mod roles;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    Activation, AgentId, AgentInfo, CheckResult, ContainerStatus, Drain, Execution, FaultDomain, FrameworkId,
    FrameworkInfo, GroupInfo, IoLimits, OfferId, Reason, Resources, Role, Source, TaskId, TaskInfo,
    TaskState, TaskStatus, Time,
    container::{Exit, Limitation, Unenforced},
};

pub use self::{
    explain::{
        AgentVerdict, DeclineSample, Explanation, Obstacle, RateLimit, RoleExplanation, RoleMember,
        VerdictCount, Waiting,
    },
    maintenance::{
        InverseOfferState, MachineAgent, MachineStatus, MachineWindow, MaintenanceSchedule, MaintenanceWindow,
    },
    roles::{Limit, ReservationState, RoleFramework, RoleSettings, RoleState, VolumeState},
};

/// Resources, written as `{"text": "cpus:1.5;ports:[1-2]", "scalars": {"cpus": 1.5}}`, with `mem` and `disk` in MiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amounts(pub Resources);

impl Serialize for Amounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            text: String,
            scalars: BTreeMap<&'a str, f64>,
        }
        // A name that is held on several terms counts once.
        let mut scalars = BTreeMap::new();
        for (name, milli) in self.0.scalars() {
            *scalars.entry(name.as_str()).or_insert(0.0) += milli as f64 / 1000.0;
        }
        Form { text: self.0.to_string(), scalars }.serialize(serializer)
    }
}

/// What is in use of an agent or by a framework; its fields stand among those of the document around it.
#[derive(Debug, Clone, Serialize)]
pub struct Held {
    /// Held by tasks.
    pub allocated: Amounts,
    /// In outstanding offers.
    pub offered: Amounts,
    /// Tasks that have not ended.
    pub tasks: u64,
}

impl Held {
    /// What is allocated and what is offered, and the number of tasks.
    pub fn new(allocated: &Resources, offered: &Resources, tasks: u64) -> Held {
        Held { allocated: Amounts(allocated.clone()), offered: Amounts(offered.clone()), tasks }
    }
}

/// An agent as the master sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Agent {
    /// Its id.
    pub agent_id: AgentId,
    /// Its host's name.
    pub hostname: String,
    /// `host:port` of its services.
    pub address: String,
    /// Whether it takes part.
    pub state: &'static str,
    /// Whether an operator lets it be offered.
    pub activation: &'static str,
    /// How it is drained, or was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainWish>,
    /// The version of its software.
    pub version: String,
    /// When it was registered first.
    pub registered_at_us: Time,
    /// What frameworks may place by.
    pub attributes: BTreeMap<String, String>,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<FaultDomain>,
    /// Controls that it cannot enforce, and why; written as an object by control.
    #[serde(serialize_with = "by_control")]
    pub unenforced: Vec<Unenforced>,
    /// All that it has.
    pub total: Amounts,
    /// What is in use of it.
    #[serde(flatten)]
    pub held: Held,
}

/// How an agent is drained.
#[derive(Debug, Clone, Serialize)]
pub struct DrainWish {
    /// The most from TERM to KILL, where it bounds that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_max_ms: Option<u64>,
    /// Whether the agent is gone for ever once it is drained.
    pub mark_gone: bool,
}

impl DrainWish {
    /// The document of a drain.
    pub fn new(drain: Drain) -> DrainWish {
        let millis = |grace: Duration| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        DrainWish { grace_max_ms: drain.grace_max.map(millis), mark_gone: drain.mark_gone }
    }
}

fn by_control<S: Serializer>(unenforced: &[Unenforced], serializer: S) -> Result<S::Ok, S::Error> {
    let reasons: BTreeMap<&str, &str> =
        unenforced.iter().map(|each| (each.control.name(), each.reason.as_str())).collect();
    reasons.serialize(serializer)
}

impl Agent {
    /// The document of an agent that describes itself so.
    pub fn new(
        agent_id: AgentId,
        info: &AgentInfo,
        total: &Resources,
        (state, activation): (&'static str, Activation),
        registered_at: Time,
        held: Held,
    ) -> Agent {
        Agent {
            agent_id,
            hostname: info.hostname.clone(),
            address: info.address.clone(),
            state,
            activation: activation.name(),
            drain: activation.drain().map(DrainWish::new),
            version: info.version.clone(),
            registered_at_us: registered_at,
            attributes: info.attributes.clone(),
            domain: info.domain.clone(),
            unenforced: info.unenforced.clone(),
            total: Amounts(total.clone()),
            held,
        }
    }
}

/// A framework as the master sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Framework {
    /// Its id.
    pub framework_id: FrameworkId,
    /// For people.
    pub name: String,
    /// Who runs it.
    pub principal: String,
    /// Whether it takes part.
    pub state: &'static str,
    /// The roles for which it takes offers.
    pub roles: Vec<Role>,
    /// Those of them for which it wants none now.
    pub suppressed_roles: Vec<Role>,
    /// How long its tasks run on while it is disconnected.
    pub failover_timeout_ms: u64,
    /// When it subscribed first.
    pub subscribed_at_us: Time,
    /// Free text for people and tools.
    pub labels: BTreeMap<String, String>,
    /// What it has and is offered.
    #[serde(flatten)]
    pub held: Held,
    /// Why it declined offers, and how often.
    pub declined: BTreeMap<String, u64>,
}

impl Framework {
    /// The document of a framework that describes itself so.
    pub fn new(
        framework_id: FrameworkId,
        info: &FrameworkInfo,
        state: &'static str,
        subscribed_at: Time,
        suppressed_roles: &[Role],
        held: Held,
        declined: &BTreeMap<String, u64>,
    ) -> Framework {
        Framework {
            framework_id,
            name: info.name.clone(),
            principal: info.principal.clone(),
            state,
            roles: info.roles.clone(),
            suppressed_roles: suppressed_roles.to_vec(),
            failover_timeout_ms: millis(info.failover_timeout),
            subscribed_at_us: subscribed_at,
            labels: info.labels.clone(),
            held,
            declined: declined.clone(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A task as the master sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Task {
    /// Its name in its framework.
    pub task_id: TaskId,
    /// For people.
    pub name: String,
    /// Its framework.
    pub framework_id: FrameworkId,
    /// Its agent.
    pub agent_id: AgentId,
    /// `host:port` of its agent's services; empty when the agent is removed.
    pub agent_address: String,
    /// The role whose resources it holds.
    pub role: Role,
    /// Its state.
    pub state: TaskState,
    /// When its accept was taken.
    pub accepted_at_us: Time,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The names of its environment variables.
    pub env: Vec<String>,
    /// The paths that it reads of its agent's host beside what every task sees.
    pub volumes: Vec<String>,
    /// Its image, if it has one.
    pub image: Option<String>,
    /// Its network, if it has said something of it.
    pub network: Option<String>,
    /// What it is charged with.
    pub resources: Amounts,
    /// Ceilings above that.
    pub limits: Amounts,
    /// Processes and threads at once; the agent's default when none.
    pub pids_max: Option<u64>,
    /// What it may do with the disk that its sandbox is on; all when none.
    pub io: Option<IoLimits>,
    /// From TERM to KILL; the default when none.
    pub kill_grace_ms: Option<u64>,
    /// Free text for people and tools.
    pub labels: BTreeMap<String, String>,
    /// The task group that it is of, if it is of one.
    pub group: Option<GroupInfo>,
    /// What runs it, and whether it runs others.
    pub execution: Execution,
    /// The newest status; none before the first.
    pub status: Option<Status>,
}

impl Task {
    /// The document of a task that its framework describes so; the agent stands with the address of its services.
    pub fn new(
        framework_id: FrameworkId,
        (agent_id, agent_address): (AgentId, &str),
        role: Role,
        info: &TaskInfo,
        state: TaskState,
        status: Option<&TaskStatus>,
        accepted_at: Time,
    ) -> Task {
        Task {
            task_id: info.task_id.clone(),
            name: info.name.clone(),
            framework_id,
            agent_id,
            agent_address: agent_address.to_owned(),
            role,
            state,
            accepted_at_us: accepted_at,
            argv: info.command.argv.clone(),
            env: info.command.env.keys().cloned().collect(),
            volumes: info.volumes.iter().map(|volume| volume.container_path.clone()).collect(),
            image: info.container.image.as_ref().map(|image| image.reference.to_string()),
            network: info.network().map(|network| network.name.clone()),
            resources: Amounts(info.resources.clone()),
            limits: Amounts(info.limits.clone()),
            pids_max: info.pids_max,
            io: info.container.io.as_deref().copied(),
            kill_grace_ms: info.kill_grace.map(millis),
            labels: info.labels.clone(),
            group: info.group.as_deref().cloned(),
            execution: info.execution.clone(),
            status: status.map(Status::from),
        }
    }
}

/// What is known of a task at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Its state.
    pub state: TaskState,
    /// Why; none for an ordinary step forward.
    pub reason: Option<Reason>,
    /// Who says so.
    pub source: Source,
    /// For people.
    pub message: String,
    /// When it was so.
    pub at_us: Time,
    /// How its container ended or what it used, where known.
    pub container: Option<Container>,
    /// What its health check says.
    pub healthy: Option<bool>,
    /// What its check found last.
    pub check: Option<CheckResult>,
    /// Its own addresses; none on the network of its host.
    pub addresses: Vec<IpAddr>,
}

impl From<&TaskStatus> for Status {
    fn from(status: &TaskStatus) -> Status {
        Status {
            state: status.state,
            reason: status.reason,
            source: status.source,
            message: status.message.clone(),
            at_us: status.at,
            container: status.container.as_ref().map(Container::from),
            healthy: status.findings.healthy,
            check: status.findings.check,
            addresses: status.addresses.clone(),
        }
    }
}

/// How a container ended and what it used.
#[derive(Debug, Clone, Serialize)]
pub struct Container {
    /// What its first process returned, if it did.
    pub exit_code: Option<i32>,
    /// What signal ended that process, if one did.
    pub exit_signal: Option<i32>,
    /// The memory limit that ended it, if that did.
    pub memory_limit_exceeded_bytes: Option<u64>,
    /// The disk limit that ended it, if that did.
    pub disk_limit_exceeded_bytes: Option<u64>,
    /// The port that it listened on without holding it, if that ended it.
    pub port_not_held: Option<u16>,
    /// Processor time of all its processes.
    pub cpu_us: u64,
    /// The most memory that it held at once, where that is measured.
    pub memory_peak_bytes: Option<u64>,
    /// When its first process was started.
    pub started_at_us: Time,
    /// When it ended.
    pub finished_at_us: Time,
}

impl From<&ContainerStatus> for Container {
    fn from(container: &ContainerStatus) -> Container {
        let (exit_code, exit_signal) = match container.exit {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        Container {
            exit_code,
            exit_signal,
            memory_limit_exceeded_bytes: container.limitation.and_then(Limitation::memory_bytes),
            disk_limit_exceeded_bytes: container.limitation.and_then(Limitation::disk_bytes),
            port_not_held: container.limitation.and_then(Limitation::port),
            cpu_us: container.usage.cpu_us,
            memory_peak_bytes: container.usage.memory_peak_bytes,
            started_at_us: container.started_at,
            finished_at_us: container.finished_at,
        }
    }
}

/// An outstanding offer.
#[derive(Debug, Clone, Serialize)]
pub struct Offer {
    /// Its id.
    pub offer_id: OfferId,
    /// To whom.
    pub framework_id: FrameworkId,
    /// Whose resources.
    pub agent_id: AgentId,
    /// The agent's host.
    pub hostname: String,
    /// For which role.
    pub role: Role,
    /// What is offered.
    pub resources: Amounts,
    /// When it was made.
    pub made_at_us: Time,
    /// When it will be rescinded by itself.
    pub expires_at_us: Time,
    /// When the agent's machine is to be taken away, if that is planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailability: Option<MachineWindow>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        Command, ContainerInfo, Findings, Supervision, Volume, container::Control, container::Usage,
    };

    fn written(document: impl Serialize) -> Value {
        serde_json::to_value(document).unwrap()
    }

    fn of<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().unwrap()
    }

    #[test]
    fn amounts_are_a_text_and_numbers() {
        let scalars = json!({"cpus": 1.5, "mem": 512.0, "x": 1.0});
        let expected = json!({"text": "cpus:1.5;mem:512;ports:[1-2];x:1", "scalars": scalars});
        assert_eq!(written(Amounts(of("cpus:1.5;mem:512;ports:[1-2];x:1"))), expected);
    }

    #[test]
    fn an_agent_keeps_its_form() {
        let info = AgentInfo {
            hostname: "host".into(),
            address: "127.0.0.1:5051".into(),
            resources: of("cpus:4;mem:8GiB;ports:[1-9]"),
            attributes: [("rack".into(), "a".into())].into(),
            domain: None,
            unenforced: vec![Unenforced { control: Control::Memory, reason: "why".into() }],
            version: "0.1.0".into(),
            capabilities: crate::AgentCapability::ALL.into(),
            work_dir_id: String::new(),
        };
        let held = Held::new(&of("cpus:1.5;mem:512"), &Resources::new(), 3);
        let expected = json!({
            "agent_id": "a1", "state": "active", "activation": "draining", "drain": {"grace_max_ms": 1500, "mark_gone": false}, "hostname": "host", "address": "127.0.0.1:5051", "version": "0.1.0",
            "registered_at_us": 7, "attributes": {"rack": "a"}, "unenforced": {"memory": "why"},
            "total": {"text": "cpus:4;mem:8192;ports:[1-9]", "scalars": {"cpus": 4.0, "mem": 8192.0}},
            "allocated": {"text": "cpus:1.5;mem:512", "scalars": {"cpus": 1.5, "mem": 512.0}},
            "offered": {"text": "", "scalars": {}}, "tasks": 3,
        });
        let drain = Drain { grace_max: Some(Duration::from_millis(1500)), mark_gone: false };
        let states = ("active", Activation::Draining(drain));
        let agent = Agent::new(of("a1"), &info, &info.resources, states, Time::from_micros(7), held);
        assert_eq!(written(agent), expected);
    }

    #[test]
    fn a_framework_keeps_its_form() {
        let info = FrameworkInfo {
            name: "batch".into(),
            principal: "ann".into(),
            roles: vec![of("etl"), of("web")],
            failover_timeout: Duration::from_secs(5),
            labels: [("job".into(), "x".into())].into(),
        };
        let held = Held::new(&of("cpus:1;mem:64"), &Resources::new(), 1);
        let declined = [("too small".into(), 5), ("far".into(), 2)].into();
        let expected = json!({
            "framework_id": "f1", "name": "batch", "state": "disconnected", "principal": "ann", "roles": ["etl", "web"],
            "suppressed_roles": ["web"], "subscribed_at_us": 9, "failover_timeout_ms": 5000,
            "allocated": {"text": "cpus:1;mem:64", "scalars": {"cpus": 1.0, "mem": 64.0}},
            "offered": {"text": "", "scalars": {}}, "tasks": 1, "declined": {"far": 2, "too small": 5},
            "labels": {"job": "x"},
        });
        let (at, suppressed) = (Time::from_micros(9), [of("web")]);
        let framework = Framework::new(of("f1"), &info, "disconnected", at, &suppressed, held, &declined);
        assert_eq!(written(framework), expected);
    }

    #[test]
    fn a_task_keeps_its_form_and_its_secrets() {
        let env = [("PASSWORD".to_owned(), "secret".to_owned())].into();
        let info = TaskInfo {
            task_id: of("t1"),
            name: "first".into(),
            resources: of("cpus:0.5;mem:64"),
            limits: of("cpus:2"),
            pids_max: None,
            command: Command { argv: vec!["/bin/sh".into(), "-c".into(), "exit 3".into()], env },
            kill_grace: Some(Duration::from_secs(2)),
            labels: [("a".into(), "b".into())].into(),
            volumes: vec![Volume::new("/data/in").unwrap()],
            container: ContainerInfo::default(),
            supervision: Supervision::default(),
            group: None,
            execution: Default::default(),
        };
        let container = ContainerStatus {
            exit: Some(Exit::Code(3)),
            limitation: None,
            usage: Usage { cpu_us: 11, memory_peak_bytes: Some(12) },
            started_at: Time::from_micros(13),
            finished_at: Time::from_micros(14),
        };
        let status = TaskStatus {
            task_id: of("t1"),
            agent_id: Some(of("a1")),
            state: TaskState::Failed,
            reason: Some(Reason::CommandExited),
            source: Source::Agent,
            message: "exit code 3".into(),
            at: Time::from_micros(15),
            update_id: None,
            container: Some(container.clone()),
            findings: Findings::default(),
            addresses: Vec::new(),
        };
        let expected_container = json!({
            "exit_code": 3, "exit_signal": null, "memory_limit_exceeded_bytes": null, "disk_limit_exceeded_bytes": null, "port_not_held": null, "cpu_us": 11,
            "memory_peak_bytes": 12, "started_at_us": 13, "finished_at_us": 14,
        });
        let expected_status = json!({
            "state": "failed", "reason": "command_exited", "source": "agent", "message": "exit code 3", "at_us": 15,
            "container": expected_container, "healthy": null, "check": null, "addresses": [],
        });
        let expected = json!({
            "task_id": "t1", "name": "first", "framework_id": "f1", "agent_id": "a1", "agent_address": "127.0.0.1:1",
            "role": "etl", "state": "failed", "accepted_at_us": 16, "argv": ["/bin/sh", "-c", "exit 3"],
            "env": ["PASSWORD"], "volumes": ["/data/in"], "image": null, "network": null,
            "resources": {"text": "cpus:0.5;mem:64", "scalars": {"cpus": 0.5, "mem": 64.0}},
            "limits": {"text": "cpus:2", "scalars": {"cpus": 2.0}}, "pids_max": null, "io": null, "kill_grace_ms": 2000,
            "labels": {"a": "b"}, "group": null, "execution": "agent",
            "status": expected_status,
        });
        let (agent, at) = ((of("a1"), "127.0.0.1:1"), Time::from_micros(16));
        let task = Task::new(of("f1"), agent, of("etl"), &info, TaskState::Failed, Some(&status), at);
        assert_eq!(written(task), expected);

        let limitation = Some(Limitation::Memory { limit_bytes: 10 });
        let killed = ContainerStatus { exit: Some(Exit::Signal(9)), limitation, ..container };
        let killed = written(Container::from(&killed));
        assert_eq!((&killed["exit_code"], &killed["exit_signal"]), (&Value::Null, &json!(9)));
        assert_eq!(killed["memory_limit_exceeded_bytes"], 10);
    }

    #[test]
    fn an_offer_keeps_its_form() {
        let offer = Offer {
            offer_id: of("o1"),
            framework_id: of("f1"),
            agent_id: of("a1"),
            hostname: "host".into(),
            role: of("etl"),
            resources: Amounts(of("cpus:1;mem:64")),
            made_at_us: Time::from_micros(1),
            expires_at_us: Time::from_micros(2),
            unavailability: None,
        };
        let expected = json!({
            "offer_id": "o1", "framework_id": "f1", "agent_id": "a1", "hostname": "host", "role": "etl",
            "resources": {"text": "cpus:1;mem:64", "scalars": {"cpus": 1.0, "mem": 64.0}}, "made_at_us": 1,
            "expires_at_us": 2,
        });
        assert_eq!(written(offer), expected);
    }

    #[test]
    fn names_are_those_that_people_read() {
        for state in TaskState::ALL {
            assert_eq!(written(state), state.name());
        }
        for reason in Reason::ALL {
            assert_eq!(written(reason), reason.name());
        }
        assert_eq!((written(Source::Master), written(Source::Agent)), (json!("master"), json!("agent")));
    }
}
