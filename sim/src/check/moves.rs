//! Task moves are legal, and terminal is final.

use std::collections::BTreeMap;

use apportion_agent_core::{Record, TaskKey};
use apportion_master_core::view::FrameworkState;
use apportion_types::{AgentId, TaskState, TaskStatus, UpdateId, protocol::scheduler::Event};

use super::{Change, Changes, Check, Happening, Verdict};
use crate::world::World;

/// The updates that an agent writes of one task follow from each other ([`TaskState::may_become`]), and so do those that its scheduler
/// hears of that agent; so nothing follows a terminal one.
///
/// In the master's view a task moves legally too, and goes only when it has ended, into the memory of completed tasks; or when it
/// cannot be reached and its framework is removed.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    written: BTreeMap<(usize, TaskKey), (TaskState, Option<UpdateId>)>,
    heard: BTreeMap<TaskKey, (Option<AgentId>, UpdateId, TaskState)>,
}

impl Check for Moves {
    fn name(&self) -> &'static str {
        "moves"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match *happening {
            Happening::Wiped { agent } => {
                self.written.retain(|(number, _), _| *number != agent);
                Ok(())
            }
            Happening::Durable { agent, record } => self.written(agent, record),
            Happening::SchedulerHears { framework, event: Event::Update(status) } => {
                self.heard(world, framework, status)
            }
            Happening::MasterDecided(changes) => decided(world, changes),
            _ => Ok(()),
        }
    }
}

impl Moves {
    fn written(&mut self, agent: usize, record: &Record) -> Verdict {
        match record {
            Record::Task(_) | Record::Group(_) => {
                for task in record.taken_on() {
                    let key = (task.framework_id.clone(), task.info.task_id.clone());
                    self.written.insert((agent, key), (TaskState::Staging, None));
                }
            }
            Record::Update { framework_id, status } => {
                let key = (agent, (framework_id.clone(), status.task_id.clone()));
                let before = self.written.insert(key, (status.state, status.update_id));
                if let Some((before, _)) = before.filter(|(before, _)| !before.may_become(status.state)) {
                    return Err(format!(
                        "agent {agent} writes {} of task {}, which was {before}",
                        status.state, status.task_id
                    ));
                }
            }
            Record::Acknowledgement { framework_id, task_id, update_id } => {
                let key = (framework_id.clone(), task_id.clone());
                if self
                    .heard
                    .get(&key)
                    .is_some_and(|(_, heard, state)| heard == update_id && state.is_terminal())
                {
                    self.heard.remove(&key);
                }
                let key = (agent, key);
                if self
                    .written
                    .get(&key)
                    .is_some_and(|(state, id)| state.is_terminal() && *id == Some(*update_id))
                {
                    self.written.remove(&key);
                }
            }
            Record::Agent { .. }
            | Record::Process(_)
            | Record::Drain(_)
            | Record::Times { .. }
            | Record::Turn { .. }
            | Record::Operation { .. }
            | Record::OperationAcknowledgement { .. } => {}
        }
        Ok(())
    }

    fn heard(&mut self, world: &World, framework: usize, status: &TaskStatus) -> Verdict {
        let (Some(update_id), Some(id)) = (status.update_id, world.framework_id(framework)) else {
            return Ok(());
        };
        let key = (id.clone(), status.task_id.clone());
        let before = self.heard.insert(key, (status.agent_id.clone(), update_id, status.state));
        match before {
            Some((agent, heard, before))
                if agent == status.agent_id && heard < update_id && !before.may_become(status.state) =>
            {
                Err(format!(
                    "framework {framework} hears {} of task {}, which was {before}",
                    status.state, status.task_id
                ))
            }
            _ => Ok(()),
        }
    }
}

fn decided(world: &World, changes: &Changes) -> Verdict {
    for Change { key, before, after } in &changes.tasks {
        let Some(before) = before else { continue };
        let what = || format!("task {} of {} on {}", key.1, key.0, before.agent_id);
        match after {
            Some(after) if after.agent_id == before.agent_id => {
                if before.state != after.state && !before.state.may_become(after.state) {
                    return Err(format!("{} was {}, and is {}", what(), before.state, after.state));
                }
            }
            // Its name is used for another.
            _ => completed(world, changes, key, before.state).map_err(|why| format!("{} {why}", what()))?,
        }
    }
    Ok(())
}

/// A task that has left the books is among the completed.
fn completed(world: &World, changes: &Changes, key: &TaskKey, before: TaskState) -> Verdict {
    let added = changes.completed.iter().filter_map(|change| change.added());
    let completed = added.into_iter().find(|task| task.framework_id == key.0 && task.info.task_id == key.1);
    let Some(completed) = completed else {
        return Err(format!("was {before}, and is forgotten"));
    };
    let state = completed.state;
    if state != before && !before.may_become(state) {
        return Err(format!("was {before}, and is completed as {state}"));
    }
    let framework = world.view().frameworks.get(&key.0);
    let removed = framework.is_none_or(|framework| framework.state == FrameworkState::Removed);
    if state.is_terminal() || state == TaskState::Unreachable && removed {
        Ok(())
    } else {
        Err(format!("is completed as {state}"))
    }
}
