//! Describing tasks.

use std::{collections::BTreeMap, time::Duration};

use apportion_types::{
    Artifact, Check, Command, ContainerInfo, Execution, GroupInfo, HealthCheck, Image, IoLimits, Network,
    PullPolicy, Resources, Rlimit, RlimitResource, Supervision, TaskId, TaskInfo, Volume, VolumeSource,
    container_info::VolumeError,
    convert::ConvertError,
    ids::IdError,
    image::ImageError,
    limits,
    resources::{Name, Ranges, Value},
};

/// Builds a [`TaskInfo`] step by step; [`build`](Task::build) says what is wrong, if anything is.
///
/// ```
/// use apportion_sdk::Task;
///
/// let task = Task::new("job-1.0").command(["/bin/sh", "-c", "echo hello"]).cpus(0.5).mem_mib(64).build()?;
/// assert_eq!(task.resources.to_string(), "cpus:0.5;mem:64");
/// # Ok::<(), apportion_sdk::TaskError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a task is described only when it is built"]
pub struct Task {
    task_id: String,
    name: Option<String>,
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    resources: Resources,
    limits: Resources,
    pids_max: Option<u64>,
    kill_grace: Option<Duration>,
    labels: BTreeMap<String, String>,
    volumes: Vec<Volume>,
    container: ContainerInfo,
    /// When the image is looked for again; asked for together with one.
    pull: Option<PullPolicy>,
    supervision: Supervision,
    group: Option<Box<GroupInfo>>,
    execution: Execution,
    /// The first mistake, told by `build`.
    mistake: Option<TaskError>,
}

/// Why a description of a task is not one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// Its id breaks the rule of ids.
    #[error(transparent)]
    Id(#[from] IdError),
    /// It has no command.
    #[error("task `{task_id}` has no command; give the program and its arguments, or an image that has one")]
    NoCommand {
        /// The task.
        task_id: String,
    },
    /// An argument or a part of the environment cannot be passed to a process.
    #[error("task `{task_id}`: {what} holds a zero byte, which no process can be given")]
    ZeroByte {
        /// The task.
        task_id: String,
        /// Which part.
        what: String,
    },
    /// A volume's path is not absolute and plain.
    #[error("task `{task_id}`: {source}")]
    Volume {
        /// The task.
        task_id: String,
        /// What is wrong with the path.
        source: VolumeError,
    },
    /// A text does not name an image.
    #[error("task `{task_id}`: {source}")]
    Image {
        /// The task.
        task_id: String,
        /// What is wrong with it.
        source: ImageError,
    },
    /// A part of its container or of its checks is not one.
    #[error("task `{task_id}`: {source}")]
    Refused {
        /// The task.
        task_id: String,
        /// Which part, and what is wrong with it.
        source: ConvertError,
    },
    /// No agent could give it its network.
    #[error("task `{task_id}`: {why}")]
    Network {
        /// The task.
        task_id: String,
        /// Why, and what to do.
        why: String,
    },
    /// More volumes than a task may have.
    #[error(
        "task `{task_id}` has {volumes} volumes, at most {volumes_max} are allowed; name a folder that holds them"
    )]
    Volumes {
        /// The task.
        task_id: String,
        /// How many.
        volumes: usize,
        /// The bound.
        volumes_max: usize,
    },
    /// The name of a variable is empty or holds `=`.
    #[error(
        "task `{task_id}`: `{name}` cannot name an environment variable; it must not be empty or hold `=`"
    )]
    EnvironmentName {
        /// The task.
        task_id: String,
        /// The name.
        name: String,
    },
    /// An amount is negative, not a number, or beyond the largest that is allowed.
    #[error("task `{task_id}`: {amount} is not an amount of {resource}; use a number from 0 to {max}")]
    Amount {
        /// The task.
        task_id: String,
        /// Of which resource.
        resource: String,
        /// What was given.
        amount: f64,
        /// The most that is allowed.
        max: i64,
    },
    /// It asks for nothing.
    #[error("task `{task_id}` asks for no resources; give it at least some `cpus` and `mem`")]
    NoResources {
        /// The task.
        task_id: String,
    },
    /// A ceiling is below the request, or of a resource that has none.
    #[error(
        "task `{task_id}`: limits `{limits}` must be of `cpus` and `mem` only and not below the request `{resources}`"
    )]
    Limits {
        /// The task.
        task_id: String,
        /// The ceilings.
        limits: Box<Resources>,
        /// The request.
        resources: Box<Resources>,
    },
    /// Its texts are larger than a task may be.
    #[error(
        "task `{task_id}`: command, environment, name, labels, volumes, container and checks hold {bytes} bytes; at most {bytes_max} are allowed"
    )]
    TooLarge {
        /// The task.
        task_id: String,
        /// How many they hold.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// The grace is longer than allowed.
    #[error("task `{task_id}`: a kill grace of {grace:?} is longer than the longest, {grace_max:?}")]
    Grace {
        /// The task.
        task_id: String,
        /// What was given.
        grace: Duration,
        /// The bound.
        grace_max: Duration,
    },
    /// The task may not have a single process.
    #[error("task `{task_id}`: 0 processes are not enough; leave `pids_max` out for the agent's default")]
    NoProcesses {
        /// The task.
        task_id: String,
    },
}

