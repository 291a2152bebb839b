//! A service as a pure state machine: which replica has which task, and what is to be done next.
//!
//! One rule carries the whole: **a replica is launched only while it has no task**, and it loses its task only by a state that
//! is final, or by a decision that is written down (the task becomes a stray, to be killed when it is heard of). So there are
//! never more replicas than wanted, whatever is lost, late or repeated; `tests.rs` plays that against random clusters.
//!
//! ```text
//!           placed                      ended
//!   Ready ─────────► Placed ──────────────────────► Paused ──► Ready
//!     ▲                │ unreachable for too long
//!     └────────────────┘ (its task becomes a stray)
//! ```

mod table;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apportion_sdk::{AgentId, FrameworkId, Reason, Source, TaskId, TaskState, TaskStatus, Time};

pub use self::table::{Placed, Scaled, Table, VERSION};
use crate::{
    event::Event,
    spec::{REPLICAS_MAX, Restart},
};

/// After so long it is told which replicas of an earlier run were not heard of.
pub const SILENCE: Duration = Duration::from_secs(10);

/// What holds for every replica.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// When one that ended starts again.
    pub restart: Restart,
    /// How long one may be unreachable before it is replaced.
    pub replace_after: Duration,
    /// Whether one counts as running only while its health check says that it does its work.
    pub checked: bool,
}

/// What the scheduler must do, or may tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask for the end of this task.
    Kill(TaskId),
    /// Tell what happened.
    Tell(Event),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Ready,
    Paused { until: Time },
    Placed(Instance),
}

/// What is known of the task of a replica, beside the table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Instance {
    /// Whether anything was heard of it, by this scheduler.
    heard: bool,
    /// Whether its end was asked for, because it was one too many; that it is wanted again does not take this back.
    killed: bool,
    /// Since when it runs, as far as this scheduler saw it.
    running_since: Option<Time>,
    /// Whether its health check says that it does its work; always, when it has none.
    healthy: bool,
    /// When it is replaced, while it cannot be reached.
    replace_at: Option<Time>,
}

#[derive(Debug, Clone)]
struct Replica {
    phase: Phase,
    /// Ends without a stable run between them: what the next pause grows by.
    ends: u32,
}

/// All replicas of a service.
#[derive(Debug)]
pub struct ServiceState {
    policy: Policy,
    /// How many the description wants.
    described: u32,
    /// How many are wanted: those with lower numbers.
    wanted: u32,
    replicas: BTreeMap<u32, Replica>,
    table: Table,
    /// The replica of each task in the table.
    tasks: BTreeMap<TaskId, u32>,
    /// Agents that are to be left, by this scheduler's knowledge.
    leaving: BTreeSet<AgentId>,
    /// Whether it was told that all run, so that it is told once.
    complete: bool,
    /// When it is told which replicas of an earlier run are silent.
    silence_at: Option<Time>,
}

impl ServiceState {
    /// A service whose description wants so many replicas, of which those in the table are believed to run. When another number
    /// was [ordered](ServiceState::scale) under this description, that one is wanted.
    pub fn new(described: u32, policy: Policy, mut table: Table) -> Self {
        table.scaled = table.scaled.filter(|scaled| scaled.described == described);
        let wanted = table.scaled.map_or(described, |scaled| scaled.replicas);
        let placed = table.placed.keys().map(|number| (*number, Phase::Placed(Instance::default())));
        let missing = (0..wanted)
            .filter(|number| !table.placed.contains_key(number))
            .map(|number| (number, Phase::Ready));
        let replicas =
            placed.chain(missing).map(|(number, phase)| (number, Replica { phase, ends: 0 })).collect();
        let tasks = table.placed.iter().map(|(number, placed)| (placed.task_id.clone(), *number)).collect();
        Self {
            policy,
            described,
            wanted,
            replicas,
            table,
            tasks,
            leaving: BTreeSet::new(),
            complete: false,
            silence_at: None,
        }
    }

    /// What must be stored before a launch, and before an update is acknowledged.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Keeps the framework's id, and asks for the end of replicas above the wanted number: those of an earlier run with more
    /// of them.
    pub fn subscribed(&mut self, framework_id: FrameworkId, now: Time, effects: &mut Vec<Effect>) {
        self.table.framework_id = Some(framework_id);
        let expected = self.silent().next().is_some();
        self.silence_at = expected.then(|| now + SILENCE);
        self.stop_surplus(effects);
    }

