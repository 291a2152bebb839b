//! The scheduler: places replicas on offers, and writes down what it is about to do before it does it.
//!
//! The order is what makes a service survive its scheduler: **plan, write, act**. A task is in the table before it is
//! launched, and its end is in the table before the update is acknowledged (which the SDK does when [`update`] returns). So
//! after a crash at any moment the table names every task that may run, and the SDK's reconciliation tells what became of it.
//!
//! [`update`]: Scheduler::update

mod room;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use apportion_sdk::{
    AgentId, Context, FrameworkId, InverseOffer, Offer, Resources, Role, Scheduler, Stop, Subscription,
    TaskId, TaskStatus, Time, async_trait,
    protocol::ResourceRequest,
    store::{Embedded, Store},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use self::room::Room;
use crate::{
    event::{Event, Told},
    keep::KeepError,
    scale::{Measured, Subject},
    spec::{Launch as Launched, Spec},
    state::{AppView, Applied, Effect, Explained, Launch, Refused, Services, Size, Table},
};

/// What the program around the scheduler may ask of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Have these services be as they are described; others stay as they are.
    Apply {
        /// The descriptions.
        specs: Vec<Arc<Spec>>,
        /// Try a revision that was given up once more.
        #[serde(default)]
        again: bool,
        /// Only say what would change.
        #[serde(default)]
        dry_run: bool,
    },
    /// Keep so many replicas from now on, from none to [`REPLICAS_MAX`](crate::spec::REPLICAS_MAX). Of too many those with the highest
    /// numbers are killed. It holds over restarts until the number in the description is changed.
    Scale {
        /// Of which service; of the only one when none is named.
        service: Option<String>,
        /// How many.
        replicas: u32,
    },
    /// Replace all replicas by others of the same kind.
    Restart {
        /// Of which service.
        service: String,
    },
    /// Go back to a revision, or to the one before.
    RollBack {
        /// Which service.
        service: String,
        /// The revision.
        to: Option<u64>,
    },
    /// Have the revision of the canaries take the place of the old one.
    Promote {
        /// Of which service.
        service: String,
    },
    /// End services for good.
    Remove {
        /// Which.
        services: Vec<String>,
    },
    /// Say how services are.
    Show,
    /// Say why a service is as it is.
    Explain {
        /// Which.
        service: String,
    },
    /// These agents there are. Said by [`measure`](crate::measure) of this program alone, while something waits for an offer.
    #[serde(skip)]
    Agents(Vec<Size>),
    /// This was measured. Said by [`measure`](crate::measure) of this program alone.
    #[serde(skip)]
    Measured(Vec<Measured>),
    /// Somebody waits for a replica of a service that sleeps.
    #[serde(skip)]
    Wanted {
        /// Which.
        service: String,
    },
    /// Clients have finished with a task that drains. Said by the [front](crate::front) of this program alone.
    #[serde(skip)]
    Drained {
        /// The task.
        task_id: TaskId,
    },
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "of", rename_all = "snake_case")]
pub enum Answer {
    /// What was, or would be, changed.
    Applied(BTreeMap<String, Applied>),
    /// It is on its way.
    Done,
    /// This revision is on its way.
    Revision(u64),
    /// The services.
    Services(Vec<AppView>),
    /// Why a service is as it is.
    Explained(Box<Explained>),
}

/// An order, and who waits for what comes of it.
#[derive(Debug)]
pub struct Request {
    order: Order,
    reply: Option<oneshot::Sender<Result<Answer, Refused>>>,
}

impl Request {
    /// An order, and what will come of it: that is told once it is stored. Nothing is told when the scheduler ends before.
    pub fn new(order: Order) -> (Self, oneshot::Receiver<Result<Answer, Refused>>) {
        let (reply, answer) = oneshot::channel();
        (Self { order, reply: Some(reply) }, answer)
    }
}

/// An order for whose answer nobody waits; that it is refused is told as an event.
impl From<Order> for Request {
    fn from(order: Order) -> Self {
        Self { order, reply: None }
    }
}

/// How long before that the replicas there are moved away.
const MOVED_BEFORE: Duration = Duration::from_secs(600);

/// All services, as they are at a moment.
pub type Views = Arc<Vec<AppView>>;

/// Opens where the services are kept, and reads it; none when the run is to end instead.
type Opening<K> = Pin<Box<dyn Future<Output = Result<Option<(K, Table)>, KeepError>> + Send>>;

