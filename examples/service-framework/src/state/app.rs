//! What is written down of one service: what it is to be, and how far it has come. Orders change it; nothing here acts.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Trouble, scaling};
use crate::spec::Spec;

/// Revisions that were complete and can be gone back to.
const GOOD_MAX: usize = 10;

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// As it was described last. How many there are, and how they are replaced, is always said here.
    pub described: Arc<Spec>,
    /// What replicas are made from, by the number of the revision. A change of anything that a replica would notice makes a new one.
    pub revisions: BTreeMap<u64, Arc<Spec>>,
    /// The highest number that a revision ever had.
    pub last: u64,
    /// The revision that all replicas are to have.
    pub target: u64,
    /// Revisions that were complete, the last one at the end: what can be gone back to.
    pub good: Vec<u64>,
    /// The revision that was given up, by command or because it came no further. Its description is not tried again by itself.
    pub rejected: Option<u64>,
    /// How far the target has come.
    pub phase: Phase,
    /// The number of replicas that was ordered, unless it is the description's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled: Option<Scaled>,
    /// Whether it was ever started: until then it waits for the services that it comes after.
    pub started: bool,
    /// Whether it is on its way out: nothing of it is launched any more, and it is forgotten when nothing of it runs.
    pub removed: bool,
    /// What holds it back.
    #[serde(default)]
    pub trouble: Trouble,
}

/// How far the target revision of a service has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// All replicas had it.
    Steady,
    /// A few are tried beside the old ones.
    Canary,
    /// It takes the place of what was there.
    Rolling,
}

/// Another number of replicas than the description says. It holds over restarts for as long as the description says the same
/// number: whoever changes that one wants what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaled {
    /// The description's number when this was ordered.
    pub described: u32,
    /// The number that was ordered.
    pub replicas: u32,
}

/// What a description means for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// There was no such service.
    New,
    /// Replicas are replaced by those of this revision.
    Update(u64),
    /// The description is that of a revision that was given up: replicas stay as they are.
    Rejected(u64),
    /// Replicas stay; something else is new.
    Settings,
    /// Nothing is new.
    None,
}

impl App {
    /// A service that was never there.
    pub fn new(spec: Arc<Spec>) -> Self {
        Self {
            scaled: scaling::ordered(None, &spec),
            revisions: BTreeMap::from([(1, Arc::clone(&spec))]),
            described: spec,
            last: 1,
            target: 1,
            good: Vec::new(),
            rejected: None,
            phase: Phase::Rolling,
            started: false,
            removed: false,
            trouble: Trouble::default(),
        }
    }

    /// How many replicas are wanted.
    pub fn replicas(&self) -> u32 {
        let wanted = self.scaled.map_or(self.described.replicas, |scaled| scaled.replicas);
        if self.removed { 0 } else { wanted }
    }

    /// The last revision that was complete, unless it is the target itself.
    pub fn stable(&self) -> Option<u64> {
        self.good.last().copied().filter(|good| *good != self.target)
    }

    /// The revision that the replicas are to have now. While canaries are tried it is the old one.
    pub fn base(&self) -> u64 {
        self.stable().filter(|_| self.phase == Phase::Canary).unwrap_or(self.target)
    }

    /// How many of the target are tried beside the replicas.
    pub fn canaries(&self) -> u32 {
        let replicas = self.replicas();
        match self.phase {
            Phase::Canary if self.stable().is_some() => {
                self.described.update.canary.up(replicas).min(replicas)
            }
            _ => 0,
        }
    }

    /// What a replica of a revision is made from.
    pub fn revision(&self, number: u64) -> &Arc<Spec> {
        self.revisions.get(&number).expect("revisions in use are kept")
    }

    /// What a description would change. `again` tries a revision that was given up once more.
    pub fn compare(&self, spec: &Spec, again: bool) -> Change {
        let same = |number: u64| self.revisions.get(&number).is_some_and(|known| known.same_replicas(spec));
        if same(self.target) {
            return if *self.described != *spec || self.removed { Change::Settings } else { Change::None };
        }
        if let Some(rejected) = self.rejected.filter(|rejected| !again && same(*rejected)) {
            return Change::Rejected(rejected);
        }
        // Going back to what was there before is no new revision.
        let known = self.revisions.keys().rev().copied().find(|number| same(*number));
        Change::Update(known.unwrap_or(self.last + 1))
    }

    /// Takes a new description.
    pub fn describe(&mut self, spec: Arc<Spec>, again: bool) -> Change {
        let change = self.compare(&spec, again);
        self.scaled = scaling::ordered(Some(self), &spec);
        self.removed = false;
        if let Change::Update(number) = change {
            self.revisions.entry(number).or_insert_with(|| Arc::clone(&spec));
            self.described = spec;
            self.aim(number, Phase::Canary);
            self.rejected = None;
            self.trouble = Trouble::default();
        } else {
            self.described = spec;
        }
        change
    }

    /// Begins to replace all replicas by others of the same kind; gives the number of the revision.
    pub fn restart(&mut self) -> u64 {
        let (number, spec) = (self.last + 1, Arc::clone(self.revision(self.target)));
        self.revisions.insert(number, spec);
        self.aim(number, Phase::Rolling);
        number
    }

    /// Goes back to a revision, or to the last one that was complete; gives its number, or none when there is none to go back to.
    pub fn roll_back(&mut self, to: Option<u64>) -> Option<u64> {
        let before = || match self.phase {
            Phase::Steady => self.good.iter().rev().copied().find(|good| *good != self.target),
            _ => self.stable(),
        };
        let to = to.or_else(before).filter(|to| *to != self.target && self.revisions.contains_key(to))?;
        self.rejected = Some(self.target);
        self.trouble = Trouble::default();
        self.aim(to, Phase::Rolling);
        Some(to)
    }

    /// Has the canaries' revision take the place of the old one.
    pub fn promote(&mut self) -> bool {
        let tried = self.phase == Phase::Canary;
        if tried {
            self.phase = Phase::Rolling;
        }
        tried
    }

    /// Notes that all replicas have the target revision.
    pub fn completed(&mut self) {
        self.phase = Phase::Steady;
        self.trouble.last_end = None;
        self.good.retain(|good| *good != self.target);
        self.good.push(self.target);
        if self.good.len() > GOOD_MAX {
            self.good.remove(0);
        }
    }

    /// Forgets revisions that nothing speaks of; `used` says of which there are tasks.
    pub fn prune(&mut self, used: impl Fn(u64) -> bool) {
        let Self { revisions, target, good, rejected, .. } = self;
        revisions.retain(|number, _| {
            number == target || Some(*number) == *rejected || good.contains(number) || used(*number)
        });
    }

    fn aim(&mut self, number: u64, phase: Phase) {
        self.last = self.last.max(number);
        self.target = number;
        self.phase = phase;
        if phase == Phase::Canary && self.canaries() == 0 {
            self.phase = Phase::Rolling;
        }
    }
}
