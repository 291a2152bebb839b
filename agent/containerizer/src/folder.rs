//! A container's folder: what the agent and the runner tell each other, across crashes of either.
//!
//! | file | written by | holds |
//! |---|---|---|
//! | `spec.json` | agent, before the runner starts | [`Order`] |
//! | `pid.json` | runner, at its start and when the task has started | [`Pids`] |
//! | `exit.room` | runner, at its start | nothing: room for `exit.json` on a disk that gets full |
//! | `ending` | runner, when the container is to end at once or its task has ended | nothing |
//! | `exit.json` | runner at the end; agent, if the runner was killed | `Termination` |
//! | `socket` | runner | see `linux/server.rs` |
//! | `runner.log` | runner | failures, in words |
//! | `runtime/` | runner | with an OCI runtime: its `config.json`, state and log, see `linux/oci` |
//!
//! `pid.json` is also the claim: whoever links it first, the runner that starts or an agent that finds a launch cut off,
//! decides whether the container comes to life.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use apportion_types::{
    container::{Control, Termination},
    time::Time,
};
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    cgroup::{CgroupError, Layout},
    error::LaunchError,
    procfs,
    runtime::OciRuntime,
    spec::ContainerSpec,
    users::UserRange,
};

pub(crate) const SPEC: &str = "spec.json";
pub(crate) const PIDS: &str = "pid.json";
pub(crate) const EXIT: &str = "exit.json";
const ROOM: &str = "exit.room";
const ENDING: &str = "ending";
pub(crate) const SOCKET: &str = "socket";
pub(crate) const LOG: &str = "runner.log";
pub(crate) const RUNTIME: &str = "runtime";

/// More than any account of an end has.
const ROOM_BYTES: u64 = 4096;

/// How a container is kept apart from the rest of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Isolation {
    /// Namespaces of its own, made with root's power.
    Namespaces,
    /// The same, owned by a user namespace, as an ordinary user may.
    UserNamespaces,
    /// None: its processes are told by their descent.
    Descent,
}

impl Isolation {
    pub(crate) fn namespaces(self) -> bool {
        self != Isolation::Descent
    }
}

/// All that a runner needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) spec: ContainerSpec,
    pub(crate) isolation: Isolation,
    pub(crate) layout: Layout,
    /// The container's cgroup, from the roots of the hierarchies.
    pub(crate) group: PathBuf,
    /// Host folders that the container must not see.
    pub(crate) hidden: Vec<PathBuf>,
    /// Host folders below which a container may be given something to write to.
    #[serde(default)]
    pub(crate) lendable: Vec<PathBuf>,
    /// What makes and starts it; this crate itself when none.
    #[serde(default)]
    pub(crate) runtime: Option<OciRuntime>,
    /// What its users are on the machine, if they are not the machine's.
    #[serde(default)]
    pub(crate) users: Option<UserRange>,
    /// Goes through everything but the `execve`, to find out what this machine allows.
    pub(crate) trial: bool,
}

impl Order {
    /// True unless a trial showed that this cannot be had here.
    pub(crate) fn wants(&self, control: Control) -> bool {
        !self.layout.off.contains(&control)
    }
}

/// A process, told from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Since boot, in the kernel's ticks.
    pub(crate) start_ticks: u64,
}

impl Process {
    /// The process that has this number now.
    pub(crate) fn find(pid: i32) -> io::Result<Option<Process>> {
        Ok(procfs::stat(pid)?.map(|stat| Process { pid, start_ticks: stat.start_ticks }))
    }

    /// True while it has not ended; a zombie has.
    pub(crate) fn runs(self) -> io::Result<bool> {
        let stat = procfs::stat(self.pid)?;
        Ok(stat.is_some_and(|stat| stat.start_ticks == self.start_ticks && !stat.ended))
    }
}

/// Who belongs to a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Pids {
    /// Process numbers and start times mean nothing after a reboot.
    pub(crate) boot_id: String,
    /// None if an agent declared a launch dead that was cut off before its runner started.
    pub(crate) runner: Option<Process>,
    /// Process 1 of the container.
    pub(crate) init: Option<Process>,
    pub(crate) task: Option<Process>,
    pub(crate) started_at: Option<Time>,
}

