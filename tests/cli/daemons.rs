//! Masters and agents that cannot start, and ones that end.

use std::{fs, net::TcpListener};

use rustix::process::Signal;

use super::clients::unused;
use crate::support::{Place, port, until};

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::new();
    let refused = place.run(&["master", "--listen", &address]).expect(1);
    assert!(refused.stderr.contains(&address) && refused.stderr.contains("in use"), "{}", refused.stderr);
    let work_dir = place.path().join("agent");
    let args = ["agent", "--listen", &address, "--work-dir", work_dir.to_str().unwrap()];
    let refused = place.run(&args).expect(1);
    assert!(refused.stderr.contains(&address) && refused.stderr.contains("in use"), "{}", refused.stderr);
    let refused = place.run(&["dev", "--listen", &address]).expect(1);
    assert!(refused.stderr.contains(&address) && refused.stderr.contains("in use"), "{}", refused.stderr);
    assert_eq!(fs::read_dir(place.tmp()).unwrap().count(), 0);
}

#[test]
fn a_work_folder_that_cannot_be_made_is_named() {
    let place = Place::new();
    let file = place.file("file", "");
    let work_dir = file.join("agent");
    let refused =
        place.run(&["agent", "--listen", "127.0.0.1:0", "--work-dir", work_dir.to_str().unwrap()]).expect(1);
    assert!(refused.stderr.contains(work_dir.to_str().unwrap()), "{}", refused.stderr);
    let refused =
        place.run(&["dev", "--listen", "127.0.0.1:0", "--work-dir", work_dir.to_str().unwrap()]).expect(1);
    assert!(refused.stderr.contains("name another with --work-dir"), "{}", refused.stderr);
}

#[test]
fn a_work_folder_has_one_agent() {
    let place = Place::new();
    let work_dir = place.path().join("agent");
    let work_dir = work_dir.to_str().unwrap();
    let master = format!("http://{}", unused());
    let args =
        ["agent", "--listen", "127.0.0.1:0", "--master", &master, "--work-dir", work_dir, "--log", "info"];
    let mut first = place.start(&args);
    first.error_with("offering");
    let refused = place.run(&args).expect(1);
    assert!(refused.stderr.contains(work_dir) && refused.stderr.contains("another"), "{}", refused.stderr);
    first.signal(Signal::TERM);
    assert!(first.end().status.success());
}

#[test]
fn an_agent_registers_is_listed_and_leaves() {
    let place = Place::new();
    let mut master = place.start(&["master", "--listen", "127.0.0.1:0", "--log", "info"]);
    let url = format!("http://127.0.0.1:{}", port(&master.error_with("serving")));
    let work_dir = place.path().join("agent");
    let agent = place.start(&[
        "agent",
        "--listen",
        "127.0.0.1:0",
        "--master",
        &url,
        "--work-dir",
        work_dir.to_str().unwrap(),
        "--resources",
        "cpus:3;mem:3GiB",
        "--attributes",
        "rack=a",
        "--hostname",
        "box",
    ]);
    let listed = until("the agent is registered", || {
        let agents = place.run(&["agents", "--master", &url, "-o", "json"]).expect(0).json();
        agents["agents"].get(0).cloned()
    });
    assert_eq!(listed["state"], "active");
    assert_eq!(listed["hostname"], "box");
    assert_eq!(listed["attributes"], serde_json::json!({"rack": "a"}));
    assert_eq!(listed["total"]["scalars"]["mem"], 3072.0);
    let table = place.run(&["agents", "--master", &url]).expect(0).stdout;
    assert!(table.contains("0 / 3") && table.contains("0MiB / 3GiB") && table.contains("rack=a"), "{table}");
    for running in [agent, master] {
        running.signal(Signal::INT);
        let ended = running.end();
        assert!(ended.status.success(), "{ended:#?}");
    }
}
