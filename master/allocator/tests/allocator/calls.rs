//! What may be asked of an allocator, by numbers that shrink.

use std::{collections::BTreeMap, sync::Arc};

use apportion_allocator::{Quota, Wants};
use apportion_types::{
    Capability, FaultDomain, FrameworkOptions, OfferConstraints, Operation, Place, Resources, Role,
    constraints::{Constraint, Pattern, Predicate, Selector},
    resources::{Entry, Name, Reservation, Terms, Value},
};
use proptest::prelude::*;

use crate::{ALL, quota_limit, resources, role};

/// The first are at the top of the tree.
pub(crate) const ROLES: [&str; 6] = ["*", "eng", "ops", "eng/ads", "ops/db", "eng/ads/x"];
/// The first are on no terms.
const TOTALS: [&str; 10] = [
    "cpus:4;mem:64;ports:[1-8]",
    "cpus:2;mem:128;disk:10",
    "cpus:2;mem:128;widgets:3;zone:{a,b}",
    "cpus:0.005;mem:31.999",
    "cpus:8;mem:32",
    "cpus:4;cpus(eng):2;mem:64;mem(eng):64",
    "cpus:2;cpus(ops/db):1.5;mem:128;gpus:2",
    "cpus:3;mem:96;disk(eng)[d=d]:10;disk(eng)[s=s shared]:5",
    "cpus:6;mem:200;disk(eng):20;disk:8;cpus(ops):0.5",
    "cpus(eng/ads):2;mem(eng,+eng/ads@p):64;gpus:1",
];
const LENT: [&str; 4] = ["", "cpus{revocable}:2", "cpus{revocable}:5;mem{revocable}:64", "mem{revocable}:40"];
const LIMITS: [&str; 6] =
    ["cpus:3", "cpus:4.5;mem:96", "mem:40", "cpus:0.012;disk:4", "widgets:0;disk:0", "cpus:0;mem:200"];
const GUARANTEES: [&str; 5] = ["cpus:3", "cpus:6;mem:64", "mem:150", "widgets:2", "cpus:40"];
const MINIMUMS: [&str; 4] = ["cpus:1", "cpus:0.5|mem:100", "disk:5", ""];

/// What the calls are about, beside roles at the top of the tree, limits and filters.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scope {
    pub(crate) tree: bool,
    /// Reservations, volumes, and what is lent.
    pub(crate) terms: bool,
    pub(crate) guarantees: bool,
    pub(crate) options: bool,
    pub(crate) claims: bool,
}

impl Scope {
    pub(crate) const ALL: Scope =
        Scope { tree: true, terms: true, guarantees: true, options: true, claims: true };
}

#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Bits of [`ROLES`].
    pub(crate) roles: u8,
    pub(crate) suppressed: u8,
    /// Bits of [`Capability::ALL`].
    pub(crate) can: u8,
    /// One of `only`, for every other role.
    pub(crate) only: usize,
    pub(crate) minimum: Option<usize>,
    pub(crate) offers_max: Option<u32>,
}

#[derive(Debug, Clone)]
pub(crate) enum Call {
    AddAgent { agent: u8, total: usize, place: u8 },
    RemoveAgent { agent: u8 },
    ExpectAgent { agent: u8, total: usize },
    ExpectNoMore { agent: u8 },
    SetAgentActive { agent: u8, active: bool },
    Lend { agent: u8, lent: usize },
    ConvertFree { agent: u8, operation: u8, role: usize },
    ConvertHeld { allocation: usize, operation: u8, role: usize },
    AddFramework { framework: u8, wish: Wish },
    RemoveFramework { framework: u8 },
    SetFrameworkActive { framework: u8, active: bool },
    SetWants { framework: u8, wish: Wish },
    Suppress { framework: u8, roles: u8 },
    Revive { framework: u8, roles: u8 },
    SetWeight { role: usize, milli: u32 },
    SetQuota { role: usize, guarantee: Option<usize>, limit: Option<usize> },
    Charge { framework: u8, role: usize, agent: u8, part: u8 },
    Recover { allocation: usize, part: u8, refuse_seconds: Option<u64> },
    Close { framework: u8, offers: u32 },
    DeclineAll { refuse_seconds: u64 },
    Claim { framework: u8, role: usize, agent: u8, part: u8 },
    Cycle { after_seconds: u64, allocations_max: usize },
}

fn sometimes<S: Strategy + 'static>(ever: bool, values: S) -> BoxedStrategy<Option<S::Value>>
where
    S::Value: Clone,
{
    if ever { proptest::option::weighted(0.4, values).boxed() } else { Just(None).boxed() }
}

