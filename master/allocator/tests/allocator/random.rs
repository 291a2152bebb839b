//! The sorter that draws.

use apportion_allocator::SorterKind;

use super::*;

fn cluster(seed: u64) -> Cluster {
    let weights = [(role("x"), "3".parse().expect("it is a weight"))].into();
    let config = HierarchicalConfig { sorter: SorterKind::Random { seed }, weights, ..Default::default() };
    let c = Cluster(Hierarchical::new(config)).agents(400, "cpus:1");
    c.framework("f1", "x").framework("f2", "y").framework("f3", "y")
}

#[test]
fn weights_of_roles_are_the_odds_and_frameworks_of_a_role_have_equal_ones() {
    let mut given = BTreeMap::<String, u32>::new();
    for one in cluster(1).allocate(0) {
        *given.entry(one.framework.to_string()).or_default() += 1;
    }
    for (name, expected) in [("f1", 300_u32), ("f2", 50), ("f3", 50)] {
        // More than six standard deviations.
        assert!(given[name].abs_diff(expected) < 55, "{given:?}");
    }
}

#[test]
fn equal_seeds_give_equal_results_and_others_do_not() {
    let run = |seed| {
        let mut c = cluster(seed);
        let first = c.cycle(0);
        first.iter().step_by(2).for_each(|one| c.recover(one, Some(100)));
        (first, c.cycle(1))
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
}

#[test]
fn whoever_refuses_is_not_drawn() {
    let mut c = cluster(1);
    let mut offered = 0;
    loop {
        let allocations = c.allocate(0);
        if allocations.is_empty() {
            break;
        }
        offered += allocations.len();
        for a in allocations {
            c.0.recover(&a.framework, &a.role, &a.agent, &a.resources, Some(at(100)));
        }
    }
    assert_eq!(offered, 3 * 400, "each is offered each agent once");
}
