//! Frameworks: the one door by which one takes part, the one by which it is disconnected, and the one by which it is removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use apportion_allocator::Wants;
use apportion_types::{
    AgentId, FrameworkId, FrameworkInfo, FrameworkOptions, GroupId, OfferId, Reason, Role, TaskId, TaskState,
    Time, limits, protocol::agent::MasterMessage,
};

use super::{
    State,
    agents::Agent,
    ids::Origin,
    master_status,
    offers::Close,
    tasks::{Step, Task, TaskKey},
    timers::Timer,
};
use crate::{
    event::ConnId,
    turn::Turn,
    view::{FrameworkState, FrameworkView},
};

/// A scheduler's stream that has called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SchedulerStream {
    /// Its subscription is being written to the registry.
    Subscribing,
    /// It speaks for a framework.
    Subscribed(FrameworkId),
    /// Another one does; it is next, or after others.
    StandingBy(FrameworkId),
    /// The master has ended it; what still comes is not heard.
    Closing,
}

/// A subscription of a framework with several schedulers that is being written to the registry.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) conn: ConnId,
    pub(crate) info: FrameworkInfo,
    /// The scheduler's name among those of its framework.
    pub(crate) stand_by: Option<String>,
}

/// The private half of a framework.
#[derive(Debug, Default)]
pub(crate) struct Framework {
    /// Its stream; present exactly when it is active.
    pub(crate) conn: Option<ConnId>,
    /// The private halves of its tasks.
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    /// How many tasks there are of each of its task groups.
    pub(crate) groups: BTreeMap<GroupId, usize>,
    /// How many tasks there are that name each executor.
    pub(crate) executed: BTreeMap<TaskId, usize>,
    pub(crate) offers: BTreeSet<OfferId>,
    /// How many of its tasks hold resources, those astray among them.
    pub(crate) holding: usize,
    /// The allocator knows it.
    pub(crate) in_allocator: bool,
    /// The registry knows it as it is; not so when it was learned from agents.
    pub(crate) recorded: bool,
    /// The number of the last message about the free state; none while it does not watch.
    pub(crate) free_version: Option<u64>,
}

impl State {
    /// Adds a framework that is not connected: disconnected with its failover time-out running, or known to be removed.
    pub(crate) fn add_framework(
        &mut self,
        now: Time,
        id: &FrameworkId,
        info: FrameworkInfo,
        state: FrameworkState,
    ) {
        assert!(state != FrameworkState::Active, "a framework becomes active by its stream");
        let failover_at = now + info.failover_timeout;
        let view = FrameworkView {
            framework_id: id.clone(),
            info: Arc::new(info),
            state,
            subscribed_at: now,
            suppressed: Vec::new(),
            options: Arc::default(),
            allocated: Default::default(),
            offered: Default::default(),
            tasks: 0,
            declined: BTreeMap::new(),
            decline_samples: Vec::new(),
            calls_rate_limited: 0,
            requests: BTreeMap::new(),
        };
        let before = self.view.frameworks.insert(id.clone(), Arc::new(view));
        assert!(before.is_none(), "framework {id} is added twice");
        self.frameworks.insert(id.clone(), Framework::default());
        if state == FrameworkState::Disconnected {
            self.list_in_allocator(id);
            self.timers.set(Timer::Failover(id.clone()), failover_at);
        } else {
            self.remember_removed(id);
        }
    }

    /// True of a framework that was removed, by this master or an earlier one: nobody subscribes with its id any more.
    pub(crate) fn is_removed(&self, id: &FrameworkId) -> bool {
        match self.view.frameworks.get(id) {
            Some(view) => view.state == FrameworkState::Removed,
            None => self.ids.framework_origin(id) == Origin::Ours || self.removed_ids.contains(id),
        }
    }

    /// Makes the allocator know a framework, inactive, unless it does. Whoever holds resources is in the allocator.
    pub(crate) fn list_in_allocator(&mut self, id: &FrameworkId) {
        if std::mem::replace(&mut self.framework(id).in_allocator, true) {
            return;
        }
        let view = self.view.frameworks[id].clone();
        let suppressed = view.suppressed.iter().cloned().collect();
        let wants = Wants { roles: &view.info.roles, suppressed: &suppressed, options: &view.options };
        self.allocator.add_framework(id, wants);
        self.allocator.set_framework_active(id, false);
    }

    /// Lets a disconnected framework take part over this stream, as it now describes itself.
    pub(crate) fn activate_framework(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        id: &FrameworkId,
        info: FrameworkInfo,
        suppressed: Vec<Role>,
        options: Box<FrameworkOptions>,
    ) {
        self.timers.cancel(&Timer::Failover(id.clone()));
        self.timers.set(Timer::Heartbeat(id.clone()), turn.now + self.config.scheduler_heartbeat);
        let view = self.framework_view(id);
        assert_eq!(view.state, FrameworkState::Disconnected, "framework {id} is activated");
        view.state = FrameworkState::Active;
        view.info = Arc::new(info);
        view.suppressed = suppressed;
        view.options = Arc::from(options);
        let framework = self.framework(id);
        framework.conn = Some(conn);
        framework.recorded = true;
        self.tell_allocator_wants(id);
        self.allocator.set_framework_active(id, true);
        self.scheduler_streams.insert(conn, SchedulerStream::Subscribed(id.clone()));
        self.ask_to_leave_anew(turn, id);
    }

