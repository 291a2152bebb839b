//! An agent registers: for the first time, again, or after a master that is no more.

use std::{collections::BTreeSet, sync::Arc};

use apportion_types::{
    AgentCapability, AgentId, AgentInfo, FrameworkId, Reason, Resources, TaskId, TaskState, TaskStatus, Time,
    UpdateId,
    protocol::agent::{AgentOperation, AgentTask, MasterMessage, RefuseCode},
};

use super::{agents::gone, maintenance::taken_down};
use crate::{
    action::RegistryOp,
    event::{CommitId, ConnId},
    recovered::{Cause, RemovedAgent},
    state::{
        State,
        agents::AgentStream,
        commits::{Registration, Then},
        ids::Origin,
        master_status,
        strays::Stray,
        tasks::{Charge, Step, TaskKey},
        timers::Timer,
    },
    turn::Turn,
    view::{AgentState, FrameworkState, TaskView},
};

/// An agent as it registers: what it is, and what it has.
pub(super) struct Has {
    pub(super) info: AgentInfo,
    pub(super) total: Resources,
    pub(super) tasks: Vec<AgentTask>,
    pub(super) operations: Vec<AgentOperation>,
}

/// What the tasks that an agent names lead to, to be told to it after Registered.
#[derive(Default)]
struct Named {
    /// The agent was unreachable until now, or may have been taken for that.
    given_up: bool,
    tasks: BTreeSet<TaskKey>,
    /// Those of them that were known before.
    resumed: Vec<TaskKey>,
    removed_frameworks: BTreeSet<FrameworkId>,
    acknowledged: Vec<(TaskKey, UpdateId)>,
    strays: Vec<TaskKey>,
}

impl State {
    pub(super) fn register(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        agent_id: Option<AgentId>,
        has: Has,
    ) {
        let Has { info, total, tasks, operations } = has;
        let agent_id = agent_id.or_else(|| self.given_before(&info));
        if agent_id.as_ref().is_some_and(|id| self.is_going(id)) {
            self.end_agent_stream(turn, conn);
            return turn.close_agent(conn);
        }
        if let Some(why) = self.why_down(&info.hostname) {
            return self.refuse_taken_down(turn, conn, (agent_id.as_ref(), &info), why);
        }
        if let Err((code, message)) = self.judge_registration(agent_id.as_ref(), &info, &total, &tasks) {
            return self.refuse_agent(turn, conn, code, message);
        }
        // A stream speaks for one agent; should it now name another, the first is disconnected.
        if let Some(AgentStream::Registered(before)) = self.agent_streams.get(&conn).cloned() {
            self.disconnect_agent(turn, &before);
        }
        let fresh = agent_id.is_none();
        let id = agent_id.unwrap_or_else(|| self.ids.agent());
        let superseded = self.registering.contains_key(&id);
        let older = self.registering.get(&id).copied().or_else(|| self.agent_conn(&id));
        if older.is_some_and(|other| other > conn) {
            let message = format!("agent {id} has registered on a stream that it opened after this one");
            return self.refuse_agent(turn, conn, RefuseCode::Replaced, message);
        }
        if let Some(known) = self.view.agents.get(&id)
            && known.state == AgentState::Active
            && known.info.hostname != info.hostname
        {
            let message = format!(
                "agent {id} is on {} and takes part, so this one on {} has a copy of its work directory; give it one of its own, or end \
                 that agent first if it has moved here",
                known.info.hostname, info.hostname
            );
            return self.refuse_agent(turn, conn, RefuseCode::Invalid, message);
        }
        if let Some(older) = older {
            let message =
                format!("agent {id} has registered on another stream; two must not share a work directory");
            self.refuse_agent(turn, older, RefuseCode::Replaced, message);
        }
        let unchanged = self.view.agents.get(&id).is_some_and(|known| {
            *known.info == info && known.state != AgentState::Unreachable && self.agents[&id].recorded
        });
        // It was heard: whoever was about to give it up does not.
        let losing = self.agents.get_mut(&id).is_some_and(|agent| agent.losing.take().is_some());
        if losing && !self.awaited_agents.contains(&id) {
            self.timers.set(Timer::Reregister(id.clone()), turn.now + self.config.agent_reregister_timeout);
        }
        let registration =
            Box::new(Registration { conn, agent_id: id.clone(), fresh, info, total, tasks, operations });
        if unchanged && !losing && !superseded {
            return self.admit_agent(turn, *registration);
        }
        let op = RegistryOp::AdmitAgent { agent_id: id.clone(), info: registration.info.clone() };
        let commit = self.commits.ask(turn, op, Then::Register(registration));
        self.agent_streams.insert(conn, AgentStream::Registering(commit, id.clone()));
        self.registering.insert(id, conn);
    }

