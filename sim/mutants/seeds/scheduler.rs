//! A framework that does all that a framework can, so that little of the cluster is left in peace.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use apportion_sdk::{
    AgentId, Context, Offer, OfferId, Scheduler, Subscription, Task, TaskId, TaskState, TaskStatus, Time,
    async_trait,
};
use apportion_sim::Store;

/// How long a service is needed.
const SERVES: Duration = Duration::from_secs(6);

/// How long an offer is kept: at times longer than the master lets it be.
const KEEPS: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(9)];

/// How long an offer is refused: for a while, and for longer than anybody waits unless the refusal is taken back.
const REFUSES: Duration = Duration::from_secs(12);
const REFUSES_FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// From there to the time when it is.
const REVIVES_AFTER: Duration = Duration::from_secs(3);

/// Where a job stands; stored before anything follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Job {
    /// To be launched, after so many attempts.
    Waiting {
        attempt: u32,
    },
    Launched {
        attempt: u32,
        task_id: TaskId,
        agent_id: AgentId,
    },
    Done,
}

/// Runs jobs until each has succeeded once, and services until each was killed once. Uses offers at once, keeps them, refuses them for a
/// while, or refuses them for ever and then revives; and asks for tasks that never were.
pub(crate) struct Busy {
    store: Store,
    jobs: Vec<Job>,
    /// How often it was given offers.
    given: usize,
    kept: BTreeMap<OfferId, (Offer, Time)>,
    revives_at: Option<Time>,
    /// When services are not needed any more, by job.
    serve_until: BTreeMap<usize, Time>,
    /// Tasks that never were, and of which nothing is told yet.
    ghosts: BTreeSet<TaskId>,
}

impl Busy {
    pub(crate) fn new(store: &Store, jobs: usize) -> Self {
        let jobs = (0..jobs).map(|number| stored(store, number)).collect();
        Self {
            store: store.clone(),
            jobs,
            given: 0,
            kept: BTreeMap::new(),
            revives_at: None,
            serve_until: BTreeMap::new(),
            ghosts: BTreeSet::new(),
        }
    }

    /// Whether a task is one that does not end by itself.
    pub(crate) fn is_service(task_id: &TaskId) -> bool {
        task_id.as_str().starts_with("service")
    }

    /// What it still waits for, for people; empty when that is nothing.
    pub(crate) fn open(&self) -> String {
        let jobs = self.jobs.iter().filter(|job| **job != Job::Done).map(|job| format!("{job:?}"));
        let ghosts = self.ghosts.iter().map(|ghost| format!("an answer about {ghost}"));
        jobs.chain(ghosts).collect::<Vec<_>>().join(", ")
    }

    fn set(&mut self, number: usize, job: Job) {
        let text = match &job {
            Job::Waiting { attempt } => format!("waiting {attempt}"),
            Job::Launched { attempt, task_id, agent_id } => {
                format!("launched {attempt} {task_id} {agent_id}")
            }
            Job::Done => "done".to_owned(),
        };
        self.store.save(&number.to_string(), text);
        self.jobs[number] = job;
    }

    /// What was launched under another id is not ours any more, and is ended by the master.
    fn begin_anew(&mut self) {
        for number in 0..self.jobs.len() {
            if let Job::Launched { attempt, .. } = self.jobs[number] {
                self.set(number, Job::Waiting { attempt: attempt + 1 });
            }
        }
    }

    /// Places what waits, as far as it fits.
    fn use_offer(&mut self, mut offer: Offer) {
        for number in 0..self.jobs.len() {
            let Job::Waiting { attempt } = self.jobs[number] else { continue };
            let kind = if number % 4 == 3 { "service" } else { "job" };
            let task = Task::new(format!("{kind}-{number}-{attempt}")).command([kind]).cpus(1.0).mem_mib(512);
            let task = task.kill_grace(Duration::from_secs(2)).build().expect("it is written here");
            let task_id = task.task_id.clone();
            if offer.launch(task).is_ok() {
                let agent_id = offer.agent_id().clone();
                self.set(number, Job::Launched { attempt, task_id, agent_id });
            }
        }
    }
}

#[async_trait]
impl Scheduler for Busy {
    type Message = ();

    async fn subscribed(&mut self, cx: &mut Context<'_>, subscription: Subscription) {
        if !subscription.resumed {
            self.begin_anew();
        }
        self.given += 1;
        let ghost = TaskId::new(format!("ghost-{}", self.given)).expect("it is written here");
        self.ghosts.insert(ghost.clone());
        cx.reconcile([(ghost, None)]);
    }

