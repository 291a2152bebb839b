//! The program around the scheduler of a queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::Path,
    pin::pin,
    time::Duration,
};

use apportion_sdk::{Driver, Handle, Resources, Stop, lines::Lines, operator::Operator, store::Presence};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};

use super::{
    ServeArgs,
    api::{self, Api, SOCKET},
    event::{Event, Told},
    keep::{KeptQueue, QueueKeeper},
    order::{Answer, Order, Refused, Request},
    peer,
    scheduler::{Keeping, News, QueueScheduler},
    view::Waits,
};
use crate::{
    capacity::{self, Advice, Size, Watch},
    keep::KeepError,
    output::{Fetched, Fetcher},
    queue::{JobId, Settings},
    run::{BatchError, Format, wall_clock},
    state::Class,
};

/// Between two looks at the agents: while something waits, and otherwise.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_IDLE_EVERY: Duration = Duration::from_secs(30);

type Fetches = JoinSet<(JobId, usize, Fetched)>;

/// A queue that is served.
pub(super) struct Program {
    name: String,
    master: String,
    output: Format,
    /// Where events are told: the loop does not wait for whoever reads them.
    lines: Lines,
    shared: bool,
    http: Option<String>,
    handle: Handle<Request>,
    operator: Option<Operator>,
    news: mpsc::UnboundedReceiver<News>,
    news_sender: Option<mpsc::UnboundedSender<News>>,
    fetcher: Fetcher,
    fetches: Fetches,
    /// What was fetched and is not written down yet; and whether some is on its way.
    unkept: Vec<(JobId, usize, Fetched)>,
    keeping: Option<oneshot::Receiver<Result<Answer, Refused>>>,
    /// Looks at the agents for each size of which tasks wait.
    watches: BTreeMap<(JobId, Class), (Waits, Watch)>,
    looks: JoinSet<Option<(Operator, Vec<Size>)>>,
    looked: Option<Instant>,
    /// Jobs of which it was said why they wait.
    noted: BTreeSet<JobId>,
    /// What is kept, and whether it was there when that was last looked at.
    store: Option<(Presence, bool)>,
    /// Of who serves; none before the first subscription.
    framework_id: Option<String>,
}

impl Program {
    pub(super) fn new(args: &ServeArgs, master: &str, handle: Handle<Request>) -> Result<Self, BatchError> {
        // Without a bound, because the scheduler must not wait for the loop, which waits for it; the loop waits for nobody else.
        let (news_sender, news) = mpsc::unbounded_channel();
        let output = args.output;
        let missed = move |events| {
            let event = Event::Missed { events };
            line(output, &Told { at_us: wall_clock().as_micros(), job: None, event })
        };
        Ok(Self {
            name: args.target.name.clone(),
            master: master.to_owned(),
            output,
            lines: Lines::new(std::io::stdout(), missed).map_err(BatchError::Lines)?,
            shared: args.shared,
            http: args.http.clone(),
            handle,
            operator: None,
            news,
            news_sender: Some(news_sender),
            fetcher: Fetcher::new(None),
            fetches: JoinSet::new(),
            unkept: Vec::new(),
            keeping: None,
            watches: BTreeMap::new(),
            looks: JoinSet::new(),
            looked: None,
            noted: BTreeSet::new(),
            store: None,
            framework_id: None,
        })
    }

    /// The scheduler to be driven; made once.
    pub(super) fn scheduler(
        &mut self,
        (settings, keeping): (Settings, Keeping),
        kept: (QueueKeeper, KeptQueue),
    ) -> QueueScheduler {
        let news = self.news_sender.take().expect("a program has one scheduler");
        QueueScheduler::new(settings, keeping, kept, news)
    }

    /// Drives the scheduler to its end.
    pub(super) async fn drive(
        &mut self,
        driver: Driver<Request>,
        scheduler: QueueScheduler,
        folder: &Path,
    ) -> Result<(), BatchError> {
        let ended = self.until_ended(driver, scheduler, folder).await;
        self.lines.flush().await;
        ended
    }

