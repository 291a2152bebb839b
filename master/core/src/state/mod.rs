//! All that the master knows, and the doors through which it changes: offers, tasks, agents, frameworks.
//!
//! What readers may see lives in the maps of [`View`]; the private half of each thing stands beside it under the same key.

pub(crate) mod agents;
pub(crate) mod commits;
pub(crate) mod completed;
pub(crate) mod frameworks;
pub(crate) mod ids;
pub(crate) mod inverse_offers;
pub(crate) mod lost;
pub(crate) mod maintenance;
pub(crate) mod offers;
pub(crate) mod operations;
pub(crate) mod preemptions;
pub(crate) mod rates;
pub(crate) mod removed;
pub(crate) mod strays;
pub(crate) mod tasks;
pub(crate) mod timers;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use apportion_allocator::Allocator;
use apportion_types::{
    AgentId, FrameworkId, OfferId, Reason, Source, TaskId, TaskState, TaskStatus, Time, limits,
    protocol::scheduler::Event as SchedulerEvent, protocol::scheduler::Refusal, text::cut, timers::Timers,
};

use self::{
    agents::{Agent, AgentStream},
    commits::{Commits, Subscription},
    completed::Completed,
    frameworks::{Begun, Framework, SchedulerStream},
    ids::Ids,
    inverse_offers::InverseOffers,
    lost::LostAgents,
    maintenance::Planned,
    offers::ClosedOffers,
    operations::Operations,
    preemptions::Preemptions,
    rates::Rates,
    removed::RemovedIds,
    tasks::{Task, TaskKey},
    timers::Timer,
};
use crate::{
    config::Config,
    event::ConnId,
    recovered::{self, Recovered},
    turn::Turn,
    view::{AgentView, FrameworkState, FrameworkView, TaskView, View},
};

/// All that the master knows.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) view: View,
    pub(crate) allocator: Box<dyn Allocator>,
    pub(crate) ids: Ids,
    pub(crate) timers: Timers<Timer>,
    /// When the next allocation runs, once something has changed.
    pub(crate) allocate_at: Option<Time>,
    pub(crate) commits: Commits,
    /// The private half of `view.agents`.
    pub(crate) agents: BTreeMap<AgentId, Agent>,
    pub(crate) agent_streams: BTreeMap<ConnId, AgentStream>,
    /// The streams whose registration is being written, by agent.
    pub(crate) registering: BTreeMap<AgentId, ConnId>,
    /// Known agents by the names of their work directories, those that have one. Of copies on several machines the first is known by it.
    pub(crate) work_dirs: BTreeMap<String, AgentId>,
    /// Agents that cannot be reached or were removed, as far as they are remembered.
    pub(crate) lost: LostAgents,
    /// Agents that are being drained.
    pub(crate) draining: BTreeSet<AgentId>,
    /// Agents in the state `Recovered` that have not unregistered.
    pub(crate) awaited_agents: BTreeSet<AgentId>,
    /// How many of these are given up at once, when their time is over.
    pub(crate) given_up_at_once: usize,
    /// The private half of `view.frameworks`.
    pub(crate) frameworks: BTreeMap<FrameworkId, Framework>,
    pub(crate) scheduler_streams: BTreeMap<ConnId, SchedulerStream>,
    /// Of frameworks with several schedulers: those about to be subscribed, and those that stand by, in the order in which they came.
    pub(crate) subscribing: BTreeMap<FrameworkId, Begun>,
    pub(crate) stand_bys: BTreeMap<FrameworkId, VecDeque<Subscription>>,
    /// Removed frameworks that are still listed, oldest first.
    pub(crate) removed_frameworks: Vec<FrameworkId>,
    /// The ids of removed frameworks that the registry keeps.
    pub(crate) removed_ids: RemovedIds,
    /// Where to find what is in `view.completed`.
    pub(crate) completed: Completed,
    pub(crate) closed_offers: ClosedOffers,
    pub(crate) operations: Operations,
    /// Frameworks that are told what is free.
    pub(crate) free_watchers: BTreeSet<FrameworkId>,
    /// When they are told next, once something has changed.
    pub(crate) free_at: Option<Time>,
    pub(crate) preemptions: Preemptions,
    /// Outstanding offers that no cycle made.
    pub(crate) gathered_offers: BTreeSet<OfferId>,
    pub(crate) rates: Rates,
    pub(crate) planned: Planned,
    pub(crate) inverse_offers: InverseOffers,
    /// The process ends; whatever still comes in is the closing of streams.
    pub(crate) shut_down: bool,
}

