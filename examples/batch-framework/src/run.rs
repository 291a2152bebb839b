//! A job from its file to its exit code: the program around the scheduler.
//!
//! It does what a scheduler should not: it fetches outputs, listens to signals, draws progress. The two speak through
//! [`News`] one way and [`Order`] the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use apportion_sdk::{
    Capability, Driver, DriverError, FrameworkId, FrameworkOptions, Handle, Options, Stop, Time,
    operator::Operator, store::Embedded,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};

pub use crate::error::BatchError;
use crate::{
    capacity::{self, Advice, Size, Watch},
    job::Job,
    keep::{KeepError, Keeper, Kept},
    output::{Fetched, Fetcher, may_be_fetched},
    progress::{self, Progress},
    report::Report,
    scheduler::{BatchScheduler, News, Order},
    state::{Class, Counts, End, JobState},
    summary, timeline,
};

/// Between two looks at the agents while tasks wait.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A signal so soon after the first is the same one: programs such as `timeout` send theirs twice.
const SAME_SIGNAL: Duration = Duration::from_millis(300);

/// How long the tasks of a job that is kept run on while nobody runs it.
const AWAY_MAX: Duration = Duration::from_secs(3600);

/// How long a second Ctrl-C waits for the master to confirm the teardown.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The exit code when every task succeeded.
pub const SUCCEEDED: u8 = 0;
/// The exit code when a task did not succeed, or its output could not be saved.
pub const FAILED: u8 = 1;
/// The exit code when the arguments or the job file are wrong.
pub const USAGE: u8 = 2;
/// The exit code when the job was interrupted: what a shell gives a program that Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

/// What to run, and how to show it.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// The job file (TOML)
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// Another value for a parameter that the job file declares
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// The form of the summary: a table, or one JSON document and nothing else on standard output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    /// Show every task in the summary, however many there are
    #[arg(long)]
    pub all: bool,
    /// Wait when no agent is large enough for a task, instead of failing
    #[arg(long)]
    pub wait: bool,
    /// The role for which to take offers
    #[arg(long, default_value = "*")]
    pub role: String,
    /// Write down in this folder where the job is: run again after a crash, it goes on there, and the folder is gone when it has ended and its outputs are saved
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    /// Draw who ran where and when into this file (SVG) when the job has ended
    #[arg(long, value_name = "FILE.svg")]
    pub timeline: Option<PathBuf>,
}

/// The form of the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A table for people; may change
    #[default]
    #[value(alias = "table")]
    Text,
    /// One document for programs; fields are only ever added
    Json,
}

impl RunArgs {
    /// A job file with everything else as it is without a flag.
    pub fn new(job: impl Into<PathBuf>) -> Self {
        Self {
            job: job.into(),
            set: Vec::new(),
            output: Format::Text,
            all: false,
            wait: false,
            role: "*".to_owned(),
            state: None,
            timeline: None,
        }
    }
}

