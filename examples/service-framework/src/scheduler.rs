//! The scheduler: places replicas on offers, and writes down what it is about to do before it does it.
//!
//! The order is what makes a service survive its scheduler: **plan, write, act**. A task is in the table before it is
//! launched, and its end is in the table before the update is acknowledged (which the SDK does when [`update`] returns). So
//! after a crash at any moment the table names every task that may run, and the SDK's reconciliation tells what became of it.
//!
//! [`update`]: Scheduler::update

use std::{sync::Arc, time::Duration};

use apportion_sdk::{
    AgentId, Context, DeclineReason, FrameworkId, InverseOffer, Offer, Resources, Scheduler, Stop,
    Subscription, TaskId, TaskStatus, Time, async_trait, placement, protocol::ResourceRequest,
};
use tokio::sync::mpsc;

use crate::{
    event::Event,
    keep::Keep,
    spec::{Launch, REPLICAS_MAX, Spec},
    state::{Effect, Policy, ServiceState, Table},
    store::{Store, StoreError},
};

/// What the program around the scheduler may tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Keep so many replicas from now on, from none to [`REPLICAS_MAX`]. Of too many those with the highest numbers are killed.
    ///
    /// It holds over restarts until the number in the description is changed.
    Scale(u32),
}

/// How long before its machine is taken away nothing is placed on an agent any more.
const WINDOW_NEAR: Duration = Duration::from_secs(3600);

/// How long before that the replicas there are moved away.
const MOVED_BEFORE: Duration = Duration::from_secs(600);

/// Opens where the table is kept, and reads it.
pub struct Open<K>(Box<dyn FnOnce() -> Result<(K, Table), StoreError> + Send>);

impl<K> std::fmt::Debug for Open<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

/// A service on its way through a cluster. `K` is where it keeps its table.
#[derive(Debug)]
pub struct ServiceScheduler<K = Store> {
    spec: Arc<Spec>,
    /// What a replica asks for, with all that runs with it.
    needs: Resources,
    state: ServiceState,
    /// None in a scheduler that was never subscribed and is to open it then.
    store: Option<K>,
    open: Option<Open<K>>,
    /// What is stored.
    stored: Table,
    /// Never full: the reader only writes lines.
    events: mpsc::UnboundedSender<Event>,
    wake_at: Option<Time>,
    failure: Option<StoreError>,
}

impl<K: Keep> ServiceScheduler<K> {
    /// The service from where `table` left it. `spec` must have been read or [checked](Spec::checked).
    pub fn new(spec: Arc<Spec>, store: K, table: Table, events: mpsc::UnboundedSender<Event>) -> Self {
        let (needs, state, store) = (spec.needs(), begin(&spec, table.clone()), Some(store));
        Self { spec, needs, state, store, open: None, stored: table, events, wake_at: None, failure: None }
    }

    /// The service of a scheduler that stands by: when its turn comes it opens the table, which another one has changed until then.
    pub fn stand_by(
        spec: Arc<Spec>,
        open: impl FnOnce() -> Result<(K, Table), StoreError> + Send + 'static,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let nothing = Table::new(&spec.name);
        let (needs, state, open) = (spec.needs(), begin(&spec, nothing.clone()), Some(Open(Box::new(open))));
        Self { spec, needs, state, store: None, open, stored: nothing, events, wake_at: None, failure: None }
    }

    /// True when the table is at hand: otherwise the run ends.
    fn open(&mut self, cx: &mut Context<'_>) -> bool {
        match self.open.take().map(|open| (open.0)()) {
            Some(Ok((store, table))) => {
                self.state = begin(&self.spec, table.clone());
                (self.store, self.stored) = (Some(store), table);
            }
            Some(Err(error)) => self.fail(cx, error),
            None => {}
        }
        self.failure.is_none()
    }

    /// Ends the run; replicas run on.
    fn fail(&mut self, cx: &mut Context<'_>, error: StoreError) {
        self.failure = Some(error);
        cx.stop(Stop::Abort);
    }

