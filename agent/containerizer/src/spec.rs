//! What a caller hands in and gets back: names, specifications, limits.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use apportion_types::{CpuSet, HugePages, IoLimits, container_info::Rlimit};
use serde::{Deserialize, Serialize};

/// Names a container on this machine: one path component, never reused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

/// The longest name: it becomes a folder, a cgroup in each hierarchy, and part of their paths.
const ID_BYTES_MAX: usize = 200;

impl ContainerId {
    /// Says why this cannot name a container, if it cannot.
    pub(crate) fn refusal(&self) -> Option<String> {
        let id = &self.0;
        if id.is_empty() {
            Some("it is empty".into())
        } else if id.len() > ID_BYTES_MAX {
            Some(format!("it has {} bytes, more than {ID_BYTES_MAX}", id.len()))
        } else if id.starts_with('.') {
            Some("it starts with a dot".into())
        } else if id.bytes().any(|b| b == b'/' || b.is_ascii_control()) {
            Some("it holds a slash or a control character".into())
        } else {
            None
        }
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is to be run, and within what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The container's name.
    pub id: ContainerId,
    /// The program and its arguments; the program is looked up in `PATH` of `env` when it holds no slash.
    pub argv: Vec<String>,
    /// The whole environment; nothing is inherited from the agent.
    pub env: BTreeMap<String, String>,
    /// The task's writable folder, its working directory, where `stdout` and `stderr` are appended. Exists.
    pub sandbox: PathBuf,
    /// How much is kept of what it writes to `stdout` and `stderr`. When none: all of it, and the task has these files themselves open.
    #[serde(default)]
    pub output: Option<OutputBounds>,
    /// What it sees as its root; the host's files, read-only, when none.
    #[serde(default)]
    pub root: Option<ImageRoot>,
    /// `USER[:GROUP]`, names or numbers, names as its root has them. When none: root in an image, else the agent's own user.
    ///
    /// The sandbox with all that is in it is given to that user. Tasks of an ordinary user's agent run as that user, whatever the
    /// user is called inside, and nobody else's files can be had there.
    #[serde(default)]
    pub user: Option<String>,
    /// Where its command is started; absolute as the container sees it, or relative to the sandbox, which it is when none. An absolute
    /// one is made in an image that has it not.
    #[serde(default)]
    pub working_dir: Option<PathBuf>,
    /// What it sees beside its root and its sandbox.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Limits of the kernel for each process; what the agent may not exceed is cut to that.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// Folders of the host that it reads and writes as folders of its sandbox; other containers may have them at the same time.
    #[serde(default)]
    pub persistent: Vec<PersistentVolume>,
    /// Its own network; the host's when none.
    #[serde(default)]
    pub network: Option<NetworkSpec>,
    /// What it is held to.
    pub limits: Limits,
    /// Ends the container when the agent's process ends, however it ends; for clusters that must leave nothing behind.
    pub tethered: bool,
}

impl ContainerSpec {
    /// What it calls itself, of which as much as fits is its host name.
    pub(crate) fn hostname(&self) -> &str {
        let shared = self.network.as_ref().and_then(|network| network.hostname.as_deref());
        shared.unwrap_or(&self.id.0)
    }
}

/// A network that is not the host's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// The file that is the network's namespace, as [`crate::NetworkNamespaces::make`] makes it; other containers may be in it too. One of
    /// its own, with a loopback alone, when none.
    pub namespace: Option<PathBuf>,
    /// Files of the host, absolute, that it sees in its `/etc`, by their names there. Without an image only in place of files that the
    /// host has.
    pub etc: BTreeMap<String, PathBuf>,
    /// Keeps it from raw sockets, by which it would get around what filters its connections.
    pub filtered: bool,
    /// What it calls itself, as the others in its network do; its own name when none.
    #[serde(default)]
    pub hostname: Option<String>,
}

/// How much is kept of a container's standard output, and as much of its standard error.
///
/// With it the task writes to pipes, which its runner empties. A file that is full becomes `stdout.1`, what was that becomes `stdout.2`,
/// and so on; what would come after the last is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputBounds {
    /// The most that one file holds; at least one. It is cut at a line's end where it can be.
    pub bytes_max: u64,
    /// Full files beside the one that is written to.
    pub files_max: u32,
}

