//! No update is lost, and none is acknowledged that nobody heard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use apportion_agent_core::{Record, TaskKey};
use apportion_master_core::view::FrameworkState;
use apportion_types::{
    AgentId, FrameworkId, TaskState, TaskStatus, UpdateId,
    protocol::{
        agent::{AgentMessage, MasterMessage},
        scheduler::{Call, Event},
    },
};

use super::{Check, Happening, Verdict, streams::Streams};
use crate::world::World;

/// An agent says only updates that are on its disk, and of each task only the oldest that is not acknowledged there. Schedulers hear
/// those of one task in the order in which they were made. A driver acknowledges only the update that it just heard. An
/// acknowledgement gets to an agent's disk only for the oldest update of its task, and only when its scheduler has made it; or when
/// there is no such scheduler: the framework is removed, or uses the name of the task on another agent.
///
/// At rest no update is on a disk that is not acknowledged, unless its framework is away.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    streams: Streams,
    disks: BTreeMap<usize, Disk>,
    /// The update that a framework heard last.
    heard: BTreeMap<usize, UpdateId>,
    /// The newest update of each task that its scheduler heard.
    newest: BTreeMap<TaskKey, (Option<AgentId>, UpdateId)>,
    /// By schedulers, of all time: a repetition may be under way for as long as a link is cut.
    acknowledged: BTreeSet<UpdateId>,
}

/// What of an agent's log is still to be told, and what it heard.
#[derive(Debug, Default)]
struct Disk {
    pending: BTreeMap<TaskKey, VecDeque<(UpdateId, TaskState)>>,
    acknowledgements: BTreeSet<UpdateId>,
    removed_frameworks: BTreeSet<FrameworkId>,
}

