//! The agent's side of native containers.
//!
//! Everything that matters is in a container's folder, so that a later agent process can do whatever the launching one could.
//! This process only keeps the tethers, and which ids it launched itself.

mod exec;
mod launch;
mod probe;
mod program;
mod runner;
mod runtime;
mod usage;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use apportion_types::{
    CpuSet,
    container::{Reading, Termination, Unenforced},
};
use async_trait::async_trait;

use self::program::Program;
use crate::{
    cgroup::{self, Layout},
    containerizer::Containerizer,
    error::{ContainerError, LaunchError, ProbeError},
    exec::{Exec, ExecError, ExecSpec},
    folder::{self, Isolation, Pids, ReadError},
    runtime::{OciRuntime, Runtime},
    spec::{ContainerId, ContainerSpec, Leftover, Signal},
};

/// How native containers are to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeConfig {
    /// One folder for each container, made if missing; on a local disk, and for this agent alone.
    pub state_dir: PathBuf,
    /// The command that calls [`crate::runner_main`] with the arguments that are appended to it.
    pub runner: Vec<OsString>,
    /// The parent of all containers' cgroups, from the roots of the hierarchies, for this agent alone: `apportion/agent-1`.
    pub cgroup_parent: String,
    /// Folders that no container may see, such as the agent's work directory. A sandbox inside stays visible to its container.
    pub hidden: Vec<PathBuf>,
    /// Folders below which containers may be given something of the host to write to; none at first.
    pub lendable: Vec<PathBuf>,
    /// What makes the containers; this crate itself at first.
    pub runtime: Runtime,
    /// The processors that containers launched from now on may run on; all at first.
    pub cpuset: Option<CpuSet>,
}

impl NativeConfig {
    /// The usual way: the agent's own binary is the runner, and containers do not see the state folder.
    pub fn new(state_dir: PathBuf, cgroup_parent: String) -> Self {
        let runner = ["/proc/self/exe", "runner"].map(OsString::from).to_vec();
        NativeConfig {
            state_dir,
            runner,
            cgroup_parent,
            hidden: Vec::new(),
            lendable: Vec::new(),
            runtime: Runtime::Native,
            cpuset: None,
        }
    }
}

/// What trials at the start found out.
#[derive(Debug, Clone)]
struct Plan {
    isolation: Isolation,
    layout: Layout,
    runtime: Option<OciRuntime>,
}

/// What this process knows by itself.
#[derive(Debug, Default)]
struct Own {
    launching: BTreeSet<ContainerId>,
    launched: BTreeSet<ContainerId>,
    meters: usage::Meters,
}

#[derive(Debug)]
struct Shared {
    config: NativeConfig,
    program: Program,
    plan: Plan,
    own: Mutex<Own>,
}

impl Shared {
    fn folder(&self, id: &ContainerId) -> PathBuf {
        self.config.state_dir.join(&id.0)
    }

    /// The folder of a container that was launched, if there is one.
    fn known(&self, id: &ContainerId) -> Result<PathBuf, ContainerError> {
        let unknown = || ContainerError::Unknown { id: id.clone() };
        // A launch under way is not to be taken for one that was cut off.
        if id.refusal().is_some() || self.with_own(|own| own.launching.contains(id)) {
            return Err(unknown());
        }
        let folder = self.folder(id);
        if folder.is_dir() { Ok(folder) } else { Err(unknown()) }
    }

    fn with_own<T>(&self, f: impl FnOnce(&mut Own) -> T) -> T {
        // What it protects is valid between any two statements.
        f(&mut self.own.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Containers made by this crate alone: no daemon, no package.
///
/// Runs in a tokio runtime. A tethered container ends when the runtime that launched it is dropped or its process ends.
#[derive(Debug, Clone)]
pub struct Native {
    shared: Arc<Shared>,
    unenforced: Vec<Unenforced>,
}

impl Native {
    /// Tries what this machine and this user allow, by running a container that does nothing, and settles for that.
    ///
    /// Takes a few milliseconds where all is allowed. What is not is in [`Containerizer::unenforced`].
    pub async fn probe(config: NativeConfig) -> Result<Native, ProbeError> {
        let program = Program::of(&config.runner);
        let (plan, unenforced) = probe::probe(&config, &program).await?;
        let shared = Shared { config, program, plan, own: Mutex::default() };
        Ok(Native { shared: Arc::new(shared), unenforced })
    }
}

/// Reads a file of a container's folder.
fn read<T: serde::de::DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>, ContainerError> {
    let path = folder.join(name);
    folder::read(&path).map_err(|e| match e {
        ReadError::Io(source) => ContainerError::State { path, source },
        ReadError::Damaged(source) => ContainerError::Damaged { path, source },
    })
}

#[async_trait]
impl Containerizer for Native {
    fn unenforced(&self) -> &[Unenforced] {
        &self.unenforced
    }

    async fn launch(&self, spec: ContainerSpec) -> Result<(), LaunchError> {
        launch::launch(self.shared.clone(), spec).await
    }

    async fn wait(&self, id: &ContainerId) -> Result<Termination, ContainerError> {
        runner::wait(&self.shared, id).await
    }

    async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<(), ContainerError> {
        runner::signal(&self.shared, id, signal).await
    }

    async fn exec(&self, id: &ContainerId, spec: ExecSpec) -> Result<Exec, ExecError> {
        exec::exec(&self.shared, id, spec).await
    }

    async fn usage(&self, ids: &[ContainerId]) -> Vec<Result<Reading, ContainerError>> {
        usage::usage(&self.shared, ids).await
    }

    async fn processes(&self, id: &ContainerId) -> Result<Vec<i32>, ContainerError> {
        runner::processes(&self.shared, id).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let folder = self.shared.known(id)?;
        let pids: Option<Pids> = read(&folder, folder::PIDS)?;
        if pids.is_some_and(|pids| pids.live_runner().is_some()) {
            return Err(ContainerError::StillRunning { id: id.clone() });
        }
        // Of a killed runner something may be left, and what its runner could not remove.
        runner::wait(&self.shared, id).await?;
        runner::remove(id, &folder).await?;
        self.shared.with_own(|own| {
            own.launched.remove(id);
            own.meters.forget(id);
        });
        Ok(())
    }

    async fn leftovers(&self) -> Vec<Leftover> {
        let Ok(entries) = fs::read_dir(&self.shared.config.state_dir) else { return Vec::new() };
        let ids = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let ids = ids.filter_map(|entry| entry.file_name().into_string().ok()).map(ContainerId);
        let mut found: Vec<Leftover> = ids
            .filter(|id| id.refusal().is_none())
            .filter(|id| {
                self.shared.with_own(|own| !own.launching.contains(id) && !own.launched.contains(id))
            })
            .map(|id| {
                let pids: Option<Pids> = read(&self.shared.folder(&id), folder::PIDS).ok().flatten();
                let running = pids.is_some_and(|pids| pids.live_runner().is_some());
                Leftover { id, running }
            })
            .collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    }

    async fn close(&self) {
        let any_child = Path::new(&self.shared.config.cgroup_parent).join("-");
        cgroup::remove_empty_parents(&*self.shared.plan.layout.driver(), &any_child);
    }
}
