//! Refuse filters: refused ⊇ offered, each for its time.

use super::*;

const WHOLE: &str = "cpus:4;mem:4096";

fn two_frameworks() -> Cluster {
    Cluster::default().agents(1, WHOLE).framework("f1", "*").framework("f2", "*")
}

#[test]
fn what_one_declines_another_gets_in_the_very_next_cycle() {
    let mut c = two_frameworks();
    assert_eq!(c.cycle(0), ["f1 * a1 cpus:4;mem:4096"]);
    c.recover("f1 * a1 cpus:4;mem:4096", Some(5));
    assert!(c.0.is_dirty());
    assert_eq!(c.cycle(0), ["f2 * a1 cpus:4;mem:4096"]);
    c.recover("f2 * a1 cpus:4;mem:4096", Some(6));
    assert_eq!(c.cycle(0), [""; 0], "both refused");
    assert_eq!(c.0.next_deadline(), Some(at(5)));
    assert_eq!(c.cycle(4), [""; 0]);
    assert_eq!(c.cycle(5), ["f1 * a1 cpus:4;mem:4096"], "equally often given, and first by name");
    c.recover("f1 * a1 cpus:4;mem:4096", Some(60));
    assert_eq!(c.cycle(5), [""; 0]);
    assert_eq!(c.0.next_deadline(), Some(at(6)));
    assert_eq!(c.cycle(6), ["f2 * a1 cpus:4;mem:4096"]);
    assert_eq!(c.0.next_deadline(), None, "a filter on an agent with nothing free does not matter");
}

#[test]
fn more_on_the_agent_is_offered_before_the_filter_expires() {
    let mut c = Cluster::default().agents(1, WHOLE).framework("f1", "*");
    c.0.charge(&framework("f1"), &role("*"), &agent("a1"), &resources("cpus:1"));
    assert_eq!(c.cycle(0), ["f1 * a1 cpus:3;mem:4096"]);
    c.recover("f1 * a1 cpus:3;mem:4096", Some(100));
    assert_eq!(c.cycle(1), [""; 0]);
    c.recover("f1 * a1 cpus:1", None);
    assert_eq!(c.cycle(2), ["f1 * a1 cpus:4;mem:4096"]);
}

#[test]
fn less_than_what_was_refused_is_refused_too() {
    let mut c = two_frameworks();
    c.cycle(0);
    c.recover("f1 * a1 cpus:4;mem:4096", Some(100));
    c.0.charge(&framework("f2"), &role("*"), &agent("a1"), &resources("cpus:3"));
    c.0.suppress(&framework("f2"), &[]);
    assert_eq!(c.cycle(1), [""; 0]);
    assert_eq!(c.cycle(100), ["f1 * a1 cpus:1;mem:4096"]);
}

#[test]
fn two_refusals_are_not_merged() {
    let mut c = Cluster::default().agents(1, WHOLE).framework("f1", "*");
    c.cycle(0);
    c.recover("f1 * a1 cpus:2;mem:2048", Some(100));
    assert_eq!(c.cycle(1), [""; 0]);
    c.recover("f1 * a1 cpus:2;mem:2048", Some(100));
    assert_eq!(c.cycle(2), ["f1 * a1 cpus:4;mem:4096"], "neither refusal holds all of it");
}

#[test]
fn other_agents_roles_and_frameworks_are_not_concerned() {
    let mut c = Cluster::default().agents(2, WHOLE);
    subscribe(&mut c.0, "f1", &[role("x"), role("y")], &[]);
    assert_eq!(c.cycle(0), ["f1 x a1 cpus:4;mem:4096", "f1 y a2 cpus:4;mem:4096"]);
    c.recover("f1 x a1 cpus:4;mem:4096", Some(100));
    c.recover("f1 y a2 cpus:4;mem:4096", Some(100));
    let mut given = c.cycle(1);
    given.sort();
    assert_eq!(given, ["f1 x a2 cpus:4;mem:4096", "f1 y a1 cpus:4;mem:4096"]);
}

