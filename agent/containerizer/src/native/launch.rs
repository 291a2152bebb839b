//! Launching: the folder, the order, the runner, and its answer.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt, BufReader},
    process::Child,
    time::timeout,
};

use super::{NativeConfig, Plan, Shared, program::Program, runner};
use crate::{
    cgroup::Controller,
    containerizer::LAUNCH_TIMEOUT,
    error::LaunchError,
    folder::{self, Failure, Isolation, Order, Report},
    spec::{ContainerSpec, Mount, MountSource},
};

/// A runner's answer holds a few paths at most.
const ANSWER_BYTES_MAX: u64 = 128 << 10;

/// How much of a runner's log goes into an error.
const LOG_BYTES_SHOWN: usize = 2048;

/// Launches a container; goes on to its end even if the caller stops waiting for it.
pub(super) async fn launch(shared: Arc<Shared>, spec: ContainerSpec) -> Result<(), LaunchError> {
    check(&spec)?;
    can_mount(&spec, shared.plan.isolation)?;
    let id = spec.id.clone();
    if !shared.with_own(|own| own.launching.insert(id.clone())) {
        return Err(LaunchError::IdUsed { id });
    }
    let task = tokio::spawn(async move {
        let id = spec.id.clone();
        let order = order(&shared.config, &shared.plan, spec);
        let result = start(&shared.program, &shared.config.state_dir, &order).await;
        shared.with_own(|own| {
            own.launching.remove(&id);
            if result.is_ok() {
                own.launched.insert(id);
            }
        });
        result.map_err(LaunchError::from)
    });
    match task.await {
        Ok(result) => result,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}

fn check(spec: &ContainerSpec) -> Result<(), LaunchError> {
    if let Some(reason) = spec.id.refusal() {
        return Err(LaunchError::InvalidId { id: spec.id.clone(), reason });
    }
    passable(&spec.argv, &spec.env)
}

/// Refuses what no program can be given.
pub(super) fn passable(argv: &[String], env: &BTreeMap<String, String>) -> Result<(), LaunchError> {
    if argv.first().is_none_or(String::is_empty) {
        return Err(LaunchError::EmptyCommand);
    }
    if let Some(at) = argv.iter().position(|arg| arg.contains('\0')) {
        return Err(LaunchError::Unpassable { what: format!("argument {at}") });
    }
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(LaunchError::Unpassable { what: format!("environment variable {name:?}") });
        }
    }
    Ok(())
}

/// Without namespaces there is no root and are no mounts of the container's own.
fn can_mount(spec: &ContainerSpec, isolation: Isolation) -> Result<(), LaunchError> {
    if isolation.namespaces() {
        return Ok(());
    }
    let why = "this machine gives the agent's containers no namespaces of their own, as it says among what it does not enforce; run the agent as root, or on a machine that lets its user make user namespaces";
    if let Some(image) = &spec.root {
        let what = format!("cannot be the root of a container: {why}");
        return Err(LaunchError::Image { path: image.scratch.clone(), what });
    }
    if spec.network.is_some() {
        return Err(LaunchError::Network { what: format!("cannot be one of its own: {why}") });
    }
    // What is on the host, and only to be read, is there without a mount.
    let seen = |mount: &Mount| !mount.writable && mount.source == MountSource::Host(mount.target.clone());
    let asked = spec.mounts.iter().filter(|mount| !seen(mount)).map(|mount| &mount.target);
    match asked.chain(spec.persistent.iter().map(|volume| &volume.path)).next() {
        Some(path) => {
            Err(LaunchError::Volume { path: path.clone(), what: format!("cannot be mounted: {why}") })
        }
        None => Ok(()),
    }
}

/// The order for the runner of a container.
pub(super) fn order(config: &NativeConfig, plan: &Plan, spec: ContainerSpec) -> Order {
    let mut layout = plan.layout.clone();
    if spec.limits.io.is_empty() && plan.runtime.is_none() {
        // Each further hierarchy costs every launch a move; but what a runtime enters is ours to remove.
        layout.leave_out(Controller::Io);
    }
    let mut hidden = config.hidden.clone();
    // Through another container's socket a task could end it.
    hidden.push(config.state_dir.clone());
    Order {
        group: Path::new(&config.cgroup_parent).join(&spec.id.0),
        isolation: plan.isolation,
        layout,
        hidden,
        lendable: config.lendable.clone(),
        runtime: plan.runtime.clone(),
        users: plan.users,
        trial: false,
        spec,
    }
}

/// Why a launch failed: as the runner says it, or as we do.
pub(super) enum NotStarted {
    Runner(Failure),
    Here(LaunchError),
}

impl From<NotStarted> for LaunchError {
    fn from(reason: NotStarted) -> Self {
        match reason {
            NotStarted::Runner(failure) => failure.into(),
            NotStarted::Here(error) => error,
        }
    }
}

/// Carries out an order; on error nothing is left of it, or what cannot be cleared away now is a leftover.
pub(super) async fn start(program: &Program, state_dir: &Path, order: &Order) -> Result<(), NotStarted> {
    let folder = state_dir.join(&order.spec.id.0);
    let began = tokio::task::spawn_blocking({
        let (program, folder, order) = (program.clone(), folder.clone(), order.clone());
        move || make_folder(&folder, &order).map(|log| spawn(&program, &order, &folder, log))
    });
    let began = began.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
    let result = match began.map_err(NotStarted::Here)? {
        Ok(runner) => run(runner, &folder).await,
        Err(error) => Err(NotStarted::Here(error)),
    };
    if let Err(reason) = &result {
        // A runner that gives a reason has cleared away. Of one that was killed something may be left.
        if matches!(reason, NotStarted::Here(_))
            && let Err(error) = runner::clear_away(order.clone(), folder.clone()).await
        {
            // Whoever asked for the container learns the first reason.
            tracing::warn!(container = %order.spec.id, %error, "what is left of a container that did not start cannot be cleared away yet; it is tried again");
            return result;
        }
        let _ = tokio::fs::remove_dir_all(&folder).await;
    }
    result
}

