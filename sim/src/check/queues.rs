//! What waits is bounded.

use std::{collections::BTreeMap, sync::Arc};

use apportion_agent_core::{Record, TaskKey};
use apportion_master_core::{
    ConnId,
    view::{FrameworkState, FrameworkView},
};
use apportion_types::limits;

use super::{Changes, Check, Happening, Verdict};
use crate::{fault::Process, world::World};

/// Records that one task may have on their way to the disk: itself, its states, and their acknowledgements.
const RECORDS_PER_TASK_MAX: usize = 16;

/// A peer's queue holds no more than [`limits::OUTBOX_ITEMS_MAX`], or one message. An agent's disk holds no more than
/// [`limits::UPDATES_PER_TASK_MAX`] updates of one task, and on their way to it are records of tasks that the agent knows. The
/// master lists no more than [`limits::COMPLETED_TASKS_MAX`] completed tasks, and of removed frameworks without tasks no more than
/// [`limits::COMPLETED_FRAMEWORKS_MAX`] when it removes one.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    updates: BTreeMap<(usize, TaskKey), usize>,
    /// Removed frameworks that are listed, and how many of them still have tasks.
    removed: usize,
    removed_with_tasks: usize,
}

impl Check for Queues {
    fn name(&self) -> &'static str {
        "queues"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match *happening {
            Happening::Started(Process::Master) => (self.removed, self.removed_with_tasks) = (0, 0),
            Happening::Wiped { agent } => self.updates.retain(|(number, _), _| *number != agent),
            Happening::MasterTellsScheduler { conn, .. } | Happening::MasterTellsAgent { conn, .. } => {
                return outbox(world, conn);
            }
            Happening::Durable { agent, record } => return self.written(agent, record),
            Happening::AgentHears { agent, .. } => return checkpoints(world, agent),
            Happening::MasterDecided(changes) => return self.decided(world, changes),
            _ => {}
        }
        Ok(())
    }
}

impl Queues {
    fn written(&mut self, agent: usize, record: &Record) -> Verdict {
        match record {
            Record::Update { framework_id, status } => {
                let key = (framework_id.clone(), status.task_id.clone());
                let count = self.updates.entry((agent, key)).or_default();
                *count += 1;
                if *count > limits::UPDATES_PER_TASK_MAX {
                    return Err(format!("agent {agent} keeps {count} updates of task {}", status.task_id));
                }
            }
            Record::Acknowledgement { framework_id, task_id, .. } => {
                let key = (agent, (framework_id.clone(), task_id.clone()));
                if let Some(count) = self.updates.get_mut(&key) {
                    *count -= 1;
                    if *count == 0 {
                        self.updates.remove(&key);
                    }
                }
            }
            Record::Agent { .. }
            | Record::Process(_)
            | Record::Drain(_)
            | Record::Times { .. }
            | Record::Task(_)
            | Record::Group(_)
            | Record::Turn { .. }
            | Record::Operation { .. }
            | Record::OperationAcknowledgement { .. } => {}
        }
        Ok(())
    }

    fn decided(&mut self, world: &World, changes: &Changes) -> Verdict {
        let completed = world.view().completed.len();
        if completed > limits::COMPLETED_TASKS_MAX {
            return Err(format!("{completed} completed tasks are listed"));
        }
        let mut removes = false;
        for change in &changes.frameworks {
            let before = change.before.as_ref().filter(|view| view.state == FrameworkState::Removed);
            let after = change.after.as_ref().filter(|view| view.state == FrameworkState::Removed);
            self.removed = self.removed + usize::from(after.is_some()) - usize::from(before.is_some());
            let busy = |view: Option<&Arc<FrameworkView>>| {
                usize::from(view.is_some_and(|view| view.tasks > 0 || !view.allocated.is_empty()))
            };
            self.removed_with_tasks = self.removed_with_tasks + busy(after) - busy(before);
            removes |= after.is_some() && before.is_none();
        }
        let idle = self.removed - self.removed_with_tasks;
        if removes && idle > limits::COMPLETED_FRAMEWORKS_MAX {
            return Err(format!("{idle} removed frameworks without tasks are listed"));
        }
        Ok(())
    }
}

fn outbox(world: &World, conn: ConnId) -> Verdict {
    let Some(conn) = world.network.conn_ref(conn.0 as usize) else { return Ok(()) };
    let (items, messages) = (conn.down.items, conn.down.len());
    if items > limits::OUTBOX_ITEMS_MAX && messages > 1 {
        return Err(format!("{items} items in {messages} messages wait for {:?}", conn.peer));
    }
    Ok(())
}

fn checkpoints(world: &World, agent: usize) -> Verdict {
    let waiting = world.agents[agent].machine.pending.len();
    if waiting <= RECORDS_PER_TASK_MAX {
        return Ok(());
    }
    let tasks = world.agents[agent].core.as_ref().map_or(0, |core| core.view().tasks.len());
    if waiting > RECORDS_PER_TASK_MAX * (1 + tasks) {
        return Err(format!("{waiting} records of {tasks} tasks wait for the disk of agent {agent}"));
    }
    Ok(())
}
