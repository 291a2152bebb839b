//! Testing a scheduler without a cluster: a hand-driven driver, whose time and whose master are the test.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use apportion_types::{
    AgentId, FrameworkId, FrameworkInfo, InverseOffer, Offer, OfferId, OperationId, OperationState,
    OperationStatus, Place, Reason, Resources, Role, Source, TaskId, TaskInfo, TaskState, TaskStatus, Time,
    Unavailability, UpdateId,
    protocol::scheduler::{Call, ClaimResult, Event, FreeAgent, FreeState, Preemption},
};

use crate::{
    DriverError, Scheduler, Stop,
    answers::Answers,
    driver::{Action, Config, Engine, Input},
};

/// Drives one scheduler by hand: the test says what happens, and looks at the calls that come of it.
///
/// ```
/// use apportion_sdk::{
///     Context, Offer, Scheduler, Task, TaskStatus, async_trait,
///     testing::Harness,
/// };
///
/// struct One(bool);
///
/// #[async_trait]
/// impl Scheduler for One {
///     type Message = ();
///
///     async fn offers(&mut self, _cx: &mut Context<'_>, mut offers: Vec<Offer>) {
///         let task = Task::new("only").command(["true"]).cpus(1.0).mem_mib(32).build().unwrap();
///         self.0 = offers[0].launch(task).is_ok();
///     }
///
///     async fn update(&mut self, _cx: &mut Context<'_>, _status: TaskStatus) {}
///
///     fn wants_offers(&self) -> bool {
///         !self.0
///     }
/// }
///
/// let mut harness = Harness::new(One(false));
/// harness.offer("agent-1", "cpus:4;mem:1024");
/// assert_eq!(harness.launched()[0].task_id.as_str(), "only");
/// ```
#[derive(Debug)]
pub struct Harness<S: Scheduler> {
    engine: Engine<S>,
    now: Time,
    calls: Vec<Call>,
    end: Option<Result<Stop, DriverError>>,
    connecting: bool,
    offers: u64,
    updates: u64,
    role: Role,
    /// Commits that are not answered, with how many claims each has.
    commits: VecDeque<(u64, usize)>,
}

impl<S: Scheduler> Harness<S> {
    /// A scheduler that is subscribed, as framework `test` with the role `*`.
    pub fn new(scheduler: S) -> Self {
        let mut harness = Self::unconnected(scheduler);
        harness.connect();
        harness.subscribe();
        harness
    }

    /// A scheduler that is subscribed for another role than `*`: what it is offered is for that role.
    ///
    /// # Panics
    ///
    /// When the role is not one.
    pub fn for_role(role: &str, scheduler: S) -> Self {
        let mut harness = Self::about(role, scheduler);
        harness.connect();
        harness.subscribe();
        harness
    }

    /// A scheduler whose driver is about to connect.
    pub fn unconnected(scheduler: S) -> Self {
        Self::about(Role::default().as_str(), scheduler)
    }

    fn about(role: &str, scheduler: S) -> Self {
        let role = Role::new(role).expect("a good role");
        let info = FrameworkInfo {
            name: "test".to_owned(),
            principal: "test".to_owned(),
            roles: vec![role.clone()],
            failover_timeout: Duration::from_secs(60),
            labels: Default::default(),
        };
        let mut harness = Self {
            engine: Engine::new(Config::new(info, "test"), scheduler),
            now: Time::from_micros(1_000_000),
            calls: Vec::new(),
            end: None,
            connecting: false,
            offers: 0,
            updates: 0,
            role,
            commits: VecDeque::new(),
        };
        harness.input(Input::Start);
        harness
    }

    /// Takes the connection that the driver has asked for; it answers with a `Subscribe`.
    pub fn connect(&mut self) {
        assert!(std::mem::take(&mut self.connecting), "the driver has not asked for a connection");
        self.input(Input::Connected);
    }

    /// Confirms the subscription, as framework `test`.
    pub fn subscribe(&mut self) {
        self.event(Event::Subscribed {
            framework_id: FrameworkId::new("test").expect("a good id"),
            heartbeat_interval: Duration::from_secs(15),
            master_id: "test-master".to_owned(),
        });
    }

    /// Breaks the connection; the driver asks for another after a pause ([`advance`](Harness::advance)).
    pub fn disconnect(&mut self, why: &str) {
        self.input(Input::Disconnected { clean: false, why: why.to_owned() });
    }

    /// Offers resources of an agent and names the offer.
    ///
    /// # Panics
    ///
    /// When the agent's id or the resources are not such.
    pub fn offer(&mut self, agent: &str, resources: &str) -> OfferId {
        self.offer_with(agent, resources, &[])
    }

    /// Offers resources of an agent with attributes and names the offer.
    ///
    /// # Panics
    ///
    /// When the agent's id or the resources are not such.
    pub fn offer_with(&mut self, agent: &str, resources: &str, attributes: &[(&str, &str)]) -> OfferId {
        let offer = self.make_offer(agent, resources, attributes);
        let offer_id = offer.offer_id.clone();
        self.event(Event::Offers(vec![offer]));
        offer_id
    }

