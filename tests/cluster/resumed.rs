//! A job outlives its program, if it is written down where it is.

use std::fs;

use rustix::process::Signal;

use super::Cluster;
use crate::support::until;

/// The first four end by themselves, the others when a file appears in their sandbox, which only the test makes.
const JOB: &str = "name = 'steady'\n[array]\nrange = [1, 12]\n[task]\n\
    command = 'if [ ${index} -gt 4 ]; then until [ -e go ]; do sleep 0.05; done; fi; echo done ${index}'\n\
    cpus = 0.1\nmemory = '16MiB'\n";

#[test]
fn a_job_that_is_killed_and_run_again_does_nothing_twice() {
    let cluster = Cluster::start(&[("a", "cpus:4;mem:2GiB")]);
    let state = cluster.place.path().join("state");
    let args = ["--state", state.to_str().unwrap()];
    let begun = cluster.submit("steady", JOB, &args);
    until("four have ended, the others run", || {
        (cluster.tasks("finished").len() == 4 && cluster.tasks("running").len() == 8).then_some(())
    });
    let twice = cluster.submit("steady", JOB, &args).end().expect(2);
    assert!(twice.stderr.contains("is in use by another run; end that one first"), "{}", twice.stderr);

    begun.signal(Signal::KILL);
    begun.end();
    // Half of what runs ends while nobody listens.
    let waiting: Vec<_> =
        cluster.sandboxes("a").into_iter().filter(|sandbox| !done(&sandbox.join("stdout"))).collect();
    assert_eq!(waiting.len(), 8);
    for sandbox in &waiting[..4] {
        fs::write(sandbox.join("go"), "").unwrap();
    }
    until("they have ended", || (cluster.tasks("running").len() == 4).then_some(()));

    let other = cluster.submit("steady", &JOB.replace("echo done", "echo other"), &args).end().expect(2);
    assert!(other.stderr.contains("was begun with other tasks than it has now"), "{}", other.stderr);

    let resumed = cluster.submit("steady", JOB, &args);
    for sandbox in &waiting[4..] {
        fs::write(sandbox.join("go"), "").unwrap();
    }
    let summary = resumed.end().expect(0).json();
    let totals = &summary["totals"];
    assert_eq!((&totals["succeeded"], &totals["launches"]), (&12.into(), &12.into()), "{summary:#}");
    for (index, task) in summary["tasks"].as_array().unwrap().iter().enumerate() {
        assert_eq!(task["output_tail"], format!("done {}", index + 1), "{summary:#}");
    }
    assert!(!state.exists(), "it has ended: nothing is kept of it");
}

fn done(stdout: &std::path::Path) -> bool {
    fs::read_to_string(stdout).is_ok_and(|text| text.contains("done"))
}

#[test]
fn a_job_whose_framework_was_removed_meanwhile_runs_what_it_lost_again() {
    let cluster = Cluster::start(&[("a", "cpus:4;mem:2GiB")]);
    let state = cluster.place.path().join("state");
    let args = ["--state", state.to_str().unwrap()];
    let begun = cluster.submit("steady", JOB, &args);
    until("four have ended, the others run", || {
        (cluster.tasks("finished").len() == 4 && cluster.tasks("running").len() == 8).then_some(())
    });
    let frameworks = cluster.ask(&["frameworks"]);
    let id = frameworks["frameworks"][0]["framework_id"].as_str().unwrap().to_owned();
    begun.signal(Signal::KILL);
    begun.end();
    cluster.place.run(&["teardown", &id, "--master", &cluster.url]).expect(0);
    until("its tasks are gone", || cluster.tasks("running").is_empty().then_some(()));

    let resumed = cluster.submit("steady", JOB, &args);
    until("what was lost runs again", || (cluster.tasks("running").len() == 8).then_some(()));
    for sandbox in cluster.sandboxes("a") {
        fs::write(sandbox.join("go"), "").unwrap();
    }
    let summary = resumed.end().expect(0).json();
    let totals = &summary["totals"];
    // Of the first four an end may not have been written down yet.
    assert_eq!(totals["succeeded"], 12, "{summary:#}");
    assert!(totals["launches"].as_u64().is_some_and(|launches| (20..=24).contains(&launches)), "{totals:#}");
    for (index, task) in summary["tasks"].as_array().unwrap().iter().enumerate().skip(4) {
        assert_eq!(task["output_tail"], format!("done {}", index + 1), "{summary:#}");
    }
}