/// Runs a job on the cluster of the master at `master` (`host:port`), until every task has ended; gives its exit code.
///
/// Prints the summary to standard output, and progress to standard error. The first Ctrl-C or SIGTERM kills the job's tasks
/// and waits for their ends, the second leaves at once. When the future is dropped the framework is disconnected, and its
/// tasks are killed after its failover time-out; with [`RunArgs::state`] the next run takes them over until then.
pub async fn run(args: RunArgs, master: &str) -> Result<u8, BatchError> {
    let folder = std::env::current_dir().map_err(BatchError::Folder)?;
    let (file, settings) = (args.job.clone(), args.set.clone());
    // A glob over a large folder takes a while, and whoever shares this runtime is not to wait for it.
    let job = tokio::task::spawn_blocking(move || Job::load(&file, &settings, &folder));
    let job = Arc::new(job.await.expect("reading a job file does not panic")?);
    if let Some(folder) = &job.output {
        let refuse = |source| BatchError::Output { folder: folder.clone(), source };
        std::fs::create_dir_all(folder).map_err(refuse)?;
    }
    if let Some(file) = &args.timeline {
        // Better now than after hours of work. What is there is left until there is another picture.
        let refuse = |source| BatchError::Timeline { file: file.clone(), source };
        std::fs::OpenOptions::new().append(true).create(true).open(file).map_err(refuse)?;
    }
    let builder = Driver::builder(&job.name).role(&args.role).master(master).options(options());
    let Some(folder) = &args.state else {
        let driver = builder.build()?;
        let mut run = Run::new(job.clone(), &args, master, driver.handle());
        return run.drive(driver, |news| BatchScheduler::new(job, news), &args).await;
    };
    let embedded = || Embedded::open(folder, &format!("batch job {}", job.name));
    let open = || Keeper::open(embedded()?, &job, wall_clock());
    loop {
        let (keeper, kept) = open()?;
        let known = kept.framework_id.clone();
        let driver = builder.clone().failover_timeout(AWAY_MAX).framework_id(known.clone()).build()?;
        let mut run = Run::new(job.clone(), &args, master, driver.handle());
        let state = run.resume(kept);
        let scheduler = |news| BatchScheduler::kept(job.clone(), (keeper, state), news);
        match run.drive(driver, scheduler, &args).await {
            // It stayed away for too long, or was torn down meanwhile. Not so when that happens before our eyes: then somebody has
            // just ended the job, and means it.
            Err(BatchError::Driver(error @ DriverError::Removed { .. }))
                if known.is_some() && !run.subscribed =>
            {
                run.progress.say(&format!(
                    "{error}; what ran is gone with it and runs again, what has ended is kept"
                ));
                let (mut keeper, mut kept) = open()?;
                kept.state.begin_anew("its framework was removed", wall_clock(), &mut Vec::new());
                keeper
                    .save(&mut kept.state)
                    .and_then(|()| keeper.save_framework_id(None))
                    .map_err(KeepError::Store)?;
            }
            // Run again, it ends what still runs.
            Ok(code) if run.unconfirmed => return Ok(code),
            Ok(code) if run.outputs_missing => {
                run.progress.say(&format!(
                    "the job's state stays in {}: run again, it fetches the outputs that are missing; removed, the job begins anew",
                    folder.display()
                ));
                return Ok(code);
            }
            Ok(code) => {
                // The job is over and told; what is left of its state does not change how it ended.
                if let Err(error) = embedded().and_then(Embedded::remove) {
                    run.progress.say(&format!("warning: the job's state is left behind: {error}"));
                }
                return Ok(code);
            }
            Err(BatchError::Driver(source @ DriverError::Refused { .. }))
                if known.is_some() && !run.subscribed =>
            {
                return Err(BatchError::Stranger { source });
            }
            Err(error) => return Err(error),
        }
    }
}

/// A job on its way.
struct Run {
    job: Arc<Job>,
    master: String,
    operator: Option<Operator>,
    handle: Handle<Order>,
    progress: Progress,
    /// Looks at the agents for each size of which tasks wait, and for how many of them together.
    watches: BTreeMap<Class, (usize, Watch)>,
    wait: bool,
    fetcher: Fetcher,
    framework_id: Option<FrameworkId>,
    /// What is known of each task's output, by position.
    fetched: Vec<Fetched>,
    fetches: JoinSet<(usize, Fetched)>,
    /// The look at the agents that is under way, apart from the loop: a master that hangs must not stop the driver.
    looks: JoinSet<Option<(Operator, Vec<Size>)>>,
    /// Whether a task ever was on an agent.
    launched: bool,
    /// Tasks whose end was told.
    ended: usize,
    counts: Counts,
    interrupts: u32,
    interrupted_at: Option<Instant>,
    /// Positions of tasks whose output an earlier run has fetched.
    known: BTreeSet<usize>,
    /// Whether what is fetched is written down; then, what is not yet, and whether some is on its way.
    keeps: bool,
    unkept: Vec<(usize, Fetched)>,
    keeping: bool,
    leaving: bool,
    /// What the scheduler knew when it left.
    last: Option<Box<JobState>>,
    /// When this run started, by two clocks.
    started: Instant,
    started_at: Time,
    /// When the job was begun: before this run if it goes on with an earlier one.
    began_at: Time,
    subscribed: bool,
    /// The end was asked for, and no master has said that it heard of it.
    unconfirmed: bool,
    /// Not all outputs that the job asks for were saved.
    outputs_missing: bool,
}