    async fn disconnected(&mut self, _cx: &mut Context<'_>, _why: String) {
        self.kept.clear();
    }

    async fn rescinded(&mut self, _cx: &mut Context<'_>, offer: OfferId) {
        self.kept.remove(&offer);
    }

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            self.given += 1;
            match self.given % 7 {
                2 => offer.decline_for(REFUSES, "not now"),
                4 => {
                    let keeps = KEEPS[self.given % KEEPS.len()];
                    self.kept.insert(offer.id().clone(), (offer, cx.now() + keeps));
                    cx.wake_after(keeps);
                }
                6 => {
                    offer.decline_for(REFUSES_FOR_EVER, "never");
                    self.revives_at = Some(cx.now() + REVIVES_AFTER);
                    cx.wake_after(REVIVES_AFTER);
                }
                _ => {
                    offer.refuse_for(Duration::from_millis(500));
                    self.use_offer(offer);
                }
            }
        }
    }

    /// Is told to look for tasks that it has given up, and that run all the same.
    async fn message(&mut self, cx: &mut Context<'_>, _message: ()) {
        cx.reconcile_all();
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        if self.ghosts.remove(&status.task_id) {
            return;
        }
        let of_it = |job: &Job| matches!(job, Job::Launched { task_id, .. } if *task_id == status.task_id);
        let Some(number) = self.jobs.iter().position(of_it) else {
            // One that was given up for lost.
            if status.state.holds_resources() {
                cx.kill(&status.task_id, None);
            }
            return;
        };
        let Job::Launched { attempt, .. } = self.jobs[number] else { return };
        let service = Self::is_service(&status.task_id);
        match status.state {
            TaskState::Running if service => {
                self.serve_until.entry(number).or_insert_with(|| {
                    cx.wake_after(SERVES);
                    cx.now() + SERVES
                });
            }
            TaskState::Finished => self.set(number, Job::Done),
            TaskState::Killed if service => self.set(number, Job::Done),
            state if state.is_terminal() || state == TaskState::Unknown => {
                self.serve_until.remove(&number);
                self.set(number, Job::Waiting { attempt: attempt + 1 });
            }
            _ => {}
        }
    }

    async fn woken(&mut self, cx: &mut Context<'_>) {
        let now = cx.now();
        let due = |(_, until): &(Offer, Time)| *until <= now;
        let (due, kept) = mem::take(&mut self.kept).into_iter().partition(|(_, kept)| due(kept));
        self.kept = kept;
        BTreeMap::into_values(due).for_each(|(offer, _)| self.use_offer(offer));
        if self.revives_at.is_some_and(|at| at <= now) {
            if cx.is_subscribed() {
                self.revives_at = None;
                cx.revive();
            } else {
                cx.wake_after(REVIVES_AFTER);
            }
        }
        // Said once, whether the master can hear it or not: the driver has promised to say it again.
        for (number, until) in &mut self.serve_until {
            if *until <= now
                && let Job::Launched { task_id, .. } = &self.jobs[*number]
            {
                *until = Time::from_micros(u64::MAX);
                cx.kill(task_id, None);
            }
        }
    }

    fn wants_offers(&self) -> bool {
        self.jobs.iter().any(|job| matches!(job, Job::Waiting { .. }))
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        let launched = self.jobs.iter().filter_map(|job| match job {
            Job::Launched { task_id, agent_id, .. } => Some((task_id.clone(), Some(agent_id.clone()))),
            Job::Waiting { .. } | Job::Done => None,
        });
        launched.collect()
    }
}

/// Where a job stood when its framework's last process ended.
fn stored(store: &Store, number: usize) -> Job {
    let text = store.load(&number.to_string()).map(|text| String::from_utf8(text).expect("it was text"));
    let words: Vec<&str> = text.as_deref().map(|text| text.split(' ').collect()).unwrap_or_default();
    let attempt = |word: &str| word.parse().expect("it was a number");
    match words.as_slice() {
        [] => Job::Waiting { attempt: 0 },
        ["waiting", number] => Job::Waiting { attempt: attempt(number) },
        ["launched", number, task_id, agent_id] => Job::Launched {
            attempt: attempt(number),
            task_id: TaskId::new(*task_id).expect("it was an id"),
            agent_id: AgentId::new(*agent_id).expect("it was an id"),
        },
        _ => Job::Done,
    }
}
