//! The scheduler of every framework of a scenario: runs so many tasks, each until it has succeeded once.

mod claim;
mod gang;
mod group;
mod volume;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apportion_sdk::{
    AgentId, Command, Context, DeclineReason, FreeView, Gang, HealthCheck, InverseOffer, Offer, OfferId,
    Probe, Reason, Resources, Role, Schedule, Scheduler, Subscription, Task, TaskId, TaskInfo, TaskState,
    TaskStatus, Time, async_trait, preempt,
    protocol::{FreeState, Preemption, ResourceRequest},
    store::Changes,
};

use super::framework::TASKS_MAX;
use crate::process::Store;

/// What is to be run.
#[derive(Debug, Clone)]
pub(super) struct Work {
    name: String,
    pub(super) tasks: usize,
    pub(super) needs: Resources,
    /// Ports of each task, beside what it needs.
    pub(super) ports: usize,
    /// An attribute that the agent must have.
    pub(super) on: Option<(String, String)>,
    pub(super) grace: Option<Duration>,
    /// From one question of a health check to the next; none when there is no check.
    pub(super) health: Option<Duration>,
    /// The longest that a task may run.
    pub(super) max_completion: Option<Duration>,
    /// How often a task that failed is run again; for ever when none.
    pub(super) retries_max: Option<usize>,
    /// Offers are kept and not used.
    pub(super) hoards: bool,
    /// The role for which it says what it waits for, and claims.
    pub(super) role: Role,
    /// MiB of a persistent volume for each task; none when zero.
    pub(super) volume_mib: u64,
    /// So many are launched together, or none; one by one when zero.
    pub(super) gang: usize,
    /// So many that follow each other are one task group; none when zero.
    pub(super) group: usize,
    /// It takes no offers, and claims what is free.
    pub(super) optimistic: bool,
    /// It says what it waits for.
    pub(super) asks: bool,
    /// It gives up its youngest tasks when some must go.
    pub(super) yields: bool,
}

impl Work {
    /// One task of one cpu and 128 MiB.
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            tasks: 1,
            needs: "cpus:1;mem:128".parse().expect("it is resources"),
            ports: 0,
            on: None,
            grace: None,
            health: None,
            max_completion: None,
            retries_max: None,
            hoards: false,
            role: Role::default(),
            volume_mib: 0,
            gang: 0,
            group: 0,
            optimistic: false,
            asks: false,
            yields: false,
        }
    }

    /// Says what is wrong with its tasks, if anything is.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.ports > 0 && self.needs.ports().is_some() {
            return Err("ports are asked for both in needs= and by ports=".to_owned());
        }
        if self.volume_mib > 0 && self.role.is_default() {
            return Err("a volume is kept for a role; give it one by role=".to_owned());
        }
        let ways = [self.volume_mib > 0, self.gang > 0, self.group > 0, self.optimistic, self.hoards];
        let by_offers = self.gang == 0 && self.group == 0 && !self.optimistic;
        if ways.into_iter().filter(|way| *way).count() > 1 || self.ports > 0 && !by_offers {
            return Err(
                "volume=, gang=, group=, optimistic and hoards are different ways of launching, and ports= goes with none of gang=, group= and optimistic".to_owned()
            );
        }
        if self.group > 0 && (self.yields || !self.tasks.is_multiple_of(self.group)) {
            return Err("tasks= is a multiple of group=, which does not go with yields".to_owned());
        }
        if self.gang > 0 && self.needs.has_terms() {
            return Err("the tasks of a gang are placed by plain needs=".to_owned());
        }
        let id = task_id(&self.name, TASKS_MAX, u32::MAX);
        self.describe(&id, Vec::new()).build().map(|_| ()).map_err(|error| error.to_string())
    }

    fn describe(&self, id: &TaskId, ports: Vec<u16>) -> Task {
        let mut task = Task::new(id.as_str()).name(&self.name).command([&self.name]).resources(&self.needs);
        if !ports.is_empty() {
            task = task.ports(ports);
        }
        if let Some(grace) = self.grace {
            task = task.kill_grace(grace);
        }
        if let Some(interval) = self.health {
            let schedule = Schedule { delay: Duration::ZERO, interval, timeout: interval };
            let probe = Probe::Command(Command { argv: vec!["check".to_owned()], env: BTreeMap::new() });
            let grace = 2 * interval;
            task = task.health_check(HealthCheck { schedule, grace, ..HealthCheck::new(probe) });
        }
        if let Some(most) = self.max_completion {
            task = task.max_completion(most);
        }
        task
    }
}