    /// The id that was given to an agent which has registered before, and has ended without having it on its disk. What is believed on it is
    /// asked about, instead of being awaited for ever.
    fn given_before(&self, info: &AgentInfo) -> Option<AgentId> {
        let id = self.agent_in_work_dir(info)?;
        (!self.agents[id].leaving).then(|| id.clone())
    }

    /// The registry knows the agent as it wishes to be known.
    pub(super) fn registration_committed(
        &mut self,
        turn: &mut Turn<'_>,
        commit: CommitId,
        registration: Registration,
    ) {
        let Registration { conn, agent_id: id, fresh, info, total, tasks, .. } = &registration;
        let waiting =
            matches!(self.agent_streams.get(conn), Some(AgentStream::Registering(c, _)) if c == &commit);
        if self.registering.get(id) == Some(conn) {
            self.registering.remove(id);
        } else if self.registering.contains_key(id) {
            return; // a newer stream of the same agent is on its way
        }
        if *fresh && !waiting {
            // It has gone without ever hearing its id, so nobody can come back under it.
            let removed = RemovedAgent { at: Some(turn.now), cause: Cause::Left };
            self.remove_lost(turn.now, id, removed);
            let op = RegistryOp::RemoveAgent { agent_id: id.clone(), removed };
            self.commits.ask(turn, op, Then::Nothing);
            return;
        }
        if let Some(why) = self.why_down(&registration.info.hostname).filter(|_| waiting) {
            // Its machine was taken down during the write.
            self.refuse_taken_down(turn, *conn, (Some(id), info), why);
            if !self.agents.contains_key(id) {
                let removed = RemovedAgent { at: Some(turn.now), cause: Cause::TakenDown };
                self.remove_lost(turn.now, id, removed);
                let op = RegistryOp::RemoveAgent { agent_id: id.clone(), removed };
                self.commits.ask(turn, op, Then::Nothing);
            }
            return;
        }
        if waiting {
            // Things may have changed during the write: the agent or a framework may be removed.
            let judged = if *fresh { Ok(()) } else { self.judge_registration(Some(id), info, total, tasks) };
            match judged {
                Ok(()) => return self.admit_agent(turn, registration),
                Err((code, message)) => self.refuse_agent(turn, *conn, code, message),
            }
        }
        // The registry is ahead of what is known here.
        if let Some(known) = self.view.agents.get(id) {
            if known.state == AgentState::Unreachable && !self.agents[id].leaving {
                let op = RegistryOp::MarkUnreachable { agent_id: id.clone(), at: self.lost.since(id) };
                self.commits.ask(turn, op, Then::Nothing);
            }
            self.agent(id).recorded = false;
        }
    }

