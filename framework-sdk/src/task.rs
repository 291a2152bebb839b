//! Describing tasks.

use std::{collections::BTreeMap, time::Duration};

use apportion_types::{
    Command, Resources, TaskId, TaskInfo, Volume,
    container_info::VolumeError,
    ids::IdError,
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
    volumes: Vec<String>,
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
    #[error("task `{task_id}` has no command; give the program and its arguments")]
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
        "task `{task_id}`: command, environment, name and labels hold {bytes} bytes; at most {bytes_max} are allowed"
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

    /// A folder or file of the agent's host that it reads, at the same path. Needed only for what lies in `/tmp` and `/var/tmp`,
    /// which a task has of its own; the rest of the host's files it sees anyway. The task fails where it does not exist.
    pub fn volume(mut self, host_path: impl Into<String>) -> Task {
        self.volumes.push(host_path.into());
        self
    }

    /// The task, or the first thing that is wrong with it.
    pub fn build(self) -> Result<TaskInfo, TaskError> {
        let task_id = TaskId::new(&self.task_id)?;
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let id = || self.task_id.clone();
        if self.argv.first().is_none_or(String::is_empty) {
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
        let volumes = self.volumes.iter().map(Volume::new).collect::<Result<Vec<_>, _>>();
        let volumes = volumes.map_err(|source| TaskError::Volume { task_id: id(), source })?;
        if volumes.len() > limits::VOLUMES_MAX {
            return Err(TaskError::Volumes {
                task_id: id(),
                volumes: volumes.len(),
                volumes_max: limits::VOLUMES_MAX,
            });
        }
        let info = TaskInfo {
            name: self.name.unwrap_or_else(|| self.task_id.clone()),
            task_id,
            resources: self.resources,
            limits: self.limits,
            pids_max: self.pids_max,
            command: Command { argv: self.argv, env: self.env },
            kill_grace: self.kill_grace,
            labels: self.labels,
            volumes,
            container: Default::default(),
            supervision: Default::default(),
        };
        let bytes = text_bytes(&info);
        if bytes > limits::TASK_BYTES_MAX {
            let bytes_max = limits::TASK_BYTES_MAX;
            return Err(TaskError::TooLarge { task_id: self.task_id, bytes, bytes_max });
        }
        Ok(info)
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

/// Bytes of the texts that [`limits::TASK_BYTES_MAX`] bounds.
pub(crate) fn text_bytes(task: &TaskInfo) -> usize {
    let pairs = |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    task.name.len()
        // Each argument ends with a NUL, each variable has `=` and a NUL.
        + task.command.argv.iter().map(|argument| argument.len() + 1).sum::<usize>()
        + pairs(&task.command.env)
        + 2 * task.command.env.len()
        + pairs(&task.labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Task {
        Task::new("t").command(["true"]).cpus(0.1).mem_mib(32)
    }

    #[test]
    fn a_task_is_as_described() {
        let task = good()
            .name("for people")
            .cpus(0.25)
            .disk_mib(10)
            .gpus(1)
            .ports([31000, 31001])
            .ports([31002])
            .resources(&"cpus:1;licences:2".parse().unwrap())
            .cpus_limit(1.5)
            .cpus_limit(2.0)
            .mem_limit_mib(64)
            .pids_max(7)
            .kill_grace(Duration::from_secs(9))
            .env("A", "1")
            .env("A", "2")
            .label("team", "eng")
            .build()
            .unwrap();
        assert_eq!(
            task.resources.to_string(),
            "cpus:1.25;mem:32;disk:10;gpus:1;ports:[31000-31002];licences:2"
        );
        assert_eq!(task.limits.to_string(), "cpus:2;mem:64");
        assert_eq!(
            (task.name.as_str(), task.pids_max, task.kill_grace),
            ("for people", Some(7), Some(Duration::from_secs(9)))
        );
        assert_eq!(task.command.env, BTreeMap::from([("A".to_owned(), "2".to_owned())]));
        assert_eq!(task.labels["team"], "eng");
        assert_eq!(good().build().unwrap().name, "t");
        assert_eq!(good().shell("exit 1").build().unwrap().command.argv, ["/bin/sh", "-c", "exit 1"]);
        assert_eq!(good().cpus(0.0).build().unwrap().resources.to_string(), "mem:32");
    }

    #[test]
    fn a_mistake_is_named() {
        let cases = [
            (Task::new("a/b").command(["x"]).cpus(1.0), "task id `a/b` holds '/'"),
            (Task::new("t").cpus(1.0), "task `t` has no command"),
            (good().command([""]), "task `t` has no command"),
            (Task::new("t").command(["x"]), "task `t` asks for no resources"),
            (good().command(["x", "a\0b"]), "the argument \"a\\0b\" holds a zero byte"),
            (good().env("", "x"), "`` cannot name an environment variable"),
            (good().env("A=B", "x"), "`A=B` cannot name an environment variable"),
            (good().env("A", "\0"), "the environment variable \"A\" holds a zero byte"),
            (good().cpus(-1.0), "-1 is not an amount of cpus; use a number from 0 to 10000000000"),
            (good().cpus(f64::NAN), "NaN is not an amount of cpus"),
            (good().cpus(f64::INFINITY).cpus(1.0), "inf is not an amount of cpus"),
            (good().mem_mib(u64::MAX), "is not an amount of mem"),
            (good().cpus_limit(0.05), "limits `cpus:0.05` must be of `cpus` and `mem` only"),
            (good().pids_max(0), "0 processes are not enough"),
            (good().volume("data"), "`data` is not the path of a volume"),
            ((0..65).fold(good(), |task, _| task.volume("/data")), "has 65 volumes"),
            (
                good().kill_grace(Duration::from_secs(1 << 20)),
                "a kill grace of 1048576s is longer than the longest, 86400s",
            ),
            (good().label("x", "y".repeat(200 << 10)), "hold 204807 bytes; at most 131072 are allowed"),
        ];
        for (task, text) in cases {
            let error = task.build().unwrap_err().to_string();
            assert!(error.contains(text), "{error} has no {text}");
        }
    }
}
