//! What a task's container holds beside its root and its sandbox: volumes, artifacts, limits of the kernel.

use serde::{Deserialize, Serialize};

use crate::{image::Image, io::IoLimits, limits, network::Network};

/// What a container has beside its command and its ceilings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// What it sees as its root; the host's files, read-only, when none.
    pub image: Option<Box<Image>>,
    /// Who it runs as: `USER[:GROUP]`, names or numbers, names as the root has them. The image's, else the agent's own user, when none.
    pub user: Option<String>,
    /// Where it is started; absolute, or relative to the sandbox. The image's, else the sandbox, when none.
    pub working_dir: Option<String>,
    /// What is fetched into the sandbox before the start, in this order.
    pub artifacts: Vec<Artifact>,
    /// Limits of the kernel for each of its processes; what the agent itself may not exceed is cut to that.
    pub rlimits: Vec<Rlimit>,
    /// Its network; the host's when none.
    pub network: Option<Box<Network>>,
    /// How much of its memory may be swapped out, beside what it holds up to its memory limit; nothing when 0.
    #[serde(default)]
    pub swap_bytes: u64,
    /// What it may do with the disk that its sandbox is on; not empty. As much as the disk gives when none.
    #[serde(default)]
    pub io: Option<Box<IoLimits>>,
    /// Its cpus, a whole number of them, are cores that nothing else runs on which its agent runs.
    #[serde(default)]
    pub exclusive_cpus: bool,
}

/// Files or a folder that a container sees beside its root.
///
/// A task without an image sees its host's files, but for what it has of its own, `/tmp` and `/var/tmp`: what lies there, and what is
/// to be seen elsewhere or written to, takes a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// What is seen.
    pub source: VolumeSource,
    /// Where: absolute and plain, or relative to the sandbox. Made where it is missing and can be.
    pub container_path: String,
    /// True when the task may write to it.
    pub writable: bool,
}

/// What a volume shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSource {
    /// A folder or file of the agent's host. Writable only below what the agent was told to lend so.
    Host {
        /// Absolute and plain.
        path: String,
    },
    /// A folder of the task's sandbox, made where it is missing.
    Sandbox {
        /// Relative and plain.
        path: String,
    },
    /// A folder that the members of the task's group share, made where it is missing; kept for as long as sandboxes are.
    Group {
        /// Relative and plain.
        path: String,
    },
    /// Memory, charged to the task; always writable.
    Tmpfs {
        /// The most that it holds.
        bytes: u64,
    },
    /// The files of an image. What is written to it is gone with the task.
    Image(Image),
}

impl Volume {
    /// A folder or file of the agent's host, read-only, at the same path, if that is absolute and plain.
    pub fn new(host_path: impl Into<String>) -> Result<Volume, VolumeError> {
        let path = host_path.into();
        let volume =
            Volume { container_path: path.clone(), source: VolumeSource::Host { path }, writable: false };
        volume.check().map(|()| volume)
    }

    /// Says which of its paths is not one.
    pub fn check(&self) -> Result<(), VolumeError> {
        let refuse = |path: &str| {
            Err(VolumeError { start: path.chars().take(64).flat_map(char::escape_default).collect() })
        };
        match &self.source {
            VolumeSource::Host { path } if !is_absolute(path) => return refuse(path),
            VolumeSource::Sandbox { path } | VolumeSource::Group { path } if !is_relative(path) => {
                return refuse(path);
            }
            _ => {}
        }
        match is_absolute(&self.container_path) || is_relative(&self.container_path) {
            true => Ok(()),
            false => refuse(&self.container_path),
        }
    }
}

/// True for a path from the root that holds no empty part, `.` or `..`, and is not the root.
pub fn is_absolute(path: &str) -> bool {
    path.len() <= limits::PATH_BYTES_MAX && path.strip_prefix('/').is_some_and(is_relative)
}

/// True for a path from somewhere that holds no empty part, `.` or `..`.
pub fn is_relative(path: &str) -> bool {
    let plain = |part: &str| !["", ".", ".."].contains(&part) && !part.contains('\0');
    path.len() <= limits::PATH_BYTES_MAX && path.split('/').all(plain)
}

/// A text is not a path of a volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{start}` is not the path of a volume: absolute (in the container or the sandbox also relative), without `.` and `..`, at most {} bytes",
    limits::PATH_BYTES_MAX
)]
pub struct VolumeError {
    /// Its first characters.
    pub start: String,
}

