//! A service from its description to the end of its scheduler: the program around the scheduler.

use std::{
    io::Write,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use apportion_sdk::{
    BuildError, Capability, Driver, DriverError, Options, Stop,
    driver::Builder,
    operator::{Operator, OperatorError},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use crate::{
    event::Event,
    scheduler::{Order, ServiceScheduler},
    spec::{Spec, SpecError},
    state::Table,
    store::{Store, StoreError},
};

/// The exit code when the scheduler ended as it was asked to; its replicas run on.
pub const DONE: u8 = 0;
/// The exit code when it could not go on.
pub const FAILED: u8 = 1;
/// The exit code when the arguments or the description are wrong.
pub const USAGE: u8 = 2;

/// How long one that stood by waits for the run before it to let go of its state: that has lost its connection, and may not know it yet.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(20);

/// What to run, and how to tell of it.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// The description of the service (TOML)
    #[arg(value_name = "SPEC.toml")]
    pub spec: PathBuf,
    /// Where it remembers its replicas over its own restarts [default: apportion/services/NAME in the user's state folder]
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    /// End the service for good: kill its replicas and forget it
    #[arg(long)]
    pub stop: bool,
    /// Begin anew: forget replicas of an earlier run, which end after the failover time-out
    #[arg(long, conflicts_with = "stop")]
    pub forget: bool,
    /// Wait while another run of this service is connected, and take its place when that one ends: on machines that share the --state
    #[arg(long, conflicts_with_all = ["stop", "forget"])]
    pub stand_by: bool,
    /// The form of the events on standard output: lines for people, or one JSON object for each
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// The form of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Lines for people; may change
    #[default]
    Text,
    /// One object for each line
    Json,
}

impl RunArgs {
    /// A description with everything else as it is without a flag.
    pub fn new(spec: impl Into<PathBuf>) -> Self {
        Self {
            spec: spec.into(),
            state: None,
            stop: false,
            forget: false,
            stand_by: false,
            output: Format::Text,
        }
    }
}

/// Why a service could not be run, or not be stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The description is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The master's address or the role is wrong.
    #[error(transparent)]
    Usage(#[from] BuildError),
    /// The state could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The master could not be reached, or ended the framework.
    #[error(transparent)]
    Driver(DriverError),
    /// The master does not take the framework of an earlier run.
    #[error(
        "{source}; is this the master of the earlier run? if that one is gone for good, begin anew with --forget"
    )]
    Stranger {
        /// The master's words.
        source: DriverError,
    },
    /// Somebody ended the framework while its scheduler ran.
    #[error(
        "service `{service}` was ended by somebody else, and its replicas with it; run it again to begin anew"
    )]
    Ended {
        /// The service.
        service: String,
    },
    /// The framework could not be ended.
    #[error(transparent)]
    Stop(#[from] OperatorError),
    /// There is nothing to stop.
    #[error("service `{service}` is not known in {}: it never ran, was stopped, or has another --state", folder.display())]
    NotKnown {
        /// The service.
        service: String,
        /// The folder for its state.
        folder: PathBuf,
    },
    /// Signals could not be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(std::io::Error),
}

impl ServiceError {
    /// The exit code for it: [`USAGE`] when what was asked for is wrong, otherwise [`FAILED`].
    pub fn exit_code(&self) -> u8 {
        match self {
            ServiceError::Spec(_) | ServiceError::Usage(_) => USAGE,
            _ => FAILED,
        }
    }
}

/// Keeps a service running on the cluster of the master at `master` (`host:port`) until Ctrl-C or SIGTERM, which leave its
/// replicas running; with [`RunArgs::stop`] ends it. Gives the exit code.
///
/// Prints events to standard output. When the future is dropped the framework is disconnected, as by Ctrl-C.
pub async fn run(args: RunArgs, master: &str) -> Result<u8, ServiceError> {
    let spec = Arc::new(Spec::load(&args.spec)?);
    let folder = args.state.clone().unwrap_or_else(|| state_folder(&spec.name));
    if args.stop {
        return stop(&spec, &folder, master).await;
    }
    if args.forget {
        Store::open(&folder)?.remove()?;
    }
    if args.stand_by {
        let mut service = Service { spec: spec.clone(), output: args.output, subscribed: false };
        return match service.stand_by(folder, master).await {
            Err(ServiceError::Driver(DriverError::Removed { .. })) => {
                Err(ServiceError::Ended { service: spec.name.clone() })
            }
            done => done.map(|()| DONE),
        };
    }
    loop {
        let store = Store::open(&folder)?;
        let table = load(&store, &spec)?;
        let known = table.framework_id.is_some();
        let mut service = Service { spec: spec.clone(), output: args.output, subscribed: false };
        match service.lead(store, table, master).await {
            // It stayed away for too long, or was torn down meanwhile: its replicas are gone, and it can only begin anew. Not
            // so when that happens before our eyes: then somebody has just ended the service, and means it.
            Err(ServiceError::Driver(error @ DriverError::Removed { .. }))
                if known && !service.subscribed =>
            {
                service.say(&format!("{error}; its replicas are gone with it, so that is what is done now"));
                Store::open(&folder)?.remove()?;
            }
            Err(ServiceError::Driver(source @ DriverError::Refused { .. }))
                if known && !service.subscribed =>
            {
                return Err(ServiceError::Stranger { source });
            }
            Err(ServiceError::Driver(DriverError::Removed { .. })) if service.subscribed => {
                return Err(ServiceError::Ended { service: spec.name.clone() });
            }
            done => return done.map(|()| DONE),
        }
    }
}