    fn admit_agent(&mut self, turn: &mut Turn<'_>, registration: Registration) {
        let Registration { conn, agent_id: id, info, total, tasks, operations, .. } = registration;
        // Of one that no registry knows any master before this one may have said that its tasks are unknown.
        let given_up = self.view.agents.get(&id).is_none_or(|known| known.state == AgentState::Unreachable);
        self.activate_agent(turn, conn, &id, info, total);
        let mut named = Named { given_up, ..Named::default() };
        for task in tasks {
            self.take_named_task(turn, &id, task, &mut named);
        }
        let missing_tasks = self.settle_missing_tasks(turn, &id, &named);
        let message = format!("agent {id} is registered again, without the task");
        self.settle_said_unreachable(turn, &id, (TaskState::Gone, Reason::AgentForgot), &message);
        let registered = MasterMessage::Registered {
            agent_id: id.clone(),
            master_id: self.config.master_id.clone(),
            ping_timeout: self.config.agent_ping_interval * self.config.agent_pings_missed_max.max(1),
            missing_tasks,
            drain: self.view.agents[&id].activation.drain(),
        };
        turn.tell_agent(conn, registered);
        self.take_named_operations(turn, conn, &id, operations);
        for framework_id in named.removed_frameworks {
            turn.tell_agent(conn, MasterMessage::RemoveFramework { framework_id });
        }
        for ((framework_id, task_id), update_id) in named.acknowledged {
            turn.tell_agent(conn, MasterMessage::AcknowledgeUpdate { framework_id, task_id, update_id });
        }
        for (framework_id, task_id) in named.strays {
            let reason = Reason::KilledByFramework;
            turn.tell_agent(conn, MasterMessage::KillTask { framework_id, task_id, grace: None, reason });
        }
        for key in named.resumed {
            let live = self.view.tasks.get(&key).is_some_and(|task| !task.state.is_terminal());
            if let Some(kill) = self.private_task(&key).filter(|_| live).and_then(|task| task.kill.clone()) {
                self.send_kill(turn, &key, &kill);
            }
        }
    }

    /// Brings what is known of one task in line with what its agent says.
    fn take_named_task(&mut self, turn: &mut Turn<'_>, id: &AgentId, reported: AgentTask, named: &mut Named) {
        let AgentTask { framework_id, framework_info, role, info, state, unacknowledged } = reported;
        // As it is in the books: what is compared with a copy of itself is not read.
        let framework_id = match self.frameworks.get_key_value(&framework_id) {
            Some((known, _)) => known.clone(),
            None => framework_id,
        };
        let key = (framework_id.clone(), info.task_id.clone());
        let unacknowledged = unacknowledged.map(|status| Arc::new(self.agent_status(id, status)));
        let update_id = unacknowledged.as_ref().and_then(|status| status.update_id);
        if let Some(update_id) = update_id
            && self.completed.is_acknowledged(&key, id, update_id)
        {
            // The acknowledgement was lost on the way. A new task of that name never arrived there.
            named.acknowledged.push((key, update_id));
            return;
        }
        if !self.frameworks.contains_key(&framework_id) {
            // One that was removed need not be listed any more, or never was by this master.
            let removed = self.is_removed(&framework_id);
            let known_as = if removed { FrameworkState::Removed } else { FrameworkState::Disconnected };
            self.add_framework(turn.now, &framework_id, framework_info, known_as);
        }
        let removed = self.view.frameworks[&framework_id].state == FrameworkState::Removed;
        if removed {
            named.removed_frameworks.insert(framework_id.clone());
        }
        match self.view.tasks.get(&key).map(|known| known.agent_id.clone()) {
            Some(elsewhere) if elsewhere != *id => {
                if state.is_terminal() {
                    // The name is in use again, so the framework has acknowledged this end, perhaps to another master.
                    named.acknowledged.extend(update_id.map(|update_id| (key, update_id)));
                    return;
                }
                if !self.view.tasks[&key].state.is_terminal() {
                    self.add_stray(id, &key, Stray { role, resources: info.resources.exclusive() });
                    named.strays.push(key);
                    return;
                }
                self.complete_elsewhere(turn, &key, &elsewhere);
            }
            Some(_) => {
                named.tasks.insert(key.clone());
                named.resumed.push(key.clone());
                self.task(&key).unacknowledged = unacknowledged;
                return self.resume_task(turn, id, &key, state, removed);
            }
            None => {}
        }
        if state.is_terminal() && (removed || update_id.is_none()) {
            return; // it has ended, and nobody waits for its end
        }
        let awaited = !named.given_up && self.awaits_agents_of(turn.now, &framework_id);
        if !removed && !state.is_terminal() && !awaited {
            // The framework may have been told that no such task is known, and have launched another in its place.
            let status = returned(turn.now, id, &key.1, state);
            self.tell_status(turn, &framework_id, status);
        }
        named.tasks.insert(key);
        let view = TaskView {
            framework_id,
            agent_id: id.clone(),
            role,
            info: Arc::new(info),
            state: if removed { TaskState::Killing } else { state },
            status: unacknowledged.clone(),
            accepted_at: turn.now,
        };
        self.add_task(view, unacknowledged.filter(|_| !removed), Charge::Free);
    }