fn wish(scope: Scope) -> impl Strategy<Value = Wish> {
    let roles = if scope.tree { 0..1u8 << 6 } else { 0..1u8 << 3 };
    let (can, only) = if scope.options { (0..16u8, 0..10usize) } else { (0..1, 0..1) };
    // What is on terms may need capabilities too.
    let can = if scope.terms { 0..16u8 } else { can };
    let minimum = sometimes(scope.options, 0..MINIMUMS.len());
    let offers_max = sometimes(scope.options, 0..4u32);
    (roles.clone(), roles, can, only, minimum, offers_max).prop_map(
        |(roles, suppressed, can, only, minimum, offers_max)| Wish {
            roles,
            // Most are not suppressed.
            suppressed: if suppressed % 4 == 0 { suppressed } else { 0 },
            can,
            only,
            minimum,
            offers_max,
        },
    )
}

pub(crate) fn call(scope: Scope) -> BoxedStrategy<Call> {
    let (agent, framework) = (0..6u8, 0..7u8);
    let roles = if scope.tree { 0..1u8 << 6 } else { 0..1u8 << 3 };
    let role = if scope.tree { 0..ROLES.len() } else { 0..3 };
    let total = if scope.terms { 0..TOTALS.len() } else { 0..5 };
    let guarantee = sometimes(scope.guarantees, 0..GUARANTEES.len());
    let refuse = prop_oneof![Just(None), (0..12u64).prop_map(Some)];
    let max = prop_oneof![4 => Just(ALL), 1 => 0..4usize];
    let mut calls = vec![(60, prop_oneof![
        1 => (agent.clone(), total.clone()).prop_map(|(agent, total)| Call::ExpectAgent { agent, total }),
        1 => agent.clone().prop_map(|agent| Call::ExpectNoMore { agent }),
        4 => (agent.clone(), total, 0..4u8).prop_map(|(agent, total, place)| Call::AddAgent { agent, total, place }),
        1 => agent.clone().prop_map(|agent| Call::RemoveAgent { agent }),
        2 => (agent.clone(), any::<bool>()).prop_map(|(agent, active)| Call::SetAgentActive { agent, active }),
        4 => (framework.clone(), wish(scope)).prop_map(|(framework, wish)| Call::AddFramework { framework, wish }),
        1 => framework.clone().prop_map(|framework| Call::RemoveFramework { framework }),
        2 => (framework.clone(), any::<bool>())
            .prop_map(|(framework, active)| Call::SetFrameworkActive { framework, active }),
        2 => (framework.clone(), wish(scope)).prop_map(|(framework, wish)| Call::SetWants { framework, wish }),
        1 => (framework.clone(), roles.clone()).prop_map(|(framework, roles)| Call::Suppress { framework, roles }),
        2 => (framework.clone(), roles).prop_map(|(framework, roles)| Call::Revive { framework, roles }),
        1 => (role.clone(), 1..4000u32).prop_map(|(role, milli)| Call::SetWeight { role, milli }),
        2 => (role.clone(), guarantee, proptest::option::of(0..LIMITS.len()))
            .prop_map(|(role, guarantee, limit)| Call::SetQuota { role, guarantee, limit }),
        3 => (framework.clone(), role.clone(), agent.clone(), 0..5u8)
            .prop_map(|(framework, role, agent, part)| Call::Charge { framework, role, agent, part }),
        12 => (0..16usize, 0..5u8, refuse)
            .prop_map(|(allocation, part, refuse_seconds)| Call::Recover { allocation, part, refuse_seconds }),
        2 => (framework.clone(), 0..4u32).prop_map(|(framework, offers)| Call::Close { framework, offers }),
        3 => (1..12u64).prop_map(|refuse_seconds| Call::DeclineAll { refuse_seconds }),
        12 => (0..4u64, max)
            .prop_map(|(after_seconds, allocations_max)| Call::Cycle { after_seconds, allocations_max }),
    ].boxed())];
    if scope.terms {
        calls.push((
            8,
            prop_oneof![
            2 => (agent.clone(), 0..LENT.len()).prop_map(|(agent, lent)| Call::Lend { agent, lent }),
            3 => (agent.clone(), 0..7u8, role.clone())
                .prop_map(|(agent, operation, role)| Call::ConvertFree { agent, operation, role }),
            3 => (0..16usize, 0..7u8, role.clone())
                .prop_map(|(allocation, operation, role)| Call::ConvertHeld { allocation, operation, role }),
            ]
            .boxed(),
        ));
    }
    if scope.claims {
        calls.push((
            4,
            (framework, role, agent, 0..5u8)
                .prop_map(|(framework, role, agent, part)| Call::Claim { framework, role, agent, part })
                .boxed(),
        ));
    }
    proptest::strategy::Union::new_weighted(calls).boxed()
}

pub(crate) fn chosen(mask: u8) -> Vec<Role> {
    ROLES.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, name)| role(name)).collect()
}

pub(crate) fn total(index: usize) -> Resources {
    resources(TOTALS[index])
}

pub(crate) fn lent(index: usize) -> Resources {
    resources(LENT[index])
}

pub(crate) fn quota(guarantee: Option<usize>, limit: Option<usize>) -> Quota {
    Quota {
        guarantee: guarantee.map(|index| resources(GUARANTEES[index])).unwrap_or_default(),
        limit: limit.map(|index| quota_limit(LIMITS[index])),
    }
}

