//! Tasks outlive their agent, and the next agent knows them.

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
