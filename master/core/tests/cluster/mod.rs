//! A small cluster around a master: agents and schedulers that mostly behave, streams that break and lose what is on them, and a
//! clock. What the peers do is told by operations, so that a sequence of them is a test case.

mod agent;
mod model;
mod scheduler;

use std::{collections::VecDeque, time::Duration};

use apportion_allocator::Hierarchical;
use apportion_master_core::{
    Action, CommitId, Config, ConnId, Event, Master, OperatorCall, Recovered, RegistryOp, RequestId, View,
};
use apportion_types::{FrameworkId, Time};
use proptest::prelude::*;

use agent::Agent;
use scheduler::Scheduler;

/// One thing that happens. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// An agent opens a stream and registers; stale 1: as a new one, 2: with other totals, 3: over the stream that it has,
    /// 4: as one of an earlier master.
    Register { agent: usize, stale: u8 },
    /// An agent's stream breaks, and what is on it is lost.
    AgentBreaks { agent: usize },
    /// An agent reads what the master said.
    AgentHears { agent: usize },
    /// The master reads what an agent said.
    AgentSpeaks { agent: usize },
    /// A task comes to its end by itself.
    TaskEnds { agent: usize, task: usize, failed: bool },
    /// An agent ends for good.
    Unregister { agent: usize },
    /// An agent says what makes no sense.
    AgentGarbage { agent: usize, kind: u8, task: usize },
    /// A scheduler opens a stream and subscribes; fresh: without its id; variants change roles, principal, suppression.
    Subscribe { framework: usize, fresh: bool, variant: u8 },
    /// A scheduler's stream breaks.
    SchedulerBreaks { framework: usize },
    /// A scheduler reads what the master said.
    SchedulerHears { framework: usize },
    /// A scheduler uses its oldest offers.
    Accept { framework: usize, offers: usize, tasks: Vec<(u8, u8)>, refuse: u8 },
    /// A scheduler uses any offers that ever were.
    AcceptAny { framework: usize, offers: Vec<usize>, task: u8 },
    /// A scheduler gives its oldest offer back.
    Decline { framework: usize, refuse: u8 },
    /// A scheduler acknowledges its oldest update.
    Acknowledge { framework: usize },
    /// A scheduler calls something else.
    Call { framework: usize, kind: u8, task: u8 },
    /// An operator asks for something.
    Operator { kind: u8, framework: usize, task: u8 },
    /// A scheduler does what is not an ordinary launch: operations, gangs, claims.
    Model { framework: usize, kind: u8, number: u8 },
    /// An operator sets roles, reserves, asks.
    OperatorModel { kind: u8, number: u8 },
    /// Writes wait from now on, or are done at once.
    Hold { on: bool },
    /// The first write that waits is done.
    Commit,
    /// Everybody listens and answers for a while; no task ends.
    Live { steps: u8 },
    /// Time passes, and nobody answers.
    Advance { millis: u64 },
    /// A tick for which nothing is due.
    Tick,
    /// The master dies, all streams break, and the next one begins with what was written; so many of the writes that wait are.
    Restart { written: u8 },
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let three = 0usize..3;
    // Mostly sizes that fit.
    let task = (0u8..8, prop_oneof![4 => 0u8..1, 3 => 1u8..4, 1 => 4u8..8]);
    prop_oneof![
        2 => (three.clone(), 0u8..8).prop_map(|(agent, stale)| Op::Register { agent, stale }),
        1 => three.clone().prop_map(|agent| Op::AgentBreaks { agent }),
        6 => three.clone().prop_map(|agent| Op::AgentHears { agent }),
        6 => three.clone().prop_map(|agent| Op::AgentSpeaks { agent }),
        4 => (three.clone(), 0usize..8, any::<bool>()).prop_map(|(agent, task, failed)| Op::TaskEnds { agent, task, failed }),
        1 => (0usize..9).prop_map(|agent| Op::Unregister { agent }),
        1 => (three.clone(), 0u8..8, 0usize..8).prop_map(|(agent, kind, task)| Op::AgentGarbage { agent, kind, task }),
        2 => (three.clone(), 0u8..10, 0u8..20).prop_map(|(framework, fresh, variant)| {
            Op::Subscribe { framework, fresh: fresh == 0, variant }
        }),
        1 => three.clone().prop_map(|framework| Op::SchedulerBreaks { framework }),
        4 => three.clone().prop_map(|framework| Op::SchedulerHears { framework }),
        12 => (three.clone(), 1usize..3, proptest::collection::vec(task, 0..4), 0u8..4)
            .prop_map(|(framework, offers, tasks, refuse)| Op::Accept { framework, offers, tasks, refuse }),
        1 => (three.clone(), proptest::collection::vec(0usize..64, 0..4), 0u8..6)
            .prop_map(|(framework, offers, task)| Op::AcceptAny { framework, offers, task }),
        1 => (three.clone(), 0u8..4).prop_map(|(framework, refuse)| Op::Decline { framework, refuse }),
        6 => three.clone().prop_map(|framework| Op::Acknowledge { framework }),
        3 => (three.clone(), 0u8..10, 0u8..8).prop_map(|(framework, kind, task)| Op::Call { framework, kind, task }),
        1 => (0u8..6, three.clone(), 0u8..8).prop_map(|(kind, framework, task)| Op::Operator { kind, framework, task }),
        8 => (three, 0..model::KINDS, 0u8..8).prop_map(|(framework, kind, number)| Op::Model { framework, kind, number }),
        5 => (0u8..14, 0u8..8).prop_map(|(kind, number)| Op::OperatorModel { kind, number }),
        1 => any::<bool>().prop_map(|on| Op::Hold { on }),
        3 => Just(Op::Commit),
        4 => (1u8..4).prop_map(|steps| Op::Live { steps }),
        1 => prop_oneof![Just(1u64), Just(1_000), Just(4_000), Just(12_000)].prop_map(|millis| Op::Advance { millis }),
        1 => Just(Op::Tick),
        1 => (0u8..4).prop_map(|written| Op::Restart { written }),
    ]
}

