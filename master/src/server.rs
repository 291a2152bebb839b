//! A master on a port: everything put together, and taken down in order.

use std::{
    fs::File,
    hash::{BuildHasher as _, Hasher as _},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use apportion_allocator::Hierarchical;
use apportion_proto::v1::{
    agent_service_server::AgentServiceServer, operator_service_server::OperatorServiceServer,
    scheduler_service_server::SchedulerServiceServer,
};
use apportion_types::limits;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{JoinError, JoinHandle},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{server::NamedService as _, service::Routes, transport::Server as Transport};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    actor::{self, Actor, INBOX_EVENTS_MAX, Internal, Peers},
    ask::Asker,
    clock::Clock,
    config::{Config, ConfigError, RateLimits},
    etcd::Client,
    explain::Explainer,
    http,
    journal::{self, Header, Recorder},
    leader::{self, Election, Leader, Leadership, Term},
    listener,
    metrics::Metrics,
    registry::{Contents, Embedded, EtcdError, InMemory, OpenError, Registry, RegistryError},
    rpc::{
        agent::Agents,
        operator::{ANSWER_BYTES_MAX, Operators},
        scheduler::Schedulers,
        stream::Streams,
    },
    watch::Hub,
};

/// Between signs of life on a silent connection, and how long the answer may take: a peer whose machine is gone is noticed
/// within their sum.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// See [`KEEPALIVE_INTERVAL`].
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(15);

/// Streams on one connection; a tool that speaks for many peers opens more connections.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 1024;

/// How long peers may take to read their last messages at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long connections without a stream of a peer may take to end after that.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a master cannot serve, or serves no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A setting is of no use.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The port cannot be opened.
    #[error("cannot listen on {address}: {}", bind_advice(.source))]
    Bind {
        /// The address that was to be listened on.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The journal cannot be begun.
    #[error("cannot record to the journal {}: {source}", .path.display())]
    Journal {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: journal::CreateError,
    },
    /// The registry cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What the registry keeps makes no sense.
    #[error(
        "what the registry keeps cannot be: {why}; import a backup into another work directory, or another cluster in etcd, and start the master with that"
    )]
    Recovered {
        /// What is wrong.
        why: String,
    },
    /// The registry in etcd cannot be opened.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// Another master leads, or may do so.
    #[error(
        "this master leads no longer: {why}; it ends, and its supervisor is to start it again, to stand by"
    )]
    Deposed {
        /// How that is known.
        why: String,
    },
    /// The registry failed: what was promised cannot be kept any more.
    #[error("the registry failed; the master ends, start it again once the cause is removed")]
    Registry(#[from] RegistryError),
    /// A task of the master ended by a bug of its own; the log says where.
    #[error("the master's {task} task ended by itself; this is a bug, please report it with the log")]
    Bug {
        /// Which.
        task: &'static str,
        /// How.
        source: Option<JoinError>,
    },
    /// The transport failed as a whole.
    #[error("the server on {address} failed")]
    Transport {
        /// Where it listened.
        address: SocketAddr,
        /// What it says.
        source: tonic::transport::Error,
    },
}

fn bind_advice(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program, perhaps another master, listens there; stop it or set `listen` to another port"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges; set `listen` to a higher port",
        io::ErrorKind::AddrNotAvailable => {
            "this host has no such address; set `listen` to one of its own, or to 0.0.0.0"
        }
        _ => "set `listen` to another address",
    };
    format!("{error}; {advice}")
}

/// Serves until `shutdown` completes, then ends in order: every peer is told, and waited for a few seconds.
pub async fn serve(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
    Server::bind(config).await?.run(shutdown).await
}

/// A master whose port is open and that does not serve yet; connections wait until [`Server::run`].
pub struct Server {
    config: Config,
    keeps: Keeps,
    listener: Arc<TcpListener>,
    local_addr: SocketAddr,
    master_id: String,
    journal: Option<(PathBuf, File)>,
}

/// Where the registry is.
enum Keeps {
    /// Here, of a master that is alone.
    Alone(Arc<dyn Registry>),
    /// In etcd, of the one that leads.
    Elected(Client),
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("local_addr", &self.local_addr)
            .field("master_id", &self.master_id)
            .finish()
    }
}

