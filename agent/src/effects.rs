//! Containers: what the core wants of them, done in the order in which it is wanted for each, and side by side for different ones.

mod hold;

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
    Ceilings, ContainerId, ContainerPlan, Event, GroupPlan, LaunchFailure, LaunchFailureKind, ProbeKind,
    Signal,
};
use apportion_containerizer::{
    self as containerizer, ContainerError, ContainerSpec, Containerizer, ImageRoot, LaunchError, Mount,
    MountSource, OutputBounds, PersistentVolume, SANDBOX_IN_IMAGE,
};
use apportion_network::Networks;
use apportion_types::{CpuSet, Probe, Volume, VolumeSource, resources::Ranges, text::chain};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::hold::{Limit, limits};
use crate::{
    content::{Brought, Content},
    executors::{Executors, Given},
    network::{self, Joined},
    probes::Probes,
    sandboxes::Sandboxes,
    volumes::{VolumeError, Volumes},
};

/// What a task finds programs by when it does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How soon something is tried again for which the agent was short of descriptors or memory.
const SHORTAGE_PAUSE: Duration = Duration::from_secs(1);

/// How soon what could not be removed is tried again, at first; twice as long each time.
const REMOVAL_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest such pause.
const REMOVAL_PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long the end of the agent waits for the containerizer to finish what it was told.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A container that an earlier process has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Ended,
    Running,
    /// It runs, and nobody knows whose it is.
    Stranger,
}

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
    executors: Arc<Executors>,
    sandboxes: Arc<Sandboxes>,
    every: Every,
    /// Containers that an earlier process has left.
    leftovers: BTreeMap<String, Left>,
    /// More launches at once than this would only wait for each other.
    launches: Semaphore,
    events: mpsc::UnboundedSender<Event>,
}

/// The task that looks after one container.
struct Container {
    /// Whose network it is in, if it is not the host's.
    network_owner: String,
    commands: mpsc::UnboundedSender<Command>,
    cancel: CancellationToken,
}

enum Command {
    Signal(Signal),
    Limit(Box<Limit>),
    Remove,
}

