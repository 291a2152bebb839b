//! What was refused on one agent, by whom and until when.
//!
//! A refusal suppresses an offer that it contains whole; two refusals are not merged (Mesos' refuse filter). Who refuses what
//! is free now is kept as one bit each, so that a cycle asks nobody twice: amounts are compared only when what is free on the
//! agent changed, and once for all who refused the same.

use std::collections::BTreeMap;

use apportion_types::{Resources, Time};

use crate::{
    bits::BitSet,
    slab::{ClientKey, Key, RefusedKey, Slab},
};

/// The filters of one agent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters {
    entries: BTreeMap<(ClientKey, RefusedKey), Filter>,
    /// Distinct amounts: as a rule many refuse the same.
    refused: Slab<RefusedKey, Refused>,
    /// The clients whom a filter keeps from what is free, as of the last visit.
    blocked: BitSet<ClientKey>,
    /// No filter expires before; exact when `expire` has just run.
    earliest: Option<Time>,
    /// What is free may differ from when verdicts were taken.
    outdated: bool,
    /// Cycles that considered the agent.
    visits: u64,
}

#[derive(Debug, Clone)]
struct Filter {
    until: Time,
    /// `visits` when it was made. It holds in the next visit even if its time is over by then, for otherwise a framework that
    /// is poor and refuses briefly would be offered the same again and again, and nobody else ever (Mesos holds a filter for
    /// at least one allocation interval).
    visits: u64,
}

#[derive(Debug, Clone)]
struct Refused {
    resources: Resources,
    filters: usize,
    /// It contains what is free.
    blocks: bool,
}

impl Filters {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn refuse(&mut self, client: ClientKey, resources: &Resources, until: Time) {
        let known = self.refused.iter().find(|(_, refused)| refused.resources == *resources);
        let key = match known {
            Some((key, _)) => key,
            None => {
                self.outdated = true;
                self.refused.insert(Refused { resources: resources.clone(), filters: 0, blocks: false })
            }
        };
        let refused = &mut self.refused[key];
        let visits = self.visits;
        self.entries
            .entry((client, key))
            .and_modify(|filter| {
                filter.until = filter.until.max(until);
                filter.visits = visits;
            })
            .or_insert_with(|| {
                refused.filters += 1;
                Filter { until, visits }
            });
        if refused.blocks {
            self.blocked.insert(client);
        }
        self.earliest = Some(self.earliest.map_or(until, |earliest| earliest.min(until)));
    }

    /// Forgets what one client refused; true when there was something.
    pub(crate) fn forget(&mut self, client: ClientKey) -> bool {
        let mut any = false;
        while let Some((&key, _)) = self.entries.range((client, RefusedKey::at(0))..).next() {
            if key.0 != client {
                break;
            }
            any = true;
            self.entries.remove(&key);
            release(&mut self.refused, key.1);
        }
        self.blocked.remove(client);
        if self.entries.is_empty() {
            self.earliest = None;
        }
        any
    }

    /// When a filter next expires, or a little before.
    pub(crate) fn earliest(&self) -> Option<Time> {
        self.earliest
    }

    /// What is free on the agent changed.
    pub(crate) fn outdate(&mut self) {
        self.outdated = true;
    }

    /// Drops what has expired and learns who refuses `free`.
    pub(crate) fn visit(&mut self, free: &Resources, now: Time) {
        let mut changed = self.earliest.is_some_and(|earliest| earliest <= now) && self.expire(now);
        if self.outdated {
            self.outdated = false;
            for (_, refused) in self.refused.iter_mut() {
                let blocks = refused.resources.contains(free);
                changed |= blocks != refused.blocks;
                refused.blocks = blocks;
            }
        }
        if changed {
            self.blocked.clear();
            for &(client, refused) in self.entries.keys() {
                if self.refused[refused].blocks {
                    self.blocked.insert(client);
                }
            }
        }
        self.visits += 1;
    }

    fn expire(&mut self, now: Time) -> bool {
        let (refused, visits, before) = (&mut self.refused, self.visits, self.entries.len());
        let mut earliest: Option<Time> = None;
        self.entries.retain(|key, filter| {
            let holds = now < filter.until || filter.visits == visits;
            match holds {
                true => earliest = Some(earliest.map_or(filter.until, |earliest| earliest.min(filter.until))),
                false => release(refused, key.1),
            }
            holds
        });
        self.earliest = earliest;
        self.entries.len() != before
    }

    /// The clients whom a filter keeps from what is free, as of the last visit.
    pub(crate) fn blocked(&self) -> &BitSet<ClientKey> {
        &self.blocked
    }

    /// Those who have filters here, in order, as often as they have some.
    pub(crate) fn clients(&self) -> impl Iterator<Item = ClientKey> + '_ {
        self.entries.keys().map(|&(client, _)| client)
    }

    /// Asserts that the bits and counts are what the filters say.
    pub(crate) fn check(&self, free: &Resources) {
        let mut filters: BTreeMap<RefusedKey, usize> = BTreeMap::new();
        for &(_, refused) in self.entries.keys() {
            *filters.entry(refused).or_default() += 1;
        }
        let counted: BTreeMap<_, _> =
            self.refused.iter().map(|(key, refused)| (key, refused.filters)).collect();
        assert_eq!(counted, filters, "each refused amount is kept as long as a filter names it");
        let earliest = self.entries.values().map(|filter| filter.until).min();
        assert!(
            self.earliest <= earliest && self.earliest.is_some() == earliest.is_some(),
            "no expiry is missed"
        );
        if !self.outdated {
            let blocked =
                self.entries.keys().filter(|(_, refused)| self.refused[*refused].resources.contains(free));
            let mut expected: Vec<_> = blocked.map(|&(client, _)| client).collect();
            expected.dedup();
            assert_eq!(
                self.blocked.iter().collect::<Vec<_>>(),
                expected,
                "bits say who refuses what is free"
            );
        }
    }
}

fn release(refused: &mut Slab<RefusedKey, Refused>, key: RefusedKey) {
    refused[key].filters -= 1;
    if refused[key].filters == 0 {
        refused.remove(key);
    }
}
