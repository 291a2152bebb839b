//! The laws that hold between two events, in builds with debug assertions. Breaking one is our bug.

mod maintenance;

use std::collections::{BTreeMap, BTreeSet};

use apportion_types::{Activation, AgentId, FrameworkId, Resources, TaskId, TaskState};

use crate::{
    state::{State, agents::AgentStream, frameworks::SchedulerStream, tasks::TaskKey, timers::Timer},
    view::{AgentState, FrameworkState},
};

/// Checks the laws after each event, in large clusters after some, so that the cost of an event stays bounded.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    events: u64,
    next: u64,
    /// Every task that was seen, and its state: to hold terminal ones to it.
    seen: BTreeMap<TaskKey, (AgentId, TaskState)>,
}

impl Checker {
    pub(crate) fn after_event(&mut self, state: &State) {
        self.events += 1;
        if self.events < self.next {
            return;
        }
        let view = &state.view;
        let size = view.agents.len() + view.tasks.len() + view.offers.len() + view.frameworks.len();
        self.next = self.events + 1 + size as u64 / 128;
        agents(state);
        frameworks(state);
        tasks(state);
        offers(state);
        maintenance::windows(state);
        maintenance::inverse_offers(state);
        streams(state);
        self.terminal_is_final(state);
    }

    fn terminal_is_final(&mut self, state: &State) {
        let now = state
            .view
            .tasks
            .iter()
            .map(|(key, task)| (key.clone(), (task.agent_id.clone(), task.state)))
            .collect();
        let before = std::mem::replace(&mut self.seen, now);
        for (key, (agent_id, old)) in before.iter().filter(|(_, (_, old))| old.is_terminal()) {
            // A task that was completed between two checks may have left its name to another.
            let completed = state.completed.find(&state.view, key).is_some();
            if let Some((_, new)) = self.seen.get(key).filter(|(agent, _)| agent == agent_id && !completed) {
                assert_eq!(new, old, "task {} of {} has ended and changes", key.1, key.0);
            }
        }
    }
}

/// Per agent, allocated + offered + free = total; and who is connected, is.
fn agents(state: &State) {
    assert!(state.view.agents.keys().eq(state.agents.keys()), "the halves of agents differ");
    for (id, view) in &state.view.agents {
        let agent = &state.agents[id];
        let (mut allocated, mut unended) = (Resources::new(), 0);
        for key in &agent.tasks {
            let task = state.view.tasks.get(key).expect("an agent's task is known");
            assert_eq!(task.agent_id, *id, "task {} stands with agent {id}", key.1);
            unended += usize::from(!task.state.is_terminal());
            if task.state.holds_resources() {
                add_apart(&mut allocated, &task.info.resources.exclusive(), id);
            }
        }
        for stray in agent.strays.values() {
            add_apart(&mut allocated, &stray.resources, id);
        }
        let mut offered = Resources::new();
        for offer in &agent.offers {
            add_apart(&mut offered, &state.view.offers[offer].offer.resources.exclusive(), id);
        }
        assert_eq!(view.allocated, allocated, "what tasks hold of agent {id}");
        assert_eq!(view.offered, offered, "what is offered of agent {id}");
        assert_eq!(view.tasks, unended, "tasks of agent {id}");
        assert_eq!(agent.conn.is_some(), view.state == AgentState::Active, "the stream of agent {id}");
        assert!(
            view.state == AgentState::Active || offered.is_empty(),
            "agent {id} is offered and not active"
        );
        let may_be_offered = view.activation == Activation::Active;
        assert!(may_be_offered || offered.is_empty(), "agent {id} is offered and {}", view.activation.name());
        let draining = matches!(view.activation, Activation::Draining(_));
        assert_eq!(state.draining.contains(id), draining, "agent {id} is {}", view.activation.name());
        let lost = view.state == AgentState::Unreachable;
        assert_eq!(state.lost.since(id).is_some(), lost, "agent {id} is lost, or is not");
        assert!(state.lost.removed(id).is_none(), "agent {id} was removed and is there");
        if !view.state.takes_part() {
            assert!(allocated.is_empty(), "agent {id} takes no part and holds tasks to resources");
        } else {
            let free = state.allocator.free(id);
            let mut sum = free.exclusive();
            add_apart(&mut sum, &allocated, id);
            add_apart(&mut sum, &offered, id);
            state.preemptions.held_on(id).for_each(|held| add_apart(&mut sum, held, id));
            // What is lent may be called back while it is in use.
            assert_eq!(
                sum.firm(),
                view.total.exclusive(),
                "agent {id}: free {free}, held {allocated}, offered {offered}"
            );
        }
        let set = |timer| state.timers.is_set(&timer);
        let awaited = set(Timer::Reregister(id.clone()));
        let decided = agent.losing.is_some() || agent.leaving;
        match view.state {
            AgentState::Active => {
                assert!(set(Timer::Ping(id.clone())) != decided && !awaited, "timers of agent {id}")
            }
            AgentState::Disconnected => assert!(awaited != decided, "timers of disconnected agent {id}"),
            AgentState::Unreachable | AgentState::Recovered => {
                assert!(!awaited, "timers of agent {id}, which takes no part");
            }
        }
        assert_eq!(
            state.awaited_agents.contains(id),
            view.state == AgentState::Recovered && !agent.leaving,
            "agent {id} is awaited"
        );
    }
    let forgets = state.timers.is_set(&Timer::ForgetAgents);
    assert!(forgets || state.lost.is_empty(), "lost agents are remembered for ever");
    let known = |id| state.view.agents.contains_key(id);
    assert!(state.draining.iter().all(known), "an agent is drained that is not known");
    assert!(state.awaited_agents.iter().all(known), "an agent is awaited that is not known");
    assert_eq!(
        state.timers.is_set(&Timer::GiveUpRecovered),
        !state.awaited_agents.is_empty(),
        "recovered agents are awaited for ever, or none is"
    );
}

