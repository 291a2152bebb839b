//! What holds of every packing, over arbitrary machines and queues.

use std::{collections::BTreeMap, time::Duration};

use apportion_types::{Resources, Time, Unavailability, resources::Name};
use proptest::prelude::*;

use super::*;
use crate::Constraint;

const ZONES: [&str; 3] = ["a", "b", "c"];

/// The same choice, made by looking at every machine.
fn naive(packing: &Packing, demand: &Demand, policy: &dyn Policy) -> Option<usize> {
    let row = packing.grid().row(&demand.resources)?;
    let wanted =
        Wanted { demand, names: packing.names(), amounts: &row.amounts, scale: &packing.grid().scale };
    let judge = judge::Judge::new(demand, packing.machines(), packing.running());
    let machines = packing.machines().iter().enumerate();
    let good = machines.filter(|(index, machine)| {
        !packing.is_closed(*index)
            && crate::offer::pick(&machine.free, &demand.resources).is_ok()
            && judge.admits(machine)
    });
    let costs = good.map(|(index, machine)| {
        let free = packing.grid().free(index);
        let cost = policy.cost(&Candidate { index, machine, free }, &wanted);
        (judge.broken_wishes(machine), cost, index)
    });
    // The least, and the first of equals.
    let least = costs.reduce(|one, other| if (other.0, other.1) < (one.0, one.1) { other } else { one });
    least.map(|(_, _, index)| index)
}

fn machine() -> impl Strategy<Value = Machine> {
    (0..4i64, 0..6i64, 0..3i64, 0..4usize, any::<bool>(), any::<bool>()).prop_map(
        |(cpus, mem, gpus, zone, reserved, leaves)| {
            let mut free = Resources::scalar(Name::Cpus, cpus * 1000);
            free += &Resources::scalar(Name::Mem, mem * 64_000);
            free += &Resources::scalar(Name::Gpus, gpus * 500);
            if reserved {
                free += &"cpus(eng):1;ports:[1-3];mem{revocable}:64".parse().unwrap();
            }
            let mut machine = Machine { total: free.clone(), free, ..Machine::new("m", "cpus:1") };
            if let Some(zone) = ZONES.get(zone) {
                machine = machine.attribute("zone", *zone);
            }
            let window = Unavailability { start: Time::from_micros(1_000_000), duration: None };
            if leaves { machine.unavailable(window) } else { machine }
        },
    )
}

