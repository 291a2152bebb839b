//! Who gets how much over time.

use super::*;

/// Gives a task's part of each offer to its framework and returns the rest, until nothing more fits.
fn fill(c: &mut Cluster, tasks: &[(&str, &str)]) -> BTreeMap<String, usize> {
    let mut launched = BTreeMap::new();
    for second in 0.. {
        let allocations = c.allocate(second);
        if allocations.is_empty() && c.0.next_deadline().is_none_or(|deadline| deadline > at(10_000)) {
            break;
        }
        for a in allocations {
            let task = tasks
                .iter()
                .find(|(name, _)| framework(name) == a.framework)
                .map(|(_, task)| resources(task));
            match task.and_then(|task| a.resources.checked_sub(&task)) {
                Some(rest) => {
                    *launched.entry(a.framework.to_string()).or_default() += 1;
                    c.0.recover(&a.framework, &a.role, &a.agent, &rest, None);
                }
                None => c.0.recover(&a.framework, &a.role, &a.agent, &a.resources, Some(at(1_000_000))),
            }
            c.0.check();
        }
    }
    launched
}

fn counts(launched: &BTreeMap<String, usize>) -> Vec<(&str, usize)> {
    launched.iter().map(|(name, count)| (name.as_str(), *count)).collect()
}

#[test]
fn the_papers_example_ends_with_equal_dominant_shares() {
    let mut c = Cluster::default().agents(1, "cpus:9;mem:18").framework("a", "*").framework("b", "*");
    let launched = fill(&mut c, &[("a", "cpus:1;mem:4"), ("b", "cpus:3;mem:1")]);
    assert_eq!(counts(&launched), [("a", 3), ("b", 2)]);
    let shares: Vec<_> = c.0.shares().iter().skip(1).map(|share| share.dominant_share_ppm).collect();
    assert_eq!(shares, [666_666, 666_666]);
}

#[test]
fn two_roles_with_equal_demand_end_within_one_task_of_each_other() {
    for agents in 1..8 {
        let mut c =
            Cluster::default().agents(agents, "cpus:5;mem:5120").framework("f1", "x").framework("f2", "y");
        let launched = fill(&mut c, &[("f1", "cpus:1;mem:1024"), ("f2", "cpus:1;mem:1024")]);
        assert_eq!(launched.values().sum::<usize>(), agents * 5, "all is used");
        assert!(launched["f1"].abs_diff(launched["f2"]) <= 1, "{launched:?}");
    }
}

#[test]
fn roles_are_equal_however_many_frameworks_they_have() {
    let mut c = Cluster::default().agents(6, "cpus:4;mem:4096").framework("f1", "x");
    c = c.framework("f2", "y").framework("f3", "y").framework("f4", "y");
    let task = "cpus:1;mem:1024";
    let launched = fill(&mut c, &[("f1", task), ("f2", task), ("f3", task), ("f4", task)]);
    assert_eq!(counts(&launched), [("f1", 12), ("f2", 4), ("f3", 4), ("f4", 4)]);
}

#[test]
fn a_role_of_twice_the_weight_ends_with_twice_as_much() {
    let task = "cpus:1;mem:1024";
    let cluster =
        || Cluster::default().agents(6, "cpus:4;mem:4096").framework("f1", "x").framework("f2", "y");
    let tasks = [("f1", task), ("f2", task)];
    let mut before = cluster();
    before.0.set_weight(&role("x"), "2".parse().unwrap());
    assert_eq!(counts(&fill(&mut before, &tasks)), [("f1", 16), ("f2", 8)]);

    let config =
        HierarchicalConfig { weights: [(role("y"), "0.2".parse().unwrap())].into(), ..Default::default() };
    let mut c = Cluster(Hierarchical::new(config)).agents(6, "cpus:4;mem:4096");
    c = c.framework("f1", "x").framework("f2", "y");
    assert_eq!(counts(&fill(&mut c, &tasks)), [("f1", 20), ("f2", 4)]);
}

#[test]
fn a_role_keeps_its_weight_while_it_is_away() {
    let mut c = Cluster::default().agents(6, "cpus:4").framework("f1", "x").framework("f2", "y");
    c.0.set_weight(&role("y"), "2".parse().unwrap());
    c.0.remove_framework(&framework("f2"));
    c = c.framework("f3", "y");
    assert_eq!(counts(&fill(&mut c, &[("f1", "cpus:1"), ("f3", "cpus:1")])), [("f1", 8), ("f3", 16)]);
}

#[test]
fn equals_take_turns_on_each_agent() {
    let mut c = Cluster::default().agents(2, "cpus:1").framework("f1", "*").framework("f2", "*");
    let mut seen = BTreeSet::new();
    for second in 0..4 {
        for a in c.allocate(second) {
            seen.insert((a.framework.clone(), a.agent.clone()));
            c.0.recover(&a.framework, &a.role, &a.agent, &a.resources, None);
        }
    }
    assert_eq!(seen.len(), 4, "each was offered each agent: {seen:?}");
}

#[test]
fn a_cycle_stopped_at_its_bound_goes_on_where_it_stopped() {
    let mut c = Cluster::default().agents(5, "cpus:1").framework("f1", "*");
    let mut order = Vec::new();
    for expected in [2, 2, 1, 0] {
        let allocations = c.0.allocate(at(0), 2);
        assert_eq!(allocations.len(), expected);
        order.extend(allocations.into_iter().map(|a| a.agent.to_string()));
        assert_eq!(c.0.is_dirty(), order.len() < 5);
    }
    assert_eq!(order, ["a1", "a2", "a3", "a4", "a5"]);
}