/// Ends the framework at the master, which ends a scheduler that is still running as well, and forgets it.
async fn stop(spec: &Spec, folder: &Path, master: &str) -> Result<u8, ServiceError> {
    let store = Store::open_to_stop(folder);
    let table = store.load(&spec.name)?;
    let Some((framework_id, table)) = table.and_then(|table| Some((table.framework_id.clone()?, table)))
    else {
        return Err(ServiceError::NotKnown { service: spec.name.clone(), folder: folder.to_owned() });
    };
    Operator::connect(master).await?.teardown(&framework_id).await?;
    store.remove()?;
    let service = Service { spec: Arc::new(spec.clone()), output: Format::Text, subscribed: false };
    service.say(&format!(
        "framework {framework_id} is torn down; its {} replicas are being killed",
        table.placed.len()
    ));
    Ok(DONE)
}

/// The table that a store has, or a new one.
fn load(store: &Store, spec: &Spec) -> Result<Table, StoreError> {
    Ok(store.load(&spec.name)?.unwrap_or_else(|| Table::new(&spec.name)))
}

/// A service on its way.
struct Service {
    spec: Arc<Spec>,
    output: Format,
    subscribed: bool,
}

impl Service {
    async fn lead(&mut self, store: Store, table: Table, master: &str) -> Result<(), ServiceError> {
        let driver = self.driver(master).framework_id(table.framework_id.clone()).build()?;
        let (sender, events) = mpsc::unbounded_channel();
        self.drive(driver, ServiceScheduler::new(self.spec.clone(), store, table, sender), events).await
    }

    async fn stand_by(&mut self, folder: PathBuf, master: &str) -> Result<(), ServiceError> {
        let driver = self.driver(master).stand_by().build()?;
        let (sender, events) = mpsc::unbounded_channel();
        let spec = self.spec.clone();
        let open = move || {
            let store = Store::open_within(&folder, RELEASE_TIMEOUT)?;
            let table = load(&store, &spec)?;
            Ok((store, table))
        };
        self.drive(driver, ServiceScheduler::stand_by(self.spec.clone(), open, sender), events).await
    }

    fn driver(&self, master: &str) -> Builder {
        Driver::builder(&self.spec.name)
            .role(&self.spec.role)
            .failover_timeout(self.spec.failover_timeout)
            .options(Options::new().capability(Capability::InverseOffers).build())
            .master(master)
    }

    async fn drive(
        &mut self,
        driver: Driver<Order>,
        scheduler: ServiceScheduler,
        mut events: mpsc::UnboundedReceiver<Event>,
    ) -> Result<(), ServiceError> {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ServiceError::Signals)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(ServiceError::Signals)?;
        let handle = driver.handle();
        let mut driving = pin!(driver.run(scheduler));
        let mut asked = false;
        let outcome = loop {
            tokio::select! {
                outcome = &mut driving => break outcome,
                Some(event) = events.recv() => self.tell(&event),
                () = signalled(&mut interrupt, &mut terminate) => {
                    // The second time nothing is waited for: the master sees the connection end.
                    if std::mem::replace(&mut asked, true) {
                        return Ok(());
                    }
                    // A driver that has ended says why by itself.
                    _ = handle.stop(Stop::Disconnect).await;
                }
            }
        };
        while let Ok(event) = events.try_recv() {
            self.tell(&event);
        }
        let (_store, state, failure) = outcome.map_err(ServiceError::Driver)?.scheduler.into_parts();
        if !self.subscribed {
            return failure.map_or(Ok(()), |error| Err(error.into()));
        }
        let timeout = humantime::format_duration(self.spec.failover_timeout);
        let placed = state.table().placed.len();
        self.say(&format!(
            "disconnected; {placed} replicas run on for {timeout}: run again to take over, --stop to end them"
        ));
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    fn tell(&mut self, event: &Event) {
        self.subscribed |= matches!(event, Event::Subscribed { .. });
        let line = match self.output {
            Format::Text => format!("{}: {event}", self.spec.name),
            Format::Json => serde_json::to_string(event).expect("events have texts and numbers only"),
        };
        // That nobody reads the events any more must not end the service.
        let mut out = std::io::stdout().lock();
        _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// Says something beside the events, on standard error.
    fn say(&self, what: &str) {
        _ = writeln!(std::io::stderr().lock(), "{}: {what}", self.spec.name);
    }
}

async fn signalled(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Where the state of a service is kept unless said otherwise: in the user's state folder, or here when there is none.
fn state_folder(service: &str) -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    match user {
        Some(folder) => folder.join("apportion/services").join(service),
        None => Path::new(".apportion").join(service),
    }
}
