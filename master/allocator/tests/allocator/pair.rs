//! Both allocators, told the same.

use std::collections::BTreeMap;

use apportion_allocator::{
    Allocation, Allocator, Hierarchical, HierarchicalConfig, Inactive, Obstacle, Question, RoleExplanation,
    Verdict, Weight,
};
use apportion_types::{AgentId, FrameworkId, Resources, Time, resources::Name};

use crate::{
    ALL, agent, at,
    calls::{self, Call, ROLES, Scope},
    framework,
    model::{Expected, Model},
    role,
};

pub(crate) struct Pair {
    model: Model,
    /// What was free when changes were asked about last.
    free: BTreeMap<AgentId, Resources>,
    real: Hierarchical,
    scope: Scope,
    cycles: usize,
    seconds: u64,
    volumes: usize,
}

fn agent_name(number: u8) -> AgentId {
    agent(&format!("a{number}"))
}

fn framework_name(number: u8) -> FrameworkId {
    framework(&format!("f{number}"))
}

impl Pair {
    pub(crate) fn new(scope: Scope) -> Self {
        let config = HierarchicalConfig {
            filter_gpus: scope.options,
            region: scope.options.then(|| "eu".to_owned()),
            offers_max: if scope.options { 5 } else { u32::MAX },
            ..HierarchicalConfig::default()
        };
        let (model, mut real) = (Model::new(config.clone()), Hierarchical::new(config));
        real.watch_free(true);
        Self { model, free: BTreeMap::new(), real, scope, cycles: 0, seconds: 0, volumes: 0 }
    }

    fn tell(&mut self, call: impl Fn(&mut dyn Allocator)) {
        call(&mut self.model);
        call(&mut self.real);
    }

    /// It names what there is, or adds what there is not.
    fn makes_sense(&self, call: &Call) -> bool {
        let known_agent = |number| self.model.agents().contains(&agent_name(number));
        let known_framework = |number| self.model.frameworks().contains(&framework_name(number));
        match *call {
            Call::AddAgent { agent, .. } | Call::ExpectAgent { agent, .. } => !known_agent(agent),
            Call::RemoveAgent { agent }
            | Call::SetAgentActive { agent, .. }
            | Call::Lend { agent, .. }
            | Call::ConvertFree { agent, .. } => known_agent(agent),
            Call::AddFramework { framework, .. } => !known_framework(framework),
            Call::RemoveFramework { framework }
            | Call::SetFrameworkActive { framework, .. }
            | Call::SetWants { framework, .. }
            | Call::Suppress { framework, .. }
            | Call::Close { framework, .. }
            | Call::Revive { framework, .. } => known_framework(framework),
            Call::Charge { framework, agent, .. } | Call::Claim { framework, agent, .. } => {
                known_framework(framework) && known_agent(agent)
            }
            _ => true,
        }
    }

    fn held(&self, index: usize) -> Option<Allocation> {
        let held = self.model.allocations();
        held.get(index % held.len().max(1)).cloned()
    }

