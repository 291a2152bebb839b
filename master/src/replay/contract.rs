//! What the core may rely on, checked before an event of a journal gets to it: the file may be damaged or made by hand, and the
//! core takes a breach for a bug of its shell.

use std::collections::{BTreeMap, VecDeque};

use apportion_master_core::{Action, CommitId, ConnId, Event, Master, RequestId};
use apportion_types::Time;

/// What was asked of the shell, and which streams there were.
#[derive(Debug, Default)]
pub(super) struct Contract {
    streams: BTreeMap<ConnId, Stream>,
    /// Writes that are asked for and not yet done.
    commits: VecDeque<CommitId>,
    last_request: Option<RequestId>,
    shut_down: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Scheduler,
    Agent,
    Closed,
}

impl Contract {
    /// Takes note of an event, or says why it cannot happen now. That time does not go back is seen to by the reader.
    pub(super) fn judge(&mut self, master: &Master, at: Time, event: &Event) -> Result<(), String> {
        if self.shut_down {
            return Err("something happens after the master has ended".to_owned());
        }
        match event {
            Event::SchedulerCall { conn, .. } => self.heard(*conn, Stream::Scheduler),
            Event::SchedulerClosed { conn } => self.closed(*conn, Stream::Scheduler),
            Event::AgentMessage { conn, .. } => self.heard(*conn, Stream::Agent),
            Event::AgentClosed { conn } => self.closed(*conn, Stream::Agent),
            Event::Operator { request, .. } => {
                if self.last_request.is_some_and(|last| *request <= last) {
                    return Err(format!("an operator's request has the number {} again", request.0));
                }
                self.last_request = Some(*request);
                Ok(())
            }
            Event::Committed { commit } => match self.commits.pop_front() {
                Some(first) if first == *commit => Ok(()),
                Some(first) => Err(format!("write {} is done before write {}", commit.0, first.0)),
                None => Err(format!("write {} is done and was never asked for", commit.0)),
            },
            Event::Tick if master.next_deadline().is_some_and(|deadline| deadline <= at) => Ok(()),
            Event::Tick => Err("a time has come at which nothing is due".to_owned()),
            Event::Shutdown => {
                self.shut_down = true;
                Ok(())
            }
        }
    }

    /// Takes note of what the core wants done.
    pub(super) fn asked(&mut self, actions: &[Action]) {
        self.commits.extend(actions.iter().filter_map(|action| match action {
            Action::Commit { commit, .. } => Some(*commit),
            _ => None,
        }));
    }

    fn heard(&mut self, conn: ConnId, kind: Stream) -> Result<(), String> {
        match *self.streams.entry(conn).or_insert(kind) {
            known if known == kind => Ok(()),
            Stream::Closed => Err(format!("something is heard of stream {}, which has ended", conn.0)),
            _ => Err(format!("stream {} is a scheduler's and an agent's", conn.0)),
        }
    }

    fn closed(&mut self, conn: ConnId, kind: Stream) -> Result<(), String> {
        self.heard(conn, kind)?;
        self.streams.insert(conn, Stream::Closed);
        Ok(())
    }
}
