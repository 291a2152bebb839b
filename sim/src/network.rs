//! The network: one connection is two lanes that keep their order, and that may be slow, cut, or broken.
//!
//! As with TCP nothing is lost, doubled or put out of order within a lane while its connection stands. What is lost is lost with the
//! connection, from some point on; what is said twice is said again on the next one, and what an old connection still holds may
//! arrive after the new one has spoken.

use std::{collections::VecDeque, time::Duration};

use apportion_types::{
    Time,
    protocol::{
        agent::{AgentMessage, MasterMessage},
        scheduler::{Call, Event},
    },
};

use crate::random;

/// Who speaks to the master, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// An agent.
    Agent(usize),
    /// A framework.
    Framework(usize),
}

/// Which way a lane goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    ToMaster,
    FromMaster,
}

/// To a master.
#[derive(Debug)]
pub(crate) enum Up {
    Scheduler { call_id: u64, call: Call },
    Agent(AgentMessage),
}

/// From a master.
#[derive(Debug)]
pub(crate) enum Down {
    Scheduler(Event),
    Agent(MasterMessage),
}

/// What comes out of a lane.
#[derive(Debug)]
pub(crate) enum Item<T> {
    Message(T),
    End { clean: bool, why: &'static str },
}

/// One direction of a connection.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    queue: VecDeque<(Time, Item<T>)>,
    /// Offers, tasks and statuses in it, as [`apportion_types::limits::OUTBOX_ITEMS_MAX`] counts them.
    pub(crate) items: usize,
    /// A delivery is in the queue of happenings.
    pub(crate) scheduled: bool,
    /// Nothing goes in behind the end.
    ended: bool,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), items: 0, scheduled: false, ended: false }
    }
}

impl<T: Counted> Lane<T> {
    /// Puts an item in; it comes out at `at`, or when what is before it has.
    pub(crate) fn push(&mut self, at: Time, item: Item<T>) {
        if self.ended {
            return;
        }
        match &item {
            Item::Message(message) => self.items += message.items(),
            Item::End { .. } => self.ended = true,
        }
        let at = self.queue.back().map_or(at, |(last, _)| at.max(*last));
        self.queue.push_back((at, item));
    }

    pub(crate) fn pop(&mut self) -> Option<Item<T>> {
        let (_, item) = self.queue.pop_front()?;
        if let Item::Message(message) = &item {
            self.items -= message.items();
        }
        Some(item)
    }

    /// When its head comes out.
    pub(crate) fn due(&self) -> Option<Time> {
        self.queue.front().map(|(at, _)| *at)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Loses all but its first items.
    pub(crate) fn truncate(&mut self, keep: usize) {
        self.queue.truncate(keep);
        self.items = self.queue.iter().map(|(_, item)| item.items()).sum();
        self.ended = self.queue.iter().any(|(_, item)| matches!(item, Item::End { .. }));
    }
}

/// What takes up room in a queue.
pub(crate) trait Counted {
    fn items(&self) -> usize;
}

impl<T: Counted> Counted for Item<T> {
    fn items(&self) -> usize {
        match self {
            Item::Message(message) => message.items(),
            Item::End { .. } => 0,
        }
    }
}

impl Counted for Up {
    fn items(&self) -> usize {
        1
    }
}

impl Counted for Down {
    fn items(&self) -> usize {
        match self {
            Down::Scheduler(Event::Offers(offers)) => offers.len().max(1),
            Down::Agent(MasterMessage::RunTasks { tasks, .. }) => tasks.len().max(1),
            Down::Agent(MasterMessage::Registered { missing_tasks, .. }) => missing_tasks.len().max(1),
            _ => 1,
        }
    }
}

/// A connection between a peer and one process of a master.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) peer: Peer,
    pub(crate) up: Lane<Up>,
    pub(crate) down: Lane<Down>,
    /// The peer has not seen it end.
    pub(crate) client_open: bool,
    /// The master has not seen it end.
    pub(crate) server_open: bool,
    /// The master has heard something on it.
    pub(crate) heard: bool,
}

/// The way between a peer and the master.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// Cuts that hold, for each way.
    to_master: u32,
    from_master: u32,
    /// How many times slower than usual.
    pub(crate) slowness: u32,
    /// Counts the cuts, so that a time-out knows its own.
    pub(crate) cuts: u64,
    pub(crate) conns: Vec<usize>,
}