    async fn until_ended(
        &mut self,
        driver: Driver<Request>,
        scheduler: QueueScheduler,
        folder: &Path,
    ) -> Result<(), BatchError> {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(BatchError::Signals)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(BatchError::Signals)?;
        let mut serving = pin!(self.listen(folder).await?);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut signals = 0;
        // One that cannot be asked for is never seen to go.
        self.store = Presence::of(folder).ok().map(|store| (store, true));
        // A task of its own: it goes on while this one waits for room in its queue.
        let mut driving = tokio::spawn(driver.run(scheduler));
        let outcome = loop {
            tokio::select! {
                outcome = &mut driving => break outcome,
                Some(news) = self.news.recv() => self.take(news),
                Some(fetched) = self.fetches.join_next() => {
                    self.unkept.push(fetched.expect("fetching an output does not panic"));
                }
                _ = answered(&mut self.keeping) => self.keeping = None,
                failed = &mut serving => return Err(failed),
                _ = looks.tick() => {
                    self.look();
                    self.look_at_store(folder);
                }
                Some(looked) = self.looks.join_next() => {
                    self.compare(looked.expect("looking does not panic")).await;
                }
                () = signalled(&mut interrupt, &mut terminate) => {
                    signals += 1;
                    // The second time nothing is waited for: the master sees the connection end.
                    if signals > 1 {
                        return Ok(());
                    }
                    // A driver that has ended says why by itself.
                    _ = self.handle.stop(Stop::Disconnect).await;
                }
            }
            if !self.unkept.is_empty() && self.keeping.is_none() {
                let (request, answer) = Request::new(Order::Fetched(std::mem::take(&mut self.unkept)));
                self.keeping = Some(answer);
                _ = self.handle.send(request).await;
            }
        };
        while let Ok(news) = self.news.try_recv() {
            self.take(news);
        }
        let outcome = outcome.expect("the scheduler does not panic")?;
        match outcome.scheduler.into_failure() {
            Some(error) => Err(KeepError::Store(error).into()),
            None if self.store.as_ref().is_some_and(|(store, _)| !store.is_there()) => {
                Err(BatchError::Gone { folder: folder.to_owned(), framework_id: self.framework() })
            }
            None => Ok(()),
        }
    }

    /// Says at once when what is kept is removed, and when it is there again.
    fn look_at_store(&mut self, folder: &Path) {
        let Some((store, was_there)) = &mut self.store else { return };
        let is_there = store.is_there();
        if std::mem::replace(was_there, is_there) == is_there {
            return;
        }
        let (folder, framework_id) = (folder.display(), self.framework());
        self.say(&match is_there {
            true => format!("{folder} is there again, with all that was kept meanwhile"),
            false => format!(
                "{folder} was removed or replaced while this runs: nothing is kept from now on, and no order arrives, so that nobody can go on \
                 later; put it back if you have it, or end this framework and its tasks with `apportion teardown {framework_id}` and begin anew"
            ),
        });
    }

    fn framework(&self) -> String {
        self.framework_id.clone().unwrap_or_else(|| "FRAMEWORK".to_owned())
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.framework_id.is_some()
    }

    /// Begins to take orders. What is given ends only when that is not possible any more.
    async fn listen(&self, folder: &Path) -> Result<impl Future<Output = BatchError> + use<>, BatchError> {
        let socket = folder.join(SOCKET);
        let refuse = |socket: &Path| {
            let place = socket.display().to_string();
            move |source| BatchError::Listen { place, source }
        };
        let listener = api::listen(&socket, self.shared).map_err(refuse(&socket))?;
        let owner = peer::owner(&socket).map_err(refuse(&socket))?;
        let api = Api { scheduler: self.handle.clone(), owner };
        let (mut looking, mut address) = (None, None);
        if let Some(http) = &self.http {
            let refuse = |source| BatchError::Listen { place: http.clone(), source };
            let listener = TcpListener::bind(http).await.map_err(refuse)?;
            address = Some(listener.local_addr().map_err(refuse)?.to_string());
            looking = Some(api::serve_looks(listener, api.clone()));
        }
        self.tell(&Told {
            at_us: wall_clock().as_micros(),
            job: None,
            event: Event::Serving { socket: socket.display().to_string(), http: address },
        });
        Ok(async move {
            let looking = async {
                match looking {
                    Some(looking) => looking.await,
                    None => std::future::pending().await,
                }
            };
            let ended = tokio::select! {
                ended = api::serve(listener, api) => ended,
                ended = looking => ended,
            };
            let source = ended.err().unwrap_or_else(|| std::io::ErrorKind::ConnectionAborted.into());
            BatchError::Listen { place: socket.display().to_string(), source }
        })
    }

