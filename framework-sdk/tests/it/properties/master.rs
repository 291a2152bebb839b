//! A master that believes nothing, and a network that breaks.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    task::{Context as Poller, Poll, Waker},
    time::Duration,
};

use apportion_sdk::{
    AgentId, FrameworkId, FrameworkInfo, OfferId, Resources, Role, Source, Stop, TaskId, TaskState,
    TaskStatus, Time, UpdateId,
    driver::{Action, Config, Engine, Input},
    protocol::{Accept, Call, ErrorCode, Event, Refusal},
};
use proptest::{collection::vec, prelude::*};

use super::player::Player;

#[derive(Debug, Clone)]
pub(super) enum Op {
    /// The network and the master go on with whatever the driver waits for.
    Progress,
    Break(bool),
    Error(bool),
    Offers(Vec<(u8, u8)>),
    Rescind(usize),
    Update {
        task: usize,
        state: usize,
        again: bool,
    },
    Refuse(usize),
    Message,
    DropKept(usize),
    Advance(u64),
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Progress),
        1 => any::<bool>().prop_map(Op::Break),
        1 => any::<bool>().prop_map(Op::Error),
        6 => vec((0..3u8, 1..6u8), 0..4).prop_map(Op::Offers),
        2 => any::<usize>().prop_map(Op::Rescind),
        6 => (any::<usize>(), 0..6usize, any::<bool>()).prop_map(|(task, state, again)| Op::Update { task, state, again }),
        1 => any::<usize>().prop_map(Op::Refuse),
        4 => Just(Op::Message),
        2 => any::<usize>().prop_map(Op::DropKept),
        2 => (1..20_000u64).prop_map(Op::Advance),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stream {
    None,
    Asked,
    Connected,
    /// Subscribe was sent.
    Subscribing,
    Subscribed,
}

/// A master that believes nothing.
pub(super) struct World {
    pub(super) engine: Engine<Player>,
    pub(super) now: Time,
    pub(super) stream: Stream,
    pub(super) ever: bool,
    pub(super) suppressed: bool,
    /// Made on this stream, neither answered nor rescinded.
    pub(super) offers: BTreeMap<OfferId, (AgentId, Resources)>,
    pub(super) made: usize,
    pub(super) accepts: Vec<(u64, Vec<TaskId>)>,
    /// Launched, and not told to have ended.
    pub(super) live: BTreeMap<TaskId, AgentId>,
    pub(super) ended: BTreeSet<TaskId>,
    /// The last update of each task, told or lost.
    pub(super) updates: BTreeMap<TaskId, (UpdateId, TaskState)>,
    /// What the last input brought.
    pub(super) calls: Vec<(u64, Call)>,
    pub(super) end: Option<Stop>,
    pub(super) stopping: bool,
}

impl World {
    pub(super) fn new(dice: u64) -> Self {
        let info = FrameworkInfo {
            name: "test".to_owned(),
            principal: "test".to_owned(),
            roles: vec![Role::default()],
            failover_timeout: Duration::from_secs(600),
            labels: BTreeMap::new(),
        };
        let mut config = Config::new(info, "m");
        config.connect_timeout = Duration::from_secs(1_000_000);
        config.seed = dice;
        let player = Player {
            dice,
            wants: dice.is_multiple_of(2),
            kept: Vec::new(),
            placed: BTreeSet::new(),
            dropped: BTreeSet::new(),
            revived: false,
            kills: BTreeSet::new(),
            stop: None,
        };
        let mut world = World {
            engine: Engine::new(config, player),
            now: Time::from_micros(1),
            stream: Stream::None,
            ever: false,
            suppressed: false,
            offers: BTreeMap::new(),
            made: 0,
            accepts: Vec::new(),
            live: BTreeMap::new(),
            ended: BTreeSet::new(),
            updates: BTreeMap::new(),
            calls: Vec::new(),
            end: None,
            stopping: false,
        };
        world.input(Input::Start);
        world
    }

    pub(super) fn player(&mut self) -> &mut Player {
        self.engine.scheduler_mut()
    }

    pub(super) fn input(&mut self, input: Input<()>) {
        let mut actions = Vec::new();
        {
            let handled = pin!(self.engine.handle(self.now, input, &mut actions));
            assert!(matches!(handled.poll(&mut Poller::from_waker(Waker::noop())), Poll::Ready(())));
        }
        self.calls.clear();
        for action in actions {
            assert!(self.end.is_none(), "nothing follows the end");
            match action {
                Action::Connect { .. } => {
                    assert_eq!(self.stream, Stream::None);
                    self.stream = Stream::Asked;
                }
                Action::Close => self.lost(),
                Action::Send { call_id, call } => {
                    self.call(call_id, &call);
                    self.calls.push((call_id, call));
                }
                Action::End(end) => {
                    self.end = Some(end.unwrap());
                    self.lost();
                }
                _ => panic!("a new kind of action"),
            }
        }
        self.player().revived = false;
        self.check_offers();
    }

    pub(super) fn lost(&mut self) {
        self.stream = Stream::None;
        self.offers.clear();
    }