impl Effects {
    /// `leftovers` are the containers that an earlier process has left.
    pub(crate) fn new(
        containerizer: Arc<dyn Containerizer>,
        (content, networks): (Content, Arc<Networks>),
        executors: Arc<Executors>,
        sandboxes: Arc<Sandboxes>,
        every: Every,
        leftovers: BTreeMap<String, Left>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let launches = Semaphore::new(2 * thread::available_parallelism().map_or(1, |count| count.get()));
        let volumes = Volumes::new(sandboxes.paths.clone());
        let probes = Probes::new(containerizer.clone(), events.clone());
        let content = Arc::new(content);
        let shared = Shared {
            containerizer,
            content,
            networks,
            executors,
            sandboxes,
            every,
            leftovers,
            launches,
            events,
        };
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
        let network_owner = network::owner(&id, plan.group.as_ref().and_then(GroupPlan::network));
        self.spawn(id, network_owner, |commands, cancel| async move {
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

    pub(crate) fn attach(&mut self, container_id: ContainerId, group_network: Option<&ContainerId>) {
        let (shared, id) = (self.shared.clone(), container_id.clone());
        let network_owner = network::owner(&id, group_network);
        self.spawn(id, network_owner.clone(), |commands, _| async move {
            if let Some(left) = shared.leftovers.get(&container_id.0) {
                // How long it may run, and how it is, is no question any more of one that has ended.
                if *left != Left::Ended {
                    if let Err(error) = shared.executors.resume(&container_id) {
                        tracing::error!(container = %container_id, %error, "its executor cannot be listened to; it will be killed");
                    }
                    let addresses = shared.networks.addresses(&network_owner).unwrap_or_default();
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

    /// Takes the network of a run of a task group away. Its ports of the host are nobody's until that is done, or has failed. It stays while a
    /// container may be in it of which nobody knows whose it is.
    pub(crate) fn leave_network(&self, run: &ContainerId) {
        let (shared, owner) = (self.shared.clone(), network::owner(run, Some(run)));
        let strangers = shared.leftovers.iter().filter(|(_, left)| **left == Left::Stranger);
        if let Some(stranger) =
            strangers.map(|(id, _)| ContainerId(id.clone())).find(|id| GroupPlan::may_hold(run, id))
        {
            return tracing::warn!(owner, container = %stranger, "the network of a task group stays, for a container that the log does not know may be in it; end that by hand and start the agent again");
        }
        shared.networks.leaves(&owner);
        self.running.spawn(async move { network::leave(&shared.networks, &owner).await });
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

    /// Holds a container to other limits; these ports of the host are its own then.
    pub(crate) fn limit(
        &self,
        container_id: &ContainerId,
        number: u64,
        (ceilings, cores): (Ceilings, Option<CpuSet>),
        ports: Ranges,
    ) {
        if let Some(container) = self.containers.get(container_id) {
            let limit = Limit { number, limits: limits(ceilings, cores), ports };
            let _ = container.commands.send(Command::Limit(Box::new(limit)));
        }
    }

    /// Asks something of a task, at its own address where it has one.
    pub(crate) fn probe(
        &mut self,
        (container_id, kind, number): (ContainerId, ProbeKind, u64),
        probe: Probe,
        timeout: Duration,
    ) {
        let owner = self.containers.get(&container_id).map(|container| &container.network_owner);
        let address = match owner.and_then(|owner| self.shared.networks.addresses(owner)) {
            None => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Some(own) => own.first().copied(),
        };
        self.probes.ask((container_id, kind, number), address, probe, timeout);
    }

    pub(crate) fn remove(&mut self, container_id: ContainerId) {
        let container = self.containers.remove(&container_id);
        let sent = container.is_some_and(|container| container.commands.send(Command::Remove).is_ok());
        if !sent && self.shared.leftovers.contains_key(&container_id.0) {
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
        network_owner: String,
        run: impl FnOnce(mpsc::UnboundedReceiver<Command>, CancellationToken) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (commands, inbox) = mpsc::unbounded_channel();
        let cancel = CancellationToken::new();
        self.running.spawn(run(inbox, cancel.clone()));
        self.containers.insert(id, Container { network_owner, commands, cancel });
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
        let executor = match plan.executor {
            true => Some(self.executors.make(&plan.container_id).map_err(|error| {
                container(format!("what an executor shares with its agent cannot be made: {error}"))
            })?),
            false => None,
        };
        let made = Made { sandbox, shared, persistent, brought, network, executor };
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
                    ended = shared.unhindered(&id, || shared.containerizer.wait(&id)) => ended,
                    () = shared.events.closed() => return,
                };
                shared.detach(&container_id).await;
                let end = match ended {
                    Ok(termination) => Event::Terminated { container_id: container_id.clone(), termination },
                    Err(error) => {
                        Event::ContainerLost { container_id: container_id.clone(), message: chain(&error) }
                    }
                };
                if let Err(end) = shared.executors.tell_end(&container_id, end).await {
                    shared.tell(end);
                }
            }
        });
        let (hold, wanted) = mpsc::unbounded_channel();
        tokio::spawn(self.clone().hold(container_id.clone(), wanted));
        while let Some(command) = commands.recv().await {
            match command {
                Command::Limit(limit) => drop(hold.send(*limit)),
                Command::Signal(signal) => {
                    let signal = match signal {
                        Signal::Term => containerizer::Signal::Term,
                        Signal::Kill => containerizer::Signal::Kill,
                    };
                    let signalled = self.unhindered(&id, || self.containerizer.signal(&id, signal)).await;
                    if let Err(error) = signalled {
                        let (container_id, message) = (container_id.clone(), chain(&error));
                        self.tell(Event::SignalFailed { container_id, message });
                    }
                }
                Command::Remove => return self.remove(&container_id).await,
            }
        }
    }

    /// What the containerizer says of a container. An agent that is short of something can neither see it nor speak to it, which says
    /// nothing of the container: it is asked again.
    async fn unhindered<T, F>(
        &self,
        id: &containerizer::ContainerId,
        ask: impl Fn() -> F,
    ) -> Result<T, ContainerError>
    where
        F: Future<Output = Result<T, ContainerError>>,
    {
        let mut told = false;
        loop {
            match ask().await {
                Err(error) if error.is_shortage() && !self.events.is_closed() => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(container = %id, error = chain(&error), again_in = ?SHORTAGE_PAUSE, "the agent is short of something; it asks until it is not");
                    }
                }
                answer => return answer,
            }
            tokio::time::sleep(SHORTAGE_PAUSE).await;
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
        let (content, executors) = (self.content.clone(), self.executors.clone());
        let container_id = container_id.clone();
        let released = tokio::task::spawn_blocking(move || {
            executors.remove(&container_id)?;
            content.release(&container_id.0)
        });
        let released = released.await;
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
    executor: Option<Given>,
}

/// The container of a plan. What the task says stands before what its image says, and that before what everybody has.
fn spec(plan: ContainerPlan, made: Made, every: Every) -> ContainerSpec {
    let Made { sandbox, shared, persistent, brought, network, executor } = made;
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
    let volumes = plan.volumes.into_iter().map(|volume| mount(volume, shared.as_deref(), &mut images));
    let mut mounts: Vec<Mount> = volumes.collect();
    if let Some(Given { mount, env: given }) = executor {
        mounts.push(mount);
        env.extend(given.map(|(name, value)| (name.to_owned(), value)));
    }
    ContainerSpec {
        id: containerizer::ContainerId(plan.container_id.0),
        argv,
        env,
        sandbox,
        output: every.output,
        root,
        user: plan.container.user.or(image.user),
        working_dir: plan.container.working_dir.or(image.working_dir).map(PathBuf::from),
        mounts,
        rlimits: plan.container.rlimits,
        persistent,
        network: network.spec(),
        limits: limits(plan.ceilings, plan.cores),
        tethered: every.tethered,
    }
}
