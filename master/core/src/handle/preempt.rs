//! Preemption: a role of higher priority that waits for what nobody has free gets it from roles of lower priority, after a notice.
//!
//! Who waits has said so ([`Request`](apportion_types::protocol::scheduler::Call::Request)), and an operator gave its role a priority.
//! What is given back on the agent meanwhile is gathered for it, by whomever; what is still missing after the grace is taken.

use std::collections::{BTreeMap, BTreeSet};

use apportion_allocator::Allocation;
use apportion_types::{
    AgentId, FrameworkId, GroupId, Reason, Resources, Role, TaskId, limits,
    protocol::scheduler::{Event as SchedulerEvent, Preemption as Notice, ResourceRequest},
};

use crate::{
    state::{State, preemptions::Preemption, tasks::TaskKey, timers::Timer},
    turn::Turn,
    view::{AgentView, FrameworkState},
};

impl State {
    fn priority(&self, role: &Role) -> i32 {
        self.view.roles.get(role).map_or(0, |settings| settings.priority)
    }

    /// Begins what preemptions are called for now.
    pub(super) fn plan_preemptions(&mut self, turn: &mut Turn<'_>) {
        self.preemptions.planned_at = Some(turn.now);
        let mut waiting: Vec<(i32, FrameworkId, Role, ResourceRequest)> = Vec::new();
        let lowest = self.view.roles.values().map(|settings| settings.priority).min().unwrap_or(0).min(0);
        for (id, view) in self.view.frameworks.iter().filter(|(_, view)| view.state == FrameworkState::Active)
        {
            for (role, requests) in view
                .requests
                .iter()
                .filter(|(role, _)| !view.suppressed.contains(role) && self.priority(role) > lowest)
            {
                let each = requests
                    .iter()
                    .map(|request| (-self.priority(role), id.clone(), role.clone(), request.clone()));
                waiting.extend(each);
            }
        }
        waiting.sort_by(|a, b| (a.0, &a.1, &a.2).cmp(&(b.0, &b.1, &b.2)));
        // When there are too many for one look, each has its turn.
        let first = match waiting.len() > limits::PREEMPTION_SEARCHES_MAX {
            true => self.preemptions.turn % waiting.len(),
            false => 0,
        };
        waiting.rotate_left(first);
        let mut searches = limits::PREEMPTION_SEARCHES_MAX;
        for (done, (_, id, role, request)) in waiting.iter().enumerate() {
            if searches == 0 {
                return self.preemptions.turn = first + done;
            }
            self.preempt_for(turn, id, role, request, &mut searches);
        }
        self.preemptions.turn = 0;
    }

    fn preempt_for(
        &mut self,
        turn: &mut Turn<'_>,
        id: &FrameworkId,
        role: &Role,
        request: &ResourceRequest,
        searches: &mut usize,
    ) {
        while *searches > 0 {
            let own: Vec<&Preemption> =
                self.preemptions.active.values().filter(|one| one.framework_id == *id).collect();
            let same = own.iter().filter(|one| one.role == *role && one.wanted == request.resources).count();
            if same >= request.count as usize || own.len() >= limits::PREEMPTIONS_PER_FRAMEWORK_MAX {
                return;
            }
            *searches -= 1;
            if self.could_have(id, role, &request.resources) {
                return;
            }
            let Some((agent_id, victims)) = self.choose_victims(id, role, &request.resources) else { return };
            self.begin_preemption(turn, id, role, &request.resources, agent_id, victims);
        }
    }

    /// True when the framework is offered what it waits for, or it is free for it.
    fn could_have(&self, id: &FrameworkId, role: &Role, wanted: &Resources) -> bool {
        let offered = self.frameworks[id].offers.iter().any(|offer| {
            let offer = &self.view.offers[offer].offer;
            offer.role == *role && offer.resources.plain().contains(wanted)
        });
        offered
            || self.agents_for(id, role).any(|(agent_id, _)| self.open_on(agent_id, role).contains(wanted))
    }

    /// What is free on an agent for a role, on no terms.
    fn open_on(&self, agent_id: &AgentId, role: &Role) -> Resources {
        firm_for(&self.allocator.free(agent_id), role).plain()
    }

