//! Commands that ask a master.

use std::net::TcpListener;

use crate::support::{Place, port};

/// An address of this machine on which nobody listens for the moment.
pub(crate) fn unused() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn no_master_is_said_with_the_remedy() {
    let url = format!("http://{}", unused());
    let expected = format!(
        "error: no master answers at {url}: is one running? start it with `apportion master` or `apportion dev`\n"
    );
    let place = Place::new();
    for args in [
        &["agents"][..],
        &["frameworks"],
        &["tasks", "--all"],
        &["offers"],
        &["logs", "t"],
        &["exec", "t", "--", "true"],
        &["kill", "t"],
        &["teardown", "f"],
    ] {
        let refused = place.run(&[&args[..1], &["--master", &url], &args[1..]].concat()).expect(1);
        assert_eq!(refused.stderr, expected);
        assert_eq!(refused.stdout, "");
    }
}

#[test]
fn an_empty_cluster_is_said_to_be_empty() {
    let place = Place::new();
    let mut master = place.start(&["master", "--listen", "127.0.0.1:0", "--log", "info"]);
    let line = master.error_with("serving");
    let url = format!("http://127.0.0.1:{}", port(&line));
    for (command, key) in
        [("agents", "agents"), ("frameworks", "frameworks"), ("tasks", "tasks"), ("offers", "offers")]
    {
        let text = place.run(&[command, "--master", &url]).expect(0).stdout;
        assert!(text.starts_with("no "), "{text}");
        let json = place.run(&[command, "--master", &url, "-o", "json"]).expect(0).json();
        assert_eq!(json, serde_json::json!({ key: [] }));
    }
    let refused = place.run(&["logs", "t", "--master", &url]).expect(1);
    assert!(refused.stderr.starts_with("error: no task `t` is known"), "{}", refused.stderr);
    place.run(&["kill", "t", "--master", &url]).expect(1);
    master.signal(rustix::process::Signal::TERM);
    assert!(master.end().status.success());
}

#[test]
fn masters_that_say_nothing_hide_none_that_leads() {
    let place = Place::new();
    let mut master = place.start(&["master", "--listen", "127.0.0.1:0", "--log", "info"]);
    let port = port(&master.error_with("serving"));
    // The system makes their connections, and nobody ever answers: one after the other they would take longer than any answer may.
    let silent: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let silent = silent.iter().map(|listener| listener.local_addr().unwrap().to_string());
    let masters: Vec<String> = silent.chain([format!("127.0.0.1:{port}")]).collect();
    let asked = place.run(&["agents", "--master", &masters.join(","), "-o", "json"]).expect(0);
    assert_eq!(asked.json()["agents"].as_array().unwrap().len(), 0);
}
