//! For how long a framework may be kept from what it has given back.

use std::{collections::BTreeMap, time::Duration};

use apportion_types::{AgentId, FrameworkId, OfferId, Time, limits, protocol::scheduler::Call};

use super::{Happening, answered, streams::Streams};
use crate::{fault::Process, world::World};

/// Clocks go wrong by a thousandth, and what is due is done a moment later.
const SLACK: Duration = Duration::from_secs(1);

/// Until when at most a filter holds, of a framework and an agent. On the safe side: whatever closes an offer may leave the default
/// filter behind. Who revives all its roles has no filters left.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    streams: Streams,
    until: BTreeMap<FrameworkId, BTreeMap<AgentId, Time>>,
    count: usize,
    prune_at: usize,
}

impl Refusals {
    pub(crate) fn observe(&mut self, world: &World, happening: &Happening<'_>) {
        self.streams.observe(happening);
        match happening {
            Happening::Started(Process::Master) => *self = Self::default(),
            Happening::MasterHearsScheduler { conn, call: Call::Revive { roles }, .. }
                if roles.is_empty() =>
            {
                let revived = self.streams.framework(*conn).and_then(|id| self.until.remove(id));
                self.count -= revived.map_or(0, |revived| revived.len());
            }
            Happening::MasterHearsScheduler { call, .. } => {
                for (offers, refuse) in answered(call) {
                    self.refused(world, offers, refuse.unwrap_or(limits::REFUSE_DEFAULT));
                }
            }
            Happening::MasterDecided(changes) => {
                for view in changes.offers.iter().filter_map(|change| change.removed()) {
                    let offer = &view.offer;
                    self.hold(
                        world.now,
                        (offer.framework_id.clone(), offer.agent_id.clone()),
                        limits::REFUSE_DEFAULT,
                    );
                }
            }
            _ => {}
        }
    }

    /// True while the framework may be kept from the agent.
    pub(crate) fn hold_between(&self, framework: &FrameworkId, agent: &AgentId, now: Time) -> bool {
        self.until.get(framework).and_then(|agents| agents.get(agent)).is_some_and(|until| *until >= now)
    }

    fn refused(&mut self, world: &World, offers: &[OfferId], refuse: Duration) {
        for offer in offers.iter().filter_map(|id| world.view().offers.get(id)).map(|view| &view.offer) {
            self.hold(
                world.now,
                (offer.framework_id.clone(), offer.agent_id.clone()),
                refuse.min(limits::REFUSE_MAX),
            );
        }
    }

    fn hold(&mut self, now: Time, who: (FrameworkId, AgentId), lasts: Duration) {
        let until = now + lasts + lasts / 500 + SLACK;
        let known = self.until.entry(who.0).or_default().entry(who.1).or_insert_with(|| {
            self.count += 1;
            until
        });
        *known = until.max(*known);
        if self.count > self.prune_at {
            self.until.values_mut().for_each(|agents| agents.retain(|_, until| *until >= now));
            self.until.retain(|_, agents| !agents.is_empty());
            self.count = self.until.values().map(BTreeMap::len).sum();
            self.prune_at = 1024 + 2 * self.count;
        }
    }
}