impl Server {
    /// Checks the settings, opens the registry in the work directory that they name, or one in memory, and opens the port. With etcd, the
    /// registry is opened once this master leads.
    pub async fn bind(config: Config) -> Result<Self, ServeError> {
        config.check()?;
        if let Some(etcd) = &config.etcd {
            let client = Client::new(etcd);
            return Self::bind_keeping(config, Keeps::Elected(client)).await;
        }
        let registry: Arc<dyn Registry> = match config.work_dir.clone() {
            Some(work_dir) => {
                let opened = tokio::task::spawn_blocking(move || Embedded::open(&work_dir)).await;
                Arc::new(opened.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?)
            }
            None => Arc::new(InMemory::new()),
        };
        Self::bind_with(config, registry).await
    }

    /// Checks the settings and opens the port, with a registry of the caller's.
    pub async fn bind_with(config: Config, registry: Arc<dyn Registry>) -> Result<Self, ServeError> {
        config.check()?;
        Self::bind_keeping(config, Keeps::Alone(registry)).await
    }

    async fn bind_keeping(config: Config, keeps: Keeps) -> Result<Self, ServeError> {
        let address = config.listen;
        let (listener, local_addr) =
            listener::bind(address).await.map_err(|source| ServeError::Bind { address, source })?;
        if !local_addr.ip().is_loopback() {
            tracing::warn!(%local_addr, "whoever reaches this address can run tasks: there is no authentication yet");
        }
        // Only a master that gets its port, and leads, may move an earlier journal away.
        let journal = match &keeps {
            Keeps::Alone(_) => begin_journal(&config)?,
            Keeps::Elected(_) => None,
        };
        Ok(Self { config, keeps, listener: Arc::new(listener), local_addr, master_id: master_id(), journal })
    }

    /// Where it listens; with port 0 in the settings, the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The name of this master, unique among all that ever were.
    pub fn master_id(&self) -> &str {
        &self.master_id
    }

