//! Containers: what the core wants of them, done in the order in which it is wanted for each, and side by side for different ones.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use apportion_agent_core::{
    ContainerId, ContainerPlan, Event, LaunchFailure, LaunchFailureKind, ProbeKind, Signal,
};
use apportion_containerizer::{
    self as containerizer, ContainerError, ContainerSpec, Containerizer, ImageRoot, LaunchError, Limits,
    Mount, MountSource, OutputBounds, PersistentVolume, SANDBOX_IN_IMAGE,
};
use apportion_network::Networks;
use apportion_types::{Probe, Volume, VolumeSource, text::chain};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    content::{Brought, Content},
    network::{self, Joined},
    probes::Probes,
    sandboxes::Sandboxes,
    volumes::{VolumeError, Volumes},
};

/// What a task finds programs by when it does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How soon what could not be removed is tried again, at first; twice as long each time.
const REMOVAL_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest such pause.
const REMOVAL_PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long the end of the agent waits for the containerizer to finish what it was told.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The containers of this process.
pub(crate) struct Effects {
    shared: Arc<Shared>,
    containers: HashMap<ContainerId, Container>,
    running: TaskTracker,
    pub(crate) volumes: Volumes,
    pub(crate) probes: Probes,
}

/// What is the same for every container of this agent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Every {
    /// How much is kept of what it writes.
    pub(crate) output: Option<OutputBounds>,
    /// Ends with the agent's process.
    pub(crate) tethered: bool,
}

struct Shared {
    containerizer: Arc<dyn Containerizer>,
    content: Arc<Content>,
    networks: Arc<Networks>,
    sandboxes: Arc<Sandboxes>,
    every: Every,
    /// Containers that an earlier process has left, and whether they run.
    leftovers: BTreeMap<String, bool>,
    /// More launches at once than this would only wait for each other.
    launches: Semaphore,
    events: mpsc::UnboundedSender<Event>,
}

/// The task that looks after one container.
struct Container {
    commands: mpsc::UnboundedSender<Command>,
    cancel: CancellationToken,
}

enum Command {
    Signal(Signal),
    Remove,
}

impl Effects {
    pub(crate) async fn new(
        containerizer: Arc<dyn Containerizer>,
        (content, networks): (Content, Arc<Networks>),
        sandboxes: Arc<Sandboxes>,
        every: Every,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let leftovers = containerizer.leftovers().await.into_iter();
        let leftovers = leftovers.map(|leftover| (leftover.id.0, leftover.running)).collect();
        let launches = Semaphore::new(2 * thread::available_parallelism().map_or(1, |count| count.get()));
        let volumes = Volumes::new(sandboxes.paths.clone());
        let probes = Probes::new(containerizer.clone(), events.clone());
        let content = Arc::new(content);
        let shared =
            Shared { containerizer, content, networks, sandboxes, every, leftovers, launches, events };
        Self {
            shared: Arc::new(shared),
            containers: HashMap::new(),
            running: TaskTracker::new(),
            volumes,
            probes,
        }
    }

    pub(crate) fn launch(&mut self, plan: ContainerPlan) {
        let (shared, id) = (self.shared.clone(), plan.container_id.clone());
        let persistent: Result<Vec<_>, VolumeError> =
            plan.persistent.iter().map(|volume| self.volumes.mount(volume)).collect();
        self.spawn(id, |commands, cancel| async move {
            let container_id = plan.container_id.clone();
            match shared.launch(plan, persistent, cancel).await {
                Ok(addresses) => {
                    shared.tell(Event::Launched { container_id: container_id.clone(), addresses });
                    shared.look_after(container_id, commands).await;
                }
                Err(failure) => {
                    // What cannot be let go of now is below, which may take long.
                    let _ = shared.release(&container_id).await;
                    shared.tell(Event::LaunchFailed { container_id: container_id.clone(), failure });
                    shared.remove(&container_id).await;
                }
            }
        });
    }