    /// Offers resources of several agents at once.
    ///
    /// # Panics
    ///
    /// When an agent's id or its resources are not such.
    pub fn offers(&mut self, offers: &[(&str, &str)]) {
        let offers = offers.iter().map(|(agent, resources)| self.make_offer(agent, resources, &[])).collect();
        self.event(Event::Offers(offers));
    }

    fn make_offer(&mut self, agent: &str, resources: &str, attributes: &[(&str, &str)]) -> Offer {
        self.offers += 1;
        let attributes = attributes.iter().map(|(name, value)| (String::from(*name), String::from(*value)));
        let mut offer = made_offer(self.role.as_str(), agent, resources, attributes.collect());
        offer.offer_id = OfferId::new(format!("offer-{}", self.offers)).expect("a good id");
        offer
    }

    /// Offers resources of an agent whose machine has a window, and names the offer.
    ///
    /// # Panics
    ///
    /// When the agent's id or the resources are not such.
    pub fn offer_before(&mut self, agent: &str, resources: &str, window: Unavailability) -> OfferId {
        let offer = Offer { unavailability: Some(window), ..self.make_offer(agent, resources, &[]) };
        let offer_id = offer.offer_id.clone();
        self.event(Event::Offers(vec![offer]));
        offer_id
    }

    /// Asks to leave an agent, on which the framework has this, before a window; names the inverse offer.
    ///
    /// # Panics
    ///
    /// When the agent's id or the resources are not such.
    pub fn ask_to_leave(&mut self, agent: &str, resources: &str, window: Unavailability) -> OfferId {
        let made = self.make_offer(agent, resources, &[]);
        let inverse_offer_id = OfferId::new(format!("inverse-{}", self.offers)).expect("a good id");
        self.event(Event::InverseOffers(vec![InverseOffer {
            inverse_offer_id: inverse_offer_id.clone(),
            framework_id: made.framework_id,
            agent_id: made.agent_id,
            unavailability: window,
            resources: made.resources,
        }]));
        inverse_offer_id
    }

    /// Tells that an offer is no longer valid.
    pub fn rescind(&mut self, offer: &OfferId) {
        self.event(Event::Rescind(offer.clone()));
    }

    /// Tells what became of an operation as its agent does, with a new update id.
    ///
    /// # Panics
    ///
    /// When the ids are not such.
    pub fn operation(&mut self, agent: &str, operation: &str, state: OperationState) -> UpdateId {
        self.updates += 1;
        let update_id = UpdateId::new(0, self.updates);
        self.event(Event::OperationUpdate(OperationStatus {
            operation_id: OperationId::new(operation).expect("a good operation id"),
            agent_id: Some(agent_id(agent)),
            state,
            reason: None,
            message: String::new(),
            at: self.now,
            update_id: Some(update_id),
        }));
        update_id
    }

