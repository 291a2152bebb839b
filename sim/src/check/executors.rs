//! What an executor runs has room, runs in its executor alone, and is told as it was.

use std::collections::{BTreeMap, BTreeSet};

use apportion_agent_core::{ContainerId, Record, TaskKey};
use apportion_types::{TaskState, container::Exit};

use super::{Check, Happening, Verdict};
use crate::{
    machine::{Container, Stage},
    world::World,
};

/// A task that an executor runs begins in a running container of the executor that it names, and only when that is held to as much memory as
/// both ask for. One that is told to have finished has ended with 0. At rest every running executor that has tasks listens, and no task
/// lives on without its executor.
///
/// Held by what the machines do: what the cores say of it is not asked.
#[derive(Debug, Default)]
pub(crate) struct Executors {
    /// The runs of tasks of executors that an agent has on disk.
    runs: BTreeMap<(usize, TaskKey), ContainerId>,
    /// Those that have ended with 0.
    finished: BTreeSet<(usize, ContainerId)>,
}

impl Check for Executors {
    fn name(&self) -> &'static str {
        "executors"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match *happening {
            Happening::Durable { agent, record: Record::Task(task) } => {
                let key = (task.framework_id.clone(), task.info.task_id.clone());
                self.runs.remove(&(agent, key.clone()));
                if task.info.executor().is_some() {
                    self.runs.insert((agent, key), task.container_id.clone());
                }
            }
            Happening::Durable { agent, record: Record::Update { framework_id, status } } => {
                let key = (framework_id.clone(), status.task_id.clone());
                let run = self.runs.get(&(agent, key)).cloned();
                if let Some(run) = run.filter(|_| status.state == TaskState::Finished)
                    && !self.finished.remove(&(agent, run.clone()))
                {
                    let task = &status.task_id;
                    return Err(format!(
                        "task {task} of {framework_id} is told as finished, and its run {run} has not"
                    ));
                }
            }
            Happening::Launching { agent, container, task } => {
                return launching(world, agent, container, task);
            }
            Happening::Ended { agent, container, termination, .. }
                if termination.exit == Some(Exit::Code(0)) =>
            {
                let inner = world.agents[agent].machine.containers.get(container);
                if inner.is_some_and(|inner| inner.inside.is_some()) {
                    self.finished.insert((agent, container.clone()));
                }
            }
            Happening::Wiped { agent } => {
                self.runs.retain(|(of, _), _| *of != agent);
                self.finished.retain(|(of, _)| *of != agent);
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        for (number, agent) in world.agents.iter().enumerate() {
            let Some(core) = &agent.core else { continue };
            let view = core.view();
            for (key, task) in view.tasks.iter().filter(|(_, task)| !task.state.is_terminal()) {
                let Some(executor) = task.info.executor() else { continue };
                let what = || format!("task {} of {} lives on agent {number}", key.1, key.0);
                let by = view.tasks.get(&(key.0.clone(), executor.clone()));
                let Some(by) = by.filter(|by| !by.state.is_terminal()) else {
                    return Err(format!("{}, and its executor {executor} does not", what()));
                };
                let process = agent.machine.containers.get(&by.container_id);
                let process = process.filter(|container| container.is_running());
                let listens = process.and_then(|container| container.executor.as_ref());
                if !listens.is_some_and(|executor| executor.subscribed) {
                    return Err(format!("{}, and its executor {executor} does not listen for ever", what()));
                }
            }
        }
        Ok(())
    }
}

fn launching(world: &World, agent: usize, id: &ContainerId, task: &TaskKey) -> Verdict {
    let containers = &world.agents[agent].machine.containers;
    let Some(inside) = containers.get(id).and_then(|inner| inner.inside.as_ref()) else {
        return named(world, agent, task).map_or(Ok(()), |executor| {
            Err(format!(
                "task {} has a container of its own on agent {agent}, and is executor {executor}'s",
                task.1
            ))
        });
    };
    let what = format!("task {} of {} begins on agent {agent}", task.1, task.0);
    let Some(executor) = containers.get(inside).filter(|executor| executor.is_running()) else {
        return Err(format!("{what} in container {inside}, which does not run"));
    };
    if named(world, agent, task).is_none_or(|named| named != executor.task.1.as_str()) {
        return Err(format!("{what} in executor {}, which is not the one that it names", executor.task.1));
    }
    let asks = |container: &Container| container.resources.mem_bytes();
    let live = |inner: &&Container| !matches!(inner.stage, Stage::Ended(_));
    let inner = containers.values().filter(|inner| inner.inside.as_ref() == Some(inside)).filter(live);
    let asked = asks(executor) + inner.map(asks).sum::<u64>();
    match executor.memory_limit_bytes < asked {
        true => Err(format!(
            "{what}, and its executor's container is held to {} bytes where {asked} are asked for",
            executor.memory_limit_bytes
        )),
        false => Ok(()),
    }
}

/// The executor that a task names.
fn named(world: &World, agent: usize, task: &TaskKey) -> Option<String> {
    let view = world.agents[agent].core.as_ref()?.view();
    view.tasks.get(task)?.info.executor().map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use apportion_types::{Execution, TaskId, TaskStatus};

    use super::*;
    use crate::check::fixture::{container, running};

    #[test]
    fn a_task_in_the_container_of_nobody_that_it_names_is_seen() {
        let mut sim = running();
        let (agent, id, task) = container(&sim);
        let other = ContainerId("other".to_owned());
        let containers = &mut sim.world_mut().agents[agent].machine.containers;
        let mut inner = containers[&id].clone();
        inner.inside = Some(id.clone());
        containers.insert(other.clone(), inner);
        let begins = Happening::Launching { agent, container: &other, task: &task };
        let said = Executors::default().observe(sim.world(), &begins).unwrap_err();
        assert!(said.contains("which is not the one that it names"), "{said}");
        sim.world_mut().agents[agent].machine.containers.get_mut(&id).unwrap().stage = Stage::Starting;
        let said = Executors::default().observe(sim.world(), &begins).unwrap_err();
        assert!(said.contains("which does not run"), "{said}");
    }

    #[test]
    fn a_task_that_is_told_as_finished_and_has_not_is_seen() {
        let sim = running();
        let (agent, _, key) = container(&sim);
        let recovered = sim.world().agents[agent].machine.log.recovered();
        let of_it = |task: &apportion_agent_core::RecoveredTask| task.task.info.task_id == key.1;
        let recovered = recovered.tasks.into_iter().find(of_it).unwrap();
        let mut task = recovered.task;
        task.info.execution = Execution::By(TaskId::new("e").unwrap());
        let status = recovered.updates.last().or(recovered.acknowledged.as_ref()).unwrap().clone();
        let status = TaskStatus { state: TaskState::Finished, ..status };
        let mut check = Executors::default();
        let record = Record::Task(Box::new(task));
        check.observe(sim.world(), &Happening::Durable { agent, record: &record }).unwrap();
        let record = Record::Update { framework_id: key.0, status };
        let said = check.observe(sim.world(), &Happening::Durable { agent, record: &record }).unwrap_err();
        assert!(said.contains("is told as finished, and its run"), "{said}");
    }
}