    /// A task that is known on this agent is there.
    fn resume_task(
        &mut self,
        turn: &mut Turn<'_>,
        id: &AgentId,
        key: &TaskKey,
        reported: TaskState,
        removed: bool,
    ) {
        let known = self.view.tasks[key].state;
        let state = match (known, reported) {
            // Having been sent, it is about to be started.
            (TaskState::Unreachable, TaskState::Staging) => TaskState::Starting,
            _ => reported,
        };
        let status = (known == TaskState::Unreachable && !state.is_terminal())
            .then(|| returned(turn.now, id, &key.1, state));
        let last = state.is_terminal() && (removed || self.task(key).unacknowledged.is_none());
        self.step_task(turn, key, Step { state, status, last });
    }

    /// The older task of a name has ended on another agent, and its framework uses the name again.
    fn complete_elsewhere(&mut self, turn: &mut Turn<'_>, key: &TaskKey, agent_id: &AgentId) {
        let update_id = self.task(key).unacknowledged.as_ref().and_then(|status| status.update_id);
        if let (Some(conn), Some(update_id)) = (self.agent_conn(agent_id), update_id) {
            let (framework_id, task_id) = key.clone();
            turn.tell_agent(conn, MasterMessage::AcknowledgeUpdate { framework_id, task_id, update_id });
        }
        self.complete_task(key);
    }

    /// Decides about the tasks that are believed on an agent and that it did not name, and returns those that it is asked about.
    fn settle_missing_tasks(&mut self, turn: &mut Turn<'_>, id: &AgentId, named: &Named) -> Vec<TaskKey> {
        let missing: Vec<TaskKey> = self.agents[id].tasks.difference(&named.tasks).cloned().collect();
        let mut asked = Vec::new();
        for key in missing {
            let task = self.view.tasks[&key].clone();
            if self.view.frameworks[&key.0].state == FrameworkState::Removed {
                // It was to be killed, and the agent has it no more.
                self.step_task(turn, &key, Step { state: TaskState::Killed, status: None, last: true });
                continue;
            }
            let holds = task.state.holds_resources();
            let decided = if named.acknowledged.iter().any(|(older, _)| *older == key) {
                // The agent still has an older task of that name, so this one never got there; nor could it say so.
                let message = format!("agent {id} was disconnected before the task reached it");
                Some((TaskState::Dropped, Reason::AgentDisconnected, message))
            } else if holds && !self.allocator.free(id).contains(&task.info.resources.firm()) {
                // The agent has less to offer than before, and holds other tasks with it: this one cannot be there.
                let message =
                    format!("agent {id} is registered again, with fewer resources and without the task");
                Some((TaskState::Gone, Reason::AgentForgot, message))
            } else {
                None
            };
            match decided {
                Some((state, reason, message)) => {
                    let status = master_status(turn.now, &key.1, Some(id), state, reason, message);
                    self.step_task(turn, &key, Step { state, status: Some(status), last: true });
                }
                None => {
                    if holds {
                        self.charge_task(&key, Charge::Free);
                    }
                    asked.push(key);
                }
            }
        }
        asked
    }

