//! A machine that is taken away for maintenance, and comes back.

use std::fs;

use serde_json::Value;

use super::Cluster;
use crate::support::until;

/// How the machine of an agent stands.
fn status(cluster: &Cluster, machine: &str) -> Value {
    cluster.ask(&["maintenance", "status", machine])["machines"][0].clone()
}

#[test]
fn a_machine_is_left_taken_down_and_let_up_again() {
    let mut cluster = Cluster::start(&[("a", "cpus:2;mem:1GiB"), ("b", "cpus:2;mem:1GiB")]);
    let job = "name = 'steady'\n[task]\ncommand = 'until [ -e go ]; do sleep 0.05; done; echo done'\n\
         cpus = 0.5\nmemory = '32MiB'\n";
    let job = cluster.submit("steady", job, &[]);
    let task = until("it runs", || cluster.tasks("running").pop());
    let agents = cluster.ask(&["agents"]);
    let agents = agents["agents"].as_array().unwrap();
    let here = agents.iter().find(|agent| agent["agent_id"] == task["agent_id"]).unwrap();
    let machine = here["hostname"].as_str().unwrap().to_owned();
    let other = if machine == "a" { "b" } else { "a" };

    let unplanned =
        cluster.place.run(&["maintenance", "start", &machine, "--master", &cluster.url]).expect(1);
    assert!(unplanned.stderr.contains("has no window; plan one first"), "{}", unplanned.stderr);
    let schedule = format!("[[window]]\nmachines = ['{machine}']\nstart = 'in 2h'\nduration = '4h'\n");
    let schedule = cluster.place.file("schedule.toml", &schedule);
    cluster.ask(&["maintenance", "schedule", schedule.to_str().unwrap()]);
    // The framework that has a task there says that it will leave.
    let answered = until("the framework has answered", || {
        let status = status(&cluster, &machine);
        let framework = status["agents"][0]["frameworks"][0].clone();
        (framework["answer"] == "accepted").then_some(status)
    });
    assert_eq!(answered["mode"], "draining");

    cluster.ask(&["maintenance", "start", &machine]);
    cluster.agents.remove(&machine).unwrap().end().expect(0);
    let moved = until("it runs elsewhere", || {
        cluster.tasks("running").into_iter().find(|running| running["agent_id"] != task["agent_id"])
    });
    assert!(moved["task_id"] != task["task_id"], "it is another attempt");
    // No agent is let in there, not by the next master either.
    cluster.replace_master();
    cluster.start_agent(&machine, "cpus:2;mem:1GiB");
    cluster.agents.remove(&machine).unwrap().end().expect(0);
    assert_eq!(status(&cluster, &machine)["mode"], "down");

    cluster.ask(&["maintenance", "stop", &machine]);
    cluster.start_agent(&machine, "cpus:2;mem:1GiB");
    until("both are there", || {
        let agents = cluster.ask(&["agents"]);
        let active = agents["agents"].as_array().unwrap().iter().filter(|agent| agent["state"] == "active");
        (active.count() == 2).then_some(())
    });
    assert_eq!(status(&cluster, &machine)["mode"], "up");
    let sandbox = cluster.sandboxes(other).pop().unwrap();
    fs::write(sandbox.join("go"), "").unwrap();
    job.end().expect(0);
}