    fn call(&mut self, call_id: u64, call: &Call) {
        if let Call::Subscribe { framework_id, suppressed, .. } = call {
            assert_eq!(self.stream, Stream::Connected);
            assert_eq!(framework_id.is_some(), self.ever);
            self.stream = Stream::Subscribing;
            self.suppressed = !suppressed.is_empty();
            return;
        }
        assert_eq!(self.stream, Stream::Subscribed, "{call:?} without a subscription");
        match call {
            Call::Accept(accept) => {
                let Accept { offers, refuse, .. } = accept;
                let tasks: Vec<_> = accept.tasks().collect();
                assert!(refuse.is_some() && !tasks.is_empty());
                let mut sum = Resources::new();
                let mut agents = BTreeSet::new();
                for id in offers {
                    let (agent, resources) = self.offers.remove(id).expect("outstanding, and answered once");
                    sum += &resources;
                    agents.insert(agent);
                }
                assert_eq!(agents.len(), 1);
                let wanted: Resources = tasks.iter().map(|task| &task.as_ref().unwrap().resources).sum();
                assert!(sum.contains(&wanted), "{wanted} of {sum}");
                // A port twice would vanish in the sum.
                let ports = |resources: &Resources| resources.ports().map_or(0, |ports| ports.count());
                let each: u64 = tasks.iter().map(|task| ports(&task.as_ref().unwrap().resources)).sum();
                assert_eq!(each, ports(&wanted));
                let ids: Vec<TaskId> =
                    tasks.iter().map(|task| task.as_ref().unwrap().task_id.clone()).collect();
                for id in &ids {
                    let agent = agents.first().unwrap().clone();
                    assert!(
                        self.live.insert(id.clone(), agent).is_none() && !self.ended.contains(id),
                        "once"
                    );
                }
                self.accepts.push((call_id, ids));
            }
            Call::Decline { offers, .. } => {
                for id in offers {
                    self.offers.remove(id).expect("outstanding, and answered once");
                }
            }
            Call::Suppress { .. } => {
                assert!(!self.suppressed, "suppressed twice");
                self.suppressed = true;
            }
            Call::Revive { .. } => {
                assert!(self.suppressed || self.player().revived, "revived twice");
                self.suppressed = false;
            }
            _ => {}
        }
    }

    /// Whatever the scheduler does not hold is answered.
    fn check_offers(&mut self) {
        let held: BTreeSet<OfferId> =
            self.engine.scheduler().kept.iter().flat_map(|offer| offer.ids().to_vec()).collect();
        let unanswered: Vec<_> = self.offers.keys().filter(|id| !held.contains(id)).collect();
        assert!(unanswered.is_empty(), "{unanswered:?} are not held and not answered");
        if self.stream == Stream::Subscribed && !self.stopping {
            assert_eq!(self.suppressed, !self.engine.scheduler().wants);
        }
    }

    fn acknowledged(&self, wanted: UpdateId) -> usize {
        let acknowledged = |call: &&(u64, Call)| matches!(&call.1, Call::Acknowledge { update_id, .. } if *update_id == wanted);
        self.calls.iter().filter(acknowledged).count()
    }

    pub(super) fn op(&mut self, op: Op) {
        match op {
            Op::Progress => self.progress(),
            Op::Break(clean) => {
                if !matches!(self.stream, Stream::None) {
                    self.lost();
                    self.input(Input::Disconnected { clean, why: "as the test wishes".to_owned() });
                }
            }
            Op::Error(slow) => {
                if matches!(self.stream, Stream::Subscribing | Stream::Subscribed) {
                    let code = if slow { ErrorCode::TooSlow } else { ErrorCode::ShuttingDown };
                    self.input(Input::Event(Event::Error { code, message: String::new() }));
                    assert_eq!(self.stream, Stream::None, "closed");
                }
            }
            Op::Offers(offers) => self.offer(&offers),
            Op::Rescind(index) => {
                if !self.offers.is_empty() {
                    let index = index % self.offers.len();
                    let id = self.offers.keys().nth(index).unwrap().clone();
                    self.offers.remove(&id);
                    self.input(Input::Event(Event::Rescind(id)));
                }
            }
            Op::Update { task, state, again } => self.update(task, state, again),
            Op::Refuse(index) => self.refuse(index),
            Op::Message => self.input(Input::Message(())),
            Op::DropKept(index) => {
                let kept = &mut self.player().kept;
                if !kept.is_empty() {
                    let index = index % kept.len();
                    drop(kept.swap_remove(index));
                    self.input(Input::Tick);
                }
            }
            Op::Advance(millis) => {
                let until = self.now + Duration::from_millis(millis);
                while let Some(deadline) = self.engine.next_deadline().filter(|deadline| *deadline <= until) {
                    self.now = self.now.max(deadline);
                    self.input(Input::Tick);
                    if self.end.is_some() {
                        return;
                    }
                    assert!(self.engine.next_deadline() != Some(deadline), "a deadline that is met is gone");
                }
                self.now = until;
            }
        }
    }