/// Services on their way through a cluster. `K` is where they are kept.
pub struct ServiceScheduler<K = Embedded> {
    /// Names the framework in what is told.
    framework: String,
    /// To be applied when it is subscribed.
    specs: Vec<Arc<Spec>>,
    services: Services,
    /// None in a scheduler that was never subscribed and is to open it then.
    store: Option<K>,
    opening: Option<Opening<K>>,
    /// What is stored.
    stored: Table,
    /// Never full: the reader only writes lines.
    events: mpsc::UnboundedSender<Told>,
    /// What is to be measured. Watched, so that nothing here waits for whoever does.
    subjects: watch::Sender<Vec<Subject>>,
    /// What whoever leads clients to replicas goes by. Watched, so that nothing here waits for them.
    views: watch::Sender<Views>,
    wake_at: Option<Time>,
    failure: Option<KeepError>,
}

impl<K> std::fmt::Debug for ServiceScheduler<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceScheduler").field("services", &self.services).finish_non_exhaustive()
    }
}

impl<K: Store> ServiceScheduler<K> {
    /// The services from where `table` left them, and beside them those of `specs`, which must have been read or
    /// [checked](Spec::checked).
    pub fn new(
        framework: impl Into<String>,
        specs: Vec<Arc<Spec>>,
        store: K,
        table: Table,
        events: mpsc::UnboundedSender<Told>,
    ) -> Self {
        let services = Services::new(table.clone());
        Self {
            framework: framework.into(),
            specs,
            views: watch::Sender::new(Arc::new(services.view())),
            services,
            store: Some(store),
            opening: None,
            stored: table,
            events,
            subjects: watch::Sender::default(),
            wake_at: None,
            failure: None,
        }
    }

    /// The services of a scheduler that stands by: when its turn comes it opens the table, which another one has changed until then.
    pub fn stand_by(
        framework: impl Into<String>,
        specs: Vec<Arc<Spec>>,
        opening: impl Future<Output = Result<Option<(K, Table)>, KeepError>> + Send + 'static,
        events: mpsc::UnboundedSender<Told>,
    ) -> Self {
        Self {
            framework: framework.into(),
            specs,
            services: Services::default(),
            views: watch::Sender::default(),
            store: None,
            opening: Some(Box::pin(opening)),
            stored: Table::default(),
            events,
            subjects: watch::Sender::default(),
            wake_at: None,
            failure: None,
        }
    }

    /// True when the table is at hand: otherwise the run ends.
    async fn open(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(opening) = self.opening.take() else { return self.failure.is_none() };
        match opening.await {
            Ok(Some((store, table))) => {
                self.services = Services::new(table.clone());
                (self.store, self.stored) = (Some(store), table);
                return true;
            }
            Ok(None) => cx.stop(Stop::Disconnect),
            Err(error) => self.fail(cx, error),
        }
        false
    }

    /// Ends the run; replicas run on.
    fn fail(&mut self, cx: &mut Context<'_>, error: KeepError) {
        self.failure = Some(error);
        cx.stop(Stop::Abort);
    }

    /// What is to be measured, from now on.
    pub fn subjects(&self) -> watch::Receiver<Vec<Subject>> {
        self.subjects.subscribe()
    }

    /// The services as they are, from now on. What is seen here was stored before.
    pub fn views(&self) -> watch::Receiver<Views> {
        self.views.subscribe()
    }

    /// What is known of the services.
    pub fn state(&self) -> &Services {
        &self.services
    }

    /// Where they are kept, and why it ended by itself: its table could not be stored, and what cannot be stored must not be done.
    pub fn into_parts(self) -> (Option<K>, Services, Option<KeepError>) {
        (self.store, self.services, self.failure)
    }

    /// Stores what has changed; ends the run, with the replicas running on, when that fails.
    ///
    /// It blocks for as long as the disk takes: nothing may go on before it is written anyway, and a scheduler that awaits
    /// nothing can be tested without a runtime.
    fn store(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(store) = self.store.as_mut().filter(|_| self.failure.is_none()) else { return false };
        if self.stored != *self.services.table() {
            match store.save(self.services.table().changes_since(&self.stored)) {
                Ok(()) => self.stored.clone_from(self.services.table()),
                Err(error) => self.fail(cx, error.into()),
            }
        }
        self.failure.is_none()
    }