/// Makes the folder and writes the order; the open file is the runner's log.
fn make_folder(folder: &Path, order: &Order) -> Result<File, LaunchError> {
    let state = |path: &Path| {
        let path = path.to_owned();
        move |source| LaunchError::State { path, source }
    };
    // What is in it lets others end the container, or see its environment.
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            return Err(LaunchError::IdUsed { id: order.spec.id.clone() });
        }
        made => made.map_err(state(folder))?,
    }
    let written = write_order(folder, order).and_then(|()| {
        let path = folder.join(folder::LOG);
        File::options().append(true).create(true).mode(0o600).open(&path).map_err(state(&path))
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(folder);
    }
    written
}

fn write_order(folder: &Path, order: &Order) -> Result<(), LaunchError> {
    let path = folder.join(folder::SPEC);
    folder::replace(&path, order).map_err(|source| LaunchError::State { path, source })
}

/// Hears what the runner says.
async fn run(mut child: Child, folder: &Path) -> Result<(), NotStarted> {
    match timeout(LAUNCH_TIMEOUT, answer(&mut child)).await {
        Ok(Ok(line)) if line.is_empty() => {
            let status = child.wait().await.map_or_else(|e| e.to_string(), |status| status.to_string());
            Err(NotStarted::Here(LaunchError::RunnerDied { status, log: log_tail(folder) }))
        }
        Ok(Ok(line)) => match serde_json::from_slice(&line) {
            Ok(Report::Ready) => {
                // Holds the tether for as long as the container runs, and reaps the runner.
                tokio::spawn(async move {
                    let tether = child.stdin.take();
                    let _ = child.wait().await;
                    drop(tether);
                });
                Ok(())
            }
            Ok(Report::Failed(failure)) => {
                let _ = child.wait().await;
                Err(NotStarted::Runner(failure))
            }
            Err(source) => {
                let _ = child.kill().await;
                let answer = String::from_utf8_lossy(&line).chars().take(200).collect();
                Err(NotStarted::Here(LaunchError::Garbled { answer, source }))
            }
        },
        Ok(Err(source)) => {
            let _ = child.kill().await;
            Err(NotStarted::Here(LaunchError::State { path: folder.to_owned(), source }))
        }
        Err(_) => {
            // Its container dies with it.
            let _ = child.kill().await;
            Err(NotStarted::Here(LaunchError::TimedOut { after: LAUNCH_TIMEOUT }))
        }
    }
}

fn spawn(program: &Program, order: &Order, folder: &Path, log: File) -> Result<Child, LaunchError> {
    let failed = |source| program.failed(source);
    // The runner enters it, and is told its place from the root.
    let folder: PathBuf = std::path::absolute(folder).map_err(failed)?;
    let mut runner = program.command().map_err(failed)?;
    runner
        .arg(folder)
        // Nothing of the agent's own environment, which may hold secrets, stays in a process beside the task.
        .env_clear()
        .current_dir("/")
        .stdin(if order.spec.tethered { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(failed)
}

/// What the runner says: one line, or nothing if it died.
async fn answer(child: &mut Child) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    if let Some(out) = child.stdout.take() {
        // To its end: the runner closes it after its answer.
        BufReader::new(out).take(ANSWER_BYTES_MAX).read_to_end(&mut line).await?;
    }
    Ok(line)
}

fn log_tail(folder: &Path) -> String {
    let log = fs::read(folder.join(folder::LOG)).unwrap_or_default();
    let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_BYTES_SHOWN)..]).trim().to_owned();
    if tail.is_empty() { "nothing".to_owned() } else { tail }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;
    use crate::{
        cgroup::Layout,
        folder::Isolation,
        spec::{ContainerId, Limits},
    };

    /// Whatever moment an agent is killed at, the next one finds an order that it can read, or none.
    #[test]
    fn an_order_is_there_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let spec = ContainerSpec {
            id: ContainerId("c".into()),
            argv: vec!["x".repeat(1 << 20)],
            env: Default::default(),
            sandbox: dir.path().to_owned(),
            output: None,
            root: None,
            user: None,
            working_dir: None,
            mounts: Vec::new(),
            rlimits: Vec::new(),
            persistent: Vec::new(),
            network: None,
            limits: Limits {
                cpus_request_milli: 0,
                cpus_limit_milli: None,
                memory_request_bytes: 0,
                memory_limit_bytes: None,
                swap_max_bytes: 0,
                pids_max: None,
                io: apportion_types::IoLimits::NONE,
                cores: None,
                huge_pages: apportion_types::HugePages::NONE,
            },
            tethered: false,
        };
        let plan =
            Plan { isolation: Isolation::Descent, layout: Layout::default(), runtime: None, users: None };
        let order = order(&NativeConfig::new(dir.path().to_owned(), "parent".into()), &plan, spec);
        let folders: Vec<PathBuf> = (0..50).map(|number| dir.path().join(number.to_string())).collect();
        let written = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                folders.iter().for_each(|folder| drop(make_folder(folder, &order).unwrap()));
                written.store(true, Ordering::Release);
            });
            for folder in &folders {
                let path = folder.join(folder::SPEC);
                loop {
                    let last = written.load(Ordering::Acquire);
                    if folder::read::<Order>(&path).unwrap().is_some() {
                        break;
                    }
                    assert!(!last, "it was never written");
                }
            }
        });
    }
}