impl Run {
    fn new(job: Arc<Job>, args: &RunArgs, master: &str, handle: Handle<Order>) -> Self {
        let tasks = job.tasks();
        Self {
            progress: Progress::new(&job.name, tasks),
            watches: BTreeMap::new(),
            wait: args.wait,
            fetcher: Fetcher::new(job.output.clone()),
            framework_id: None,
            fetched: vec![Fetched::default(); tasks],
            fetches: JoinSet::new(),
            looks: JoinSet::new(),
            launched: false,
            ended: 0,
            counts: Counts { total: tasks, waiting: tasks, ..Counts::default() },
            interrupts: 0,
            interrupted_at: None,
            known: BTreeSet::new(),
            keeps: false,
            unkept: Vec::new(),
            keeping: false,
            leaving: false,
            last: None,
            started: Instant::now(),
            started_at: wall_clock(),
            began_at: wall_clock(),
            subscribed: false,
            unconfirmed: false,
            outputs_missing: false,
            job,
            master: master.to_owned(),
            operator: None,
            handle,
        }
    }

    /// Goes on where an earlier run was; gives what the scheduler is to know of it.
    fn resume(&mut self, kept: Kept) -> JobState {
        let Kept { framework_id, began_at, state, outputs } = kept;
        self.framework_id = framework_id;
        // A clock that was set back must not make the job end before it began.
        self.began_at = began_at.min(self.started_at);
        self.launched = state.tasks().iter().any(|task| task.launches > 0);
        self.counts = state.counts();
        self.keeps = true;
        for (position, fetched) in outputs {
            self.known.insert(position);
            self.fetched[position] = fetched;
        }
        state
    }

