//! What a caller hands in and gets back: names, specifications, limits.

use std::{collections::BTreeMap, fmt, path::PathBuf};

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
    /// Folders and files of the host that it reads although it has `/tmp` and `/var/tmp` of its own; absolute.
    #[serde(default)]
    pub volumes: Vec<PathBuf>,
    /// Folders of the host that it reads and writes as folders of its sandbox; other containers may have them at the same time.
    #[serde(default)]
    pub persistent: Vec<PersistentVolume>,
    /// What it is held to.
    pub limits: Limits,
    /// Ends the container when the agent's process ends, however it ends; for clusters that must leave nothing behind.
    pub tethered: bool,
}

/// A folder of the host that a container reads and writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistentVolume {
    /// The folder; absolute, not a symbolic link.
    pub source: PathBuf,
    /// Where the container sees it: relative to its sandbox, without `.` and `..`. Folders that are missing are made.
    pub path: PathBuf,
}

/// What a container is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The share of the processors under contention, in thousandths of one.
    pub cpus_request_milli: u64,
    /// The ceiling of processor time, in thousandths of one; none is no ceiling.
    pub cpus_limit_milli: Option<u64>,
    /// What the kernel tries to leave it under pressure.
    pub memory_request_bytes: u64,
    /// The ceiling above which it is killed; none is no ceiling.
    pub memory_limit_bytes: Option<u64>,
    /// The ceiling of processes and threads; none is no ceiling.
    pub pids_max: Option<u64>,
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
