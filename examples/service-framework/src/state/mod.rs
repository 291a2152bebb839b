//! Services as a pure state machine: what each is to be, which task is which replica, and what is to be done next.
//!
//! What is written down is the [`Table`]; what was heard of tasks is remembered beside it, and found out anew by each scheduler. Whatever
//! happens changes one of the two, and then the service is **settled**: its [`plan`] is made from scratch, and what the plan wants gone is
//! doomed, which is written before it is asked for. So there is one way to a new state, and a crash between two steps is no special case.
//!
//! ```text
//!            launch                     ended
//!   seat ─────────────► task ──────────────────────────► (pause) ──► seat
//!     ▲                  │  │ doomed: its end is decided, and awaited
//!     └──────────────────┘  └───────────────────────────► gone
//!      unreachable for too long: given up, a stray
//! ```
//!
//! A task that is doomed while clients are led to it is first taken away from them, and killed when it is drained (`drain`).

mod app;
mod drain;
mod explained;
mod orders;
pub mod plan;
mod rollout;
pub mod scaling;
mod table;
#[cfg(test)]
mod tests;
mod trouble;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use apportion_sdk::{
    AgentId, FrameworkId, Reason, Source, TaskId, TaskState, TaskStatus, Time, placement::Running,
};

pub(crate) use self::orders::collide;
pub use self::{
    app::{App, Change, Phase, Scaled},
    explained::{Explained, ScalingView, Waiting},
    orders::{Applied, Refused, agree},
    table::{Placed, Spot, Table, TableError, VERSION},
    trouble::{End, Size, Trouble},
    view::{AppView, Endpoint, TaskView},
};
use self::{
    drain::Drain,
    plan::{Plan, Seat, Seen, Wish},
    rollout::Progress,
    scaling::Scaling,
};
use crate::{
    event::{Event, Told},
    spec::{Restart, Spec},
};

/// After so long it is told which replicas of an earlier run were not heard of.
pub const SILENCE: Duration = Duration::from_secs(10);

/// What the scheduler must do, or may tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask for the end of this task.
    Kill(TaskId),
    /// Tell what happened.
    Tell(Told),
}

/// A replica that is to be launched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Launch {
    /// Its service.
    pub app: String,
    /// Its number.
    pub replica: u32,
    /// What it is made from.
    pub revision: u64,
}

/// What was heard of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Instance {
    /// Whether anything was, by this scheduler.
    heard: bool,
    /// Since when it runs.
    running_since: Option<Time>,
    /// Whether its health check says that it does its work; always, when it has none.
    healthy: bool,
    /// Since when it is ready: runs, is healthy, and can be reached.
    ready_since: Option<Time>,
    /// Whether it has been so for as long as counts.
    available: bool,
    /// When it is given up, while it cannot be reached.
    give_up_at: Option<Time>,
    /// Once its end is decided: whether what clients have under way with it may finish first.
    drain: Drain,
    /// Addresses of its own, on a network.
    addresses: Vec<IpAddr>,
}

/// What was seen of a service, beside its tasks.
#[derive(Debug, Default)]
struct Runtime {
    /// Seats whose tasks ended by themselves.
    pauses: BTreeMap<Seat, Pause>,
    progress: Progress,
    /// What is to be launched.
    launch: Vec<Seat>,
    /// How many replicas are ready.
    ready: u32,
    /// Whether it was told that all are, so that it is told once.
    complete: bool,
    /// Whether it was told that it waits for others.
    waits: bool,
    /// Once something was measured, when it is scaled by that.
    scaling: Option<Scaling>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Pause {
    /// Ends without a stable run between them: what the next pause grows by.
    ends: u32,
    until: Option<Time>,
}

/// All services of a framework.
#[derive(Debug, Default)]
pub struct Services {
    table: Table,
    instances: BTreeMap<TaskId, Instance>,
    runtimes: BTreeMap<String, Runtime>,
    /// Agents that are to be left, by this scheduler's knowledge.
    leaving: BTreeSet<AgentId>,
    /// When it is told which replicas of an earlier run are silent.
    silence_at: Option<Time>,
}

impl Services {
    /// Those of the table, whose tasks are believed to run.
    pub fn new(table: Table) -> Self {
        let instances = table.placed.keys().map(|task_id| (task_id.clone(), Instance::default())).collect();
        let runtimes = table.apps.keys().map(|name| (name.clone(), Runtime::default())).collect();
        Self { table, instances, runtimes, leaving: BTreeSet::new(), silence_at: None }
    }

