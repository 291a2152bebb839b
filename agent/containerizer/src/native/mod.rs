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
mod users;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
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
    spec::{ContainerId, ContainerSpec, Leftover, Limits, Signal},
    users::UserRange,
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
    /// What users of containers launched from now on are on the machine; at first they are the machine's own.
    pub users: Option<UserRange>,
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
            users: None,
        }
    }
}

/// What trials at the start found out.
#[derive(Debug, Clone)]
struct Plan {
    isolation: Isolation,
    layout: Layout,
    runtime: Option<OciRuntime>,
    users: Option<UserRange>,
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

    /// Every container that has a folder.
    fn folders(&self) -> Result<Vec<ContainerId>, ContainerError> {
        let path = &self.config.state_dir;
        let names = fs::read_dir(path).and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<OsString>>>()
        });
        let names = match names {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(ContainerError::State { path: path.clone(), source });
            }
            names => names.unwrap_or_default(),
        };
        let ids = names.into_iter().filter_map(|name| name.into_string().ok()).map(ContainerId);
        Ok(ids.filter(|id| id.refusal().is_none() && self.folder(id).is_dir()).collect())
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
    match folder::read(&path) {
        Ok(value) => Ok(value),
        // Only a loss of power leaves that of a file for whose way to the disk no launch waits: it is as if nobody had written it.
        Err(ReadError::Damaged(_)) if name != folder::EXIT && folder::is_blank(&path) => Ok(None),
        Err(ReadError::Io(source)) => Err(ContainerError::State { path, source }),
        Err(ReadError::Damaged(source)) => Err(ContainerError::Damaged { path, source }),
    }
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

    async fn limit(&self, id: &ContainerId, limits: Limits) -> Result<(), ContainerError> {
        runner::limit(&self.shared, id, limits).await
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
        if runner::live(id, &pids.unwrap_or_default())?.is_some() {
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

    async fn leftovers(&self) -> Result<Vec<Leftover>, ContainerError> {
        let mut found = Vec::new();
        for id in self.shared.folders()? {
            if self.shared.with_own(|own| own.launching.contains(&id) || own.launched.contains(&id)) {
                continue;
            }
            let running = match runner::claimed(&self.shared.folder(&id)) {
                Ok(pids) => runner::live(&id, &pids)?.is_some(),
                // Whoever waits for it is told.
                Err(ContainerError::Damaged { .. }) => false,
                Err(error) => return Err(error),
            };
            found.push(Leftover { id, running });
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    async fn close(&self) {
        let any_child = Path::new(&self.shared.config.cgroup_parent).join("-");
        cgroup::remove_empty_parents(&*self.shared.plan.layout.driver(), &any_child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native(dir: &Path) -> Native {
        let (isolation, layout) = (Isolation::Namespaces, Layout::default());
        let plan = Plan { isolation, layout, runtime: None, users: None };
        let config = NativeConfig::new(dir.to_owned(), String::new());
        let shared = Shared { config, program: Program::of(&[]), plan, own: Mutex::default() };
        Native { shared: Arc::new(shared), unenforced: Vec::new() }
    }

    /// Names are on the disk sooner than what was written under them.
    #[tokio::test]
    async fn what_a_loss_of_power_leaves_of_a_container_has_ended_and_can_be_removed() {
        let dead = serde_json::to_string(&Pids::default()).unwrap();
        for (order, pids) in [("", ""), ("\0\0\0", ""), ("", "\0"), ("", dead.as_str())] {
            let dir = tempfile::tempdir().unwrap();
            let native = native(dir.path());
            let id = ContainerId("c".to_owned());
            let folder = native.shared.folder(&id);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(folder::SPEC), order).unwrap();
            fs::write(folder.join(folder::PIDS), pids).unwrap();
            assert_eq!(native.leftovers().await.unwrap(), [Leftover { id: id.clone(), running: false }]);
            assert_eq!(native.wait(&id).await.unwrap().exit, None);
            native.remove(&id).await.unwrap();
            assert!(!folder.exists());
        }
    }

    #[tokio::test]
    async fn a_damaged_file_of_a_container_is_no_end_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let native = native(dir.path());
        let id = ContainerId("c".to_owned());
        let folder = native.shared.folder(&id);
        fs::create_dir(&folder).unwrap();
        for (name, text) in [(folder::PIDS, "{"), (folder::SPEC, "[]"), (folder::EXIT, "")] {
            fs::write(folder.join(name), text).unwrap();
            let error = native.wait(&id).await.unwrap_err();
            assert!(
                matches!(&error, ContainerError::Damaged { path, .. } if path.ends_with(name)),
                "{error}"
            );
            fs::remove_file(folder.join(name)).unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_left_of_a_launch_that_was_cut_off_never_runs() {
        let dir = tempfile::tempdir().unwrap();
        let native = native(dir.path());
        let id = ContainerId("c".to_owned());
        let folder = native.shared.folder(&id);
        fs::create_dir(&folder).unwrap();
        assert_eq!(native.leftovers().await.unwrap(), [Leftover { id, running: false }]);
        // As a runner does that comes late.
        assert!(!folder::write_once(&folder.join(folder::PIDS), &Pids::default()).unwrap());
    }
}
