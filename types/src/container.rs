//! What an agent knows of a container: what can be enforced, what it used, how it ended.

use serde::{Deserialize, Serialize};

use crate::{pressure::Pressure, time::Time};

/// Something an agent may hold a container to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// A share of the processors under contention, from the task's `cpus`.
    CpuWeight,
    /// A ceiling of processor time, from the task's `cpus` limit.
    CpuQuota,
    /// The processors that a task may run on: its own, or those that the agent's setting leaves to all and no other task has as its own.
    Cpuset,
    /// A ceiling of memory; above it the container is killed.
    Memory,
    /// A ceiling of what of its memory is swapped out; nothing unless the task says so.
    Swap,
    /// A ceiling of processes and threads.
    Pids,
    /// Ceilings of what is read from the sandbox's disk and written to it, where the task says so.
    Io,
    /// Ceilings of memory in huge pages, from the task's resources of that name; where the machine has some.
    HugePages,
    /// Namespaces of its own: processes, mounts, IPC, host name.
    Namespaces,
    /// The host's file system read-only, but for the sandbox.
    ReadOnlyRoot,
    /// Capabilities dropped and no way to gain new ones.
    Capabilities,
    /// System calls filtered.
    Seccomp,
    /// Every process of the container ends with it.
    AtomicKill,
    /// An image as its root.
    Images,
    /// A ceiling of what its sandbox holds; above it the container is killed.
    Disk,
}

impl Control {
    /// Every control, in the order in which they are shown.
    pub const ALL: [Control; 15] = [
        Control::CpuWeight,
        Control::CpuQuota,
        Control::Cpuset,
        Control::Memory,
        Control::Swap,
        Control::Pids,
        Control::Io,
        Control::HugePages,
        Control::Namespaces,
        Control::ReadOnlyRoot,
        Control::Capabilities,
        Control::Seccomp,
        Control::AtomicKill,
        Control::Images,
        Control::Disk,
    ];

    /// The name shown to people and written to the wire.
    pub fn name(self) -> &'static str {
        match self {
            Control::CpuWeight => "cpu_weight",
            Control::CpuQuota => "cpu_quota",
            Control::Cpuset => "cpuset",
            Control::Memory => "memory",
            Control::Swap => "swap",
            Control::Pids => "pids",
            Control::Io => "io",
            Control::HugePages => "huge_pages",
            Control::Namespaces => "namespaces",
            Control::ReadOnlyRoot => "read_only_root",
            Control::Capabilities => "capabilities",
            Control::Seccomp => "seccomp",
            Control::AtomicKill => "atomic_kill",
            Control::Images => "images",
            Control::Disk => "disk",
        }
    }
}

/// A control that this agent cannot enforce, and why; said once at start, at registration and in listings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unenforced {
    /// What is not enforced.
    pub control: Control,
    /// Why, and what would change it, in one sentence for a person.
    pub reason: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// True for exit code 0 alone.
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// What a container has used so far, or used in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time of all its processes, user and system.
    pub cpu_us: u64,
    /// The most memory that it held at once; none where nothing on the machine measures it.
    pub memory_peak_bytes: Option<u64>,
}

/// What a container has used by some moment, and what it holds then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reading {
    /// What it has used.
    #[serde(flatten)]
    pub usage: Usage,
    /// The memory that it is charged with, with what it has cached of files; none once it has ended, and where nothing measures it.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Its processes and threads; none as above.
    #[serde(default)]
    pub pids: Option<u64>,
    /// How much it waited for what it lacked.
    #[serde(default)]
    pub pressure: Pressure,
}

impl From<Usage> for Reading {
    /// Of a container that holds nothing any more.
    fn from(usage: Usage) -> Self {
        Reading { usage, ..Reading::default() }
    }
}

/// A limit whose excess ended the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limitation {
    /// The kernel killed a process of the container for want of memory under this limit.
    Memory {
        /// The limit in force.
        limit_bytes: u64,
    },
    /// The sandbox held more than this.
    Disk {
        /// The limit in force.
        limit_bytes: u64,
    },
    /// It listened on a port that its agent offers and it does not hold.
    Port {
        /// The port.
        port: u16,
    },
}

impl Limitation {
    /// The limit of memory, if that it was.
    pub fn memory_bytes(self) -> Option<u64> {
        match self {
            Limitation::Memory { limit_bytes } => Some(limit_bytes),
            Limitation::Disk { .. } | Limitation::Port { .. } => None,
        }
    }

    /// The limit of disk, if that it was.
    pub fn disk_bytes(self) -> Option<u64> {
        match self {
            Limitation::Memory { .. } | Limitation::Port { .. } => None,
            Limitation::Disk { limit_bytes } => Some(limit_bytes),
        }
    }

    /// The port that was not held, if that it was.
    pub fn port(self) -> Option<u16> {
        match self {
            Limitation::Memory { .. } | Limitation::Disk { .. } => None,
            Limitation::Port { port } => Some(port),
        }
    }
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Termination {
    /// How the task's first process ended; none when nobody was left to see it (its runner was killed).
    pub exit: Option<Exit>,
    /// The limit that ended it, if one did.
    pub limitation: Option<Limitation>,
    /// What it used in all.
    pub usage: Usage,
    /// When the task's first process was started.
    pub started_at: Time,
    /// When it ended.
    pub finished_at: Time,
}
