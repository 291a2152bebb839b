//! From a task to the container that it runs in: name, command, environment, limits.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use apportion_types::{
    AgentId, ContainerInfo, CpuSet, FrameworkId, GroupId, HugePages, IoLimits, Role, TaskId, TaskInfo,
    Volume, limits,
    resources::{Entry, Name, Ranges, milli_mib_to_bytes},
};

use crate::{action::VolumeKey, state::held::Held};

/// Names a container on this machine: one path component, never reused, also not by later processes of the agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub String);

impl ContainerId {
    /// The `sequence`th container of the agent process known by `incarnation`.
    pub fn new(incarnation: u64, sequence: u64) -> Self {
        Self(format!("{incarnation:x}-{sequence}"))
    }

    /// Later containers have a higher one, as far as later processes of the agent have higher incarnations. None for a name that
    /// [`ContainerId::new`] does not give.
    pub(crate) fn age(&self) -> Option<(u64, u64)> {
        let (incarnation, sequence) = self.0.split_once('-')?;
        Some((u64::from_str_radix(incarnation, 16).ok()?, sequence.parse().ok()?))
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A signal to every process of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Asks it to end.
    Term,
    /// Ends it.
    Kill,
}

/// A container to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPlan {
    /// Its name.
    pub container_id: ContainerId,
    /// Its task's framework.
    pub framework_id: FrameworkId,
    /// Its task.
    pub task_id: TaskId,
    /// The role whose resources it holds.
    pub role: Role,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The environment, but for what names places on this machine (`PATH`, `HOME`, `TMPDIR`, `APPORTION_SANDBOX`): the shell adds
    /// those that are not here, so that the task's own win.
    pub env: BTreeMap<String, String>,
    /// What it sees beside its root and its sandbox.
    pub volumes: Vec<Volume>,
    /// Its image, its user, what is fetched for it; its network, also where that is its task group's.
    pub container: ContainerInfo,
    /// Ports of this machine that are its own.
    pub ports: Ranges,
    /// What it shares with the other containers of its task group; none when it is of none.
    pub group: Option<GroupPlan>,
    /// Persistent volumes that it reads and writes.
    pub persistent: Vec<VolumePlan>,
    /// Whether it is to have a socket of its agent's and a token, as an executor.
    pub executor: bool,
    /// What it is held to, as far as this machine can.
    pub ceilings: Ceilings,
    /// The cores that it may run on; none when it can be held to none.
    pub cores: Option<CpuSet>,
}

/// A persistent volume as a container sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumePlan {
    /// Which; several containers may see a shared one at once.
    pub volume: VolumeKey,
    /// Where: relative to the task's working directory, without `.` and `..`.
    pub path: String,
}

/// What a container is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// Its share of the processors under contention, in thousandths of one. What is lent counts for a hundredth of the same.
    pub cpus_request_milli: u64,
    /// The most processor time, in thousandths of a processor.
    pub cpus_limit_milli: u64,
    /// The memory that it is charged with.
    pub memory_request_bytes: u64,
    /// The most memory; above it, it is killed.
    pub memory_limit_bytes: u64,
    /// The most of its memory that is swapped out.
    pub swap_max_bytes: u64,
    /// The most processes and threads.
    pub pids_max: u64,
    /// What it may do with the disk that its sandbox is on. Of an executor its own alone: the tasks that it runs have none.
    pub io: IoLimits,
    /// The most memory in huge pages of each size.
    pub huge_pages: HugePages,
    /// The most that its sandbox holds; none when its task asks for no disk beside volumes.
    pub disk_limit_bytes: Option<u64>,
}

/// How many lent processors weigh as much under contention as one that is held for good (Mesos: `CPU_SHARES_PER_CPU_REVOCABLE`, 10 in
/// place of 1024 shares).
const LENT_CPUS_WEIGHT: i64 = 100;

/// Ports that a task finds in its environment: the first so many, since the environment of a process is bounded.
pub const PORTS_IN_ENVIRONMENT_MAX: usize = 1000;

impl ContainerPlan {
    /// The container for a task.
    pub(crate) fn new(
        container_id: ContainerId,
        (framework_id, role): (&FrameworkId, &Role),
        agent_id: Option<&AgentId>,
        info: &TaskInfo,
        held: Held,
    ) -> Self {
        Self {
            group: GroupPlan::of(&container_id, info),
            container_id,
            framework_id: framework_id.clone(),
            task_id: info.task_id.clone(),
            role: role.clone(),
            argv: info.command.argv.clone(),
            env: environment(framework_id, agent_id, info),
            volumes: info.volumes.clone(),
            container: ContainerInfo {
                network: info.network().cloned().map(Box::new),
                ..info.container.clone()
            },
            ports: held.ports,
            persistent: info.resources.entries().filter_map(VolumePlan::of).collect(),
            executor: info.is_executor(),
            ceilings: held.ceilings,
            cores: held.cores,
        }
    }
}

/// What the containers of a task group share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPlan {
    /// The group.
    pub group_id: GroupId,
    /// Names this run of it on this machine, as a container is named: that of its first member, which no other is named by.
    pub run: ContainerId,
    /// Whether all are in one network, which is the run's.
    pub shares_network: bool,
}

impl GroupPlan {
    /// That of a task's container; none when it is of no group. Containers of a group are named one after another.
    pub fn of(container_id: &ContainerId, info: &TaskInfo) -> Option<Self> {
        let group = info.group.as_ref()?;
        let (incarnation, sequence) = container_id.age()?;
        let run = ContainerId::new(incarnation, sequence.checked_sub(group.place.into())?);
        Some(Self { group_id: group.group_id.clone(), run, shares_network: group.network.is_some() })
    }

