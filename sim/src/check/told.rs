//! What the master decides about a task, its framework hears.

use std::collections::BTreeSet;

use apportion_agent_core::TaskKey;
use apportion_master_core::view::{FrameworkState, TaskView};
use apportion_types::{FrameworkId, Source, TaskState, protocol::scheduler::Event};

use super::{Change, Changes, Check, Happening, Verdict, streams::Streams};
use crate::world::World;

/// When a task cannot be reached any more, when it can be reached again, and when the master itself says that it has ended, then its
/// framework is told so in the same decision, if it is connected. (One that is not asks when it returns.)
#[derive(Debug, Default)]
pub(crate) struct Told {
    streams: Streams,
    /// In the decision under way.
    told: BTreeSet<TaskKey>,
}

impl Check for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        self.streams.observe(happening);
        match *happening {
            Happening::MasterTellsScheduler { conn, event: Event::Update(status), .. } => {
                if let Some(id) = self.streams.framework(conn) {
                    self.told.insert((id.clone(), status.task_id.clone()));
                }
            }
            Happening::MasterDecided(changes) => {
                let told = std::mem::take(&mut self.told);
                return decided(world, changes, &told);
            }
            _ => {}
        }
        Ok(())
    }
}

fn decided(world: &World, changes: &Changes, told: &BTreeSet<TaskKey>) -> Verdict {
    for Change { key, before, after } in &changes.tasks {
        let (Some(before), Some(after)) = (before, after) else { continue };
        let was = before.state == TaskState::Unreachable;
        let is = after.state == TaskState::Unreachable;
        if was != is && !after.state.is_terminal() && !told.contains(key) && is_connected(world, &key.0) {
            return Err(format!(
                "task {} of {} was {} and is {}, and nobody is told",
                key.1, key.0, before.state, after.state
            ));
        }
    }
    for task in changes.completed.iter().filter_map(|change| change.added()) {
        let key = (task.framework_id.clone(), task.info.task_id.clone());
        if ended_by_master(task) && !told.contains(&key) && is_connected(world, &key.0) {
            return Err(format!(
                "task {} of {} is {}, says the master, and tells nobody",
                key.1, key.0, task.state
            ));
        }
    }
    Ok(())
}

fn ended_by_master(task: &TaskView) -> bool {
    task.status.as_ref().is_some_and(|status| status.state.is_terminal() && status.source == Source::Master)
}

fn is_connected(world: &World, framework: &FrameworkId) -> bool {
    world.view().frameworks.get(framework).is_some_and(|view| view.state == FrameworkState::Active)
}
