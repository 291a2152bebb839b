//! A framework and its tasks survive a change of master.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apportion_agent_core::TaskKey;
use apportion_master_core::{ConnId, OperatorCall, view::FrameworkState};
use apportion_types::{
    FrameworkId, Reason, TaskId, Time,
    container::Exit,
    limits,
    protocol::{
        agent::MasterMessage,
        scheduler::{Call, ErrorCode, Event},
    },
};

use super::{Change, Changes, Check, Happening, Verdict, activation::ends_all, streams::Streams};
use crate::{fault::Process, machine::Container, world::World};

/// Whoever subscribes with an id keeps it. A framework is removed only when it, or an operator, wishes it, or when it was away for its
/// failover time-out, counted from its loss or from the loss of its master; and nobody is refused as removed who is not.
///
/// A task is killed only when somebody asked: the master asks an agent to kill a task only after its framework or an operator has asked
/// this master, for it or another of its task group, or when its framework uses its name on another agent; it removes a framework from an
/// agent only when the framework is removed; and a container ends by a signal only after its agent was asked.
///
/// At rest no framework is away for longer than its failover time-out, counted from when this master missed it.
#[derive(Debug, Default)]
pub(crate) struct Failover {
    streams: Streams,
    /// The id with which a stream wants to subscribe.
    wanted: BTreeMap<ConnId, FrameworkId>,
    /// Since when a framework is not connected, by the true time.
    away: BTreeMap<FrameworkId, Time>,
    /// Since when this master knows it, and as not connected; of those that it knew from its start, since then.
    missed: BTreeMap<FrameworkId, Time>,
    /// When this master started.
    master_since: Time,
    /// Removed by this master or an earlier one.
    removed: BTreeSet<FrameworkId>,
    /// Asked for in the decision under way.
    teardown: Option<FrameworkId>,
    /// Kills that this master was asked for.
    asked: BTreeSet<TaskKey>,
    asked_by_operators: BTreeSet<TaskId>,
    /// Kills that an agent was asked for.
    told: BTreeSet<(usize, TaskKey)>,
}

impl Check for Failover {
    fn name(&self) -> &'static str {
        "failover"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        let verdict = self.happens(world, happening);
        self.streams.observe(happening);
        verdict
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        for (id, view) in &world.view().frameworks {
            if view.state != FrameworkState::Disconnected {
                continue;
            }
            let timeout = view.info.failover_timeout;
            // One that stood in the registry alone has time to find its new master, however short its own is.
            let (missed, timeout) = match self.missed.get(id) {
                Some(missed) => (*missed, timeout),
                None => (self.master_since, timeout.max(limits::RECOVERED_FRAMEWORK_AWAY_MIN)),
            };
            let away = world.now.since(missed);
            if away > timeout + timeout / 500 + Duration::from_secs(1) {
                return Err(format!(
                    "framework {id} is away for {away:?}, and its failover time-out is {timeout:?}"
                ));
            }
        }
        Ok(())
    }
}

