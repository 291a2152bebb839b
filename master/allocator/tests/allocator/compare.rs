//! The allocator that says what other settings would have given.

use std::sync::{Arc, Mutex};

use apportion_allocator::{Compared, Difference, SorterKind};

use super::*;

const AGENTS: usize = 12;

fn fill(allocator: &mut dyn Allocator) {
    for number in 0..AGENTS {
        allocator.add_agent(&agent(&format!("a{number}")), &place(), &resources("cpus:4;mem:4096"));
    }
    for (id, of) in [("f1", "x"), ("f2", "y"), ("f3", "y")] {
        subscribe(allocator, id, &[role(of)], &[]);
    }
}

/// Some seconds of cycles; of what each gives some is kept, some returned, some refused.
fn run(allocator: &mut dyn Allocator) -> Vec<Vec<Allocation>> {
    let mut cycles = Vec::new();
    for second in 0..20 {
        let given = allocator.allocate(at(second), 7);
        for (index, a) in given.iter().enumerate() {
            let refuse_until = (index % 3 == 1).then(|| at(second + 2));
            let kept = resources("cpus:1;mem:512");
            let rest = a.resources.checked_sub(&kept).filter(|_| index % 3 == 0);
            let rest = rest.as_ref().unwrap_or(&a.resources);
            allocator.recover(&a.framework, &a.role, &a.agent, rest, refuse_until);
        }
        cycles.push(given);
    }
    cycles
}

/// What differed when the second was the shadow of the first; the first is followed to the letter.
fn differences(real: HierarchicalConfig, shadow: HierarchicalConfig) -> Vec<Difference> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let mut alone = Hierarchical::new(real.clone());
    let mut compared = Compared::new(Hierarchical::new(real), shadow, move |difference| {
        sink.lock().expect("nobody panics with it").push(difference);
    });
    fill(&mut alone);
    fill(&mut compared);
    assert_eq!(run(&mut compared), run(&mut alone));
    assert_eq!(compared.shares(), alone.shares());
    assert_eq!((compared.is_dirty(), compared.next_deadline()), (alone.is_dirty(), alone.next_deadline()));
    drop(compared);
    Arc::into_inner(seen).expect("the sink is gone").into_inner().expect("nobody panicked with it")
}

fn weighted(weight: &str) -> HierarchicalConfig {
    let weights = [(role("x"), weight.parse().expect("it is a weight"))].into();
    HierarchicalConfig { weights, ..Default::default() }
}

#[test]
fn the_same_settings_never_differ() {
    let limited =
        HierarchicalConfig { quotas: [(role("y"), limited(Some("cpus:5")))].into(), ..weighted("0.3") };
    let drawn = HierarchicalConfig { sorter: SorterKind::Random { seed: 3 }, ..limited.clone() };
    for config in [HierarchicalConfig::default(), limited, drawn] {
        assert_eq!(differences(config.clone(), config), []);
    }
}

#[test]
fn each_setting_makes_a_difference() {
    let base = HierarchicalConfig::default;
    let others = [
        weighted("5"),
        HierarchicalConfig { quotas: [(role("y"), limited(Some("cpus:5")))].into(), ..base() },
        HierarchicalConfig { sorter: SorterKind::Random { seed: 3 }, ..base() },
        HierarchicalConfig { allocatable_min: vec![resources("cpus:4")], ..base() },
    ];
    for other in others {
        for (real, shadow) in [(base(), other.clone()), (other, base())] {
            let seen = differences(real, shadow.clone());
            assert!(!seen.is_empty(), "{shadow:?}");
            for one in seen {
                assert_ne!(one.real, one.shadow);
            }
        }
    }
}

/// The shadow is asked from the state of the real one: once given the other way, it does not go on to differ.
#[test]
fn a_difference_is_that_of_its_cycle() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let real = Hierarchical::new(weighted("0.1"));
    let mut c = Compared::new(real, HierarchicalConfig::default(), move |difference: Difference| {
        sink.lock().expect("nobody panics with it").push(difference);
    });
    c.add_agent(&agent("a1"), &place(), &resources("cpus:4"));
    subscribe(&mut c, "f1", &[role("x")], &[]);
    subscribe(&mut c, "f2", &[role("y")], &[]);
    c.charge(&framework("f1"), &role("x"), &agent("a1"), &resources("cpus:1"));
    c.charge(&framework("f2"), &role("y"), &agent("a1"), &resources("cpus:2"));
    let given = c.allocate(at(0), ALL);
    assert_eq!(given.len(), 1);
    let first = Difference {
        at: at(0),
        shadow: vec![Allocation { framework: framework("f1"), role: role("x"), ..given[0].clone() }],
        real: given,
    };
    for second in 1..4 {
        assert!(c.allocate(at(second), ALL).is_empty(), "all is given");
    }
    assert_eq!(*seen.lock().expect("nobody panicked with it"), [first]);

    c.set_weight(&role("x"), Weight::default());
    c.recover(&framework("f2"), &role("y"), &agent("a1"), &resources("cpus:1"), None);
    assert_eq!(c.allocate(at(5), ALL)[0].framework, framework("f1"));
    assert_eq!(seen.lock().expect("nobody panicked with it").len(), 1, "a weight set later is that of both");
}