    /// What must be stored before a launch, before a kill, and before an update is acknowledged.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Keeps the framework's id, and asks again for the ends that were decided.
    pub fn subscribed(&mut self, framework_id: FrameworkId, now: Time, effects: &mut Vec<Effect>) {
        self.table.framework_id = Some(framework_id);
        self.silence_at = self.instances.values().any(|instance| !instance.heard).then(|| now + SILENCE);
        for runtime in self.runtimes.values_mut() {
            // While nobody listened nothing could get any further.
            runtime.progress.begin(now);
        }
        let doomed = self.table.placed.iter().filter(|(_, placed)| placed.doomed);
        for task_id in doomed.map(|(task_id, _)| task_id.clone()).collect::<Vec<_>>() {
            // An earlier scheduler may have taken it out of its balancer, or not.
            self.end(&task_id, true, now, effects);
        }
        self.settle_all(now, effects);
    }

    /// Has all replicas of an agent moved away.
    pub fn leave(&mut self, agent: AgentId, now: Time, effects: &mut Vec<Effect>) {
        if self.leaving.insert(agent) {
            self.settle_all(now, effects);
        }
    }

    /// An agent may be used again, or still.
    pub fn stay(&mut self, agent: &AgentId, now: Time, effects: &mut Vec<Effect>) {
        if self.leaving.remove(agent) {
            self.settle_all(now, effects);
        }
    }

    /// Whether an agent is to be left: nothing is launched there.
    pub fn leaves(&self, agent: &AgentId) -> bool {
        self.leaving.contains(agent)
    }

    /// Tasks that are, or may be, alive.
    pub fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        let placed = self.table.placed.iter().map(|(id, placed)| (id.clone(), Some(placed.agent_id.clone())));
        placed.chain(self.table.strays.iter().map(|id| (id.clone(), None))).collect()
    }

    /// How many replicas are ready, of all services.
    pub fn running(&self) -> u32 {
        self.runtimes.values().map(|runtime| runtime.ready).sum()
    }

    fn is_ready(&self, task_id: &TaskId) -> bool {
        self.instances[task_id].ready_since.is_some()
    }

    /// How many tasks of each service that are to stay each agent has.
    pub fn loads(&self) -> BTreeMap<(String, AgentId), usize> {
        let mut loads = BTreeMap::new();
        for placed in self.table.placed.values().filter(|placed| !placed.doomed) {
            *loads.entry((placed.app.clone(), placed.agent_id.clone())).or_default() += 1;
        }
        loads
    }

    /// What runs, for rules about neighbours: a service labels its tasks.
    pub fn neighbours(&self) -> Running {
        let mut running = Running::new();
        for placed in self.table.placed.values().filter(|placed| !placed.doomed) {
            running.add([placed.app.as_str()], &placed.agent_id, &placed.place);
        }
        running
    }

    /// What a replica that is to be launched is made from.
    pub fn spec(&self, launch: &Launch) -> &Arc<Spec> {
        self.table.apps[&launch.app].revision(launch.revision)
    }

    /// Replicas to launch now, in order.
    pub fn ready(&self) -> Vec<Launch> {
        let launches = |(name, runtime): (&String, &Runtime)| {
            let launch = |(replica, revision)| Launch { app: name.clone(), replica, revision };
            runtime.launch.iter().copied().map(launch).collect::<Vec<_>>()
        };
        self.runtimes.iter().flat_map(launches).collect()
    }

    /// True when a launch is possible now: offers are wanted then, and only then.
    pub fn wants_offers(&self) -> bool {
        self.runtimes.values().any(|runtime| !runtime.launch.is_empty())
    }