impl Default for Link {
    fn default() -> Self {
        Self { to_master: 0, from_master: 0, slowness: 1, cuts: 0, conns: Vec::new() }
    }
}

impl Link {
    fn cuts(&mut self, way: Way) -> &mut u32 {
        match way {
            Way::ToMaster => &mut self.to_master,
            Way::FromMaster => &mut self.from_master,
        }
    }

    pub(crate) fn is_cut(&self, way: Way) -> bool {
        match way {
            Way::ToMaster => self.to_master > 0,
            Way::FromMaster => self.from_master > 0,
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.to_master == 0 && self.from_master == 0
    }

    pub(crate) fn cut(&mut self, way: Way) {
        *self.cuts(way) += 1;
        self.cuts += 1;
    }

    pub(crate) fn heal(&mut self, way: Way) {
        let cuts = self.cuts(way);
        *cuts = cuts.checked_sub(1).expect("only what was cut is healed");
    }
}

/// However slow a link is, nothing takes longer: a run is at rest after a longer quiet, and then nothing is under way.
const LONGEST: Duration = Duration::from_secs(30);

/// How long messages take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delays {
    /// At least.
    pub least: Duration,
    /// At most, but for stragglers.
    pub most: Duration,
    /// How many messages in a million take longer.
    pub stragglers_ppm: u32,
    /// The longest that a straggler takes.
    pub straggler_most: Duration,
}

impl Default for Delays {
    /// A data center: 0.2 to 1 ms, and one message in a thousand up to 50 ms.
    fn default() -> Self {
        Self {
            least: Duration::from_micros(200),
            most: Duration::from_millis(1),
            stragglers_ppm: 1_000,
            straggler_most: Duration::from_millis(50),
        }
    }
}

/// Every connection and every link.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) delays: Delays,
    conns: Vec<Option<Box<Conn>>>,
    pub(crate) agents: Vec<Link>,
    pub(crate) frameworks: Vec<Link>,
}

impl Network {
    pub(crate) fn new(delays: Delays, agents: usize, frameworks: usize) -> Self {
        let links = |count| vec![Link::default(); count];
        Self { delays, conns: Vec::new(), agents: links(agents), frameworks: links(frameworks) }
    }

    pub(crate) fn link(&self, peer: Peer) -> &Link {
        match peer {
            Peer::Agent(agent) => &self.agents[agent],
            Peer::Framework(framework) => &self.frameworks[framework],
        }
    }

    pub(crate) fn link_mut(&mut self, peer: Peer) -> &mut Link {
        match peer {
            Peer::Agent(agent) => &mut self.agents[agent],
            Peer::Framework(framework) => &mut self.frameworks[framework],
        }
    }

    pub(crate) fn delay(&self, rng: &mut fastrand::Rng, peer: Peer) -> Duration {
        let delays = &self.delays;
        let most = if random::hits(rng, delays.stragglers_ppm) { delays.straggler_most } else { delays.most };
        (random::between(rng, delays.least, most) * self.link(peer).slowness).min(LONGEST)
    }

    pub(crate) fn open(&mut self, peer: Peer) -> usize {
        let number = self.conns.len();
        self.conns.push(Some(Box::new(Conn {
            peer,
            up: Lane::default(),
            down: Lane::default(),
            client_open: true,
            server_open: true,
            heard: false,
        })));
        self.link_mut(peer).conns.push(number);
        number
    }

    pub(crate) fn conn(&mut self, number: usize) -> Option<&mut Conn> {
        self.conns.get_mut(number)?.as_deref_mut()
    }

    pub(crate) fn conn_ref(&self, number: usize) -> Option<&Conn> {
        self.conns.get(number)?.as_deref()
    }

    /// Forgets a connection that nobody holds any more.
    pub(crate) fn sweep(&mut self, number: usize) {
        let Some(conn) = self.conn(number) else { return };
        if !conn.client_open && !conn.server_open {
            let peer = conn.peer;
            self.conns[number] = None;
            self.link_mut(peer).conns.retain(|conn| *conn != number);
        }
    }

    /// The connections that still stand at one end or the other.
    pub(crate) fn standing(&self) -> impl Iterator<Item = (usize, &Conn)> {
        // Only those of the links: the list of all that ever were is long.
        let links = self.agents.iter().chain(&self.frameworks);
        links.flat_map(|link| &link.conns).filter_map(|conn| Some((*conn, self.conn_ref(*conn)?)))
    }
}