    /// The agents that are in use and that the framework's constraints admit.
    fn agents_for<'a>(
        &'a self,
        id: &'a FrameworkId,
        role: &'a Role,
    ) -> impl Iterator<Item = (&'a AgentId, &'a AgentView)> {
        let constraints = self.view.frameworks[id].options.constraints.get(role);
        self.view.agents.iter().map(|(id, view)| (id, &**view)).filter(move |(id, view)| {
            view.is_in_use()
                && constraints.is_none_or(|constraints| constraints.admit(&self.agents[*id].place))
        })
    }

    /// The agent on which the least has to go, and what: few tasks before many, tasks of low priority before others, the youngest
    /// first, and what an executor runs before the executor.
    fn choose_victims(
        &self,
        id: &FrameworkId,
        role: &Role,
        wanted: &Resources,
    ) -> Option<(AgentId, Vec<TaskKey>)> {
        let taken: BTreeSet<&TaskKey> =
            self.preemptions.active.values().flat_map(|one| &one.victims).collect();
        let priority = self.priority(role);
        let mut best: Option<(usize, i32, AgentId, Vec<TaskKey>)> = None;
        for (agent_id, _) in self.agents_for(id, role) {
            let mut candidates: Vec<_> = self
                .apart(&self.agents[agent_id].tasks, &taken)
                .into_iter()
                .map(|keys| {
                    let task = &self.view.tasks[keys[0]];
                    let highest = keys.iter().map(|key| self.priority(&self.view.tasks[*key].role)).max();
                    let youngest = std::cmp::Reverse(task.accepted_at);
                    (highest.expect("none is empty"), youngest, task.info.is_executor(), keys)
                })
                .filter(|(of_task, ..)| *of_task < priority)
                .collect();
            candidates.sort();
            // What is ending already needs no notice. Where that is enough, it is waited for.
            let mut open = self.open_on(agent_id, role);
            for key in self.agents[agent_id].tasks.iter().filter(|key| self.is_ending(key)) {
                open += &firm_for(&self.view.tasks[key].info.resources, role).plain();
            }
            if open.contains(wanted) {
                return None;
            }
            let mut victims: Vec<(i32, Vec<&TaskKey>, Resources)> = Vec::new();
            for (of_task, _, _, mut keys) in candidates {
                // Of what an executor runs some may have been chosen, or be chosen with it.
                keys.retain(|key| !victims.iter().any(|(_, chosen, _)| chosen.contains(key)));
                let missing = open.missing(wanted);
                if missing.is_empty() {
                    break;
                }
                let freed = |key: &&TaskKey| firm_for(&self.view.tasks[*key].info.resources, role).plain();
                let freed: Resources = keys.iter().map(freed).fold(Resources::new(), |sum, each| sum + &each);
                if missing.missing(&freed) != freed {
                    open += &freed;
                    victims.push((of_task, keys, freed));
                }
            }
            if !open.contains(wanted) || victims.is_empty() {
                continue;
            }
            // What was taken first may have become needless by what was taken later.
            for index in (0..victims.len()).rev() {
                let without = open.checked_sub(&victims[index].2).expect("it was added");
                if without.contains(wanted) && !self.goes_with_another(index, &victims) {
                    open = without;
                    victims.remove(index);
                }
            }
            let highest = victims.iter().map(|(of_task, ..)| *of_task).max().unwrap_or(i32::MIN);
            let cost = (victims.iter().map(|(_, keys, _)| keys.len()).sum::<usize>(), highest);
            if best.as_ref().is_none_or(|(count, priority, ..)| cost < (*count, *priority)) {
                let keys = victims.into_iter().flat_map(|(_, keys, _)| keys).cloned().collect();
                best = Some((cost.0, cost.1, agent_id.clone(), keys));
            }
        }
        best.map(|(_, _, agent_id, victims)| (agent_id, victims))
    }

    /// True when what was chosen here ends all the same with an executor that was chosen elsewhere.
    fn goes_with_another(&self, index: usize, victims: &[(i32, Vec<&TaskKey>, Resources)]) -> bool {
        let executors = victims[index].1.iter().filter_map(|key| self.executor_of(key));
        let elsewhere = |executor: &TaskKey| {
            let others = victims.iter().enumerate().filter(|(other, _)| *other != index);
            others.flat_map(|(_, (_, keys, _))| keys).any(|key| *key == executor)
        };
        executors.into_iter().any(|executor| elsewhere(&executor))
    }

    /// What could be preempted of an agent's tasks, each with those that end when it does: a task group goes as a whole, and an executor
    /// with what it runs; of that any may go alone.
    fn apart<'a>(&self, tasks: &'a BTreeSet<TaskKey>, taken: &BTreeSet<&TaskKey>) -> Vec<Vec<&'a TaskKey>> {
        let mut alone = Vec::new();
        let mut groups: BTreeMap<(&FrameworkId, GroupId), Vec<&TaskKey>> = BTreeMap::new();
        let open = |key: &&TaskKey| {
            self.view.tasks[*key].state.holds_resources() && !taken.contains(*key) && !self.is_ending(key)
        };
        for key in tasks.iter().filter(open) {
            let info = &self.view.tasks[key].info;
            match &info.group {
                Some(group) => groups.entry((&key.0, group.group_id.clone())).or_default().push(key),
                None if info.is_executor() => {
                    let runs = |task: &&TaskKey| self.executor_of(task).as_ref() == Some(key);
                    alone.push(std::iter::once(key).chain(tasks.iter().filter(open).filter(runs)).collect());
                }
                None => alone.push(vec![key]),
            }
        }
        alone.extend(groups.into_values());
        alone
    }

    /// True for a task that is asked to end, itself or by its executor, and still holds resources.
    pub(super) fn is_ending(&self, key: &TaskKey) -> bool {
        let asked = |key: &TaskKey| self.private_task(key).is_some_and(|task| task.kill.is_some());
        self.view.tasks[key].state.holds_resources()
            && (asked(key) || self.executor_of(key).is_some_and(|executor| asked(&executor)))
    }

    fn executor_of(&self, key: &TaskKey) -> Option<TaskKey> {
        let executor = self.view.tasks[key].info.executor()?;
        Some((key.0.clone(), executor.clone()))
    }

    /// Tells the victims' frameworks, and begins to gather.
    fn begin_preemption(
        &mut self,
        turn: &mut Turn<'_>,
        id: &FrameworkId,
        role: &Role,
        wanted: &Resources,
        agent_id: AgentId,
        victims: Vec<TaskKey>,
    ) {
        let at = turn.now + self.config.preemption_grace;
        let number = self.preemptions.begin(Preemption {
            framework_id: id.clone(),
            role: role.clone(),
            wanted: wanted.clone(),
            agent_id,
            victims,
            at,
            held: Resources::new(),
        });
        self.timers.set(Timer::Preempt(number), at);
        self.give_notice(turn, number, |_| true);
        self.gather(turn, number);
    }

    /// Tells a framework that was away of what is about to be preempted of it.
    pub(super) fn repeat_notices(&mut self, turn: &mut Turn<'_>, id: &FrameworkId) {
        let pending = |(_, one): &(&u64, &Preemption)| one.at > turn.now;
        let numbers: Vec<u64> =
            self.preemptions.active.iter().filter(pending).map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| self.give_notice(turn, number, |of| of == id));
    }

    /// Tells those of the victims' frameworks that are meant and connected.
    fn give_notice(&self, turn: &mut Turn<'_>, number: u64, meant: impl Fn(&FrameworkId) -> bool) {
        let one = &self.preemptions.active[&number];
        let mut of: BTreeMap<&FrameworkId, (Resources, Vec<TaskId>)> = BTreeMap::new();
        for key in one.victims.iter().filter(|key| meant(&key.0)) {
            let Some(task) = self.view.tasks.get(key).filter(|task| task.state.holds_resources()) else {
                continue;
            };
            let (resources, tasks) = of.entry(&key.0).or_default();
            *resources += &task.info.resources;
            tasks.push(key.1.clone());
        }
        for (framework_id, (resources, tasks)) in of {
            if let Some(conn) = self.scheduler_conn(framework_id) {
                let (agent_id, for_role) = (one.agent_id.clone(), one.role.clone());
                let notice = Notice { agent_id, resources, tasks, at: one.at, for_role };
                turn.tell_scheduler(conn, SchedulerEvent::Preempt(notice));
            }
        }
    }

    /// The grace is over: what is still missing is taken.
    pub(super) fn preempt(&mut self, turn: &mut Turn<'_>, number: u64) {
        let Some(one) = self.preemptions.active.get(&number) else { return };
        let victims = one.victims.clone();
        let mut told = BTreeSet::new();
        for key in victims {
            if self.view.tasks.get(&key).is_some_and(|task| task.state.holds_resources()) {
                self.view.counters.tasks_preempted += 1;
                // With one of a task group all are.
                if !told.contains(&key) {
                    told.extend(self.members_of(&key));
                    self.wish_kill(turn, &key, None, Reason::Preempted);
                }
            }
        }
    }

    /// Gathers what has become free for the preemptions under way, before a cycle can give it to others.
    pub(super) fn gather_all(&mut self, turn: &mut Turn<'_>) {
        let numbers: Vec<u64> = self.preemptions.active.keys().copied().collect();
        for number in numbers {
            self.gather(turn, number);
        }
    }

    fn gather(&mut self, turn: &mut Turn<'_>, number: u64) {
        let one = &self.preemptions.active[&number];
        let (id, role, agent_id) = (one.framework_id.clone(), one.role.clone(), one.agent_id.clone());
        let missing = one.held.plain().missing(&one.wanted);
        let open = firm_for(&self.allocator.free(&agent_id), &role);
        let lacking = open.plain().missing(&missing);
        let part = open.pick(&lacking.missing(&missing)).unwrap_or_default();
        if !part.is_empty() {
            self.allocator.charge(&id, &role, &agent_id, &part);
            let one = self.preemptions.active.get_mut(&number).expect("it is under way");
            one.held += &part;
        }
        if lacking.is_empty() {
            let one = self.preemptions.active.remove(&number).expect("it is under way");
            self.timers.cancel(&Timer::Preempt(number));
            if !self.allocator.over_limit(&role).is_empty() {
                return self.allocator.recover(&id, &role, &agent_id, &one.held, None);
            }
            self.count_off(&id, &one.role, &one.wanted);
            let given = Allocation { framework: id.clone(), role, agent: agent_id, resources: one.held };
            let offer = self.open_gathered_offer(turn.now, given);
            let conn = self.scheduler_conn(&id).expect("only for a connected framework is anything gathered");
            return turn.tell_scheduler(conn, SchedulerEvent::Offers(vec![offer]));
        }
        let one = &self.preemptions.active[&number];
        let hope = |key: &TaskKey| {
            self.view
                .tasks
                .get(key)
                .is_some_and(|task| task.agent_id == agent_id && task.state.holds_resources())
        };
        if !one.victims.iter().any(hope) {
            self.cancel_preemption(number);
        }
    }

    /// One of what a framework waits for is on its way to it. It says anew when it waits for more.
    fn count_off(&mut self, id: &FrameworkId, role: &Role, wanted: &Resources) {
        let requests = &mut self.framework_view(id).requests;
        let Some(of_role) = requests.get_mut(role) else { return };
        if let Some(request) = of_role.iter_mut().find(|request| request.resources == *wanted) {
            request.count -= 1;
        }
        of_role.retain(|request| request.count > 0);
        if of_role.is_empty() {
            requests.remove(role);
        }
    }

    /// Ends the preemptions for what a framework does not wait for any more.
    pub(super) fn cancel_unrequested(&mut self, id: &FrameworkId, role: &Role, requests: &[ResourceRequest]) {
        self.cancel_preemptions(|one| {
            let wanted = requests.iter().any(|request| request.resources == one.wanted);
            one.framework_id == *id && one.role == *role && !wanted
        });
    }
}

/// What of some free resources somebody of a role may be given for good.
fn firm_for(free: &Resources, role: &Role) -> Resources {
    free.open_to(role).only(|entry| !entry.is_revocable() && entry.volume().is_none())
}