    /// Gives a replica a task, whose id is made here. The table must be stored before the task is launched: a scheduler that
    /// dies in between then asks for a task that never was, instead of forgetting one that is.
    pub fn place(&mut self, launch: &Launch, on: Spot) -> TaskId {
        let Launch { app, replica, revision } = launch.clone();
        let Spot { agent_id, place, ports } = on;
        let hostname = place.hostname.clone();
        let waiting = &mut self.runtimes.get_mut(&app).expect("only a service that is known launches").launch;
        let seat = waiting.iter().position(|seat| *seat == (replica, revision));
        waiting.remove(seat.expect("only what is to be launched is placed"));
        self.table.launches += 1;
        let text = format!("{app}.{replica}.{}", self.table.launches);
        let task_id = TaskId::new(text).expect("names of services are checked to begin task ids");
        let placed = Placed { app, replica, revision, agent_id, hostname, place, ports, doomed: false };
        self.table.placed.insert(task_id.clone(), placed);
        self.instances.insert(task_id.clone(), Instance { heard: true, ..Instance::default() });
        task_id
    }

    /// Takes back a task that was just placed: it was not launched, and will not be.
    pub fn unplace(&mut self, task_id: &TaskId) {
        self.table.placed.remove(task_id);
        self.instances.remove(task_id);
    }

    /// Takes news of a task.
    pub fn update(&mut self, status: &TaskStatus, now: Time, effects: &mut Vec<Effect>) {
        let Some(placed) = self.table.placed.get(&status.task_id) else {
            // What runs with a replica ends with it, and the replica with what runs with it.
            if !self.helps(&status.task_id) {
                self.unwanted(status, effects);
            }
            return;
        };
        let app = placed.app.clone();
        let checked = self.table.apps[&app].revision(placed.revision).health.is_some();
        let give_up = self.table.apps[&app].described.replace_after;
        let instance = self.instances.get_mut(&status.task_id).expect("there is one for each task");
        let first = !std::mem::replace(&mut instance.heard, true);
        if !status.addresses.is_empty() {
            instance.addresses.clone_from(&status.addresses);
        }
        match status.state {
            TaskState::Staging | TaskState::Starting => instance.give_up_at = None,
            // Somebody else ends it, such as an agent that is drained: it is about to take nothing new.
            TaskState::Killing => {
                (instance.give_up_at, instance.ready_since, instance.available) = (None, None, false);
            }
            TaskState::Running => {
                // What is found running by a new scheduler may have been judged long ago, which a new master has not heard: it counts
                // until its agent says otherwise.
                let untold = instance.healthy || first && status.source == Source::Master;
                let healthy = !checked || status.findings.healthy.unwrap_or(untold);
                self.runs(&status.task_id, healthy, now, effects);
            }
            TaskState::Unreachable => {
                instance.ready_since = None;
                if instance.give_up_at.is_none() {
                    instance.give_up_at = Some(now + give_up);
                    let replace_ms = Event::millis(give_up);
                    self.tell(&status.task_id, effects, |replica, task_id| Event::Unreachable {
                        replica,
                        task_id,
                        replace_ms,
                    });
                }
            }
            TaskState::Finished | TaskState::Failed | TaskState::Killed | TaskState::Error => {
                // When its machine starts anew, nobody sees how it ends; and one that is drained ends the best.
                let own_fault = !matches!(status.reason, Some(Reason::ContainerLost | Reason::AgentDraining));
                self.ended(status, own_fault, now, effects);
            }
            // Lost with its agent, or never there: not the replica's fault, so that its pause does not grow.
            TaskState::Dropped | TaskState::Gone | TaskState::GoneByOperator | TaskState::Unknown => {
                self.ended(status, false, now, effects);
            }
        }
        self.settle(&app, now, effects);
    }

