//! Agents: the one door by which one takes part, the one by which it is disconnected, and the one by which it goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use apportion_allocator::Inactive;
use apportion_types::{
    Activation, AgentId, AgentInfo, FrameworkId, OfferId, Place, Reason, Resources, TaskId, TaskState, Time,
    Unavailability, limits,
    operation::Conversion,
    protocol::{agent::MasterMessage, scheduler::Event as SchedulerEvent},
};

use super::{
    State, master_status,
    offers::Close,
    strays::Stray,
    tasks::{Step, TaskKey},
    timers::Timer,
};
use crate::{
    event::{CommitId, ConnId},
    recovered::{RecoveredAgent, RemovedAgent},
    turn::Turn,
    view::{AgentState, AgentView, FrameworkState},
};

/// An agent's stream that has spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AgentStream {
    /// Its registration is being written to the registry by this write.
    Registering(CommitId, AgentId),
    /// It speaks for an agent.
    Registered(AgentId),
    /// The master has ended it; what still comes is not heard.
    Closing,
}

/// The private half of an agent.
#[derive(Debug, Default)]
pub(crate) struct Agent {
    /// Its stream; present exactly when it is active.
    pub(crate) conn: Option<ConnId>,
    /// Where it is, for offers of it.
    pub(crate) place: Arc<Place>,
    /// Its tasks, the ended ones too while their end is not acknowledged.
    pub(crate) tasks: BTreeSet<TaskKey>,
    pub(crate) offers: BTreeSet<OfferId>,
    /// Tasks whose names are in use elsewhere, until they have ended.
    pub(crate) strays: BTreeMap<TaskKey, Stray>,
    /// Operations sent on its stream.
    pub(crate) applies_sent: u64,
    /// The number of the last ping.
    pub(crate) ping_sequence: u64,
    /// Pings since the last answer.
    pub(crate) pings_unanswered: u32,
    /// The write after which it counts as lost, unless it is heard before.
    pub(crate) losing: Option<CommitId>,
    /// It has unregistered or is gone, which is being written.
    pub(crate) leaving: bool,
    /// An operator has declared it gone, which is being written.
    pub(crate) gone: bool,
    /// Whether it is to be offered by what was asked last, which may be yet to be written.
    pub(crate) asked: Activation,
    /// The window of its machine: that which it is in, or the next.
    pub(crate) unavailability: Option<Unavailability>,
    /// The registry knows it as it is.
    pub(crate) recorded: bool,
    /// It has registered with this master, so that what it had of tasks is known.
    pub(crate) heard: bool,
    /// Tasks that this master does not know, and of which it has said that they are here and cannot be reached.
    pub(crate) said_unreachable: BTreeMap<FrameworkId, BTreeSet<TaskId>>,
}

/// How an agent goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It cannot be reached; it may return.
    Unreachable,
    /// It has unregistered, and never returns.
    Removed,
    /// An operator has declared it gone.
    Gone,
}

impl State {
    /// Adds an agent of an earlier master, which is yet to return. It is in no books of the allocator's until then.
    pub(crate) fn recover_agent(&mut self, id: &AgentId, recovered: RecoveredAgent) {
        let RecoveredAgent { info, unreachable, unreachable_at, activation } = recovered;
        if !info.work_dir_id.is_empty() {
            self.work_dirs.entry(info.work_dir_id.clone()).or_insert_with(|| id.clone());
        }
        let place = Arc::new(info.place());
        let unavailability = self.window_of(&info.hostname);
        let state = if unreachable { AgentState::Unreachable } else { AgentState::Recovered };
        let view = AgentView {
            agent_id: id.clone(),
            total: info.resources.clone(),
            info: Arc::new(info),
            revocable: Resources::new(),
            state,
            activation,
            registered_at: self.view.started_at,
            allocated: Default::default(),
            offered: Default::default(),
            tasks: 0,
        };
        self.view.agents.insert(id.clone(), Arc::new(view));
        let agent = Agent { place, unavailability, recorded: true, asked: activation, ..Agent::default() };
        self.agents.insert(id.clone(), agent);
        if matches!(activation, Activation::Draining(_)) {
            self.draining.insert(id.clone());
        }
        match unreachable {
            true => self.lost.recover(id, None, unreachable_at, self.view.started_at),
            false => {
                self.awaited_agents.insert(id.clone());
                self.allocator.expect_agent(id, &self.view.agents[id].total);
            }
        }
    }