    pub(crate) fn apply(&mut self, call: &Call) {
        if !self.makes_sense(call) {
            return;
        }
        match *call {
            Call::AddAgent { agent, total, place } => {
                self.tell(|a| a.add_agent(&agent_name(agent), &calls::place_at(place), &calls::total(total)))
            }
            Call::RemoveAgent { agent } => self.tell(|a| a.remove_agent(&agent_name(agent))),
            Call::ExpectAgent { agent, total } => {
                self.tell(|a| a.expect_agent(&agent_name(agent), &calls::total(total)));
            }
            Call::ExpectNoMore { agent } => self.tell(|a| a.expect_agent_no_more(&agent_name(agent))),
            Call::SetAgentActive { agent, active } => {
                let why = (!active).then_some(Inactive::Disconnected);
                self.tell(|a| a.set_agent_inactive(&agent_name(agent), why));
            }
            Call::Lend { agent, lent } => {
                self.tell(|a| a.set_revocable(&agent_name(agent), &calls::lent(lent)));
            }
            Call::ConvertFree { agent, operation, role } => self.convert_free(agent, operation, role),
            Call::ConvertHeld { allocation, operation, role } => {
                self.convert_held(allocation, operation, role);
            }
            Call::AddFramework { framework, ref wish } => {
                self.tell(|a| wish.tell(|wants| a.add_framework(&framework_name(framework), wants)));
            }
            Call::RemoveFramework { framework } => {
                self.tell(|a| a.remove_framework(&framework_name(framework)));
            }
            Call::SetFrameworkActive { framework, active } => {
                self.tell(|a| a.set_framework_active(&framework_name(framework), active));
            }
            Call::SetWants { framework, ref wish } => {
                self.tell(|a| wish.tell(|wants| a.set_framework_wants(&framework_name(framework), wants)));
            }
            Call::Suppress { framework, roles } => {
                self.tell(|a| a.suppress(&framework_name(framework), &calls::chosen(roles)));
            }
            Call::Revive { framework, roles } => {
                self.tell(|a| a.revive(&framework_name(framework), &calls::chosen(roles)));
            }
            Call::SetWeight { role: index, milli } => {
                let weight = Weight::from_milli(milli).expect("it is not zero");
                self.tell(|a| a.set_weight(&role(ROLES[index]), weight));
            }
            Call::SetQuota { role: index, guarantee, limit } => self.set_quota(index, guarantee, limit),
            Call::Charge { framework, role: index, agent, part } => {
                let (id, of_role) = (agent_name(agent), role(ROLES[index]));
                let amount = calls::part_of(&self.model.free(&id).open_to(&of_role), part);
                self.tell(|a| a.charge(&framework_name(framework), &of_role, &id, &amount));
            }
            Call::Recover { allocation, part, refuse_seconds } => {
                let until = refuse_seconds.map(|seconds| at(self.seconds + seconds));
                if let Some(one) = self.held(allocation) {
                    let amount = calls::part_of(&one.resources, part);
                    self.tell(|a| a.recover(&one.framework, &one.role, &one.agent, &amount, until));
                }
            }
            Call::Close { framework, offers } => self.close(&framework_name(framework), offers),
            Call::DeclineAll { refuse_seconds } => {
                let until = Some(at(self.seconds + refuse_seconds));
                self.model.frameworks().iter().for_each(|id| self.close(id, u32::MAX));
                for one in self.model.allocations() {
                    self.tell(|a| a.recover(&one.framework, &one.role, &one.agent, &one.resources, until));
                }
            }
            Call::Claim { framework, role, agent, part } => self.claim(framework, role, agent, part),
            Call::Cycle { after_seconds, allocations_max } => {
                self.seconds += after_seconds;
                self.cycle(allocations_max);
                if allocations_max == ALL {
                    self.rest();
                }
            }
        }
        self.compare();
    }

    /// What both say of a state is the same.
    fn compare(&mut self) {
        self.real.check();
        let told = self.real.free_changes();
        let now: BTreeMap<_, _> =
            self.model.agents().into_iter().map(|id| (id.clone(), self.model.free(&id))).collect();
        for id in self.free.keys().chain(now.keys()) {
            assert!(
                self.free.get(id) == now.get(id) || told.contains(id),
                "what is free on {id} has changed"
            );
        }
        self.free = now;
        for id in self.model.agents() {
            assert_eq!(self.real.free(&id), self.model.free(&id), "what is free on {id}");
        }
        for name in ROLES.map(role) {
            assert_eq!(self.real.over_limit(&name), self.model.over_limit(&name), "what {name} has too much");
        }
        assert_eq!(self.real.short_of_guarantees(), self.model.short_of_guarantees());
    }

    fn close(&mut self, framework: &FrameworkId, offers: u32) {
        let offers = offers.min(self.model.outstanding(framework));
        self.tell(|a| a.offers_closed(framework, offers));
    }