    pub(crate) fn attach(&mut self, container_id: ContainerId) {
        let (shared, id) = (self.shared.clone(), container_id.clone());
        self.spawn(id, |commands, _| async move {
            if let Some(running) = shared.leftovers.get(&container_id.0) {
                // How long it may run, and how it is, is no question any more of one that has ended.
                if *running {
                    let addresses = shared.networks.addresses(&container_id.0).unwrap_or_default();
                    shared.tell(Event::Launched { container_id: container_id.clone(), addresses });
                }
                shared.look_after(container_id, commands).await;
            } else {
                shared.detach(&container_id).await;
                let message = "its container did not outlive the agent's earlier process".to_owned();
                shared.tell(Event::ContainerLost { container_id, message });
            }
        });
    }

    pub(crate) fn cancel_launch(&self, container_id: &ContainerId) {
        if let Some(container) = self.containers.get(container_id) {
            container.cancel.cancel();
        }
    }

    pub(crate) fn signal(&self, container_id: &ContainerId, signal: Signal) {
        // Nobody looks after a container that is lost altogether.
        if let Some(container) = self.containers.get(container_id) {
            let _ = container.commands.send(Command::Signal(signal));
        }
    }

    /// Asks something of a task, at its own address where it has one.
    pub(crate) fn probe(
        &mut self,
        (container_id, kind, number): (ContainerId, ProbeKind, u64),
        probe: Probe,
        timeout: Duration,
    ) {
        let address = match self.shared.networks.addresses(&container_id.0) {
            None => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Some(own) => own.first().copied(),
        };
        self.probes.ask((container_id, kind, number), address, probe, timeout);
    }

    pub(crate) fn remove(&mut self, container_id: ContainerId) {
        let sent =
            self.containers.remove(&container_id).map(|container| container.commands.send(Command::Remove));
        if !matches!(sent, Some(Ok(()))) && self.shared.leftovers.contains_key(&container_id.0) {
            let shared = self.shared.clone();
            self.running.spawn(async move { shared.remove(&container_id).await });
        }
    }

    /// Lets go of a container of which nothing is left.
    pub(crate) fn forget(&mut self, container_id: &ContainerId) {
        self.containers.remove(container_id);
    }

    /// Finishes what was wanted, as far as that is soon.
    pub(crate) async fn close(self) {
        drop(self.containers);
        self.running.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.running.wait()).await.is_err() {
            tracing::warn!(containers = self.running.len(), "the containerizer does not answer; leaving it");
        }
    }

    fn spawn<F>(
        &mut self,
        id: ContainerId,
        run: impl FnOnce(mpsc::UnboundedReceiver<Command>, CancellationToken) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (commands, inbox) = mpsc::unbounded_channel();
        let cancel = CancellationToken::new();
        self.running.spawn(run(inbox, cancel.clone()));
        self.containers.insert(id, Container { commands, cancel });
    }
}

impl Shared {
    fn tell(&self, event: Event) {
        // An actor that has ended does not care any more.
        let _ = self.events.send(event);
    }