    /// What was said to be unreachable on an agent is not there: it has returned without, or never will.
    pub(crate) fn settle_said_unreachable(
        &mut self,
        turn: &mut Turn<'_>,
        id: &AgentId,
        (state, reason): (TaskState, Reason),
        message: &str,
    ) {
        let said = std::mem::take(&mut self.agent(id).said_unreachable);
        let keys = said.into_iter().flat_map(|(framework, tasks)| {
            tasks.into_iter().map(move |task_id| (framework.clone(), task_id))
        });
        for key in keys {
            // Its framework may use the name again, here or elsewhere.
            let is_known = self.view.tasks.contains_key(&key);
            if !is_known && self.completed.find(&self.view, &key).is_none() {
                let status = master_status(turn.now, &key.1, Some(id), state, reason, message);
                self.tell_status(turn, &key.0, status);
            }
        }
    }

    /// The agent has returned, or never will.
    pub(crate) fn await_agent_no_more(&mut self, id: &AgentId) {
        self.allocator.expect_agent_no_more(id);
        if self.awaited_agents.remove(id) && self.awaited_agents.is_empty() {
            self.timers.cancel(&Timer::GiveUpRecovered);
        }
    }

    /// Lets an agent take part over this stream, as it now describes itself, with nothing charged on it: the caller charges
    /// the tasks that it names, then the others.
    pub(crate) fn activate_agent(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        id: &AgentId,
        info: AgentInfo,
        total: Resources,
    ) {
        let place = Arc::new(info.place());
        let info = Arc::new(info);
        self.forget_work_dir(id);
        let of_another =
            self.work_dirs.contains_key(&info.work_dir_id) && self.agent_in_work_dir(&info).is_none();
        if !info.work_dir_id.is_empty() && !of_another {
            self.work_dirs.insert(info.work_dir_id.clone(), id.clone());
        }
        if self.agents.contains_key(id) {
            assert!(
                self.agents[id].offers.is_empty(),
                "agent {id} is registered anew with offers outstanding"
            );
            let keys: Vec<TaskKey> = self.agents[id].tasks.iter().cloned().collect();
            for key in &keys {
                self.release_task(key);
            }
            self.drop_strays(id);
            if self.view.agents[id].state.takes_part() {
                self.allocator.remove_agent(id);
            }
            if !self.agents[id].heard {
                self.agent_view(id).registered_at = turn.now;
            }
            self.await_agent_no_more(id);
        } else {
            let view = AgentView {
                agent_id: id.clone(),
                info: info.clone(),
                total: Resources::new(),
                revocable: Resources::new(),
                state: AgentState::Active,
                activation: Activation::Active,
                registered_at: turn.now,
                allocated: Default::default(),
                offered: Default::default(),
                tasks: 0,
            };
            self.view.agents.insert(id.clone(), Arc::new(view));
            self.agents.insert(id.clone(), Agent::default());
        }
        self.allocator.add_agent(id, &place, &total);
        let unavailability = self.window_of(&info.hostname);
        self.lost.found(id);
        let view = self.agent_view(id);
        view.info = info;
        view.total = total;
        view.revocable = Resources::new(); // it says anew what it lends
        view.state = AgentState::Active;
        let agent = self.agent(id);
        agent.conn = Some(conn);
        agent.place = place;
        agent.unavailability = unavailability;
        agent.pings_unanswered = 0;
        agent.applies_sent = 0;
        agent.losing = None;
        agent.recorded = true;
        agent.heard = true;
        self.timers.cancel(&Timer::Reregister(id.clone()));
        self.timers.set(Timer::Ping(id.clone()), turn.now + self.config.agent_ping_interval);
        self.agent_streams.insert(conn, AgentStream::Registered(id.clone()));
        self.tell_allocator_activation(id);
        self.look_who_leaves(id);
    }