    /// Does what is due: pauses end, tasks that could not be reached for too long are given up, updates fail.
    pub fn tick(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.silence_at.take_if(|at| *at <= now).is_some() {
            self.tell_silent(effects);
        }
        let given_up = |instance: &Instance| instance.give_up_at.is_some_and(|at| at <= now);
        let lost: Vec<_> = self
            .instances
            .iter()
            .filter(|(_, it)| given_up(it))
            .map(|(task_id, _)| task_id.clone())
            .collect();
        for task_id in lost {
            self.tell(&task_id, effects, |replica, task_id| Event::Replaced { replica, task_id });
            self.table.placed.remove(&task_id);
            self.instances.remove(&task_id);
            self.table.strays.insert(task_id);
        }
        self.kill_undrained(now, effects);
        for pause in self.runtimes.values_mut().flat_map(|runtime| runtime.pauses.values_mut()) {
            pause.until = pause.until.filter(|until| *until > now);
        }
        self.settle_all(now, effects);
    }

    /// When [`Services::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        let instances = self.instances.iter().flat_map(|(task_id, instance)| {
            let placed = &self.table.placed[task_id];
            let min_healthy = self.table.apps[&placed.app].described.update.min_healthy;
            let counts = instance.ready_since.filter(|_| !instance.available && !placed.doomed);
            [instance.give_up_at, counts.map(|since| since + min_healthy), instance.drain.due()]
        });
        let apps = self.runtimes.iter().flat_map(|(name, runtime)| {
            let pauses = runtime.pauses.values().filter_map(|pause| pause.until);
            pauses.chain(self.table.apps.get(name).and_then(|app| runtime.progress.due(app)))
        });
        instances.flatten().chain(apps).chain(self.silence_at).min()
    }

    /// True for a task that runs with one of the table: also when the description does not name it any more.
    fn helps(&self, task_id: &TaskId) -> bool {
        let beside = task_id.as_str().rsplit_once('.').and_then(|(beside, _)| TaskId::new(beside).ok());
        beside.is_some_and(|beside| self.table.placed.contains_key(&beside))
    }

    fn runs(&mut self, task_id: &TaskId, healthy: bool, now: Time, effects: &mut Vec<Effect>) {
        let instance = self.instances.get_mut(task_id).expect("there is one for each task");
        instance.give_up_at = None;
        instance.running_since.get_or_insert(now);
        let lost = instance.healthy && !healthy;
        let gained = healthy && instance.ready_since.is_none();
        instance.healthy = healthy;
        if healthy {
            instance.ready_since.get_or_insert(now);
        } else {
            (instance.ready_since, instance.available) = (None, false);
        }
        let placed = &self.table.placed[task_id];
        // That one runs which is on its way out is no news.
        if gained && !placed.doomed {
            let (hostname, addresses) = (placed.hostname.clone(), placed.addresses());
            self.tell(task_id, effects, |replica, task_id| Event::Running {
                replica,
                task_id,
                hostname,
                addresses,
            });
            let placed = &self.table.placed[task_id];
            let balanced = self.table.apps[&placed.app].described.balancer.is_some();
            if balanced && self.endpoint(task_id, placed).is_none() {
                let why = format!(
                    "clients are not led to {task_id}: its agent has not said at which address of its network it is, or it has no such port"
                );
                self.tell(task_id, effects, |_, _| Event::NotServed { why });
            }
        } else if lost {
            self.tell(task_id, effects, |replica, task_id| Event::Unhealthy { replica, task_id });
        }
    }

    fn ended(&mut self, status: &TaskStatus, own_fault: bool, now: Time, effects: &mut Vec<Effect>) {
        let placed = self.table.placed.remove(&status.task_id).expect("it was just found");
        let instance = self.instances.remove(&status.task_id).expect("there is one for each task");
        let app = self.table.apps.get_mut(&placed.app).expect("tasks are of services that are known");
        let runtime = self.runtimes.get_mut(&placed.app).expect("there is one for each service");
        let (replica, task_id) = (placed.replica, status.task_id.clone());
        let told = |event| Effect::Tell(Told::of(&placed.app, event));
        if placed.doomed {
            if replica >= app.replicas() {
                effects.push(told(Event::Stopped { replica }));
            }
            return;
        }
        let Restart { min, max, stable } = app.described.restart;
        let pause = runtime.pauses.entry((replica, placed.revision)).or_default();
        if instance.running_since.is_some_and(|since| now.since(since) >= stable) {
            pause.ends = 0;
        }
        let length = (min * 2u32.pow(pause.ends.min(16))).min(max);
        pause.ends += u32::from(own_fault);
        pause.until = Some(now + length);
        let (restart_ms, why) = (Event::millis(length), cause(status));
        let what = trouble::bounded(format!("replica {replica} ended: {why} ({task_id})"));
        app.trouble.last_end = Some(End { what, at_us: now.as_micros() });
        effects.push(told(Event::Ended { replica, task_id, why, restart_ms }));
    }

    /// News of a task that is no replica: given up, or launched by a scheduler whose table was lost.
    fn unwanted(&mut self, status: &TaskStatus, effects: &mut Vec<Effect>) {
        let id = &status.task_id;
        match status.state {
            TaskState::Staging | TaskState::Starting | TaskState::Running => {
                self.table.strays.insert(id.clone());
                effects.push(Effect::Kill(id.clone()));
                let app = id.as_str().rsplitn(3, '.').last().unwrap_or_default();
                effects.push(Effect::Tell(Told::of(app, Event::Unwanted { task_id: id.clone() })));
            }
            TaskState::Killing | TaskState::Unreachable => {}
            _ => _ = self.table.strays.remove(id),
        }
    }

    fn tell_silent(&self, effects: &mut Vec<Effect>) {
        for name in self.table.apps.keys() {
            let silent = |(task_id, _): &(&TaskId, &Placed)| !self.instances[*task_id].heard;
            let replicas: Vec<_> =
                self.table.tasks_of(name).filter(silent).map(|(_, placed)| placed.replica).collect();
            if !replicas.is_empty() {
                effects.push(Effect::Tell(Told::of(name, Event::Silent { replicas })));
            }
        }
    }

    /// Tells something of a task, unless it is on its way out anyway.
    fn tell(&self, task_id: &TaskId, effects: &mut Vec<Effect>, event: impl FnOnce(u32, TaskId) -> Event) {
        let placed = &self.table.placed[task_id];
        if !placed.doomed {
            effects.push(Effect::Tell(Told::of(&placed.app, event(placed.replica, task_id.clone()))));
        }
    }

    /// Brings all services on.
    pub fn settle_all(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for name in self.table.apps.keys().cloned().collect::<Vec<_>>() {
            self.settle(&name, now, effects);
        }
    }

    /// Brings a service on: makes its plan, dooms what is to go, and moves its update along, until there is nothing left to decide.
    fn settle(&mut self, name: &str, now: Time, effects: &mut Vec<Effect>) {
        while let Some(app) = self.table.apps.get(name) {
            if app.removed && self.table.tasks_of(name).next().is_none() {
                self.table.apps.remove(name);
                self.runtimes.remove(name);
                self.table.scaling.remove(name);
                effects.push(Effect::Tell(Told::of(name, Event::Removed)));
                return;
            }
            if self.waits(name, effects) {
                return;
            }
            let (wish, seen) = (self.wish(name), self.seen(name, now));
            let plan = plan::plan(&wish, &seen);
            for task_id in &plan.kill {
                self.doom(task_id, now, effects);
            }
            let moved = self.advance(name, &plan, now, effects);
            let done = !moved && plan.kill.is_empty();
            self.count(name, plan, now, effects);
            if done {
                return;
            }
        }
    }

    /// Whether a service is not to be started yet: what it comes after is not complete.
    fn waits(&mut self, name: &str, effects: &mut Vec<Effect>) -> bool {
        let app = &self.table.apps[name];
        if app.started || app.removed {
            return false;
        }
        let complete = |other: &String| self.runtimes.get(other).is_some_and(|runtime| runtime.complete);
        let after = app.described.after.iter().find(|other| !complete(other)).cloned();
        let runtime = self.runtimes.get_mut(name).expect("there is one for each service");
        match after {
            None => self.table.apps.get_mut(name).expect("it was just found").started = true,
            Some(after) if !std::mem::replace(&mut runtime.waits, true) => {
                effects.push(Effect::Tell(Told::of(name, Event::Waits { after })));
                return true;
            }
            Some(_) => return true,
        }
        false
    }

    fn wish(&self, name: &str) -> Wish {
        let (app, runtime) = (&self.table.apps[name], &self.runtimes[name]);
        let (replicas, update) = (app.replicas(), &app.described.update);
        let paused = runtime.pauses.iter().filter(|(_, pause)| pause.until.is_some());
        Wish {
            replicas,
            base: app.base(),
            canaries: (app.canaries(), app.target),
            surge: update.surge(replicas),
            unavailable: update.unavailable(replicas),
            paused: paused.map(|(seat, _)| *seat).collect(),
        }
    }

    fn seen(&mut self, name: &str, now: Time) -> Vec<Seen> {
        let min_healthy = self.table.apps[name].described.update.min_healthy;
        let instances = &mut self.instances;
        let leaving = &self.leaving;
        let seen = self.table.tasks_of(name).map(|(task_id, placed)| {
            let instance = instances.get_mut(task_id).expect("there is one for each task");
            // Once it counts it does so until it is not ready any more.
            let long_enough = |since: Time| instance.available || now.since(since) >= min_healthy;
            instance.available = instance.ready_since.is_some_and(long_enough);
            Seen {
                task_id: task_id.clone(),
                seat: (placed.replica, placed.revision),
                doomed: placed.doomed,
                leaving: leaving.contains(&placed.agent_id),
                heard: instance.heard,
                ready: instance.ready_since.is_some(),
                available: instance.available,
            }
        });
        seen.collect()
    }

    /// Decides the end of a task.
    fn doom(&mut self, task_id: &TaskId, now: Time, effects: &mut Vec<Effect>) {
        let placed = self.table.placed.get_mut(task_id).expect("plans are made of tasks that are there");
        placed.doomed = true;
        let replica = placed.replica;
        let task = task_id.clone();
        let event = if replica >= self.table.apps[&placed.app].replicas() {
            Event::Stopping { replica, task_id: task }
        } else if self.leaving.contains(&placed.agent_id) {
            Event::Moving { replica, task_id: task }
        } else {
            Event::Retired { replica, task_id: task, revision: placed.revision }
        };
        let told = Told::of(&placed.app, event);
        self.end(task_id, false, now, effects);
        effects.push(Effect::Tell(told));
    }

    /// Keeps what a plan says of a service, and tells when all of it runs.
    fn count(&mut self, name: &str, plan: Plan, now: Time, effects: &mut Vec<Effect>) {
        let replicas = self.table.apps[name].replicas();
        let removed = self.table.apps[name].removed;
        let runtime = self.runtimes.get_mut(name).expect("there is one for each service");
        (runtime.launch, runtime.ready) = (plan.launch, plan.ready);
        if runtime.launch.is_empty() {
            self.table.apps.get_mut(name).expect("it is settled, so it is there").trouble.impossible = None;
        }
        let was = std::mem::replace(&mut runtime.complete, plan.ready == replicas && !removed);
        if was || !runtime.complete {
            return;
        }
        effects.push(Effect::Tell(Told::of(name, Event::Complete { replicas })));
        // Others may have waited for that.
        let waiting = self.table.apps.iter().filter(|(_, app)| !app.started).map(|(other, _)| other.clone());
        for other in waiting.collect::<Vec<_>>() {
            self.settle(&other, now, effects);
        }
    }
}

/// What a status says of an end, in few words.
fn cause(status: &TaskStatus) -> String {
    if status.reason == Some(Reason::ContainerLimitationMemory) {
        return "out of memory".to_owned();
    }
    let exit = status.container.as_ref().and_then(|container| container.exit);
    match (exit, status.reason) {
        (Some(exit), None | Some(Reason::CommandExited)) => exit.to_string(),
        _ if !status.message.is_empty() => status.message.clone(),
        (_, Some(reason)) => format!("{}, {reason}", status.state),
        (_, None) => status.state.to_string(),
    }
}