/// Something that is fetched into the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// `http://`, `https://` or `file:///`.
    pub uri: String,
    /// Its SHA-256 in hexadecimal digits; checked before anything is done with it.
    pub sha256: Option<String>,
    /// The file's path in the sandbox, relative and plain; the last part of the address when none.
    pub path: Option<String>,
    /// Unpacks an archive (`.tar`, `.tar.gz`, `.tgz`, `.tar.zst`, `.zip`, `.gz`) beside it, by its name.
    pub extract: bool,
    /// Makes it executable.
    pub executable: bool,
    /// Keeps it for the next task that names it, as far as the agent's cache has room.
    pub cache: bool,
}

impl Artifact {
    /// Fetched as it is, under the last part of its address, whatever its checksum.
    pub fn new(uri: impl Into<String>) -> Artifact {
        Artifact {
            uri: uri.into(),
            sha256: None,
            path: None,
            extract: false,
            executable: false,
            cache: false,
        }
    }

    /// The path of the file in the sandbox: as given, else by its address; none when that names no file.
    pub fn file_name(&self) -> Option<&str> {
        if let Some(path) = &self.path {
            return Some(path);
        }
        let (_, rest) = self.uri.split_once("://")?;
        let (_, name) = rest.split(['?', '#']).next()?.rsplit_once('/')?;
        is_relative(name).then_some(name)
    }
}

/// A limit of the kernel for each process (`setrlimit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Of what.
    pub resource: RlimitResource,
    /// Where it begins; none is no limit.
    pub soft: Option<u64>,
    /// To where a process may raise it; none is no limit.
    pub hard: Option<u64>,
}

/// What a limit of the kernel is for, by the names of the OCI runtime specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RlimitResource {
    /// RLIMIT_AS
    As,
    /// RLIMIT_CORE
    Core,
    /// RLIMIT_CPU
    Cpu,
    /// RLIMIT_DATA
    Data,
    /// RLIMIT_FSIZE
    Fsize,
    /// RLIMIT_MEMLOCK
    Memlock,
    /// RLIMIT_NOFILE
    Nofile,
    /// RLIMIT_NPROC
    Nproc,
    /// RLIMIT_STACK
    Stack,
}

impl RlimitResource {
    /// Every one.
    pub const ALL: [RlimitResource; 9] = [
        RlimitResource::As,
        RlimitResource::Core,
        RlimitResource::Cpu,
        RlimitResource::Data,
        RlimitResource::Fsize,
        RlimitResource::Memlock,
        RlimitResource::Nofile,
        RlimitResource::Nproc,
        RlimitResource::Stack,
    ];

    /// The name shown to people and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            RlimitResource::As => "as",
            RlimitResource::Core => "core",
            RlimitResource::Cpu => "cpu",
            RlimitResource::Data => "data",
            RlimitResource::Fsize => "fsize",
            RlimitResource::Memlock => "memlock",
            RlimitResource::Nofile => "nofile",
            RlimitResource::Nproc => "nproc",
            RlimitResource::Stack => "stack",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_has_a_name() {
        let artifact = |uri: &str| Artifact {
            uri: uri.to_owned(),
            sha256: None,
            path: None,
            extract: false,
            executable: false,
            cache: false,
        };
        for (uri, name) in [
            ("http://h/a/b.tar.gz?x=/y", Some("b.tar.gz")),
            ("file:///srv/tool", Some("tool")),
            ("https://h/", None),
            ("https://h", None),
            ("https://h/a/..", None),
        ] {
            assert_eq!(artifact(uri).file_name(), name, "{uri}");
        }
        let named = Artifact { path: Some("bin/tool".to_owned()), ..artifact("https://h") };
        assert_eq!(named.file_name(), Some("bin/tool"));
    }

    #[test]
    fn a_path_is_plain() {
        for path in ["/a", "/a/b"] {
            assert!(is_absolute(path) && !is_relative(path), "{path}");
        }
        for path in ["", "/", "//a", "/a/", "/a/../b", "/a/./b", "a\0", &format!("/{}", "x".repeat(4095))] {
            assert!(!is_absolute(path), "{path}");
        }
        assert!(is_relative("a/b") && !is_relative("a//b") && !is_relative("../b") && !is_relative(""));
    }
}
