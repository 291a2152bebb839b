//! The scheduler: what the SDK tells it goes into the job's state, what the state wants done goes out through the SDK.
//!
//! This is the part to read first when writing a framework of your own. It makes one decision, where a task goes, and leaves
//! every other to the state machine; it never waits, and it never holds an offer, because an offer that goes out of scope
//! answers itself.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use apportion_sdk::{
    AgentId, Context, DeclineReason, FrameworkId, InverseOffer, Network, Offer, Resources, Scheduler, Stop,
    Subscription, Task as Description, TaskId, TaskInfo, TaskStatus, Time, async_trait, limits, placement,
    protocol::ResourceRequest, store::StoreError,
};
use tokio::sync::mpsc;

use crate::{
    job::{Job, Stage},
    keep::Keeper,
    output::Fetched,
    state::{Class, Counts, Effect, End, Host, JobState},
};

/// What the program around the scheduler may tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// End the job: kill what runs, launch nothing more.
    Interrupt,
    /// No agent is large enough for what waits of this size, and why.
    GiveUp(Class, String),
    /// One more task for each of these elements, all or none; only for a job that is [open](Job::open).
    Add(Vec<String>),
    /// No more elements will come: the job is done when its tasks have ended.
    Close,
    /// This was fetched of outputs, by position; only for a job that is kept, and answered by [`News::OutputsKept`].
    Fetched(Vec<(usize, Fetched)>),
    /// Everything is done, the outputs are fetched: end the framework.
    ///
    /// Not done by the scheduler itself when the last task ends, because an agent may throw away the sandboxes of a framework
    /// that is gone.
    Leave,
}

/// What the scheduler tells the program around it, for people and for fetching outputs.
#[derive(Debug)]
pub enum News {
    /// The subscription stands, as this framework.
    Subscribed(FrameworkId),
    /// The connection is lost, and why; the SDK is opening a new one.
    Disconnected(String),
    /// Tasks moved on.
    Moved(Counts),
    /// Tasks of these sizes wait, and of no other; told when that changes.
    Waiting(Vec<Class>),
    /// A task will run again, and why.
    Again {
        /// Its name.
        name: String,
        /// For people.
        why: String,
    },
    /// A second copy of a task is wanted, and why.
    Copy {
        /// Its name.
        name: String,
        /// For people.
        why: String,
    },
    /// A task has ended.
    Ended {
        /// Its position in the job.
        position: usize,
        /// How.
        end: Box<End>,
    },
    /// What was fetched of outputs is written down.
    OutputsKept,
    /// Elements were not added, and why.
    NotAdded(String),
    /// The framework is being ended, and this is what is known of the job. Told before the teardown, not after it: what was
    /// done must not be lost because the master does not confirm the end.
    Leaving(Box<JobState>),
}

/// How long before its machine is taken away nothing without a time limit is placed on an agent.
const WINDOW_NEAR: Duration = Duration::from_secs(3600);

/// For how long an agent is not offered again on which nothing would end in time.
const LATE_REFUSED: Duration = Duration::from_secs(60);

/// A job on its way through a cluster.
#[derive(Debug)]
pub struct BatchScheduler {
    job: Arc<Job>,
    state: JobState,
    /// Never full: there are at most a few pieces of news for each attempt, and nobody stops reading before the end.
    news: mpsc::UnboundedSender<News>,
    told: Counts,
    told_waiting: Vec<Class>,
    /// Where the job is written down, if anywhere.
    keeper: Option<Keeper>,
    /// Why it ended by itself: what happened could not be written down.
    failure: Option<StoreError>,
    /// The wake-up that is under way, so that not each callback asks for one more.
    wake_at: Option<Time>,
}

impl BatchScheduler {
    /// All tasks that the job has so far, none launched, and nothing written down: a program that dies begins the job anew.
    pub fn new(job: Arc<Job>, news: mpsc::UnboundedSender<News>) -> Self {
        let state = JobState::of(&job);
        let (told, told_waiting) = (Counts::default(), Vec::new());
        Self { job, state, news, told, told_waiting, keeper: None, failure: None, wake_at: None }
    }