    /// Does what the state asks for, once it is stored. Every callback ends here.
    fn act(&mut self, cx: &mut Context<'_>, effects: Vec<Effect>) -> bool {
        let stored = self.store(cx);
        for effect in effects {
            match effect {
                Effect::Kill(task_id) if stored => cx.kill(&task_id, None),
                // Why it is to end is not written: the next scheduler will find that by itself.
                Effect::Kill(_) => {}
                Effect::Tell(told) if stored => self.tell(told),
                // What could not be kept is not so.
                Effect::Tell(_) => {}
            }
        }
        if stored && self.subjects.receiver_count() > 0 {
            let now = self.services.subjects();
            self.subjects.send_if_modified(|before| {
                let changed = *before != now;
                if changed {
                    *before = now;
                }
                changed
            });
        }
        if stored && self.views.receiver_count() > 0 {
            let now = self.services.view();
            self.views.send_if_modified(|views| {
                let changed = **views != now;
                if changed {
                    *views = Arc::new(now);
                }
                changed
            });
        }
        // What waits is known to the master: for explanations, and for whoever must give way.
        let mut waiting: BTreeMap<String, Vec<ResourceRequest>> = BTreeMap::new();
        for launches in
            self.services.ready().chunk_by(|one, next| (&one.app, one.revision) == (&next.app, next.revision))
        {
            let spec = self.services.spec(&launches[0]);
            let count = u32::try_from(launches.len()).unwrap_or(u32::MAX);
            let request = ResourceRequest { resources: spec.needs(), count };
            waiting.entry(spec.role.clone()).or_default().push(request);
        }
        for role in cx.info().roles.clone() {
            cx.request(&role, waiting.remove(role.as_str()).unwrap_or_default());
        }
        if let Some(due) = self.services.next_deadline().filter(|due| self.wake_at.is_none_or(|at| *due < at))
        {
            self.wake_at = Some(due);
            cx.wake_after(due.since(cx.now()));
        }
        stored
    }

    /// Tells something of the framework as a whole.
    fn say(&self, event: Event) {
        self.tell(Told::of(&self.framework, event));
    }

    fn tell(&self, told: Told) {
        // Nobody listens any more when the program is on its way out; then nobody misses it.
        _ = self.events.send(told);
    }

    fn obey(&mut self, cx: &Context<'_>, order: Order, effects: &mut Vec<Effect>) -> Result<Answer, Refused> {
        let (now, services) = (cx.now(), &mut self.services);
        match order {
            Order::Apply { specs, again, dry_run } => {
                for spec in &specs {
                    offered(spec, &cx.info().roles)?;
                }
                let applied = match dry_run {
                    true => services.would_apply(&specs, again),
                    false => services.apply(specs, again, now, effects),
                };
                applied.map(Answer::Applied)
            }
            Order::Scale { service, replicas } => {
                let mut names = services.table().apps.keys();
                let only = names.next().filter(|_| names.next().is_none()).cloned();
                let service = service.or(only).ok_or(Refused::Unnamed)?;
                services.scale(&service, replicas, now, effects).map(|()| Answer::Done)
            }
            Order::Restart { service } => services.restart(&service, now, effects).map(Answer::Revision),
            Order::RollBack { service, to } => {
                services.roll_back(&service, to, now, effects).map(Answer::Revision)
            }
            Order::Promote { service } => services.promote(&service, now, effects).map(Answer::Revision),
            Order::Remove { services: names } => services.remove(&names, now, effects).map(|()| Answer::Done),
            Order::Show => Ok(Answer::Services(services.view())),
            Order::Explain { service } => {
                services.explain(&service, now).map(|explained| Answer::Explained(Box::new(explained)))
            }
            Order::Agents(agents) => {
                services.compare(&agents, effects);
                Ok(Answer::Done)
            }
            Order::Measured(measured) => {
                services.measured(&measured, now, effects);
                Ok(Answer::Done)
            }
            Order::Wanted { service } => {
                services.wanted(&service, now, effects);
                Ok(Answer::Done)
            }
            Order::Drained { task_id } => {
                services.drained(&task_id, effects);
                Ok(Answer::Done)
            }
        }
    }
}

/// Fails when no offers are made for the role of a service.
fn offered(spec: &Spec, roles: &[Role]) -> Result<(), Refused> {
    if roles.iter().any(|role| role.as_str() == spec.role) {
        return Ok(());
    }
    let roles = roles.iter().map(ToString::to_string).collect();
    Err(Refused::Role { service: spec.name.clone(), role: spec.role.clone(), roles })
}

