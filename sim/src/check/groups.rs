//! A task group is launched whole, in order, and ends whole.

use std::collections::{BTreeMap, BTreeSet};

use apportion_agent_core::{ContainerId, Record, TaskKey};
use apportion_types::{
    FrameworkId, Part, TaskState,
    container::{Exit, Termination},
    protocol::agent::MasterMessage,
};

use super::{Changes, Check, Happening, Verdict, activation::ends_all};
use crate::{fault::Process, machine::Container, world::World};

/// In one decision of the master either all tasks of a group begin, or none. On its agent no task of it is launched before every init task
/// before it has ended with 0, and a main task not before every sidecar runs. One is killed only when another has failed, its work is done,
/// or the end of any of them was asked for. At rest none of it runs when one of its tasks has failed, a
/// sidecar is gone, or its work is done, and none is missing beside those that run.
///
/// Held by what the machines do: what the cores say of it is not asked.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// The members of each group that an agent has taken on, in their order.
    runs: BTreeMap<(usize, ContainerId), Vec<Member>>,
    /// Which group each of their containers is of.
    of: BTreeMap<(usize, ContainerId), ContainerId>,
    /// Tasks whose end an agent was asked for.
    asked: BTreeSet<(usize, TaskKey)>,
    /// Frameworks whose end an agent was told.
    removed: BTreeSet<(usize, FrameworkId)>,
}

/// A member, and what has become of its container.
#[derive(Debug)]
struct Member {
    key: TaskKey,
    container: ContainerId,
    part: Part,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has none, and had none.
    Waits,
    /// Its turn is on disk, and nobody has launched it: an agent that dies here is not to know that.
    Turned,
    /// It is there, as far as anybody saw.
    Launched,
    /// It has ended with 0.
    Finished,
    /// It has ended otherwise, or is lost.
    Failed,
}

impl Check for Groups {
    fn name(&self) -> &'static str {
        "groups"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match *happening {
            Happening::MasterDecided(changes) => begun(changes)?,
            Happening::Durable { agent, record: Record::Group(tasks) } => {
                let member = |task: &apportion_agent_core::TaskRecord| Member {
                    key: (task.framework_id.clone(), task.info.task_id.clone()),
                    container: task.container_id.clone(),
                    part: task.info.group.as_ref().expect("it is of a group").part,
                    stage: Stage::Waits,
                };
                let run = tasks[0].container_id.clone();
                let named = tasks.iter().map(|task| ((agent, task.container_id.clone()), run.clone()));
                self.of.extend(named);
                self.runs.insert((agent, run), tasks.iter().map(member).collect());
            }
            Happening::Durable { agent, record: Record::Turn { framework_id, task_id } } => {
                let named = |member: &&mut Member| {
                    (&member.key.0, &member.key.1, member.stage) == (framework_id, task_id, Stage::Waits)
                };
                if let Some(member) = self.of_agent(agent).find(named) {
                    member.stage = Stage::Turned;
                }
            }
            Happening::Launching { agent, container, .. } => self.launching(world, agent, container)?,
            Happening::AgentHears { agent, message } => match message {
                MasterMessage::KillTask { framework_id, task_id, .. } => {
                    self.asked.insert((agent, (framework_id.clone(), task_id.clone())));
                }
                MasterMessage::RemoveFramework { framework_id } => {
                    self.removed.insert((agent, framework_id.clone()));
                }
                message if ends_all(message) => {
                    let tasks = world.agents[agent].core.as_ref().map(|core| core.view().tasks);
                    let keys = tasks.iter().flat_map(|tasks| tasks.keys());
                    self.asked.extend(keys.map(|key| (agent, key.clone())));
                }
                _ => {}
            },
            Happening::Ended { agent, container, task, termination } => {
                self.ended(world, (agent, container), task, termination)?;
            }
            Happening::Rebooted { agent } => {
                for member in self.of_agent(agent).filter(|member| member.had_its_turn()) {
                    member.stage = Stage::Failed;
                }
            }
            Happening::Wiped { agent } => {
                self.runs.retain(|(of, _), _| *of != agent);
                self.of.retain(|(of, _), _| *of != agent);
            }
            Happening::Started(Process::Agent(agent)) => self.forget_unmade(world, agent),
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        for ((agent, _), members) in &self.runs {
            let containers = &world.agents[*agent].machine.containers;
            let runs = |member: &Member| {
                containers.get(&member.container).is_some_and(|container| container.is_running())
            };
            if let Some(alive) = members.iter().find(|member| runs(member)) {
                judge(members, &runs).map_err(|what| {
                    format!("task {} of a group runs on agent {agent} for ever, and {what}", alive.key.1)
                })?;
            }
        }
        Ok(())
    }
}

