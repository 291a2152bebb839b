//! The scheduler of every framework of a scenario: runs so many tasks, each until it has succeeded once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apportion_sdk::{
    AgentId, Context, DeclineReason, Offer, OfferId, Resources, Scheduler, Task, TaskError, TaskId, TaskInfo,
    TaskState, TaskStatus, async_trait,
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
    /// How often a task that failed is run again; for ever when none.
    pub(super) retries_max: Option<usize>,
    /// Offers are kept and not used.
    pub(super) hoards: bool,
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
            retries_max: None,
            hoards: false,
        }
    }

    /// Says what is wrong with its tasks, if anything is.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.ports > 0 && self.needs.ports().is_some() {
            return Err("ports are asked for both in needs= and by ports=".to_owned());
        }
        let id = task_id(&self.name, TASKS_MAX, u32::MAX);
        self.task(&id, Vec::new()).map(|_| ()).map_err(|error| error.to_string())
    }

    fn task(&self, id: &TaskId, ports: Vec<u16>) -> Result<TaskInfo, TaskError> {
        let mut task = Task::new(id.as_str()).name(&self.name).command([&self.name]).resources(&self.needs);
        if !ports.is_empty() {
            task = task.ports(ports);
        }
        if let Some(grace) = self.grace {
            task = task.kill_grace(grace);
        }
        task.build()
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
        Jobs { work, store, jobs, waiting, counts, hoard: Vec::new() }
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
        self.store.save(&number.to_string(), job.text());
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
        while let Some(number) = self.waiting.first().copied() {
            let Some(ports) = offer.take_ports(self.work.ports) else {
                return offer.decline(DeclineReason::TOO_SMALL);
            };
            let attempt = self.jobs[number].attempt;
            let task = self.work.task(&task_id(&self.work.name, number, attempt), ports);
            if offer.launch(task.expect("one like it was built before")).is_err() {
                return;
            }
            let agent_id = Some(offer.agent_id().clone());
            self.put(number, Job { stage: Stage::Launched, agent_id, ..self.jobs[number].clone() });
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

    async fn offers(&mut self, _: &mut Context<'_>, offers: Vec<Offer>) {
        if self.work.hoards {
            return self.hoard.extend(offers);
        }
        offers.into_iter().for_each(|offer| self.place(offer));
    }

    async fn update(&mut self, _: &mut Context<'_>, status: TaskStatus) {
        let number = parts(&status.task_id).map(|(_, number, _)| number);
        let Some(number) = number.filter(|number| self.id(*number).as_ref() == Some(&status.task_id)) else {
            return; // of an earlier attempt
        };
        let job = &self.jobs[number];
        let over = status.state.is_terminal() || status.state == TaskState::Unknown;
        if over && job.stage == Stage::Launched {
            let job = self.ended(job, status.state);
            self.put(number, job);
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
            }
            Told::Kill(number) => match self.jobs.get(number).map(|job| job.stage) {
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
    }

    async fn rescinded(&mut self, _: &mut Context<'_>, id: OfferId) {
        self.hoard.retain(|offer| *offer.id() != id);
    }

    async fn disconnected(&mut self, _: &mut Context<'_>, _: String) {
        self.hoard.clear();
    }

    fn wants_offers(&self) -> bool {
        self.work.hoards || !self.waiting.is_empty()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        let launched = self.jobs.iter().enumerate().filter(|(_, job)| job.stage == Stage::Launched);
        launched
            .map(|(number, job)| (task_id(&self.work.name, number, job.attempt), job.agent_id.clone()))
            .collect()
    }
}
