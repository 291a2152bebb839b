//! Every accepted task becomes known.

use std::collections::BTreeMap;

use apportion_agent_core::TaskKey;
use apportion_master_core::view::{AgentState, FrameworkState};
use apportion_types::{AgentId, FrameworkId, TaskId, TaskState, protocol::scheduler::Event};

use super::{Check, Happening, Verdict, agents_by_id};
use crate::{fault::Process, world::World};

/// At rest, of every task that a connected framework has launched: its scheduler was told that it has ended or is not known, or it
/// runs, and agent and master know that it does. A launch of which the master never heard counts while the process lives that sent
/// it; after a crash a task counts that its scheduler still believes alive.
///
/// At rest no task is on its way from one state to the next on an agent that is up.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    tasks: BTreeMap<FrameworkId, BTreeMap<TaskId, Launch>>,
}

#[derive(Debug, Clone, Copy)]
struct Launch {
    /// The framework's number and the number of the call, where the process lives that launched it.
    by: Option<(usize, u64)>,
    /// The master has it in its books.
    taken: bool,
}

impl Check for Accepted {
    fn name(&self) -> &'static str {
        "accepted"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match *happening {
            Happening::SchedulerCalls { framework, call_id, call } => {
                let Some(id) = world.framework_id(framework) else { return Ok(()) };
                let launches = self.tasks.entry(id.clone()).or_default();
                for task in call.tasks().into_iter().flatten() {
                    launches.insert(
                        task.task_id.clone(),
                        Launch { by: Some((framework, call_id)), taken: false },
                    );
                }
            }
            Happening::SchedulerHears { framework, event: Event::Update(status) }
                if status.state.is_terminal() || status.state == TaskState::Unknown =>
            {
                if let Some(launches) = world.framework_id(framework).and_then(|id| self.tasks.get_mut(id)) {
                    launches.remove(&status.task_id);
                }
            }
            // The driver itself tells its scheduler of the tasks.
            Happening::SchedulerHears { framework, event: Event::Refused { call_id, .. } } => {
                for launches in self.tasks.values_mut() {
                    launches.retain(|_, launch| launch.by != Some((framework, *call_id)));
                }
            }
            Happening::Crashed(Process::Framework(framework)) => {
                let by_it = |launch: &Launch| launch.by.is_some_and(|(by, _)| by == framework);
                for launches in self.tasks.values_mut() {
                    launches.retain(|_, launch| launch.taken || !by_it(launch));
                    for launch in launches.values_mut().filter(|launch| by_it(launch)) {
                        launch.by = None;
                    }
                }
            }
            Happening::MasterDecided(changes) => {
                for (key, task) in
                    changes.tasks.iter().filter_map(|change| Some((&change.key, change.added()?)))
                {
                    if task.state == TaskState::Staging {
                        let launches = self.tasks.entry(key.0.clone()).or_default();
                        launches.entry(key.1.clone()).or_insert(Launch { by: None, taken: true }).taken =
                            true;
                    }
                }
                for change in &changes.frameworks {
                    if change.after.as_ref().is_none_or(|view| view.state == FrameworkState::Removed) {
                        self.tasks.remove(&change.key);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        let agents = agents_by_id(world);
        for framework in world.frameworks.iter().filter(|framework| framework.ended.is_none()) {
            let Some(process) = &framework.process else { continue };
            let Some(id) = process.framework_id() else { continue };
            let believed = process.tasks();
            for (task_id, launch) in self.tasks.get(id).into_iter().flatten() {
                if launch.by.is_some() || believed.iter().any(|(alive, _)| alive == task_id) {
                    is_known(world, &agents, &(id.clone(), task_id.clone()))?;
                }
            }
        }
        for ((framework, task_id), task) in &world.view().tasks {
            let settled = task.state == TaskState::Running || task.state.is_terminal();
            if !settled && agents.contains_key(&task.agent_id) {
                return Err(format!(
                    "task {task_id} of {framework} is {} on {} for ever",
                    task.state, task.agent_id
                ));
            }
        }
        Ok(())
    }
}

/// A task of which no end was told: it runs, and everybody knows.
fn is_known(world: &World, agents: &BTreeMap<AgentId, usize>, key: &TaskKey) -> Verdict {
    let what = format!("task {} of {} was accepted, and its end was not told", key.1, key.0);
    let Some(task) = world.view().tasks.get(key) else {
        return Err(format!("{what}; the master does not know it"));
    };
    let Some(number) = agents.get(&task.agent_id) else {
        // Of an agent that is no more, nothing can be known, unless the master has not noticed.
        let state = world.view().agents.get(&task.agent_id).map(|agent| agent.state);
        return if state == Some(AgentState::Active) {
            Err(format!("{what}; agent {} is taken for active, and is no more", task.agent_id))
        } else {
            Ok(())
        };
    };
    if task.state != TaskState::Running {
        return Err(format!("{what}; the master has it as {}", task.state));
    }
    let agent = &world.agents[*number];
    let view = agent.core.as_ref().expect("every agent is up at rest").view();
    let Some(here) = view.tasks.get(key).filter(|task| task.state == TaskState::Running) else {
        return Err(format!("{what}; the master has it as running, and agent {number} has not"));
    };
    let container = agent.machine.containers.get(&here.container_id);
    if container.is_some_and(|container| container.is_running()) {
        Ok(())
    } else {
        Err(format!("{what}; its container on agent {number} does not run"))
    }
}