impl Groups {
    fn launching(&mut self, world: &World, agent: usize, container: &ContainerId) -> Verdict {
        let Some(run) = self.of.get(&(agent, container.clone())) else { return Ok(()) };
        let members = self.runs.get_mut(&(agent, run.clone())).expect("it is listed with its members");
        let at = members.iter().position(|member| member.container == *container).expect("it is one of them");
        let part = members[at].part;
        let containers = &world.agents[agent].machine.containers;
        for (place, other) in members.iter().enumerate() {
            let before = other.part == Part::Init && (part != Part::Init || place < at);
            let runs = containers.get(&other.container).is_some_and(|container| container.is_running());
            let wrong = before && other.stage != Stage::Finished
                || other.part == Part::Sidecar && part == Part::Main && !runs;
            if wrong {
                return Err(format!(
                    "{part} task {} is launched on agent {agent} before {} task {} of its group is through",
                    members[at].key.1, other.part, other.key.1
                ));
            }
        }
        members[at].stage = Stage::Launched;
        Ok(())
    }

    fn ended(
        &mut self,
        world: &World,
        (agent, container): (usize, &ContainerId),
        (framework_id, task_id): &TaskKey,
        termination: &Termination,
    ) -> Verdict {
        let Some(run) = self.of.get(&(agent, container.clone())) else { return Ok(()) };
        let members = self.runs.get_mut(&(agent, run.clone())).expect("it is listed with its members");
        let at = members.iter().position(|member| member.container == *container).expect("it is one of them");
        let well = termination.exit == Some(Exit::Code(0));
        members[at].stage = if well { Stage::Finished } else { Stage::Failed };
        let killed = matches!(termination.exit, Some(Exit::Signal(_))) && termination.limitation.is_none();
        let containers = &world.agents[agent].machine.containers;
        let of = |member: &Member| containers.get(&member.container);
        // Whoever lends takes back without being asked, and whoever was told how long a task may run, or when it does its work, ends it.
        let asked = members.iter().any(|member| {
            let ends = |container: &Container| {
                container.may_be_ended() || !container.resources.revocable().is_empty()
            };
            self.asked.contains(&(agent, member.key.clone())) || of(member).is_some_and(ends)
        });
        let asked = asked || self.removed.contains(&(agent, framework_id.clone()));
        let others = members.iter().enumerate().filter(|(place, _)| *place != at);
        let failed = others.map(|(_, member)| member).any(|member| match member.stage {
            Stage::Waits | Stage::Turned => false,
            // It could not be started, or was lost.
            Stage::Launched => !of(member).is_some_and(Container::is_running),
            Stage::Finished => member.part == Part::Sidecar,
            Stage::Failed => true,
        });
        let mut mains = members.iter().filter(|member| member.part == Part::Main);
        let done = mains.all(|member| member.stage == Stage::Finished);
        if killed && !asked && !failed && !done {
            return Err(format!("agent {agent} has killed task {task_id} of a group that was to go on"));
        }
        Ok(())
    }

    /// What was only being made, or was not begun with, went with the process.
    fn forget_unmade(&mut self, world: &World, agent: usize) {
        let containers = &world.agents[agent].machine.containers;
        let unmade =
            |member: &&mut Member| member.had_its_turn() && !containers.contains_key(&member.container);
        for member in self.of_agent(agent).filter(unmade) {
            member.stage = Stage::Failed;
        }
    }

    fn of_agent(&mut self, agent: usize) -> impl Iterator<Item = &mut Member> {
        let here = self.runs.range_mut((agent, ContainerId(String::new()))..);
        here.take_while(move |(key, _)| key.0 == agent).flat_map(|(_, members)| members)
    }
}

impl Member {
    fn had_its_turn(&self) -> bool {
        matches!(self.stage, Stage::Turned | Stage::Launched)
    }
}

/// Judges a group of which something runs at rest.
fn judge(members: &[Member], runs: &impl Fn(&Member) -> bool) -> Verdict {
    let of = |part: Part| members.iter().filter(move |member| member.part == part);
    let ended_badly = |member: &&Member| member.stage != Stage::Waits && member.stage != Stage::Finished;
    if let Some(member) =
        of(Part::Init).chain(of(Part::Main)).filter(|member| !runs(member)).find(ended_badly)
    {
        return Err(format!("{} task {} of it has failed", member.part, member.key.1));
    }
    if of(Part::Init).any(runs) {
        return Ok(());
    }
    if of(Part::Main).all(|member| member.stage == Stage::Finished) {
        return Err("the main tasks of it have finished".to_owned());
    }
    let missing = |member: &&Member| match member.part {
        Part::Init => member.stage != Stage::Finished,
        Part::Sidecar => !runs(member),
        Part::Main => member.stage == Stage::Waits,
    };
    match members.iter().find(missing) {
        Some(member) => Err(format!("{} task {} of it is missing", member.part, member.key.1)),
        None => Ok(()),
    }
}

/// Judges the groups that begin in a decision.
fn begun(changes: &Changes) -> Verdict {
    let mut groups: BTreeMap<_, (u32, u32)> = BTreeMap::new();
    let added = changes.tasks.iter().filter_map(|change| change.added());
    for task in added.filter(|task| task.state == TaskState::Staging) {
        if let Some(group) = &task.info.group {
            let counted = groups.entry((&task.framework_id, &group.group_id)).or_insert((0, group.members));
            counted.0 += 1;
        }
    }
    match groups.iter().find(|(_, (begun, members))| begun != members) {
        Some(((framework, group), (begun, members))) => {
            Err(format!("{begun} of the {members} tasks of group {group} of {framework} begin"))
        }
        None => Ok(()),
    }
}
