//! A service from its description to the end of its scheduler: the program around the scheduler.

mod presence;

use std::{
    future::pending,
    io::Write,
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use apportion_sdk::{
    BuildError, Capability, Driver, DriverError, Handle, Options, Stop,
    driver::{Builder, CONNECT_TIMEOUT},
    lines::Lines,
    operator::{Operator, OperatorError},
    sandbox::SandboxError,
    store::{Presence, StoreError},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};

use crate::{
    api::{ApiError, SOCKET},
    event::{Event, Told},
    front::{self, AnswerError, Answers, Front, reserve::ReserveError},
    keep::{Folder, KeepError},
    measure::{self, Balancers},
    scheduler::{Request, ServiceScheduler},
    spec::{Spec, SpecError},
    state::Refused,
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
    /// The description of the service (TOML, or JSON in a file called .json)
    #[arg(value_name = "SPEC")]
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
    /// Where others may ask for its replicas.
    #[command(flatten)]
    pub answers: Answers,
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
            answers: Answers::default(),
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
    Keep(#[from] KeepError),
    /// It waits for services that are not run with it.
    #[error(
        "after: `service run` runs `{service}` alone, and it comes after {after}; use `service serve` and `service apply`"
    )]
    After {
        /// The service.
        service: String,
        /// What it waits for.
        after: String,
    },
    /// The master could not be reached, or ended the framework.
    #[error(transparent)]
    Driver(DriverError),
    /// The master does not take the framework of an earlier run.
    #[error(
        "{source}; is this the master of the earlier run? if that one is gone for good, begin anew with --forget, which forgets all \
         descriptions too"
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
    /// What it kept was removed while it ran.
    #[error(
        "what was kept in {} is gone, so that nothing can take over: {replicas} replicas run on for {timeout}; put it back before you run \
         again, or end them with `apportion teardown {framework_id}`",
        folder.display()
    )]
    Gone {
        /// Where it was.
        folder: PathBuf,
        /// How many replicas run.
        replicas: usize,
        /// For how long they do.
        timeout: humantime::FormattedDuration,
        /// Whose they are.
        framework_id: String,
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
    /// Nobody served, or what was asked for was refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A description was not applied, for what it says at a place of it.
    #[error("{0}; nothing has changed")]
    NotApplied(SpecError),
    /// What was asked for makes no sense.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// An address for its clients cannot be had.
    #[error(transparent)]
    Reserve(#[from] ReserveError),
    /// An address for those who ask for replicas cannot be had.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// What a task wrote cannot be read.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Orders cannot be taken.
    #[error("cannot take orders at {}: {source}; name another --state, whose path is shorter than 100 bytes, on a local disk", socket.display())]
    Listen {
        /// Where.
        socket: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The answer to an order could not be written.
    #[error("cannot write the answer: {0}; what was ordered is done all the same")]
    Answered(std::io::Error),
    /// The picture could not be written.
    #[error("cannot write the plot to {}: {source}; name a file in a folder that this user may write to", file.display())]
    Plot {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What happens cannot be told.
    #[error(
        "cannot begin a thread that writes what happens: {0}; raise the limit on threads (ulimit -u, pids of its cgroup)"
    )]
    Lines(std::io::Error),
    /// Signals could not be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(std::io::Error),
}

impl ServiceError {
    /// The exit code for it: [`USAGE`] when what was asked for is wrong, otherwise [`FAILED`].
    pub fn exit_code(&self) -> u8 {
        match self {
            ServiceError::Spec(_) | ServiceError::Usage(_) | ServiceError::After { .. } => USAGE,
            ServiceError::Refused(Refused::Twice { .. } | Refused::Address { .. }) => USAGE,
            ServiceError::Keep(error) if error.is_of_the_folder() => USAGE,
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
    if !spec.after.is_empty() {
        return Err(ServiceError::After { service: spec.name.clone(), after: spec.after.join(", ") });
    }
    let path = args.state.clone().unwrap_or_else(|| state_folder(&spec.name));
    let folder = Folder::of_service(path, Arc::clone(&spec));
    if args.stop {
        return stop(&spec.name, &folder, master).await;
    }
    if args.forget {
        folder.forget()?;
    }
    let driver = Driver::builder(&spec.name)
        .role(&spec.role)
        .failover_timeout(spec.failover_timeout)
        .options(Options::new().capability(Capability::InverseOffers).build())
        .master(master);
    let program = Program {
        framework: spec.name.clone(),
        master: master.to_owned(),
        failover_timeout: spec.failover_timeout,
        specs: vec![spec],
        folder,
        takes_orders: false,
        answers: args.answers,
        output: args.output,
    };
    program.run(|| driver.clone(), args.stand_by).await
}

/// Ends the framework at the master, which ends a scheduler that is still running as well, and forgets it.
pub(crate) async fn stop(framework: &str, folder: &Folder, master: &str) -> Result<u8, ServiceError> {
    let Some(framework_id) = folder.framework()? else {
        let folder = folder.path().to_owned();
        return Err(ServiceError::NotKnown { service: framework.to_owned(), folder });
    };
    Operator::connect(master).await?.teardown(&framework_id).await?;
    say(framework, &format!("framework {framework_id} is torn down; its replicas are being killed"));
    // A scheduler that is still there ends now, and lets go of the folder. One that does not finds out by itself that it is removed.
    match folder.clone().open_within(RELEASE_TIMEOUT, watch::channel(false).1).await {
        Err(KeepError::Store(StoreError::InUse { .. })) => {}
        Err(error) => return Err(error.into()),
        Ok(open) => {
            drop(open);
            folder.forget()?;
        }
    }
    Ok(DONE)
}

/// The program around a scheduler.
pub(crate) struct Program {
    pub(crate) framework: String,
    /// Where the master is.
    pub(crate) master: String,
    pub(crate) failover_timeout: Duration,
    /// What is applied at the start.
    pub(crate) specs: Vec<Arc<Spec>>,
    pub(crate) folder: Folder,
    /// Whether it takes orders at a socket in its folder.
    pub(crate) takes_orders: bool,
    /// Where it tells others of its replicas.
    pub(crate) answers: Answers,
    pub(crate) output: Format,
}

/// One scheduler from its start to its end.
struct Run {
    driver: Driver<Request>,
    scheduler: ServiceScheduler,
    beside: Beside,
}

/// What there is beside a scheduler.
struct Beside {
    /// For whoever else tells what happens.
    sender: mpsc::UnboundedSender<Told>,
    events: mpsc::UnboundedReceiver<Told>,
    /// Whether it is to end.
    end: watch::Sender<bool>,
    /// Whether it waits for a master for as long as replicas run on without one.
    patient: bool,
    /// Whether another run may be subscribed.
    standing_by: bool,
}

/// How a run ended, if not by an error.
struct Ended {
    /// Whether it was ever subscribed.
    subscribed: bool,
    outcome: Result<(), ServiceError>,
}

impl Program {
    /// Runs schedulers until one ends as it was asked to, or cannot go on.
    pub(crate) async fn run(
        &self,
        new_driver: impl Fn() -> Builder,
        stand_by: bool,
    ) -> Result<u8, ServiceError> {
        // The loop does not wait for whoever reads the events.
        let (framework, output) = (self.framework.clone(), self.output);
        let missed = move |events| line(output, &Told::of(&framework, Event::Missed { events }));
        let lines = Lines::new(std::io::stdout(), missed).map_err(ServiceError::Lines)?;
        loop {
            let (end, ending) = watch::channel(false);
            let (sender, events) = mpsc::unbounded_channel();
            let told = sender.clone();
            let specs = self.specs.clone();
            // Its replicas run on without a master too; a wrong address is told all the same.
            let patience = self.failover_timeout.max(CONNECT_TIMEOUT);
            let (driver, scheduler, known);
            if stand_by {
                let opening = self.folder.clone().open_within(RELEASE_TIMEOUT, ending);
                scheduler = ServiceScheduler::stand_by(&self.framework, specs, opening, told);
                known = false;
                driver = new_driver().stand_by().connect_timeout(patience).build()?;
            } else {
                let (store, table) = self.folder.open()?;
                known = table.framework_id.is_some();
                let connect_timeout = if known { patience } else { CONNECT_TIMEOUT };
                driver = new_driver()
                    .framework_id(table.framework_id.clone())
                    .connect_timeout(connect_timeout)
                    .build()?;
                scheduler = ServiceScheduler::new(&self.framework, specs, store, table, told);
            }
            let beside = Beside { sender, events, end, patient: known || stand_by, standing_by: stand_by };
            let run = Run { driver, scheduler, beside };
            let Ended { subscribed, outcome } = self.drive(run, &lines).await;
            lines.flush().await;
            match outcome {
                // It stayed away for too long, or was torn down meanwhile: its replicas are gone, and a new framework is to run the
                // same services. Not so when that happens before our eyes: then somebody has just ended the service, and means it.
                Err(ServiceError::Driver(error @ DriverError::Removed { .. })) if known && !subscribed => {
                    let what =
                        format!("{error}; its replicas are gone with it: a new framework launches them anew");
                    say(&self.framework, &what);
                    self.folder.begin_anew()?;
                }
                Err(ServiceError::Driver(source @ DriverError::Refused { .. })) if known && !subscribed => {
                    return Err(ServiceError::Stranger { source });
                }
                Err(ServiceError::Driver(DriverError::Removed { .. })) if subscribed || stand_by => {
                    return Err(ServiceError::Ended { service: self.framework.clone() });
                }
                done => return done.map(|()| DONE),
            }
        }
    }

    /// Runs one scheduler to its end, tells what happens, and listens to signals.
    async fn drive(&self, mut run: Run, lines: &Lines) -> Ended {
        let mut subscribed = false;
        let mut tell = |told: Told| {
            subscribed |= matches!(told.event, Event::Subscribed { .. });
            self.tell(&told, lines);
        };
        let (driver, scheduler) = (run.driver, run.scheduler);
        let outcome = self.until_ended(driver, scheduler, &mut run.beside, &mut tell).await;
        while let Ok(told) = run.beside.events.try_recv() {
            tell(told);
        }
        let outcome = outcome.map(|replicas| {
            if let Some(replicas) = replicas.filter(|_| subscribed) {
                let timeout = humantime::format_duration(self.failover_timeout);
                say(
                    &self.framework,
                    &format!(
                        "disconnected; {replicas} replicas run on for {timeout}: run again to take over, --stop to end them"
                    ),
                );
            }
        });
        Ended { subscribed, outcome }
    }

    /// Gives how many replicas run on; none when nothing was waited for.
    async fn until_ended(
        &self,
        driver: Driver<Request>,
        scheduler: ServiceScheduler,
        beside: &mut Beside,
        tell: &mut impl FnMut(Told),
    ) -> Result<Option<usize>, ServiceError> {
        let Beside { sender, events, end, patient, standing_by } = beside;
        let mut waits = *patient;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ServiceError::Signals)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(ServiceError::Signals)?;
        let handle = driver.handle();
        let (drained, drains) = mpsc::unbounded_channel();
        let front = Arc::new(Front::new(scheduler.views(), sender.clone(), drained, self.answers.any()));
        // Clients of what is known already wait for its replicas from now on.
        front.bring_up().await;
        // One that stands by listens when its turn comes: until then the address may be that of the other run.
        let _reserved = match self.specs.is_empty() || *standing_by {
            true => None,
            false => Some(front.reserve(&self.specs).await?),
        };
        let (leads, leading) = watch::channel(!*standing_by);
        let (framework_id, presence) = (OnceLock::new(), OnceLock::new());
        let mut watching = pin!(self.watch(leading.clone(), &framework_id, &presence));
        let mut serving = pin!(self.serving(handle.clone(), Arc::clone(&front), leading, &presence));
        let subjects = scheduler.subjects();
        let waking = measure::wake(handle.clone(), subjects.clone(), |service| {
            let front = Arc::clone(&front);
            async move { front.wanted(&service).await }
        });
        let counted = Balancers::new(|service: &str| front.statistics(service));
        let comparing = measure::compare(handle.clone(), scheduler.views(), &self.master);
        let measuring = measure::run(handle.clone(), subjects, &self.master, counted);
        let mut following = pin!(async {
            let report = front::report(drains, handle.clone());
            tokio::join!(front.follow(), report, measuring, waking, comparing);
        });
        let mut unanswered = pin!(tokio::time::sleep(CONNECT_TIMEOUT));
        let mut driving = pin!(driver.run(scheduler));
        let outcome = loop {
            tokio::select! {
                outcome = &mut driving => break outcome,
                Some(told) = events.recv() => {
                    waits &= !matches!(told.event, Event::Subscribed { .. } | Event::StandingBy { .. });
                    if let Event::Subscribed { framework_id: id, .. } = &told.event {
                        _ = framework_id.set(id.clone());
                        leads.send_replace(true);
                    }
                    tell(told);
                }
                failed = &mut serving => return Err(failed),
                () = &mut watching => {}
                () = &mut following => {}
                () = &mut unanswered, if waits => {
                    waits = false;
                    let timeout = humantime::format_duration(self.failover_timeout);
                    say(&self.framework, &format!("no master answers yet; waiting for one for {timeout}, as long as replicas run on"));
                }
                () = signalled(&mut interrupt, &mut terminate) => {
                    // The second time nothing is waited for: the master sees the connection end.
                    if end.send_replace(true) {
                        return Ok(None);
                    }
                    // A driver that has ended says why by itself.
                    _ = handle.stop(Stop::Disconnect).await;
                }
            }
        };
        // What clients have under way ends well; a second signal cuts it off.
        tokio::select! {
            () = front.close() => {}
            () = signalled(&mut interrupt, &mut terminate) => {}
        }
        let (_store, services, failure) = outcome.map_err(ServiceError::Driver)?.scheduler.into_parts();
        match failure {
            Some(error) => Err(error.into()),
            None => {
                let replicas = services.table().placed.len();
                match framework_id.get() {
                    Some(framework_id) if presence.get().is_some_and(|presence| !presence.is_there()) => {
                        Err(ServiceError::Gone {
                            folder: self.folder.path().to_owned(),
                            replicas,
                            timeout: humantime::format_duration(self.failover_timeout),
                            framework_id: framework_id.clone(),
                        })
                    }
                    _ => Ok(Some(replicas)),
                }
            }
        }
    }

    /// Answers those who ask where replicas are, and takes orders, each if it is to; ends only when that is not possible.
    async fn serving(
        &self,
        scheduler: Handle<Request>,
        front: Arc<Front>,
        mut leading: watch::Receiver<bool>,
        presence: &OnceLock<Presence>,
    ) -> ServiceError {
        // Until its turn comes addresses and socket may be those of the run that leads.
        if leading.wait_for(|leads| *leads).await.is_err() {
            return pending().await;
        }
        let answering = match self.answers.open(&front, &|what| say(&self.framework, what)).await {
            Ok(answering) => answering,
            Err(error) => return error.into(),
        };
        if !self.takes_orders {
            answering.await;
            return pending().await;
        }
        let socket = self.folder.path().join(SOCKET);
        let taking = self.taking_orders(&socket, scheduler, front, presence);
        let served = tokio::select! {
            served = taking => served,
            () = answering => return pending().await,
        };
        let source = served.err().unwrap_or_else(|| std::io::ErrorKind::ConnectionAborted.into());
        ServiceError::Listen { socket, source }
    }

    fn tell(&self, told: &Told, lines: &Lines) {
        if let Event::Subscribed { framework_id, .. } = &told.event {
            // Without the note it can be ended all the same, when its scheduler has gone.
            if let Err(error) = self.folder.note(framework_id) {
                say(&self.framework, &error.to_string());
            }
        }
        lines.say(line(self.output, told));
    }
}

fn line(output: Format, told: &Told) -> String {
    match output {
        Format::Text => told.to_string(),
        Format::Json => serde_json::to_string(told).expect("events have texts and numbers only"),
    }
}

/// Says something beside the events, on standard error.
fn say(framework: &str, what: &str) {
    _ = writeln!(std::io::stderr().lock(), "{framework}: {what}");
}

async fn signalled(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Where the state of a service is kept unless said otherwise: in the user's state folder, or here when there is none.
pub(crate) fn state_folder(service: &str) -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    match user {
        Some(folder) => folder.join("apportion/services").join(service),
        None => Path::new(".apportion").join(service),
    }
}
