//! Any sequence of calls: the same offers, in the same order, as the model's.

use apportion_allocator::{Allocation, Allocator, Hierarchical, HierarchicalConfig, Weight};
use apportion_types::{Resources, Role, Time, resources::Name};
use proptest::prelude::*;

use crate::{
    ALL, agent, at, framework, info, limited, model::Model, resources, resubscribe, role, subscribe,
};

const TOTALS: [&str; 5] = [
    "cpus:4;mem:64;ports:[1-8]",
    "cpus:2;mem:128;disk:10",
    "cpus:2;mem:128;widgets:3;zone:{a,b}",
    "cpus:0.005;mem:31.999",
    "cpus:8;mem:32",
];
const ROLES: [&str; 3] = ["*", "eng", "eng/ads"];
const LIMITS: [&str; 6] =
    ["cpus:3", "cpus:4.5;mem:96", "mem:40", "cpus:0.012;disk:4", "widgets:0;disk:0", "cpus:0;mem:200"];

#[derive(Debug, Clone)]
enum Call {
    AddAgent { agent: u8, total: usize },
    RemoveAgent { agent: u8 },
    SetAgentActive { agent: u8, active: bool },
    AddFramework { framework: u8, roles: u8, suppressed: u8 },
    RemoveFramework { framework: u8 },
    SetFrameworkActive { framework: u8, active: bool },
    SetFrameworkRoles { framework: u8, roles: u8, suppressed: u8 },
    Suppress { framework: u8, roles: u8 },
    Revive { framework: u8, roles: u8 },
    SetWeight { role: usize, milli: u32 },
    SetQuotaLimit { role: usize, limit: Option<usize> },
    Charge { framework: u8, role: usize, agent: u8, part: u8 },
    Recover { allocation: usize, part: u8, refuse_seconds: Option<u64> },
    DeclineAll { refuse_seconds: u64 },
    Cycle { after_seconds: u64, allocations_max: usize },
}

fn call() -> impl Strategy<Value = Call> {
    let (agent, framework, roles) = (0..6u8, 0..7u8, 0..8u8);
    let refuse = || prop_oneof![Just(None), (0..12u64).prop_map(Some)];
    let max = prop_oneof![4 => Just(ALL), 1 => 0..4usize];
    prop_oneof![
        4 => (agent.clone(), 0..TOTALS.len()).prop_map(|(agent, total)| Call::AddAgent { agent, total }),
        1 => agent.clone().prop_map(|agent| Call::RemoveAgent { agent }),
        2 => (agent.clone(), any::<bool>()).prop_map(|(agent, active)| Call::SetAgentActive { agent, active }),
        4 => (framework.clone(), roles.clone(), roles.clone())
            .prop_map(|(framework, roles, suppressed)| Call::AddFramework { framework, roles, suppressed }),
        1 => framework.clone().prop_map(|framework| Call::RemoveFramework { framework }),
        2 => (framework.clone(), any::<bool>())
            .prop_map(|(framework, active)| Call::SetFrameworkActive { framework, active }),
        2 => (framework.clone(), roles.clone(), roles.clone())
            .prop_map(|(framework, roles, suppressed)| Call::SetFrameworkRoles { framework, roles, suppressed }),
        1 => (framework.clone(), roles.clone()).prop_map(|(framework, roles)| Call::Suppress { framework, roles }),
        2 => (framework.clone(), roles).prop_map(|(framework, roles)| Call::Revive { framework, roles }),
        1 => (0..ROLES.len(), 1..4000u32).prop_map(|(role, milli)| Call::SetWeight { role, milli }),
        2 => (0..ROLES.len(), proptest::option::of(0..LIMITS.len()))
            .prop_map(|(role, limit)| Call::SetQuotaLimit { role, limit }),
        3 => (framework, 0..ROLES.len(), agent, 0..5u8)
            .prop_map(|(framework, role, agent, part)| Call::Charge { framework, role, agent, part }),
        12 => (0..16usize, 0..5u8, refuse())
            .prop_map(|(allocation, part, refuse_seconds)| Call::Recover { allocation, part, refuse_seconds }),
        3 => (1..12u64).prop_map(|refuse_seconds| Call::DeclineAll { refuse_seconds }),
        12 => (0..4u64, max)
            .prop_map(|(after_seconds, allocations_max)| Call::Cycle { after_seconds, allocations_max }),
    ]
}

fn chosen(mask: u8) -> Vec<Role> {
    ROLES.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, name)| role(name)).collect()
}

