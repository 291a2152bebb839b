//! The scheduler of a queue: jobs of several users in one framework.
//!
//! It is built of the same parts as that of one job: each job is a [`JobState`](crate::state::JobState), and `launch` places tasks; between the two stands the
//! [`Queue`], which says whose turn it is. It is a scheduler of its own, and `apportion batch run` not a queue with one job, because what
//! differs is what each of them is about: there one job that may be open, whose program ends with it; here numbers, users, rights, and jobs
//! that stay when they have ended. What both do the same is in the parts.
//!
//! As there, everything is written down before it is done, and before anybody is told of it.

mod offers;
mod orders;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use apportion_sdk::{
    AgentId, Context, FrameworkId, InverseOffer, Offer, Resources, Scheduler, Stop, Subscription, TaskId,
    TaskStatus, Time, async_trait, protocol::ResourceRequest, store::StoreError,
};
use tokio::sync::mpsc;

use super::{
    entry::{Entry, Phase, job_of},
    event::{Event, Told},
    keep::{Draft, KeptQueue, QueueKeeper},
    order::{Answer, Request},
    view::Waits,
};
use crate::{
    job::Job,
    launch::Gather,
    queue::{JobId, Queue, Settings},
    state::{Attempt, Effect, Outcome},
};

/// Sizes of waiting tasks that are told to the master, in the order in which their jobs came: an operator sees what waits, not a list without end.
const REQUESTS_MAX: usize = 64;

/// How long jobs that have ended are kept, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeping {
    /// So many at the most, with all their users.
    pub jobs: usize,
    /// With so many tasks in all of them together: it is tasks that cost memory.
    pub tasks: usize,
    /// For so long.
    pub time: Duration,
}

