//! What is to be launched and killed for a service, from what it is to be and what is there. A pure function: it remembers nothing, so
//! that a restart, a new description and a lost agent are all the same to it.
//!
//! Every replica that is wanted is a **seat**: a number and a revision. A task fills a seat when it has both and its agent is not to be
//! left; a task that fills none is **stale**, be it of another revision or in the wrong place. So an update and a move are one thing: a
//! seat is filled anew, and what is stale goes when what is new has proven itself.
//!
//! Two bounds hold whatever happens: never more than `limit` tasks that may live with the numbers that are wanted, and never fewer than
//! `ready_min` replicas that are ready by anything that is done here. A replica is ready as long as one of the tasks with its number is.

use std::collections::{BTreeMap, BTreeSet};

use apportion_sdk::TaskId;

/// What a service is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// How many replicas, numbered from 0.
    pub replicas: u32,
    /// Their revision.
    pub base: u64,
    /// So many more, with this revision, beside those with the same numbers.
    pub canaries: (u32, u64),
    /// How many tasks may live beyond the replicas, canaries not counted.
    pub surge: u32,
    /// How many replicas may be missing.
    pub unavailable: u32,
    /// Seats whose pause is not over.
    pub paused: BTreeSet<Seat>,
}

/// A replica that is wanted: its number, and its revision.
pub type Seat = (u32, u64);

/// A task that may live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub task_id: TaskId,
    /// What it was launched as.
    pub seat: Seat,
    /// Whether its end was decided.
    pub doomed: bool,
    /// Whether its agent is to be left.
    pub leaving: bool,
    /// Whether anything was heard of it since the scheduler began: until then nobody can say that it does no work.
    pub heard: bool,
    /// Whether it runs, is healthy, and can be reached.
    pub ready: bool,
    /// Whether it has been so for as long as counts.
    pub available: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Seats to fill, in order.
    pub launch: Vec<Seat>,
    /// Tasks to end.
    pub kill: Vec<TaskId>,
    /// How many replicas are ready, be it with an old task.
    pub ready: u32,
    /// How many seats are filled by tasks that are available.
    pub filled: u32,
    /// How many canaries are.
    pub canaries: u32,
    /// Whether every seat is, and nothing is left of what was before.
    pub complete: bool,
}

impl Wish {
    /// The most tasks that may live with the numbers that are wanted.
    pub fn limit(&self) -> usize {
        self.replicas as usize + self.surge as usize + self.canaries.0 as usize
    }

    /// The fewest replicas that are left ready.
    pub fn ready_min(&self) -> u32 {
        self.replicas.saturating_sub(self.unavailable)
    }
}

/// The tasks of one number.
#[derive(Default)]
struct Slot<'a> {
    keeper: Option<&'a Seen>,
    canary: Option<&'a Seen>,
    stale: Vec<&'a Seen>,
    /// How many are being killed.
    doomed: usize,
}

impl Slot<'_> {
    fn is_ready(&self) -> bool {
        self.keeper.iter().chain(&self.canary).chain(&self.stale).any(|seen| seen.ready)
    }

    /// Nobody sits there, and nobody is on the way out.
    fn is_vacant(&self) -> bool {
        self.keeper.is_none() && self.stale.is_empty()
    }
}