    /// Judges a registration against itself and against what is known.
    fn judge_registration(
        &self,
        id: Option<&AgentId>,
        info: &AgentInfo,
        total: &Resources,
        tasks: &[AgentTask],
    ) -> Result<(), (RefuseCode, String)> {
        match id {
            Some(id) => self.judge_agent_id(id, info)?,
            None if !tasks.is_empty() => {
                let message = format!(
                    "the agent names {} tasks but no agent id; register with the id given before",
                    tasks.len()
                );
                return Err((RefuseCode::Invalid, message));
            }
            None => {}
        }
        let invalid = |message: String| Err((RefuseCode::Invalid, message));
        let mut keys = BTreeSet::new();
        let mut rest = total.clone();
        let believed = id.and_then(|id| self.agents.get(id)).map(|agent| &agent.tasks);
        for task in tasks {
            let what = || format!("task `{}` of framework {}", task.info.task_id, task.framework_id);
            let key = (task.framework_id.clone(), task.info.task_id.clone());
            if matches!(task.state, TaskState::Unreachable | TaskState::Unknown) {
                return invalid(format!(
                    "{} is reported as {}, which only a master can say",
                    what(),
                    task.state
                ));
            }
            let here = believed.is_some_and(|tasks| tasks.contains(&key));
            if here && !task.state.is_terminal() {
                let known = &self.view.tasks[&key];
                if known.state.is_terminal() {
                    return invalid(format!(
                        "{} has ended as {} and is reported as {}",
                        what(),
                        known.state,
                        task.state
                    ));
                }
                // The books have what was accepted; what is reported with less would leave room that is not there.
                if known.info.resources != task.info.resources {
                    return invalid(format!(
                        "{} was launched with {} and is reported with {}",
                        what(),
                        known.info.resources,
                        task.info.resources
                    ));
                }
            }
            if self.ids.framework_origin(&task.framework_id) == Origin::NeverGiven {
                return invalid(format!(
                    "{} is of a framework whose id was never given by this master",
                    what()
                ));
            }
            if task.state.holds_resources() {
                let needs = task.info.resources.firm();
                if !rest.contains(&needs) {
                    return invalid(format!(
                        "{} needs {}, but beside its other tasks the agent has {} of its total {}; missing {}",
                        what(),
                        task.info.resources,
                        rest,
                        total,
                        rest.missing(&needs)
                    ));
                }
                rest.saturating_sub(&needs);
            }
            if !keys.insert(key) {
                return invalid(format!("{} is named twice", what()));
            }
        }
        Ok(())
    }

    /// True of an agent of which it is being written that it is gone: it is told when that is so, and is to come again then.
    fn is_going(&self, id: &AgentId) -> bool {
        self.agents.get(id).is_some_and(|agent| agent.gone)
    }

    fn judge_agent_id(&self, id: &AgentId, info: &AgentInfo) -> Result<(), (RefuseCode, String)> {
        let leaving = self.agents.get(id).map(|agent| agent.leaving);
        match (leaving, self.lost.removed(id)) {
            (Some(false), _) => Ok(()),
            (None, Some(RemovedAgent { cause: Cause::Gone, .. })) => {
                Err(gone(id, info.capabilities.contains(&AgentCapability::Drain)))
            }
            (None, None) if self.ids.agent_origin(id) == Origin::NeverGiven => Err((
                RefuseCode::Invalid,
                format!("agent id {id} was never given by this master; register without an id"),
            )),
            (None, Some(RemovedAgent { cause: Cause::TakenDown, .. })) => {
                let why = format!(
                    "agent {id} was removed when its machine was taken down, and its id is never used again; end all tasks, and start the agent \
                     again"
                );
                Err((taken_down(info), why))
            }
            // Of one that was removed long ago nothing is known any more.
            (None, None) => Ok(()),
            (Some(true), _) | (None, Some(_)) => {
                let message = format!(
                    "agent {id} was removed and its id is never used again; end all tasks and register without an id"
                );
                Err((RefuseCode::Removed, message))
            }
        }
    }
}

/// What a framework is told of a task that it may have given up with its agent.
fn returned(now: Time, agent_id: &AgentId, task_id: &TaskId, state: TaskState) -> TaskStatus {
    let message = format!("agent {agent_id} is registered again");
    master_status(now, task_id, Some(agent_id), state, Reason::AgentReregistered, message)
}