    /// A job that goes on where it [was](Keeper::open), and is written down as it goes. Ends that are known already are told again.
    pub fn kept(
        job: Arc<Job>,
        (keeper, state): (Keeper, JobState),
        news: mpsc::UnboundedSender<News>,
    ) -> Self {
        let this = Self { state, keeper: Some(keeper), ..Self::new(job, news) };
        let ends = this.state.tasks().iter().enumerate();
        for (position, end) in ends.filter_map(|(position, task)| Some((position, task.end()?.clone()))) {
            this.tell(News::Ended { position, end: Box::new(end) });
        }
        this
    }

    /// Why it ended by itself: what happened could not be written down, and so it did not happen.
    pub fn into_failure(self) -> Option<StoreError> {
        self.failure
    }

    /// What is known of the job.
    pub fn state(&self) -> &JobState {
        &self.state
    }

    /// Takes more elements into the job, and a task for each into its state.
    fn add(&mut self, elements: Vec<String>) {
        if !self.state.is_open() {
            let why =
                "the job takes no more elements: it was not described as open, was closed, or interrupted";
            return self.tell(News::NotAdded(why.to_owned()));
        }
        let before = self.job.tasks();
        // Whoever else holds the job goes on seeing it as it began.
        match Arc::make_mut(&mut self.job).extend(elements) {
            Ok(()) => self.state.add((before..self.job.tasks()).map(|position| self.job.task_name(position))),
            Err(error) => self.tell(News::NotAdded(error.to_string())),
        }
    }

    /// One attempt as the agent is to run it.
    fn describe(&self, position: usize, task_id: TaskId, resources: &Resources) -> Result<TaskInfo, String> {
        let stage = self.job.stage_of(position);
        let mut task = Description::new(task_id.as_str())
            .name(self.job.task_name(position))
            .command(self.job.argv(position))
            .resources(resources)
            .label("job", self.job.name.as_str());
        if !stage.name.is_empty() {
            task = task.label("stage", stage.name.as_str());
        }
        for (name, value) in self.job.env(position) {
            task = task.env(name, value);
        }
        for artifact in self.job.artifacts(position) {
            task = task.artifact(artifact);
        }
        // A task sees its host's files but has a `/tmp` of its own: this shows it its file wherever that lies.
        for file in self.job.files(position) {
            task = task.volume(file);
        }
        if stage.exclusive_cpus {
            task = task.exclusive_cpus();
        }
        if let Some(pids) = stage.pids_max {
            task = task.pids_max(pids);
        }
        if let Some(io) = stage.io {
            task = task.io(io);
        }
        if let Some(grace) = stage.kill_grace {
            task = task.kill_grace(grace);
        }
        if let Some(image) = &stage.image {
            task = task.image(image.to_string());
        }
        if let Some(user) = &stage.user {
            task = task.user(user);
        }
        if let Some(network) = &stage.network {
            task = task.network(Network::new(network));
        }
        // The scheduler ends what runs too long, with its grace. Should it be away then, the agent does that a moment later.
        if let Some(timeout) = stage.policy.timeout {
            let grace = stage.kill_grace.unwrap_or(limits::KILL_GRACE_DEFAULT);
            task = task.max_completion((timeout + grace).min(limits::MAX_COMPLETION_MAX));
        }
        task.build().map_err(|error| error.to_string())
    }

