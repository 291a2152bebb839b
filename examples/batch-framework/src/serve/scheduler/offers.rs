//! Room comes up: whose task is launched on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use apportion_sdk::{FrameworkId, Offer, Resources, Time, placement::Demand};

use super::{Event, QueueScheduler, Waited, Work};
use crate::{
    launch::{Ground, Placed},
    queue::{Held, JobId, Wish, at_least},
    serve::entry::Entry,
    state::Class,
};

/// What a job could launch in this round: its sizes that were not found too large yet, each with what it asks for.
type Sizes = VecDeque<(Class, Demand)>;

impl QueueScheduler {
    /// Launches what is next in the queue, one task after the other, until nothing fits any more.
    pub(super) fn place(&mut self, offers: Vec<Offer>, framework_id: FrameworkId, now: Time) -> Work {
        let held = self.held();
        self.count_in(&offers, &held);
        let mut ground = Ground::new(offers, framework_id, now);
        let mut work = Work::default();
        let mut round = self.queue.round(self.wishes(now), held, self.total.clone());
        let mut sizes: BTreeMap<JobId, Sizes> = BTreeMap::new();
        while let Some(id) = round.next() {
            let Some(entry) = self.entries.get_mut(&id) else {
                round.served();
                continue;
            };
            let sizes = sizes.entry(id).or_insert_with(|| {
                entry.state.launchable().map(|class| (class, ground.demand(&entry.job, class))).collect()
            });
            let Some((class, demand)) = sizes.front() else {
                match entry.state.launchable().next() {
                    None => round.served(),
                    // Something could start, and nothing of it fits.
                    Some(_) => {
                        entry.short_since.get_or_insert(now);
                        round.no_room();
                    }
                }
                continue;
            };
            let mut effects = Vec::new();
            let placed = match entry.state.gang(class.stage) {
                // First some of the tasks must end that its user has.
                Some(members) if members.len() > round.left() => {
                    entry.short_since.get_or_insert(now);
                    round.over_limit();
                    continue;
                }
                Some(_) => ground.launch_gang(&entry.job, &mut entry.state, class.stage, &mut effects),
                None if entry.state.is_gang(class.stage) => Placed::Nowhere,
                None => ground.launch(&entry.job, &mut entry.state, *class, demand, &mut effects),
            };
            match placed {
                Placed::Launched(tasks) => {
                    round.launched(&demand.resources, tasks);
                    let waits = self.waits.entry(entry.head.ticket.user.clone()).or_default();
                    waits.attempts += tasks as u64;
                    started(entry, id, now, &mut work, waits);
                    work.add(id, effects);
                }
                Placed::Rejected => work.add(id, effects),
                Placed::Nowhere => _ = sizes.pop_front(),
            }
        }
        self.queue.finish(round);
        for (id, entry) in &mut self.entries {
            if self.active.contains(id) && !entry.state.copies_wanted().is_empty() {
                ground.launch_copies(&entry.job, &mut entry.state);
                work.touched.insert(*id);
            }
        }
        let mut waiting = self.ready.iter().filter_map(|id| self.entries.get(id));
        let wanted = waiting.find_map(|entry| {
            let class = entry.state.launchable().next()?;
            Some(entry.job.stages()[class.stage].resources(class.step))
        });
        ground.give_back(wanted.as_ref());
        work
    }

    /// What users hold: counted from what is under way each time, so that no count can go wrong.
    pub(super) fn held(&self) -> BTreeMap<String, Held> {
        let mut held: BTreeMap<String, Held> = BTreeMap::new();
        for entry in self.active.iter().filter_map(|id| self.entries.get(id)) {
            let of_user = held.entry(entry.head.ticket.user.clone()).or_default();
            for (class, count) in entry.state.held() {
                of_user.add_many(&entry.job.stages()[class.stage].resources(class.step), count);
            }
        }
        held
    }

    /// The cluster has at least what is held and offered; what it has in all is told by the program now and then.
    fn count_in(&mut self, offers: &[Offer], held: &BTreeMap<String, Held>) {
        let mut seen = Resources::new();
        offers.iter().for_each(|offer| seen += offer.resources());
        held.values().for_each(|held| seen += &held.resources);
        at_least(&mut self.total, &seen);
    }

    fn wishes(&self, now: Time) -> BTreeSet<Wish> {
        let patience = self.queue.settings().patience;
        let wish = |id: &JobId| {
            let entry = self.entries.get(id)?;
            // Whoever can never run holds nobody back.
            let since = entry.short_since.filter(|_| entry.note.is_none());
            Some(Wish { job: *id, overdue: since.is_some_and(|since| now.since(since) >= patience) })
        };
        self.ready.iter().filter_map(wish).collect()
    }
}

/// Something of the job was launched.
fn started(entry: &mut Entry, id: JobId, now: Time, work: &mut Work, waits: &mut Waited) {
    entry.short_since = None;
    if entry.head.launched_at.is_none() {
        entry.head.launched_at = Some(now);
        work.draft.head(id, &entry.head);
        let waited = now.since(entry.head.submitted_at);
        waits.add(waited);
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        work.events.push((Some(id), Event::Started { waited_ms }));
    }
}