/// `left-3` for the first attempt of task 3, `left-3.2` for the second.
fn task_id(name: &str, number: usize, attempt: u32) -> TaskId {
    let id = if attempt <= 1 { format!("{name}-{number}") } else { format!("{name}-{number}.{attempt}") };
    TaskId::new(id).expect("a framework's name is bounded and plain")
}

/// The name of the framework, and the number and the attempt of the task.
pub(super) fn parts(id: &TaskId) -> Option<(&str, usize, u32)> {
    let (name, number) = id.as_str().split_once('-')?;
    let (number, attempt) = number.split_once('.').unwrap_or((number, "1"));
    Some((name, number.parse().ok()?, attempt.parse().ok()?))
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Waiting,
    Launched,
    Finished,
    Failed,
    Killed,
}

impl Stage {
    pub(super) const ALL: [Stage; 5] =
        [Stage::Waiting, Stage::Launched, Stage::Finished, Stage::Failed, Stage::Killed];

    pub(super) fn name(self) -> &'static str {
        match self {
            Stage::Waiting => "waiting",
            Stage::Launched => "launched",
            Stage::Finished => "finished",
            Stage::Failed => "failed",
            Stage::Killed => "killed",
        }
    }
}

#[derive(Debug, Clone)]
struct Job {
    stage: Stage,
    attempt: u32,
    failures: usize,
    agent_id: Option<AgentId>,
}

impl Job {
    const NEW: Job = Job { stage: Stage::Waiting, attempt: 1, failures: 0, agent_id: None };

    fn text(&self) -> String {
        let agent_id = self.agent_id.as_ref().map_or("", AgentId::as_str);
        format!("{} {} {} {agent_id}", self.stage.name(), self.attempt, self.failures)
    }

    fn of_text(text: &str) -> Option<Job> {
        let mut words = text.split(' ');
        let mut word = || words.next();
        let (stage, attempt, failures, agent_id) = (word()?, word()?, word()?, word()?);
        Some(Job {
            stage: Stage::ALL.into_iter().find(|known| known.name() == stage)?,
            attempt: attempt.parse().ok()?,
            failures: failures.parse().ok()?,
            agent_id: AgentId::new(agent_id).ok(),
        })
    }
}

/// The store's name of a task that was given up for others.
fn yielded(id: &TaskId) -> String {
    format!("yielded {id}")
}

/// What a scenario tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// To run so many tasks more.
    More(usize),
    /// To have a task killed, and not to run it again.
    Kill(usize),
}

/// The scheduler. It stores what it is about to launch before it does, and each end before that is acknowledged.
pub(super) struct Jobs {
    work: Work,
    store: Store,
    jobs: Vec<Job>,
    waiting: BTreeSet<usize>,
    counts: BTreeMap<Stage, u64>,
    hoard: Vec<Offer>,
    gang: Gang,
    /// When what the gang holds is given back.
    gang_until: Option<Time>,
    view: FreeView,
    /// Before that nothing is claimed: a claim was refused.
    claims_from: Time,
    /// How many inverse offers have come.
    asked_to_leave: usize,
}

/// The store's name of the number of tasks.
const TASKS: &str = "tasks";