    /// Writes down something, if anything is to be; when that fails the run ends, and the tasks run on.
    ///
    /// It blocks for as long as the disk takes: nothing may go on before it is written anyway.
    fn keep(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Keeper, &mut JobState) -> Result<(), StoreError>,
    ) -> bool {
        if let (None, Some(keeper)) = (&self.failure, &mut self.keeper)
            && let Err(error) = write(keeper, &mut self.state)
        {
            self.failure = Some(error);
            // Nothing that this callback answers is sent: no launch, no acknowledgement.
            cx.stop(Stop::Abort);
        }
        self.failure.is_none()
    }

    /// Does what the state asks for, once it is written down. Every callback ends here, so that none can forget a kill or a timer.
    fn act(&mut self, cx: &mut Context<'_>, effects: Vec<Effect>) {
        if !self.keep(cx, Keeper::save) {
            return;
        }
        for effect in effects {
            match effect {
                Effect::Kill(task_id) => cx.kill(&task_id, None),
                Effect::Again { position, why } => {
                    self.tell(News::Again { name: self.job.task_name(position), why })
                }
                Effect::Copy { position, why } => {
                    self.tell(News::Copy { name: self.job.task_name(position), why })
                }
                Effect::Ended(position) => {
                    let end = self.state.tasks()[position].end().expect("it has ended").clone();
                    self.tell(News::Ended { position, end: Box::new(end) });
                }
            }
        }
        let counts = self.state.counts();
        if counts != self.told {
            self.told = counts;
            self.tell(News::Moved(counts));
        }
        let waiting: Vec<_> = self.state.waiting().collect();
        if waiting != self.told_waiting {
            self.told_waiting.clone_from(&waiting);
            self.tell(News::Waiting(waiting));
        }
        // What waits is known to the master: for explanations, and for whoever must give way.
        if let Some(role) = cx.info().roles.first().cloned() {
            let request = |class| {
                let count = u32::try_from(self.state.ready_count(class)).unwrap_or(u32::MAX);
                ResourceRequest { resources: self.resources(class), count }
            };
            cx.request(&role, self.state.ready().map(request).collect());
        }
        if let Some(due) = self.state.next_deadline().filter(|due| self.wake_at.is_none_or(|at| *due < at)) {
            self.wake_at = Some(due);
            cx.wake_after(due.since(cx.now()));
        }
    }

    fn tell(&self, news: News) {
        // Nobody listens any more when the program is on its way out; then nobody misses it.
        _ = self.news.send(news);
    }

    /// What a task of this size asks for.
    fn resources(&self, class: Class) -> Resources {
        self.job.stages()[class.stage].resources(class.step)
    }

    /// Launches what is ready of one size on these offers; what is left of them is given back.
    fn place(
        &mut self,
        class: Class,
        mut offers: Vec<Offer>,
        framework_id: &FrameworkId,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Vec<Offer> {
        let resources = self.resources(class);
        while let Some(position) = self.state.next_ready(class) {
            // Best fit fills one agent before it touches the next: what stays whole can still take someone's large task.
            let Some(best) = placement::best_fit(&offers, &resources) else { break };
            let task = match self.describe(position, self.state.next_id(position), &resources) {
                Ok(task) => task,
                Err(why) => {
                    self.state.reject(position, why, effects);
                    continue;
                }
            };
            let offer = &mut offers[best];
            let host = host(offer, framework_id);
            match offer.launch(task) {
                Ok(_) => self.state.launched(position, host, now),
                // It fits by its resources, so this accept carries as many tasks as one may. Dropping the offer sends it.
                Err(_full) => drop(offers.swap_remove(best)),
            }
        }
        offers
    }

    /// Launches second copies of what takes long, each on another agent than the first.
    fn place_copies(&mut self, mut offers: Vec<Offer>, framework_id: &FrameworkId, now: Time) -> Vec<Offer> {
        for position in self.state.copies_wanted().clone() {
            let (stage, step) = (self.job.stage_of(position), self.state.tasks()[position].memory_step);
            let resources = stage.resources(step);
            let runs_on = self.state.runs_on(position).cloned();
            let (mut others, rest): (Vec<Offer>, Vec<Offer>) = offers.into_iter().partition(|offer| {
                Some(offer.agent_id()) != runs_on.as_ref() && ends_in_time(stage, offer, now)
            });
            let task = self.describe(position, self.state.next_id(position), &resources);
            if let (Some(best), Ok(task)) = (placement::best_fit(&others, &resources), task) {
                let offer = &mut others[best];
                let host = host(offer, framework_id);
                if offer.launch(task).is_ok() {
                    self.state.copied(position, host, now);
                }
            }
            others.extend(rest);
            offers = others;
        }
        offers
    }

    /// Why what is left of an offer is given back; the master counts these and shows them to operators.
    fn leftover(&self, offer: &Offer) -> DeclineReason {
        let Some(class) = self.state.ready().next() else { return DeclineReason::NO_WORK };
        let missing = offer.missing(&self.resources(class));
        if missing.is_empty() {
            return DeclineReason::NO_WORK;
        }
        let names: Vec<_> = missing.iter().map(|(name, _)| name.as_str()).collect();
        DeclineReason::TOO_SMALL.with(names.join(", "))
    }
}

fn host(offer: &Offer, framework_id: &FrameworkId) -> Host {
    Host {
        agent_id: offer.agent_id().clone(),
        hostname: offer.hostname().to_owned(),
        address: offer.address().to_owned(),
        framework_id: framework_id.clone(),
    }
}

