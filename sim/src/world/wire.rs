//! Connections: how they begin, what goes through them, how they end.

use std::time::Duration;

use apportion_master_core::{ConnId, Event as MasterEvent};
use apportion_types::{
    limits,
    protocol::{
        agent::{MasterMessage, RefuseCode},
        scheduler::{ErrorCode, Event as SchedulerEvent},
    },
};

use super::{What, World};
use crate::{
    check::Happening,
    fault::{Process, Ways},
    network::{Counted as _, Down, Item, Peer, Up, Way},
    random,
};

/// How long an attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// After so long without a sign of life an end of a connection gives it up, and at most so much later.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_LATE: Duration = Duration::from_secs(2);

/// How long the master's side of a stream may outlive its last message.
const SERVER_END_MOST: Duration = Duration::from_millis(2);

impl Ways {
    fn each(self) -> &'static [Way] {
        match self {
            Ways::Both => &[Way::ToMaster, Way::FromMaster],
            Ways::ToMaster => &[Way::ToMaster],
            Ways::FromMaster => &[Way::FromMaster],
        }
    }
}

impl World {
    /// A peer begins to connect; [`World::answered`] follows.
    pub(super) fn connect(&mut self, peer: Peer, life: u64, attempt: u64) {
        let takes = if self.network.link(peer).is_whole() {
            self.network.delay(&mut self.chance.network, peer)
        } else {
            CONNECT_TIMEOUT
        };
        self.queue.push(self.now + takes, What::Answered { peer, life, attempt });
    }

    pub(super) fn answered(&mut self, peer: Peer, life: u64, attempt: u64) {
        let reached = self.master.core.is_some() && self.network.link(peer).is_whole();
        match peer {
            Peer::Agent(agent) => self.agent_answered(agent, life, attempt, reached),
            Peer::Framework(framework) => self.framework_answered(framework, life, attempt, reached),
        }
    }

    pub(super) fn send_up(&mut self, number: usize, message: Up) {
        self.put_up(number, Item::Message(message));
    }

    fn put_up(&mut self, number: usize, item: Item<Up>) {
        let Some(conn) = self.network.conn_ref(number) else { return };
        let at = self.now + self.network.delay(&mut self.chance.network, conn.peer);
        let Some(conn) = self.network.conn(number) else { return };
        conn.up.push(at, item);
        self.schedule(number, Way::ToMaster);
    }

    /// Queues a message to a peer, within the bound of its outbox, as the master's shell does.
    pub(super) fn send_down(&mut self, number: usize, message: Down) {
        let Some(conn) = self.network.conn(number) else { return };
        if !conn.server_open || conn.down.is_ended() {
            return;
        }
        if conn.down.len() > 0 && conn.down.items + message.items() > limits::OUTBOX_ITEMS_MAX {
            conn.down.truncate(0);
            let why = "messages were not read in time".to_owned();
            let last = match message {
                Down::Scheduler(_) => {
                    Down::Scheduler(SchedulerEvent::Error { code: ErrorCode::TooSlow, message: why })
                }
                Down::Agent(_) => {
                    Down::Agent(MasterMessage::Refuse { code: RefuseCode::TooSlow, message: why })
                }
            };
            self.put_down(number, Item::Message(last));
            self.end_by_master(number);
            return;
        }
        self.put_down(number, Item::Message(message));
    }

    fn put_down(&mut self, number: usize, item: Item<Down>) {
        let Some(conn) = self.network.conn_ref(number) else { return };
        let at = self.now + self.network.delay(&mut self.chance.network, conn.peer);
        let Some(conn) = self.network.conn(number) else { return };
        conn.down.push(at, item);
        self.schedule(number, Way::FromMaster);
    }

    /// The master ends a stream after what is queued.
    pub(super) fn end_by_master(&mut self, number: usize) {
        if self.network.conn_ref(number).is_none_or(|conn| !conn.server_open || conn.down.is_ended()) {
            return;
        }
        self.put_down(number, Item::End { clean: true, why: "the master ended the connection" });
        let at = self.now + random::between(&mut self.chance.network, Duration::ZERO, SERVER_END_MOST);
        self.queue.push(at, What::ServerEnds { conn: number });
    }