impl Task {
    /// Begins a task of this id: unique among the framework's tasks that have not ended, one printable path component.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(task_id: impl Into<String>) -> Task {
        Task {
            task_id: task_id.into(),
            name: None,
            argv: Vec::new(),
            env: BTreeMap::new(),
            resources: Resources::new(),
            limits: Resources::new(),
            pids_max: None,
            kill_grace: None,
            labels: BTreeMap::new(),
            volumes: Vec::new(),
            container: ContainerInfo::default(),
            pull: None,
            supervision: Supervision::default(),
            group: None,
            execution: Execution::Agent,
            mistake: None,
        }
    }

    /// A name for people; the id when not given.
    pub fn name(mut self, name: impl Into<String>) -> Task {
        self.name = Some(name.into());
        self
    }

    /// The program and its arguments. No shell is involved unless it is named.
    pub fn command<I>(mut self, argv: I) -> Task
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.argv = argv.into_iter().map(Into::into).collect();
        self
    }

    /// A script for `/bin/sh -c`.
    pub fn shell(self, script: impl Into<String>) -> Task {
        self.command(["/bin/sh".to_owned(), "-c".to_owned(), script.into()])
    }

    /// A variable of its environment; the last value given to a name counts.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Task {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Processors, to a thousandth.
    pub fn cpus(self, cpus: f64) -> Task {
        self.scalar(Name::Cpus, cpus)
    }

    /// Memory.
    pub fn mem_mib(self, mib: u64) -> Task {
        self.scalar(Name::Mem, mib as f64)
    }

    /// Disk.
    pub fn disk_mib(self, mib: u64) -> Task {
        self.scalar(Name::Disk, mib as f64)
    }

    /// Graphics processors.
    pub fn gpus(self, gpus: u64) -> Task {
        self.scalar(Name::Gpus, gpus as f64)
    }

    /// Ports of the agent, usually those of [`Offer::take_ports`](crate::Offer::take_ports). Adds to those given before.
    pub fn ports(mut self, ports: impl IntoIterator<Item = u16>) -> Task {
        let ports: Ranges = ports.into_iter().map(|port| (u64::from(port), u64::from(port))).collect();
        self.resources.insert(Name::Ports, Value::Ranges(ports));
        self
    }

    /// More of any resources, on top of what was given before.
    pub fn resources(mut self, resources: &Resources) -> Task {
        self.resources += resources;
        self
    }

    /// A ceiling of processor time above the request; not charged.
    pub fn cpus_limit(mut self, cpus: f64) -> Task {
        let milli = self.milli(&Name::Cpus, cpus);
        self.limits = replace(&self.limits, Name::Cpus, milli);
        self
    }

    /// A ceiling of memory above the request; not charged.
    pub fn mem_limit_mib(mut self, mib: u64) -> Task {
        let milli = self.milli(&Name::Mem, mib as f64);
        self.limits = replace(&self.limits, Name::Mem, milli);
        self
    }

    /// Processes and threads at once.
    pub fn pids_max(mut self, pids: u64) -> Task {
        self.pids_max = Some(pids);
        self
    }

    /// How long it may take to end by itself when it is to end: from TERM to KILL.
    pub fn kill_grace(mut self, grace: Duration) -> Task {
        self.kill_grace = Some(grace);
        self
    }

    /// Free text for people and tools.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Task {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// What it sees as its root, by name; the command may then be left out for the image's own.
    ///
    /// ```
    /// use apportion_sdk::{PullPolicy, Task};
    ///
    /// let task = Task::new("web-0").image("registry.example/team/web:1.2").pull(PullPolicy::Always).user("www");
    /// let task = task.cpus(1.0).mem_mib(256).build()?;
    /// assert!(task.command.argv.is_empty());
    /// # Ok::<(), apportion_sdk::TaskError>(())
    /// ```
    pub fn image(mut self, reference: impl AsRef<str>) -> Task {
        if let Some(image) = self.parsed(reference.as_ref()) {
            self.container.image = Some(Box::new(image));
        }
        self
    }

    /// When its image is looked for again although the agent has it; only when the agent has none unless given.
    pub fn pull(mut self, pull: PullPolicy) -> Task {
        self.pull = Some(pull);
        self
    }

    /// Who it runs as: `USER[:GROUP]`, names or numbers; the image's, else the agent's own, unless given.
    pub fn user(mut self, user: impl Into<String>) -> Task {
        self.container.user = Some(user.into());
        self
    }

    /// Where its command is started: absolute, or relative to the sandbox; the image's, else the sandbox, unless given.
    pub fn working_dir(mut self, path: impl Into<String>) -> Task {
        self.container.working_dir = Some(path.into());
        self
    }

    /// Something that is fetched into its sandbox before it is started, after what was given before.
    ///
    /// ```
    /// use apportion_sdk::{Artifact, Task};
    ///
    /// let tool = Artifact { extract: true, cache: true, ..Artifact::new("https://example.org/tool-1.2.tar.gz") };
    /// let task = Task::new("t").artifact(tool).command(["./tool-1.2/run"]).cpus(1.0).mem_mib(64).build()?;
    /// assert_eq!(task.container.artifacts[0].file_name(), Some("tool-1.2.tar.gz"));
    /// # Ok::<(), apportion_sdk::TaskError>(())
    /// ```
    pub fn artifact(mut self, artifact: Artifact) -> Task {
        self.container.artifacts.push(artifact);
        self
    }

    /// A limit of the kernel for each of its processes: where it begins, and to where a process may raise it.
    pub fn rlimit(mut self, resource: RlimitResource, soft: u64, hard: u64) -> Task {
        self.container.rlimits.push(Rlimit { resource, soft: Some(soft), hard: Some(hard) });
        self
    }

    /// How much of its memory may be swapped out, beside what it holds up to its memory limit; nothing unless given. It costs no offer:
    /// an agent without swap space swaps nothing.
    pub fn swap_bytes(mut self, bytes: u64) -> Task {
        self.container.swap_bytes = bytes;
        self
    }

    /// What it may do with the disk that its sandbox is on; as much as the disk gives unless given. An agent that cannot hold it to that does not
    /// run it.
    ///
    /// ```
    /// use apportion_sdk::{IoLimits, Task};
    ///
    /// let io = IoLimits { write_bytes_per_second: Some(10 << 20), ..IoLimits::NONE };
    /// let task = Task::new("t").command(["sort"]).cpus(1.0).io(io).build()?;
    /// assert_eq!(task.container.io.as_deref(), Some(&io));
    /// # Ok::<(), apportion_sdk::TaskError>(())
    /// ```
    pub fn io(mut self, io: IoLimits) -> Task {
        self.container.io = (!io.is_empty()).then(|| Box::new(io));
        self
    }

    /// Has its cpus, a whole number of them, be cores of the agent that nothing else runs on which the agent runs. An agent gives away all of
    /// its cores but one, and drops a task for which it has too few left, with
    /// [`Reason::NotEnforceable`](crate::Reason::NotEnforceable).
    pub fn exclusive_cpus(mut self) -> Task {
        self.container.exclusive_cpus = true;
        self
    }

    /// Its network; the host's unless given. Its own addresses are in [`TaskStatus::addresses`](crate::TaskStatus::addresses) once it runs.
    ///
    /// ```
    /// use apportion_sdk::{Network, Task, network::{PortMapping, Protocol}};
    ///
    /// let mapping = PortMapping { host_port: 31000, container_port: 80, protocol: Protocol::Tcp };
    /// let network = Network { ports: vec![mapping], ..Network::new("bridge") };
    /// let task = Task::new("web-0").command(["serve"]).cpus(1.0).ports([31000]).network(network).build()?;
    /// assert_eq!(task.container.network.map(|network| network.name), Some("bridge".to_owned()));
    /// # Ok::<(), apportion_sdk::TaskError>(())
    /// ```
    pub fn network(mut self, network: Network) -> Task {
        self.container.network = Some(Box::new(network));
        self
    }

    /// A folder or file of the agent's host that it reads, at the same path. A task without an image needs it only for what lies in
    /// `/tmp` and `/var/tmp`, which it has of its own; the rest of the host's files it sees anyway. The task fails where it does not
    /// exist.
    pub fn volume(self, host_path: impl Into<String>) -> Task {
        let path = host_path.into();
        self.mount(VolumeSource::Host { path: path.clone() }, path, false)
    }

    /// A folder or file of the agent's host that it reads and writes. Refused where the agent was not told to lend it so.
    pub fn writable_volume(self, host_path: impl Into<String>, at: impl Into<String>) -> Task {
        self.mount(VolumeSource::Host { path: host_path.into() }, at, true)
    }

    /// A folder of its sandbox, made where it is missing, seen elsewhere too.
    pub fn sandbox_volume(self, sandbox_path: impl Into<String>, at: impl Into<String>) -> Task {
        self.mount(VolumeSource::Sandbox { path: sandbox_path.into() }, at, true)
    }

    /// A folder that the tasks of its [group](crate::TaskGroup) share, made where it is missing, for every user to write to, and kept for
    /// as long as sandboxes are; each that is to see it says so.
    pub fn share(self, group_path: impl Into<String>, at: impl Into<String>) -> Task {
        self.mount(VolumeSource::Group { path: group_path.into() }, at, true)
    }

    /// Files in memory, at most so many MiB, charged to it.
    pub fn tmpfs(self, at: impl Into<String>, mib: u64) -> Task {
        self.mount(VolumeSource::Tmpfs { bytes: mib.saturating_mul(1 << 20) }, at, true)
    }

    /// The files of an image, read-only.
    pub fn image_volume(mut self, reference: impl AsRef<str>, at: impl Into<String>) -> Task {
        match self.parsed(reference.as_ref()) {
            Some(image) => self.mount(VolumeSource::Image(image), at, false),
            None => self,
        }
    }

    /// Anything that it sees in a place of its own.
    pub fn mount(mut self, source: VolumeSource, at: impl Into<String>, writable: bool) -> Task {
        self.volumes.push(Volume { source, container_path: at.into(), writable });
        self
    }

    /// Ends it when it does not do its work; what the check says is in [`TaskStatus::findings`](crate::TaskStatus::findings), with an
    /// update whenever it changes. One that ends the task is told as [`Failed`](crate::TaskState::Failed) with
    /// [`Unhealthy`](crate::Reason::Unhealthy).
    ///
    /// ```
    /// use std::{collections::BTreeMap, time::Duration};
    ///
    /// use apportion_sdk::{HealthCheck, Probe, Task};
    ///
    /// let probe = Probe::Http { port: 31000, path: "/health".to_owned(), headers: BTreeMap::new() };
    /// let check = HealthCheck { grace: Duration::from_secs(60), ..HealthCheck::new(probe) };
    /// let task = Task::new("web-0").command(["serve"]).cpus(1.0).mem_mib(64).ports([31000]).health_check(check);
    /// assert_eq!(task.build()?.supervision.health_check.map(|check| check.failures_max), Some(3));
    /// # Ok::<(), apportion_sdk::TaskError>(())
    /// ```
    pub fn health_check(mut self, check: HealthCheck) -> Task {
        self.supervision.health_check = Some(Box::new(check));
        self
    }

    /// Tells what it answers, in [`TaskStatus::findings`](crate::TaskStatus::findings), with an update whenever that changes; the
    /// scheduler alone judges it.
    pub fn check(mut self, check: Check) -> Task {
        self.supervision.check = Some(Box::new(check));
        self
    }

    /// How long it may run: then it is killed without a grace, and is told as [`Failed`](crate::TaskState::Failed) with
    /// [`MaxCompletionTime`](crate::Reason::MaxCompletionTime).
    pub fn max_completion(mut self, most: Duration) -> Task {
        self.supervision.max_completion = Some(most);
        self
    }

    /// It is an executor: it runs the tasks that are built with [`run_by`](Task::run_by) and its id, in its own container. Its program is
    /// written with the module `executor`.
    ///
    /// ```
    /// use apportion_sdk::Task;
    ///
    /// let pool = Task::new("pool-1").command(["resizers"]).cpus(0.1).mem_mib(128).executor().build()?;
    /// let work = Task::new("image-7").command(["7.png", "640x480"]).cpus(0.5).mem_mib(64).run_by(&pool.task_id).build()?;
    /// # let mut offer = apportion_sdk::testing::offer("eng", "agent-1", "cpus:2;mem:512");
    /// offer.launch(pool)?;
    /// offer.launch(work)?; // in the same accept, or any later one on its agent
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn executor(self) -> Task {
        Task { execution: Execution::Executor, ..self }
    }

    /// It is run by this executor: a task of the framework that was launched before it, on the same agent. What its command means, and
    /// whether it needs one, is the executor's to say; what is a container's, such as an image, volumes and checks, it has not.
    pub fn run_by(self, executor: &TaskId) -> Task {
        Task { execution: Execution::By(executor.clone()), ..self }
    }

    pub(crate) fn of_group(self, group: GroupInfo) -> Task {
        Task { group: Some(Box::new(group)), ..self }
    }

    /// The task, or the first thing that is wrong with it.
    pub fn build(self) -> Result<TaskInfo, TaskError> {
        let task_id = TaskId::new(&self.task_id)?;
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let id = || self.task_id.clone();
        let has_command = match self.argv.first() {
            Some(program) => !program.is_empty(),
            None => self.container.image.is_some(),
        };
        let inner = matches!(self.execution, Execution::By(_));
        if !has_command && !inner {
            return Err(TaskError::NoCommand { task_id: id() });
        }
        if let Some(argument) = self.argv.iter().find(|argument| argument.contains('\0')) {
            let what = format!("the argument {argument:?}");
            return Err(TaskError::ZeroByte { task_id: id(), what });
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains('=') {
                return Err(TaskError::EnvironmentName { task_id: id(), name: name.clone() });
            }
            if name.contains('\0') || value.contains('\0') {
                let what = format!("the environment variable {name:?}");
                return Err(TaskError::ZeroByte { task_id: id(), what });
            }
        }
        if self.resources.is_empty() {
            return Err(TaskError::NoResources { task_id: id() });
        }
        let ceilings_good = self.limits.iter().all(|(name, value)| match value {
            Value::Scalar(milli) => *milli >= self.resources.milli(name),
            _ => false,
        });
        if !ceilings_good {
            let (limits, resources) = (Box::new(self.limits), Box::new(self.resources));
            return Err(TaskError::Limits { task_id: id(), limits, resources });
        }
        if self.pids_max == Some(0) {
            return Err(TaskError::NoProcesses { task_id: id() });
        }
        if let Some(grace) = self.kill_grace.filter(|grace| *grace > limits::KILL_GRACE_MAX) {
            return Err(TaskError::Grace { task_id: id(), grace, grace_max: limits::KILL_GRACE_MAX });
        }
        if let Some(source) = self.volumes.iter().find_map(|volume| volume.check().err()) {
            return Err(TaskError::Volume { task_id: id(), source });
        }
        if self.volumes.len() > limits::VOLUMES_MAX {
            return Err(TaskError::Volumes {
                task_id: id(),
                volumes: self.volumes.len(),
                volumes_max: limits::VOLUMES_MAX,
            });
        }
        let mut container = self.container;
        if let (Some(image), Some(pull)) = (&mut container.image, self.pull) {
            image.pull = pull;
        }
        let shares = self.volumes.iter().any(|volume| matches!(volume.source, VolumeSource::Group { .. }));
        let plain = container == ContainerInfo::default()
            && self.supervision == Supervision::default()
            && self.group.is_none()
            && self.execution == Execution::Agent
            && !shares;
        let info = TaskInfo {
            name: self.name.unwrap_or_else(|| self.task_id.clone()),
            task_id,
            resources: self.resources,
            limits: self.limits,
            pids_max: self.pids_max,
            command: Command { argv: self.argv, env: self.env },
            kill_grace: self.kill_grace,
            labels: self.labels,
            volumes: self.volumes,
            container,
            supervision: self.supervision,
            group: self.group,
            execution: self.execution,
        };
        let bytes = info.text_bytes();
        if bytes > limits::TASK_BYTES_MAX {
            let bytes_max = limits::TASK_BYTES_MAX;
            return Err(TaskError::TooLarge { task_id: self.task_id, bytes, bytes_max });
        }
        if !plain {
            // Judged by the rules of the wire itself, so that there is one set of them.
            info.check().map_err(|source| TaskError::Refused { task_id: self.task_id.clone(), source })?;
            if let Some(why) = info.network_refusal() {
                return Err(TaskError::Network { task_id: self.task_id, why });
            }
        }
        Ok(info)
    }

    fn parsed(&mut self, reference: &str) -> Option<Image> {
        match reference.parse() {
            Ok(reference) => Some(Image::new(reference)),
            Err(source) => {
                self.mistake.get_or_insert(TaskError::Image { task_id: self.task_id.clone(), source });
                None
            }
        }
    }

    fn scalar(mut self, name: Name, amount: f64) -> Task {
        let milli = self.milli(&name, amount);
        self.resources = replace(&self.resources, name, milli);
        self
    }

    fn milli(&mut self, name: &Name, amount: f64) -> i64 {
        let milli = (amount * 1000.0).round();
        if milli >= 0.0 && milli <= limits::SCALAR_MILLI_MAX as f64 {
            return milli as i64;
        }
        self.mistake.get_or_insert(TaskError::Amount {
            task_id: self.task_id.clone(),
            resource: name.to_string(),
            amount,
            max: limits::SCALAR_MILLI_MAX / 1000,
        });
        0
    }
}

/// `resources` with this amount of a scalar instead of what there was of it.
fn replace(resources: &Resources, name: Name, milli: i64) -> Resources {
    let mut rest = resources.clone();
    rest.saturating_sub(&Resources::scalar(name.clone(), i64::MAX));
    rest + &Resources::scalar(name, milli)
}

#[cfg(test)]
mod tests;