impl Failover {
    fn happens(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match *happening {
            Happening::Started(Process::Master) => self.master_since = world.now,
            Happening::Crashed(Process::Master) => {
                let active =
                    world.view().frameworks.iter().filter(|(_, view)| view.state == FrameworkState::Active);
                for (id, _) in active {
                    self.away.entry(id.clone()).or_insert(world.now);
                }
                self.asked.clear();
                self.asked_by_operators.clear();
                self.wanted.clear();
                self.missed.clear();
            }
            Happening::StreamEnded { conn } => {
                self.wanted.remove(&conn);
            }
            Happening::MasterHearsScheduler { conn, call, .. } => match call {
                Call::Subscribe { framework_id: Some(id), .. } => {
                    self.wanted.insert(conn, id.clone());
                }
                Call::Teardown => self.teardown = self.streams.framework(conn).cloned(),
                Call::Kill { task_id, .. } => {
                    if let Some(id) = self.streams.framework(conn) {
                        self.asked.extend(with_its_group(world, (id.clone(), task_id.clone())));
                    }
                }
                _ => {}
            },
            Happening::OperatorCalls { call } => match call {
                OperatorCall::KillTask { task_id, .. } => {
                    let named = world.view().tasks.keys().filter(|key| key.1 == *task_id).cloned();
                    let meant = named.flat_map(|key| with_its_group(world, key)).map(|(_, task_id)| task_id);
                    self.asked_by_operators.extend(meant);
                    self.asked_by_operators.insert(task_id.clone());
                }
                OperatorCall::TeardownFramework { framework_id } => {
                    self.teardown = Some(framework_id.clone())
                }
                _ => {}
            },
            Happening::MasterTellsScheduler { conn, event, .. } => {
                return self.master_tells(world, conn, event);
            }
            Happening::MasterTellsAgent { conn, message, .. } => {
                return self.master_asks(world, conn, message);
            }
            Happening::MasterDecided(changes) => return self.decided(world, changes),
            Happening::AgentHears { agent, message } => self.agent_hears(world, agent, message),
            Happening::Ended { agent, container, task, termination } => {
                let asked = self.told.remove(&(agent, task.clone()));
                let killed =
                    matches!(termination.exit, Some(Exit::Signal(_))) && termination.limitation.is_none();
                // Whoever lends takes back without being asked.
                let ended = world.agents[agent].machine.containers.get(container);
                let borrows = ended.is_some_and(|container| !container.resources.revocable().is_empty());
                // So does whoever was told how long a task may run, or when it does its work; `supervision` looks whether he was right.
                let supervised = ended.is_some_and(Container::may_be_ended);
                // And whoever launched a task group: `groups` looks whether it was to end.
                let grouped = ended.is_some_and(|container| container.grouped);
                // And whoever launched an executor or what it runs: they end together.
                let executed =
                    ended.is_some_and(|container| container.executor.is_some() || container.inside.is_some());
                if killed && !asked && !borrows && !supervised && !grouped && !executed {
                    return Err(format!(
                        "agent {agent} has killed container {container} of task {}, and was not asked to",
                        task.1
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn master_tells(&mut self, world: &World, conn: ConnId, event: &Event) -> Verdict {
        let Some(wanted) = self.wanted.get(&conn) else { return Ok(()) };
        match event {
            Event::Subscribed { framework_id, .. } if framework_id != wanted => {
                Err(format!("framework {wanted} returns, and is called {framework_id}"))
            }
            Event::Error { code: ErrorCode::Removed, .. } => {
                let frameworks = &world.view().frameworks;
                let removed = |id| frameworks.get(id).map(|view| view.state == FrameworkState::Removed);
                // Beyond the bound, what was removed is not listed any more.
                let forgets = frameworks.len() >= limits::COMPLETED_FRAMEWORKS_MAX;
                if removed(wanted).unwrap_or(forgets || self.removed.contains(wanted)) {
                    Ok(())
                } else {
                    Err(format!("framework {wanted} is told that it was removed, and was not"))
                }
            }
            _ => Ok(()),
        }
    }

    fn master_asks(&self, world: &World, conn: ConnId, message: &MasterMessage) -> Verdict {
        let view = world.view();
        match message {
            // Judged by the check of preemptions.
            MasterMessage::KillTask { reason: Reason::Preempted, .. } => Ok(()),
            MasterMessage::KillTask { framework_id, task_id, .. } => {
                let key = (framework_id.clone(), task_id.clone());
                let here = self.streams.agent(conn);
                let elsewhere = view.tasks.get(&key).is_some_and(|task| Some(&task.agent_id) != here);
                if self.asked.contains(&key) || self.asked_by_operators.contains(task_id) || elsewhere {
                    Ok(())
                } else {
                    Err(format!(
                        "the master has task {task_id} of {framework_id} killed, and nobody has asked for it"
                    ))
                }
            }
            MasterMessage::RemoveFramework { framework_id } => {
                let known = view.frameworks.get(framework_id);
                if known.is_none_or(|view| view.state == FrameworkState::Removed) {
                    Ok(())
                } else {
                    Err(format!(
                        "the master removes framework {framework_id} from an agent, and it is not removed"
                    ))
                }
            }
            _ => Ok(()),
        }
    }

    fn agent_hears(&mut self, world: &World, agent: usize, message: &MasterMessage) {
        match message {
            MasterMessage::KillTask { framework_id, task_id, .. } => {
                self.told.insert((agent, (framework_id.clone(), task_id.clone())));
            }
            MasterMessage::RemoveFramework { framework_id } => {
                let Some(core) = &world.agents[agent].core else { return };
                let tasks = core.view().tasks;
                let of_it = tasks.keys().filter(|key| key.0 == *framework_id);
                self.told.extend(of_it.map(|key| (agent, key.clone())));
            }
            message if ends_all(message) => {
                let Some(core) = &world.agents[agent].core else { return };
                self.told.extend(core.view().tasks.keys().map(|key| (agent, key.clone())));
            }
            _ => {}
        }
    }

    fn decided(&mut self, world: &World, changes: &Changes) -> Verdict {
        let teardown = self.teardown.take();
        for change in changes.tasks.iter().filter(|change| change.after.is_none()) {
            self.asked.remove(&change.key);
        }
        for Change { key: id, before, after } in &changes.frameworks {
            let state = after.as_ref().map(|view| view.state);
            let was = before.as_ref().map(|view| view.state);
            if state == Some(FrameworkState::Disconnected) {
                self.missed.entry(id.clone()).or_insert(world.now);
            } else {
                self.missed.remove(id);
            }
            if state == Some(FrameworkState::Active) {
                self.away.remove(id);
                continue;
            }
            if state == Some(FrameworkState::Removed) {
                self.removed.insert(id.clone());
            }
            // One that stood in the registry alone is away since the master that found it there began.
            let stood = was == Some(FrameworkState::Disconnected);
            let since = if stood { self.master_since } else { world.now };
            let away = *self.away.entry(id.clone()).or_insert(since);
            let Some(before) = before else { continue };
            if state == Some(FrameworkState::Removed) && was != state && teardown.as_ref() != Some(id) {
                let timeout = before.info.failover_timeout;
                // The master's clock may go a thousandth too fast.
                let least = timeout.saturating_sub(timeout / 500 + Duration::from_millis(1));
                let gone = world.now.since(away);
                if gone < least {
                    return Err(format!(
                        "framework {id} is removed after {gone:?}; its failover time-out is {timeout:?}, and nobody has torn it down"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// A task, and those of its task group that the master knows: whoever has one killed has all killed.
fn with_its_group(world: &World, key: TaskKey) -> Vec<TaskKey> {
    let tasks = &world.view().tasks;
    let group = |key: &TaskKey| tasks.get(key)?.info.group.as_ref().map(|group| &group.group_id);
    let of_key = group(&key);
    let others = tasks.keys().filter(|other| of_key.is_some() && other.0 == key.0 && group(other) == of_key);
    let mut all: Vec<TaskKey> = others.cloned().collect();
    all.push(key);
    all
}