    /// Has the head of a lane come out in time, unless its link is cut.
    fn schedule(&mut self, number: usize, way: Way) {
        let Some(conn) = self.network.conn_ref(number) else { return };
        let (due, scheduled) = match way {
            Way::ToMaster => (conn.up.due(), conn.up.scheduled),
            Way::FromMaster => (conn.down.due(), conn.down.scheduled),
        };
        let Some(due) = due.filter(|_| !scheduled && !self.network.link(conn.peer).is_cut(way)) else {
            return;
        };
        let due = due.max(self.now);
        if let Some(conn) = self.network.conn(number) {
            match way {
                Way::ToMaster => conn.up.scheduled = true,
                Way::FromMaster => conn.down.scheduled = true,
            }
        }
        self.queue.push(due, What::Deliver { conn: number, way });
    }

    pub(super) fn deliver(&mut self, number: usize, way: Way) {
        let Some(conn) = self.network.conn_ref(number) else { return };
        let cut = self.network.link(conn.peer).is_cut(way);
        let Some(conn) = self.network.conn(number) else { return };
        match way {
            Way::ToMaster => conn.up.scheduled = false,
            Way::FromMaster => conn.down.scheduled = false,
        }
        if cut {
            return; // until it heals
        }
        match way {
            Way::ToMaster => {
                let item = conn.up.pop();
                self.schedule(number, way);
                self.arrive_up(number, item);
            }
            Way::FromMaster => {
                let item = conn.down.pop();
                self.schedule(number, way);
                self.arrive_down(number, item);
            }
        }
    }

    fn arrive_up(&mut self, number: usize, item: Option<Item<Up>>) {
        let Some(conn) = self.network.conn(number).filter(|conn| conn.server_open) else { return };
        let (peer, id) = (conn.peer, ConnId(number as u64));
        match item {
            Some(Item::Message(message)) => {
                conn.heard = true;
                match (peer, message) {
                    (Peer::Framework(framework), Up::Scheduler { call_id, call }) => {
                        self.observe(&Happening::MasterHearsScheduler { framework, conn: id, call: &call });
                        self.master_handles(MasterEvent::SchedulerCall { conn: id, call_id, call });
                    }
                    (Peer::Agent(agent), Up::Agent(message)) => {
                        self.observe(&Happening::MasterHearsAgent { agent, conn: id, message: &message });
                        self.master_handles(MasterEvent::AgentMessage { conn: id, message });
                    }
                    _ => unreachable!("each peer speaks its own protocol"),
                }
            }
            Some(Item::End { .. }) => self.server_ends(number),
            None => {}
        }
    }

    fn arrive_down(&mut self, number: usize, item: Option<Item<Down>>) {
        let Some(conn) = self.network.conn(number).filter(|conn| conn.client_open) else { return };
        match (conn.peer, item) {
            (Peer::Framework(framework), Some(Item::Message(Down::Scheduler(event)))) => {
                self.framework_hears(framework, event);
            }
            (Peer::Agent(agent), Some(Item::Message(Down::Agent(message)))) => {
                self.agent_hears(agent, message);
            }
            (_, Some(Item::End { clean, why })) => self.client_ends(number, clean, why),
            (_, None) => {}
            _ => unreachable!("each peer is spoken to in its own protocol"),
        }
    }

    /// The peer's end is gone, and it is told so.
    fn client_ends(&mut self, number: usize, clean: bool, why: &'static str) {
        let Some(conn) = self.network.conn(number).filter(|conn| conn.client_open) else { return };
        conn.client_open = false;
        let peer = conn.peer;
        self.network.sweep(number);
        match peer {
            Peer::Agent(agent) => self.agent_disconnected(agent, why),
            Peer::Framework(framework) => self.framework_disconnected(framework, clean, why),
        }
    }

