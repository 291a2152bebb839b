//! The driver's decisions, pure: inputs and results of callbacks in, calls and callbacks out. No clock, no I/O, no runtime.

mod acknowledged;
mod answer;
mod claims;
mod described;
mod event;
mod operations;
mod reconcile;
mod step;
mod tasks;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use apportion_types::{
    AgentId, FrameworkId, FrameworkInfo, FrameworkOptions, OfferId, OperationId, Role, TaskId, Time, limits,
    protocol::scheduler::{Call, ResourceRequest},
};

pub use self::step::{Action, Config, Input};
pub(crate) use self::step::{Callback, Returned, Step, Told};
use self::{
    claims::Claims, described::Described, operations::Operations, reconcile::Reconciliation, tasks::Tasks,
};
use super::{bounds, random::Random};
use crate::{DriverError, Stop, answers::Said, context::Ask};

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not started.
    Idle,
    /// Until then nothing is tried.
    Waiting { at: Time },
    /// A connection was asked for.
    Connecting { by: Time },
    /// Subscribe was sent.
    Subscribing { by: Time },
    /// Another scheduler of the framework is subscribed; this one is next, or after others.
    StandingBy { heard: Time, heartbeat: Duration },
    /// The subscription stands.
    Subscribed { since: Time, heard: Time, heartbeat: Duration },
    /// It is over.
    Ended,
}

/// The state of a driver.
#[derive(Debug)]
pub(crate) struct State {
    config: Config,
    random: Random,
    phase: Phase,
    framework_id: Option<FrameworkId>,
    /// A subscription has stood.
    was_subscribed: bool,
    /// Which master is spoken to or tried next.
    master: usize,
    /// Attempts that failed since a subscription last stood for a while.
    failures: u32,
    /// Until when the first subscription must stand; none once it has.
    first_by: Option<Time>,
    last_failure: String,
    /// Set once a teardown is wished: until when it must be confirmed.
    teardown_by: Option<Time>,
    teardown_sent: bool,
    wants_offers: bool,
    /// As the master was last told on this stream.
    suppressed: bool,
    reconcile_all: bool,
    call_id: u64,
    /// The last calls and their kinds, oldest first.
    calls: VecDeque<(u64, &'static str)>,
    outstanding: BTreeSet<OfferId>,
    /// Inverse offers that are not answered.
    asked_to_leave: BTreeSet<OfferId>,
    /// Tasks placed on offers that were not outstanding any more.
    launched_on_void: u64,
    described: Described,
    tasks: Tasks,
    reconciliation: Reconciliation<TaskId>,
    operations: Operations,
    operations_asked: Reconciliation<OperationId>,
    /// What waits to be placed, as it was said last.
    requests: BTreeMap<Role, Vec<ResourceRequest>>,
    /// Roles of which the master may know less by now: it counts off what it gathers.
    requests_met: BTreeSet<Role>,
    /// Commits that are not answered, by their calls.
    claims: BTreeMap<u64, Claims>,
    /// The scheduler wants to know what is free; the version that it was told last, once a snapshot has come.
    watching: bool,
    free_version: Option<u64>,
    wakes: BTreeSet<Time>,
    steps: VecDeque<Step>,
}

impl State {
    pub(crate) fn new(config: Config) -> Self {
        assert!(!config.masters.is_empty(), "a driver has at least one master");
        let config = Config { refuse: config.refuse.min(limits::REFUSE_MAX), ..config };
        Self {
            random: Random::new(config.seed),
            phase: Phase::Idle,
            framework_id: config.framework_id.clone(),
            was_subscribed: false,
            master: 0,
            failures: 0,
            first_by: None,
            last_failure: "the first attempt has not ended".to_owned(),
            teardown_by: None,
            teardown_sent: false,
            wants_offers: true,
            suppressed: false,
            reconcile_all: false,
            call_id: 0,
            calls: VecDeque::new(),
            outstanding: BTreeSet::new(),
            asked_to_leave: BTreeSet::new(),
            launched_on_void: 0,
            described: Described::new(config.info.clone(), config.options.clone()),
            tasks: Tasks::new(),
            reconciliation: Reconciliation::new(),
            operations: Operations::new(),
            operations_asked: Reconciliation::new(),
            requests: BTreeMap::new(),
            requests_met: BTreeSet::new(),
            claims: BTreeMap::new(),
            watching: false,
            free_version: None,
            wakes: BTreeSet::new(),
            steps: VecDeque::new(),
            config,
        }
    }

