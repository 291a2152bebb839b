//! An operator takes an agent out of use: a drain ends what runs, and an agent that is gone ends.

use super::Cluster;
use crate::support::until;

#[test]
fn a_drained_agent_ends_its_task_and_one_that_is_gone_never_returns() {
    let mut cluster = Cluster::start(&[("a", "cpus:4;mem:2GiB")]);
    // It heeds no TERM and may take its time: what ends it is the grace of the drain.
    let job = "name = 'steady'\n[task]\n\
         command = 'trap \"\" TERM; while true; do sleep 0.05; done'\n\
         cpus = 0.1\nmemory = '16MiB'\nkill_grace = '1h'\n";
    let job = cluster.submit("steady", job, &[]);
    until("it runs", || (cluster.tasks("running").len() == 1).then_some(()));
    let run = |cluster: &Cluster, args: &[&str]| {
        cluster.place.run(&[&["agents"], args, &["--master", &cluster.url]].concat())
    };
    let activation = |cluster: &Cluster| cluster.ask(&["agents"])["agents"][0]["activation"].clone();

    // Named by its host, and waited for until the only task has ended and that is acknowledged.
    let drained = run(&cluster, &["drain", "a", "--grace", "100ms", "--wait"]).expect(0);
    assert!(drained.stderr.contains("1 task left"), "{drained:#?}");
    assert!(drained.stdout.ends_with("(a) is drained\n"), "{drained:#?}");
    assert_eq!(activation(&cluster), "drained");
    let ended = cluster.tasks("killed");
    assert_eq!(ended[0]["status"]["reason"], "agent_draining", "{ended:#?}");

    // The next master knows it, and so does the agent.
    cluster.replace_master();
    until("it is back", || (cluster.ask(&["agents"])["agents"][0]["state"] == "active").then_some(()));
    assert_eq!(activation(&cluster), "drained");
    run(&cluster, &["reactivate", "a"]).expect(0);
    until("it runs again", || (cluster.tasks("running").len() == 1).then_some(()));

    let asked = run(&cluster, &["gone", "a"]).expect(2);
    assert!(asked.stderr.contains("--yes"), "{asked:#?}");
    assert_eq!(activation(&cluster), "active", "nothing was done");
    run(&cluster, &["gone", "a", "--yes"]).expect(0);
    drop(job);
    // It ends what runs, and then itself.
    let ended = cluster.agents.remove("a").unwrap().end().expect(1);
    assert!(ended.stderr.contains("gone for ever"), "{ended:#?}");
    assert!(cluster.ask(&["agents"])["agents"].as_array().unwrap().is_empty());
    cluster.replace_master();
    cluster.start_agent("a", "cpus:4;mem:2GiB");
    let ended = cluster.agents.remove("a").unwrap().end().expect(1);
    assert!(
        ended.stderr.contains("gone for ever") && ended.stderr.contains("empty work directory"),
        "{ended:#?}"
    );
}
