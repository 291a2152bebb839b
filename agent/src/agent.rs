//! An agent of this process: started, run, ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    future::Future,
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use apportion_agent_core::{AgentCore, Config as CoreConfig, ContainerId, Event, OnShutdown, View};
use apportion_containerizer::{ContainerError, Containerizer, Leftover, Native, NativeConfig, ProbeError};
use apportion_network::{Networks, OpenError};
use apportion_types::{
    AgentCapability, AgentInfo, CpuSet, Resources,
    container::{Control, Unenforced},
    resources::Name,
    text::chain,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    actor::{Actor, Ended},
    clock::Clock,
    config::{Config, ConfigError},
    content::{Content, ContentError},
    detect::{self, DetectError},
    effects::{Effects, Every, Left},
    executors::{self, Executors, Streams},
    master_link::{self, Heard},
    network,
    oversubscription::{self, ResourceEstimator},
    paths::Paths,
    ports,
    sandboxes::{Sandboxes, collect, limit},
    services,
    store::{self, Store, StoreError},
    work_dir::{WorkDir, WorkDirError},
};

/// Messages of the master that wait for the core; more wait in their connection.
const HEARD_MAX: usize = 256;

/// How long readers of sandboxes may go on when the agent ends.
const SERVICES_GRACE: Duration = Duration::from_secs(2);