    pub(crate) fn framework_id(&self) -> Option<&FrameworkId> {
        self.framework_id.as_ref()
    }

    /// The framework and its wishes, as they are to be.
    pub(crate) fn described(&self) -> (&FrameworkInfo, &FrameworkOptions) {
        self.described.current()
    }

    pub(crate) fn is_subscribed(&self) -> bool {
        matches!(self.phase, Phase::Subscribed { .. })
    }

    /// True when the scheduler is told nothing any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.phase == Phase::Ended || self.teardown_by.is_some()
    }

    pub(crate) fn launched_on_void(&self) -> u64 {
        self.launched_on_void
    }

    /// What is to be done next; to be done before the next is asked for.
    pub(crate) fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// When [`tick`](State::tick) is to be called at the latest.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let phase = match self.phase {
            Phase::Ended | Phase::Idle => return None,
            Phase::Waiting { at } => at,
            Phase::Connecting { by } | Phase::Subscribing { by } => by,
            Phase::StandingBy { heard, heartbeat } | Phase::Subscribed { heard, heartbeat, .. } => {
                heard + heartbeat * bounds::HEARTBEATS_MISSED_MAX
            }
        };
        let wake = self.wakes.first().copied().filter(|_| !self.is_ending());
        let reconciliations = [self.reconciliation.deadline(), self.operations_asked.deadline()];
        let others = [self.first_by, self.teardown_by, wake].into_iter().chain(reconciliations);
        others.flatten().chain([phase]).min()
    }

    pub(crate) fn start(&mut self, now: Time, wants_offers: bool) {
        assert!(self.phase == Phase::Idle, "a driver is started once");
        self.wants_offers = wants_offers;
        self.first_by = Some(now + self.config.connect_timeout);
        self.connect(now);
    }

    pub(crate) fn connected(&mut self, now: Time) {
        if !matches!(self.phase, Phase::Connecting { .. }) {
            return;
        }
        self.phase = Phase::Subscribing { by: now + bounds::ATTEMPT_TIMEOUT };
        self.suppressed = !self.wants_offers;
        let (info, options) = self.described.begin();
        let suppressed = if self.suppressed { info.roles.clone() } else { Vec::new() };
        let framework_id = self.framework_id.clone();
        self.send(Call::Subscribe { info, framework_id, suppressed, options: Box::new(options) });
    }

    pub(crate) fn disconnected(&mut self, now: Time, clean: bool, why: String) {
        match self.phase {
            Phase::Idle | Phase::Waiting { .. } | Phase::Ended => {}
            Phase::Connecting { .. } | Phase::Subscribing { .. } | Phase::StandingBy { .. } => {
                self.lost(now, why);
            }
            // The end of the stream is the answer to a teardown.
            Phase::Subscribed { .. } if clean && self.teardown_sent => self.end(Ok(Stop::Teardown)),
            Phase::Subscribed { .. } => self.lost(now, why),
        }
    }

    pub(crate) fn tick(&mut self, now: Time) {
        if self.first_by.is_some_and(|by| by <= now) && self.phase != Phase::Ended {
            self.end(Err(DriverError::Connect {
                addresses: self.config.masters.join(", "),
                timeout: self.config.connect_timeout,
                last: self.last_failure.clone(),
            }));
        }
        if self.teardown_by.is_some_and(|by| by <= now) && self.phase != Phase::Ended {
            let timeout = bounds::TEARDOWN_TIMEOUT;
            self.end(Err(DriverError::TeardownUnconfirmed { framework_id: self.name(), timeout }));
        }
        match self.phase {
            Phase::Idle | Phase::Ended => return,
            Phase::Waiting { at } if at <= now => self.connect(now),
            Phase::Connecting { by } | Phase::Subscribing { by } if by <= now => {
                let master = &self.config.masters[self.master];
                let why = format!("no answer from {master} within {:?}", bounds::ATTEMPT_TIMEOUT);
                self.abandon(now, why);
            }
            Phase::StandingBy { heard, heartbeat } | Phase::Subscribed { heard, heartbeat, .. }
                if heard + heartbeat * bounds::HEARTBEATS_MISSED_MAX <= now =>
            {
                self.abandon(now, format!("no sign of life from the master for {:?}", now.since(heard)));
            }
            _ => {}
        }
        let open = self.reconciliation.ask_again(now);
        self.reconcile(open);
        let open = self.operations_asked.ask_again(now);
        self.reconcile_operations(open);
        let due = self.wakes.iter().take_while(|at| **at <= now).count();
        if due > 0 {
            self.wakes = self.wakes.split_off(&(now + Duration::from_micros(1)));
            self.tell(Callback::Woken);
        }
    }

    /// Nobody listened to the master for so long: its silence meanwhile is not held against it.
    pub(crate) fn busy(&mut self, took: Duration) {
        match &mut self.phase {
            Phase::Connecting { by } | Phase::Subscribing { by } => *by = *by + took,
            Phase::StandingBy { heard, .. } | Phase::Subscribed { heard, .. } => *heard = *heard + took,
            Phase::Idle | Phase::Waiting { .. } | Phase::Ended => {}
        }
    }

    /// A callback has returned: its consequences, in the order that the protocol needs.
    pub(crate) fn returned(&mut self, now: Time, returned: Returned) {
        if self.phase == Phase::Ended {
            return;
        }
        if returned.asked.iter().any(|ask| matches!(ask, Ask::Stop(Stop::Abort))) {
            return self.end(Ok(Stop::Abort));
        }
        self.wants_offers = returned.wants_offers;
        match returned.told {
            // Before any accept: the id of an ended task is free only then.
            Some(Told::Update { task_id, agent_id, update_id }) => {
                self.tasks.acknowledge(task_id.clone(), update_id);
                self.send_subscribed(Call::Acknowledge { agent_id, task_id, update_id });
            }
            Some(Told::Operation { operation_id, agent_id, update_id }) => {
                self.operations.acknowledge(operation_id.clone(), update_id);
                self.send_subscribed(Call::AcknowledgeOperation { agent_id, operation_id, update_id });
            }
            Some(Told::Subscribed { tasks, operations }) => self.resume(now, tasks, operations),
            None => {}
        }
        self.answer(now, returned.answers);
        for ask in returned.asked {
            self.ask(now, ask);
        }
        if self.wants_offers == self.suppressed && self.is_subscribed() && !self.is_ending() {
            self.suppressed = !self.wants_offers;
            let roles = Vec::new();
            self.send(if self.suppressed { Call::Suppress { roles } } else { Call::Revive { roles } });
        }
    }

    /// What was left open by the last connection, on the new one.
    fn resume(
        &mut self,
        now: Time,
        tasks: Vec<(TaskId, Option<AgentId>)>,
        operations: Vec<(OperationId, Option<AgentId>)>,
    ) {
        self.operations_asked.add(operations);
        self.operations_asked.add(self.operations.open());
        let open = self.operations_asked.restart(now);
        self.reconcile_operations(open);
        self.requests_met.clear();
        for (role, requests) in self.requests.clone() {
            self.send_subscribed(Call::Request { role, requests });
        }
        if self.watching {
            self.send_subscribed(Call::WatchFree { on: true });
        }
        self.reconciliation.add(tasks);
        self.reconciliation.add(self.tasks.live());
        self.reconciliation.add(self.tasks.kills().into_iter().map(|(task_id, _)| (task_id, None)));
        let open = self.reconciliation.restart(now);
        self.reconcile(open);
        if std::mem::take(&mut self.reconcile_all) {
            self.send_subscribed(Call::Reconcile { tasks: Vec::new() });
        }
        for (task_id, grace) in self.tasks.kills() {
            self.send_subscribed(Call::Kill { task_id, grace });
        }
    }

    fn ask(&mut self, now: Time, ask: Ask) {
        if self.is_ending() {
            return;
        }
        match ask {
            Ask::Kill { task_id, grace } => {
                let grace = grace.map(|grace| grace.min(limits::KILL_GRACE_MAX));
                self.tasks.kill(task_id.clone(), grace);
                if !self.tasks.is_live(&task_id) {
                    // The kill itself is answered, unless the agent has yet to return after a change of master.
                    self.reconciliation.add([(task_id.clone(), None)]);
                    if self.is_subscribed() {
                        self.reconciliation.asked(now);
                    }
                }
                self.send_subscribed(Call::Kill { task_id, grace });
            }
            Ask::Reconcile(tasks) => {
                self.reconciliation.add(tasks.iter().cloned());
                if self.is_subscribed() {
                    self.reconciliation.asked(now);
                    self.reconcile(tasks);
                }
            }
            Ask::ReconcileOperations(operations) => {
                self.operations_asked.add(operations.iter().cloned());
                if self.is_subscribed() {
                    self.operations_asked.asked(now);
                    self.reconcile_operations(operations);
                }
            }
            Ask::UpdateFramework(described) => self.update_framework(*described),
            Ask::Request { role, requests } => self.request(role, requests),
            Ask::AcceptInverseOffers { inverse_offers, refuse } => {
                let inverse_offers = self.answered(inverse_offers);
                if !inverse_offers.is_empty() {
                    self.send_subscribed(Call::AcceptInverseOffers { inverse_offers, refuse });
                }
            }
            Ask::DeclineInverseOffers { inverse_offers, refuse, reason } => {
                let inverse_offers = self.answered(inverse_offers);
                if !inverse_offers.is_empty() {
                    self.send_subscribed(Call::DeclineInverseOffers { inverse_offers, refuse, reason });
                }
            }
            Ask::WatchFree(on) => self.watch_free(on),
            Ask::Commit { role, claims, all_or_nothing } => self.commit(now, role, claims, all_or_nothing),
            Ask::ReconcileAll if self.is_subscribed() => {
                self.send_subscribed(Call::Reconcile { tasks: Vec::new() });
            }
            Ask::ReconcileAll => self.reconcile_all = true,
            // While suppressed there is nothing to forget: reviving will.
            Ask::Revive => {
                if self.wants_offers && self.is_subscribed() {
                    self.suppressed = false;
                    self.send(Call::Revive { roles: Vec::new() });
                }
            }
            Ask::Wake(after) => {
                // Whole milliseconds, and always a later one, so that a scheduler that asks in every callback stays bounded.
                let millis = (now + after).as_micros().div_ceil(1000).max(now.as_micros() / 1000 + 1);
                let at = millis.saturating_mul(1000);
                self.wakes.insert(Time::from_micros(at));
            }
            Ask::Stop(stop) => self.stop(now, stop),
        }
    }

    /// Those of these inverse offers that wait for an answer, which they have now.
    fn answered(&mut self, mut inverse_offers: Vec<OfferId>) -> Vec<OfferId> {
        inverse_offers.retain(|id| self.asked_to_leave.remove(id));
        inverse_offers
    }

    pub(crate) fn stop(&mut self, now: Time, stop: Stop) {
        if self.phase == Phase::Ended {
            return;
        }
        match stop {
            Stop::Disconnect | Stop::Abort => self.end(Ok(stop)),
            // The framework is another's.
            Stop::Teardown if matches!(self.phase, Phase::StandingBy { .. }) => {
                self.end(Ok(Stop::Disconnect))
            }
            // Nothing was ever subscribed that could be torn down, nor is about to be.
            Stop::Teardown
                if self.framework_id.is_none() && !matches!(self.phase, Phase::Subscribing { .. }) =>
            {
                self.end(Ok(stop));
            }
            Stop::Teardown => {
                if self.teardown_by.is_some() {
                    return;
                }
                self.teardown_by = Some(now + bounds::TEARDOWN_TIMEOUT);
                self.steps.retain(|step| matches!(step, Step::Action(_)));
                self.reconciliation.pause();
                self.operations_asked.pause();
                if self.is_subscribed() {
                    self.teardown();
                }
            }
        }
    }

    fn teardown(&mut self) {
        self.teardown_sent = true;
        self.send(Call::Teardown);
    }

    fn connect(&mut self, now: Time) {
        self.phase = Phase::Connecting { by: now + bounds::ATTEMPT_TIMEOUT };
        self.steps.push_back(Step::Action(Action::Connect { master: self.master }));
    }

    /// Gives the stream up, of our own accord.
    fn abandon(&mut self, now: Time, why: String) {
        self.steps.push_back(Step::Action(Action::Close));
        self.lost(now, why);
    }

    /// The one place where a connection, or an attempt at one, ends without the run ending.
    fn lost(&mut self, now: Time, why: String) {
        if self.teardown_by.is_some() && self.framework_id.is_none() {
            // There is nothing to come back for.
            self.end(Ok(Stop::Teardown));
            return;
        }
        match self.phase {
            Phase::Subscribed { since, .. } => {
                // One that stood for a while is a fresh loss; one that fell at once is one more failure.
                if now.since(since) >= bounds::RECONNECT_PAUSE_MAX {
                    self.failures = 0;
                }
                self.outstanding.clear();
                self.asked_to_leave.clear();
                self.reconciliation.pause();
                self.operations_asked.pause();
                self.claims.clear();
                self.free_version = None;
                self.teardown_sent = false;
                self.tell(Callback::Disconnected(why.clone()));
            }
            _ => self.master = (self.master + 1) % self.config.masters.len(),
        }
        let longest = match self.config.masters.len() {
            1 => bounds::RECONNECT_PAUSE_MAX,
            _ => bounds::RECONNECT_PAUSE_SEVERAL_MAX,
        };
        let longest =
            (self.described.current().0.failover_timeout / 10).clamp(bounds::RECONNECT_PAUSE_MIN, longest);
        let pause = bounds::RECONNECT_PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Waiting { at: now + self.random.between(pause / 2, pause) };
        self.last_failure = why;
    }

    /// The one place where the run ends.
    fn end(&mut self, how: Result<Stop, DriverError>) {
        self.phase = Phase::Ended;
        self.outstanding.clear();
        self.steps.retain(|step| matches!(step, Step::Action(_)));
        self.steps.push_back(Step::Action(Action::End(how)));
    }

    /// The framework's id, for errors.
    fn name(&self) -> String {
        self.framework_id.as_ref().map_or_else(|| "(new)".to_owned(), ToString::to_string)
    }

    fn tell(&mut self, callback: Callback) {
        if !self.is_ending() {
            self.steps.push_back(Step::Callback(callback));
        }
    }

    /// Sends a call that makes sense only within a subscription; forgets it without one.
    fn send_subscribed(&mut self, call: Call) {
        if self.is_subscribed() {
            self.send(call);
        }
    }

    fn send(&mut self, call: Call) -> u64 {
        self.call_id += 1;
        if self.calls.len() == bounds::CALLS_REMEMBERED {
            self.calls.pop_front();
        }
        self.calls.push_back((self.call_id, call.name()));
        self.steps.push_back(Step::Action(Action::Send { call_id: self.call_id, call }));
        self.call_id
    }

    fn reconcile_operations(&mut self, operations: Vec<(OperationId, Option<AgentId>)>) {
        for chunk in operations.chunks(bounds::RECONCILE_TASKS_PER_CALL) {
            self.send_subscribed(Call::ReconcileOperations { operations: chunk.to_vec() });
        }
    }

    fn reconcile(&mut self, tasks: Vec<(TaskId, Option<AgentId>)>) {
        for chunk in tasks.chunks(bounds::RECONCILE_TASKS_PER_CALL) {
            self.send_subscribed(Call::Reconcile { tasks: chunk.to_vec() });
        }
    }

    /// Offers were dropped outside of callbacks.
    pub(crate) fn dropped(&mut self, now: Time, answers: Vec<Said>) {
        if self.phase != Phase::Ended {
            self.answer(now, answers);
        }
    }
}
