//! No task runs that nobody knows.

use std::collections::{BTreeMap, BTreeSet};

use apportion_agent_core::{ContainerId, TaskKey};
use apportion_master_core::view::FrameworkState;
use apportion_types::{
    AgentId, Reason, Source, TaskState, TaskStatus,
    protocol::{
        agent::{MasterMessage, RefuseCode},
        scheduler::Event,
    },
};

use super::{Check, Happening, Verdict};
use crate::{machine::Stage, world::World};

/// A container is launched once for each time that the master has the task run on its agent, and after the task is on the agent's
/// disk with that container. No scheduler is told that a task has ended while it runs, but for what an operator declares gone, or takes down with
/// its machine, which its agent was told.
///
/// At rest every container that has not ended is its agent's for that task, is the master's on that agent, and is of a framework that
/// is not removed.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    agents: BTreeMap<AgentId, usize>,
    /// Agents that were told that their machines are down.
    taken_down: BTreeSet<usize>,
    /// How often the master has had a task run on an agent, less how often it was launched there.
    runs: BTreeMap<(AgentId, TaskKey), usize>,
    /// On an agent's disk, and not launched.
    written: BTreeSet<(usize, ContainerId)>,
}

impl Check for Orphans {
    fn name(&self) -> &'static str {
        "orphans"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match *happening {
            Happening::MasterTellsAgent {
                agent,
                message: MasterMessage::Refuse { code: RefuseCode::Maintenance, .. },
                ..
            } => {
                self.taken_down.insert(agent);
            }
            Happening::AgentHears { agent, message: MasterMessage::Registered { agent_id, .. } } => {
                self.agents.insert(agent_id.clone(), agent);
            }
            Happening::AgentHears { agent, message: MasterMessage::RunTasks { framework_id, tasks, .. } } => {
                for task in tasks {
                    let key = (framework_id.clone(), task.task_id.clone());
                    if let Some(id) = world.agent_id(agent) {
                        *self.runs.entry((id, key)).or_default() += 1;
                    }
                }
            }
            Happening::Durable { agent, record } => {
                let named = record.taken_on().iter().map(|task| (agent, task.container_id.clone()));
                self.written.extend(named);
            }
            Happening::Launching { agent, container, task } => {
                if !self.written.remove(&(agent, container.clone())) {
                    return Err(format!(
                        "container {container} of task {} is launched on agent {agent} before it is on disk, or again",
                        task.1
                    ));
                }
                let id = world.agent_id(agent);
                let run = id.map(|id| (id, task.clone()));
                let left = run.as_ref().and_then(|run| self.runs.get_mut(run));
                let Some(left) = left.filter(|left| **left > 0) else {
                    return Err(format!(
                        "task {} of {} is launched on agent {agent} more often than the master had it run",
                        task.1, task.0
                    ));
                };
                *left -= 1;
                if *left == 0 {
                    run.map(|run| self.runs.remove(&run));
                }
            }
            Happening::SchedulerHears { framework, event: Event::Update(status) }
                if status.state.is_terminal() =>
            {
                return self.is_over(world, framework, status);
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        for (number, agent) in world.agents.iter().enumerate() {
            let Some(core) = &agent.core else { continue };
            let view = core.view();
            for (id, container) in &agent.machine.containers {
                if matches!(container.stage, Stage::Ended(_)) {
                    continue;
                }
                let key = &container.task;
                let what = format!("container {id} of task {} of {} runs on agent {number}", key.1, key.0);
                if view.tasks.get(key).is_none_or(|task| task.container_id != *id) {
                    return Err(format!("{what}, which does not know it"));
                }
                let known = world.view().tasks.get(key);
                if known.is_none_or(|task| Some(&task.agent_id) != view.agent_id.as_ref()) {
                    return Err(format!("{what}, and the master does not know it there"));
                }
                let framework = world.view().frameworks.get(&key.0);
                if framework.is_none_or(|framework| framework.state == FrameworkState::Removed) {
                    return Err(format!("{what}, and its framework is removed"));
                }
            }
        }
        Ok(())
    }
}

impl Orphans {
    /// What is told to have ended does not run.
    fn is_over(&self, world: &World, framework: usize, status: &TaskStatus) -> Verdict {
        // These are about a description that was not launched, whatever else has that name.
        if matches!(status.reason, Some(Reason::InvalidOffers | Reason::TaskInvalid)) {
            return Ok(());
        }
        // An operator has said so, of an agent that may still have it: it is told to end it.
        if status.state == TaskState::GoneByOperator && status.source == Source::Master {
            return Ok(());
        }
        let number = status.agent_id.as_ref().and_then(|id| self.agents.get(id));
        let (Some(id), Some(number)) = (world.framework_id(framework), number) else { return Ok(()) };
        // Who was away when that was told hears of it as an answer.
        let removed = matches!(status.reason, Some(Reason::AgentRemoved | Reason::Reconciliation));
        if removed && self.taken_down.contains(number) {
            return Ok(());
        }
        let runs = world.agents[*number].machine.containers.values().any(|container| {
            container.is_running() && container.task.0 == *id && container.task.1 == status.task_id
        });
        if runs {
            return Err(format!(
                "framework {framework} is told {} of task {}, which runs on agent {number}",
                status.state, status.task_id
            ));
        }
        Ok(())
    }
}