/// Adds what must not be in the sum yet: a port is held once.
fn add_apart(sum: &mut Resources, more: &Resources, id: &AgentId) {
    let before = sum.clone();
    *sum += more;
    assert_eq!(sum.checked_sub(more), Some(before), "{more} of agent {id} is counted twice");
}

/// What a framework holds and is offered is the sum over its tasks and offers, here and in the allocator.
fn frameworks(state: &State) {
    assert!(state.view.frameworks.keys().eq(state.frameworks.keys()), "the halves of frameworks differ");
    let mut shares: BTreeMap<FrameworkId, Resources> = BTreeMap::new();
    for share in state.allocator.shares() {
        if let Some(id) = share.framework {
            *shares.entry(id).or_default() += &share.allocated;
        }
    }
    let mut strays: BTreeMap<&FrameworkId, Vec<&Resources>> = BTreeMap::new();
    for (key, stray) in state.agents.values().flat_map(|agent| &agent.strays) {
        strays.entry(&key.0).or_default().push(&stray.resources);
    }
    for (id, view) in &state.view.frameworks {
        let framework = &state.frameworks[id];
        let (mut allocated, mut unended, mut holding) = (Resources::new(), 0, 0);
        for task in framework.tasks.keys() {
            let task =
                state.view.tasks.get(&(id.clone(), task.clone())).expect("a framework's task is known");
            unended += usize::from(!task.state.is_terminal());
            if task.state.holds_resources() {
                holding += 1;
                allocated += &task.info.resources.exclusive().summable();
            }
        }
        for resources in strays.remove(id).unwrap_or_default() {
            holding += 1;
            allocated += &resources.exclusive().summable();
        }
        let offers = framework.offers.iter().map(|offer| &state.view.offers[offer].offer.resources);
        let offered = offers.fold(Resources::new(), |sum, each| sum + &each.exclusive().summable());
        assert_eq!(view.allocated, allocated, "what tasks of framework {id} hold");
        assert_eq!(view.offered, offered, "what framework {id} is offered");
        assert_eq!(view.tasks, unended, "tasks of framework {id}");
        assert_eq!(framework.holding, holding, "tasks of framework {id} that hold resources");
        let share = shares.remove(id).unwrap_or_default();
        let held: Resources = state.preemptions.held_for(id).sum();
        assert_eq!(
            share,
            (allocated + &offered + &held).plain(),
            "what the allocator counts for framework {id}"
        );
        assert_eq!(
            framework.conn.is_some(),
            view.state == FrameworkState::Active,
            "the stream of framework {id}"
        );
        assert!(
            view.state == FrameworkState::Active || framework.offers.is_empty(),
            "framework {id} is offered"
        );
        assert!(
            view.state == FrameworkState::Removed || framework.in_allocator,
            "framework {id} is not allocated to"
        );
        assert!(
            view.state != FrameworkState::Removed || framework.in_allocator == (holding > 0),
            "{id} is retired"
        );
        let set = |timer| state.timers.is_set(&timer);
        assert_eq!(
            set(Timer::Failover(id.clone())),
            view.state == FrameworkState::Disconnected,
            "failover of {id}"
        );
        assert_eq!(
            set(Timer::Heartbeat(id.clone())),
            view.state == FrameworkState::Active,
            "heartbeat of {id}"
        );
    }
    assert!(strays.is_empty(), "tasks are astray of frameworks that are not known");
    for (id, share) in shares {
        assert!(share.is_empty(), "the allocator counts {share} for {id}, which is not known");
    }
}