#[test]
fn of_several_runs_of_a_service_one_leads_and_the_next_finds_its_replicas() {
    let cluster = Cluster::start(&[("a", "cpus:4;mem:2GiB")]);
    let spec = cluster.place.file(
        "web.toml",
        "name = 'web'\nreplicas = 3\ncommand = ['sleep', '10000']\ncpus = 0.1\nmemory = '16MiB'\n",
    );
    let (spec, state) = (spec.to_str().unwrap().to_owned(), cluster.place.path().join("state"));
    let args =
        ["service", "run", &spec, "--state", state.to_str().unwrap(), "--stand-by", "--master", &cluster.url];
    let mut leads = cluster.place.start(&args);
    leads.line_with("all 3 replicas run");
    let tasks = || {
        let running = cluster.tasks("running");
        let mut ids: Vec<_> =
            running.iter().map(|task| task["task_id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    let replicas = tasks();
    for (signal, code) in [(Signal::KILL, None), (Signal::TERM, Some(0)), (Signal::KILL, None)] {
        let mut next = cluster.place.start(&args);
        next.line_with("standing by");
        leads.signal(signal);
        assert_eq!(leads.end().code(), code);
        next.line_with("looking for the 3 replicas that it had");
        next.line_with("all 3 replicas run");
        assert_eq!(tasks(), replicas, "none was started again");
        leads = next;
    }
    // What ends for ever ends for all.
    let mut next = cluster.place.start(&args);
    next.line_with("standing by");
    let listed = cluster.ask(&["frameworks"]);
    assert_eq!(listed["frameworks"].as_array().unwrap().len(), 1, "{listed:#}");
    let id = listed["frameworks"][0]["framework_id"].as_str().unwrap().to_owned();
    cluster.place.run(&["teardown", &id, "--master", &cluster.url]).expect(0);
    for run in [leads, next] {
        let ended = run.end().expect(1);
        assert!(ended.stderr.contains("was ended by somebody else"), "{}", ended.stderr);
    }
}

#[test]
fn a_service_that_is_known_waits_for_a_master_and_a_new_one_does_not() {
    let mut cluster = Cluster::start(&[("a", "cpus:4;mem:2GiB")]);
    let spec = "name = 'web'\nreplicas = 2\ncommand = ['sleep', '10000']\ncpus = 0.1\nmemory = '16MiB'\n";
    let spec = cluster.place.file("web.toml", spec).to_str().unwrap().to_owned();
    let state = |name: &str| cluster.place.path().join(name).to_str().unwrap().to_owned();
    let (known, new) = (state("known"), state("new"));
    let url = cluster.url.clone();
    let args = |state| ["service", "run", &spec, "--state", state, "--master", &url].map(str::to_owned);
    let start = |cluster: &Cluster, state| {
        let args = args(state);
        cluster.place.start(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut run = start(&cluster, &known);
    run.line_with("all 2 replicas run");
    run.signal(Signal::TERM);
    run.end().expect(0);
    cluster.master.kill();
    let (mut waits, gives_up) = (start(&cluster, &known), start(&cluster, &new));
    waits.error_with("no master answers yet; waiting for one for 1h");
    let ended = gives_up.end().expect(1);
    assert!(ended.stderr.contains("no master answered"), "{}", ended.stderr);
    cluster.replace_master();
    waits.line_with("looking for the 2 replicas that it had");
    waits.line_with("all 2 replicas run");
}