/// Some of an amount.
fn part_of(amount: &Resources, part: u8) -> Resources {
    let halves = amount.scalars().map(|(name, milli)| Resources::scalar(name.clone(), milli / 2));
    let halves = halves.fold(Resources::new(), |sum, half| sum + &half);
    match part {
        0 | 1 => amount.clone(),
        2 => halves,
        3 => Resources::scalar(Name::Cpus, amount.cpus_milli().min(5)),
        _ => match amount.ports().and_then(|ports| ports.iter().next()) {
            Some((first, _)) => resources(&format!("ports:[{first}-{first}]")),
            None => Resources::scalar(Name::Mem, amount.mem_milli()),
        },
    }
}

/// Both allocators, told the same.
#[derive(Default)]
struct Pair {
    model: Model,
    real: Hierarchical,
    /// As the real one is set up by now.
    config: HierarchicalConfig,
    cycles: usize,
    seconds: u64,
}

impl Pair {
    fn tell(&mut self, call: impl Fn(&mut dyn Allocator)) {
        call(&mut self.model);
        call(&mut self.real);
    }

    fn apply(&mut self, call: &Call) {
        let agent_name = |number: u8| agent(&format!("a{number}"));
        let framework_name = |number: u8| framework(&format!("f{number}"));
        match *call {
            Call::AddAgent { agent: number, .. }
            | Call::RemoveAgent { agent: number }
            | Call::SetAgentActive { agent: number, .. }
            | Call::Charge { agent: number, .. }
                if self.model.agents().contains(&agent_name(number))
                    == matches!(call, Call::AddAgent { .. }) => {}
            Call::AddFramework { framework: number, .. }
            | Call::RemoveFramework { framework: number }
            | Call::SetFrameworkActive { framework: number, .. }
            | Call::SetFrameworkRoles { framework: number, .. }
            | Call::Suppress { framework: number, .. }
            | Call::Revive { framework: number, .. }
            | Call::Charge { framework: number, .. }
                if self.model.has_framework(&framework_name(number))
                    == matches!(call, Call::AddFramework { .. }) => {}

            Call::AddAgent { agent, total } => {
                self.tell(|a| a.add_agent(&agent_name(agent), &info(), &resources(TOTALS[total])));
            }
            Call::RemoveAgent { agent } => self.tell(|a| a.remove_agent(&agent_name(agent))),
            Call::SetAgentActive { agent, active } => {
                self.tell(|a| a.set_agent_active(&agent_name(agent), active))
            }
            Call::AddFramework { framework, roles, suppressed } => {
                self.tell(|a| subscribe(a, &format!("f{framework}"), &chosen(roles), &chosen(suppressed)));
            }
            Call::RemoveFramework { framework } => {
                self.tell(|a| a.remove_framework(&framework_name(framework)))
            }
            Call::SetFrameworkActive { framework, active } => {
                self.tell(|a| a.set_framework_active(&framework_name(framework), active));
            }
            Call::SetFrameworkRoles { framework, roles, suppressed } => {
                self.tell(|a| resubscribe(a, &format!("f{framework}"), &chosen(roles), &chosen(suppressed)));
            }
            Call::Suppress { framework, roles } => {
                self.tell(|a| a.suppress(&framework_name(framework), &chosen(roles)));
            }
            Call::Revive { framework, roles } => {
                self.tell(|a| a.revive(&framework_name(framework), &chosen(roles)))
            }
            Call::SetWeight { role: index, milli } => {
                let weight = Weight::from_milli(milli).expect("it is not zero");
                self.config.weights.insert(role(ROLES[index]), weight);
                self.tell(|a| a.set_weight(&role(ROLES[index]), weight));
            }
            Call::SetQuotaLimit { role: index, limit } => {
                let limit = limit.map(|limit| LIMITS[limit]);
                self.config.quotas.insert(role(ROLES[index]), limited(limit));
                self.tell(|a| a.set_quota(&role(ROLES[index]), limited(limit)));
            }
            Call::Charge { framework, role: index, agent, part } => {
                let amount = part_of(&self.model.free(&agent_name(agent)), part);
                let of_role = role(ROLES[index]);
                self.tell(|a| a.charge(&framework_name(framework), &of_role, &agent_name(agent), &amount));
            }
            Call::Recover { allocation, part, refuse_seconds } => {
                let held = self.model.allocations();
                let until = refuse_seconds.map(|seconds| at(self.seconds + seconds));
                if let Some(one) = held.get(allocation % held.len().max(1)) {
                    let amount = part_of(&one.resources, part);
                    self.tell(|a| a.recover(&one.framework, &one.role, &one.agent, &amount, until));
                }
            }
            Call::DeclineAll { refuse_seconds } => {
                let until = Some(at(self.seconds + refuse_seconds));
                for one in self.model.allocations() {
                    self.tell(|a| a.recover(&one.framework, &one.role, &one.agent, &one.resources, until));
                }
            }
            Call::Cycle { after_seconds, allocations_max } => {
                self.seconds += after_seconds;
                self.cycle(allocations_max);
                if allocations_max == ALL {
                    assert!(!self.real.is_dirty(), "a cycle that was not stopped leaves nothing to do");
                    self.cycle(ALL);
                    let next = self.real.next_deadline();
                    assert!(
                        next.is_none_or(|next| next > at(self.seconds)),
                        "no deadline is stuck in the past"
                    );
                }
            }
        }
        self.real.check();
        for id in self.model.agents() {
            assert_eq!(self.real.free(&id), self.model.free(&id));
        }
    }