impl Jobs {
    pub(super) fn new(work: Work, store: Store) -> Self {
        let text = |name: &str| store.load(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let tasks = text(TASKS).map_or(work.tasks, |text| text.parse().expect("its own record"));
        let jobs: Vec<Job> = (0..tasks)
            .map(|number| {
                text(&number.to_string())
                    .map_or(Job::NEW, |text| Job::of_text(&text).expect("its own record"))
            })
            .collect();
        let mut counts = BTreeMap::new();
        jobs.iter().for_each(|job| *counts.entry(job.stage).or_default() += 1);
        let is_waiting = |number: &usize| jobs[*number].stage == Stage::Waiting;
        let waiting = (0..tasks).filter(is_waiting).collect();
        Jobs {
            work,
            store,
            jobs,
            waiting,
            counts,
            hoard: Vec::new(),
            gang: Gang::new(),
            gang_until: None,
            view: FreeView::default(),
            claims_from: Time::ZERO,
            asked_to_leave: 0,
        }
    }

    /// How many of its tasks stand there.
    pub(super) fn count(&self, stage: Stage) -> u64 {
        self.counts.get(&stage).copied().unwrap_or(0)
    }

    /// The id of the newest attempt of a task; none when there is no such task.
    pub(super) fn id(&self, number: usize) -> Option<TaskId> {
        self.jobs.get(number).map(|job| task_id(&self.work.name, number, job.attempt))
    }

    /// The one door through which a task moves: it is stored before anything is done about it.
    fn put(&mut self, number: usize, job: Job) {
        self.put_all(vec![(number, job)]);
    }

    /// The same for several, of which none moves without the others.
    fn put_all(&mut self, moved: Vec<(usize, Job)>) {
        let mut changes = Changes::default();
        moved.iter().for_each(|(number, job)| _ = changes.put(number.to_string(), job.text().into_bytes()));
        self.store.change(changes);
        moved.into_iter().for_each(|(number, job)| self.moved(number, job));
    }

    fn moved(&mut self, number: usize, job: Job) {
        if job.stage == Stage::Waiting {
            self.waiting.insert(number);
        } else {
            self.waiting.remove(&number);
        }
        let old = std::mem::replace(&mut self.jobs[number], job);
        *self.counts.get_mut(&old.stage).expect("it was counted") -= 1;
        *self.counts.entry(self.jobs[number].stage).or_default() += 1;
    }

    /// Places what fits.
    fn place(&mut self, mut offer: Offer) {
        if let Some((name, wanted)) = &self.work.on
            && offer.attribute(name) != Some(wanted)
        {
            return offer.decline(DeclineReason::CONSTRAINT);
        }
        if self.work.group > 0 {
            return self.place_groups(offer);
        }
        self.tidy(&mut offer);
        while let Some(number) = self.waiting.first().copied() {
            let Some(ports) = offer.take_ports(self.work.ports) else {
                return offer.decline(DeclineReason::TOO_SMALL);
            };
            let mut task = self.described(number, ports);
            if self.work.volume_mib > 0 {
                let Some(volume) = self.volume_for(&mut offer, number, &task) else { return };
                task.resources += &volume;
            }
            if offer.launch(task).is_err() {
                return;
            }
            let agent_id = offer.agent_id().clone();
            self.launched(number, agent_id);
        }
    }

    /// The next attempt of a task.
    fn described(&self, number: usize, ports: Vec<u16>) -> TaskInfo {
        self.work.describe(&self.task_id(number), ports).build().expect("one like it was built before")
    }

    fn task_id(&self, number: usize) -> TaskId {
        task_id(&self.work.name, number, self.jobs[number].attempt)
    }

    fn launched(&mut self, number: usize, agent_id: AgentId) {
        let job = Job { stage: Stage::Launched, agent_id: Some(agent_id), ..self.jobs[number].clone() };
        self.put(number, job);
    }

    /// Says what it waits for, if it does so at all.
    fn ask(&self, cx: &mut Context<'_>) {
        if self.work.asks {
            let count = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
            let request = ResourceRequest { resources: self.work.needs.clone(), count };
            cx.request(&self.work.role, if count == 0 { Vec::new() } else { vec![request] });
        }
    }

    /// What becomes of a task that has ended so.
    fn ended(&self, job: &Job, state: TaskState) -> Job {
        let again =
            Job { stage: Stage::Waiting, attempt: job.attempt + 1, failures: job.failures, agent_id: None };
        let last = |stage| Job { stage, ..job.clone() };
        match state {
            TaskState::Finished => last(Stage::Finished),
            TaskState::Killed => last(Stage::Killed),
            TaskState::Error => last(Stage::Failed),
            TaskState::Failed if self.work.retries_max.is_some_and(|most| job.failures >= most) => {
                last(Stage::Failed)
            }
            TaskState::Failed => Job { failures: job.failures + 1, ..again },
            _ => again,
        }
    }
}

#[async_trait]
impl Scheduler for Jobs {
    type Message = Told;

    async fn subscribed(&mut self, cx: &mut Context<'_>, _: Subscription) {
        cx.watch_free(self.work.optimistic);
        self.ask(cx);
    }

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        if self.work.hoards {
            self.hoard.extend(offers);
        } else if self.work.gang > 0 {
            self.gather(cx, offers);
        } else {
            offers.into_iter().for_each(|offer| self.place(offer));
        }
        self.ask(cx);
    }

