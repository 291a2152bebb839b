//! Quota limits: what a role may have at most, and how it is woken when it may have more.

use super::*;

fn cluster(agents: usize, total: &str, limit: &str) -> Cluster {
    let mut c = Cluster::default().agents(agents, total);
    c.0.set_quota(&role("eng"), limited(Some(limit)));
    c.framework("f1", "eng")
}

#[test]
fn a_role_is_given_what_it_has_room_for_and_others_the_rest() {
    let mut c = cluster(1, "cpus:4;mem:1024;ports:[1-9]", "cpus:1").framework("f2", "ops");
    assert_eq!(c.cycle(0), ["f1 eng a1 cpus:1;mem:1024;ports:[1-9]", "f2 ops a1 cpus:3"]);
    c.recover("f2 ops a1 cpus:3", None);
    c.recover("f1 eng a1 cpus:1;mem:1024;ports:[1-9]", None);
    c.0.set_quota(&role("eng"), limited(Some("mem:31")));
    assert_eq!(c.cycle(1), ["f2 ops a1 cpus:4;mem:1024;ports:[1-9]"], "31 MiB are not worth offering");
}

#[test]
fn a_role_at_its_limit_leaves_the_memory_of_agents_to_others() {
    let mut c = cluster(3, "cpus:4;mem:1024", "cpus:4");
    assert_eq!(c.cycle(0), ["f1 eng a1 cpus:4;mem:1024"]);
    assert_eq!(c.0.next_deadline(), None, "nobody wakes up for what cannot be given");
    assert_eq!(c.cycle(1), [""; 0]);
}

#[test]
fn a_limit_of_zero_forbids_and_the_rest_is_given() {
    let mut c = cluster(1, "cpus:4;gpus:2", "gpus:0");
    assert_eq!(c.cycle(0), ["f1 eng a1 cpus:4"]);
}

#[test]
fn room_that_comes_back_on_one_agent_is_used_on_another() {
    let mut c = cluster(2, "cpus:4;mem:1024", "cpus:4");
    assert_eq!(c.cycle(0), ["f1 eng a1 cpus:4;mem:1024"]);
    c.0.set_agent_inactive(&agent("a1"), Some(Inactive::Disconnected));
    assert_eq!(c.cycle(1), [""; 0]);
    c.recover("f1 eng a1 cpus:1", None);
    assert!(c.0.is_dirty());
    assert_eq!(c.cycle(2), ["f1 eng a2 cpus:1;mem:1024"]);
    c.0.remove_agent(&agent("a1"));
    assert!(c.0.is_dirty());
    assert_eq!(c.cycle(3), ["f1 eng a2 cpus:3"]);
}

#[test]
fn a_limit_that_is_raised_or_lifted_wakes_its_role() {
    let mut c = cluster(3, "cpus:4;mem:1024", "cpus:4");
    c.cycle(0);
    c.0.set_quota(&role("eng"), limited(Some("cpus:6")));
    assert!(c.0.is_dirty());
    assert_eq!(c.cycle(1), ["f1 eng a2 cpus:2;mem:1024"]);
    c.0.set_quota(&role("eng"), limited(Some("cpus:5")));
    assert_eq!(c.cycle(2), [""; 0]);
    c.0.set_quota(&role("eng"), limited(None));
    assert!(c.0.is_dirty());
    assert_eq!(c.cycle(3), ["f1 eng a3 cpus:4;mem:1024", "f1 eng a2 cpus:2"]);
}

#[test]
fn tasks_of_agents_that_returned_may_exceed_a_limit() {
    let mut c = cluster(2, "cpus:4", "cpus:3");
    c.0.charge(&framework("f1"), &role("eng"), &agent("a1"), &resources("cpus:4"));
    assert_eq!(c.cycle(0), [""; 0]);
    c.recover("f1 eng a1 cpus:1", None);
    assert_eq!(c.cycle(1), [""; 0], "it has just what it may have");
    c.recover("f1 eng a1 cpus:1", None);
    assert_eq!(c.cycle(2), ["f1 eng a1 cpus:1"]);
}

#[test]
fn what_was_refused_in_part_is_offered_when_there_is_room_for_more() {
    let mut c = cluster(1, "cpus:4;mem:1024", "cpus:2");
    assert_eq!(c.cycle(0), ["f1 eng a1 cpus:2;mem:1024"]);
    c.recover("f1 eng a1 cpus:2;mem:1024", Some(100));
    assert_eq!(c.cycle(1), [""; 0]);
    c.0.set_quota(&role("eng"), limited(Some("cpus:3")));
    assert_eq!(c.cycle(2), ["f1 eng a1 cpus:3;mem:1024"]);
}

#[test]
fn a_role_keeps_its_limit_while_it_is_away() {
    let mut c = cluster(1, "cpus:4", "cpus:2");
    c.0.remove_framework(&framework("f1"));
    c = c.framework("f2", "eng");
    assert_eq!(c.cycle(0), ["f2 eng a1 cpus:2"]);
}

#[test]
fn what_is_charged_may_leave_what_a_role_has_room_for() {
    let mut c = cluster(1, "cpus:4;mem:1024", "cpus:0");
    assert_eq!(c.cycle(0), [""; 0]);
    c.0.charge(&framework("f1"), &role("ops"), &agent("a1"), &resources("cpus:4"));
    assert!(c.0.is_dirty());
    assert_eq!(c.cycle(1), ["f1 eng a1 mem:1024"]);
}
