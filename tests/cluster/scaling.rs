//! A service that is scaled by what its replicas truly use.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use super::Cluster;
use crate::support::{Running, until};

/// Each replica computes for as long as there is a file in its sandbox, and waits otherwise. What is measured is a part of the fifth of a processor that it
/// asks for, so that it is soon much, also where others are busy.
const WEB: &str = "name = 'web'\ncpus = 0.2\nmemory = '32MiB'\n\
    command = 'while :; do if [ -e burn ]; then i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; else sleep 0.3; fi; done'\n\
    [scale]\nmax = 3\ninterval = '1s'\ndown_after = '3s'\n\
    [[scale.rule]]\nmetric = 'cpu'\ntarget = 0.4\n";

/// There is no such machine.
const BIG: &str = "name = 'big'\ncpus = 99\ncommand = ['sleep', '1000']\n";

#[test]
fn a_service_grows_while_it_has_much_to_do_and_shrinks_afterwards() {
    let cluster = Cluster::start(&[("a", "cpus:2;mem:1GiB")]);
    let state = cluster.place.path().join("state");
    let serve = || -> Running {
        let state = state.to_str().unwrap();
        cluster.place.start(&["service", "serve", "--state", state, "--master", &cluster.url])
    };
    let order = |args: &[&str]| {
        let mut all = vec!["service"];
        all.extend(args);
        all.extend(["--state", state.to_str().unwrap(), "-o", "json"]);
        cluster.place.run(&all)
    };
    let web = cluster.place.file("web.toml", WEB);
    let big = cluster.place.file("big.toml", BIG);
    let running = |replicas: usize| (cluster.tasks("running").len() == replicas).then_some(());

    let mut serving = serve();
    serving.line_with("subscribed");
    until("orders are taken", || (order(&["ls"]).code() == Some(0)).then_some(()));
    let bad = cluster.place.file("bad.toml", &WEB.replace("[scale]", "[scale]\nmin = 4"));
    let refused = order(&["apply", bad.to_str().unwrap()]).expect(2);
    assert!(refused.stderr.contains("bad.toml:6:7: scale.min: is 4, more than scale.max, 3"), "{refused:#?}");
    order(&["apply", web.to_str().unwrap(), big.to_str().unwrap()]).expect(0);
    until("one runs", || running(1));

    let burn = || {
        for sandbox in cluster.sandboxes("a") {
            // One that is not there yet is looked for again.
            _ = fs::write(sandbox.join("burn"), "");
        }
    };
    burn();
    let told = serving.line_with("web: scaled: 1 -> ");
    assert!(told.contains("cpu at 0.4 for each: is "), "{told}");
    until("as many as are allowed run", || {
        burn();
        running(3)
    });

    // What was decided outlives who decided it.
    serving.signal(Signal::KILL);
    serving.end();
    let mut serving = serve();
    serving.line_with("looking for the 3 replicas");
    serving.line_with("web: all 3 replicas run");
    let explained = until("it is measured again", || {
        let explained = order(&["explain", "web"]);
        let explained = (explained.code() == Some(0)).then(|| explained.json())?;
        let last = explained["scaling"]["decisions"].as_array()?.last()?.clone();
        last["said"][0]["value"].is_number().then_some(explained)
    });
    let changes = explained["scaling"]["changes"].as_array().unwrap();
    assert_eq!(
        (&changes[0]["from"], &changes.last().unwrap()["to"]),
        (&1.into(), &3.into()),
        "{explained:#}"
    );

    for sandbox in cluster.sandboxes("a") {
        _ = fs::remove_file(sandbox.join("burn"));
    }
    serving.line_with("-> 1 replicas: ");
    until("one runs", || running(1));

    let plot = cluster.place.path().join("web.svg");
    let text = cluster.place.run(&[
        "service",
        "explain",
        "web",
        "--state",
        state.to_str().unwrap(),
        "--plot",
        plot.to_str().unwrap(),
    ]);
    let text = text.expect(0).stdout;
    assert!(
        text.contains("scaled from 1 to 3 replicas, measured every 1s") && text.contains("changed:"),
        "{text}"
    );
    assert!(fs::read_to_string(plot).unwrap().contains("cpu at 0.4 for each"));
    let why: Value = order(&["explain", "big"]).expect(0).json();
    assert_eq!(why["waiting"][0]["replicas"], 1, "{why:#}");
    assert!(!why["offers"].as_array().unwrap().is_empty(), "the master says why: {why:#}");
    serving.signal(Signal::TERM);
    serving.end().expect(0);
}
