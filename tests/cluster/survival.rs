//! Tasks outlive their agent, and the next agent knows them; so do agents and frameworks their master.

use std::fs;

use rustix::process::Signal;

use super::Cluster;
use crate::support::until;

#[test]
fn tasks_run_on_without_their_agent_and_their_ends_are_told_by_the_next() {
    let mut cluster = Cluster::start(&[("a", "cpus:4;mem:2GiB")]);
    // Each ends when a file appears in its sandbox, which only the test makes.
    let job = "name = 'steady'\n[array]\nrange = [1, 20]\n[task]\n\
         command = 'until [ -e go ]; do echo tick >> ticks; sleep 0.05; done; echo done'\n\
         cpus = 0.1\nmemory = '16MiB'\n";
    let job = cluster.submit("steady", job, &[]);
    until("all run", || (cluster.tasks("running").len() == 20).then_some(()));
    let sandboxes = cluster.sandboxes("a");
    assert_eq!(sandboxes.len(), 20);
    let ticks = || -> Vec<u64> {
        sandboxes
            .iter()
            .map(|sandbox| fs::metadata(sandbox.join("ticks")).map_or(0, |meta| meta.len()))
            .collect()
    };
    until("all tick", || ticks().iter().all(|ticks| *ticks > 0).then_some(()));

    let agent = cluster.agents.remove("a").unwrap();
    agent.signal(Signal::KILL);
    agent.end();
    let before = ticks();
    until("all tick on without their agent", || {
        ticks().iter().zip(&before).all(|(now, then)| now > then).then_some(())
    });
    // Half end while nobody watches, half under the next agent.
    for sandbox in &sandboxes[..10] {
        fs::write(sandbox.join("go"), "").unwrap();
    }
    cluster.start_agent("a", "cpus:4;mem:2GiB");
    until("ends that nobody saw are told", || (cluster.tasks("finished").len() == 10).then_some(()));
    for sandbox in &sandboxes[10..] {
        fs::write(sandbox.join("go"), "").unwrap();
    }
    let summary = job.end().expect(0).json();
    assert_eq!(summary["totals"]["succeeded"], 20, "{summary:#}");
    assert_eq!(cluster.stdout("steady-0001").trim(), "done");
}

#[test]
fn a_new_master_knows_agents_and_frameworks_before_they_return() {
    let mut cluster = Cluster::start(&[("a", "cpus:4;mem:2GiB")]);
    let job = "name = 'steady'\n[task]\n\
         command = 'until [ -e go ]; do echo tick >> ticks; sleep 0.05; done; echo done'\n\
         cpus = 0.1\nmemory = '16MiB'\n";
    let job = cluster.submit("steady", job, &[]);
    until("it runs", || (cluster.tasks("running").len() == 1).then_some(()));
    let sandboxes = cluster.sandboxes("a");
    let ticks = || fs::metadata(sandboxes[0].join("ticks")).map_or(0, |meta| meta.len());
    let one = |cluster: &Cluster, what: &str| -> (String, String) {
        let listed = cluster.ask(&[what]);
        let [one] = &listed[what].as_array().unwrap()[..] else { panic!("{listed:#}") };
        let id = one[format!("{}_id", what.trim_end_matches('s'))].as_str().unwrap();
        (id.to_owned(), one["state"].as_str().unwrap().to_owned())
    };
    let (agent, _) = one(&cluster, "agents");
    let (framework, _) = one(&cluster, "frameworks");

    // They are not to return before somebody has looked.
    cluster.agents["a"].signal(Signal::STOP);
    job.signal(Signal::STOP);
    let before = ticks();
    cluster.replace_master();
    assert_eq!(one(&cluster, "agents"), (agent.clone(), "recovered".to_owned()));
    assert_eq!(one(&cluster, "frameworks"), (framework, "disconnected".to_owned()));
    until("it runs on without a master", || (ticks() > before).then_some(()));

    cluster.agents["a"].signal(Signal::CONT);
    until("the agent is back", || (one(&cluster, "agents").1 == "active").then_some(()));
    assert_eq!(one(&cluster, "agents").0, agent);
    let running = cluster.tasks("running");
    let [task] = &running[..] else { panic!("{running:#?}") };
    job.signal(Signal::CONT);
    until("the framework is back", || (one(&cluster, "frameworks").1 == "active").then_some(()));
    fs::write(sandboxes[0].join("go"), "").unwrap();
    let summary = job.end().expect(0).json();
    assert_eq!(summary["totals"]["succeeded"], 1, "{summary:#}");
    assert_eq!(cluster.stdout(task["task_id"].as_str().unwrap()).trim(), "done");
}
