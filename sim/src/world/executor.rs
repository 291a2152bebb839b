//! The executors on an agent's machine: their streams, what they are told, what they say.
//!
//! What an executor runs stands among the machine's containers by the name of its run: it begins and ends as a container does, but its
//! executor tells of it, and it ends with its executor's container.

use std::{collections::VecDeque, time::Duration};

use apportion_agent_core::{ContainerId, Event};
use apportion_types::{
    RunId, TaskInfo, TaskState, UpdateId,
    container::Exit,
    protocol::executor::{ExecutorCall, ExecutorEvent, ExecutorUpdate},
};

use super::{What, World};
use crate::{
    check::Happening,
    machine::{Answers, Container, KILL, OnTerm, Stage, TERM},
    random,
};

/// From the start of an executor, of its agent, or the end of a stream, to the next stream.
const CONNECTING_MOST: Duration = Duration::from_secs(2);

/// How long an executor takes to end a task without a grace.
const ENDING_TAKES: Duration = Duration::from_millis(1);

impl World {
    /// An executor without a stream opens one soon; one that answers nobody never does.
    pub(super) fn executor_connects_soon(&mut self, agent: usize, id: &ContainerId) {
        let Some(container) = self.agents[agent].machine.containers.get(id) else { return };
        if container.executor.is_some() && container.behaviour.answers != Answers::Never {
            let after = random::between(&mut self.chance.tasks, Duration::ZERO, CONNECTING_MOST);
            let life = self.agents[agent].life;
            self.queue.push(self.now + after, What::ExecutorConnects { agent, life, container: id.clone() });
        }
    }

    /// Those that an earlier process of the agent has left look for the next.
    pub(super) fn executors_connect(&mut self, agent: usize) {
        let containers = &self.agents[agent].machine.containers;
        let running = containers.iter().filter(|(_, container)| container.is_running());
        let ids: Vec<ContainerId> = running.map(|(id, _)| id.clone()).collect();
        ids.iter().for_each(|id| self.executor_connects_soon(agent, id));
    }

    pub(super) fn executor_connects(&mut self, agent: usize, life: u64, id: &ContainerId) {
        if self.agents[agent].life != life {
            return;
        }
        let containers = &mut self.agents[agent].machine.containers;
        let inside = containers.iter().filter(|(_, other)| other.inside.as_ref() == Some(id));
        let live = inside.filter(|(_, other)| !matches!(other.stage, Stage::Ended(_)));
        let mut runs: Vec<RunId> = live.map(|(inner, _)| run_id(inner)).collect();
        let Some(container) = containers.get_mut(id).filter(|container| container.is_running()) else {
            return;
        };
        let Some(executor) = container.executor.as_mut().filter(|executor| !executor.subscribed) else {
            return;
        };
        executor.subscribed = true;
        let unacknowledged = executor.unacknowledged.clone();
        let ended = unacknowledged.iter().filter(|update| update.state.is_terminal());
        runs.extend(ended.map(|update| update.run_id.clone()));
        self.progress();
        let call = ExecutorCall::Subscribe { runs, unacknowledged };
        self.agent_handles(agent, Event::Executor { container_id: id.clone(), call });
    }

    /// The agent tells an executor something; or the stream breaks, and the executor is to open another.
    pub(super) fn executor_hears(
        &mut self,
        agent: usize,
        id: ContainerId,
        event: ExecutorEvent,
        events: &mut VecDeque<Event>,
    ) {
        let breaks = random::hits(&mut self.chance.tasks, self.odds.signal_fails_ppm);
        let Some(executor) = self.executor(agent, &id) else { return };
        if !executor.subscribed {
            return;
        }
        if breaks {
            executor.subscribed = false;
            events.push_back(Event::ExecutorDisconnected {
                container_id: id.clone(),
                reason: "it broke".to_owned(),
            });
            return self.executor_connects_soon(agent, &id);
        }
        match event {
            ExecutorEvent::Subscribed { .. } => {}
            ExecutorEvent::Launch { run_id, info } => self.executor_launches(agent, id, &run_id, &info),
            ExecutorEvent::Kill { run_id, grace, .. } => self.executor_kills(agent, &id, &run_id, grace),
            ExecutorEvent::Acknowledge { update_id } => {
                let at = executor.unacknowledged.iter().position(|update| update.update_id == update_id);
                let update = at.map(|at| executor.unacknowledged.remove(at));
                if let Some(update) = update.filter(|update| update.state.is_terminal()) {
                    self.agents[agent].machine.containers.remove(&container_id(&update.run_id));
                }
            }
            ExecutorEvent::Refuse { message, .. } => {
                self.violate("executors", format!("one is refused: {message}"))
            }
        }
    }

    fn executor(&mut self, agent: usize, id: &ContainerId) -> Option<&mut crate::machine::Executor> {
        self.agents[agent].machine.containers.get_mut(id)?.executor.as_mut()
    }

