//! The scheduler: what the SDK tells it goes into the job's state, what the state wants done goes out through the SDK.
//!
//! This is the part to read first when writing a framework of your own. Where a task goes is the decision of `launch`, every
//! other one the state machine's; it never waits, and it never holds an offer, because an offer that goes out of scope
//! answers itself.

use std::sync::Arc;

use apportion_sdk::{
    AgentId, Context, FrameworkId, InverseOffer, Offer, Resources, Scheduler, Stop, Subscription, TaskId,
    TaskStatus, Time, async_trait, protocol::ResourceRequest, store::StoreError,
};
use tokio::sync::mpsc;

use crate::{
    job::Job,
    keep::Keeper,
    launch::{Gather, Ground, Placed},
    output::Fetched,
    state::{Class, Counts, Effect, End, JobState},
};

/// What the program around the scheduler may tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// End the job: kill what runs, launch nothing more.
    Interrupt,
    /// No agent is large enough for what waits of this size, or all of them for a gang, and why.
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
    /// Tasks of these sizes wait, and of no other, each with how many are to find room together; told when that changes.
    Waiting(Vec<(Class, usize)>),
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

/// A job on its way through a cluster.
#[derive(Debug)]
pub struct BatchScheduler {
    job: Arc<Job>,
    state: JobState,
    /// Never full: there are at most a few pieces of news for each attempt, and nobody stops reading before the end.
    news: mpsc::UnboundedSender<News>,
    told: Counts,
    gather: Gather,
    told_waiting: Vec<(Class, usize)>,
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
        Self {
            job,
            state,
            news,
            told,
            gather: Gather::default(),
            told_waiting,
            keeper: None,
            failure: None,
            wake_at: None,
        }
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
            self.gather.moved(cx.now());
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
        let gather = self.gather.due(self.state.gang_waits(), cx.now());
        let due = self.state.next_deadline().into_iter().chain(gather).min();
        if let Some(due) = due.filter(|due| self.wake_at.is_none_or(|at| *due < at)) {
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
}

#[async_trait]
impl Scheduler for BatchScheduler {
    type Message = Order;

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        // Offers are made to those who are subscribed.
        let Some(framework_id) = cx.framework_id().cloned() else { return };
        let (mut ground, mut effects) = (Ground::new(offers, framework_id, cx.now()), Vec::new());
        // Stages have sizes of their own: what is too small for one is offered to the next.
        for class in self.state.launchable().collect::<Vec<_>>() {
            if self.state.is_gang(class.stage) {
                while ground.launch_gang(&self.job, &mut self.state, class.stage, &mut effects)
                    == Placed::Rejected
                {}
                continue;
            }
            let demand = ground.demand(&self.job, class);
            while ground.launch(&self.job, &mut self.state, class, &demand, &mut effects) != Placed::Nowhere {
            }
        }
        ground.launch_copies(&self.job, &mut self.state);
        let wanted = self.state.launchable().next().map(|class| self.resources(class));
        ground.give_back(wanted.as_ref());
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
        if self.gather.is_due(cx.now()) && self.state.gang_waits() {
            // All that is free at once: what was refused for itself may be enough together.
            cx.revive();
        }
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