    async fn free(&mut self, cx: &mut Context<'_>, free: &FreeState) {
        self.view.apply(free);
        self.claim(cx);
    }

    /// Some are accepted, some declined, some not answered: whatever is asked of it, it goes on.
    async fn inverse_offers(&mut self, cx: &mut Context<'_>, offers: Vec<InverseOffer>) {
        for offer in offers {
            self.asked_to_leave += 1;
            let id = [offer.inverse_offer_id];
            match self.asked_to_leave % 4 {
                0 => {}
                1 => cx.accept_inverse_offers(id, None),
                2 => cx.accept_inverse_offers(id, Some(Duration::from_secs(3))),
                _ => cx.decline_inverse_offers(id, Some(Duration::from_secs(2)), "it has work there"),
            }
        }
    }

    async fn preempt(&mut self, cx: &mut Context<'_>, notice: Preemption) {
        let here =
            |job: &Job| job.stage == Stage::Launched && job.agent_id.as_ref() == Some(&notice.agent_id);
        let youngest = self.jobs.iter().enumerate().rev().filter(|(_, job)| self.work.yields && here(job));
        let held = youngest
            .map(|(number, job)| (task_id(&self.work.name, number, job.attempt), self.work.needs.clone()));
        for id in preempt::enough(&notice, held).unwrap_or_default() {
            self.store.save(&yielded(&id), "");
            cx.kill(&id, None);
        }
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        let number = parts(&status.task_id).map(|(_, number, _)| number);
        let Some(number) = number.filter(|number| self.id(*number).as_ref() == Some(&status.task_id)) else {
            return; // of an earlier attempt
        };
        let job = &self.jobs[number];
        let over = status.state.is_terminal() || status.state == TaskState::Unknown;
        if over && job.stage == Stage::Launched && self.work.group > 0 {
            self.member_ended(number, &status);
        } else if over && job.stage == Stage::Launched {
            let gave_way = matches!(status.reason, Some(Reason::Preempted | Reason::AgentDraining))
                || self.store.load(&yielded(&status.task_id)).is_some();
            let state =
                if gave_way && status.state == TaskState::Killed { TaskState::Gone } else { status.state };
            let job = self.ended(job, state);
            self.put(number, job);
            if self.work.optimistic {
                self.claims_from = cx.now() + claim::PAUSE;
                cx.wake_after(claim::PAUSE);
            }
        }
        self.ask(cx);
    }

    async fn woken(&mut self, cx: &mut Context<'_>) {
        self.claim(cx);
        if self.gang_until.is_some_and(|until| until <= cx.now()) {
            (self.gang, self.gang_until) = (Gang::new(), None);
        }
    }

    async fn message(&mut self, cx: &mut Context<'_>, told: Told) {
        match told {
            Told::More(tasks) => {
                let first = self.jobs.len();
                let all = (first + tasks).min(TASKS_MAX);
                self.store.save(TASKS, all.to_string());
                self.jobs.resize(all, Job::NEW);
                self.waiting.extend(first..all);
                *self.counts.entry(Stage::Waiting).or_default() += (all - first) as u64;
                self.claim(cx);
            }
            Told::Kill(number) => match self.jobs.get(number).map(|job| job.stage) {
                Some(Stage::Waiting) if self.work.group > 0 => self.drop_group(number),
                Some(Stage::Waiting) => {
                    self.put(number, Job { stage: Stage::Killed, ..self.jobs[number].clone() })
                }
                Some(Stage::Launched) => {
                    let id = self.id(number).expect("it was just looked at");
                    cx.kill(&id, None);
                }
                _ => {}
            },
        }
        self.ask(cx);
    }

    async fn rescinded(&mut self, _: &mut Context<'_>, id: OfferId) {
        self.hoard.retain(|offer| *offer.id() != id);
        self.gang.forget(&id);
    }

    async fn disconnected(&mut self, _: &mut Context<'_>, _: String) {
        self.hoard.clear();
        (self.gang, self.gang_until) = (Gang::new(), None);
        self.view = FreeView::default();
    }

    fn wants_offers(&self) -> bool {
        self.work.hoards || !self.work.optimistic && !self.waiting.is_empty()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        let launched = self.jobs.iter().enumerate().filter(|(_, job)| job.stage == Stage::Launched);
        launched
            .map(|(number, job)| (task_id(&self.work.name, number, job.attempt), job.agent_id.clone()))
            .collect()
    }
}