    /// What a cycle gives of something limited stays within the limit.
    fn check_limits(&self, given: &[Allocation]) {
        let held = self.model.allocations();
        for one in given {
            let quota = self.config.quotas.get(&one.role);
            let Some(limit) = quota.and_then(|quota| quota.limit.as_ref()) else { continue };
            for (name, most) in limit.iter().filter(|(name, _)| one.resources.milli(name) > 0) {
                let of_role = held.iter().filter(|held| held.role == one.role);
                let sum: i64 = of_role.map(|held| held.resources.milli(name)).sum();
                assert!(sum <= most, "{} has {sum} of {name}, and its limit is {limit}", one.role);
            }
        }
    }

    /// Under other settings, from the same state, both would give the same as well; each time it is the turn of some.
    fn ask_others(&mut self, now: Time, allocations_max: usize) {
        let (mut model, mut config) = (self.model.clone(), self.config.clone());
        let turn = self.cycles % (ROLES.len() + 2);
        self.cycles += 1;
        let mut real = match turn.checked_sub(ROLES.len()) {
            None => {
                let name = role(ROLES[turn]);
                let weight = Weight::from_milli(700 * (turn as u32 + 1)).expect("it is not zero");
                model.set_weight(&name, weight);
                model.set_quota(&name, limited(Some(LIMITS[turn])));
                config.weights.insert(name.clone(), weight);
                config.quotas.insert(name, limited(Some(LIMITS[turn])));
                self.real.reconfigured(&config)
            }
            Some(0) => self.real.reconfigured(&config),
            Some(_) => {
                let all = HierarchicalConfig { allocatable_min: Vec::new(), ..config.clone() };
                self.real.reconfigured(&all).reconfigured(&config)
            }
        };
        real.check();
        assert_eq!(real.allocate(now, allocations_max), model.allocate(now, allocations_max), "{config:?}");
    }

    fn cycle(&mut self, allocations_max: usize) {
        let now = at(self.seconds);
        let due = self.real.is_dirty() || self.real.next_deadline().is_some_and(|deadline| deadline <= now);
        self.ask_others(now, allocations_max);
        let expected = self.model.allocate(now, allocations_max);
        assert_eq!(self.real.allocate(now, allocations_max), expected);
        self.check_limits(&expected);
        assert!(due || expected.is_empty(), "what may be given is announced");
        assert_eq!(self.real.shares(), self.model.shares());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, ..ProptestConfig::default() })]

    #[test]
    fn gives_what_the_model_gives(calls in proptest::collection::vec(call(), 1..100)) {
        let mut pair = Pair::default();
        for call in &calls {
            pair.apply(call);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Many frameworks, all declining: the ways of finding the next taker agree.
    #[test]
    fn a_crowd_that_declines_gives_what_the_model_gives(
        calls in proptest::collection::vec(call(), 1..24),
        frameworks in 4..16u8,
    ) {
        let mut pair = Pair::default();
        for number in 0..frameworks {
            pair.apply(&Call::AddFramework { framework: number + 10, roles: 1 + number % 7, suppressed: 0 });
        }
        for number in 0..4u8 {
            pair.apply(&Call::AddAgent { agent: number, total: usize::from(number) });
        }
        for call in &calls {
            pair.apply(call);
            pair.apply(&Call::DeclineAll { refuse_seconds: 40 });
            pair.apply(&Call::Cycle { after_seconds: 1, allocations_max: ALL });
        }
    }
}
