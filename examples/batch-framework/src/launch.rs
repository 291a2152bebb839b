//! Placing tasks on the offers at hand: what the scheduler of one job and that of a queue have in common.
//!
//! A [`Ground`] is made of the offers of one callback and filled task by task. It keeps an index of them while it is filled, so that a
//! task costs no look at each offer, and it gives back what is left when the callback ends: nothing is ever held for later.

use std::time::Duration;

use apportion_sdk::{
    DeclineReason, FrameworkId, Network, Offer, Resources, Task as Description, TaskId, TaskInfo, Time,
    limits,
    placement::{self, BestFit, Demand, Packing, Rule},
};

use crate::{
    job::{Job, Stage},
    state::{Class, Effect, Host, JobState},
};

mod gang;

/// How long before its machine is taken away nothing without a time limit is placed on an agent.
const WINDOW_NEAR: Duration = Duration::from_secs(3600);

/// For how long an agent is not offered again on which nothing would end in time.
const LATE_REFUSED: Duration = Duration::from_secs(60);

/// When a scheduler of which a gang waits asks for everything that is free at once ([`apportion_sdk::Context::revive`]): offers that it has
/// refused one by one would otherwise come again one by one. Soon after something has moved, and ever more seldom while nothing does.
#[derive(Debug)]
pub(crate) struct Gather {
    pause: Duration,
    at: Option<Time>,
}

impl Default for Gather {
    fn default() -> Self {
        Self { pause: Self::PAUSE_MIN, at: None }
    }
}

impl Gather {
    const PAUSE_MIN: Duration = Duration::from_secs(2);
    const PAUSE_MAX: Duration = Duration::from_secs(128);

    /// When to be woken for it, if a gang waits.
    pub(crate) fn due(&mut self, waits: bool, now: Time) -> Option<Time> {
        if !waits {
            *self = Self::default();
            return None;
        }
        Some(*self.at.get_or_insert(now + self.pause))
    }

    /// Whether it is time.
    pub(crate) fn is_due(&mut self, now: Time) -> bool {
        let is_due = self.at.is_some_and(|at| at <= now);
        if is_due {
            (self.pause, self.at) = ((self.pause * 2).min(Self::PAUSE_MAX), None);
        }
        is_due
    }

    /// Something was launched, or has ended: there may be room soon. What is due is not put off by it: in a large queue something always moves.
    pub(crate) fn moved(&mut self, now: Time) {
        self.pause = Self::PAUSE_MIN;
        self.at = self.at.map(|at| at.min(now + self.pause));
    }
}

/// What came of the wish to launch something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// So many tasks are on their way.
    Launched(usize),
    /// A task ended instead, because it cannot even be described: there may be more behind it.
    Rejected,
    /// Nothing of this size is ready, or fits anywhere.
    Nowhere,
}

/// The offers of one callback, as they are filled.
#[derive(Debug)]
pub(crate) struct Ground {
    /// None once it is part of a gang.
    offers: Vec<Option<Offer>>,
    packing: Packing,
    framework_id: FrameworkId,
    now: Time,
    /// The shortest that anything takes that was to be placed.
    shortest: Option<Duration>,
}

impl Ground {
    pub(crate) fn new(offers: Vec<Offer>, framework_id: FrameworkId, now: Time) -> Self {
        let offers = Offer::by_agent(offers);
        let packing = Packing::new(&offers);
        Self { offers: offers.into_iter().map(Some).collect(), packing, framework_id, now, shortest: None }
    }

    /// What a task of this size asks of an agent. Where the machine is to be taken away, it is to end before, by its time limit; one without
    /// a limit is placed until an hour before: windows may be weeks away.
    pub(crate) fn demand(&mut self, job: &Job, class: Class) -> Demand {
        let stage = &job.stages()[class.stage];
        let longest = longest(stage);
        self.shortest = Some(self.shortest.map_or(longest, |shortest| shortest.min(longest)));
        Demand::of(stage.resources(class.step)).must(Rule::in_time(self.now, Some(longest)))
    }

    /// Launches the next ready task of a size, whose [demand](Ground::demand) this is.
    ///
    /// Best fit fills one agent before it touches the next: what stays whole can still take someone's large task.
    pub(crate) fn launch(
        &mut self,
        job: &Job,
        state: &mut JobState,
        class: Class,
        demand: &Demand,
        effects: &mut Vec<Effect>,
    ) -> Placed {
        let Some(position) = state.next_ready(class) else { return Placed::Nowhere };
        while let Some(index) = self.packing.choose(demand, &BestFit) {
            let task = match describe(job, position, state.next_id(position), &demand.resources) {
                Ok(task) => task,
                Err(why) => {
                    state.reject(position, why, effects);
                    return Placed::Rejected;
                }
            };
            if let Some(host) = self.put(index, demand, task) {
                state.launched(position, host, self.now);
                return Placed::Launched(1);
            }
        }
        Placed::Nowhere
    }