impl Default for Keeping {
    fn default() -> Self {
        Self { jobs: 500, tasks: 200_000, time: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// What the scheduler tells the program around it.
#[derive(Debug)]
pub enum News {
    /// Something that people and programs may want to hear of.
    Told(Told),
    /// The output of this attempt is to be fetched; answered by [`Order::Fetched`](super::order::Order::Fetched).
    Fetch {
        /// Of which job.
        id: JobId,
        /// The same.
        job: Arc<Job>,
        /// Of which of its tasks.
        position: usize,
        /// Where it ran.
        attempt: Box<Attempt>,
        /// How it ended.
        outcome: Outcome,
    },
    /// Tasks of these sizes wait, of this job, and of no other; told when that changes.
    Waiting(JobId, Vec<Waits>),
}

/// A queue on its way through a cluster.
pub struct QueueScheduler {
    queue: Queue,
    entries: BTreeMap<JobId, Entry>,
    next: JobId,
    keeping: Keeping,
    keeper: QueueKeeper,
    framework_id: Option<FrameworkId>,
    /// What there is in the cluster, as far as is known.
    total: Resources,
    /// Jobs of which something can be launched now, and those of which something is under way.
    ready: BTreeSet<JobId>,
    active: BTreeSet<JobId>,
    /// When each has something to do.
    due: BTreeSet<(Time, JobId)>,
    /// Those that are over, by when they ended, and how many tasks they have.
    ended: BTreeSet<(Time, JobId)>,
    ended_tasks: usize,
    waits: BTreeMap<String, Waited>,
    news: mpsc::UnboundedSender<News>,
    failure: Option<StoreError>,
    wake_at: Option<Time>,
    gather: Gather,
    /// Something can start that could not before, while offers were refused for others.
    revive: bool,
}

/// How long the jobs of a user waited for their first launch, since this scheduler began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Waited {
    /// How many were launched after at most so many seconds: by the bounds of [`Waited::BOUNDS`], and behind them.
    pub counts: [u64; Waited::BOUNDS.len() + 1],
    /// All together, in seconds.
    pub sum: f64,
    /// Tasks that were launched, each attempt.
    pub attempts: u64,
}

impl Waited {
    /// In seconds.
    pub const BOUNDS: [f64; 8] = [0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0];

    fn add(&mut self, waited: Duration) {
        let seconds = waited.as_secs_f64();
        let bucket = Self::BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(Self::BOUNDS.len());
        self.counts[bucket] += 1;
        self.sum += seconds;
    }
}

/// What a callback has done, and is to be written down, told and asked for.
#[derive(Debug, Default)]
struct Work {
    effects: Vec<(JobId, Effect)>,
    /// Jobs that are not as they were.
    touched: BTreeSet<JobId>,
    draft: Draft,
    /// Outputs to be asked for.
    fetches: Vec<(JobId, usize)>,
    events: Vec<(Option<JobId>, Event)>,
}

impl Work {
    fn add(&mut self, id: JobId, effects: Vec<Effect>) {
        self.touched.insert(id);
        self.effects.extend(effects.into_iter().map(|effect| (id, effect)));
    }
}

impl QueueScheduler {
    /// A queue that goes on where it [was](QueueKeeper::open). Outputs that are not here yet are asked for again.
    pub fn new(
        settings: Settings,
        keeping: Keeping,
        (keeper, kept): (QueueKeeper, KeptQueue),
        news: mpsc::UnboundedSender<News>,
    ) -> Self {
        let mut this = Self {
            queue: Queue::new(settings),
            entries: kept.entries,
            next: kept.next,
            keeping,
            keeper,
            framework_id: kept.framework_id,
            total: Resources::new(),
            ready: BTreeSet::new(),
            active: BTreeSet::new(),
            due: BTreeSet::new(),
            ended: BTreeSet::new(),
            ended_tasks: 0,
            waits: BTreeMap::new(),
            news,
            failure: None,
            wake_at: None,
            gather: Gather::default(),
            revive: false,
        };
        for id in this.entries.keys().copied().collect::<Vec<_>>() {
            let entry = &this.entries[&id];
            match entry.head.ended_at {
                Some(at) => {
                    this.ended.insert((at, id));
                    this.ended_tasks += entry.state.tasks().len();
                }
                None => this.queue.enter(id, entry.head.ticket.clone()),
            }
            for position in entry.unfetched.iter().copied().collect::<Vec<_>>() {
                this.fetch(id, position);
            }
            this.index(id);
        }
        this
    }

    /// Why it ended by itself: what happened could not be written down, and so it did not happen.
    pub fn into_failure(self) -> Option<StoreError> {
        self.failure
    }

    /// Each job that is known, and where it is, in the order of their numbers.
    pub fn jobs(&self) -> impl Iterator<Item = (JobId, Phase, &crate::state::JobState)> {
        self.entries.iter().map(|(id, entry)| (*id, entry.phase(), &entry.state))
    }

    /// True when nothing waits, runs, or is to be fetched.
    pub fn is_idle(&self) -> bool {
        self.queue.tickets().next().is_none()
    }

    fn tell(&self, now: Time, job: Option<JobId>, event: Event) {
        self.send(News::Told(Told { at_us: now.as_micros(), job, event }));
    }

    fn send(&self, news: News) {
        // Nobody listens any more when the program is on its way out; then nobody misses it.
        _ = self.news.send(news);
    }

    fn fetch(&self, id: JobId, position: usize) {
        let entry = &self.entries[&id];
        let Some(end) = entry.state.tasks()[position].end() else { return };
        let Some(attempt) = end.last.clone().map(Box::new) else { return };
        let (job, outcome) = (Arc::clone(&entry.job), end.outcome);
        self.send(News::Fetch { id, job, position, attempt, outcome });
    }

    /// Brings what is asked often in line with a job that has changed.
    fn index(&mut self, id: JobId) {
        let Some(entry) = self.entries.get_mut(&id) else {
            self.ready.remove(&id);
            self.active.remove(&id);
            return;
        };
        let set = |set: &mut BTreeSet<JobId>, on: bool| if on { set.insert(id) } else { set.remove(&id) };
        let others_are = self.ready.iter().any(|other| *other != id);
        set(&mut self.ready, entry.state.wants_offers());
        let sizes: Vec<_> = entry.state.launchable().collect();
        // What others have refused may do for this one; when there are no others, the driver asks for offers by itself.
        self.revive |= others_are && sizes.iter().any(|size| !entry.sizes.contains(size));
        entry.sizes = sizes;
        set(&mut self.active, entry.state.counts().active > 0);
        if let Some(at) = entry.due.take() {
            self.due.remove(&(at, id));
        }
        entry.due = entry.state.next_deadline();
        self.due.extend(entry.due.map(|at| (at, id)));
        let waiting: Vec<_> = entry.state.waiting().collect();
        if (&waiting, entry.head.launched_at.is_some()) != (&entry.told.0, entry.told.1) {
            let waits = waiting.iter().map(|waits| Waits::of(entry, *waits)).collect();
            entry.told = (waiting, entry.head.launched_at.is_some());
            _ = self.news.send(News::Waiting(id, waits));
        }
    }

    /// Writes down what a callback has done, then does what it asks for. False when it could not be written: then nothing of it happened.
    /// Every callback ends here.
    fn act(&mut self, cx: &mut Context<'_>, mut work: Work) -> bool {
        let now = cx.now();
        for (id, effect) in &work.effects {
            if let (Effect::Ended(position), Some(entry)) = (effect, self.entries.get_mut(id))
                && entry.lacks_output(*position)
            {
                entry.unfetched.insert(*position);
                work.fetches.push((*id, *position));
            }
        }
        if !work.touched.is_empty() {
            self.gather.moved(now);
        }
        for id in work.touched.clone() {
            self.end_if_over(id, now, &mut work);
        }
        self.forget_old(now, &mut work);
        for id in &work.touched {
            if let Some(entry) = self.entries.get_mut(id) {
                work.draft.tasks(*id, &mut entry.state);
            }
        }
        if self.failure.is_none() {
            self.failure = self.keeper.save(std::mem::take(&mut work.draft)).err();
        }
        if self.failure.is_some() {
            // Nothing that this callback answers is sent: no launch, no acknowledgement.
            cx.stop(Stop::Abort);
            return false;
        }
        let fetches = std::mem::take(&mut work.fetches);
        self.do_effects(cx, work);
        fetches.into_iter().for_each(|(id, position)| self.fetch(id, position));
        self.ask(cx);
        true
    }

    /// A job is over when its tasks have ended and their outputs are here.
    fn end_if_over(&mut self, id: JobId, now: Time, work: &mut Work) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.head.ended_at.is_some() || !entry.state.is_done() || !entry.unfetched.is_empty() {
            return;
        }
        entry.head.ended_at = Some(now);
        entry.note = entry.outputs_missing();
        work.draft.head(id, &entry.head);
        self.queue.leave(id);
        self.ended.insert((now, id));
        self.ended_tasks += entry.state.tasks().len();
        let (counts, outcome) = (entry.state.counts(), entry.phase().name());
        let (succeeded, skipped, failed) = (counts.succeeded, counts.skipped, counts.failed);
        work.events.push((Some(id), Event::Ended { outcome, succeeded, skipped, failed }));
    }

    /// Forgets the oldest of those that are over, while there are too many or they are too old.
    fn forget_old(&mut self, now: Time, work: &mut Work) {
        while let Some(&(at, id)) = self.ended.first() {
            let too_many = self.ended.len() > self.keeping.jobs || self.ended_tasks > self.keeping.tasks;
            // The newest one is kept however large it is: somebody waits for its end.
            if now.since(at) < self.keeping.time && (!too_many || self.ended.len() == 1) {
                break;
            }
            self.ended.remove(&(at, id));
            if let Some(entry) = self.entries.remove(&id) {
                self.ended_tasks -= entry.state.tasks().len();
                work.draft.forget(id, &entry);
            }
            work.touched.insert(id);
            work.events.push((Some(id), Event::Forgotten));
        }
    }

    fn do_effects(&mut self, cx: &mut Context<'_>, work: Work) {
        let now = cx.now();
        for (id, effect) in work.effects {
            let name = |position| self.entries.get(&id).map(|entry| entry.job.task_name(position));
            match effect {
                Effect::Kill(task_id) => cx.kill(&task_id, None),
                Effect::Again { position, why } => {
                    let task = name(position).unwrap_or_default();
                    self.tell(now, Some(id), Event::Again { task, why });
                }
                Effect::Copy { position, why } => {
                    let task = name(position).unwrap_or_default();
                    self.tell(now, Some(id), Event::Copy { task, why });
                }
                Effect::Ended(position) => {
                    let end = self.entries.get(&id).and_then(|entry| entry.state.tasks()[position].end());
                    if let (Some(end), Some(task)) = (end, name(position)) {
                        let (outcome, why) = (end.outcome.name(), end.why.clone());
                        self.tell(now, Some(id), Event::TaskEnded { task, outcome, why });
                    }
                }
            }
        }
        work.events.into_iter().for_each(|(job, event)| self.tell(now, job, event));
        work.touched.into_iter().for_each(|id| self.index(id));
    }

    /// Says what waits, for explanations and for whoever must give way, and asks to be woken when something is due.
    fn ask(&mut self, cx: &mut Context<'_>) {
        if let Some(role) = cx.info().roles.first().cloned() {
            let ready = self.ready.iter().filter_map(|id| self.entries.get(id));
            let sizes = ready.flat_map(|entry| entry.state.launchable().map(move |class| (entry, class)));
            let request = |(entry, class): (&Entry, crate::state::Class)| ResourceRequest {
                resources: entry.job.stages()[class.stage].resources(class.step),
                count: u32::try_from(entry.state.ready_count(class)).unwrap_or(u32::MAX),
            };
            cx.request(&role, sizes.take(REQUESTS_MAX).map(request).collect());
        }
        if std::mem::take(&mut self.revive) {
            cx.revive();
        }
        let gather = self.gather.due(self.gang_waits(), cx.now());
        let forget = self.ended.first().map(|(at, _)| *at + self.keeping.time);
        let due = self.due.first().map(|(at, _)| *at).into_iter().chain(gather).chain(forget).min();
        if let Some(due) = due.filter(|due| self.wake_at.is_none_or(|at| *due < at)) {
            self.wake_at = Some(due);
            cx.wake_after(due.since(cx.now()));
        }
    }

    fn gang_waits(&self) -> bool {
        self.ready.iter().filter_map(|id| self.entries.get(id)).any(|entry| entry.state.gang_waits())
    }
}

#[async_trait]
impl Scheduler for QueueScheduler {
    type Message = Request;

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        let Some(framework_id) = cx.framework_id().cloned() else { return };
        let work = self.place(offers, framework_id, cx.now());
        self.act(cx, work);
    }