    /// The agent that is known by the work directory which `info` names, and on the same machine: whoever has a copy of it elsewhere is
    /// another.
    pub(crate) fn agent_in_work_dir(&self, info: &AgentInfo) -> Option<&AgentId> {
        let id = self.work_dirs.get(&info.work_dir_id)?;
        let known = &self.view.agents[id].info;
        (known.hostname == info.hostname && known.address == info.address).then_some(id)
    }

    fn forget_work_dir(&mut self, id: &AgentId) {
        let Some(known) = self.view.agents.get(id) else { return };
        if self.work_dirs.get(&known.info.work_dir_id) == Some(id) {
            self.work_dirs.remove(&known.info.work_dir_id);
        }
    }

    /// An operation was done with what the agent has; the allocator has been told.
    pub(crate) fn convert_agent(&mut self, id: &AgentId, conversion: &Conversion) {
        let view = self.agent_view(id);
        view.total = conversion.apply(&view.total).expect("it was judged that it can be done");
    }

    /// Begins an agent's books anew: with nothing charged on it, and no offer outstanding. Its tasks are to be charged by the caller.
    pub(crate) fn reset_agent(&mut self, id: &AgentId) {
        self.cancel_preemptions_on(id);
        let keys: Vec<TaskKey> = self.agents[id].tasks.iter().cloned().collect();
        for key in &keys {
            self.release_task(key);
        }
        self.allocator.remove_agent(id);
        let view = self.view.agents[id].clone();
        self.allocator.add_agent(id, &self.agents[id].place, &view.total);
        self.allocator.set_revocable(id, &view.revocable);
        self.tell_allocator_activation(id);
    }

    /// Ends the participation of an agent whose stream ended or was replaced; its tasks are believed to run on.
    pub(crate) fn disconnect_agent(&mut self, turn: &mut Turn<'_>, id: &AgentId) {
        self.agent(id).conn = None;
        self.agent_view(id).state = AgentState::Disconnected;
        self.cancel_preemptions_on(id);
        self.allocator.set_agent_inactive(id, Some(Inactive::Disconnected));
        self.close_offers_of_agent(turn, id, Close::AgentLost);
        self.look_who_leaves(id);
        self.timers.cancel(&Timer::Ping(id.clone()));
        let agent = &self.agents[id];
        if agent.losing.is_none() && !agent.leaving {
            self.timers.set(Timer::Reregister(id.clone()), turn.now + self.config.agent_reregister_timeout);
        }
    }

    /// Rescinds all offers of an agent.
    pub(crate) fn close_offers_of_agent(&mut self, turn: &mut Turn<'_>, id: &AgentId, close: Close) {
        while let Some(offer) = self.agents[id].offers.first().cloned() {
            self.close_offer(turn, &offer, close);
        }
    }

    /// Gives an agent up, or takes it out of the books for ever. The caller has written it to the registry.
    pub(crate) fn lose_agent(&mut self, turn: &mut Turn<'_>, id: &AgentId, loss: Loss, message: &str) {
        if let Some(conn) = self.agent(id).conn {
            self.disconnect_agent(turn, id);
            turn.close_agent(conn);
            self.agent_streams.insert(conn, AgentStream::Closing);
        }
        let was_listed = self.view.agents[id].state.takes_part();
        self.await_agent_no_more(id);
        self.look_who_leaves(id);
        self.timers.cancel(&Timer::Reregister(id.clone()));
        self.agent(id).losing = None;
        self.agent_view(id).state = AgentState::Unreachable;

        let (state, reason) = match loss {
            Loss::Unreachable => (TaskState::Unreachable, Reason::AgentUnreachable),
            Loss::Removed => (TaskState::Gone, Reason::AgentRemoved),
            Loss::Gone => (TaskState::GoneByOperator, Reason::AgentRemoved),
        };
        let last = loss != Loss::Unreachable;
        let keys: Vec<TaskKey> = self.agents[id].tasks.iter().cloned().collect();
        for key in &keys {
            let task = &self.view.tasks[key];
            if task.state.is_terminal() {
                // That it has ended is known, and how was to be told when something before it is acknowledged: nobody will tell it now. What has
                // not finished is gone, rather than killed or failed for a reason that nobody knows.
                let told = task.status.as_ref().is_some_and(|status| status.state.is_terminal());
                if last && !told {
                    let ended = task.state;
                    let state = if ended == TaskState::Finished { ended } else { state };
                    let status = master_status(turn.now, &key.1, Some(id), state, reason, message);
                    self.step_task(turn, key, Step { state: ended, status: Some(status), last });
                }
                continue;
            }
            // Nobody waits for a task of a removed framework: it is found again and killed should the agent return.
            let last = last || self.view.frameworks[&key.0].state == FrameworkState::Removed;
            let status = master_status(turn.now, &key.1, Some(id), state, reason, message);
            self.step_task(turn, key, Step { state, status: Some(status), last });
        }
        self.drop_strays(id);
        if last {
            self.settle_said_unreachable(turn, id, (state, reason), message);
            self.drop_operations(turn, id, Reason::AgentRemoved, message);
        }
        if was_listed {
            self.allocator.remove_agent(id);
        }
        if last {
            self.drop_agent(id);
        } else {
            self.view.counters.agents_unreachable += 1;
            self.forget_agents_later(turn.now);
        }
        for conn in self.connected_schedulers() {
            turn.tell_scheduler(
                conn,
                SchedulerEvent::AgentLost { agent_id: id.clone(), message: message.to_owned() },
            );
        }
    }