    /// Launches second copies of what takes long, each on another agent than the first.
    pub(crate) fn launch_copies(&mut self, job: &Job, state: &mut JobState) {
        for position in state.copies_wanted().clone() {
            let demand = self.demand(job, state.class_of(position));
            let mut others = self.packing.clone();
            let of_first = |offer: &Option<Offer>| {
                offer.as_ref().is_some_and(|offer| Some(offer.agent_id()) == state.runs_on(position))
            };
            let theirs = self.offers.iter().enumerate().filter(|(_, offer)| of_first(offer));
            theirs.for_each(|(index, _)| others.close(index));
            let Some(index) = others.choose(&demand, &BestFit) else { continue };
            let Ok(task) = describe(job, position, state.next_id(position), &demand.resources) else {
                continue;
            };
            if let Some(host) = self.put(index, &demand, task) {
                state.copied(position, host, self.now);
            }
        }
    }

    /// Launches a task on an offer; gives none when its accept can carry no more, and then nothing more is placed on it.
    fn put(&mut self, index: usize, demand: &Demand, task: TaskInfo) -> Option<Host> {
        let offer = self.offers[index].as_mut()?;
        let launched = offer.launch(task).is_ok().then(|| host(offer, &self.framework_id));
        if launched.is_none() || self.packing.take(index, demand).is_err() {
            self.packing.close(index);
        }
        launched
    }

    /// Gives back what is left. `wanted` is what a task that still waits asks for, if one does; the reason tells operators what it lacked.
    pub(crate) fn give_back(self, wanted: Option<&Resources>) {
        for offer in self.offers.into_iter().flatten() {
            let is_late = |shortest| !placement::ends_in_time(&offer, self.now, Some(shortest));
            if wanted.is_some() && self.shortest.is_some_and(is_late) {
                // The window only comes nearer; should it change, the agent is offered with another.
                let why = "its machine is taken away before a task ends";
                offer.decline_for(LATE_REFUSED, DeclineReason::CONSTRAINT.with(why));
                continue;
            }
            let missing = wanted.map(|wanted| offer.missing(wanted)).unwrap_or_default();
            let names: Vec<_> = missing.iter().map(|(name, _)| name.as_str()).collect();
            let reason = match names.as_slice() {
                [] => DeclineReason::NO_WORK,
                names => DeclineReason::TOO_SMALL.with(names.join(", ")),
            };
            offer.decline(reason);
        }
    }
}

/// How long a task may need an agent.
fn longest(stage: &Stage) -> Duration {
    let grace = stage.kill_grace.unwrap_or(limits::KILL_GRACE_DEFAULT);
    stage.policy.timeout.map_or(WINDOW_NEAR, |timeout| timeout.saturating_add(grace))
}

fn host(offer: &Offer, framework_id: &FrameworkId) -> Host {
    Host {
        agent_id: offer.agent_id().clone(),
        hostname: offer.hostname().to_owned(),
        address: offer.address().to_owned(),
        framework_id: framework_id.clone(),
    }
}

/// One attempt as the agent is to run it.
fn describe(job: &Job, position: usize, task_id: TaskId, resources: &Resources) -> Result<TaskInfo, String> {
    let stage = job.stage_of(position);
    let mut task = Description::new(task_id.as_str())
        .name(job.task_name(position))
        .command(job.argv(position))
        .resources(resources)
        .label("job", job.name.as_str());
    if !stage.name.is_empty() {
        task = task.label("stage", stage.name.as_str());
    }
    for (name, value) in job.env(position) {
        task = task.env(name, value);
    }
    for artifact in job.artifacts(position) {
        task = task.artifact(artifact);
    }
    // A task sees its host's files but has a `/tmp` of its own: this shows it its file wherever that lies.
    for file in job.files(position) {
        task = task.volume(file);
    }
    if stage.exclusive_cpus {
        task = task.exclusive_cpus();
    }
    if let Some(pids) = stage.pids_max {
        task = task.pids_max(pids);
    }
    if let Some(io) = stage.io {
        task = task.io(io);
    }
    if let Some(grace) = stage.kill_grace {
        task = task.kill_grace(grace);
    }
    if let Some(image) = &stage.image {
        task = task.image(image.to_string());
    }
    if let Some(user) = &stage.user {
        task = task.user(user);
    }
    if let Some(network) = &stage.network {
        task = task.network(Network::new(network));
    }
    // The scheduler ends what runs too long, with its grace. Should it be away then, the agent does that a moment later.
    if let Some(timeout) = stage.policy.timeout {
        let grace = stage.kill_grace.unwrap_or(limits::KILL_GRACE_DEFAULT);
        task = task.max_completion(timeout.saturating_add(grace).min(limits::MAX_COMPLETION_MAX));
    }
    task.build().map_err(|error| error.to_string())
}
