//! Containers without processes, for tests of whoever uses a [`Containerizer`].

mod exec;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use apportion_types::{
    container::{Exit, Limitation, Reading, Termination, Unenforced, Usage},
    time::Time,
};
use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    containerizer::Containerizer,
    error::{ContainerError, LaunchError},
    exec::{Exec, ExecError, ExecSpec},
    spec::{ContainerId, ContainerSpec, Leftover, Limits, Signal},
};

/// A containerizer that starts nothing; what a container does is written in its command.
///
/// | `argv` | behaviour |
/// |---|---|
/// | `exit CODE` | ends at once with this code |
/// | `crash SIGNAL` | ends at once by this signal |
/// | `exceed-memory` | ends at once by its memory limit |
/// | `missing` | cannot be launched: command not found |
/// | `ignore-term` | runs until killed, or until [`Fake::end`] |
/// | `exit-on-term CODE` | runs until asked to end, then ends with this code |
/// | anything else | runs until signalled, and ends by that signal |
///
/// And of what is executed in one:
///
/// | `argv` | behaviour |
/// |---|---|
/// | `exit CODE` | ends at once with this code |
/// | `echo TEXT…` | writes the texts, a space between them and a line's end behind, and ends with 0 |
/// | `cat` | writes what it reads until that ends, and `[ROWSxCOLUMNS]` at each resize |
/// | `missing` | cannot be executed: command not found |
/// | anything else | runs until it is dropped, or the container ends |
///
/// Deterministic: nothing happens by itself, and its clock counts its own events, a microsecond each. Clones share their
/// containers; [`Fake::next_agent`] shows them to a later agent process.
#[derive(Debug, Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    ended: Arc<watch::Sender<u64>>,
    own: Arc<Mutex<BTreeSet<ContainerId>>>,
    unenforced: Vec<Unenforced>,
}

#[derive(Debug, Default)]
struct State {
    events: u64,
    used: BTreeSet<ContainerId>,
    containers: BTreeMap<ContainerId, Container>,
    launched: Vec<ContainerSpec>,
    executed: Vec<(ContainerId, ExecSpec)>,
    closed: bool,
}

#[derive(Debug)]
struct Container {
    spec: ContainerSpec,
    started_at: Time,
    signals: Vec<Signal>,
    termination: Option<Termination>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked has failed anyway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn now(&mut self) -> Time {
        self.events += 1;
        Time::from_micros(self.events)
    }

    fn container(&mut self, id: &ContainerId) -> Result<&mut Container, ContainerError> {
        self.containers.get_mut(id).ok_or_else(|| ContainerError::Unknown { id: id.clone() })
    }

    fn end(&mut self, id: &ContainerId, exit: Option<Exit>, limitation: Option<Limitation>) {
        let finished_at = self.now();
        let Some(container) = self.containers.get_mut(id).filter(|c| c.termination.is_none()) else { return };
        let usage = Usage { cpu_us: 1_000, memory_peak_bytes: Some(1 << 20) };
        let started_at = container.started_at;
        container.termination = Some(Termination { exit, limitation, usage, started_at, finished_at });
    }
}

impl Default for Fake {
    fn default() -> Self {
        Fake::new(Vec::new())
    }
}

impl Fake {
    /// With nothing running, on a machine that cannot enforce these.
    pub fn new(unenforced: Vec<Unenforced>) -> Self {
        Fake { state: Arc::default(), ended: Arc::new(watch::channel(0).0), own: Arc::default(), unenforced }
    }

    /// The same containers, as a later agent process finds them: as leftovers, the tethered ones ended.
    pub fn next_agent(&self) -> Fake {
        let tethered: Vec<ContainerId> = {
            let state = lock(&self.state);
            state.containers.iter().filter(|(_, c)| c.spec.tethered).map(|(id, _)| id.clone()).collect()
        };
        for id in tethered {
            self.finish(&id, Some(Exit::Signal(9)), None);
        }
        Fake { own: Arc::default(), ..self.clone() }
    }

    /// Ends a running container as if its task had ended by itself.
    pub fn end(&self, id: &ContainerId, exit: Exit) {
        self.finish(id, Some(exit), None);
    }

    /// Ends a running container as if somebody had killed its runner.
    pub fn lose(&self, id: &ContainerId) {
        self.finish(id, None, None);
    }

    /// Every specification that was launched, in order, also of containers that were removed.
    pub fn launched(&self) -> Vec<ContainerSpec> {
        lock(&self.state).launched.clone()
    }