/// Why an agent was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The work directory.
    #[error(transparent)]
    WorkDir(#[from] WorkDirError),
    /// What the machine has.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// The log.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Images and artifacts.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// Containers that an earlier process has left.
    #[error("it cannot be seen which containers of an earlier agent run; nothing was done to them")]
    Leftovers(#[source] ContainerError),
    /// Networks.
    #[error("what containers have of networks cannot be looked at")]
    Networks(#[from] apportion_network::OpenError),
    /// What executors share with the agent.
    #[error("folder {path:?} cannot be used; check permissions of the agent's work directory")]
    Executors {
        /// The folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No containers can be run here.
    #[error("no containers can be run on this machine")]
    Containers(#[from] ProbeError),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}; choose another `listen` address, or stop what uses it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The services.
    #[error("the reflection service cannot be made")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Why a running agent ended by itself. Its tasks run on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The master will not have it as it is.
    #[error("{reason}")]
    Refused {
        /// Why, and what to do.
        reason: String,
    },
    /// What it promises cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its services ended.
    #[error("the agent's own services ended")]
    Services(#[source] tonic::transport::Error),
    /// What is left of a life that is over cannot be removed.
    #[error(
        "the agent has left the cluster, but {path:?} of its work directory cannot be removed; remove it before the next start"
    )]
    Forget {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An agent that is ready to run.
///
/// From [`Agent::start`] on it holds its work directory and its address; [`Agent::run`] connects it to the master.
pub struct Agent {
    config: Config,
    work_dir: WorkDir,
    containerizer: Arc<dyn Containerizer>,
    /// Containers that an earlier process has left, and whether they run.
    leftovers: BTreeMap<String, Left>,
    content: Content,
    networks: Arc<Networks>,
    executors: Arc<Executors>,
    executors_heard: mpsc::Receiver<executors::Heard>,
    core: AgentCore,
    clock: Clock,
    replay: store::Replay,
    listener: TcpListener,
    local_addr: SocketAddr,
    routes: tonic::service::Routes,
    view: watch::Sender<Arc<View>>,
    estimator: Option<Box<dyn ResourceEstimator>>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("config", &self.config)
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// Takes the work directory and the address, and reads the log.
    ///
    /// The containerizer's state must be of this work directory and of no other.
    pub async fn start(config: Config, containerizer: Arc<dyn Containerizer>) -> Result<Agent, StartError> {
        config.check()?;
        let work_dir = WorkDir::open(&config.work_dir)?;
        Self::in_work_dir(config, work_dir, containerizer).await
    }

    /// As [`Agent::start`], with the containers that this crate's machine can run by itself.
    ///
    /// The program must call [`apportion_containerizer::runner_main`] when its first argument is `runner`.
    pub async fn native(config: Config) -> Result<Agent, StartError> {
        config.check()?;
        let work_dir = WorkDir::open(&config.work_dir)?;
        let paths = &work_dir.paths;
        let mut native = NativeConfig::new(paths.containers(), config.cgroup_parent.clone());
        native.hidden.push(paths.root().to_owned());
        native.lendable.clone_from(&config.lend_host_paths);
        native.runtime.clone_from(&config.runtime);
        native.cpuset = cores(&config);
        native.users = config.userns;
        let native = Arc::new(Native::probe(native).await?);
        Self::in_work_dir(config, work_dir, native).await
    }

    async fn in_work_dir(
        config: Config,
        work_dir: WorkDir,
        containerizer: Arc<dyn Containerizer>,
    ) -> Result<Agent, StartError> {
        let paths = &work_dir.paths;
        let replay = store::read(&paths.log())?;
        if replay.recovered.damaged {
            tracing::error!(log = ?paths.log(), bytes = replay.unreadable_bytes, "the log is damaged; what it said from there on is lost");
        } else if replay.unreadable_bytes > 0 {
            tracing::info!(
                bytes = replay.unreadable_bytes,
                "the last write to the log was cut off; nothing of it was promised"
            );
        }
        let leftovers = clear_orphans(&*containerizer, &replay).await.map_err(StartError::Leftovers)?;
        let unenforced = unenforced(&config, &*containerizer);
        for unenforced in &unenforced {
            tracing::warn!(control = unenforced.control.name(), "not enforced: {}", unenforced.reason);
        }
        let containers: BTreeSet<String> = leftovers.keys().cloned().collect();
        let running = leftovers.iter().filter(|(_, left)| **left != Left::Ended).map(|(id, _)| id.clone());
        let strangers = leftovers.iter().filter(|(_, left)| **left == Left::Stranger);
        let strangers: Vec<ContainerId> = strangers.map(|(id, _)| ContainerId(id.clone())).collect();
        let kept = network::of_strangers(&paths.networks(), &strangers)
            .map_err(|source| OpenError { path: paths.networks(), source })?;
        let attached = running.chain(network::of_groups(&replay.recovered.tasks)).chain(kept).collect();
        let networks = Networks::open(network::config(&config, paths), &attached).await?;
        let content = Content::open(&config, paths, &containers, &*containerizer)?;
        let (say, executors_heard) = mpsc::channel(executors::HEARD_MAX);
        let executors = Executors::open(paths.clone(), say, &containers)
            .map_err(|source| StartError::Executors { path: paths.executors(), source })?;
        let listen = |source| StartError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        let clock = Clock::new();
        let core_config = core_config(&config, &work_dir, local_addr, unenforced)?;
        tracing::info!(resources = %core_config.info.resources, address = %core_config.info.address, "offering");
        let core = AgentCore::new(core_config, incarnation(&clock), clock.now());
        let view = watch::Sender::new(Arc::new(core.view()));
        let routes = services::routes(
            paths.clone(),
            view.subscribe(),
            containerizer.clone(),
            content.images(),
            services::Measure { clock, pids_default: config.pids_default },
        )
        .await?;
        let estimator = config.estimator.make();
        Ok(Agent {
            config,
            work_dir,
            containerizer,
            leftovers,
            content,
            networks,
            executors: Arc::new(executors),
            executors_heard,
            core,
            clock,
            replay,
            listener,
            local_addr,
            routes,
            view,
            estimator,
        })
    }

    /// Has another estimator say what can be lent than the one of the settings.
    #[must_use]
    pub fn with_estimator(self, estimator: impl ResourceEstimator) -> Self {
        Self { estimator: Some(Box::new(estimator)), ..self }
    }

    /// Where it listens; useful when port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What the agent knows, published after each batch of events.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Connects to the master and runs tasks, until `shutdown` is ready and what it asks for is done: nothing, or every task killed and
    /// the master told.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Agent {
            config,
            work_dir,
            containerizer,
            leftovers,
            content,
            networks,
            executors,
            executors_heard,
            core,
            clock,
            replay,
            listener,
            routes,
            view,
            estimator,
            ..
        } = self;
        let masters = config.masters().expect("checked at the start");
        let paths = work_dir.paths.clone();
        let ending = CancellationToken::new();
        let mut serving = serve(listener, routes, view.subscribe(), ending.clone());

        let (events, happened) = mpsc::unbounded_channel();
        let (tell, written) = mpsc::unbounded_channel();
        let (say, heard) = mpsc::channel::<Heard>(HEARD_MAX);
        let recovered = replay.recovered.clone();
        let store = Store::open(&paths, replay, move |told| drop(tell.send(told)))?;
        let sandboxes = Arc::new(Sandboxes::new(paths.clone()));
        let every = Every { output: config.output(), tethered: config.tethered };
        let effects = Effects::new(
            containerizer.clone(),
            (content, networks),
            executors,
            sandboxes.clone(),
            every,
            leftovers,
            events.clone(),
        );
        let mut watching = JoinSet::new();
        if config.enforce_disk {
            let interval = Duration::from_millis(config.disk_check_interval_ms);
            watching.spawn(limit::run(interval, paths.clone(), view.subscribe(), events.clone()));
        }
        if config.enforce_ports {
            let interval = Duration::from_millis(config.ports_check_interval_ms);
            watching.spawn(ports::run(interval, containerizer.clone(), view.subscribe(), events.clone()));
        }
        let interval = Duration::from_millis(config.sandbox_collect_interval_ms);
        watching.spawn(collect::run(interval, config.collection(), sandboxes, clock, view.subscribe()));
        let interval = Duration::from_millis(config.oversubscription_interval_ms);
        let seen = view.subscribe();
        let estimating =
            oversubscription::run(estimator, interval, clock, containerizer.clone(), seen, events);
        watching.spawn(estimating);
        let link = tokio::spawn(master_link::run(masters, say));
        let mut actor = Actor {
            core,
            clock,
            store,
            written,
            effects,
            happened,
            heard,
            executors: executors_heard,
            streams: Streams::default(),
            outbox: None,
            view,
        };
        let ended = tokio::select! {
            ended = actor.run(Event::Recovered(recovered), shutdown) => ended,
            served = &mut serving => Err(services_ended(served)),
        };
        // Ends the stream to the master, and lets readers that follow a file come to an end.
        let (store, effects) = actor.end();
        // Writes what is left.
        drop(store);
        effects.close().await;
        ending.cancel();
        if !serving.is_finished() && tokio::time::timeout(SERVICES_GRACE, &mut serving).await.is_err() {
            serving.abort();
        }
        link.abort();
        watching.abort_all();
        containerizer.close().await;
        if let Ended { unregistered: true } = ended? {
            forget(&paths)?;
        }
        drop(work_dir);
        Ok(())
    }
}

type Serving = JoinHandle<Result<(), tonic::transport::Error>>;

fn serve(
    listener: TcpListener,
    routes: tonic::service::Routes,
    mut view: watch::Receiver<Arc<View>>,
    ending: CancellationToken,
) -> Serving {
    tokio::spawn(async move {
        // Only then it has the tasks of earlier processes: whoever asked before would hear that they have ended.
        drop(view.changed().await);
        services::serve(listener, routes, async move { ending.cancelled().await }).await
    })
}

fn services_ended(served: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>) -> RunError {
    match served {
        Ok(Err(error)) => RunError::Services(error),
        Ok(Ok(())) => unreachable!("the services end only when they are told to"),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Clears away containers that the log does not know: those that run go on, and nobody will end them; of the others only a folder is
/// left. Returns those that there are afterwards.
async fn clear_orphans(
    containerizer: &dyn Containerizer,
    replay: &store::Replay,
) -> Result<BTreeMap<String, Left>, ContainerError> {
    let known: BTreeSet<&str> =
        replay.recovered.tasks.iter().map(|task| task.task.container_id.0.as_str()).collect();
    let mut left = BTreeMap::new();
    for Leftover { id, running } in containerizer.leftovers().await? {
        let known = known.contains(id.0.as_str());
        if !known && running {
            tracing::warn!(container = %id, "a container runs that the log of this agent does not know; end it by hand");
        } else if !known {
            match containerizer.remove(&id).await {
                Ok(()) => continue,
                Err(error) => {
                    tracing::warn!(container = %id, error = chain(&error), "what is left of an ended container cannot be removed");
                }
            }
        }
        let what = match (running, known) {
            (false, _) => Left::Ended,
            (true, true) => Left::Running,
            (true, false) => Left::Stranger,
        };
        left.insert(id.0, what);
    }
    Ok(left)
}

/// What tasks cannot be held to here: what the machine cannot do, and what the settings do not want.
fn unenforced(config: &Config, containerizer: &dyn Containerizer) -> Vec<Unenforced> {
    let mut unenforced = containerizer.unenforced().to_vec();
    if !config.enforce_disk {
        let reason = "the agent's setting `enforce_disk` is false; set it to true to have tasks killed that are over their disk";
        unenforced.push(Unenforced { control: Control::Disk, reason: reason.to_owned() });
    }
    unenforced
}

/// The cores that containers may run on, as far as that is known.
fn cores(config: &Config) -> Option<CpuSet> {
    config.cpuset.clone().or_else(detect::cores)
}

fn core_config(
    config: &Config,
    WorkDir { paths, id, .. }: &WorkDir,
    local_addr: SocketAddr,
    unenforced: Vec<Unenforced>,
) -> Result<CoreConfig, DetectError> {
    let hostname = config.hostname.clone().unwrap_or_else(detect::hostname);
    let address = config.advertise.clone().unwrap_or_else(|| match local_addr.ip().is_unspecified() {
        true => format!("{hostname}:{}", local_addr.port()),
        false => local_addr.to_string(),
    });
    let holds_huge_pages = unenforced.iter().all(|unenforced| unenforced.control != Control::HugePages);
    let info = AgentInfo {
        hostname,
        address,
        resources: detect::resources(
            config.resources.clone(),
            config.cpuset.as_ref(),
            holds_huge_pages,
            paths.root(),
        )?,
        attributes: config.attributes.clone(),
        domain: config.domain.clone(),
        unenforced,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capabilities: AgentCapability::ALL.into(),
        work_dir_id: id.clone(),
    };
    let on_shutdown = match config.kill_tasks_on_exit {
        true => OnShutdown::Kill { grace_max: Duration::from_millis(config.exit_grace_max_ms) },
        false => OnShutdown::Keep,
    };
    let set = |name: &&Name| config.resources.iter().flat_map(Resources::iter).any(|(set, _)| set == *name);
    let detected = info.resources.iter().map(|(name, _)| name).filter(|name| !set(name)).cloned().collect();
    let apart = info.unenforced.iter().all(|unenforced| unenforced.control != Control::Cpuset);
    Ok(CoreConfig {
        detected,
        cores: cores(config).filter(|_| apart),
        boot_id: detect::boot_id(),
        pids_default: config.pids_default,
        on_shutdown,
        ..CoreConfig::new(info)
    })
}

/// Differs from that of every other process of this agent, also when the wall clock was set back: the time in microseconds, and
/// twelve bits by chance.
fn incarnation(clock: &Clock) -> u64 {
    (clock.now().as_micros() << 12) | (master_link::random() & 0xfff)
}

/// Removes what an agent that has left the cluster must not come back with. Reservations and volumes stay: they are the machine's.
fn forget(paths: &Paths) -> Result<(), RunError> {
    store::begin_anew(paths)?;
    let path = paths.agent_id();
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(RunError::Forget { path, source }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    /// Many times as often as it takes to be answered by whoever serves.
    const TURNS: usize = 10_000;

    #[tokio::test]
    async fn nobody_is_served_before_the_tasks_are_known() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (view, ending) = (watch::Sender::new(Arc::new(View::default())), CancellationToken::new());
        let routes = tonic::service::Routes::default();
        let serving = serve(listener, routes, view.subscribe(), ending.clone());
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: agent\r\n\r\n").await.unwrap();
        let mut answer = [0];
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
            assert!(stream.try_read(&mut answer).is_err(), "it was answered");
        }
        view.send_replace(Arc::default());
        assert_eq!(stream.read(&mut answer).await.unwrap(), 1);
        drop(stream);
        ending.cancel();
        serving.await.unwrap().unwrap();
    }
}