    /// Has the allocator go by what the framework's view says that it wants.
    pub(crate) fn tell_allocator_wants(&mut self, id: &FrameworkId) {
        let view = self.view.frameworks[id].clone();
        let suppressed = view.suppressed.iter().cloned().collect();
        let wants = Wants { roles: &view.info.roles, suppressed: &suppressed, options: &view.options };
        self.allocator.set_framework_wants(id, wants);
    }

    /// Ends the participation of a framework whose stream ended or was replaced; its tasks run on.
    pub(crate) fn disconnect_framework(&mut self, turn: &mut Turn<'_>, id: &FrameworkId, close: Close) {
        self.framework(id).conn = None;
        self.stop_watching_free(id);
        self.cancel_preemptions_for(id);
        self.framework_view(id).requests.clear(); // it says anew what it waits for
        self.close_offers_of_framework(turn, id, close);
        self.ask_to_leave_anew(turn, id);
        let view = self.framework_view(id);
        view.state = FrameworkState::Disconnected;
        let failover_at = turn.now + view.info.failover_timeout;
        self.allocator.set_framework_active(id, false);
        self.timers.cancel(&Timer::Heartbeat(id.clone()));
        self.timers.set(Timer::Failover(id.clone()), failover_at);
    }

    fn close_offers_of_framework(&mut self, turn: &mut Turn<'_>, id: &FrameworkId, close: Close) {
        while let Some(offer) = self.frameworks[id].offers.first().cloned() {
            self.close_offer(turn, &offer, close);
        }
    }

    /// Removes a framework for ever and has its tasks killed. What they hold stays charged until their agents say that they have
    /// ended: it is in use until then. The caller writes it to the registry.
    pub(crate) fn remove_framework(&mut self, turn: &mut Turn<'_>, id: &FrameworkId) {
        if self.framework(id).conn.is_some() {
            self.disconnect_framework(turn, id, Close::FrameworkGone);
        }
        self.timers.cancel(&Timer::Failover(id.clone()));
        self.operations.forget_framework(id);
        self.framework_view(id).state = FrameworkState::Removed;
        self.ask_to_leave_anew(turn, id);

        let keys: Vec<TaskKey> =
            self.frameworks[id].tasks.keys().map(|task| (id.clone(), task.clone())).collect();
        let mut agents = BTreeSet::new();
        for key in &keys {
            let task = self.view.tasks[key].clone();
            agents.insert(task.agent_id.clone());
            if task.state.holds_resources() {
                let message = format!("framework {id} was removed");
                let status = master_status(
                    turn.now,
                    &key.1,
                    Some(&task.agent_id),
                    TaskState::Killing,
                    Reason::FrameworkRemoved,
                    message,
                );
                self.step_task(
                    turn,
                    key,
                    Step { state: TaskState::Killing, status: Some(status), last: false },
                );
            } else {
                // It has ended and nobody is left to acknowledge it, or its agent cannot be reached: should that return, the
                // task is found again and killed.
                self.complete_task(key);
            }
        }
        let astray =
            |(_, agent): &(&AgentId, &Agent)| agent.strays.keys().any(|(framework, _)| framework == id);
        agents.extend(self.agents.iter().filter(astray).map(|(agent, _)| agent.clone()));
        for conn in agents.iter().filter_map(|agent| self.agent_conn(agent)) {
            turn.tell_agent(conn, MasterMessage::RemoveFramework { framework_id: id.clone() });
        }
        self.retire_framework(id);
        self.remember_removed(id);
    }

    /// Takes a removed framework out of the allocator once its last task has ended.
    pub(crate) fn retire_framework(&mut self, id: &FrameworkId) {
        let framework = self.framework(id);
        if framework.holding == 0 && std::mem::replace(&mut framework.in_allocator, false) {
            self.allocator.remove_framework(id);
        }
    }

    /// Keeps a removed framework listed, and forgets the oldest without tasks beyond the bound.
    fn remember_removed(&mut self, id: &FrameworkId) {
        self.removed_frameworks.push(id.clone());
        if self.removed_frameworks.len() > limits::COMPLETED_FRAMEWORKS_MAX {
            let idle = self.removed_frameworks.iter().position(|old| {
                self.frameworks[old].tasks.is_empty() && self.frameworks[old].holding == 0 && old != id
            });
            if let Some(index) = idle {
                let old = self.removed_frameworks.remove(index);
                self.frameworks.remove(&old);
                self.view.frameworks.remove(&old);
            }
        }
    }

    /// The streams of all connected frameworks, in the order of their ids.
    pub(crate) fn connected_schedulers(&self) -> Vec<ConnId> {
        self.frameworks.values().filter_map(|framework| framework.conn).collect()
    }

    /// True when agents of an earlier master may still have tasks of this framework and be yet to return.
    pub(crate) fn awaits_agents_of(&self, now: Time, id: &FrameworkId) -> bool {
        let window_ends = self.view.started_at + self.config.agent_reregister_timeout;
        let awaits = now < window_ends || !self.awaited_agents.is_empty();
        self.ids.framework_origin(id) == Origin::Foreign && awaits
    }
}