    /// Takes an agent that takes no part, and has no task that is not over, out of all that is known.
    fn drop_agent(&mut self, id: &AgentId) {
        self.forget_work_dir(id);
        self.draining.remove(id);
        self.agents.remove(id);
        self.view.agents.remove(id);
    }

    /// Remembers for a time that an agent was removed.
    pub(crate) fn remove_lost(&mut self, now: Time, id: &AgentId, removed: RemovedAgent) {
        self.lost.remove(id, removed, now);
        self.forget_agents_later(now);
    }

    /// Has what is known of lost agents forgotten one day.
    pub(crate) fn forget_agents_later(&mut self, now: Time) {
        if !self.timers.is_set(&Timer::ForgetAgents) {
            self.timers.set(Timer::ForgetAgents, now + limits::LOST_AGENTS_FORGOTTEN_INTERVAL);
        }
    }

    /// Forgets an agent that cannot be reached or was removed. Its tasks are nobody's any more; should it return, they are found again.
    pub(crate) fn forget_agent(&mut self, id: &AgentId) {
        self.lost.forget(id);
        let Some(agent) = self.agents.get(id) else { return };
        // What has ended is still to be acknowledged.
        let unended = agent.tasks.iter().filter(|key| !self.view.tasks[*key].state.is_terminal());
        let keys: Vec<TaskKey> = unended.cloned().collect();
        keys.iter().for_each(|key| self.complete_task(key));
        for (framework_id, operation_id) in self.operations.pending_on(id) {
            self.operations.forget(&framework_id, &operation_id);
        }
        self.drop_agent(id);
    }

    /// Lets an agent be offered, or not; the caller has written it to the registry. The one door by which that changes.
    pub(crate) fn set_activation(&mut self, turn: &mut Turn<'_>, id: &AgentId, activation: Activation) {
        let before = std::mem::replace(&mut self.agent_view(id).activation, activation);
        match activation {
            Activation::Draining(_) => _ = self.draining.insert(id.clone()),
            _ => _ = self.draining.remove(id),
        }
        let Some(conn) = self.agents[id].conn else { return };
        if activation != Activation::Active {
            self.cancel_preemptions_on(id);
            self.close_offers_of_agent(turn, id, Close::Deactivated);
        }
        self.tell_allocator_activation(id);
        if activation.drain() != before.drain() {
            turn.tell_agent(conn, MasterMessage::Drain(activation.drain()));
        }
    }

    /// Has the allocator go by whether an operator lets a connected agent be offered.
    fn tell_allocator_activation(&mut self, id: &AgentId) {
        let why = match self.view.agents[id].activation {
            Activation::Active => None,
            Activation::Deactivated => Some(Inactive::Deactivated),
            Activation::Draining(_) => Some(Inactive::Draining),
            Activation::Drained(_) => Some(Inactive::Drained),
        };
        self.allocator.set_agent_inactive(id, why);
    }
}