/// Every task's resources are counted exactly while it holds them.
fn tasks(state: &State) {
    let halves: usize = state.frameworks.values().map(|framework| framework.tasks.len()).sum();
    assert_eq!(state.view.tasks.len(), halves, "the halves of tasks differ");
    for (key, view) in &state.view.tasks {
        let Some(task) = state.private_task(key) else { panic!("task {} is not with its framework", key.1) };
        assert_eq!(
            task.charged,
            view.state.holds_resources(),
            "task {} of {} in {}",
            key.1,
            key.0,
            view.state
        );
        match state.agents.get(&view.agent_id) {
            Some(agent) => assert!(agent.tasks.contains(key), "task {} is not with its agent", key.1),
            None => assert!(view.state.is_terminal(), "task {} lives on a removed agent", key.1),
        }
        assert!(view.state != TaskState::Unknown, "task {} is unknown", key.1);
    }
    for (id, framework) in &state.frameworks {
        let info = |task_id: &TaskId| state.view.tasks[&(id.clone(), task_id.clone())].info.clone();
        let (mut groups, mut executed) = (BTreeMap::new(), BTreeMap::new());
        for info in framework.tasks.keys().map(info) {
            if let Some(group) = &info.group {
                *groups.entry(group.group_id.clone()).or_default() += 1;
            }
            if let Some(executor) = info.executor() {
                *executed.entry(executor.clone()).or_default() += 1;
            }
        }
        assert_eq!(groups, framework.groups, "the tasks of each task group of {id}");
        assert_eq!(executed, framework.executed, "the tasks of each executor of {id}");
    }
    let ended = state.view.completed.values().all(|task| !task.state.holds_resources());
    assert!(ended, "a completed task holds resources");
}

/// Every offer stands with its agent and its framework, has its timer, and is counted once when made and once when closed.
fn offers(state: &State) {
    for (id, view) in &state.view.offers {
        assert!(state.agents[&view.offer.agent_id].offers.contains(id), "offer {id} is not with its agent");
        assert!(
            state.frameworks[&view.offer.framework_id].offers.contains(id),
            "offer {id} is not with its framework"
        );
        assert!(state.timers.is_set(&Timer::Offer(id.clone())), "offer {id} has no end");
    }
    let counters = &state.view.counters;
    let closed = counters.offers_accepted + counters.offers_declined + counters.offers_rescinded;
    assert_eq!(
        counters.offers_made,
        closed + state.view.offers.len() as u64,
        "offers made, closed and outstanding"
    );
    let of_agents: usize = state.agents.values().map(|agent| agent.offers.len()).sum();
    let of_frameworks: usize = state.frameworks.values().map(|framework| framework.offers.len()).sum();
    assert_eq!(
        (of_agents, of_frameworks),
        (state.view.offers.len(), state.view.offers.len()),
        "offers in the books"
    );
}

/// A stream speaks for one peer, and a peer has one stream.
fn streams(state: &State) {
    let mut seen = BTreeSet::new();
    for (conn, stream) in &state.scheduler_streams {
        if let SchedulerStream::Subscribed(id) = stream {
            assert_eq!(state.frameworks[id].conn, Some(*conn), "the stream of framework {id}");
            assert!(seen.insert(id.as_str()), "framework {id} has two streams");
        }
    }
    let standing = state.scheduler_streams.iter().filter_map(|(conn, stream)| match stream {
        SchedulerStream::StandingBy(id) => Some((id, *conn)),
        _ => None,
    });
    let in_line =
        state.stand_bys.iter().flat_map(|(id, line)| line.iter().map(move |waiting| (id, waiting.conn)));
    assert_eq!(
        standing.collect::<BTreeSet<_>>(),
        in_line.collect::<BTreeSet<_>>(),
        "who stands by is in line"
    );
    for id in state.stand_bys.keys() {
        let led = state.frameworks.get(id).is_some_and(|framework| framework.conn.is_some());
        assert!(led || state.subscribing.contains_key(id), "framework {id} is led while others stand by");
    }
    for (conn, stream) in &state.agent_streams {
        match stream {
            AgentStream::Registered(id) => {
                assert_eq!(state.agents[id].conn, Some(*conn), "the stream of agent {id}");
                assert!(seen.insert(id.as_str()), "agent {id} has two streams");
            }
            AgentStream::Registering(_, id) => {
                assert_eq!(state.registering.get(id), Some(conn), "the registering stream of agent {id}");
            }
            AgentStream::Closing => {}
        }
    }
    for (work_dir, id) in &state.work_dirs {
        assert_eq!(state.view.agents[id].info.work_dir_id, *work_dir, "the work directory of agent {id}");
    }
    for (id, conn) in &state.registering {
        let stands =
            matches!(state.agent_streams.get(conn), Some(AgentStream::Registering(_, other)) if other == id);
        assert!(stands, "agent {id} registers over a stream that does not");
    }
}