    /// What is known of the service.
    pub fn state(&self) -> &ServiceState {
        &self.state
    }

    /// Where the table is kept, and why it ended by itself: its table could not be stored, and what cannot be stored must not be done.
    pub fn into_parts(self) -> (Option<K>, ServiceState, Option<StoreError>) {
        (self.store, self.state, self.failure)
    }

    /// Stores the table when it has changed; ends the run, with the replicas running on, when that fails.
    ///
    /// It blocks for as long as the disk takes: nothing may go on before it is written anyway, and a scheduler that awaits
    /// nothing can be tested without a runtime.
    fn store(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(store) = self.store.as_mut().filter(|_| self.failure.is_none()) else { return false };
        if self.stored != *self.state.table() {
            match store.save(self.state.table()) {
                Ok(()) => self.stored.clone_from(self.state.table()),
                Err(error) => self.fail(cx, error),
            }
        }
        self.failure.is_none()
    }

    /// Does what the state asks for, once it is stored. Every callback ends here.
    fn act(&mut self, cx: &mut Context<'_>, effects: Vec<Effect>) {
        let stored = self.store(cx);
        for effect in effects {
            match effect {
                Effect::Kill(task_id) if stored => cx.kill(&task_id, None),
                // Why it is to end is not written: the next scheduler will find that by itself.
                Effect::Kill(_) => {}
                Effect::Tell(event) => self.tell(event),
            }
        }
        // What waits is known to the master: for explanations, and for whoever must give way.
        if let Some(role) = cx.info().roles.first().cloned() {
            let count = u32::try_from(self.state.ready().len()).unwrap_or(u32::MAX);
            let request = ResourceRequest { resources: self.needs.clone(), count };
            cx.request(&role, if count == 0 { Vec::new() } else { vec![request] });
        }
        if let Some(due) = self.state.next_deadline().filter(|due| self.wake_at.is_none_or(|at| *due < at)) {
            self.wake_at = Some(due);
            cx.wake_after(due.since(cx.now()));
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more when the program is on its way out; then nobody misses it.
        _ = self.events.send(event);
    }

    /// The offer for the next replica: of those in which it fits, on the agent with the fewest of this service, so that losing
    /// one agent costs the least. Of equals the one with the most left, and then the first.
    ///
    /// An agent whose machine is to be taken away is the last choice, and none at all when that is near.
    fn choose(&self, offers: &[Offer], left: &[Resources], now: Time) -> Option<usize> {
        let stays = |index: &usize| placement::ends_in_time(&offers[*index], now, Some(WINDOW_NEAR));
        let fits = (0..offers.len()).filter(|&index| left[index].contains(&self.needs)).filter(stays);
        fits.min_by_key(|&index| {
            let load = self.state.load(offers[index].agent_id());
            let leaves = offers[index].unavailability().is_some();
            (leaves, load, std::cmp::Reverse((left[index].cpus_milli(), left[index].mem_milli())))
        })
    }
}

#[async_trait]
impl<K: Keep> Scheduler for ServiceScheduler<K> {
    type Message = Order;

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        let mut offers = Offer::by_agent(offers);
        // Plan. What is left is counted here, since nothing is launched yet.
        let mut left: Vec<_> = offers.iter().map(Offer::usable).collect();
        let mut plan = Vec::new();
        for number in self.state.ready() {
            let placed = loop {
                let Some(index) = self.choose(&offers, &left, cx.now()) else { break None };
                match offers[index].take_ports(self.spec.ports) {
                    Some(ports) => break Some((index, ports)),
                    // It has no more ports: of no more use to any replica.
                    None => left[index] = Resources::new(),
                }
            };
            let Some((index, ports)) = placed else { break };
            left[index].saturating_sub(&self.needs);
            let offer = &offers[index];
            let (agent_id, hostname) = (offer.agent_id().clone(), offer.hostname().to_owned());
            let task_id = self.state.place(number, agent_id, hostname.clone(), ports.clone());
            plan.push((index, number, task_id, hostname, ports));
        }
        // Write.
        if !self.store(cx) {
            return;
        }
        // Act.
        for (index, replica, task_id, hostname, ports) in plan {
            let launch = self
                .spec
                .describe(replica, &task_id, &ports)
                .expect("the description was checked when it was read");
            let launched = match launch {
                Launch::Task(task) => offers[index].launch(*task).is_ok(),
                Launch::Group(group) => offers[index].launch_group(group).is_ok(),
            };
            match launched {
                true => self.tell(Event::Launched { replica, task_id, hostname }),
                // It was planned with what is left, so this accept carries all that it can. What is left is offered at once.
                false => self.state.unplace(replica),
            }
        }
        for offer in offers {
            let reason =
                if self.state.wants_offers() { DeclineReason::TOO_SMALL } else { DeclineReason::NO_WORK };
            offer.decline(reason);
        }
        self.act(cx, Vec::new());
    }

