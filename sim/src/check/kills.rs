//! A task that is asked to end ends.

use std::collections::{BTreeMap, BTreeSet};

use apportion_agent_core::TaskKey;
use apportion_master_core::{ConnId, OperatorCall};
use apportion_types::{
    TaskId, TaskState,
    protocol::scheduler::{Call, Event},
};

use super::{Check, Happening, Verdict, streams::Streams};
use crate::{fault::Process, world::World};

/// At rest no task runs that was asked to end: by its scheduler, whose process lives since; or by anybody, when the master heard it of
/// a task that it knew, and lives since.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    streams: Streams,
    by_schedulers: BTreeMap<usize, BTreeSet<TaskId>>,
    by_master: BTreeSet<TaskKey>,
}

impl Check for Kills {
    fn name(&self) -> &'static str {
        "kills"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        self.streams.observe(happening);
        match *happening {
            Happening::SchedulerCalls { framework, call: Call::Kill { task_id, .. }, .. } => {
                self.by_schedulers.entry(framework).or_default().insert(task_id.clone());
            }
            Happening::SchedulerHears { framework, event: Event::Update(status) }
                if status.state.is_terminal() || status.state == TaskState::Unknown =>
            {
                if let Some(wishes) = self.by_schedulers.get_mut(&framework) {
                    wishes.remove(&status.task_id);
                }
            }
            Happening::Crashed(Process::Framework(framework)) => {
                self.by_schedulers.remove(&framework);
            }
            Happening::Crashed(Process::Master) => self.by_master.clear(),
            Happening::MasterHearsScheduler { conn, call: Call::Kill { task_id, .. }, .. } => {
                self.heard(world, conn, task_id);
            }
            Happening::OperatorCalls { call: OperatorCall::KillTask { framework_id, task_id, .. } } => {
                let frameworks = world.view().frameworks.keys();
                let keys = frameworks.map(|id| (id.clone(), task_id.clone()));
                let keys: Vec<_> = keys
                    .filter(|key| framework_id.as_ref().is_none_or(|id| *id == key.0) && is_live(world, key))
                    .collect();
                if let [key] = &keys[..] {
                    self.by_master.insert(key.clone());
                }
            }
            Happening::MasterDecided(changes) => {
                for change in changes.tasks.iter().filter(|change| change.after.is_none()) {
                    self.by_master.remove(&change.key);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        for (number, agent) in world.agents.iter().enumerate() {
            for container in agent.machine.containers.values().filter(|container| container.is_running()) {
                let key = &container.task;
                let scheduler = |framework: &usize| world.framework_id(*framework) == Some(&key.0);
                let asked =
                    self.by_schedulers.iter().any(|(by, tasks)| tasks.contains(&key.1) && scheduler(by));
                if asked || self.by_master.contains(key) {
                    return Err(format!(
                        "task {} of {} was asked to end, and runs on agent {number} for ever",
                        key.1, key.0
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Kills {
    fn heard(&mut self, world: &World, conn: ConnId, task_id: &TaskId) {
        let Some(framework_id) = self.streams.framework(conn) else { return };
        let key = (framework_id.clone(), task_id.clone());
        if is_live(world, &key) {
            self.by_master.insert(key);
        }
    }
}

fn is_live(world: &World, key: &TaskKey) -> bool {
    world.view().tasks.get(key).is_some_and(|task| !task.state.is_terminal())
}