    /// Wants another number of replicas, which may be none: those with the highest numbers are killed, or missing ones launched.
    pub fn scale(&mut self, replicas: u32, effects: &mut Vec<Effect>) {
        assert!(replicas <= REPLICAS_MAX, "the order was checked");
        let ordered = Scaled { described: self.described, replicas };
        self.table.scaled = (replicas != self.described).then_some(ordered);
        self.wanted = replicas;
        effects.push(Effect::Tell(Event::Scaled { replicas }));
        for number in 0..replicas {
            self.replicas.entry(number).or_insert(Replica { phase: Phase::Ready, ends: 0 });
        }
        self.stop_surplus(effects);
        self.complete = false;
        self.tell_complete(effects);
    }

    /// Asks for the end of replicas above the wanted number, once for each, and forgets those that have no task.
    fn stop_surplus(&mut self, effects: &mut Vec<Effect>) {
        let surplus: Vec<u32> = self.replicas.range(self.wanted..).map(|(number, _)| *number).collect();
        for replica in surplus {
            let Some(placed) = self.table.placed.get(&replica) else {
                self.vacant(replica, Phase::Ready, effects);
                continue;
            };
            let task_id = placed.task_id.clone();
            if !std::mem::replace(&mut self.instance(replica).killed, true) {
                effects.push(Effect::Kill(task_id.clone()));
                effects.push(Effect::Tell(Event::Stopping { replica, task_id }));
            }
        }
    }

    /// Moves all replicas away from an agent: one is killed, to be launched elsewhere, whenever all run that are wanted. So a service that is
    /// whole misses one at a time.
    pub fn leave(&mut self, agent: AgentId, effects: &mut Vec<Effect>) {
        self.leaving.insert(agent);
        self.move_one(effects);
    }

    fn move_one(&mut self, effects: &mut Vec<Effect>) {
        let placed = &self.table.placed;
        self.leaving.retain(|agent| placed.values().any(|placed| placed.agent_id == *agent));
        if self.leaving.is_empty() || self.running() < self.wanted {
            return;
        }
        let mut there =
            placed.range(..self.wanted).filter(|(_, placed)| self.leaving.contains(&placed.agent_id));
        let Some((&replica, placed)) = there.next() else { return };
        let task_id = placed.task_id.clone();
        self.instance(replica).killed = true;
        self.complete = false;
        effects.push(Effect::Kill(task_id.clone()));
        effects.push(Effect::Tell(Event::Moving { replica, task_id }));
    }

