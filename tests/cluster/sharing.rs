//! Two frameworks in two roles with the same demand have the same share.

use super::Cluster;
use crate::support::until;

#[test]
fn two_roles_with_equal_demand_are_within_one_task_of_each_other() {
    let cluster = Cluster::start(&[("a", "cpus:3;mem:1GiB"), ("b", "cpus:3;mem:1GiB")]);
    // Each job alone would take everything: 40 tasks of half a processor.
    let job = |name: &str| {
        format!(
            "name = '{name}'\n[array]\nrange = [1, 40]\n[task]\ncommand = 'sleep 3600'\ncpus = 0.5\nmemory = '16MiB'\n"
        )
    };
    let left = cluster.submit("left", &job("left"), &["--role", "left"]);
    let right = cluster.submit("right", &job("right"), &["--role", "right"]);
    let counts = || {
        let running = cluster.tasks("running");
        let of = |name: &str| running.iter().filter(|task| task["role"] == name).count();
        (of("left"), of("right"))
    };
    until("the cluster is full", || {
        let (left, right) = counts();
        (left + right == 12).then_some(())
    });
    // Whoever came first took all. As its tasks end, what they held goes to whoever has less.
    until("both have as much", || {
        let (left_count, right_count) = counts();
        if left_count + right_count < 12 {
            return None; // what was freed is still on its way to somebody
        }
        if left_count.abs_diff(right_count) <= 1 {
            return Some(());
        }
        let richer = if left_count > right_count { "left" } else { "right" };
        let victim = cluster.tasks("running").into_iter().find(|task| task["role"] == richer)?;
        cluster.ask(&["kill", victim["task_id"].as_str().unwrap(), "--grace", "0s"]);
        None
    });
    drop((left, right));
}