    fn take(&mut self, news: News) {
        match news {
            News::Told(told) => {
                if let Event::Subscribed { framework_id, .. } = &told.event {
                    self.framework_id = Some(framework_id.clone());
                }
                self.tell(&told);
            }
            News::Fetch { id, job, position, attempt, outcome } => {
                let fetcher = self.fetcher.into_folder(job.output.clone());
                let fetching = fetcher.fetch(&job, position, (*attempt, outcome));
                self.fetches.spawn(async move { (id, position, fetching.await) });
            }
            News::Waiting(id, waits) => {
                // How long nothing was large enough for a size counts anew when it waits again.
                let wanted = |class: &Class| waits.iter().any(|wait| wait.class == *class);
                self.watches.retain(|(job, class), _| *job != id || wanted(class));
                for wait in waits {
                    let watch = Watch::of_queue(wait.waits);
                    let (known, _) =
                        self.watches.entry((id, wait.class)).or_insert_with(|| (wait.clone(), watch));
                    *known = wait;
                }
            }
        }
    }

    /// Looks at the agents, apart from the loop: a master that hangs must not stop anything.
    fn look(&mut self) {
        let every = if self.watches.is_empty() { LOOK_IDLE_EVERY } else { LOOK_EVERY };
        if !self.looks.is_empty() || self.looked.is_some_and(|at| at.elapsed() < every) {
            return;
        }
        self.looked = Some(Instant::now());
        let (operator, master) = (self.operator.take(), self.master.clone());
        // A master that does not answer now is the driver's to reconnect to.
        self.looks.spawn(async move { capacity::sizes(operator, &master).await.ok() });
    }

    /// Whether an agent could ever run what waits, and all of them a gang; and how much there is, for the shares.
    async fn compare(&mut self, looked: Option<(Operator, Vec<Size>)>) {
        let Some((operator, agents)) = looked else { return };
        self.operator = Some(operator);
        let mut total = Resources::new();
        agents.iter().for_each(|agent| total += &agent.total);
        let mut orders = vec![Order::Total(total)];
        let mut notes: BTreeMap<JobId, String> = BTreeMap::new();
        for ((id, class), (wait, watch)) in &mut self.watches {
            let of_stage = match wait.stage.as_str() {
                "" => String::new(),
                name => format!("stage {name}: "),
            };
            if let Some(Advice::GiveUp(why)) =
                watch.look((&wait.needs, wait.together), &agents, wait.launched, wall_clock())
            {
                orders.push(Order::GiveUp(*id, *class, format!("{of_stage}{why}")));
            }
            // Said long before the verdict has stood for long enough to act on it.
            let note = match watch.verdict() {
                Some(why) => Some(format!("{of_stage}{why}")),
                None if agents.is_empty() => Some("no agent is registered".to_owned()),
                None => None,
            };
            if let Some(note) = note {
                notes.entry(*id).or_insert(note);
            }
        }
        for id in self.noted.difference(&notes.keys().copied().collect()) {
            orders.push(Order::Note(*id, None));
        }
        self.noted = notes.keys().copied().collect();
        orders.extend(notes.into_iter().map(|(id, note)| Order::Note(id, Some(note))));
        for order in orders {
            // A driver that has ended says why by itself.
            _ = self.handle.send(order.into()).await;
        }
    }

    fn tell(&self, told: &Told) {
        if self.output == Format::Json || told.event.is_for_people() {
            self.lines.say(line(self.output, told));
        }
    }

    /// Says something beside the events, on standard error.
    pub(super) fn say(&self, what: &str) {
        _ = writeln!(std::io::stderr().lock(), "{}: {what}", self.name);
    }
}

fn line(output: Format, told: &Told) -> String {
    match output {
        Format::Text => told.to_string(),
        Format::Json => serde_json::to_string(told).expect("events have texts and numbers only"),
    }
}

/// When what is on its way to the scheduler has been answered, in whatever way.
async fn answered(keeping: &mut Option<oneshot::Receiver<Result<Answer, Refused>>>) {
    match keeping {
        Some(answer) => _ = answer.await,
        None => std::future::pending().await,
    }
}

async fn signalled(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