    fn set_quota(&mut self, index: usize, guarantee: Option<usize>, limit: Option<usize>) {
        let (name, quota) = (role(ROLES[index]), calls::quota(guarantee, limit));
        let asked = [(name.clone(), quota.clone())].into();
        // As if some of what the role has were only offered.
        let offered = BTreeMap::from([(name.clone(), Resources::scalar(Name::Cpus, 1000 * index as i64))]);
        let (real, model) =
            (self.real.judge_quotas(&asked, &offered), self.model.judge_quotas(&asked, &offered));
        assert_eq!(real.is_ok(), model.is_ok(), "of {quota:?} for {name}: {real:?}, {model:?}");
        // What is judged impossible may be forced.
        self.tell(|a| a.set_quota(&name, quota.clone()));
    }

    fn convert_free(&mut self, number: u8, operation: u8, index: usize) {
        let (id, of_role) = (agent_name(number), role(ROLES[index]));
        self.volumes += 1;
        let operation = calls::operation(operation, &self.model.free(&id), &of_role, self.volumes);
        let Some(conversion) = operation.and_then(|operation| operation.conversion().ok()) else { return };
        let (model, real) = (&mut self.model, &mut self.real);
        assert_eq!(
            real.convert_free(&id, &conversion),
            model.convert_free(&id, &conversion),
            "{conversion:?}"
        );
    }

    fn convert_held(&mut self, allocation: usize, operation: u8, index: usize) {
        let Some(one) = self.held(allocation) else { return };
        self.volumes += 1;
        let operation = calls::operation(operation, &one.resources, &role(ROLES[index]), self.volumes);
        let Some(conversion) = operation.and_then(|operation| operation.conversion().ok()) else { return };
        let others =
            self.model.allocations().into_iter().filter(|other| other.agent == one.agent && *other != one);
        let shared = conversion.consumed.shared();
        // A shared volume that others use is not destroyed: the master has taken it from them before.
        if !shared.is_empty() && others.into_iter().any(|other| other.resources.contains(&shared)) {
            return;
        }
        self.tell(|a| a.convert_allocated(&one.framework, &one.role, &one.agent, &conversion));
    }

    fn claim(&mut self, number: u8, index: usize, on: u8, part: u8) {
        let (now, id, of_role, on) =
            (at(self.seconds), framework_name(number), role(ROLES[index]), agent_name(on));
        let amount = calls::part_of(&self.model.free(&on).open_to(&of_role), part);
        if amount.is_empty() {
            return;
        }
        let real = self.real.claim(now, &id, &of_role, &on, &amount);
        let model = self.model.claim(now, &id, &of_role, &on, &amount);
        let known = |denied: &apportion_allocator::ClaimDenied| (denied.code, denied.winner.clone());
        assert_eq!(
            real.as_ref().map_err(known),
            model.as_ref().map_err(known),
            "claim of {amount} on {on} by {id} for {of_role}: {real:?}"
        );
    }

    fn cycle(&mut self, allocations_max: usize) {
        let now = at(self.seconds);
        let due = self.real.is_dirty() || self.real.next_deadline().is_some_and(|deadline| deadline <= now);
        self.ask_others(now, allocations_max);
        self.ask_why(now);
        let expected = self.model.allocate(now, allocations_max);
        assert_eq!(self.real.allocate(now, allocations_max), expected);
        assert!(due || expected.is_empty(), "what may be given is announced");
        assert_eq!(self.real.shares(), self.model.shares());
    }

    /// After a cycle that was not stopped there is nothing to do.
    fn rest(&mut self) {
        assert!(!self.real.is_dirty(), "a cycle that was not stopped leaves nothing to do");
        self.cycle(ALL);
        let next = self.real.next_deadline();
        assert!(next.is_none_or(|next| next > at(self.seconds)), "no deadline is stuck in the past");
    }