    /// Serves until `shutdown` completes, the registry fails, or a bug ends a part; with etcd, as a stand-by until this master leads, and
    /// then until it is deposed. Dropping the future ends everything at once, connections included.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let client = match &self.keeps {
            Keeps::Alone(registry) => {
                let registry = Arc::clone(registry);
                return self.lead(registry, Arc::new(Term::endless()), shutdown).await;
            }
            Keeps::Elected(client) => client.clone(),
        };
        let address = self.config.advertise.clone().unwrap_or_else(|| self.local_addr.to_string());
        let myself = Leader { address, master_id: self.master_id.clone() };
        let election = Election::new(client, self.config.cluster.clone(), myself, self.config.leader_lease);
        let mut shutdown = std::pin::pin!(shutdown);
        tracing::info!(local_addr = %self.local_addr, master_id = self.master_id, "standing by");
        let services = services();
        let leadership = tokio::select! {
            () = &mut shutdown => return Ok(()),
            won = leader::stand_by(&election, Arc::clone(&self.listener), &services) => {
                won.map_err(|source| ServeError::Transport { address: self.local_addr, source })?
            }
        };
        self.lead_for(leadership, shutdown).await
    }

    /// Serves as long as a leadership lasts, and resigns from it.
    async fn lead_for(
        self,
        leadership: Leadership,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let term = leadership.term();
        let mut kept = Task(tokio::spawn(leadership.clone().kept()));
        let ended = tokio::select! {
            ended = async {
                let registry = Arc::new(leadership.registry().await?);
                let server = Self { journal: begin_journal(&self.config)?, ..self };
                server.lead(registry, Arc::clone(&term), shutdown).await
            } => ended,
            why = &mut kept.0 => Err(match why {
                Ok(why) => ServeError::Deposed { why },
                Err(source) => ServeError::Bug { task: "leadership", source: Some(source) },
            }),
        };
        // Whatever noticed first: past its term nothing that this master does is of any use.
        let ended = match ended {
            Err(ServeError::Deposed { why }) => Err(ServeError::Deposed { why }),
            Err(
                ServeError::Registry(RegistryError::Deposed { leader })
                | ServeError::Etcd(EtcdError::Deposed { leader }),
            ) => Err(ServeError::Deposed { why: format!("another one leads since ({leader})") }),
            Err(_) if term.is_over() => {
                Err(ServeError::Deposed { why: "the time for which it was sure to lead is over".to_owned() })
            }
            ended => ended,
        };
        leadership.resign().await;
        ended
    }

    /// Serves as the master that leads.
    async fn lead(
        self,
        registry: Arc<dyn Registry>,
        term: Arc<Term>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let Self { config, listener, local_addr, master_id, journal, .. } = self;
        let cut = CancellationToken::new();
        let _cut_at_the_end = cut.clone().drop_guard();
        let stop = CancellationToken::new();

        let clock = Clock::new();
        let metrics = Arc::new(Metrics::default());
        let peers = Arc::new(Peers::default());
        let (inbox, inbox_receiver) = mpsc::channel(INBOX_EVENTS_MAX);
        let (internal, internal_receiver) = mpsc::unbounded_channel();
        let (commits, commits_receiver) = mpsc::unbounded_channel();
        let rates = Arc::new(RateLimits::of(&config));
        let Contents { recovered, roles: kept } = registry.load().await?;
        recovered.judge(&master_id).map_err(|why| ServeError::Recovered { why })?;
        tracing::info!(
            agents = recovered.agents.len(),
            frameworks = recovered.frameworks.len(),
            roles = kept.len(),
            "the registry knows"
        );
        let core = config.core(master_id.clone(), config.roles(kept));
        let header = Header::new(core, config.allocator(), recovered, clock.now());
        let recorded = journal.filter(|(path, _)| {
            let fits = header.fits();
            if !fits {
                tracing::warn!(path = %path.display(), "nothing is recorded: the registry is too large for a journal");
            }
            fits
        });
        let (journal, journal_written) =
            recorded.map(|(path, file)| Recorder::start(path, file, &header, Arc::clone(&metrics))).unzip();
        let master = header.master(Box::new(Hierarchical::new(header.allocator.clone())));
        let (view_sender, view) = watch::channel(Arc::new(master.view()));
        let actor = Actor {
            clock,
            master,
            inbox: inbox_receiver,
            internal: internal_receiver,
            commits,
            peers: Arc::clone(&peers),
            view: view_sender,
            metrics: Arc::clone(&metrics),
            journal,
            term: Arc::clone(&term),
        };
        let mut actor = Task(tokio::spawn(actor.run()));
        let mut writer = Task(tokio::spawn(actor::write(
            registry,
            commits_receiver,
            internal.clone(),
            Arc::clone(&metrics),
        )));

        let hub = Hub::new(view.clone());
        let _watching = Task(tokio::spawn(Arc::clone(&hub).run()));
        let explainer = Explainer { asker: Asker::new(inbox.clone()), rates, metrics: Arc::clone(&metrics) };
        let pages = http::Pages { view, clock, peers: Arc::clone(&peers), explainer, hub };
        let health = HealthReporter::new();
        let routes = routes(pages, &health, inbox, &peers, metrics).await;
        let (accepted_sender, accepted) = mpsc::channel(1);
        let _acceptor = Task(tokio::spawn(listener::accept(listener, cut.clone(), term, accepted_sender)));
        let serving = Transport::builder()
            .accept_http1(true)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .add_routes(routes)
            .serve_with_incoming_shutdown(ReceiverStream::new(accepted), stop.clone().cancelled_owned());
        let mut serving = std::pin::pin!(serving);
        tracing::info!(%local_addr, master_id, "serving");

        tokio::select! {
            () = shutdown => {}
            ended = &mut actor.0 => return Err(ServeError::Bug { task: "core", source: ended.err() }),
            ended = &mut writer.0 => return Err(match ended {
                Ok(Err(error)) => error.into(),
                Ok(Ok(())) => ServeError::Bug { task: "core", source: None },
                Err(source) => ServeError::Bug { task: "registry", source: Some(source) },
            }),
            ended = &mut serving => return Err(match ended {
                Err(source) => ServeError::Transport { address: local_addr, source },
                Ok(()) => ServeError::Bug { task: "accept", source: None },
            }),
        }

        tracing::info!("ending");
        for name in services() {
            health.set_service_status(name, ServingStatus::NotServing).await;
        }
        let _ = internal.send(Internal::Shutdown);
        let ended = (&mut actor.0).await;
        peers.schedulers.finish_all();
        peers.agents.finish_all();
        stop.cancel();
        let flushed = async { tokio::join!(peers.schedulers.drained(), peers.agents.drained()) };
        // The server is polled all along, so that it stops accepting at once.
        let closed = tokio::select! {
            _ = &mut serving => true,
            _ = timeout(FLUSH_TIMEOUT, flushed) => false,
        };
        if !closed && timeout(CLOSE_TIMEOUT, &mut serving).await.is_err() {
            tracing::info!("some connections did not end in time and are cut");
        }
        if let Some(written) = journal_written
            && timeout(FLUSH_TIMEOUT, written).await.is_err()
        {
            tracing::warn!("the journal could not be written to its end in time");
        }
        ended.map_err(|source| ServeError::Bug { task: "core", source: Some(source) })
    }
}