    /// Replicas are moved away shortly before the window, one after the other; until then the service asks to be asked again, for the
    /// window may change.
    async fn inverse_offers(&mut self, cx: &mut Context<'_>, offers: Vec<InverseOffer>) {
        let mut effects = Vec::new();
        for offer in offers {
            let time_left = offer.unavailability.start.since(cx.now());
            let again = time_left.checked_sub(MOVED_BEFORE).filter(|again| !again.is_zero());
            if again.is_none() {
                self.state.leave(offer.agent_id, &mut effects);
            }
            cx.accept_inverse_offers([offer.inverse_offer_id], again);
        }
        self.act(cx, effects);
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        let mut effects = Vec::new();
        self.state.update(&status, cx.now(), &mut effects);
        self.act(cx, effects);
    }

    async fn standing_by(&mut self, _cx: &mut Context<'_>, framework: FrameworkId) {
        self.tell(Event::StandingBy { framework_id: framework.to_string() });
    }

    async fn subscribed(&mut self, cx: &mut Context<'_>, subscription: Subscription) {
        if !self.open(cx) {
            return;
        }
        self.tell(Event::Subscribed {
            framework_id: subscription.framework_id.to_string(),
            resumed: subscription.resumed,
            replicas_known: self.state.table().placed.len(),
        });
        let mut effects = Vec::new();
        self.state.subscribed(subscription.framework_id, cx.now(), &mut effects);
        // Beside the tasks of the table, which the SDK asks for by itself: a task that no table names must not run on unseen.
        cx.reconcile_all();
        self.act(cx, effects);
    }

    async fn disconnected(&mut self, _cx: &mut Context<'_>, why: String) {
        self.tell(Event::Disconnected { why });
    }

    async fn message(&mut self, cx: &mut Context<'_>, order: Order) {
        let mut effects = Vec::new();
        match order {
            Order::Scale(replicas) if replicas > REPLICAS_MAX => {
                let refused = Event::NotScaled { replicas, replicas_max: REPLICAS_MAX };
                effects.push(Effect::Tell(refused));
            }
            Order::Scale(replicas) => self.state.scale(replicas, &mut effects),
        }
        self.act(cx, effects);
    }

    async fn woken(&mut self, cx: &mut Context<'_>) {
        self.wake_at = None;
        let mut effects = Vec::new();
        self.state.tick(cx.now(), &mut effects);
        self.act(cx, effects);
    }

    fn wants_offers(&self) -> bool {
        self.state.wants_offers()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.state.tasks()
    }
}

fn begin(spec: &Spec, table: Table) -> ServiceState {
    let policy =
        Policy { restart: spec.restart, replace_after: spec.replace_after, checked: spec.health.is_some() };
    ServiceState::new(spec.replicas, policy, table)
}

#[cfg(test)]
mod tests;