    pub(super) fn progress(&mut self) {
        match self.stream {
            Stream::None => {
                let deadline = self.engine.next_deadline().expect("something is waited for");
                self.now = self.now.max(deadline);
                self.input(Input::Tick);
            }
            Stream::Asked => {
                self.stream = Stream::Connected;
                self.input(Input::Connected);
                assert_eq!(self.stream, Stream::Subscribing);
            }
            Stream::Connected => unreachable!("the driver subscribes at once"),
            Stream::Subscribing => self.subscribe(),
            Stream::Subscribed => self.input(Input::Event(Event::Heartbeat)),
        }
    }

    fn subscribe(&mut self) {
        self.stream = Stream::Subscribed;
        self.ever = true;
        let live: Vec<TaskId> = self.live.keys().cloned().collect();
        let kills: Vec<TaskId> =
            self.player().kills.iter().filter(|task_id| live.contains(task_id)).cloned().collect();
        self.input(Input::Event(Event::Subscribed {
            framework_id: FrameworkId::new("f1").unwrap(),
            heartbeat_interval: Duration::from_secs(15),
            master_id: "m".to_owned(),
        }));
        if self.stopping {
            return;
        }
        let reconciled: BTreeSet<TaskId> = self
            .calls
            .iter()
            .filter_map(|(_, call)| match call {
                Call::Reconcile { tasks } => Some(tasks.iter().map(|(task_id, _)| task_id.clone())),
                _ => None,
            })
            .flatten()
            .collect();
        assert!(live.iter().all(|task_id| reconciled.contains(task_id)), "{live:?} in {reconciled:?}");
        for task_id in kills {
            let killed =
                |(_, call): &(u64, Call)| matches!(call, Call::Kill { task_id: id, .. } if *id == task_id);
            assert!(self.calls.iter().any(killed), "{task_id} is killed again");
        }
    }

    fn offer(&mut self, offers: &[(u8, u8)]) {
        if self.stream != Stream::Subscribed {
            return;
        }
        let mut made = Vec::new();
        for (agent, cpus) in offers {
            self.made += 1;
            let port = 1000 + self.made;
            let resources: Resources = format!("cpus:{cpus};ports:[{port}-{port}]").parse().unwrap();
            let (offer_id, agent_id) = (
                OfferId::new(format!("o{}", self.made)).unwrap(),
                AgentId::new(format!("a{agent}")).unwrap(),
            );
            self.offers.insert(offer_id.clone(), (agent_id.clone(), resources.clone()));
            made.push(apportion_types::Offer {
                unavailability: None,
                offer_id,
                framework_id: FrameworkId::new("f1").unwrap(),
                agent_id,
                role: Role::default(),
                resources,
                place: Default::default(),
            });
        }
        self.input(Input::Event(Event::Offers(made)));
    }

    /// An agent tells of a task, or repeats what it told.
    fn update(&mut self, task: usize, state: usize, again: bool) {
        if self.stream != Stream::Subscribed {
            return;
        }
        let (task_id, update_id, state) = if again && !self.updates.is_empty() {
            let (task_id, (update_id, state)) = self.updates.iter().nth(task % self.updates.len()).unwrap();
            (task_id.clone(), *update_id, *state)
        } else if self.live.is_empty() {
            return;
        } else {
            use TaskState::*;
            let task_id = self.live.keys().nth(task % self.live.len()).unwrap().clone();
            let state = [Starting, Running, Running, Killing, Finished, Failed][state];
            let fresh = UpdateId::new(1, self.updates.get(&task_id).map_or(0, |(id, _)| id.0[15].into()) + 1);
            let mut bytes = fresh.0;
            bytes[..8].copy_from_slice(&task_id.as_str()[1..].parse::<u64>().unwrap().to_be_bytes());
            (task_id, UpdateId(bytes), state)
        };
        self.updates.insert(task_id.clone(), (update_id, state));
        if state.is_terminal() {
            self.live.remove(&task_id);
            self.ended.insert(task_id.clone());
            self.player().kills.remove(&task_id);
        }
        self.input(Input::Event(Event::Update(TaskStatus {
            task_id,
            agent_id: Some(AgentId::new("a1").unwrap()),
            state,
            reason: None,
            source: Source::Agent,
            message: String::new(),
            at: self.now,
            update_id: Some(update_id),
            container: None,
            findings: Default::default(),
            addresses: Vec::new(),
        })));
        assert_eq!(self.acknowledged(update_id), 1, "once for each delivery");
    }

    /// The master refuses an accept of whose tasks nothing was told.
    fn refuse(&mut self, index: usize) {
        if self.stream != Stream::Subscribed || self.accepts.is_empty() {
            return;
        }
        let (call_id, tasks) = self.accepts.remove(index % self.accepts.len());
        if tasks.iter().any(|task_id| self.updates.contains_key(task_id)) {
            return;
        }
        for task_id in &tasks {
            self.live.remove(task_id);
            self.ended.insert(task_id.clone());
        }
        self.input(Input::Event(Event::Refused { call_id, code: Refusal::Limit, message: String::new() }));
        assert!(tasks.iter().all(|task_id| self.engine.scheduler().dropped.contains(task_id)));
    }
}