/// Agents stand in two regions, or nobody knows where.
pub(crate) fn place_at(number: u8) -> Arc<Place> {
    let region = match number {
        0 | 1 => None,
        2 => Some("eu"),
        _ => Some("us"),
    };
    let domain = region.map(|region| FaultDomain { region: region.to_owned(), zone: "z".to_owned() });
    let attributes = BTreeMap::from([("rack".to_owned(), format!("r{number}"))]);
    let (hostname, address) = (format!("host{number}"), "host:5051".to_owned());
    Arc::new(Place { hostname, address, attributes, domain })
}

fn only(index: usize) -> Option<OfferConstraints> {
    let one = |selector, predicate, negated| vec![vec![Constraint { selector, predicate, negated }]];
    let groups = match index {
        1 => one(Selector::Attribute("rack".to_owned()), Predicate::Equals("r1".to_owned()), true),
        2 => one(Selector::Region, Predicate::Exists, false),
        3 => one(Selector::Hostname, Predicate::Matches(Pattern::new("host[02]").expect("it is one")), false),
        _ => return None,
    };
    Some(OfferConstraints { groups })
}

impl Wish {
    pub(crate) fn tell(&self, tell: impl FnOnce(Wants<'_>)) {
        let (roles, suppressed) = (chosen(self.roles), chosen(self.suppressed).into_iter().collect());
        let others = roles.iter().step_by(2).cloned();
        let minimum = self.minimum.map(|index| {
            let parts = MINIMUMS[index].split('|').filter(|part| !part.is_empty());
            parts.map(resources).collect::<Vec<_>>()
        });
        let options = FrameworkOptions {
            capabilities: Capability::ALL
                .into_iter()
                .enumerate()
                .filter(|(bit, _)| self.can >> bit & 1 == 1)
                .map(|(_, capability)| capability)
                .collect(),
            constraints: others.clone().filter_map(|role| Some((role, only(self.only)?))).collect(),
            min_allocatable: others.filter_map(|role| Some((role, minimum.clone()?))).collect(),
            offers_max: self.offers_max,
            stand_by: None,
        };
        tell(Wants { roles: &roles, suppressed: &suppressed, options: &options });
    }
}

fn entry(entry: &Entry, value: Value) -> Resources {
    let mut one = Resources::new();
    one.insert_on(entry.name().clone(), entry.terms().cloned().map(Arc::new), value);
    one
}

/// Half of the scalars that can be split.
fn halves(amount: &Resources) -> Resources {
    let mut sum = Resources::new();
    for each in amount.entries().filter(|entry| entry.volume().is_none()) {
        if let Value::Scalar(milli) = each.value() {
            sum += &entry(each, Value::Scalar(milli / 2));
        }
    }
    sum
}

/// Some of an amount.
pub(crate) fn part_of(amount: &Resources, part: u8) -> Resources {
    match part {
        0 | 1 => amount.clone(),
        2 => halves(amount),
        3 => Resources::scalar(Name::Cpus, amount.unreserved_milli(&Name::Cpus).min(5)),
        _ => match amount.entries().last() {
            Some(last) => entry(last, last.value().clone()),
            None => Resources::new(),
        },
    }
}

/// Something to do with some resources for a role; none when that makes no sense.
pub(crate) fn operation(what: u8, amount: &Resources, role: &Role, volume: usize) -> Option<Operation> {
    let firm = amount.only(|entry| entry.volume().is_none() && !entry.is_revocable());
    let last = |entry: &Entry| entry.terms().and_then(|terms| terms.reservations.last().cloned());
    let may_follow =
        |entry: &Entry| last(entry).is_none_or(|last| role.is_below(&last.role)) && !role.is_default();
    match what {
        // Of what is reserved for a role above, that refines it.
        0 | 1 => {
            let free = halves(&firm.only(may_follow));
            let resources = free.reserve(&Reservation::by(role.clone(), "p"));
            Some(Operation::Reserve { resources })
        }
        2 => {
            let resources = firm.only(|entry| last(entry).is_some_and(|last| last.dynamic.is_some()));
            Some(Operation::Unreserve { resources })
        }
        3 | 4 => {
            let reserved = firm.only(|entry| *entry.name() == Name::Disk && entry.role().is_some());
            let disk = reserved.entries().next()?;
            let id = format!("v{volume}").parse().ok()?;
            let made =
                apportion_types::resources::PersistentVolume { id, path: "v".to_owned(), shared: what == 4 };
            let terms = Terms { volume: Some(made), ..disk.terms().cloned().unwrap_or_default() };
            let Value::Scalar(milli) = disk.value() else { return None };
            let mut volumes = Resources::new();
            volumes.insert_on(Name::Disk, Some(Arc::new(terms)), Value::Scalar(milli / 2));
            Some(Operation::Create { volumes })
        }
        _ => {
            let volume = amount.entries().find(|entry| entry.volume().is_some())?;
            Some(Operation::Destroy { volumes: entry(volume, volume.value().clone()) })
        }
    }
}