    async fn drive(
        &mut self,
        driver: Driver<Order>,
        scheduler: impl FnOnce(mpsc::UnboundedSender<News>) -> BatchScheduler,
        args: &RunArgs,
    ) -> Result<u8, BatchError> {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(BatchError::Signals)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(BatchError::Signals)?;
        self.progress.write_beside().map_err(BatchError::Lines)?;
        let (news_sender, mut news) = mpsc::unbounded_channel();
        let mut driving = pin!(driver.run(scheduler(news_sender)));
        let mut lines = tokio::time::interval_at(self.started + progress::LINES_EVERY, progress::LINES_EVERY);
        let mut looks = tokio::time::interval(LOOK_EVERY);

        let outcome = loop {
            tokio::select! {
                outcome = &mut driving => break outcome,
                Some(news) = news.recv() => self.take(news),
                Some(done) = self.fetches.join_next() => {
                    let (position, fetched) = done.expect("fetching an output does not panic");
                    if let (Some(error), true) = (&fetched.error, self.job.output.is_some()) {
                        self.progress.say(&format!("the output of {} is not saved: {error}", self.job.task_name(position)));
                    }
                    // What failed may succeed when the job is run again.
                    if self.keeps && fetched.error.is_none() {
                        self.unkept.push((position, fetched.clone()));
                    }
                    self.fetched[position] = fetched;
                }
                Some(()) = interrupt.recv() => self.interrupt().await,
                Some(()) = terminate.recv() => self.interrupt().await,
                _ = lines.tick() => self.line(),
                _ = looks.tick(), if self.counts.waiting > 0 && self.looks.is_empty() => self.look(),
                Some(agents) = self.looks.join_next() => self.compare(agents.expect("looking does not panic")).await,
            }
            if self.interrupts > 1 {
                // Tasks that are still there when the master has heard of it are killed by it.
                let left = tokio::time::timeout(LEAVE_TIMEOUT, driving).await;
                self.progress.finish().await;
                return match left {
                    Ok(Err(error)) => Err(error.into()),
                    Ok(Ok(_)) => Ok(INTERRUPTED),
                    Err(_) => {
                        self.unconfirmed = true;
                        Ok(INTERRUPTED)
                    }
                };
            }
            // One order at a time: the driver's queue is never full.
            if !self.unkept.is_empty() && !self.keeping {
                self.keeping = true;
                let outputs = std::mem::take(&mut self.unkept);
                self.order(Order::Fetched(outputs)).await;
            }
            if self.ended == self.job.tasks() && self.fetches.is_empty() && !self.keeping && !self.leaving {
                self.leaving = true;
                self.order(Order::Leave).await;
            }
        };
        let times = (self.began_at, self.started_at + self.started.elapsed());
        self.progress.finish().await;
        while let Ok(news) = news.try_recv() {
            self.take(news);
        }
        let state = match (outcome, self.last.take()) {
            (Ok(_), Some(state)) => state,
            // Everything is done and known; only the farewell went wrong.
            (Err(error), Some(state)) => {
                self.progress.say(&format!("warning: {error}"));
                state
            }
            (Err(error), None) => return Err(error.into()),
            (Ok(outcome), None) => {
                let failure = outcome.scheduler.into_failure();
                let error = failure.expect(
                    "the driver ends well when it was told to leave, or what happened cannot be kept",
                );
                return Err(KeepError::Store(error).into());
            }
        };
        let framework_id = self.framework_id.take().map(|id| id.to_string());
        let ended = (state.tasks(), state.counts(), state.is_interrupted());
        let report = Report::new(&self.job, ended, std::mem::take(&mut self.fetched), framework_id, times);
        show(&report, args).map_err(BatchError::Stdout)?;
        if let Some(file) = &args.timeline
            && let Err(error) = std::fs::write(file, timeline::svg(&self.job, state.tasks(), times))
        {
            // The job is over and told; what cannot be drawn does not change how it ended.
            self.progress
                .say(&format!("warning: the timeline is not written to {}: {error}", file.display()));
        }
        self.outputs_missing = self.job.output.is_some() && report.outputs_missing() > 0;
        Ok(exit_code(&report, self.job.output.is_some()))
    }

    fn take(&mut self, news: News) {
        match news {
            News::Subscribed(framework_id) => {
                self.subscribed = true;
                self.framework_id = Some(framework_id);
            }
            News::Disconnected(why) => {
                self.progress.say(&format!("the master is lost: {why}; tasks run on, trying again"))
            }
            News::Moved(counts) => {
                self.launched |= counts.active > 0;
                self.counts = counts;
                self.progress.moved(counts);
            }
            News::Waiting(waits) => {
                // How long nothing was large enough for a size counts anew when it waits again.
                self.watches.retain(|class, _| waits.iter().any(|(waits, _)| waits == class));
                for (class, together) in waits {
                    let watched = self.watches.entry(class);
                    watched.or_insert_with(|| (together, Watch::new(self.wait))).0 = together;
                }
            }
            News::Again { name, why } => self.progress.say(&format!("{name} will run again: {why}")),
            News::Copy { name, why } => self.progress.say(&format!("{name} gets a second copy: {why}")),
            News::OutputsKept => self.keeping = false,
            News::NotAdded(why) => self.progress.say(&why),
            News::Leaving(state) => self.last = Some(state),
            News::Ended { position, end } => {
                self.ended += 1;
                self.fetch(position, &end);
            }
        }
    }

