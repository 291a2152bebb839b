//! Plays commands against a master with a clock of its own.

mod commands;
mod model;
mod print;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use apportion_allocator::Hierarchical;
use apportion_master_core::{Action, CommitId, Config, ConnId, Event, Master, Recovered, RegistryOp};
use apportion_types::{
    AgentId, FrameworkId, TaskId, Time, UpdateId,
    protocol::{agent::MasterMessage, scheduler::Event as SchedulerEvent},
};

/// How long each command lasts: an allocation that it leads to runs within it.
const STEP: Duration = Duration::from_millis(5);

/// A master, and what its peers remember.
#[derive(Default)]
pub(crate) struct Scenario {
    config: Option<Config>,
    master: Option<Master>,
    now: Time,
    /// Writes wait for the command `commit`.
    hold: bool,
    commits: VecDeque<(CommitId, RegistryOp)>,
    /// What is written.
    registry: Recovered,
    /// The newest stream of each peer.
    peers: BTreeMap<String, Peer>,
    labels: BTreeMap<ConnId, String>,
    requests: u64,
    calls: u64,
    updates: u64,
    out: Vec<String>,
}

#[derive(Default, Clone)]
struct Peer {
    streams: Vec<ConnId>,
    framework_id: Option<FrameworkId>,
    agent_id: Option<AgentId>,
    /// The newest update of each task that is to be acknowledged.
    updates: BTreeMap<TaskId, (AgentId, UpdateId)>,
}

impl Scenario {
    fn config(&mut self) -> &mut Config {
        assert!(self.master.is_none(), "settings stand before everything else");
        self.config.get_or_insert_with(|| Config::new("m1"))
    }

    fn master(&mut self) -> &mut Master {
        let config = self.config.get_or_insert_with(|| Config::new("m1"));
        self.master.get_or_insert_with(|| Master::new(config.clone(), Time::ZERO))
    }

    /// Lets something happen, and all that follows at the same moment.
    fn happen(&mut self, event: Event) {
        let (now, mut actions) = (self.now, Vec::new());
        self.master().handle(now, event, &mut actions);
        for action in actions {
            self.run(action);
        }
        while !self.hold && self.commit() {}
    }

    /// Does the first of the writes that wait; false when none does.
    fn commit(&mut self) -> bool {
        let Some((commit, op)) = self.commits.pop_front() else { return false };
        if let RegistryOp::SetRole { role, settings } = op.clone() {
            self.config.get_or_insert_with(|| Config::new("m1")).roles.insert(role, settings);
        }
        self.registry.apply(op);
        self.happen(Event::Committed { commit });
        true
    }

    /// Another master on the same registry, with the same settings. What was not written is lost, and all streams have ended.
    fn restart(&mut self, master_id: &str) {
        self.commits.clear();
        self.peers.values_mut().for_each(|peer| peer.updates.clear());
        let mut config = self.config.get_or_insert_with(|| Config::new("m1")).clone();
        config.master_id = master_id.to_owned();
        let allocator = Box::new(Hierarchical::default());
        self.master = Some(Master::recover(config, self.registry.clone(), allocator, self.now));
    }

    fn run(&mut self, action: Action) {
        let line = print::action(&action, &self.labels);
        self.out.push(line);
        match action {
            Action::Commit { commit, op } => self.commits.push_back((commit, op)),
            Action::ToScheduler { conn, event } => self.scheduler_hears(conn, event),
            Action::ToAgent { conn, message: MasterMessage::Registered { agent_id, .. } } => {
                self.peer_of(conn).agent_id = Some(agent_id);
            }
            _ => {}
        }
    }

    fn scheduler_hears(&mut self, conn: ConnId, event: SchedulerEvent) {
        match event {
            SchedulerEvent::Subscribed { framework_id, .. } => {
                self.peer_of(conn).framework_id = Some(framework_id)
            }
            SchedulerEvent::Update(status) => {
                if let (Some(agent_id), Some(update_id)) = (status.agent_id, status.update_id) {
                    self.peer_of(conn).updates.insert(status.task_id, (agent_id, update_id));
                }
            }
            _ => {}
        }
    }

    fn peer_of(&mut self, conn: ConnId) -> &mut Peer {
        self.peers.values_mut().find(|peer| peer.streams.contains(&conn)).expect("the stream was opened")
    }

    /// Opens a stream.
    fn open(&mut self, name: &str) -> ConnId {
        let conn = ConnId(self.labels.len() as u64 + 1);
        let peer = self.peers.entry(name.to_owned()).or_default();
        peer.streams.push(conn);
        let label =
            if peer.streams.len() == 1 { name.to_owned() } else { format!("{name}#{}", peer.streams.len()) };
        self.labels.insert(conn, label);
        conn
    }

    /// The stream that a command means: `f1` is the newest of f1, `f1#1` its first; opened when there is none.
    fn conn(&mut self, name: &str) -> ConnId {
        let (peer, number) =
            name.split_once('#').map_or((name, None), |(peer, n)| (peer, n.parse::<usize>().ok()));
        let streams = self.peers.get(peer).map_or(&[][..], |peer| &peer.streams);
        match number.map_or(streams.last(), |n| streams.get(n - 1)) {
            Some(conn) => *conn,
            None => self.open(peer),
        }
    }

    /// Lets time pass; what is due on the way happens at its time.
    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        let mut ticks = 0;
        while let Some(at) = self.master().next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.happen(Event::Tick);
            ticks += 1;
            assert!(ticks < 10_000, "the master ticks and ticks");
        }
        self.now = end;
    }
}
