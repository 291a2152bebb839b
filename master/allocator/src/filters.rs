//! What was refused on one agent, by whom and until when.
//!
//! A refusal suppresses an offer that it contains whole; two refusals are not merged (Mesos' refuse filter). Who refuses what
//! is free now is kept as one bit each, so that a cycle asks nobody twice: amounts are compared only when what is free on the
//! agent is something else than before, and once for all who refused the same.

use std::collections::BTreeMap;

use apportion_types::{Resources, Time};

use crate::{
    amount::Amount,
    bits::BitSet,
    slab::{ClientKey, Key, RefusedKey, Slab},
};

/// The filters of one agent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters {
    /// The clients whom a filter keeps from `learned`.
    blocked: BitSet<ClientKey>,
    /// What was free when it was last learned who refuses it; none when a new refusal has come since.
    learned: Option<Amount>,
    /// No filter expires before; exact when `expire` has just run.
    earliest: Option<Time>,
    /// How often the agent was considered with its filters in place.
    visits: u64,
    entries: BTreeMap<(ClientKey, RefusedKey), Filter>,
    /// Distinct amounts: as a rule many refuse the same.
    refused: Slab<RefusedKey, Refused>,
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
    amount: Amount,
    filters: u32,
    /// It contains `learned`.
    blocks: bool,
}

impl Filters {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn refuse(&mut self, client: ClientKey, amount: &Amount, until: Time) {
        let same = self.refused.iter().find(|(_, refused)| refused.amount.same(amount));
        let known = same.or_else(|| self.refused.iter().find(|(_, refused)| *refused.amount == **amount));
        let key = match known {
            Some((key, _)) => key,
            None => {
                self.learned = None;
                self.refused.insert(Refused { amount: amount.clone(), filters: 0, blocks: false })
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

    /// The clients whom a filter keeps from what is free, as it was last learned.
    pub(crate) fn blocked(&self) -> &BitSet<ClientKey> {
        &self.blocked
    }

    /// Learns what is free.
    pub(crate) fn learn(&mut self, free: &Amount) {
        if !self.has_learned(free) {
            let mut changed = false;
            for (_, refused) in self.refused.iter_mut() {
                let blocks = refused.amount.same(free) || refused.amount.contains(free);
                changed |= blocks != refused.blocks;
                refused.blocks = blocks;
            }
            if changed {
                self.mark();
            }
            self.learned = Some(free.clone());
        }
    }

    /// True when it knows who refuses what is free, and no filter's time is over.
    pub(crate) fn is_current(&self, free: &Amount, now: Option<Time>) -> bool {
        self.has_learned(free) && now.is_none_or(|now| self.earliest.is_none_or(|earliest| earliest > now))
    }

    fn has_learned(&self, free: &Amount) -> bool {
        self.learned.as_ref().is_some_and(|learned| learned.same(free))
    }

    fn mark(&mut self) {
        self.blocked.clear();
        for &(client, refused) in self.entries.keys() {
            if self.refused[refused].blocks {
                self.blocked.insert(client);
            }
        }
    }

    /// A filter keeps the client from these resources.
    pub(crate) fn refuses(&self, client: ClientKey, resources: &Resources) -> bool {
        self.of(client).any(|(refused, _)| refused.contains(resources))
    }

    /// Until when filters keep the client from these resources.
    pub(crate) fn until(&self, client: ClientKey, resources: &Resources) -> Option<Time> {
        let containing = self.of(client).filter(|(refused, _)| refused.contains(resources));
        containing.map(|(_, until)| until).max()
    }

    /// What one client refused, and until when.
    fn of(&self, client: ClientKey) -> impl Iterator<Item = (&Amount, Time)> {
        let entries = self.entries.range((client, RefusedKey::at(0))..);
        let of_client = entries.take_while(move |((of, _), _)| *of == client);
        of_client.map(|((_, refused), filter)| (&self.refused[*refused].amount, filter.until))
    }

    /// Notes that the agent has been considered: from now on its filters end when their time is over.
    pub(crate) fn visit(&mut self) {
        self.visits += 1;
    }

    /// Drops the filters whose time is over.
    pub(crate) fn expire(&mut self, now: Time) {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return;
        }
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
        if self.entries.len() != before {
            self.mark();
        }
    }

    /// Those who have filters here, in order, as often as they have some.
    pub(crate) fn clients(&self) -> impl Iterator<Item = ClientKey> + '_ {
        self.entries.keys().map(|&(client, _)| client)
    }

    /// Those whom a filter keeps from `free`, worked out anew.
    pub(crate) fn refusing(&self, free: &Amount) -> BitSet<ClientKey> {
        let mut refusing = BitSet::default();
        for &(client, refused) in self.entries.keys() {
            if self.refused[refused].amount.contains(free) {
                refusing.insert(client);
            }
        }
        refusing
    }

    /// Asserts that the bits and counts are what the filters say.
    pub(crate) fn check(&self) {
        let mut filters: BTreeMap<RefusedKey, u32> = BTreeMap::new();
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
        if let Some(learned) = &self.learned {
            assert!(
                self.blocked.iter().eq(self.refusing(learned).iter()),
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