impl State {
    pub(crate) fn new(
        config: Config,
        recovered: Recovered,
        allocator: Box<dyn Allocator>,
        now: Time,
    ) -> Self {
        if let Err(why) = recovered.judge(&config.master_id) {
            panic!("no registry can keep this: {why}");
        }
        let view = View { master_id: config.master_id.clone(), started_at: now, ..View::default() };
        let mut state = Self {
            ids: Ids::new(&config.master_id),
            config,
            view,
            allocator,
            timers: Timers::default(),
            allocate_at: None,
            commits: Commits::default(),
            agents: BTreeMap::new(),
            agent_streams: BTreeMap::new(),
            registering: BTreeMap::new(),
            work_dirs: BTreeMap::new(),
            lost: LostAgents::default(),
            draining: BTreeSet::new(),
            awaited_agents: BTreeSet::new(),
            given_up_at_once: recovered::given_up_at_once(recovered.awaited()),
            frameworks: BTreeMap::new(),
            scheduler_streams: BTreeMap::new(),
            subscribing: BTreeMap::new(),
            stand_bys: BTreeMap::new(),
            removed_frameworks: Vec::new(),
            removed_ids: RemovedIds::default(),
            completed: Completed::default(),
            closed_offers: ClosedOffers::default(),
            operations: Operations::default(),
            free_watchers: BTreeSet::new(),
            free_at: None,
            preemptions: Preemptions::default(),
            gathered_offers: BTreeSet::new(),
            rates: Rates::default(),
            planned: Planned::default(),
            inverse_offers: InverseOffers::default(),
            shut_down: false,
        };
        for (role, settings) in state.config.roles.clone() {
            state.set_role(role, settings);
        }
        state.recover(recovered);
        state
    }

    /// Lets those be known whom earlier masters knew.
    fn recover(&mut self, recovered: Recovered) {
        let Recovered { agents, removed_agents, frameworks, removed_frameworks, maintenance } = recovered;
        let now = self.view.started_at;
        self.recover_maintenance(&maintenance);
        for (id, info) in frameworks {
            // It did not leave, its master did, which it has to find again first.
            let away = info.failover_timeout.max(limits::RECOVERED_FRAMEWORK_AWAY_MIN);
            self.add_framework(now, &id, info, FrameworkState::Disconnected);
            self.timers.set(Timer::Failover(id.clone()), now + away);
            self.framework(&id).recorded = true;
        }
        self.removed_ids.extend(removed_frameworks);
        for (id, agent) in agents {
            self.recover_agent(&id, agent);
        }
        if !self.awaited_agents.is_empty() {
            self.timers.set(Timer::GiveUpRecovered, now + self.config.agent_reregister_timeout);
        }
        for (id, removed) in removed_agents {
            self.lost.recover(&id, Some(removed), removed.at, now);
        }
        if !self.lost.is_empty() {
            self.forget_agents_later(now);
        }
    }

    /// An agent as readers see it, to be changed; copied first when a reader holds it.
    pub(crate) fn agent_view(&mut self, id: &AgentId) -> &mut AgentView {
        Arc::make_mut(self.view.agents.get_mut(id).expect("the agent is known"))
    }

    /// An agent's private half.
    pub(crate) fn agent(&mut self, id: &AgentId) -> &mut Agent {
        self.agents.get_mut(id).expect("the agent is known")
    }

    /// A framework as readers see it, to be changed; copied first when a reader holds it.
    pub(crate) fn framework_view(&mut self, id: &FrameworkId) -> &mut FrameworkView {
        Arc::make_mut(self.view.frameworks.get_mut(id).expect("the framework is known"))
    }

    /// A framework's private half.
    pub(crate) fn framework(&mut self, id: &FrameworkId) -> &mut Framework {
        self.frameworks.get_mut(id).expect("the framework is known")
    }

    /// A task as readers see it, to be changed; copied first when a reader holds it.
    pub(crate) fn task_view(&mut self, key: &TaskKey) -> &mut TaskView {
        Arc::make_mut(self.view.tasks.get_mut(key).expect("the task is known"))
    }

    /// A task's private half.
    pub(crate) fn task(&mut self, key: &TaskKey) -> &mut Task {
        let framework = self.frameworks.get_mut(&key.0);
        framework.and_then(|framework| framework.tasks.get_mut(&key.1)).expect("the task is known")
    }

    /// A task's private half, if the task is known.
    pub(crate) fn private_task(&self, key: &TaskKey) -> Option<&Task> {
        self.frameworks.get(&key.0)?.tasks.get(&key.1)
    }

    /// The stream of a framework that is connected.
    pub(crate) fn scheduler_conn(&self, id: &FrameworkId) -> Option<ConnId> {
        self.frameworks.get(id)?.conn
    }

    /// The stream of an agent that is connected.
    pub(crate) fn agent_conn(&self, id: &AgentId) -> Option<ConnId> {
        self.agents.get(id)?.conn
    }

    /// Answers a call with a refusal.
    pub(crate) fn refuse(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        call_id: u64,
        code: Refusal,
        message: impl Into<String>,
    ) {
        self.view.counters.calls_refused += 1;
        turn.tell_scheduler(conn, SchedulerEvent::Refused { call_id, code, message: message.into() });
    }
}

/// A status that the master makes: sent once, never to be acknowledged.
pub(crate) fn master_status(
    now: Time,
    task_id: &TaskId,
    agent_id: Option<&AgentId>,
    state: TaskState,
    reason: Reason,
    message: impl Into<String>,
) -> TaskStatus {
    TaskStatus {
        task_id: task_id.clone(),
        agent_id: agent_id.cloned(),
        state,
        reason: Some(reason),
        source: Source::Master,
        message: cut(message.into(), limits::STATUS_MESSAGE_BYTES_MAX),
        at: now,
        update_id: None,
        container: None,
        findings: Default::default(),
        addresses: Vec::new(),
    }
}
