//! A master's run once more, from its journal: a pure function of the file.
//!
//! ```no_run
//! use apportion_master::{journal::Journal, replay::Replay};
//!
//! let mut journal = Journal::open("run.journal")?;
//! let mut replay = Replay::new(journal.header());
//! let ending = replay.run(&mut journal, None)?;
//! println!("{ending:?} after {} events: {} tasks", replay.events(), replay.view().tasks.len());
//! # Ok::<(), apportion_master::replay::ReplayError>(())
//! ```

mod contract;
mod what_if;

#[cfg(test)]
mod tests;

use std::{io::Read, path::PathBuf};

use apportion_allocator::{Allocator, Hierarchical};
use apportion_master_core::{Action, Event, Master, View};
use apportion_types::Time;

pub use apportion_allocator::{Allocation, HierarchicalConfig, Share, SorterKind};

pub use self::what_if::{Cycle, RoleDifference, Sum, WhatIf, by_role};
pub use crate::{http::api::StateDocument, summary::Cluster};

use self::contract::Contract;
use crate::{
    http::api,
    journal::{Digest, Entry, Header, Journal, JournalError, Record},
    summary,
};

/// Why a journal cannot be replayed to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// It cannot be read any further. The replay stands where it could be read to.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What was recorded does not follow from what was recorded before.
    #[error(
        "the replay of {} parts from what was recorded at byte {offset}, {} after the start: {what}; \
         {}, and up to {} after the start both agree",
        .path.display(), seconds(*.at, *.started_at), advice(.recorded_by), seconds(*.agreed, *.started_at)
    )]
    Diverged {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// When the master started.
        started_at: Time,
        /// When it was recorded.
        at: Time,
        /// What cannot be.
        what: String,
        /// The version that recorded.
        recorded_by: String,
        /// Until when the replay is known to be true.
        agreed: Time,
    },
}

fn seconds(at: Time, start: Time) -> String {
    format!("{:.6}s", at.since(start).as_secs_f64())
}

fn advice(recorded_by: &str) -> String {
    match recorded_by == summary::VERSION {
        true => "the file was damaged or made by hand, or this is a bug".to_owned(),
        false => format!("replay it with apportion {recorded_by}, which recorded it"),
    }
}

/// Where a replay came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The master ended in order, and the journal is whole.
    Complete,
    /// The journal stopped while the master went on; why.
    Incomplete(String),
    /// The journal has no end: its master was killed, or still runs.
    Open,
    /// The time that was asked for is reached.
    Until,
}

/// Is shown each event of a replay, and what followed from it.
type Seen<'a> = &'a mut dyn FnMut(Time, &Event, &[Action]);

/// A master that does once more what another did.
pub struct Replay {
    master: Master,
    contract: Contract,
    actions: Vec<Action>,
    header: Header,
    now: Time,
    agreed: Time,
    events: u64,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay")
            .field("header", &self.header)
            .field("now", &self.now)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl Replay {
    /// A master as it was when it started.
    pub fn new(header: &Header) -> Replay {
        Replay::with_allocator(header, Box::new(Hierarchical::new(header.allocator.clone())))
    }

    /// The same, with an allocator that gives what the recorded one gave.
    pub fn with_allocator(header: &Header, allocator: Box<dyn Allocator>) -> Replay {
        Replay {
            master: header.master(allocator),
            contract: Contract::default(),
            actions: Vec::new(),
            header: header.clone(),
            now: header.started_at,
            agreed: header.started_at,
            events: 0,
        }
    }

    /// Replays what is left of a journal, or what of it was not after `until`. After an error of the journal the replay stands
    /// where it could be read to.
    pub fn run<R: Read>(
        &mut self,
        journal: &mut Journal<R>,
        until: Option<Time>,
    ) -> Result<Ending, ReplayError> {
        self.run_until(journal, until, None)
    }

    /// The same to the journal's end, and shows each event with what the master wanted done because of it.
    pub fn run_seen<R: Read>(
        &mut self,
        journal: &mut Journal<R>,
        seen: Seen<'_>,
    ) -> Result<Ending, ReplayError> {
        self.run_until(journal, None, Some(seen))
    }

    fn run_until<R: Read>(
        &mut self,
        journal: &mut Journal<R>,
        until: Option<Time>,
        mut seen: Option<Seen<'_>>,
    ) -> Result<Ending, ReplayError> {
        while let Some(entry) = journal.next() {
            let Entry { offset, at, record } = entry?;
            if until.is_some_and(|until| at > until) {
                return Ok(Ending::Until);
            }
            if let Record::End { incomplete } = record {
                return Ok(incomplete.map_or(Ending::Complete, Ending::Incomplete));
            }
            self.apply(at, record, &mut seen).map_err(|what| ReplayError::Diverged {
                path: journal.path().to_owned(),
                offset,
                started_at: self.header.started_at,
                at,
                what,
                recorded_by: self.header.version.clone(),
                agreed: self.agreed,
            })?;
        }
        Ok(Ending::Open)
    }

    fn apply(&mut self, at: Time, record: Record, seen: &mut Option<Seen<'_>>) -> Result<(), String> {
        match record {
            Record::Event(event) => {
                self.contract.judge(&self.master, at, &event)?;
                let shown = seen.as_ref().map(|_| event.clone());
                self.master.handle(at, event, &mut self.actions);
                self.contract.asked(&self.actions);
                if let (Some(seen), Some(event)) = (seen, shown) {
                    seen(at, &event, &self.actions);
                }
                self.actions.clear();
                self.now = at;
                self.events += 1;
            }
            Record::Digest(recorded) => {
                if let Some(part) = recorded.difference(&Digest::of(&self.master.view())) {
                    return Err(format!("the {part} are others"));
                }
                self.agreed = at;
            }
            Record::End { .. } => {}
        }
        Ok(())
    }

    /// What the master was started with.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The time of the last event.
    pub fn now(&self) -> Time {
        self.now
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// What the master knew then.
    pub fn view(&self) -> View {
        self.master.view()
    }

    /// The share of every role and framework then, in order of fairness.
    pub fn shares(&self) -> Vec<Share> {
        self.master.shares()
    }

    /// What the page `/api/v1/state` of the master would have shown then.
    pub fn document(&self) -> StateDocument {
        api::state(&self.master.view())
    }
}