    /// Replicas of an earlier run that were not heard of.
    fn silent(&self) -> impl Iterator<Item = u32> + '_ {
        let silent =
            |replica: &Replica| matches!(&replica.phase, Phase::Placed(Instance { heard: false, .. }));
        self.replicas.iter().filter(move |(_, replica)| silent(replica)).map(|(number, _)| *number)
    }

    /// Tasks that are, or may be, alive.
    pub fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        let placed =
            self.table.placed.values().map(|placed| (placed.task_id.clone(), Some(placed.agent_id.clone())));
        placed.chain(self.table.strays.iter().map(|id| (id.clone(), None))).collect()
    }

    /// How many replicas run.
    pub fn running(&self) -> u32 {
        let running = self.replicas.range(..self.wanted).filter(|(_, replica)| replica.runs());
        u32::try_from(running.count()).expect("there are at most REPLICAS_MAX")
    }

    /// Replicas that have a task on this agent.
    pub fn load(&self, agent: &AgentId) -> usize {
        self.table.placed.values().filter(|placed| placed.agent_id == *agent).count()
    }

    /// Replicas to launch now, in order.
    pub fn ready(&self) -> Vec<u32> {
        self.ready_numbers().collect()
    }

    /// True when a launch is possible now: offers are wanted then, and only then.
    pub fn wants_offers(&self) -> bool {
        self.ready_numbers().next().is_some()
    }

    fn ready_numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.replicas.iter().filter(|(_, replica)| replica.phase == Phase::Ready).map(|(number, _)| *number)
    }

    /// When [`ServiceState::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        self.replicas.values().filter_map(|replica| replica.due()).chain(self.silence_at).min()
    }

    /// Gives a replica a task, whose id is made here. The table must be stored before the task is launched: a scheduler that
    /// dies in between then asks for a task that never was, instead of forgetting one that is.
    pub fn place(&mut self, number: u32, agent_id: AgentId, hostname: String, ports: Vec<u16>) -> TaskId {
        let replica = self.replicas.get_mut(&number).expect("only a replica that exists is placed");
        assert!(replica.phase == Phase::Ready, "only a replica without a task is given one");
        replica.phase = Phase::Placed(Instance { heard: true, ..Instance::default() });
        self.table.launches += 1;
        let text = format!("{}.{number}.{}", self.table.service, self.table.launches);
        let task_id = TaskId::new(text).expect("names of services are checked to begin task ids");
        self.tasks.insert(task_id.clone(), number);
        self.table.placed.insert(number, Placed { task_id: task_id.clone(), agent_id, hostname, ports });
        task_id
    }

    /// Takes back the task that a replica was just given: it was not launched, and will not be.
    pub fn unplace(&mut self, number: u32) {
        self.take(number);
        self.replicas.get_mut(&number).expect("it has just had a task").phase = Phase::Ready;
    }

    /// Takes news of a task.
    pub fn update(&mut self, status: &TaskStatus, now: Time, effects: &mut Vec<Effect>) {
        let Some(&number) = self.tasks.get(&status.task_id) else {
            // What runs with a replica ends with it, and the replica with what runs with it.
            if !self.helps(&status.task_id) {
                self.unwanted(status, effects);
            }
            return;
        };
        let first = !std::mem::replace(&mut self.instance(number).heard, true);
        match status.state {
            TaskState::Staging | TaskState::Starting | TaskState::Killing => {
                self.instance(number).replace_at = None
            }
            TaskState::Running => {
                // What is found running by a new scheduler may have been judged long ago, which a new master has not heard: it counts
                // until its agent says otherwise.
                let untold = self.instance(number).healthy || first && status.source == Source::Master;
                let healthy = !self.policy.checked || status.findings.healthy.unwrap_or(untold);
                self.runs(number, healthy, now, effects);
            }
            TaskState::Unreachable => self.unreachable(number, now, effects),
            TaskState::Finished | TaskState::Failed | TaskState::Killed | TaskState::Error => {
                // When its machine starts anew, nobody sees how it ends; and one that is drained ends the best.
                let own_fault = !matches!(status.reason, Some(Reason::ContainerLost | Reason::AgentDraining));
                self.ended(number, status, own_fault, now, effects);
            }
            // Lost with its agent, or never there: not the replica's fault, so that its pause does not grow.
            TaskState::Dropped | TaskState::Gone | TaskState::GoneByOperator | TaskState::Unknown => {
                self.ended(number, status, false, now, effects);
            }
        }
    }

    /// Does what is due: pauses end, replicas that were unreachable for too long are replaced.
    pub fn tick(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.silence_at.take_if(|at| *at <= now).is_some() {
            let replicas: Vec<_> = self.silent().collect();
            if !replicas.is_empty() {
                effects.push(Effect::Tell(Event::Silent { replicas }));
            }
        }
        let due: Vec<_> =
            self.replicas.iter().filter(|(_, replica)| replica.due().is_some_and(|at| at <= now)).collect();
        let due: BTreeSet<u32> = due.into_iter().map(|(number, _)| *number).collect();
        for number in due {
            if self.table.placed.contains_key(&number) {
                let placed = self.take(number);
                self.table.strays.insert(placed.task_id.clone());
                effects.push(Effect::Tell(Event::Replaced { replica: number, task_id: placed.task_id }));
            }
            self.vacant(number, Phase::Ready, effects);
        }
    }

    /// True for a task that runs with one of the table: also when the description does not name it any more.
    fn helps(&self, task_id: &TaskId) -> bool {
        let beside = task_id.as_str().rsplit_once('.').and_then(|(beside, _)| TaskId::new(beside).ok());
        beside.is_some_and(|beside| self.tasks.contains_key(&beside))
    }

    fn instance(&mut self, number: u32) -> &mut Instance {
        match &mut self.replicas.get_mut(&number).expect("tasks are of replicas that exist").phase {
            Phase::Placed(instance) => instance,
            Phase::Ready | Phase::Paused { .. } => unreachable!("a replica in the table has a task"),
        }
    }

    fn runs(&mut self, number: u32, healthy: bool, now: Time, effects: &mut Vec<Effect>) {
        let instance = self.instance(number);
        let returned = instance.replace_at.take().is_some();
        let new = instance.running_since.is_none() || !instance.healthy;
        let lost = instance.healthy && !healthy;
        instance.running_since.get_or_insert(now);
        instance.healthy = healthy;
        if lost {
            self.complete = false;
            let task_id = self.table.placed[&number].task_id.clone();
            effects.push(Effect::Tell(Event::Unhealthy { replica: number, task_id }));
        }
        if !healthy {
            return;
        }
        let instance = self.instance(number);
        // One that is being killed because it is, or was, one too many is no news.
        let killed = instance.killed;
        if (new || returned) && number < self.wanted && !killed {
            let placed = &self.table.placed[&number];
            effects.push(Effect::Tell(Event::Running {
                replica: number,
                task_id: placed.task_id.clone(),
                hostname: placed.hostname.clone(),
                addresses: placed.addresses(),
            }));
        }
        self.tell_complete(effects);
    }

    fn tell_complete(&mut self, effects: &mut Vec<Effect>) {
        if !self.complete && self.running() == self.wanted {
            self.complete = true;
            effects.push(Effect::Tell(Event::Complete { replicas: self.wanted }));
        }
        self.move_one(effects);
    }

    fn unreachable(&mut self, number: u32, now: Time, effects: &mut Vec<Effect>) {
        let replace_after = self.policy.replace_after;
        let instance = self.instance(number);
        if instance.replace_at.is_none() {
            instance.replace_at = Some(now + replace_after);
            self.complete = false;
            let task_id = self.table.placed[&number].task_id.clone();
            let replace_ms = Event::millis(replace_after);
            effects.push(Effect::Tell(Event::Unreachable { replica: number, task_id, replace_ms }));
        }
    }

    fn ended(
        &mut self,
        number: u32,
        status: &TaskStatus,
        own_fault: bool,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        let Restart { min, max, stable } = self.policy.restart;
        let Instance { running_since: since, killed, .. } = *self.instance(number);
        self.complete = false;
        let task_id = self.take(number).task_id;
        let replica = self.replicas.get_mut(&number).expect("it has just had a task");
        if since.is_some_and(|since| now.since(since) >= stable) {
            replica.ends = 0;
        }
        let pause = (min * 2u32.pow(replica.ends.min(16))).min(max);
        replica.ends += u32::from(own_fault && !killed);
        if number < self.wanted {
            let restart_ms = Event::millis(pause);
            effects.push(Effect::Tell(Event::Ended {
                replica: number,
                task_id,
                why: cause(status),
                restart_ms,
            }));
        }
        self.vacant(number, Phase::Paused { until: now + pause }, effects);
    }

    /// Takes its task from a replica.
    fn take(&mut self, number: u32) -> Placed {
        let placed = self.table.placed.remove(&number).expect("only a replica with a task loses it");
        self.tasks.remove(&placed.task_id);
        placed
    }

    /// What becomes of a replica without a task: it waits for a new one, or is forgotten when it was one too many.
    fn vacant(&mut self, number: u32, next: Phase, effects: &mut Vec<Effect>) {
        if number < self.wanted {
            self.replicas.get_mut(&number).expect("it has just had a task").phase = next;
        } else {
            self.replicas.remove(&number);
            effects.push(Effect::Tell(Event::Stopped { replica: number }));
        }
    }

    /// News of a task that is no replica: replaced, or launched by a scheduler whose table was lost.
    fn unwanted(&mut self, status: &TaskStatus, effects: &mut Vec<Effect>) {
        let id = &status.task_id;
        match status.state {
            TaskState::Staging | TaskState::Starting | TaskState::Running => {
                self.table.strays.insert(id.clone());
                effects.push(Effect::Kill(id.clone()));
                effects.push(Effect::Tell(Event::Unwanted { task_id: id.clone() }));
            }
            TaskState::Killing | TaskState::Unreachable => {}
            _ => _ = self.table.strays.remove(id),
        }
    }
}

impl Replica {
    fn runs(&self) -> bool {
        matches!(
            &self.phase,
            Phase::Placed(Instance {
                running_since: Some(_),
                healthy: true,
                replace_at: None,
                killed: false,
                ..
            })
        )
    }

    fn due(&self) -> Option<Time> {
        match &self.phase {
            Phase::Ready => None,
            Phase::Paused { until } => Some(*until),
            Phase::Placed(instance) => instance.replace_at,
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