pub(super) fn machines() -> impl Strategy<Value = Vec<Machine>> {
    prop::collection::vec(machine(), 1..40).prop_map(|mut machines| {
        for (number, machine) in machines.iter_mut().enumerate() {
            machine.agent_id = format!("m{number}").parse().unwrap();
        }
        machines
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let zone = || Constraint::attribute("zone");
    prop_oneof![
        Just(Rule::require(zone().is("a"))),
        Just(Rule::require(zone().is("b").not())),
        Just(Rule::in_time(Time::from_micros(0), None)),
        Just(Rule::in_time(Time::from_micros(0), Some(Duration::from_millis(5)))),
        Just(Rule::near("x", zone())),
        Just(Rule::near("y", Scope::AGENT)),
        Just(Rule::apart("x", Scope::AGENT)),
        Just(Rule::apart("y", zone())),
        Just(Rule::spread("x", zone(), 1)),
        Just(Rule::spread_over("y", zone(), 2, ["a", "far"])),
    ]
}

fn resources() -> impl Strategy<Value = Resources> {
    prop_oneof![
        8 => (0..3i64, 0..4i64, 0..3i64).prop_map(|(cpus, mem, gpus)| {
            Resources::scalar(Name::Cpus, cpus * 500)
                + &Resources::scalar(Name::Mem, mem * 64_000)
                + &Resources::scalar(Name::Gpus, gpus * 250)
        }),
        1 => Just("cpus:0.5;ports:[2-2]".parse().unwrap()),
        1 => Just("mem{revocable}:32".parse().unwrap()),
        1 => Just("cpus:0.1;quantum:1".parse().unwrap()),
    ]
}

pub(super) fn demand() -> impl Strategy<Value = Demand> {
    let rules = || prop::collection::vec(rule(), 0..3);
    let label = prop::option::of(prop_oneof![Just("x"), Just("y")]);
    (resources(), label, rules(), rules(), -1..2i32).prop_map(|(resources, label, must, prefer, priority)| {
        let labels = label.into_iter().map(Into::into).collect();
        Demand { resources, labels, must, prefer, priority }
    })
}

fn policies(packing: &Packing) -> Vec<Box<dyn Policy>> {
    let typical = [("cpus:1;gpus:0.5", 3), ("cpus:2;mem:128", 2), ("gpus:1", 1)];
    let typical = typical.map(|(resources, weight)| (Demand::new(resources), weight));
    vec![
        Box::new(FirstFit),
        Box::new(BestFit),
        Box::new(WorstFit),
        Box::new(DotProduct),
        Box::new(Fragmentation::new(packing, [Name::Gpus, Name::Cpus], typical)),
    ]
}

proptest! {
    #[test]
    fn the_index_finds_what_looking_at_all_finds(
        machines in machines(),
        queue in prop::collection::vec(demand(), 1..60),
        which in 0..5usize,
    ) {
        let mut packing = Packing::new(machines);
        let policy = policies(&packing).swap_remove(which);
        for (number, demand) in queue.iter().enumerate() {
            let expected = naive(&packing, demand, &*policy);
            prop_assert_eq!(packing.place(demand, &*policy), expected, "demand {}: {:?}", number, demand);
            if number % 7 == 6 && let Some(index) = expected {
                packing.close(index);
            }
        }
    }

    #[test]
    fn never_more_is_placed_than_there_is(
        machines in machines(),
        queue in prop::collection::vec(demand(), 1..80),
        which in 0..5usize,
    ) {
        let mut packing = Packing::new(machines.clone());
        let policy = policies(&packing).swap_remove(which);
        let placed = packing.place_all(&queue, &*policy);
        let mut left: Vec<Resources> = machines.iter().map(|machine| machine.free.clone()).collect();
        for index in in_order(&queue) {
            if let Some(machine) = placed[index] {
                let picked = crate::offer::pick(&left[machine], &queue[index].resources);
                let picked = picked.map_err(|missing| TestCaseError::fail(format!("{missing} is missing")))?;
                left[machine].saturating_sub(&picked);
            }
        }
        for (left, machine) in left.iter().zip(packing.machines()) {
            prop_assert_eq!(left, &machine.free);
        }
    }

    /// Judged anew from the placements alone, one after the other.
    #[test]
    fn what_must_hold_holds(machines in machines(), queue in prop::collection::vec(demand(), 1..60)) {
        let mut packing = Packing::new(machines.clone());
        let mut there: Vec<(usize, &Demand)> = Vec::new();
        for demand in &queue {
            let before = there.clone();
            let Some(index) = packing.place(demand, &BestFit) else { continue };
            there.push((index, demand));
            for rule in &demand.must {
                prop_assert!(holds(rule, index, demand, &machines, &before), "{} at {}", rule, index);
            }
        }
    }

    #[test]
    fn refusals_agree_with_the_choice(machines in machines(), queue in prop::collection::vec(demand(), 1..30)) {
        let mut packing = Packing::new(machines);
        for demand in &queue {
            let refusals = packing.refusals(demand);
            let count: usize = refusals.broken.values().sum();
            prop_assert_eq!(refusals.would_take + refusals.too_small + refusals.closed + count, refusals.machines);
            prop_assert_eq!(packing.place(demand, &WorstFit).is_some(), refusals.would_take > 0);
        }
    }
}

/// A rule, by its definition.
fn holds(
    rule: &Rule,
    index: usize,
    demand: &Demand,
    machines: &[Machine],
    there: &[(usize, &Demand)],
) -> bool {
    let place = |scope: &Scope, index: usize| {
        let machine: &Machine = &machines[index];
        scope.of(&machine.agent_id, &machine.place).map(str::to_owned)
    };
    let labelled = |label: &str| {
        let label = label.to_owned();
        there.iter().filter(move |(_, demand)| demand.labels.contains(label.as_str()))
    };
    match rule {
        Rule::Require(constraint) => constraint.holds(&machines[index].place),
        Rule::InTime { now, longest } => {
            machines[index].unavailability.is_none_or(|window| !window.cuts_off(*now, *longest))
        }
        Rule::Near { label, scope } => {
            let first = labelled(label).count() == 0 && demand.labels.contains(label);
            let here = place(scope, index);
            first || here.is_some() && labelled(label).any(|(other, _)| place(scope, *other) == here)
        }
        Rule::Apart { label, scope } => {
            let here = place(scope, index);
            here.is_none() || labelled(label).all(|(other, _)| place(scope, *other) != here)
        }
        Rule::Spread { label, scope, max_skew, places } => {
            let Some(here) = place(scope, index) else { return false };
            let mut counts: BTreeMap<String, u32> = places.iter().map(|place| (place.clone(), 0)).collect();
            let allowed = (0..machines.len()).filter(|index| demand.allows(&machines[*index]));
            counts.extend(allowed.filter_map(|index| place(scope, index)).map(|place| (place, 0)));
            for (other, _) in labelled(label) {
                // A place that does not count for the fewest may hold some all the same.
                if let Some(count) = place(scope, *other).and_then(|place| counts.get_mut(&place)) {
                    *count += 1;
                }
            }
            let fewest = counts.values().min().copied().unwrap_or(0);
            counts[&here] + 1 - fewest <= *max_skew
        }
    }
}

#[test]
fn a_task_without_gpus_keeps_off_machines_with_gpus() {
    let packing = Packing::new([Machine::new("m1", "cpus:2;gpus:8"), Machine::new("m2", "cpus:8")]);
    assert_eq!(packing.choose(&Demand::new("cpus:2"), &BestFit), Some(1));
    assert_eq!(packing.choose(&Demand::new("cpus:2"), &WorstFit), Some(0));
}

#[test]
fn the_dot_product_keeps_what_is_scarce_for_the_task() {
    let packing = Packing::new([Machine::new("m1", "cpus:8;mem:10"), Machine::new("m2", "cpus:4;mem:100")]);
    assert_eq!(packing.choose(&Demand::new("cpus:2"), &DotProduct), Some(1));
    assert_eq!(packing.choose(&Demand::new("mem:5"), &DotProduct), Some(0));
}

#[test]
fn fragmentation_is_the_expected_part_of_no_use() {
    // As in the simulator's own measure: of three free gpus two lie where the task cannot run.
    let mut packing =
        Packing::new([Machine::new("m1", "cpus:1;gpus:2"), Machine::new("m2", "cpus:4;gpus:1")]);
    let typical = [(Demand::new("cpus:2;gpus:1"), 1), (Demand::new("cpus:9;mem:1"), 5)];
    let measure = Fragmentation::new(&packing, [Name::Gpus], typical);
    assert!((measure.of(&packing) - 2.0 / 3.0).abs() < 1e-12);
    packing.take(0, &Demand::new("gpus:2")).unwrap();
    assert_eq!(measure.of(&packing), 0.0);
}

#[test]
fn wishes_come_before_the_policy_and_are_only_wishes() {
    let mut packing = Packing::new(["m1", "m2"].map(|id| Machine::new(id, "cpus:3")));
    let alone = Demand::new("cpus:1").label("web").prefer(Rule::apart("web", Scope::AGENT));
    let placed = packing.place_all(&vec![alone; 7], &BestFit);
    assert_eq!(placed, [Some(0), Some(1), Some(0), Some(0), Some(1), Some(1), None]);
}

#[test]
fn the_first_of_a_label_may_be_near_itself_anywhere() {
    let mut packing = Packing::new([Machine::new("m1", "cpus:1"), Machine::new("m2", "cpus:3")]);
    let near = Demand::new("cpus:1").label("db").must(Rule::near("db", Scope::AGENT));
    assert_eq!(packing.place_all(&vec![near; 2], &WorstFit), [Some(1), Some(1)]);
    let other = Demand::new("cpus:1").must(Rule::near("cache", Scope::AGENT));
    assert_eq!(packing.choose(&other, &FirstFit), None);
}

#[test]
fn a_place_that_is_named_counts_without_a_machine() {
    let machine = Machine::new("m1", "cpus:9").attribute("zone", "a");
    let zone = || Constraint::attribute("zone");
    let mut packing = Packing::new([machine]);
    let at_hand = Demand::new("cpus:1").label("x").must(Rule::spread("x", zone(), 1));
    assert_eq!(packing.place_all(&vec![at_hand; 2], &FirstFit), [Some(0), Some(0)]);
    let named = Demand::new("cpus:1").label("y").must(Rule::spread_over("y", zone(), 1, ["a", "b"]));
    assert_eq!(packing.place_all(&vec![named; 2], &FirstFit), [Some(0), None]);
}