    /// The master's end is gone, and it is told so.
    pub(super) fn server_ends(&mut self, number: usize) {
        let Some(conn) = self.network.conn(number).filter(|conn| conn.server_open) else { return };
        conn.server_open = false;
        let (peer, heard, id) = (conn.peer, conn.heard, ConnId(number as u64));
        self.network.sweep(number);
        self.observe(&Happening::StreamEnded { conn: id });
        // A stream on which nothing was said is not known to the core.
        if heard && self.master.core.is_some() {
            self.master_handles(match peer {
                Peer::Agent(_) => MasterEvent::AgentClosed { conn: id },
                Peer::Framework(_) => MasterEvent::SchedulerClosed { conn: id },
            });
        }
    }

    /// A peer leaves its connection: what it has sent still arrives, or, when it dies, only a part of it.
    pub(super) fn leave(&mut self, number: usize, dies: bool) {
        let Some(conn) = self.network.conn(number).filter(|conn| conn.client_open) else { return };
        conn.client_open = false;
        if dies {
            let keep = self.chance.network.usize(0..=conn.up.len());
            conn.up.truncate(keep);
        }
        self.put_up(number, Item::End { clean: !dies, why: "the peer has ended the connection" });
        self.network.sweep(number);
    }

    /// A connection breaks; both ends will see it.
    pub(super) fn break_conn(&mut self, number: usize) {
        let Some(conn) = self.network.conn(number) else { return };
        let keep = self.chance.network.usize(0..=conn.up.len());
        conn.up.truncate(keep);
        let keep = self.chance.network.usize(0..=conn.down.len());
        conn.down.truncate(keep);
        self.put_up(number, Item::End { clean: false, why: "connection reset" });
        self.put_down(number, Item::End { clean: false, why: "connection reset" });
    }

    /// The master's process has died: its ends of all connections are gone.
    pub(super) fn master_left(&mut self) {
        let standing: Vec<usize> = self.network.standing().map(|(number, _)| number).collect();
        for number in standing {
            let Some(conn) = self.network.conn(number).filter(|conn| conn.server_open) else { continue };
            conn.server_open = false;
            let keep = self.chance.network.usize(0..=conn.down.len());
            conn.down.truncate(keep);
            self.observe(&Happening::StreamEnded { conn: ConnId(number as u64) });
            self.put_down(number, Item::End { clean: false, why: "connection reset" });
            self.network.sweep(number);
        }
    }

    /// Nothing gets through any more, one way or both. An end that hears nothing for long gives its connection up.
    pub(super) fn cut(&mut self, peer: Peer, ways: Ways) {
        let link = self.network.link_mut(peer);
        ways.each().iter().for_each(|way| link.cut(*way));
        let (cuts, conns) = (link.cuts, link.conns.clone());
        for conn in conns {
            for server in [false, true] {
                let late = random::between(&mut self.chance.network, Duration::ZERO, KEEP_ALIVE_LATE);
                self.queue.push(self.now + KEEP_ALIVE + late, What::Silent { conn, cuts, server });
            }
        }
    }

    pub(super) fn heals(&mut self, peer: Peer, ways: Ways) {
        self.progress();
        let link = self.network.link_mut(peer);
        ways.each().iter().for_each(|way| link.heal(*way));
        for conn in link.conns.clone() {
            self.schedule(conn, Way::ToMaster);
            self.schedule(conn, Way::FromMaster);
        }
    }

    pub(super) fn silent(&mut self, number: usize, cuts: u64, server: bool) {
        let Some(peer) = self.network.conn_ref(number).map(|conn| conn.peer) else { return };
        let link = self.network.link(peer);
        // A later cut has its own time-out: what is not counted here is counted there.
        if link.is_whole() || link.cuts != cuts {
            return;
        }
        let end = Item::End { clean: false, why: "connection reset" };
        if server {
            self.server_ends(number);
            let end = Item::End { clean: false, why: "connection reset" };
            self.put_down(number, end);
        } else {
            self.client_ends(number, false, "nothing was heard for too long");
            self.put_up(number, end);
        }
    }

    /// The connections of a peer, newest last.
    pub(super) fn conns_of(&self, peer: Peer) -> Vec<usize> {
        self.network.link(peer).conns.clone()
    }
}

impl From<Peer> for Process {
    fn from(peer: Peer) -> Process {
        match peer {
            Peer::Agent(agent) => Process::Agent(agent),
            Peer::Framework(framework) => Process::Framework(framework),
        }
    }
}