#[async_trait]
impl<K: Store> Scheduler for ServiceScheduler<K> {
    type Message = Request;

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        let now = cx.now();
        let mut effects = Vec::new();
        for offer in offers.iter().filter(|offer| offer.unavailability().is_none()) {
            self.services.stay(offer.agent_id(), now, &mut effects);
        }
        // Plan.
        let mut offers = Offer::by_agent(offers);
        let mut room = Room::new(&mut offers, &self.services, now);
        let mut plan: Vec<(usize, Launch, TaskId, Vec<u16>)> = Vec::new();
        let mut no_room: BTreeSet<(String, u64)> = BTreeSet::new();
        let mut all_needs: BTreeMap<(String, u64), Resources> = BTreeMap::new();
        for launch in self.services.ready() {
            let kind = (launch.app.clone(), launch.revision);
            if no_room.contains(&kind) {
                continue;
            }
            let spec = Arc::clone(self.services.spec(&launch));
            let needs = all_needs.entry(kind.clone()).or_insert_with(|| spec.needs());
            let Some((index, ports)) = room.take(&spec, needs, &self.services) else {
                no_room.insert(kind);
                continue;
            };
            let task_id = self.services.place(&launch, room.spot(index, ports.clone()));
            plan.push((index, launch, task_id, ports));
        }
        // Write.
        if !self.store(cx) {
            return;
        }
        // Act.
        for (index, launch, task_id, ports) in plan {
            let spec = self.services.spec(&launch);
            let described = spec
                .describe(launch.replica, &task_id, &ports)
                .expect("the description was checked when it was read");
            let launched = match described {
                Launched::Task(task) => offers[index].launch(*task).is_ok(),
                Launched::Group(group) => offers[index].launch_group(group).is_ok(),
            };
            match launched {
                true => {
                    let hostname = offers[index].hostname().to_owned();
                    let event = Event::Launched {
                        replica: launch.replica,
                        task_id,
                        hostname,
                        revision: launch.revision,
                    };
                    self.tell(Told::of(&launch.app, event));
                }
                // It was planned with what is left, so this accept carries all that it can. What is left is offered at once.
                false => self.services.unplace(&task_id),
            }
        }
        self.services.settle_all(now, &mut effects);
        let ready = self.services.ready();
        let kinds = ready.chunk_by(|one, next| (&one.app, one.revision) == (&next.app, next.revision));
        let waiting: Vec<_> = kinds.map(|launches| Arc::clone(self.services.spec(&launches[0]))).collect();
        for offer in offers {
            let reason = room::refusal(&offer, &waiting);
            offer.decline(reason);
        }
        self.act(cx, effects);
    }

    /// Replicas are moved away shortly before the window, each launched elsewhere first; until then the service asks to be asked again, for
    /// the window may change.
    async fn inverse_offers(&mut self, cx: &mut Context<'_>, offers: Vec<InverseOffer>) {
        let mut effects = Vec::new();
        for offer in offers {
            let time_left = offer.unavailability.start.since(cx.now());
            let again = time_left.checked_sub(MOVED_BEFORE).filter(|again| !again.is_zero());
            if again.is_none() {
                self.services.leave(offer.agent_id, cx.now(), &mut effects);
            }
            cx.accept_inverse_offers([offer.inverse_offer_id], again);
        }
        self.act(cx, effects);
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        let mut effects = Vec::new();
        self.services.update(&status, cx.now(), &mut effects);
        self.act(cx, effects);
    }

    async fn standing_by(&mut self, _cx: &mut Context<'_>, framework: FrameworkId) {
        self.say(Event::StandingBy { framework_id: framework.to_string() });
    }

    async fn subscribed(&mut self, cx: &mut Context<'_>, subscription: Subscription) {
        if !self.open(cx).await {
            return;
        }
        self.say(Event::Subscribed {
            framework_id: subscription.framework_id.to_string(),
            resumed: subscription.resumed,
            replicas_known: self.services.table().placed.values().filter(|placed| !placed.doomed).count(),
        });
        let mut effects = Vec::new();
        self.services.subscribed(subscription.framework_id, cx.now(), &mut effects);
        let specs = std::mem::take(&mut self.specs);
        if let Err(refused) = self.services.apply(specs, false, cx.now(), &mut effects) {
            self.say(Event::Refused { why: refused.to_string() });
        }
        // Beside the tasks of the table, which the SDK asks for by itself: a task that no table names must not run on unseen.
        cx.reconcile_all();
        self.act(cx, effects);
    }

    async fn disconnected(&mut self, _cx: &mut Context<'_>, why: String) {
        self.say(Event::Disconnected { why });
    }

    async fn message(&mut self, cx: &mut Context<'_>, Request { order, reply }: Request) {
        let mut effects = Vec::new();
        let answer = self.obey(cx, order, &mut effects);
        let kept = self.act(cx, effects);
        match (reply, answer) {
            // Whoever asked may have gone. What could not be stored is answered by the end of the run.
            (Some(reply), answer) if kept => _ = reply.send(answer),
            (None, Err(refused)) => self.say(Event::Refused { why: refused.to_string() }),
            _ => {}
        }
    }

    async fn woken(&mut self, cx: &mut Context<'_>) {
        self.wake_at = None;
        let mut effects = Vec::new();
        self.services.tick(cx.now(), &mut effects);
        self.act(cx, effects);
    }

    fn wants_offers(&self) -> bool {
        self.services.wants_offers()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.services.tasks()
    }
}

#[cfg(test)]
mod tests;