    /// Fetches the output of a task that ran: only then there can be one.
    fn fetch(&mut self, position: usize, end: &End) {
        if let (true, false, Some(attempt)) = (may_be_fetched(end), self.known.contains(&position), &end.last)
        {
            let fetching = self.fetcher.fetch(&self.job, position, (attempt.clone(), end.outcome));
            self.fetches.spawn(async move { (position, fetching.await) });
        }
    }

    fn line(&mut self) {
        match self.framework_id {
            Some(_) => self.progress.tick(),
            None => self.progress.say(&format!("waiting for the master at {}", self.master)),
        }
    }

    async fn interrupt(&mut self) {
        if self.interrupted_at.replace(Instant::now()).is_some_and(|at| at.elapsed() < SAME_SIGNAL) {
            return;
        }
        self.interrupts += 1;
        if self.interrupts > 1 {
            self.progress.say("leaving at once; the master kills what still runs");
            _ = self.handle.stop(Stop::Teardown).await;
            return;
        }
        let what = match self.counts.active {
            0 => "nothing is running".to_owned(),
            active => format!("killing {active} running tasks, once more to leave at once"),
        };
        self.progress.say(&format!("interrupted: {what}"));
        self.order(Order::Interrupt).await;
    }

    fn look(&mut self) {
        let (operator, master) = (self.operator.take(), self.master.clone());
        // A master that does not answer now is the driver's to reconnect to; the next look is a second away.
        self.looks.spawn(async move { capacity::sizes(operator, &master).await.ok() });
    }

    /// Whether an agent could ever run what waits.
    async fn compare(&mut self, looked: Option<(Operator, Vec<Size>)>) {
        let Some((operator, agents)) = looked else { return };
        self.operator = Some(operator);
        let now = self.started_at + self.started.elapsed();
        let mut given_up = Vec::new();
        for (class, (together, watch)) in &mut self.watches {
            let stage = &self.job.stages()[class.stage];
            let of_stage = match stage.name.as_str() {
                "" => String::new(),
                name => format!("stage {name}: "),
            };
            match watch.look((&stage.resources(class.step), *together), &agents, self.launched, now) {
                None => {}
                Some(Advice::Say(what)) => self.progress.say(&format!("{of_stage}{what}")),
                Some(Advice::GiveUp(why)) => {
                    self.progress.say(&format!("{of_stage}{why}"));
                    given_up.push((*class, why));
                }
            }
            if agents.is_empty() {
                // That there is none is said once, not for each size.
                break;
            }
        }
        for (class, why) in given_up {
            self.order(Order::GiveUp(class, why)).await;
        }
    }

    /// The few orders of a run never fill the driver's queue, so this does not wait while the driver is not polled.
    async fn order(&self, order: Order) {
        // A driver that has ended says why by itself.
        _ = self.handle.send(order).await;
    }
}

pub(crate) fn exit_code(report: &Report, outputs_asked: bool) -> u8 {
    match report.outcome.as_str() {
        "interrupted" => INTERRUPTED,
        // Whoever asked for the outputs and did not get them all must not take the job for done.
        _ if report.totals.failed > 0 || outputs_asked && report.outputs_missing() > 0 => FAILED,
        _ => SUCCEEDED,
    }
}

/// Writes the summary. That whoever read it has gone, as in `… | head -1`, is no error.
fn show(report: &Report, args: &RunArgs) -> std::io::Result<()> {
    let text = match args.output {
        Format::Text => summary::render(report, args.all, comfy_table::Table::new().width()),
        Format::Json => {
            let json = serde_json::to_string_pretty(report);
            json.expect("a report has texts as keys and finite numbers") + "\n"
        }
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

pub(crate) fn wall_clock() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time::ZERO + since
}

/// It is asked to leave agents whose machines will be taken away.
fn options() -> FrameworkOptions {
    Options::new().capability(Capability::InverseOffers).build()
}
