//! Jobs of several users in one framework: who may come in, and whose task is launched next.
//!
//! Pure, as [`state`](crate::state) is: it knows neither offers nor a clock. The rules:
//!
//! - **Between users: fair shares.** Next is the user with the lowest *dominant share* for their weight: of all resources that their tasks
//!   hold, the one of which they hold the greatest part of the cluster (DRF, Ghodsi et al., NSDI 2011). Who asks for much memory and who asks
//!   for many cpus get equal parts of what each of them needs most; and nobody gains by splitting work into more jobs.
//!   Of equals it is the turn of who was served the longest ago.
//! - **Within a user: priority**, the greater number first, then who came first. A priority means nothing to other users.
//! - **Limits**: how many jobs that have not ended may be there in all and of one user, how many tasks of theirs, and how many tasks of one
//!   user may be on agents at a time.
//! - **Nobody waits for ever.** What is small fits into holes that something large never does. So a job whose turn it is and that has waited
//!   for room longer than the queue's patience holds back those behind it, until what runs has ended and there is room. Those before it,
//!   whose share is lower, go on.
//!
//! Every order is total and depends on nothing but what is said here: equal input gives equal output.

mod round;
mod share;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub(crate) use self::share::at_least;
pub use self::{
    round::{Round, Wish},
    share::{Held, Share},
};

/// The number of a job in its queue, from 1; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().map_err(|_| {
            format!("`{}` is not the number of a job; `apportion batch ls` lists them", text.escape_default())
        })?;
        Ok(JobId(number))
    }
}

/// What the queue knows of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Whose it is.
    pub user: String,
    /// Among the jobs of this user: the greater number first.
    pub priority: i32,
}

/// How a queue is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Jobs that have not ended.
    pub jobs_max: usize,
    /// Of these, of one user.
    pub jobs_per_user: usize,
    /// Tasks that have not ended, whether they wait or run.
    pub queued_tasks_max: usize,
    /// Of these, of one user.
    pub queued_tasks_per_user: usize,
    /// Tasks of one user on agents at a time.
    pub tasks_per_user: usize,
    /// Who gets more than others, or less; 1 for whoever is not named.
    pub weights: BTreeMap<String, u32>,
    /// How long a job may be overtaken.
    pub patience: Duration,
}

/// Enough for everybody; there are bounds so that a script gone wild fills neither the disk nor the memory, which is what tasks cost. Half of
/// the tasks stay for others.
impl Default for Settings {
    fn default() -> Self {
        Self {
            jobs_max: 10_000,
            jobs_per_user: 1_000,
            queued_tasks_max: 1_000_000,
            queued_tasks_per_user: 500_000,
            tasks_per_user: 100_000,
            weights: BTreeMap::new(),
            patience: Duration::from_secs(300),
        }
    }
}

/// Why a job is not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// There are too many in all.
    #[error(
        "{most} jobs are in the queue, and it takes no more (--jobs-max); submit again when one has ended"
    )]
    Jobs {
        /// The limit.
        most: usize,
    },
    /// There are too many of this user.
    #[error(
        "user `{user}` has {most} jobs that have not ended, and may have no more (--user-jobs-max); submit again when one has ended, or make \
         one job of many by an [array]"
    )]
    OfUser {
        /// Whose.
        user: String,
        /// The limit.
        most: usize,
    },
    /// There would be too many tasks in all.
    #[error(
        "{queued} tasks in the queue have not ended, and with {more} more it would have more than the {most} that it takes \
         (--queued-tasks-max); try again when enough have ended, or submit a smaller job"
    )]
    Tasks {
        /// How many there are.
        queued: usize,
        /// How many would come.
        more: usize,
        /// The limit.
        most: usize,
    },
    /// There would be too many tasks of this user.
    #[error(
        "user `{user}` has {queued} tasks that have not ended, and with {more} more would have more than the {most} that they may \
         (--user-queued-tasks-max); try again when enough have ended, or submit a smaller job"
    )]
    TasksOfUser {
        /// Whose.
        user: String,
        /// How many there are.
        queued: usize,
        /// How many would come.
        more: usize,
        /// The limit.
        most: usize,
    },
}

/// The jobs that have not ended, in the order in which they are served.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    settings: Settings,
    tickets: BTreeMap<JobId, Ticket>,
    /// Of each user, in order.
    users: BTreeMap<String, BTreeSet<(Reverse<i32>, JobId)>>,
    /// When something of each was launched last: the number of that launch.
    served: BTreeMap<String, u64>,
    launches: u64,
}

impl Queue {
    /// An empty one.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// How it is kept.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether one more job of this user may come, of which so many tasks are to run; of each that is here `unended` gives how many tasks have
    /// not ended.
    pub fn has_room(&self, user: &str, more: usize, unended: impl Fn(JobId) -> usize) -> Result<(), Full> {
        let theirs = self.users.get(user);
        match &self.settings {
            Settings { jobs_per_user: most, .. } if theirs.map_or(0, BTreeSet::len) >= *most => {
                return Err(Full::OfUser { user: user.to_owned(), most: *most });
            }
            Settings { jobs_max: most, .. } if self.tickets.len() >= *most => {
                return Err(Full::Jobs { most: *most });
            }
            _ => {}
        }
        // Whoever only has outputs fetched again brings no task.
        let is_over = |queued: usize, most: usize| more > 0 && queued.saturating_add(more) > most;
        let queued = theirs.into_iter().flatten().map(|(_, id)| unended(*id)).sum();
        let most = self.settings.queued_tasks_per_user;
        if is_over(queued, most) {
            return Err(Full::TasksOfUser { user: user.to_owned(), queued, more, most });
        }
        let queued = self.tickets.keys().map(|id| unended(*id)).sum();
        let most = self.settings.queued_tasks_max;
        if is_over(queued, most) {
            return Err(Full::Tasks { queued, more, most });
        }
        Ok(())
    }

    /// Takes a job in, whether or not there is [room](Queue::has_room): what was once taken in stays when limits become lower.
    pub fn enter(&mut self, id: JobId, ticket: Ticket) {
        self.leave(id);
        self.users.entry(ticket.user.clone()).or_default().insert((Reverse(ticket.priority), id));
        self.tickets.insert(id, ticket);
    }

    /// It has ended, or is forgotten.
    pub fn leave(&mut self, id: JobId) {
        let Some(Ticket { user, priority }) = self.tickets.remove(&id) else { return };
        if let Some(theirs) = self.users.get_mut(&user) {
            theirs.remove(&(Reverse(priority), id));
            if theirs.is_empty() {
                self.users.remove(&user);
            }
        }
    }

    /// The jobs, each with its ticket, in the order in which they came.
    pub fn tickets(&self) -> impl Iterator<Item = (JobId, &Ticket)> {
        self.tickets.iter().map(|(id, ticket)| (*id, ticket))
    }

    /// The weight of a user.
    pub fn weight(&self, user: &str) -> u32 {
        self.settings.weights.get(user).copied().unwrap_or(1).max(1)
    }
}