impl Pids {
    /// The runner, while it runs.
    pub(crate) fn live_runner(&self) -> io::Result<Option<Process>> {
        match self.runner {
            Some(runner) if self.are_of_this_boot()? && runner.runs()? => Ok(Some(runner)),
            _ => Ok(None),
        }
    }

    pub(crate) fn are_of_this_boot(&self) -> io::Result<bool> {
        Ok(self.boot_id == procfs::boot_id()?)
    }
}

/// What a runner says on its standard output, once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    Ready,
    Failed(Failure),
}

/// Why a container did not come to life; [`LaunchError`] as it crosses a process boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    CommandNotFound { command: String, searched: String },
    PermissionDenied { program: String },
    NotExecutable { program: String, hint: String, errno: i32 },
    Sandbox { path: String, what: String, errno: i32 },
    Volume { path: String, what: String },
    Image { path: String, what: String },
    User { user: String, what: String },
    WorkingDir { path: String, what: String },
    Network { what: String },
    Cgroup { mount: PathBuf, file: PathBuf, what: String, control: Option<Control>, errno: i32 },
    MemoryTooSmall { limit_bytes: u64 },
    Runtime { what: String },
    Setup { step: String, control: Option<Control>, errno: i32 },
    State { path: String, errno: i32 },
    Claimed,
}

impl Failure {
    pub(crate) fn setup(step: impl Into<String>, error: impl Into<io::Error>) -> Failure {
        Failure::Setup { step: step.into(), control: None, errno: errno(&error.into()) }
    }

    pub(crate) fn state(path: &Path, error: &io::Error) -> Failure {
        Failure::State { path: path.display().to_string(), errno: errno(error) }
    }

    pub(crate) fn image(path: &Path, what: impl ToString) -> Failure {
        Failure::Image { path: path.display().to_string(), what: what.to_string() }
    }

    pub(crate) fn working_dir(path: &Path, what: impl ToString) -> Failure {
        Failure::WorkingDir { path: path.display().to_string(), what: what.to_string() }
    }

    pub(crate) fn network(what: impl ToString) -> Failure {
        Failure::Network { what: what.to_string() }
    }

    pub(crate) fn sandbox(path: &Path, what: impl Into<String>, error: impl Into<io::Error>) -> Failure {
        Failure::Sandbox { path: path.display().to_string(), what: what.into(), errno: errno(&error.into()) }
    }
}

/// The number behind an error; errors of our own making count as input and output errors.
fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

impl From<CgroupError> for Failure {
    fn from(e: CgroupError) -> Self {
        Failure::Cgroup {
            mount: e.mount,
            file: e.file,
            what: e.what,
            control: e.control,
            errno: errno(&e.source),
        }
    }
}

impl From<Failure> for LaunchError {
    fn from(failure: Failure) -> Self {
        let os = io::Error::from_raw_os_error;
        match failure {
            Failure::CommandNotFound { command, searched } => {
                LaunchError::CommandNotFound { command, searched }
            }
            Failure::PermissionDenied { program } => LaunchError::PermissionDenied { program },
            Failure::NotExecutable { program, hint, errno } => {
                LaunchError::NotExecutable { program, hint, source: os(errno) }
            }
            Failure::Sandbox { path, what, errno } => {
                LaunchError::Sandbox { path: path.into(), what, source: os(errno) }
            }
            Failure::Volume { path, what } => LaunchError::Volume { path: path.into(), what },
            Failure::Image { path, what } => LaunchError::Image { path: path.into(), what },
            Failure::User { user, what } => LaunchError::User { user, what },
            Failure::Network { what } => LaunchError::Network { what },
            Failure::WorkingDir { path, what } => LaunchError::WorkingDir { path: path.into(), what },
            Failure::Cgroup { file, what, errno, .. } => {
                LaunchError::Cgroup { file, what, source: os(errno) }
            }
            Failure::MemoryTooSmall { limit_bytes } => LaunchError::MemoryTooSmall { limit_bytes },
            Failure::Runtime { what } => LaunchError::Runtime { what },
            Failure::Setup { step, errno, .. } => LaunchError::Setup { step, source: os(errno) },
            Failure::State { path, errno } => LaunchError::State { path: path.into(), source: os(errno) },
            Failure::Claimed => LaunchError::State { path: PIDS.into(), source: os(libc::EEXIST) },
        }
    }
}