    /// What is said of each agent to one framework, in turn, is what the next cycle does.
    fn ask_why(&self, now: Time) {
        let frameworks = self.model.frameworks();
        let Some(framework) = frameworks.get(self.cycles % frameworks.len().max(1)) else { return };
        let ask =
            |agent, needs| self.real.explain(now, &Question { framework: framework.clone(), agent, needs });
        let explained = ask(None, Resources::new());
        let roles: Vec<_> = explained.roles.iter().map(|one| one.role.clone()).collect();
        assert_eq!(roles, self.model.roles_of(framework));
        for RoleExplanation { role, place, ahead, obstacles, agents, counts, .. } in &explained.roles {
            assert_eq!(*place, self.model.place(framework, role), "the place of {framework} in {role}");
            assert_eq!(ahead.len(), place.unwrap_or(1).saturating_sub(1).min(10));
            assert_eq!(place.is_none(), !obstacles.is_empty(), "{framework} in {role}: {obstacles:?}");
            assert_eq!(agents.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), self.model.agents());
            assert_eq!(counts.values().sum::<u64>(), agents.len() as u64);
            // To let each happen takes long: it is the turn of some.
            for (agent, verdict) in agents.iter().skip(self.cycles % 3).step_by(3) {
                let expected = self.model.expected(now, framework, role, agent);
                let same = match (verdict, &expected) {
                    (Verdict::Offered(said), Expected::Offered(given)) => said == given,
                    (Verdict::Behind(said), Expected::Behind(first)) => said == first,
                    (Verdict::Blocked(said), Expected::Blocked(codes)) => codes.contains(&said.code()),
                    _ => false,
                };
                assert!(same, "{framework} in {role}, of {agent}: {verdict:?}, and it is {expected:?}");
            }
        }
        self.ask_for_needs(now, framework);
    }

    /// With needs, an offer that does not hold them is too small, and all else is as before.
    fn ask_for_needs(&self, now: Time, framework: &FrameworkId) {
        let needs: Resources = "cpus:1;mem:50".parse().expect("it is written here");
        for agent in self.model.agents().into_iter().skip(self.cycles % 3).step_by(3) {
            let ask = |needs| {
                let (framework, agent) = (framework.clone(), Some(agent.clone()));
                self.real.explain(now, &Question { framework, agent, needs })
            };
            let (any, fitting) = (ask(Resources::new()), ask(needs.clone()));
            for (any, fitting) in any.roles.iter().zip(&fitting.roles) {
                let ([(_, any)], [(_, fitting)]) = (&any.agents[..], &fitting.agents[..]) else {
                    panic!("one agent was asked about");
                };
                let too_small = matches!(fitting, Verdict::Blocked(Obstacle::TooSmall { .. }));
                match any {
                    Verdict::Offered(what) => assert_eq!(too_small, what.pick(&needs).is_none(), "{what}"),
                    Verdict::Behind(_) => assert!(too_small || any == fitting),
                    Verdict::Blocked(_) => assert_eq!(any, fitting),
                }
            }
        }
    }

    /// Under other settings, from the same state, both would give the same as well; each time it is the turn of some.
    fn ask_others(&mut self, now: Time, allocations_max: usize) {
        let mut config = self.model.config().clone();
        let turn = self.cycles % (ROLES.len() + 2);
        self.cycles += 1;
        let mut real = match turn.checked_sub(ROLES.len()) {
            None => {
                let name = role(ROLES[turn]);
                let weight = Weight::from_milli(700 * (turn as u32 + 1)).expect("it is not zero");
                config.weights.insert(name.clone(), weight);
                let guarantee = self.scope.guarantees.then_some(turn % 5);
                config.quotas.insert(name, calls::quota(guarantee, Some(turn)));
                self.real.reconfigured(&config)
            }
            Some(0) => self.real.reconfigured(&config),
            Some(_) => {
                let all = HierarchicalConfig { allocatable_min: Vec::new(), ..config.clone() };
                self.real.reconfigured(&all).reconfigured(&config)
            }
        };
        real.check();
        let mut model = self.model.reconfigured(&config);
        assert_eq!(real.allocate(now, allocations_max), model.allocate(now, allocations_max), "{config:?}");
    }
}