#[test]
fn revive_forgets_the_filters_of_the_roles_named() {
    let mut c = Cluster::default().agents(1, WHOLE);
    subscribe(&mut c.0, "f1", &[role("x"), role("y")], &[]);
    assert_eq!(c.cycle(0), ["f1 x a1 cpus:4;mem:4096"]);
    c.recover("f1 x a1 cpus:4;mem:4096", Some(100));
    assert_eq!(c.cycle(0), ["f1 y a1 cpus:4;mem:4096"]);
    c.recover("f1 y a1 cpus:4;mem:4096", Some(100));
    assert_eq!(c.cycle(0), [""; 0]);
    c.0.revive(&framework("f1"), &[role("y")]);
    assert!(c.0.is_dirty());
    assert_eq!(c.cycle(0), ["f1 y a1 cpus:4;mem:4096"]);
    c.recover("f1 y a1 cpus:4;mem:4096", Some(100));
    c.0.revive(&framework("f1"), &[]);
    assert_eq!(c.cycle(0), ["f1 x a1 cpus:4;mem:4096"]);
}

#[test]
fn a_pause_of_the_framework_or_the_end_of_the_agent_forgets_filters() {
    let mut c = Cluster::default().agents(1, WHOLE).framework("f1", "*");
    c.cycle(0);
    c.recover("f1 * a1 cpus:4;mem:4096", Some(100));
    c.0.set_framework_active(&framework("f1"), false);
    assert_eq!(c.cycle(1), [""; 0]);
    c.0.set_framework_active(&framework("f1"), true);
    assert_eq!(c.cycle(1), ["f1 * a1 cpus:4;mem:4096"]);
    c.recover("f1 * a1 cpus:4;mem:4096", Some(100));
    c.0.remove_agent(&agent("a1"));
    assert_eq!(c.0.next_deadline(), None);
    c.0.add_agent(&agent("a1"), &place(), &resources(WHOLE));
    assert_eq!(c.cycle(1), ["f1 * a1 cpus:4;mem:4096"]);
}

/// A poor framework that refuses for less than the time between two cycles would else be offered the same for ever.
#[test]
fn a_filter_holds_for_one_cycle_however_short() {
    let mut c = two_frameworks();
    c.0.add_agent(&agent("a2"), &place(), &resources(WHOLE));
    c.0.charge(&framework("f2"), &role("*"), &agent("a2"), &resources(WHOLE));
    assert_eq!(c.cycle(10), ["f1 * a1 cpus:4;mem:4096"], "the poorer");
    c.recover("f1 * a1 cpus:4;mem:4096", Some(10));
    assert_eq!(c.cycle(11), ["f2 * a1 cpus:4;mem:4096"]);

    c.recover("f2 * a1 cpus:4;mem:4096", Some(12));
    assert_eq!(c.cycle(13), ["f1 * a1 cpus:4;mem:4096"]);
    c.0.suppress(&framework("f2"), &[]);
    c.recover("f1 * a1 cpus:4;mem:4096", Some(14));
    assert!(!c.0.is_dirty(), "nobody else wants it: there is no cycle to hold it for");
    assert_eq!(c.0.next_deadline(), Some(at(14)));
    assert_eq!(c.cycle(15), ["f1 * a1 cpus:4;mem:4096"]);
}

#[test]
fn those_who_always_decline_do_not_starve_the_one_who_wants() {
    let mut c = Cluster::default().agents(10, WHOLE);
    // `z` is last by name, and richer than all from its first offer on.
    for number in 0..20 {
        c = c.framework(&format!("d{number}"), "*");
    }
    c = c.framework("z", "*");
    let mut gained = 0;
    // Cycles come as fast as declines: each costs every decliner its turn for 5 s.
    for round in 0..400 {
        let seconds = round / 20;
        for a in c.allocate(seconds) {
            if a.framework == framework("z") {
                gained += 1;
            } else {
                c.0.recover(&a.framework, &a.role, &a.agent, &a.resources, Some(at(seconds + 5)));
            }
        }
        if gained == 10 {
            assert!(seconds < 5, "before the first filter expired");
            return;
        }
    }
    panic!("z got {gained} of 10 agents");
}

#[test]
fn a_decliner_in_a_poorer_role_does_not_starve_another_role() {
    let mut c = Cluster::default().agents(4, WHOLE).framework("d", "poor").framework("w", "rich");
    for cycle in 0..3 {
        for a in c.allocate(0) {
            if a.framework == framework("d") {
                c.0.recover(&a.framework, &a.role, &a.agent, &a.resources, Some(at(5)));
            }
        }
        assert!(
            cycle < 2
                || c.0.shares().iter().any(|s| s.role == role("rich") && s.dominant_share_ppm == 1_000_000)
        );
    }
}