pub(crate) struct Cluster {
    master: Master,
    now: Time,
    /// All that the master ever did.
    pub(crate) log: Vec<Action>,
    config: Config,
    commits: VecDeque<(CommitId, RegistryOp)>,
    registry: Recovered,
    masters: u64,
    hold: bool,
    agents: Vec<Agent>,
    schedulers: Vec<Scheduler>,
    conns: u64,
    requests: u64,
    updates: u64,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let config = Config {
            offer_timeout: Duration::from_secs(3),
            agent_ping_interval: Duration::from_secs(1),
            agent_pings_missed_max: 2,
            agent_reregister_timeout: Duration::from_secs(10),
            scheduler_heartbeat: Duration::from_secs(5),
            ..Config::new("m1")
        };
        Self {
            master: Master::new(config.clone(), Time::ZERO),
            config,
            now: Time::ZERO,
            log: Vec::new(),
            commits: VecDeque::new(),
            registry: Recovered::default(),
            masters: 1,
            hold: false,
            agents: (0..3).map(Agent::new).collect(),
            schedulers: (0..3).map(Scheduler::new).collect(),
            conns: 0,
            requests: 0,
            updates: 0,
        }
    }

    /// A cluster in which everybody has arrived, some agents perhaps with tasks of an earlier master.
    pub(crate) fn warm(of_earlier_master: bool) -> Self {
        let earlier = if of_earlier_master { 4 } else { 0 };
        let mut cluster = Self::new();
        for number in 0..3 {
            cluster.register(number, if number == 0 { 0 } else { earlier });
            cluster.subscribe(number, false, number as u8);
        }
        cluster.live(2);
        cluster
    }

    pub(crate) fn view(&self) -> View {
        self.master.view()
    }

    fn conn(&mut self) -> ConnId {
        self.conns += 1;
        ConnId(self.conns)
    }

    /// Lets the master handle an event, and puts what it says onto the streams.
    fn happen(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.master.handle(self.now, event, &mut actions);
        let mut closed = Vec::new();
        for action in &actions {
            match action {
                Action::Commit { commit, op } => self.commits.push_back((*commit, op.clone())),
                Action::ToAgent { conn, message } => {
                    if let Some(agent) = self.agents.iter_mut().find(|agent| agent.conn == Some(*conn)) {
                        agent.inbox.push_back(message.clone());
                    }
                }
                Action::ToScheduler { conn, event } => {
                    if let Some(scheduler) = self.schedulers.iter_mut().find(|s| s.conn == Some(*conn)) {
                        scheduler.inbox.push_back(event.clone());
                    }
                }
                Action::CloseAgent { conn } => closed.push(Event::AgentClosed { conn: *conn }),
                Action::CloseScheduler { conn } => closed.push(Event::SchedulerClosed { conn: *conn }),
                Action::Reply { .. } => {}
            }
        }
        self.log.extend(actions);
        for event in closed {
            match event {
                Event::AgentClosed { conn } => {
                    self.agents.iter_mut().filter(|a| a.conn == Some(conn)).for_each(Agent::stream_ended);
                }
                Event::SchedulerClosed { conn } => {
                    self.schedulers
                        .iter_mut()
                        .filter(|s| s.conn == Some(conn))
                        .for_each(Scheduler::stream_ended);
                }
                _ => unreachable!("only these close"),
            }
            self.happen(event);
        }
        while !self.hold && !self.commits.is_empty() {
            self.commit();
        }
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        let mut ticks = 0;
        while let Some(at) = self.master.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.happen(Event::Tick);
            ticks += 1;
            assert!(ticks < 100_000, "the master ticks and ticks");
        }
        self.now = end;
    }

    fn commit(&mut self) {
        if let Some(commit) = self.write() {
            self.happen(Event::Committed { commit });
        }
    }

    /// Does the first of the writes that wait, and tells nobody.
    fn write(&mut self) -> Option<CommitId> {
        let (commit, op) = self.commits.pop_front()?;
        if let RegistryOp::SetRole { role, settings } = op.clone() {
            self.config.roles.insert(role, settings);
        }
        self.registry.apply(op);
        Some(commit)
    }

    fn restart(&mut self, written: u8) {
        (0..written).for_each(|_| {
            self.write();
        });
        self.commits.clear();
        self.agents.iter_mut().filter(|agent| agent.conn.is_some()).for_each(Agent::stream_ended);
        self.schedulers.iter_mut().filter(|s| s.conn.is_some()).for_each(Scheduler::stream_ended);
        self.masters += 1;
        let config = Config { master_id: format!("m{}", self.masters), ..self.config.clone() };
        let allocator = Box::new(Hierarchical::default());
        self.master = Master::recover(config, self.registry.clone(), allocator, self.now);
    }

    pub(crate) fn play(&mut self, op: &Op) {
        match op {
            Op::Register { agent, stale } => self.register(*agent, *stale),
            Op::AgentBreaks { agent } => self.agent_breaks(*agent),
            Op::AgentHears { agent } => self.agent_hears(*agent),
            Op::AgentSpeaks { agent } => self.agent_speaks(*agent),
            Op::TaskEnds { agent, task, failed } => self.task_ends(*agent, *task, *failed),
            Op::Unregister { agent } => self.unregister(*agent),
            Op::AgentGarbage { agent, kind, task } => self.agent_garbage(*agent, *kind, *task),
            Op::Subscribe { framework, fresh, variant } => self.subscribe(*framework, *fresh, *variant),
            Op::SchedulerBreaks { framework } => self.scheduler_breaks(*framework),
            Op::SchedulerHears { framework } => self.scheduler_hears(*framework),
            Op::Accept { framework, offers, tasks, refuse } => {
                self.accept(*framework, *offers, tasks, *refuse)
            }
            Op::AcceptAny { framework, offers, task } => self.accept_any(*framework, offers, *task),
            Op::Decline { framework, refuse } => self.decline(*framework, *refuse),
            Op::Acknowledge { framework } => {
                self.acknowledge(*framework);
            }
            Op::Call { framework, kind, task } => self.call(*framework, *kind, *task),
            Op::Operator { kind, framework, task } => self.operator(*kind, *framework, *task),
            Op::Model { framework, kind, number } => self.model(*framework, *kind, *number),
            Op::OperatorModel { kind, number } => self.operator_model(*kind, *number),
            Op::Hold { on } => self.hold = *on,
            Op::Commit => self.commit(),
            Op::Live { steps } => self.live(*steps),
            Op::Advance { millis } => self.advance(Duration::from_millis(*millis)),
            Op::Tick => self.happen(Event::Tick),
            Op::Restart { written } => self.restart(*written),
        }
        self.advance(Duration::from_millis(3));
    }

    /// Everybody listens and answers.
    fn live(&mut self, steps: u8) {
        for _ in 0..steps {
            for agent in 0..self.agents.len() {
                self.agent_hears(agent);
                self.agent_speaks(agent);
            }
            (0..self.schedulers.len()).for_each(|framework| self.scheduler_hears(framework));
            self.advance(Duration::from_millis(200));
        }
    }

    fn operator(&mut self, kind: u8, framework: usize, task: u8) {
        let known = self.schedulers[framework].framework_id.clone();
        let id = known.unwrap_or_else(|| FrameworkId::new("nobody").unwrap());
        let grace = None;
        let task_id = scheduler::task_id(task);
        let call = match kind {
            0 => OperatorCall::TeardownFramework { framework_id: id },
            1..3 => OperatorCall::KillTask { framework_id: Some(id), task_id, grace },
            _ => OperatorCall::KillTask { framework_id: None, task_id, grace },
        };
        self.requests += 1;
        self.happen(Event::Operator { request: RequestId(self.requests), call });
    }

    /// Everybody behaves for a while: listens, answers, ends tasks, acknowledges.
    fn behave(&mut self) {
        self.hold = false;
        for _ in 0..40 {
            for agent in 0..self.agents.len() {
                if self.agents[agent].conn.is_none() {
                    self.register(agent, 0);
                }
                self.task_ends_all(agent);
                self.agent_hears(agent);
                self.agent_speaks(agent);
            }
            for framework in 0..self.schedulers.len() {
                if self.schedulers[framework].conn.is_none() {
                    self.subscribe(framework, false, 0);
                }
                self.scheduler_hears(framework);
                while self.acknowledge(framework) {}
            }
            while !self.commits.is_empty() {
                self.commit();
            }
            self.advance(Duration::from_millis(400));
        }
    }

    /// Brings everything to rest.
    pub(crate) fn settle(&mut self) {
        // What still runs on a stream may be lost with it: each peer starts with a new one.
        (0..3).for_each(|agent| self.agent_breaks(agent));
        (0..3).for_each(|framework| self.scheduler_breaks(framework));
        self.agents.iter_mut().for_each(Agent::repent);
        self.behave();
        let current: Vec<_> = self.agents.iter().filter_map(|agent| agent.agent_id.clone()).collect();
        let subscribed: Vec<_> = self.schedulers.iter().filter_map(|s| s.framework_id.clone()).collect();
        for task in self.view().tasks.values() {
            let waited_for = current.contains(&task.agent_id) && subscribed.contains(&task.framework_id);
            assert!(!waited_for, "nobody ends {task:?}");
        }
        for id in self.view().frameworks.keys() {
            self.requests += 1;
            let call = OperatorCall::TeardownFramework { framework_id: id.clone() };
            self.happen(Event::Operator { request: RequestId(self.requests), call });
        }
        self.behave();
    }

    pub(crate) fn shut_down(&mut self) {
        let before = self.log.len();
        let streams = self.agents.iter().filter(|a| a.conn.is_some()).count()
            + self.schedulers.iter().filter(|s| s.conn.is_some()).count();
        self.happen(Event::Shutdown);
        // A word and the end, for each.
        assert_eq!(self.log.len() - before, 2 * streams);
        assert_eq!(self.master.next_deadline(), None);
        self.happen(Event::Tick);
        assert_eq!(self.log.len() - before, 2 * streams);
    }
}
