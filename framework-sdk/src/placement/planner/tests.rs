use proptest::prelude::*;

use super::{
    super::{
        Machine, Rule, Scope,
        tests::{demand, machines},
    },
    *,
};

/// Tasks placed, by priority, the highest first.
fn by_priority(queue: &[Demand], placed: &[Option<usize>]) -> Vec<usize> {
    let order = in_order(queue);
    let levels = order.chunk_by(|one, other| queue[*one].priority == queue[*other].priority);
    levels.map(|level| level.iter().filter(|index| placed[**index].is_some()).count()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_plan_is_never_worse_than_best_fit_and_never_more_than_there_is(
        machines in machines(),
        queue in prop::collection::vec(demand(), 1..60),
        seconds in prop::option::of(Just(1)),
        variables_max in prop_oneof![Just(10), Just(2_000)],
    ) {
        let budget = Budget { time: seconds.map(Duration::from_secs), variables_max };
        let mut packing = Packing::new(machines.clone());
        let plan = plan(&mut packing, &queue, budget);
        let greedy = Packing::new(machines.clone()).place_all(&queue, &BestFit);
        // Compared as words are: by the highest priority, then the next.
        prop_assert!(by_priority(&queue, &plan.placed) >= by_priority(&queue, &greedy), "{:?}", plan);

        let mut left: Vec<_> = machines.iter().map(|machine| machine.free.clone()).collect();
        for (demand, machine) in queue.iter().zip(&plan.placed) {
            let Some(machine) = *machine else { continue };
            prop_assert!(demand.allows(&machines[machine]));
            let picked = crate::offer::pick(&left[machine], &demand.resources);
            let picked = picked.map_err(|missing| TestCaseError::fail(format!("{missing} is missing")))?;
            left[machine].saturating_sub(&picked);
        }
        for (left, machine) in left.iter().zip(packing.machines()) {
            prop_assert_eq!(left, &machine.free);
        }
        let counts = by_priority(&queue, &plan.placed);
        for (level, count) in plan.levels.iter().zip(counts) {
            prop_assert_eq!(level.placed, count);
            prop_assert!(level.by_best_fit <= level.placed, "{:?}", level);
            prop_assert!(level.at_most.is_none_or(|most| level.placed <= most), "{:?}", level);
        }
    }

    #[test]
    fn without_a_time_equal_input_gives_equal_plans(
        machines in machines(),
        queue in prop::collection::vec(demand(), 1..40),
    ) {
        let budget = Budget::default();
        let one = plan(&mut Packing::new(machines.clone()), &queue, budget);
        prop_assert_eq!(one, plan(&mut Packing::new(machines), &queue, budget));
    }
}

fn machine(number: usize, free: &str) -> Machine {
    Machine::new(&format!("m{number}"), free)
}

fn demands(all: &[(&str, usize)]) -> Vec<Demand> {
    all.iter().flat_map(|(resources, count)| vec![Demand::new(resources); *count]).collect()
}

/// 3 + 3 and 2 + 2 + 2. Whoever places the large ones first, each where the most is left, has 3 + 2 twice, and one left.
#[test]
fn a_search_finds_what_rounding_does_not() {
    let queue = ["cpus:3", "cpus:2", "cpus:3", "cpus:2", "cpus:2"].map(Demand::new);
    let level = |time: Option<Duration>| {
        let mut packing = Packing::new([machine(0, "cpus:6"), machine(1, "cpus:6")]);
        plan(&mut packing, &queue, Budget { time, ..Budget::default() }).levels.remove(0)
    };
    let (rounded, searched) = (level(None), level(Some(Duration::from_secs(60))));
    assert_eq!((rounded.placed, rounded.at_most), (4, Some(5)));
    assert_eq!(rounded.method, Method::BestFit(Fallback::NotBetter));
    assert_eq!((searched.placed, searched.by_best_fit), (5, 4));
    assert_eq!(searched.method, Method::Optimal);
}

/// As above; by a clock of our own, which has gone so much further each time that it is looked at.
#[test]
fn a_search_gets_what_the_linear_program_has_left() {
    let queue = ["cpus:3", "cpus:2", "cpus:3", "cpus:2", "cpus:2"].map(Demand::new);
    let time = Duration::from_secs(60);
    let placed = |step: Duration| {
        let looks = std::cell::Cell::new(0);
        let clock = || {
            looks.set(looks.get() + 1);
            step * looks.get()
        };
        let mut packing = Packing::new([machine(0, "cpus:6"), machine(1, "cpus:6")]);
        let budget = Budget { time: Some(time), ..Budget::default() };
        plan_by(&mut packing, &queue, budget, &clock).levels[0].placed
    };
    assert_eq!(placed(time / 2), 5, "half of it is left");
    assert_eq!(placed(time), 4, "nothing is left");
}

/// Best fit crowds the first kind of machine with tasks that could go anywhere.
#[test]
fn rounding_finds_what_best_fit_does_not() {
    let mut queue = demands(&[("cpus:1", 20), ("cpus:2;gpus:1", 10)]);
    queue.push(Demand::new("cpus:1").priority(-1));
    let machines = (0..10).map(|number| machine(number, if number < 5 { "cpus:5;gpus:2" } else { "cpus:9" }));
    let mut packing = Packing::new(
        machines.map(|machine| Machine { total: "cpus:9;gpus:100".parse().unwrap(), ..machine }),
    );
    let plan = plan(&mut packing, &queue, Budget::default());
    assert_eq!(plan.levels[0].method, Method::Rounded);
    assert_eq!((plan.levels[0].placed, plan.levels[1].placed), (30, 1), "{plan:?}");
}

#[test]
fn it_says_why_it_is_by_best_fit() {
    let machines = || [machine(0, "cpus:4"), machine(1, "cpus:4")];
    let method =
        |queue: &[Demand], budget| plan(&mut Packing::new(machines()), queue, budget).levels.remove(0).method;
    let all = Method::BestFit(Fallback::AllPlaced);
    assert_eq!(method(&demands(&[("cpus:2", 4)]), Budget::default()), all);
    let none_better = Method::BestFit(Fallback::NotBetter);
    assert_eq!(method(&demands(&[("cpus:2", 5)]), Budget::default()), none_better);
    let small = Budget { variables_max: 1, ..Budget::default() };
    let too_large = Method::BestFit(Fallback::TooLarge(2));
    assert_eq!(method(&demands(&[("cpus:3", 3), ("cpus:2", 3)]), small), too_large);
    let hurried = Budget { time: Some(Duration::ZERO), ..Budget::default() };
    let unsolved = method(&demands(&[("cpus:3", 2), ("cpus:2", 3)]), hurried);
    assert!(matches!(unsolved, Method::BestFit(Fallback::Unsolved(_))), "{unsolved:?}");
}

#[test]
fn what_minds_its_neighbours_keeps_its_rules() {
    let mut queue = demands(&[("cpus:3", 2), ("cpus:2", 4)]);
    queue.extend(vec![Demand::new("cpus:1").label("x").must(Rule::apart("x", Scope::AGENT)); 3]);
    let mut packing = Packing::new([machine(0, "cpus:5"), machine(1, "cpus:6")]);
    let plan = plan(&mut packing, &queue, Budget::default());
    let apart: Vec<_> = plan.placed[6..].iter().flatten().collect();
    assert!(apart.len() <= 2 && apart.is_sorted_by(|one, other| one < other), "{plan:?}");
}
