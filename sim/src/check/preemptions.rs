//! Who must give way is told before, and only for somebody of higher priority.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use apportion_agent_core::TaskKey;
use apportion_master_core::view::{FrameworkState, FrameworkView};
use apportion_types::{
    FrameworkId, Reason, Role, Time,
    protocol::{agent::MasterMessage, scheduler::Event},
};

use super::{Check, Happening, Verdict, streams::Streams};
use crate::{fault::Process, world::World};

/// A notice of preemption names a task only when its role has a lower priority than the role that it is to give way to. The master
/// has a task killed for another only after the time that it gave in a notice, unless the task's framework was not there to hear one.
#[derive(Debug, Default)]
pub(crate) struct Preemptions {
    streams: Streams,
    /// When each task that was named may be killed, by the master's clock.
    noticed: BTreeMap<TaskKey, Time>,
    /// When a framework was last not connected.
    away: BTreeMap<FrameworkId, Time>,
}

impl Check for Preemptions {
    fn name(&self) -> &'static str {
        "preemptions"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        self.streams.observe(happening);
        match *happening {
            Happening::Started(Process::Master) => *self = Self::default(),
            Happening::MasterTellsScheduler { conn, event: Event::Preempt(notice), .. } => {
                let Some(framework) = self.streams.framework(conn).cloned() else { return Ok(()) };
                for task_id in &notice.tasks {
                    let key = (framework.clone(), task_id.clone());
                    let Some(task) = world.view().tasks.get(&key) else {
                        return Err(format!(
                            "framework {framework} is to give up task {task_id}, which is not known"
                        ));
                    };
                    let (of_task, of_role) = (priority(world, &task.role), priority(world, &notice.for_role));
                    if of_task >= of_role {
                        return Err(format!(
                            "task {task_id} of {framework} has priority {of_task}, and is to give way to role {} of {of_role}",
                            notice.for_role
                        ));
                    }
                    self.noticed.insert(key, notice.at);
                }
            }
            Happening::MasterTellsAgent {
                message: MasterMessage::KillTask { framework_id, task_id, reason: Reason::Preempted, .. },
                ..
            } => return self.killed(world, framework_id, &(framework_id.clone(), task_id.clone())),
            Happening::MasterDecided(changes) => {
                for change in changes.tasks.iter().filter(|change| change.after.is_none()) {
                    self.noticed.remove(&change.key);
                }
                let active = |view: &Option<Arc<FrameworkView>>| {
                    view.as_ref().is_some_and(|view| view.state == FrameworkState::Active)
                };
                for change in &changes.frameworks {
                    if !active(&change.before) || !active(&change.after) {
                        self.away.insert(change.key.clone(), world.now);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Preemptions {
    fn killed(&self, world: &World, framework: &FrameworkId, key: &TaskKey) -> Verdict {
        let now = world.master.shows(world.now);
        let while_away = 2 * world.master.config.preemption_grace + Duration::from_secs(1);
        let view = world.view().frameworks.get(framework);
        let away = view.is_none_or(|view| view.state != FrameworkState::Active)
            || self.away.get(framework).is_some_and(|at| world.now.since(*at) <= while_away);
        match self.noticed.get(key) {
            Some(at) if *at > now => {
                Err(format!("task {} of {framework} is killed {:?} too early", key.1, at.since(now)))
            }
            None if !away => Err(format!("task {} of {framework} is preempted without a notice", key.1)),
            _ => Ok(()),
        }
    }
}

fn priority(world: &World, role: &Role) -> i32 {
    world.view().roles.get(role).map_or(0, |settings| settings.priority)
}
