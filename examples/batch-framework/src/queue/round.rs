//! One look at the queue, with room at hand: whose task is next, again and again until nothing fits any more.

use std::collections::{BTreeMap, VecDeque};

use apportion_sdk::Resources;

use super::{Held, JobId, Queue, Share};

/// That a job has tasks which could start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wish {
    /// Which job.
    pub job: JobId,
    /// It has waited for room longer than it should: when its turn comes and it finds none, those behind it wait with it.
    pub overdue: bool,
}

/// Of one user.
#[derive(Debug)]
struct Turn {
    user: String,
    weight: u32,
    held: Held,
    share: Share,
    /// When something of theirs was launched last: the number of that launch.
    last: u64,
    /// In order.
    wishes: VecDeque<Wish>,
}

impl Turn {
    /// Whoever has the least is first; of equals, such as those who have nothing, who was served the longest ago: otherwise one of two whose
    /// tasks need most of the cluster would never get any of it. Then by name, so that there always is a first.
    fn rank(&self) -> (Share, u64, &str) {
        (self.share, self.last, &self.user)
    }
}

/// One look at a queue.
#[derive(Debug)]
pub struct Round {
    turns: Vec<Turn>,
    total: Resources,
    tasks_per_user: usize,
    /// How many launches there were so far.
    launches: u64,
    over: bool,
}

impl Queue {
    /// Begins to serve those that wish something, in whatever order they are given. `held` is what users hold so far, `total` what there is
    /// in the cluster, as far as is known.
    pub fn round(
        &self,
        wishes: impl IntoIterator<Item = Wish>,
        mut held: BTreeMap<String, Held>,
        total: Resources,
    ) -> Round {
        let wishes: BTreeMap<JobId, Wish> = wishes.into_iter().map(|wish| (wish.job, wish)).collect();
        let turns = self.users.iter().filter_map(|(user, theirs)| {
            let wishes: VecDeque<_> = theirs.iter().filter_map(|(_, id)| wishes.get(id)).copied().collect();
            if wishes.is_empty() {
                return None;
            }
            let (weight, held) = (self.weight(user), held.remove(user).unwrap_or_default());
            let share = Share::of(&held.resources, &total, weight);
            let last = self.served.get(user).copied().unwrap_or(0);
            Some(Turn { user: user.clone(), weight, held, share, last, wishes })
        });
        let turns = turns.collect();
        Round {
            turns,
            total,
            tasks_per_user: self.settings.tasks_per_user,
            launches: self.launches,
            over: false,
        }
    }

    /// Remembers who was served in a round.
    pub fn finish(&mut self, round: Round) {
        self.launches = round.launches;
        for turn in round.turns {
            self.served.insert(turn.user, turn.last);
        }
        // Of whoever has no job any more nothing is remembered.
        self.served.retain(|user, _| self.users.contains_key(user));
    }
}

impl Round {
    /// The job of which a task should be launched now; the same until it is told what came of it.
    pub fn next(&self) -> Option<JobId> {
        self.first().and_then(|index| self.turns[index].wishes.front()).map(|wish| wish.job)
    }

    /// How many tasks the user whose turn it is may have more.
    pub fn left(&self) -> usize {
        self.first().map_or(0, |index| self.tasks_per_user - self.turns[index].held.tasks)
    }

    /// Of the job whose turn it is so many tasks of a size were launched.
    pub fn launched(&mut self, resources: &Resources, tasks: usize) {
        let Some(index) = self.first() else { return };
        self.launches += 1;
        let turn = &mut self.turns[index];
        turn.last = self.launches;
        turn.held.add_many(resources, tasks);
        turn.share = Share::of(&turn.held.resources, &self.total, turn.weight);
    }

    /// The job whose turn it is has nothing more that would start.
    pub fn served(&mut self) {
        if let Some(index) = self.first() {
            self.turns[index].wishes.pop_front();
        }
    }

    /// The job whose turn it is found no room for what it has. Gives whether those behind it may try.
    pub fn no_room(&mut self) -> bool {
        let Some(index) = self.first() else { return false };
        self.over = self.turns[index].wishes.pop_front().is_some_and(|wish| wish.overdue);
        !self.over
    }

    /// The job whose turn it is needs more tasks at once than its user may have now. Once it is overdue what is behind it of that user waits
    /// with it, so that tasks end and none come: otherwise it would wait for ever. Others are not held back.
    pub fn over_limit(&mut self) {
        let Some(index) = self.first() else { return };
        let wishes = &mut self.turns[index].wishes;
        if wishes.pop_front().is_some_and(|wish| wish.overdue) {
            wishes.clear();
        }
    }

    fn first(&self) -> Option<usize> {
        let may = |turn: &Turn| !turn.wishes.is_empty() && turn.held.tasks < self.tasks_per_user;
        let turns = self.turns.iter().enumerate().filter(|(_, turn)| may(turn) && !self.over);
        turns.min_by(|(_, one), (_, other)| one.rank().cmp(&other.rank())).map(|(index, _)| index)
    }
}
