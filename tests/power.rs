//! A disk whose power fails: what of a file's bytes can be there afterwards. Shared by the tests of all that writes in place.
//!
//! A write is in memory until the next sync, and each of its sectors gets to the disk by then, at any time or not at all, in any order,
//! as it was at that time; so does the file's length. What never got there reads as zeros. This is what file systems promise of a file:
//! none shows what others had written before, and a sector is written whole or not at all.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What a disk writes whole or not at all.
pub(crate) const SECTOR: usize = 512;

/// How many images are drawn by chance where a sync is due.
const DRAWN: usize = 8;

/// What was done to a file, in order.
#[derive(Debug, Clone)]
enum Step {
    Write { at: usize, bytes: Vec<u8> },
    SetLen(usize),
    Sync,
    Begun(usize),
    Acknowledged(usize),
}

#[derive(Debug, Default)]
struct State {
    first: Vec<u8>,
    bytes: Vec<u8>,
    steps: Vec<Step>,
}

/// One file, and all that was done to it. Its clones are the same file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

/// What a loss of power can leave.
#[derive(Debug)]
pub(crate) struct Crash {
    pub(crate) bytes: Vec<u8>,
    /// The last commit that was acknowledged before, up to the last one that was begun.
    pub(crate) commits: RangeInclusive<usize>,
    /// For a message.
    pub(crate) when: String,
}

impl Disk {
    /// A file that lasts.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { first: bytes.clone(), bytes, steps: Vec::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As a process reads it while the power is on.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    fn step(&self, step: Step) {
        let mut state = self.state();
        apply(&step, &mut state.bytes);
        state.steps.push(step);
    }

    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        self.step(Step::Write { at, bytes: bytes.to_owned() });
    }

    #[allow(dead_code, reason = "a log only grows")]
    pub(crate) fn set_len(&self, len: usize) {
        self.step(Step::SetLen(len));
    }

    pub(crate) fn sync(&self) {
        self.step(Step::Sync);
    }

    /// From here on this commit may be there.
    pub(crate) fn begun(&self, commit: usize) {
        self.step(Step::Begun(commit));
    }

    /// From here on this commit must be there.
    pub(crate) fn acknowledged(&self, commit: usize) {
        self.step(Step::Acknowledged(commit));
    }

    /// What each loss of power after the first acknowledgement could leave: after every step, and before every sync with each of the
    /// unsynced writes alone, torn, and lost, and with what chance picks of them.
    pub(crate) fn crashes(&self, seed: u64, mut each: impl FnMut(Crash)) {
        let (first, steps) = {
            let state = self.state();
            (state.first.clone(), state.steps.clone())
        };
        let mut chance = Chance(seed);
        let mut seen = BTreeSet::new();
        let (mut begun, mut acknowledged) = (0, None);
        let mut unsynced = Unsynced::of(first);
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Begun(commit) => begun = *commit,
                Step::Acknowledged(commit) => {
                    begun = begun.max(*commit);
                    acknowledged = Some(*commit);
                }
                Step::Write { .. } | Step::SetLen(_) => unsynced.push(step),
                Step::Sync => {}
            }
            let last = number + 1 == steps.len();
            let kinds = match step {
                Step::Sync | Step::Acknowledged(_) => unsynced.kinds(),
                _ if last => unsynced.kinds(),
                _ => vec![Kind::All, Kind::Drawn],
            };
            if let Some(acknowledged) = acknowledged {
                for kind in kinds {
                    let bytes = unsynced.image(kind, &mut chance);
                    let mut hasher = DefaultHasher::new();
                    (&bytes, acknowledged, begun).hash(&mut hasher);
                    if seen.insert(hasher.finish()) {
                        let when = format!("at step {number} with {kind:?} of the unsynced writes");
                        each(Crash { bytes, commits: acknowledged..=begun, when });
                    }
                }
            }
            if let Step::Sync = step {
                unsynced = Unsynced::of(unsynced.now);
            }
        }
    }
}