/// Decides what is to be done.
pub fn plan(wish: &Wish, tasks: &[Seen]) -> Plan {
    let mut plan = Plan::default();
    let mut slots: BTreeMap<u32, Slot<'_>> =
        (0..wish.replicas).map(|number| (number, Slot::default())).collect();
    for seen in tasks {
        match slots.get_mut(&seen.seat.0) {
            Some(slot) if seen.doomed => slot.doomed += 1,
            Some(slot) => sit(wish, slot, seen),
            // One too many. Whoever wants fewer replicas wants them gone.
            None if !seen.doomed => plan.kill.push(seen.task_id.clone()),
            None => {}
        }
    }
    let available = |seen: &Option<&Seen>| seen.is_some_and(|seen| seen.available);
    plan.filled = slots.values().filter(|slot| available(&slot.keeper)).count() as u32;
    plan.canaries = slots.values().filter(|slot| available(&slot.canary)).count() as u32;
    plan.ready = slots.values().filter(|slot| slot.is_ready()).count() as u32;
    plan.complete = plan.filled == wish.replicas && slots.values().all(|slot| slot.stale.is_empty());

    // What is new has proven itself: what is stale goes.
    for slot in slots.values_mut().filter(|slot| available(&slot.keeper)) {
        plan.kill.extend(slot.stale.drain(..).map(|seen| seen.task_id.clone()));
    }
    // Of several that are stale one that is ready holds the place until the seat is filled. The others only take up its room.
    for slot in slots.values_mut().filter(|slot| slot.keeper.is_none()) {
        slot.stale.sort_by_key(|seen| (!seen.available, !seen.ready));
        if slot.stale.first().is_some_and(|first| first.ready) {
            let surplus = slot.stale.split_off(1);
            let (known, unheard): (Vec<_>, Vec<_>) = surplus.into_iter().partition(|seen| seen.heard);
            slot.stale.extend(unheard);
            plan.kill.extend(known.into_iter().map(|seen| seen.task_id.clone()));
        }
    }
    // Seats that wait, whether they may be filled now or not: their room is not given away.
    let canary_seats = wish.canaries.0.min(wish.replicas);
    let vacant = slots.values().filter(|slot| slot.is_vacant()).count();
    let untried = slots.range(..canary_seats).filter(|(_, slot)| slot.canary.is_none()).count();
    // What is one too many is on its way out, and may take its time: nobody waits for it.
    let living = tasks.iter().filter(|seen| seen.seat.0 < wish.replicas).count();
    let mut room = wish.limit().saturating_sub(living);
    let mut spare = room.saturating_sub(vacant + untried);
    let may_launch = |seat: &Seat| !wish.paused.contains(seat);

    // A replica that nobody is, once its last task has ended.
    let vacancies = slots.iter().filter(|(_, slot)| slot.is_vacant() && slot.doomed == 0);
    for seat in vacancies.map(|(number, _)| (*number, wish.base)).filter(may_launch) {
        if room > 0 {
            plan.launch.push(seat);
            room -= 1;
        }
    }
    let untried = slots.range(..canary_seats).filter(|(_, slot)| slot.canary.is_none());
    for seat in untried.map(|(number, _)| (*number, wish.canaries.1)).filter(may_launch) {
        if room > 0 {
            plan.launch.push(seat);
            room -= 1;
        }
    }
    // Replicas are replaced a few at a time, so that a revision that does not work costs a few: first those that do no work anyway.
    let mut under_way =
        slots.values().filter(|slot| slot.stale.is_empty() && !available(&slot.keeper)).count()
            + slots.values().filter(|slot| slot.keeper.is_some() && !slot.stale.is_empty()).count();
    let at_once = wish.surge.saturating_add(wish.unavailable).max(1) as usize;
    let mut ready = plan.ready;
    let mut outdated: Vec<_> =
        slots.iter().filter(|(_, slot)| slot.keeper.is_none() && !slot.stale.is_empty()).collect();
    outdated.sort_by_key(|(number, slot)| (slot.is_ready(), **number));
    for (number, slot) in outdated {
        if under_way >= at_once {
            break;
        }
        if slot.stale.iter().any(|seen| !seen.heard) {
            continue;
        }
        let ready_stale = slot.stale.iter().any(|seen| seen.ready);
        let seat = (*number, wish.base);
        if ready_stale && spare > 0 {
            // Launch first.
            spare -= 1;
            if may_launch(&seat) && room > 0 {
                plan.launch.push(seat);
                room -= 1;
            }
        } else if !ready_stale || ready > wish.ready_min() {
            // Kill first.
            plan.kill.extend(slot.stale.iter().map(|seen| seen.task_id.clone()));
            ready -= u32::from(ready_stale && !slot.canary.is_some_and(|canary| canary.ready));
        } else {
            continue;
        }
        under_way += 1;
    }
    plan
}

/// Gives a task its place: of several for one seat the one that has come furthest keeps it.
fn sit<'a>(wish: &Wish, slot: &mut Slot<'a>, seen: &'a Seen) {
    let Seen { seat: (number, revision), .. } = *seen;
    let seat = if seen.leaving {
        None
    } else if revision == wish.base {
        Some(&mut slot.keeper)
    } else if revision == wish.canaries.1 && number < wish.canaries.0 {
        Some(&mut slot.canary)
    } else {
        None
    };
    let come = |seen: &Seen| (seen.available, seen.ready);
    match seat {
        None => slot.stale.push(seen),
        Some(seat) => match seat {
            Some(other) if come(other) >= come(seen) => slot.stale.push(seen),
            _ => slot.stale.extend(seat.replace(seen)),
        },
    }
}