    /// Every command that was executed in a container, in order.
    pub fn executed(&self) -> Vec<(ContainerId, ExecSpec)> {
        lock(&self.state).executed.clone()
    }

    /// The signals that a container was sent while it ran, in order; none once it is removed.
    pub fn signals(&self, id: &ContainerId) -> Vec<Signal> {
        lock(&self.state).containers.get(id).map(|c| c.signals.clone()).unwrap_or_default()
    }

    /// What a container is held to now; none once it is removed.
    pub fn limits(&self, id: &ContainerId) -> Option<Limits> {
        lock(&self.state).containers.get(id).map(|c| c.spec.limits.clone())
    }

    /// True after [`Containerizer::close`].
    pub fn closed(&self) -> bool {
        lock(&self.state).closed
    }

    fn finish(&self, id: &ContainerId, exit: Option<Exit>, limitation: Option<Limitation>) {
        lock(&self.state).end(id, exit, limitation);
        self.ended.send_modify(|count| *count += 1);
    }
}

/// The number behind a command's first word.
fn number(spec: &ContainerSpec) -> i32 {
    spec.argv.get(1).and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[async_trait]
impl Containerizer for Fake {
    fn unenforced(&self) -> &[Unenforced] {
        &self.unenforced
    }

    async fn launch(&self, spec: ContainerSpec) -> Result<(), LaunchError> {
        let id = spec.id.clone();
        if let Some(reason) = id.refusal() {
            return Err(LaunchError::InvalidId { id, reason });
        }
        let Some(script) = spec.argv.first().cloned() else { return Err(LaunchError::EmptyCommand) };
        {
            let mut state = lock(&self.state);
            if !state.used.insert(id.clone()) {
                return Err(LaunchError::IdUsed { id });
            }
            if script == "missing" {
                return Err(LaunchError::CommandNotFound { command: script, searched: "PATH=".to_owned() });
            }
            let started_at = state.now();
            state.launched.push(spec.clone());
            let container =
                Container { spec: spec.clone(), started_at, signals: Vec::new(), termination: None };
            state.containers.insert(id.clone(), container);
        }
        lock(&self.own).insert(id.clone());
        match script.as_str() {
            "exit" => self.finish(&id, Some(Exit::Code(number(&spec))), None),
            "crash" => self.finish(&id, Some(Exit::Signal(number(&spec))), None),
            "exceed-memory" => {
                let limit_bytes = spec.limits.memory_limit_bytes.unwrap_or(0);
                self.finish(&id, Some(Exit::Signal(9)), Some(Limitation::Memory { limit_bytes }));
            }
            _ => {}
        }
        Ok(())
    }

    async fn wait(&self, id: &ContainerId) -> Result<Termination, ContainerError> {
        let mut ended = self.ended.subscribe();
        loop {
            if let Some(termination) = &lock(&self.state).container(id)?.termination {
                return Ok(termination.clone());
            }
            // The sender lives in `self`, so that this cannot fail before it returns.
            let _ = ended.changed().await;
        }
    }

    async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<(), ContainerError> {
        let exit = {
            let mut state = lock(&self.state);
            let container = state.container(id)?;
            if container.termination.is_some() {
                return Ok(());
            }
            container.signals.push(signal);
            match (signal, container.spec.argv[0].as_str()) {
                (Signal::Kill, _) => Some(Exit::Signal(9)),
                (Signal::Term, "ignore-term") => None,
                (Signal::Term, "exit-on-term") => Some(Exit::Code(number(&container.spec))),
                (Signal::Term, _) => Some(Exit::Signal(15)),
            }
        };
        if exit.is_some() {
            self.finish(id, exit, None);
        }
        Ok(())
    }

    async fn limit(&self, id: &ContainerId, limits: Limits) -> Result<(), ContainerError> {
        let mut state = lock(&self.state);
        state.container(id)?.spec.limits = limits;
        Ok(())
    }

    async fn exec(&self, id: &ContainerId, spec: ExecSpec) -> Result<Exec, ExecError> {
        exec::exec(self, id, spec)
    }

    async fn usage(&self, ids: &[ContainerId]) -> Vec<Result<Reading, ContainerError>> {
        let mut state = lock(&self.state);
        let mut usage = |id| {
            let termination = state.container(id)?.termination.as_ref();
            Ok(termination.map(|termination| termination.usage.into()).unwrap_or_default())
        };
        ids.iter().map(&mut usage).collect()
    }

    async fn processes(&self, id: &ContainerId) -> Result<Vec<i32>, ContainerError> {
        lock(&self.state).container(id).map(|_| Vec::new())
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let mut state = lock(&self.state);
        if state.container(id)?.termination.is_none() {
            return Err(ContainerError::StillRunning { id: id.clone() });
        }
        state.containers.remove(id);
        Ok(())
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>, ContainerError> {
        let (state, own) = (lock(&self.state), lock(&self.own));
        let others = state.containers.iter().filter(|(id, _)| !own.contains(id));
        Ok(others.map(|(id, c)| Leftover { id: id.clone(), running: c.termination.is_none() }).collect())
    }

    async fn close(&self) {
        lock(&self.state).closed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: &str, argv: &[&str]) -> ContainerSpec {
        ContainerSpec {
            id: ContainerId(id.into()),
            argv: argv.iter().map(|s| (*s).to_owned()).collect(),
            env: BTreeMap::new(),
            sandbox: "/nowhere".into(),
            output: None,
            root: None,
            user: None,
            working_dir: None,
            mounts: Vec::new(),
            rlimits: Vec::new(),
            persistent: Vec::new(),
            network: None,
            limits: Limits {
                cpus_request_milli: 100,
                cpus_limit_milli: None,
                memory_request_bytes: 0,
                memory_limit_bytes: Some(7),
                swap_max_bytes: 0,
                pids_max: None,
                io: apportion_types::IoLimits::NONE,
                cores: None,
                huge_pages: apportion_types::HugePages::NONE,
            },
            tethered: false,
        }
    }

    #[tokio::test]
    async fn scripts() {
        let fake = Fake::default();
        for (argv, signal, exit) in [
            (&["exit", "3"][..], None, Exit::Code(3)),
            (&["crash", "11"], None, Exit::Signal(11)),
            (&["sleep"], Some(Signal::Term), Exit::Signal(15)),
            (&["ignore-term"], Some(Signal::Kill), Exit::Signal(9)),
            (&["exit-on-term", "4"], Some(Signal::Term), Exit::Code(4)),
        ] {
            let spec = spec(argv[0], argv);
            let id = spec.id.clone();
            fake.launch(spec.clone()).await.unwrap();
            assert!(matches!(fake.launch(spec).await, Err(LaunchError::IdUsed { .. })));
            if let Some(signal) = signal {
                assert!(matches!(fake.remove(&id).await, Err(ContainerError::StillRunning { .. })));
                let (waited, signalled) = tokio::join!(fake.wait(&id), fake.signal(&id, signal));
                signalled.unwrap();
                assert_eq!(waited.unwrap().exit, Some(exit));
                assert_eq!(fake.signals(&id), [signal]);
            }
            let end = fake.wait(&id).await.unwrap();
            assert_eq!((end.exit, end.limitation), (Some(exit), None));
            assert!(end.finished_at > end.started_at);
            fake.signal(&id, Signal::Kill).await.unwrap();
            fake.remove(&id).await.unwrap();
            assert!(matches!(fake.wait(&id).await, Err(ContainerError::Unknown { .. })));
        }
        assert_eq!(fake.launched().len(), 5);
        assert!(matches!(
            fake.launch(spec("m", &["missing"])).await,
            Err(LaunchError::CommandNotFound { .. })
        ));
        fake.launch(spec("memory", &["exceed-memory"])).await.unwrap();
        let end = fake.wait(&ContainerId("memory".into())).await.unwrap();
        assert_eq!(end.limitation, Some(Limitation::Memory { limit_bytes: 7 }));
    }

    #[tokio::test]
    async fn a_later_agent_finds_what_runs() {
        let fake = Fake::default();
        fake.launch(spec("a", &["run"])).await.unwrap();
        fake.launch(spec("b", &["run"])).await.unwrap();
        fake.launch(ContainerSpec { tethered: true, ..spec("c", &["run"]) }).await.unwrap();
        fake.lose(&ContainerId("b".into()));
        assert!(fake.leftovers().await.unwrap().is_empty());
        let next = fake.next_agent();
        let found: Vec<(String, bool)> =
            next.leftovers().await.unwrap().into_iter().map(|l| (l.id.0, l.running)).collect();
        assert_eq!(found, [("a".into(), true), ("b".into(), false), ("c".into(), false)]);
        assert_eq!(next.wait(&ContainerId("b".into())).await.unwrap().exit, None);
        next.end(&ContainerId("a".into()), Exit::Code(0));
        assert_eq!(fake.wait(&ContainerId("a".into())).await.unwrap().exit, Some(Exit::Code(0)));
        next.close().await;
        assert!(next.closed());
    }
}
