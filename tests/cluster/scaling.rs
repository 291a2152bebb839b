//! A service that is scaled by what its replicas truly use.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use rustix::process::Signal;
use serde_json::Value;

use super::Cluster;
use crate::support::{BOUND, Running, port, until};

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

/// A replica: this very program, told to run nothing but this. It answers whoever comes.
#[test]
#[ignore = "a program of another test"]
fn replica() {
    let Ok(port) = std::env::var("APPORTION_PORT0") else { return };
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello");
    }
}

/// Asks once, however long that takes, and gives the body.
fn ask(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    body.to_owned()
}

#[test]
fn a_service_that_nobody_asks_sleeps_and_the_first_who_asks_wakes_it() {
    let cluster = Cluster::start(&[("a", "cpus:2;mem:1GiB;ports:[31500-31509]")]);
    let state = cluster.place.path().join("state");
    let program = std::env::current_exe().unwrap();
    let spec = format!(
        "name = 'web'\ncpus = 0.2\nmemory = '64MiB'\nports = 1\n\
         command = ['{}', '--exact', 'cluster::scaling::replica', '--ignored']\n\
         [health]\ntcp = true\ninterval = '200ms'\ndelay = '100ms'\n\
         [balancer]\naddress = '127.0.0.1:0'\nqueue = {{ timeout = '100s' }}\n\
         [scale]\nmin = 0\nmax = 2\ninterval = '1s'\nidle_after = '3s'\n\
         [[scale.rule]]\nmetric = 'requests'\ntarget = 100\n",
        program.display()
    );
    let web = cluster.place.file("web.toml", &spec);
    let run = [
        "service",
        "run",
        web.to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
        "--master",
        &cluster.url,
    ];
    let mut running = cluster.place.start(&run);
    let address = format!("127.0.0.1:{}", port(&running.line_with("127.0.0.1:")));
    assert_eq!(ask(&address), "hello");
    for _ in 0..2 {
        running.line_with("1 -> 0 replicas: nothing was asked for 3s");
        until("nothing runs", || cluster.tasks("running").is_empty().then_some(()));
        assert_eq!(ask(&address), "hello", "it waits for the replica that it wakes");
        running.line_with("0 -> 1 replicas: something is asked");
    }
    running.signal(Signal::TERM);
    running.end().expect(0);
}
