//! Agents and frameworks that come, pause, change and go.

use super::*;

const WHOLE: &str = "cpus:4;mem:4096";

#[test]
fn too_little_is_not_offered() {
    for (total, offered) in [
        ("cpus:0.009;mem:31.999;disk:4096", 0),
        ("cpus:0.01", 1),
        ("mem:32", 1),
        ("disk:4096;ports:[1-9]", 0),
    ] {
        let mut c = Cluster::default().agents(1, total).framework("f1", "*");
        assert_eq!(c.allocate(0).len(), offered, "{total}");
    }
}

#[test]
fn an_inactive_agent_is_not_offered_and_keeps_what_is_allocated() {
    let mut c = Cluster::default().agents(1, WHOLE).framework("f1", "*");
    c.0.charge(&framework("f1"), &role("*"), &agent("a1"), &resources("cpus:1"));
    c.0.set_agent_inactive(&agent("a1"), Some(Inactive::Disconnected));
    assert!(!c.0.is_dirty());
    assert_eq!(c.cycle(0), [""; 0]);
    assert_eq!(c.0.free(&agent("a1")), resources("cpus:3;mem:4096"));
    c.0.set_agent_inactive(&agent("a1"), None);
    assert_eq!(c.cycle(0), ["f1 * a1 cpus:3;mem:4096"]);
}

#[test]
fn what_a_removed_framework_held_is_offered_to_others() {
    let mut c = Cluster::default().agents(1, WHOLE).framework("f1", "*");
    c.cycle(0);
    c = c.framework("f2", "*");
    assert_eq!(c.cycle(1), [""; 0]);
    c.0.remove_framework(&framework("f1"));
    assert_eq!(c.cycle(1), ["f2 * a1 cpus:4;mem:4096"]);
}

#[test]
fn an_inactive_framework_keeps_what_it_holds_and_counts_it() {
    let mut c = Cluster::default().agents(2, WHOLE).framework("f1", "*");
    c.0.charge(&framework("f1"), &role("*"), &agent("a1"), &resources(WHOLE));
    c.0.set_framework_active(&framework("f1"), false);
    assert_eq!(c.cycle(0), [""; 0]);
    assert_eq!(c.0.shares()[1].dominant_share_ppm, 500_000);
    c.recover("f1 * a1 cpus:4", Some(100));
    c.0.set_framework_active(&framework("f1"), true);
    assert_eq!(
        c.cycle(0),
        ["f1 * a1 cpus:4", "f1 * a2 cpus:4;mem:4096"],
        "refused while inactive: no filter"
    );
}

#[test]
fn suppression_is_by_role_and_ends_with_revive() {
    let mut c = Cluster::default().agents(1, WHOLE);
    let (x, y) = (role("x"), role("y"));
    subscribe(&mut c.0, "f1", &[x.clone(), y.clone()], std::slice::from_ref(&x));
    assert_eq!(c.cycle(0), ["f1 y a1 cpus:4;mem:4096"]);
    c.recover("f1 y a1 cpus:4;mem:4096", None);
    c.0.suppress(&framework("f1"), &[]);
    assert!(!c.0.is_dirty(), "nobody wants it");
    assert_eq!(c.cycle(0), [""; 0]);
    resubscribe(&mut c.0, "f1", &[x.clone(), y.clone()], &[x.clone(), y.clone()]);
    assert_eq!(c.cycle(0), [""; 0], "both are still suppressed");
    resubscribe(&mut c.0, "f1", &[x.clone(), y.clone()], std::slice::from_ref(&x));
    assert_eq!(c.cycle(0), ["f1 y a1 cpus:4;mem:4096"], "what is not named any more is wanted again");
    c.recover("f1 y a1 cpus:4;mem:4096", None);
    resubscribe(&mut c.0, "f1", &[x.clone(), y.clone()], &[x.clone(), y]);
    c.0.revive(&framework("f1"), &[x]);
    assert_eq!(c.cycle(0), ["f1 x a1 cpus:4;mem:4096"]);
}

#[test]
fn what_is_held_under_a_role_that_went_counts_until_it_is_recovered() {
    let mut c = Cluster::default().agents(1, WHOLE).framework("f1", "x");
    c.cycle(0);
    resubscribe(&mut c.0, "f1", &[role("y")], &[]);
    let names = |c: &Cluster| c.0.shares().iter().map(|share| share.role.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&c), ["y", "y", "x", "x"]);
    c.recover("f1 x a1 cpus:4;mem:4096", Some(100));
    assert_eq!(names(&c), ["y", "y"]);
    assert_eq!(c.cycle(0), ["f1 y a1 cpus:4;mem:4096"]);
}

#[test]
fn tasks_of_a_returning_agent_are_charged_under_any_role() {
    let mut c = Cluster::default().agents(1, WHOLE).framework("f1", "x");
    c.0.charge(&framework("f1"), &role("gone"), &agent("a1"), &resources("cpus:1;mem:1024"));
    c.0.check();
    assert_eq!(c.cycle(0), ["f1 x a1 cpus:3;mem:3072"]);
    c.0.remove_agent(&agent("a1"));
    c.0.check();
    assert!(c.0.shares().iter().all(|share| share.role == role("x") && share.allocated.is_empty()));
}

#[test]
fn a_late_framework_is_offered_what_nobody_wanted() {
    let mut c = Cluster::default().agents(2, WHOLE).framework("f1", "*");
    for what in c.cycle(0) {
        c.recover(&what, Some(1_000));
    }
    assert_eq!(c.cycle(1), [""; 0]);
    c = c.framework("f2", "*");
    assert_eq!(c.cycle(1).len(), 2);
}

#[test]
#[should_panic(expected = "recovered of")]
fn more_than_was_given_is_not_taken_back() {
    let mut c = Cluster::default().agents(1, WHOLE).framework("f1", "*");
    c.0.charge(&framework("f1"), &role("*"), &agent("a1"), &resources("cpus:1"));
    c.recover("f1 * a1 cpus:2", None);
}

#[test]
#[should_panic(expected = "charged")]
fn more_than_is_free_is_not_charged() {
    let mut c = Cluster::default().agents(1, WHOLE).framework("f1", "*");
    c.0.charge(&framework("f1"), &role("*"), &agent("a1"), &resources("cpus:5"));
}