impl Check for Updates {
    fn name(&self) -> &'static str {
        "updates"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        self.streams.observe(happening);
        match *happening {
            Happening::Wiped { agent } => {
                self.disks.remove(&agent);
            }
            Happening::Durable { agent, record } => return self.written(agent, record),
            Happening::AgentSays {
                agent,
                message: AgentMessage::StatusUpdate { framework_id, status, latest_state },
            } => {
                let key = (framework_id.clone(), status.task_id.clone());
                return self.said(agent, &key, status, *latest_state);
            }
            Happening::AgentHears { agent, message: MasterMessage::AcknowledgeUpdate { update_id, .. } } => {
                self.disks.entry(agent).or_default().acknowledgements.insert(*update_id);
            }
            Happening::AgentHears { agent, message: MasterMessage::RemoveFramework { framework_id } } => {
                self.disks.entry(agent).or_default().removed_frameworks.insert(framework_id.clone());
            }
            Happening::MasterTellsAgent {
                conn,
                message: MasterMessage::AcknowledgeUpdate { framework_id, task_id, update_id },
                ..
            } => {
                let key = (framework_id.clone(), task_id.clone());
                let agent_id = self.streams.agent(conn);
                if !self.acknowledged.contains(update_id) && !is_nobodys(world, &key, agent_id) {
                    return Err(format!(
                        "the master acknowledges {update_id:?} of task {task_id}, and framework {framework_id} has not"
                    ));
                }
            }
            Happening::SchedulerHears { framework, event: Event::Update(status) } => {
                return self.heard(world, framework, status);
            }
            Happening::SchedulerCalls {
                framework,
                call: Call::Acknowledge { task_id, update_id, .. },
                ..
            } => {
                if self.heard.get(&framework) != Some(update_id) {
                    return Err(format!(
                        "framework {framework} acknowledges {update_id:?} of task {task_id}, which it did not just hear"
                    ));
                }
                self.acknowledged.insert(*update_id);
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        for (agent, disk) in &self.disks {
            for (key, pending) in &disk.pending {
                let framework = world.view().frameworks.get(&key.0).map(|view| view.state);
                if let (Some((update_id, state)), Some(FrameworkState::Active | FrameworkState::Removed)) =
                    (pending.front(), framework)
                {
                    return Err(format!(
                        "{state} ({update_id:?}) of task {} of {} is on the disk of agent {agent}, and not acknowledged",
                        key.1, key.0
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Updates {
    fn written(&mut self, agent: usize, record: &Record) -> Verdict {
        let disk = self.disks.entry(agent).or_default();
        match record {
            Record::Update { framework_id, status } => {
                let update_id = status.update_id.expect("an agent's update has an id");
                let pending = disk.pending.entry((framework_id.clone(), status.task_id.clone())).or_default();
                pending.push_back((update_id, status.state));
            }
            Record::Acknowledgement { framework_id, task_id, update_id } => {
                let key = (framework_id.clone(), task_id.clone());
                let head = disk.pending.get_mut(&key).and_then(VecDeque::pop_front);
                let Some((_, state)) = head.filter(|(head, _)| head == update_id) else {
                    return Err(format!(
                        "agent {agent} writes that {update_id:?} of task {task_id} is acknowledged, which is not its oldest"
                    ));
                };
                if disk.pending[&key].is_empty() {
                    disk.pending.remove(&key);
                }
                if !disk.acknowledgements.remove(update_id) && !disk.removed_frameworks.contains(framework_id)
                {
                    return Err(format!(
                        "agent {agent} writes that {update_id:?} of task {task_id} is acknowledged, and it is not"
                    ));
                }
                if state.is_terminal() && self.newest.get(&key).is_some_and(|(_, newest)| newest == update_id)
                {
                    self.newest.remove(&key);
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

    fn said(&self, agent: usize, key: &TaskKey, status: &TaskStatus, latest: TaskState) -> Verdict {
        let disk = self.disks.get(&agent);
        let pending = disk.and_then(|disk| disk.pending.get(key));
        let position = pending.and_then(|pending| {
            pending.iter().position(|(update_id, _)| Some(*update_id) == status.update_id)
        });
        let what = || format!("agent {agent} says {} of task {} of {}", status.state, key.1, key.0);
        match (pending, position) {
            (Some(pending), Some(_)) if pending.iter().all(|(_, state)| *state != latest) => {
                Err(format!("{}, which is {latest} by now, and that is not on its disk", what()))
            }
            (Some(_), Some(0)) => Ok(()),
            // Of a framework that is gone only the end is told.
            (Some(_), Some(_)) if disk.is_some_and(|disk| disk.removed_frameworks.contains(&key.0)) => Ok(()),
            (Some(_), Some(_)) => {
                Err(format!("{} before an earlier update is acknowledged on its disk", what()))
            }
            _ => Err(format!("{}, which is not on its disk, or acknowledged there", what())),
        }
    }

    fn heard(&mut self, world: &World, framework: usize, status: &TaskStatus) -> Verdict {
        let Some(update_id) = status.update_id else { return Ok(()) };
        self.heard.insert(framework, update_id);
        let process = world.frameworks[framework].process.as_ref();
        let Some(id) = process.and_then(|process| process.framework_id()) else { return Ok(()) };
        let key = (id.clone(), status.task_id.clone());
        let newest = self.newest.insert(key, (status.agent_id.clone(), update_id));
        match newest {
            Some((agent_id, newest)) if agent_id == status.agent_id && newest > update_id => Err(format!(
                "framework {framework} hears {} of task {} ({update_id:?}) after {newest:?}, which is newer",
                status.state, status.task_id
            )),
            _ => Ok(()),
        }
    }
}

/// True when no scheduler waits for the updates of this task on this agent.
fn is_nobodys(world: &World, key: &TaskKey, agent_id: Option<&AgentId>) -> bool {
    let view = world.view();
    view.frameworks.get(&key.0).is_none_or(|framework| framework.state == FrameworkState::Removed)
        || view.tasks.get(key).is_some_and(|task| Some(&task.agent_id) != agent_id)
}