/// The journal that the settings name, empty.
fn begin_journal(config: &Config) -> Result<Option<(PathBuf, File)>, ServeError> {
    let Some(path) = config.journal.clone() else { return Ok(None) };
    match journal::create(&path) {
        Ok(file) => Ok(Some((path, file))),
        Err(source) => Err(ServeError::Journal { path, source }),
    }
}

/// A task that ends with whoever waits for it.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Every name under which health is asked; the empty one is the server as a whole.
fn services() -> [&'static str; 4] {
    [
        "",
        SchedulerServiceServer::<Schedulers>::NAME,
        AgentServiceServer::<Agents>::NAME,
        OperatorServiceServer::<Operators>::NAME,
    ]
}

/// Every service and page of the port.
async fn routes(
    pages: http::Pages,
    health: &HealthReporter,
    inbox: mpsc::Sender<actor::Inbound>,
    peers: &Peers,
    metrics: Arc<Metrics>,
) -> Routes {
    let conns = Arc::new(AtomicU64::new(0));
    let schedulers =
        Streams::new(inbox.clone(), Arc::clone(&peers.schedulers), Arc::clone(&conns), Arc::clone(&metrics));
    let agents = Streams::new(inbox, Arc::clone(&peers.agents), conns, metrics);
    for name in services() {
        health.set_service_status(name, ServingStatus::Serving).await;
    }
    let health_service = tonic_health::server::HealthService::from_health_reporter(health.clone());
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(apportion_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let valid = "the descriptors are compiled in";
    let operators = Operators {
        view: pages.view.clone(),
        asker: pages.explainer.asker.clone(),
        explainer: pages.explainer.clone(),
        hub: Arc::clone(&pages.hub),
    };
    Routes::from(http::router(pages))
        .add_service(
            SchedulerServiceServer::new(Schedulers(schedulers))
                .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
                .max_encoding_message_size(limits::MESSAGE_BYTES_MAX),
        )
        .add_service(
            AgentServiceServer::new(Agents(agents))
                .max_decoding_message_size(limits::AGENT_MESSAGE_BYTES_MAX)
                .max_encoding_message_size(limits::AGENT_MESSAGE_BYTES_MAX),
        )
        .add_service(
            OperatorServiceServer::new(operators)
                .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
                .max_encoding_message_size(ANSWER_BYTES_MAX),
        )
        .add_service(tonic_health::pb::health_server::HealthServer::new(health_service))
        .add_service(reflection().build_v1().expect(valid))
        // What most tools still ask first.
        .add_service(reflection().build_v1alpha().expect(valid))
}

/// A name that no other master process has had: the time of its start, and some chance.
fn master_id() -> String {
    let micros = std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64);
    let chance = std::hash::RandomState::new().build_hasher().finish();
    format!("m{micros:x}-{:04x}", chance & 0xffff)
}