    /// What runs there ends by itself or is run again elsewhere, and nothing is placed there that would not end before.
    async fn inverse_offers(&mut self, cx: &mut Context<'_>, offers: Vec<InverseOffer>) {
        cx.accept_inverse_offers(offers.into_iter().map(|offer| offer.inverse_offer_id), None);
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        let mut work = Work::default();
        match job_of(status.task_id.as_str()).and_then(|id| Some((id, self.entries.get_mut(&id)?))) {
            Some((id, entry)) => {
                let mut effects = Vec::new();
                entry.state.update(&status, cx.now(), &mut effects);
                work.add(id, effects);
            }
            // Of a job that is forgotten nothing may run.
            None if !status.state.is_terminal() => cx.kill(&status.task_id, None),
            None => {}
        }
        self.act(cx, work);
    }

    async fn subscribed(&mut self, cx: &mut Context<'_>, subscription: Subscription) {
        let mut work = Work::default();
        if self.framework_id.as_ref() != Some(&subscription.framework_id) {
            work.draft.framework_id(Some(subscription.framework_id.clone()));
        }
        self.framework_id = Some(subscription.framework_id.clone());
        let (framework_id, jobs) = (subscription.framework_id.to_string(), self.queue.tickets().count());
        work.events.push((None, Event::Subscribed { framework_id, jobs }));
        for entry in self.entries.values() {
            entry.state.unwanted().for_each(|task_id| cx.kill(task_id, None));
        }
        // Beside the attempts under way, which the SDK asks for by itself: one that was given up may have come back meanwhile.
        cx.reconcile_all();
        // A job may have come to its end when the scheduler before this one was killed.
        work.touched.extend(self.queue.tickets().map(|(id, _)| id));
        self.act(cx, work);
    }

