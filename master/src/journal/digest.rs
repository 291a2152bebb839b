//! Checksums of what a master knows, by which a replay sees that it has come to know something else.

use std::fmt::{self, Write as _};

use apportion_master_core::View;
use apportion_proto::v1;

use crate::summary;

/// Checksums of the parts of a [`View`]. Of each thing what decides is in it, not what only describes: replaying under another
/// version must not fail for a field that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    agents: u32,
    frameworks: u32,
    tasks: u32,
    offers: u32,
    counters: u32,
}

impl Digest {
    /// The checksums of a view; costs a pass over it.
    pub fn of(view: &View) -> Digest {
        Digest {
            agents: sum(view.agents.iter(), |out, (id, agent)| {
                let state = summary::agent_state(agent.state);
                writeln!(out, "{id} {state} {} | {} | {}", agent.tasks, agent.allocated, agent.offered)
            }),
            frameworks: sum(view.frameworks.iter(), |out, (id, framework)| {
                let state = summary::framework_state(framework.state);
                let (allocated, offered) = (&framework.allocated, &framework.offered);
                write!(out, "{id} {state} {} | {allocated} | {offered} |", framework.tasks)?;
                framework.suppressed.iter().try_for_each(|role| write!(out, " {role}"))?;
                writeln!(out)
            }),
            tasks: sum(view.tasks.iter(), |out, ((framework, id), task)| {
                writeln!(out, "{framework} {id} {} {} {}", task.agent_id, task.role, task.state)
            }),
            offers: sum(view.offers.iter(), |out, (id, offer)| {
                let (of, until) = (&offer.offer, offer.expires_at);
                writeln!(out, "{id} {} {} {} {} {until}", of.framework_id, of.agent_id, of.role, of.resources)
            }),
            counters: sum(std::iter::once(&view.counters), |out, counters| {
                let offers = [
                    counters.offers_made,
                    counters.offers_accepted,
                    counters.offers_declined,
                    counters.offers_rescinded,
                ];
                writeln!(out, "{} {offers:?} {}", counters.allocation_cycles, counters.tasks_launched)
            }),
        }
    }

    /// The first part in which the two differ.
    pub fn difference(&self, other: &Digest) -> Option<&'static str> {
        let parts = [
            ("agents", self.agents == other.agents),
            ("frameworks", self.frameworks == other.frameworks),
            ("tasks", self.tasks == other.tasks),
            ("offers", self.offers == other.offers),
            ("counts of cycles and offers", self.counters == other.counters),
        ];
        parts.into_iter().find(|(_, same)| !same).map(|(part, _)| part)
    }
}

fn sum<T>(all: impl Iterator<Item = T>, each: impl Fn(&mut Sum, T) -> fmt::Result) -> u32 {
    let mut sum = Sum(crc32fast::Hasher::new());
    for one in all {
        each(&mut sum, one).expect("a checksum takes any text");
    }
    sum.0.finalize()
}

struct Sum(crc32fast::Hasher);

impl fmt::Write for Sum {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl From<Digest> for v1::JournalDigest {
    fn from(Digest { agents, frameworks, tasks, offers, counters }: Digest) -> Self {
        Self { agents, frameworks, tasks, offers, counters }
    }
}

impl From<v1::JournalDigest> for Digest {
    fn from(wire: v1::JournalDigest) -> Self {
        let v1::JournalDigest { agents, frameworks, tasks, offers, counters } = wire;
        Self { agents, frameworks, tasks, offers, counters }
    }
}