/// A folder of the host that a container reads and writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistentVolume {
    /// The folder; absolute, not a symbolic link.
    pub source: PathBuf,
    /// Where the container sees it: relative to its sandbox, without `.` and `..`. Folders that are missing are made.
    pub path: PathBuf,
}

/// Folders that make up a file system, each laid over those before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRoot {
    /// The unpacked layers, the lowest first; read only, and shared by containers. Absolute.
    pub layers: Vec<PathBuf>,
    /// A folder for what the container changes; its own, empty, and removed by whoever made it.
    pub scratch: PathBuf,
}

/// Where a container with an image of its own finds its sandbox.
pub const SANDBOX_IN_IMAGE: &str = "/mnt/apportion/sandbox";

/// Where a container sees [`MountSource::Agent`].
pub const AGENT_FOLDER: &str = "/run/apportion";

/// Something that a container sees in a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What.
    pub source: MountSource,
    /// Where: absolute, or relative to the sandbox; without `.` and `..`. Made where it is missing and can be: the host's own folders
    /// are read-only to containers. Nothing is laid over the sandbox, `/proc` or `/sys`.
    pub target: PathBuf,
    /// True when it may write to it; of the host only below [`crate::NativeConfig::lendable`].
    pub writable: bool,
}

/// What a container sees in a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A folder or file of the host; absolute. What is mounted below a folder is not seen through it.
    Host(PathBuf),
    /// A folder of the sandbox; relative.
    Sandbox(PathBuf),
    /// A folder that several containers share.
    Shared {
        /// What holds it: absolute, made by whoever asks for the container, not a symbolic link.
        within: PathBuf,
        /// Relative; made where it is missing, for every user of the containers to write to.
        path: PathBuf,
    },
    /// A folder that the agent made for this container: absolute, not a symbolic link. What is in it is given to the container's user, who
    /// cannot write there.
    Agent(PathBuf),
    /// Memory, charged to the container.
    Tmpfs {
        /// The most that it holds.
        bytes: u64,
    },
    /// An image.
    Image(ImageRoot),
}

/// What a container is held to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The share of the processors under contention, in thousandths of one.
    pub cpus_request_milli: u64,
    /// The ceiling of processor time, in thousandths of one; none is no ceiling.
    pub cpus_limit_milli: Option<u64>,
    /// What the kernel tries to leave it under pressure.
    pub memory_request_bytes: u64,
    /// The ceiling above which it is killed; none is no ceiling.
    pub memory_limit_bytes: Option<u64>,
    /// The ceiling of what is swapped out of its memory. In version 1 of control groups it holds only together with a ceiling of memory.
    #[serde(default)]
    pub swap_max_bytes: u64,
    /// The ceiling of processes and threads; none is no ceiling.
    pub pids_max: Option<u64>,
    /// What it may do with the disk that its sandbox is on. One that had none when it was launched is given none later.
    #[serde(default)]
    pub io: IoLimits,
    /// The processors that it may run on; when none, those that the containerizer was told of, or all.
    #[serde(default)]
    pub cores: Option<CpuSet>,
    /// The ceilings of memory in huge pages; of a size that is not here it is given none.
    #[serde(default)]
    pub huge_pages: HugePages,
}

/// A signal to every process of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Asks it to end.
    Term,
    /// Ends it.
    Kill,
}

/// A container found in the state folder of an earlier agent process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its name.
    pub id: ContainerId,
    /// True while its runner lives.
    pub running: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_plain_path_component() {
        for good in ["a", "web-1.2f", "Ünïcode", &"x".repeat(200)] {
            assert_eq!(ContainerId(good.into()).refusal(), None, "{good}");
        }
        for bad in ["", ".", "..", ".probe-1", "a/b", "/", "a\nb", "a\0b", &"x".repeat(201)] {
            assert!(ContainerId(bad.into()).refusal().is_some(), "{bad:?}");
        }
    }
}