    async fn disconnected(&mut self, cx: &mut Context<'_>, why: String) {
        self.tell(cx.now(), None, Event::Disconnected { why });
    }

    async fn message(&mut self, cx: &mut Context<'_>, Request { order, reply }: Request) {
        let mut work = Work::default();
        let answer = self.obey(order, cx.now(), &mut work);
        // What is answered lasts.
        if self.act(cx, work)
            && let Some(reply) = reply
        {
            // Whoever does not wait any more will see it in the list.
            _ = reply.send(answer);
        }
    }

    async fn woken(&mut self, cx: &mut Context<'_>) {
        self.wake_at = None;
        let (now, mut work) = (cx.now(), Work::default());
        while let Some(&(at, id)) = self.due.first().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, id));
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let mut effects = Vec::new();
            entry.due = None;
            entry.state.tick(now, &mut effects);
            work.add(id, effects);
        }
        if self.gather.is_due(now) && self.gang_waits() {
            // All that is free at once: what was refused for itself may be enough together.
            cx.revive();
        }
        self.act(cx, work);
    }

    /// While everything is launched or pauses, the master makes no offers, and others get them at once.
    fn wants_offers(&self) -> bool {
        !self.ready.is_empty()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        let entries = self.active.iter().filter_map(|id| self.entries.get(id));
        let attempts = entries.flat_map(|entry| entry.state.attempts());
        attempts.map(|attempt| (attempt.id.clone(), Some(attempt.host.agent_id.clone()))).collect()
    }
}

impl std::fmt::Debug for QueueScheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueueScheduler").field("entries", &self.entries).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