    /// Answers the oldest commit that is not answered: each claim as told, those beyond as taken.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn committed(&mut self, results: &[ClaimResult]) {
        let (call_id, claims) = self.commits.pop_front().expect("a commit that is not answered");
        let results = results.iter().cloned().chain(std::iter::repeat(ClaimResult::Taken));
        self.event(Event::Committed { call_id, claims: results.take(claims).collect() });
    }

    /// Tells the state of a task as its agent does, with a new update id.
    ///
    /// # Panics
    ///
    /// When the ids are not such.
    pub fn update(&mut self, agent: &str, task: &str, state: TaskState) -> UpdateId {
        self.updates += 1;
        let update_id = UpdateId::new(0, self.updates);
        self.status(TaskStatus {
            source: Source::Agent,
            update_id: Some(update_id),
            ..self.made_by_master(agent, task, state, None)
        });
        update_id
    }

    /// Tells the state of a task as an answer to reconciliation.
    ///
    /// # Panics
    ///
    /// When the ids are not such.
    pub fn reconciled(&mut self, agent: &str, task: &str, state: TaskState) {
        self.status(self.made_by_master(agent, task, state, Some(Reason::Reconciliation)));
    }

    /// Tells any status.
    pub fn status(&mut self, status: TaskStatus) {
        self.event(Event::Update(status));
    }

    fn made_by_master(
        &self,
        agent: &str,
        task: &str,
        state: TaskState,
        reason: Option<Reason>,
    ) -> TaskStatus {
        TaskStatus {
            task_id: TaskId::new(task).expect("a good task id"),
            agent_id: Some(agent_id(agent)),
            state,
            reason,
            source: Source::Master,
            message: String::new(),
            at: self.now,
            update_id: None,
            container: None,
            findings: Default::default(),
            addresses: Vec::new(),
        }
    }

    /// Tells any event.
    pub fn event(&mut self, event: Event) {
        self.input(Input::Event(event));
    }

    /// Sends a message, as a [`Handle`](crate::Handle) does.
    pub fn message(&mut self, message: S::Message) {
        self.input(Input::Message(message));
    }

    /// Ends the run, as a [`Handle`](crate::Handle) does.
    pub fn stop(&mut self, stop: Stop) {
        self.input(Input::Stop(stop));
    }

    /// Lets time pass. Each deadline of the driver within it is met when it comes; a standing subscription gets a heartbeat
    /// whenever silence would end it.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        self.flush();
        while let Some(deadline) = self.engine.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.event(Event::Heartbeat);
            self.input(Input::Tick);
        }
        self.now = until;
    }

    /// Has offers answered that the test dropped outside of callbacks.
    pub fn flush(&mut self) {
        if self.engine.dropped().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            self.input(Input::Tick);
        }
    }

    /// Hands any input to the driver.
    ///
    /// # Panics
    ///
    /// When a callback waits for something: nothing else runs here that could bring it about.
    pub fn input(&mut self, input: Input<S::Message>) {
        let mut actions = Vec::new();
        {
            let mut handled = pin!(self.engine.handle(self.now, input, &mut actions));
            match handled.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    panic!("a callback of the scheduler waits; in a harness nothing would wake it")
                }
            }
        }
        for action in actions {
            match action {
                Action::Connect { .. } => self.connecting = true,
                Action::Send { call_id, call } => {
                    if let Call::Commit { claims, .. } = &call {
                        self.commits.push_back((call_id, claims.len()));
                    }
                    self.calls.push(call);
                }
                Action::Close => self.connecting = false,
                Action::End(end) => self.end = Some(end),
            }
        }
    }

    /// The calls made since this was asked last, in order.
    pub fn calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }

    /// The tasks launched since the calls were taken last, in order; takes the calls.
    pub fn launched(&mut self) -> Vec<TaskInfo> {
        let calls = self.calls();
        calls.iter().flat_map(Call::tasks).flatten().cloned().collect()
    }

    /// How many tasks were placed on offers that were no longer valid: what a scheduler that keeps offers should leave at zero.
    pub fn launched_on_void(&self) -> u64 {
        self.engine.launched_on_void()
    }

    /// The time, as the scheduler sees it.
    pub fn now(&self) -> Time {
        self.now
    }

    /// True while the driver asks for a connection.
    pub fn is_connecting(&self) -> bool {
        self.connecting
    }

    /// How the run ended, if it has.
    pub fn end(&self) -> Option<&Result<Stop, DriverError>> {
        self.end.as_ref()
    }

    /// The scheduler.
    pub fn scheduler(&self) -> &S {
        self.engine.scheduler()
    }

    /// The scheduler, to be changed.
    pub fn scheduler_mut(&mut self) -> &mut S {
        self.engine.scheduler_mut()
    }
}

fn agent_id(agent: &str) -> AgentId {
    AgentId::new(agent).expect("a good agent id")
}

fn made_offer(role: &str, agent: &str, resources: &str, attributes: BTreeMap<String, String>) -> Offer {
    let hostname = format!("host-of-{agent}");
    let place = Place { hostname, address: format!("{agent}:5051"), attributes, domain: None };
    Offer {
        offer_id: OfferId::new("offer").expect("a good id"),
        framework_id: FrameworkId::new("test").expect("a good id"),
        agent_id: agent_id(agent),
        role: Role::new(role).expect("a good role"),
        resources: resources.parse::<Resources>().expect("resources such as `cpus:1;mem:64`"),
        place: Arc::new(place),
        unavailability: None,
    }
}

/// An offer to the principal `test` that nobody answers, for tests of what is placed on one.
///
/// # Panics
///
/// When the role, the agent's id or the resources are not such.
pub fn offer(role: &str, agent: &str, resources: &str) -> crate::Offer {
    crate::Offer::new(made_offer(role, agent, resources, BTreeMap::new()), Arc::new(Answers::new("test")))
}

/// What is free, as a master tells it: of each agent its id and its resources.
///
/// # Panics
///
/// When an agent's id or its resources are not such.
pub fn free(version: u64, snapshot: bool, agents: &[(&str, &str)]) -> FreeState {
    let agents = agents.iter().map(|(agent, free)| FreeAgent {
        agent_id: agent_id(agent),
        free: free.parse().expect("resources such as `cpus:1;mem:64`"),
        place: None,
    });
    FreeState { version, snapshot, agents: agents.collect() }
}

/// Notice of a preemption at the beginning of time.
///
/// # Panics
///
/// When an id, the resources or the role are not such.
pub fn preemption(agent: &str, resources: &str, tasks: &[&str], for_role: &str) -> Preemption {
    Preemption {
        agent_id: agent_id(agent),
        resources: resources.parse().expect("resources such as `cpus:1;mem:64`"),
        tasks: tasks.iter().map(|task| TaskId::new(task).expect("a good task id")).collect(),
        at: Time::ZERO,
        for_role: Role::new(for_role).expect("a good role"),
    }
}