    async fn launch(
        &self,
        plan: ContainerPlan,
        persistent: Result<Vec<PersistentVolume>, VolumeError>,
        cancel: CancellationToken,
    ) -> Result<Vec<IpAddr>, LaunchFailure> {
        let cancelled = || failure(LaunchFailureKind::Cancelled, "the launch was cancelled before it began");
        let container = |message: String| failure(LaunchFailureKind::Container, message);
        let persistent = persistent.map_err(|error| container(chain(&error)))?;
        let folder = self.sandboxes.paths.task(&plan.framework_id, &plan.task_id);
        let sandbox = folder.join(&plan.container_id.0);
        let shared =
            plan.group.as_ref().map(|group| self.sandboxes.paths.group(&plan.framework_id, &group.run.0));
        let brought = async {
            let made = tokio::task::spawn_blocking({
                let (sandboxes, name) = (self.sandboxes.clone(), plan.container_id.0.clone());
                let shared = shared.clone();
                move || {
                    shared.map_or(Ok(()), |shared| sandboxes.make_group(&shared))?;
                    sandboxes.make(&folder, &name)
                }
            });
            made.await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
                .map_err(|error| container(format!("sandbox {sandbox:?} cannot be made: {error}")))?;
            let progress = |message| {
                self.tell(Event::LaunchProgress { container_id: plan.container_id.clone(), message });
            };
            // What comes from elsewhere may take long: nobody else is to wait for it.
            let brought = self.content.bring(&plan, &sandbox, progress).await?;
            let attached = network::join(&self.networks, &plan).await?;
            let permit = self.launches.acquire().await.map_err(|_| cancelled())?;
            Ok((brought, attached, permit))
        };
        let (brought, network, _permit) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(cancelled()),
            brought = brought => brought?,
        };
        let addresses = network.addresses().to_vec();
        let made = Made { sandbox, shared, persistent, brought, network };
        let spec = spec(plan, made, self.every);
        self.containerizer.launch(spec).await.map_err(|error| failure(kind(&error), chain(&error)))?;
        Ok(addresses)
    }

    /// Waits for the end of a container, and passes on what is wanted of it meanwhile and afterwards.
    async fn look_after(
        self: Arc<Self>,
        container_id: ContainerId,
        mut commands: mpsc::UnboundedReceiver<Command>,
    ) {
        let id = containerizer::ContainerId(container_id.0.clone());
        tokio::spawn({
            let (shared, id, container_id) = (self.clone(), id.clone(), container_id.clone());
            async move {
                let ended = tokio::select! {
                    ended = shared.containerizer.wait(&id) => ended,
                    () = shared.events.closed() => return,
                };
                shared.detach(&container_id).await;
                shared.tell(match ended {
                    Ok(termination) => Event::Terminated { container_id, termination },
                    Err(error) => Event::ContainerLost { container_id, message: chain(&error) },
                });
            }
        });
        while let Some(command) = commands.recv().await {
            match command {
                Command::Signal(signal) => {
                    let signal = match signal {
                        Signal::Term => containerizer::Signal::Term,
                        Signal::Kill => containerizer::Signal::Kill,
                    };
                    if let Err(error) = self.containerizer.signal(&id, signal).await {
                        let (container_id, message) = (container_id.clone(), chain(&error));
                        self.tell(Event::SignalFailed { container_id, message });
                    }
                }
                Command::Remove => return self.remove(&container_id).await,
            }
        }
    }

    /// Detaches the network of a container that has ended, before that is told: then the ports of the host that lead to it are the next
    /// task's.
    async fn detach(&self, container_id: &ContainerId) {
        if self.networks.knows(&container_id.0) {
            self.tell(Event::Ending { container_id: container_id.clone() });
            network::leave(&self.networks, &container_id.0).await;
        }
    }

    /// Removes what is kept of a container that has ended, and lets go of what it used; tries until it is done or the agent ends, and then
    /// the next agent does.
    async fn remove(&self, container_id: &ContainerId) {
        let id = containerizer::ContainerId(container_id.0.clone());
        let mut pause = REMOVAL_PAUSE_MIN;
        loop {
            let removed = match self.containerizer.remove(&id).await {
                Ok(()) | Err(ContainerError::Unknown { .. }) => {
                    self.release(container_id).await.map_err(|error| error.to_string())
                }
                Err(error) => Err(chain(&error)),
            };
            let Err(error) = removed else { return };
            tracing::warn!(container = %container_id, error, again_in = ?pause, "what is kept of a container cannot be removed");
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(REMOVAL_PAUSE_MAX),
                () = self.events.closed() => return,
            }
        }
    }

    /// Lets go of what a container of which nothing is left was using.
    async fn release(&self, container_id: &ContainerId) -> io::Result<()> {
        network::leave(&self.networks, &container_id.0).await;
        let (content, id) = (self.content.clone(), container_id.0.clone());
        let released = tokio::task::spawn_blocking(move || content.release(&id)).await;
        released.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

fn failure(kind: LaunchFailureKind, message: impl Into<String>) -> LaunchFailure {
    LaunchFailure { kind, message: message.into() }
}

/// Whose fault a failed launch is.
fn kind(error: &LaunchError) -> LaunchFailureKind {
    match error {
        LaunchError::EmptyCommand
        | LaunchError::Unpassable { .. }
        | LaunchError::CommandNotFound { .. }
        | LaunchError::PermissionDenied { .. }
        | LaunchError::NotExecutable { .. } => LaunchFailureKind::Command,
        LaunchError::Network { .. } => LaunchFailureKind::Network,
        _ => LaunchFailureKind::Container,
    }
}

/// `shared` is the folder of its task's group.
fn mount(volume: Volume, shared: Option<&Path>, images: &mut impl Iterator<Item = ImageRoot>) -> Mount {
    let source = match volume.source {
        VolumeSource::Host { path } => MountSource::Host(path.into()),
        VolumeSource::Sandbox { path } => MountSource::Sandbox(path.into()),
        VolumeSource::Group { path } => MountSource::Shared {
            within: shared.expect("only a task of a group shares its folder").to_owned(),
            path: path.into(),
        },
        VolumeSource::Tmpfs { bytes } => MountSource::Tmpfs { bytes },
        VolumeSource::Image(_) => MountSource::Image(images.next().expect("brought for each such volume")),
    };
    Mount { source, target: volume.container_path.into(), writable: volume.writable }
}

/// What was made for a container before it is launched.
struct Made {
    sandbox: PathBuf,
    /// The folder of its task's group.
    shared: Option<PathBuf>,
    persistent: Vec<PersistentVolume>,
    brought: Brought,
    network: Joined,
}

/// The container of a plan. What the task says stands before what its image says, and that before what everybody has.
fn spec(plan: ContainerPlan, made: Made, every: Every) -> ContainerSpec {
    let Made { sandbox, shared, persistent, brought, network } = made;
    let (root, image) = brought.root.map_or_else(Default::default, |(root, image)| (Some(root), image));
    let place = if root.is_some() { Path::new(SANDBOX_IN_IMAGE) } else { &sandbox };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let everybody = [
        ("PATH", PATH.to_owned()),
        ("HOME", text(place)),
        ("TMPDIR", text(&place.join("tmp"))),
        ("APPORTION_SANDBOX", text(place)),
    ];
    let mut env: BTreeMap<String, String> =
        everybody.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let argv = if plan.argv.is_empty() { image.command() } else { plan.argv };
    if let Some(address) = network.addresses().first() {
        env.insert("APPORTION_IP".to_owned(), address.to_string());
    }
    env.extend(image.env);
    env.extend(plan.env);
    let mut images = brought.volumes.into_iter();
    let ceilings = plan.ceilings;
    ContainerSpec {
        id: containerizer::ContainerId(plan.container_id.0),
        argv,
        env,
        sandbox,
        output: every.output,
        root,
        user: plan.container.user.or(image.user),
        working_dir: plan.container.working_dir.or(image.working_dir).map(PathBuf::from),
        mounts: plan
            .volumes
            .into_iter()
            .map(|volume| mount(volume, shared.as_deref(), &mut images))
            .collect(),
        rlimits: plan.container.rlimits,
        persistent,
        network: network.spec(),
        limits: Limits {
            cpus_request_milli: ceilings.cpus_request_milli,
            cpus_limit_milli: Some(ceilings.cpus_limit_milli),
            memory_request_bytes: ceilings.memory_request_bytes,
            memory_limit_bytes: Some(ceilings.memory_limit_bytes),
            swap_max_bytes: ceilings.swap_max_bytes,
            pids_max: Some(ceilings.pids_max),
        },
        tethered: every.tethered,
    }
}
