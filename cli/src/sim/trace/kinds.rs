//! The bundled frameworks, as a replay takes them.

use std::{collections::BTreeSet, sync::Arc};

use apportion_batch::{
    job::{Job, TASKS_MAX},
    scheduler::{BatchScheduler, Order as BatchOrder},
};
use apportion_sdk::{
    AgentId, Context, DeclineReason, Offer, OfferId, Refused, Scheduler, Subscription, TaskId, TaskStatus,
    async_trait, store::Memory,
};
use apportion_service::{
    scheduler::{Order as ServiceOrder, Request, ServiceScheduler},
    spec::{REPLICAS_MAX, Spec},
    state::Table,
};
use apportion_sim::trace::{Ends, Frameworks, Group, Wanted, nodes::MODEL};
use tokio::sync::mpsc;

/// What each task runs; a replay has no processes.
const COMMAND: [&str; 1] = ["task"];

/// A job for each group, which takes more tasks as they come.
pub(super) struct Batch;

impl Frameworks for Batch {
    type Scheduler = OnModels<BatchScheduler>;

    fn kind(&self) -> &'static str {
        "batch"
    }

    fn ends(&self) -> Ends {
        Ends::Itself
    }

    fn wanted_max(&self) -> u32 {
        u32::try_from(TASKS_MAX).unwrap_or(u32::MAX)
    }

    fn scheduler(&mut self, group: &Group) -> Result<Self::Scheduler, String> {
        let job = Job::builder(&group.name).command(COMMAND).resources(group.resources.clone()).open();
        let job = job.build().map_err(|error| error.to_string())?;
        // Nobody listens to the news: the replay looks at the master.
        let (news, _) = mpsc::unbounded_channel();
        Ok(OnModels { scheduler: BatchScheduler::new(Arc::new(job), news), models: group.models.clone() })
    }

    fn order(&self, wanted: Wanted) -> BatchOrder {
        BatchOrder::Add((wanted.before..wanted.now).map(|number| number.to_string()).collect())
    }
}

/// A service for each group, with more and fewer replicas.
pub(super) struct Service;

impl Frameworks for Service {
    type Scheduler = OnModels<ServiceScheduler<Memory>>;

    fn kind(&self) -> &'static str {
        "service"
    }

    fn ends(&self) -> Ends {
        Ends::WhenTold
    }

    fn wanted_max(&self) -> u32 {
        REPLICAS_MAX
    }

    fn scheduler(&mut self, group: &Group) -> Result<Self::Scheduler, String> {
        let spec = Spec {
            replicas: 0,
            resources: group.resources.clone(),
            role: group.role.to_string(),
            ..Spec::new(group.name.clone(), COMMAND)
        };
        let spec = spec.checked().map_err(|error| error.to_string())?;
        let (events, _) = mpsc::unbounded_channel();
        let (specs, table) = (vec![Arc::new(spec)], Table::default());
        let scheduler = ServiceScheduler::new(group.name.clone(), specs, Memory::default(), table, events);
        Ok(OnModels { scheduler, models: group.models.clone() })
    }

    fn order(&self, wanted: Wanted) -> Request {
        ServiceOrder::Scale { service: None, replicas: wanted.now }.into()
    }
}

/// A scheduler that is shown only offers of machines whose model of gpu is among these, or all when there is none: the bundled
/// frameworks themselves do not choose by attributes.
pub(super) struct OnModels<S> {
    scheduler: S,
    models: BTreeSet<String>,
}

#[async_trait]
impl<S: Scheduler> Scheduler for OnModels<S> {
    type Message = S::Message;

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        let allowed = |offer: &Offer| {
            self.models.is_empty() || offer.attribute(MODEL).is_some_and(|model| self.models.contains(model))
        };
        let (allowed, others): (Vec<Offer>, Vec<Offer>) = offers.into_iter().partition(allowed);
        others.into_iter().for_each(|offer| offer.decline(DeclineReason::CONSTRAINT));
        if !allowed.is_empty() {
            self.scheduler.offers(cx, allowed).await;
        }
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        self.scheduler.update(cx, status).await;
    }

    async fn subscribed(&mut self, cx: &mut Context<'_>, subscription: Subscription) {
        self.scheduler.subscribed(cx, subscription).await;
    }

    async fn disconnected(&mut self, cx: &mut Context<'_>, why: String) {
        self.scheduler.disconnected(cx, why).await;
    }

    async fn rescinded(&mut self, cx: &mut Context<'_>, offer: OfferId) {
        self.scheduler.rescinded(cx, offer).await;
    }

    async fn agent_lost(&mut self, cx: &mut Context<'_>, agent: AgentId, message: String) {
        self.scheduler.agent_lost(cx, agent, message).await;
    }

    async fn message(&mut self, cx: &mut Context<'_>, message: Self::Message) {
        self.scheduler.message(cx, message).await;
    }

    async fn woken(&mut self, cx: &mut Context<'_>) {
        self.scheduler.woken(cx).await;
    }

    async fn refused(&mut self, cx: &mut Context<'_>, refused: Refused) {
        self.scheduler.refused(cx, refused).await;
    }

    fn wants_offers(&self) -> bool {
        self.scheduler.wants_offers()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.scheduler.tasks()
    }
}