    fn executor_launches(&mut self, agent: usize, inside: ContainerId, run_id: &RunId, info: &TaskInfo) {
        let id = container_id(run_id);
        if self.agents[agent].machine.containers.contains_key(&id) {
            return; // said again
        }
        let framework_id = self.agents[agent].machine.containers[&inside].task.0.clone();
        let task = (framework_id, info.task_id.clone());
        let mut behaviour = (self.workload)(info, &mut self.chance.tasks);
        if random::hits(&mut self.chance.tasks, self.odds.launch_fails_ppm) {
            behaviour.fails_to_start = Some(apportion_agent_core::LaunchFailureKind::Command);
        }
        let starts_after = behaviour.starts_after;
        let mut container = Container::new(task.clone(), info, behaviour, 0);
        (container.stage, container.inside) = (Stage::Starting, Some(inside));
        self.agents[agent].machine.containers.insert(id.clone(), container);
        self.observe(&Happening::Launching { agent, container: &id, task: &task });
        self.next_step(agent, &id, starts_after);
    }

    /// An executor that does not heed what it is asked does not end its tasks either.
    fn executor_kills(&mut self, agent: usize, executor: &ContainerId, run_id: &RunId, grace: Duration) {
        let id = container_id(run_id);
        let containers = &mut self.agents[agent].machine.containers;
        if containers[executor].behaviour.on_term == OnTerm::Hangs {
            return;
        }
        let Some(inner) = containers.get_mut(&id) else { return };
        let takes = match inner.behaviour.on_term {
            _ if grace.is_zero() => ENDING_TAKES,
            OnTerm::Ends(after) => after,
            OnTerm::Hangs => return,
        };
        match inner.stage {
            Stage::Made | Stage::Starting => inner.cancelled = true,
            Stage::Running { .. } => {
                inner.signalled(Exit::Signal(if grace.is_zero() { KILL } else { TERM }));
                self.next_step(agent, &id, takes);
            }
            Stage::Ended(_) => {}
        }
    }

    /// What an executor was told to run begins, or does not.
    pub(super) fn executed_starts(&mut self, agent: usize, id: &ContainerId) {
        let Some(inner) = self.agents[agent].machine.containers.get_mut(id) else { return };
        if inner.cancelled || inner.behaviour.fails_to_start.is_some() {
            let state = if inner.cancelled { TaskState::Killed } else { TaskState::Failed };
            let executor = inner.inside.clone();
            self.agents[agent].machine.containers.remove(id);
            return self.executor_says(agent, executor, id, state);
        }
        inner.stage = Stage::Running { since: self.now };
        let (task, runs_for, executor) = (inner.task.clone(), inner.behaviour.runs_for, inner.inside.clone());
        self.observe(&Happening::Running { agent, container: id, task: &task });
        if let Some(runs_for) = runs_for {
            self.next_step(agent, id, runs_for);
        }
        self.executor_says(agent, executor, id, TaskState::Running);
    }

    /// How its executor tells that something of it has ended so.
    pub(super) fn executed_ended(&mut self, agent: usize, id: &ContainerId, exit: Exit, by_itself: bool) {
        let inner = &self.agents[agent].machine.containers[id];
        let executor = inner.inside.clone();
        let state = match exit {
            Exit::Code(0) => TaskState::Finished,
            Exit::Signal(_) if !by_itself => TaskState::Killed,
            _ => TaskState::Failed,
        };
        self.executor_says(agent, executor, id, state);
    }

    fn executor_says(
        &mut self,
        agent: usize,
        container: Option<ContainerId>,
        inner: &ContainerId,
        state: TaskState,
    ) {
        let Some(container_id) = container else { return };
        let Some(executor) = self.executor(agent, &container_id) else { return };
        executor.said += 1;
        let update_id = UpdateId::new(0, executor.said);
        let update =
            ExecutorUpdate { run_id: run_id(inner), update_id, state, message: String::new(), healthy: None };
        executor.unacknowledged.push(update.clone());
        if executor.subscribed {
            let call = ExecutorCall::Update(update);
            self.agent_handles(agent, Event::Executor { container_id, call });
        }
    }

    /// What an executor runs ends with its container.
    pub(super) fn ends_inside(&mut self, agent: usize, executor: &ContainerId) {
        let containers = &self.agents[agent].machine.containers;
        let inside = containers.iter().filter(|(_, inner)| inner.inside.as_ref() == Some(executor));
        let ids: Vec<ContainerId> = inside.map(|(id, _)| id.clone()).collect();
        for id in ids {
            let Some(inner) = self.agents[agent].machine.containers.get_mut(&id) else { continue };
            if inner.is_running() {
                let termination = inner.end(self.now, Exit::Signal(KILL), None);
                let task = inner.task.clone();
                self.observe(&Happening::Ended {
                    agent,
                    container: &id,
                    task: &task,
                    termination: &termination,
                });
            }
            self.agents[agent].machine.containers.remove(&id);
        }
    }
}

fn run_id(container_id: &ContainerId) -> RunId {
    RunId::new(&container_id.0).expect("what names a container names a run")
}

fn container_id(run_id: &RunId) -> ContainerId {
    ContainerId(run_id.to_string())
}