/// True when a task may be placed where this agent's machine is to be taken away: it ends before, by its stage's time limit. One without a
/// limit is placed until an hour before: windows may be weeks away.
fn ends_in_time(stage: &Stage, offer: &Offer, now: Time) -> bool {
    let grace = stage.kill_grace.unwrap_or(limits::KILL_GRACE_DEFAULT);
    let longest = stage.policy.timeout.map_or(WINDOW_NEAR, |timeout| timeout + grace);
    placement::ends_in_time(offer, now, Some(longest))
}

#[async_trait]
impl Scheduler for BatchScheduler {
    type Message = Order;

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        // Offers are made to those who are subscribed.
        let Some(framework_id) = cx.framework_id().cloned() else { return };
        let (now, mut effects) = (cx.now(), Vec::new());
        let mut offers = Offer::by_agent(offers);
        let mut late: BTreeSet<AgentId> = offers.iter().map(|offer| offer.agent_id().clone()).collect();
        // Stages have sizes of their own: what is too small for one is offered to the next.
        for class in self.state.ready().collect::<Vec<_>>() {
            let stage = &self.job.stages()[class.stage];
            let (timely, rest): (Vec<Offer>, Vec<Offer>) =
                offers.into_iter().partition(|offer| ends_in_time(stage, offer, now));
            timely.iter().for_each(|offer| _ = late.remove(offer.agent_id()));
            offers = self.place(class, timely, &framework_id, now, &mut effects);
            offers.extend(rest);
        }
        offers = self.place_copies(offers, &framework_id, now);
        for offer in offers {
            if self.state.wants_offers() && late.contains(offer.agent_id()) {
                // The window only comes nearer; should it change, the agent is offered with another.
                let why = "its machine is taken away before a task ends";
                offer.decline_for(LATE_REFUSED, DeclineReason::CONSTRAINT.with(why));
            } else {
                let reason = self.leftover(&offer);
                offer.decline(reason);
            }
        }
        self.act(cx, effects);
    }

    /// What runs there ends by itself or is run again elsewhere, and nothing is placed there that would not end before.
    async fn inverse_offers(&mut self, cx: &mut Context<'_>, offers: Vec<InverseOffer>) {
        cx.accept_inverse_offers(offers.into_iter().map(|offer| offer.inverse_offer_id), None);
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        let mut effects = Vec::new();
        self.state.update(&status, cx.now(), &mut effects);
        self.act(cx, effects);
    }

    async fn subscribed(&mut self, cx: &mut Context<'_>, subscription: Subscription) {
        let id = Some(subscription.framework_id.clone());
        if !self.keep(cx, |keeper, _| keeper.save_framework_id(id)) {
            return;
        }
        self.tell(News::Subscribed(subscription.framework_id));
        self.state.unwanted().for_each(|task_id| cx.kill(task_id, None));
        // Beside the attempts under way, which the SDK asks for by itself: one that was given up may have come back meanwhile.
        cx.reconcile_all();
        self.act(cx, Vec::new());
    }

    async fn disconnected(&mut self, _cx: &mut Context<'_>, why: String) {
        self.tell(News::Disconnected(why));
    }

    async fn message(&mut self, cx: &mut Context<'_>, order: Order) {
        let mut effects = Vec::new();
        match order {
            Order::Interrupt => self.state.interrupt(cx.now(), &mut effects),
            Order::GiveUp(class, why) => self.state.give_up(class, &why, &mut effects),
            Order::Add(elements) => self.add(elements),
            Order::Close => self.state.close(),
            Order::Fetched(outputs) => {
                if !self.keep(cx, |keeper, _| keeper.save_outputs(&outputs)) {
                    return;
                }
                self.tell(News::OutputsKept);
            }
            Order::Leave => {
                self.tell(News::Leaving(Box::new(self.state.clone())));
                cx.stop(Stop::Teardown);
            }
        }
        self.act(cx, effects);
    }

    async fn woken(&mut self, cx: &mut Context<'_>) {
        self.wake_at = None;
        let mut effects = Vec::new();
        self.state.tick(cx.now(), &mut effects);
        self.act(cx, effects);
    }

    /// While everything is launched or pauses, the master makes no offers to this job, and others get them at once.
    fn wants_offers(&self) -> bool {
        self.state.wants_offers()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        let attempts = self.state.attempts();
        attempts.map(|attempt| (attempt.id.clone(), Some(attempt.host.agent_id.clone()))).collect()
    }
}

#[cfg(test)]
mod tests;