fn apply(step: &Step, bytes: &mut Vec<u8>) {
    match step {
        Step::Write { at, bytes: written } => {
            let end = at + written.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*at..end].copy_from_slice(written);
        }
        Step::SetLen(len) => bytes.resize(*len, 0),
        Step::Sync | Step::Begun(_) | Step::Acknowledged(_) => {}
    }
}

/// What of the unsynced writes got to the disk.
#[derive(Debug, Clone, Copy)]
enum Kind {
    All,
    None,
    /// That with this number, and what is older of its sectors.
    Alone(usize),
    /// Some sectors of that with this number.
    Torn(usize),
    /// All but that with this number.
    Lost(usize),
    Drawn,
}

/// What was written since the last sync, by the number of the write; number 0 is what was there before.
struct Unsynced {
    durable: Vec<u8>,
    now: Vec<u8>,
    lengths: Vec<usize>,
    /// Each sector that was written: what it was after which write.
    versions: BTreeMap<usize, Vec<(usize, Vec<u8>)>>,
}

impl Unsynced {
    fn of(durable: Vec<u8>) -> Self {
        let (now, lengths) = (durable.clone(), vec![durable.len()]);
        Self { durable, now, lengths, versions: BTreeMap::new() }
    }

    fn push(&mut self, step: &Step) {
        let before = self.now.len();
        apply(step, &mut self.now);
        let touched = match step {
            Step::Write { at, bytes } => (*at).min(before)..at + bytes.len(),
            _ => before.min(self.now.len())..before.max(self.now.len()),
        };
        self.lengths.push(self.now.len());
        let number = self.lengths.len() - 1;
        for sector in touched.start / SECTOR..touched.end.div_ceil(SECTOR) {
            let content = part(&self.now, sector);
            self.versions.entry(sector).or_default().push((number, content));
        }
    }

    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::All];
        if self.lengths.len() > 1 {
            kinds.push(Kind::None);
            kinds.extend([Kind::Drawn; DRAWN]);
        }
        for number in 1..self.lengths.len() {
            kinds.extend([Kind::Alone(number), Kind::Torn(number), Kind::Torn(number), Kind::Lost(number)]);
        }
        kinds
    }

    fn image(&self, kind: Kind, chance: &mut Chance) -> Vec<u8> {
        let last = self.lengths.len() - 1;
        let length_at = match kind {
            Kind::All | Kind::Lost(_) => last,
            Kind::None => 0,
            Kind::Alone(number) | Kind::Torn(number) => number,
            Kind::Drawn => chance.below(last + 1),
        };
        let length = self.lengths[length_at];
        let mut image = self.durable.clone();
        image.resize(length, 0);
        for (sector, versions) in &self.versions {
            let written = |number: usize| versions.iter().any(|(by, _)| *by == number);
            let mut upto = match kind {
                Kind::All => last,
                Kind::None => 0,
                Kind::Alone(number) if written(number) => number,
                Kind::Torn(number) if written(number) && chance.below(2) == 0 => number,
                Kind::Alone(_) | Kind::Torn(_) => 0,
                Kind::Lost(number) if written(number) => number - 1,
                Kind::Lost(_) => last,
                Kind::Drawn => chance.below(last + 1),
            };
            // Where the file is cut off and how long it is gets to the disk in one.
            if self.lengths[upto] <= sector * SECTOR {
                upto = length_at;
            }
            let Some((_, content)) = versions.iter().rev().find(|(by, _)| *by <= upto) else { continue };
            let start = sector * SECTOR;
            let end = length.min(start + SECTOR);
            if start < end {
                image[start..end].copy_from_slice(&content[..end - start]);
            }
        }
        image
    }
}

/// A sector of a file, with zeros behind its end.
fn part(bytes: &[u8], sector: usize) -> Vec<u8> {
    let start = bytes.len().min(sector * SECTOR);
    let mut part = bytes[start..bytes.len().min(start + SECTOR)].to_owned();
    part.resize(SECTOR, 0);
    part
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
#[derive(Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number below another.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}