/// Reads a file of the folder; none when there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ReadError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).map_err(ReadError::Damaged)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(ReadError::Io(e)),
    }
}

/// True of a file that is empty, or all zeros.
pub(crate) fn is_blank(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0))
}

/// Why a file of a folder could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    Damaged(serde_json::Error),
}

/// Replaces a file in one step.
pub(crate) fn replace<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let draft = draft(path, value)?;
    fs::rename(draft, path)
}

/// Writes a file unless there is one already; true if this call wrote it.
pub(crate) fn write_once<T: Serialize>(path: &Path, value: &T) -> io::Result<bool> {
    let draft = draft(path, value)?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(draft)?;
    match linked {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

/// Keeps room on the disk for how the container will end.
pub(crate) fn keep_room(folder: &Path) -> io::Result<()> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(folder.join(ROOM))?;
    match fallocate(file, FallocateFlags::empty(), 0, ROOM_BYTES) {
        // This file system cannot promise it.
        Err(Errno::OPNOTSUPP) => Ok(()),
        kept => Ok(kept?),
    }
}

/// Says that the container is to be gone as soon as can be.
pub(crate) fn write_ending(folder: &Path) -> io::Result<()> {
    fs::File::create(folder.join(ENDING)).map(drop)
}

/// True once [`write_ending`] has said so.
pub(crate) fn is_ending(folder: &Path) -> bool {
    folder.join(ENDING).exists()
}

/// Writes how the container ended, so that it survives a crash of the machine.
pub(crate) fn write_exit(folder: &Path, termination: &Termination) -> io::Result<()> {
    let path = folder.join(EXIT);
    let draft = draft_of(&path);
    // There is none where the runner was killed before it kept it, or after it used it.
    let _ = fs::rename(folder.join(ROOM), &draft);
    let file = write_draft(&draft, termination)?;
    file.sync_all()?;
    // An agent that gave the runner up may have been first; what it said stands.
    let linked = fs::hard_link(&draft, &path);
    fs::remove_file(draft)?;
    linked.or_else(|e| if e.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(e) })
}

fn draft<T: Serialize>(path: &Path, value: &T) -> io::Result<PathBuf> {
    let draft = draft_of(path);
    write_draft(&draft, value)?;
    Ok(draft)
}

/// A name that nobody else uses.
fn draft_of(path: &Path) -> PathBuf {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    path.with_extension(format!("{}-{number}.draft", std::process::id()))
}

/// Writes over what is there, so that room that was kept is used.
fn write_draft<T: Serialize>(draft: &Path, value: &T) -> io::Result<File> {
    let mut file = File::options().write(true).create(true).truncate(false).mode(0o600).open(draft)?;
    let bytes = serde_json::to_vec(value)?;
    file.write_all(&bytes)?;
    file.set_len(bytes.len() as u64)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_claim_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(PIDS);
        let mine = Pids {
            runner: Process::find(std::process::id() as i32).unwrap(),
            boot_id: procfs::boot_id().unwrap().to_owned(),
            ..Pids::default()
        };
        assert!(write_once(&path, &mine).unwrap());
        assert!(!write_once(&path, &Pids::default()).unwrap());
        let read: Pids = read(&path).unwrap().unwrap();
        assert_eq!(read, mine);
        assert!(read.live_runner().unwrap().is_some());
        let other_boot = Pids { boot_id: "another".into(), ..read };
        assert!(other_boot.live_runner().unwrap().is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn another_process_with_the_same_number_is_not_it() {
        let me = Process::find(std::process::id() as i32).unwrap().unwrap();
        assert!(me.runs().unwrap());
        assert!(!Process { start_ticks: me.start_ticks + 1, ..me }.runs().unwrap());
        assert_eq!(Process::find(-1).unwrap(), None);
    }

    #[test]
    fn damaged_and_missing_files_differ() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(EXIT);
        assert!(matches!(read::<Termination>(&path), Ok(None)));
        for text in ["", "{", "[]", "{\"exit\":7}"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(read::<Termination>(&path), Err(ReadError::Damaged(_))), "{text}");
        }
    }
}
