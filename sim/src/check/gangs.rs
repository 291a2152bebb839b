//! A gang is launched whole or not at all.

use std::collections::BTreeSet;

use apportion_types::{FrameworkId, TaskId, TaskState, protocol::scheduler::Call};

use super::{Check, Happening, Verdict, streams::Streams};
use crate::world::World;

/// In the decision about a gang either all of its tasks begin, or none.
#[derive(Debug, Default)]
pub(crate) struct Gangs {
    streams: Streams,
    called: Option<(FrameworkId, BTreeSet<TaskId>)>,
}

impl Check for Gangs {
    fn name(&self) -> &'static str {
        "gangs"
    }

    fn observe(&mut self, _world: &World, happening: &Happening<'_>) -> Verdict {
        self.streams.observe(happening);
        match *happening {
            Happening::MasterHearsScheduler { conn, call: call @ Call::Gang { .. }, .. } => {
                let tasks = call.tasks().into_iter().flatten().map(|task| task.task_id.clone()).collect();
                self.called = self.streams.framework(conn).map(|framework| (framework.clone(), tasks));
            }
            Happening::MasterDecided(changes) => {
                let Some((framework, tasks)) = self.called.take() else { return Ok(()) };
                let begun = changes.tasks.iter().filter_map(|change| change.added()).filter(|task| {
                    task.state == TaskState::Staging
                        && task.framework_id == framework
                        && tasks.contains(&task.info.task_id)
                });
                let begun = begun.count();
                if begun != 0 && begun != tasks.len() {
                    return Err(format!(
                        "{begun} of the {} tasks of a gang of {framework} begin",
                        tasks.len()
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