    /// The run, where its containers share a network.
    pub fn network(&self) -> Option<&ContainerId> {
        self.shares_network.then_some(&self.run)
    }

    /// The run whose network a task's container is in, if it is in that of its group.
    pub fn network_of(container_id: &ContainerId, info: &TaskInfo) -> Option<ContainerId> {
        Self::of(container_id, info)?.network().cloned()
    }

    /// Whether a container may be of the run of this name, by its own: all that can be said of one whose task nobody knows any more.
    pub fn may_hold(run: &ContainerId, container_id: &ContainerId) -> bool {
        let (Some((incarnation, first)), Some((of, sequence))) = (run.age(), container_id.age()) else {
            return false;
        };
        let place = sequence.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        of == incarnation && place.is_some_and(|place| place < limits::GROUP_TASKS_MAX)
    }
}

impl VolumePlan {
    fn of(entry: &Entry) -> Option<Self> {
        Some(Self { volume: volume_key(entry)?, path: entry.volume()?.path.clone() })
    }
}

/// The name of the volume on a resource, if there is one.
pub(crate) fn volume_key(entry: &Entry) -> Option<VolumeKey> {
    Some((entry.role()?.clone(), entry.volume()?.id.clone()))
}

/// Ports of this machine that are a task's own.
pub(crate) fn ports(info: &TaskInfo) -> Ranges {
    info.resources.ports().map(Cow::into_owned).unwrap_or_default()
}

fn environment(
    framework_id: &FrameworkId,
    agent_id: Option<&AgentId>,
    info: &TaskInfo,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    env.insert("APPORTION_FRAMEWORK_ID".to_owned(), framework_id.to_string());
    env.insert("APPORTION_TASK_ID".to_owned(), info.task_id.to_string());
    if let Some(agent_id) = agent_id {
        env.insert("APPORTION_AGENT_ID".to_owned(), agent_id.to_string());
    }
    if let Some(ports) = info.resources.ports() {
        let ports: Vec<String> =
            ports.values().take(PORTS_IN_ENVIRONMENT_MAX).map(|port| port.to_string()).collect();
        env.insert("APPORTION_PORTS".to_owned(), ports.join(","));
        env.extend(
            ports.into_iter().enumerate().map(|(index, port)| (format!("APPORTION_PORT{index}"), port)),
        );
    }
    env.extend(info.command.env.clone());
    env
}

/// The most that a task's sandbox holds: the disk that the task holds beside volumes. None when it holds no such disk.
pub fn disk_limit_bytes(info: &TaskInfo) -> Option<u64> {
    let disk = info.resources.only(|entry| entry.volume().is_none()).milli(&Name::Disk);
    (disk > 0).then(|| milli_mib_to_bytes(disk))
}

impl Ceilings {
    /// The request is the ceiling unless the task's limits are above it. A task that asks for no processor or memory at all is held
    /// to the least that is ever offered: it is not to use what nobody is charged with.
    pub fn of(info: &TaskInfo, pids_default: u64) -> Self {
        let asked = Self::asked(info, pids_default);
        let memory_least = milli_mib_to_bytes(limits::ALLOCATABLE_MEM_MILLI_MIN);
        Self {
            cpus_limit_milli: asked.cpus_limit_milli.max(limits::ALLOCATABLE_CPUS_MILLI_MIN.unsigned_abs()),
            memory_limit_bytes: asked.memory_limit_bytes.max(memory_least),
            ..asked
        }
    }

    /// What a task asks for itself, and no more: what it adds to the container that it is run in by its executor.
    pub fn asked(info: &TaskInfo, pids_default: u64) -> Self {
        let ceiling = |name: &Name| info.limits.milli(name).max(info.resources.milli(name));
        let lent = info.resources.revocable().cpus_milli();
        Self {
            cpus_request_milli: (info.resources.cpus_milli() - lent + lent / LENT_CPUS_WEIGHT).unsigned_abs(),
            cpus_limit_milli: ceiling(&Name::Cpus).unsigned_abs(),
            memory_request_bytes: info.resources.mem_bytes(),
            memory_limit_bytes: milli_mib_to_bytes(ceiling(&Name::Mem)),
            swap_max_bytes: info.container.swap_bytes,
            pids_max: info.pids_max.unwrap_or(pids_default),
            io: info.container.io.as_deref().copied().unwrap_or_default(),
            huge_pages: HugePages::of(&info.resources),
            disk_limit_bytes: disk_limit_bytes(info),
        }
    }

    /// Adds what another task brings. A sandbox that is not bounded stays so.
    pub fn add(&mut self, other: &Ceilings) {
        let sums = [
            (&mut self.cpus_request_milli, other.cpus_request_milli),
            (&mut self.cpus_limit_milli, other.cpus_limit_milli),
            (&mut self.memory_request_bytes, other.memory_request_bytes),
            (&mut self.memory_limit_bytes, other.memory_limit_bytes),
            (&mut self.swap_max_bytes, other.swap_max_bytes),
            (&mut self.pids_max, other.pids_max),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more);
        }
        for (page_bytes, bytes) in other.huge_pages.iter() {
            self.huge_pages.add(page_bytes, bytes);
        }
        let more = other.disk_limit_bytes.unwrap_or(0);
        self.disk_limit_bytes = self.disk_limit_bytes.map(|bytes| bytes.saturating_add(more));
    }
}
