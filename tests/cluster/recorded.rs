//! What an earlier version left on disk is taken over: by the master, the agent, and both frameworks.
//!
//! `tests/recorded/NAME` has the folders of a cluster whose every process was killed by that version: a master's registry, and an export of
//! it; the work directory of agent `machine`, with a reservation, a volume, two replicas of service `clock`, and of job `count` one task that
//! ran and two that had finished; the state of both frameworks. What is there never changes; each release that writes something new adds
//! its own.

use std::{fs, path::Path};

use serde_json::Value;

use super::Cluster;
use crate::support::{Place, until};

const RESOURCES: &str = "cpus:4;mem:4GiB;disk:10GiB;ports:[31000-31999]";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), to).unwrap();
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What lists under `name` say under `key`.
fn each<'a>(listed: &'a Value, name: &str, key: &str) -> Vec<&'a Value> {
    listed[name].as_array().unwrap().iter().map(|one| &one[key]).collect()
}

#[test]
fn a_cluster_of_an_earlier_version_goes_on_where_it_was() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/recorded");
    let recorded: Vec<_> = fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!recorded.is_empty());
    recorded.iter().for_each(|recorded| goes_on(recorded));
}

fn goes_on(recorded: &Path) {
    let place = Place::new();
    copy(recorded, place.path());
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (job, service) = (path("count.toml"), path("clock.toml"));
    let (batch_state, service_state) = (path("batch"), path("service"));
    let (export, imported) = (path("export"), path("imported"));
    place.run(&["registry", "import", &export, "--work-dir", &imported]).expect(0);
    let inspect = |folder: &str| place.run(&["registry", "inspect", "--work-dir", folder]).expect(0).stdout;
    assert_eq!(inspect(&imported), inspect(&path("master")));

    let cluster = Cluster::start_in(place, &[("machine", RESOURCES)], &["--attributes", "rack=r1"]);
    let agents = until("the agent has returned", || {
        let agents = cluster.ask(&["agents"]);
        (agents["agents"][0]["state"] == "active").then_some(agents)
    });
    let id = fs::read_to_string(recorded.join("machine/agent_id")).unwrap();
    assert_eq!(each(&agents, "agents", "agent_id"), [id.trim()]);
    assert_eq!(each(&cluster.ask(&["volumes"]), "volumes", "volume_id"), ["data"]);
    assert_eq!(each(&cluster.ask(&["roles"]), "roles", "role"), ["*", "eng", "eng/ads"]);

    let master = ["--master", cluster.url.as_str()];
    let run = |args: &[&str]| cluster.place.start(&[args, &master].concat());
    let mut clock = run(&["service", "run", &service, "--state", &service_state]);
    clock.line_with("resumed as framework");
    clock.line_with("all 2 replicas run");

    // What ran was killed with its agent, and so runs again; what had finished does not.
    let count = run(&["batch", "run", &job, "--state", &batch_state, "-o", "json"]);
    let again = until("the task runs again", || {
        let running = cluster.tasks("running");
        running
            .iter()
            .map(|task| task["task_id"].as_str().unwrap().to_owned())
            .find(|id| id.starts_with("count-"))
    });
    cluster.place.run(&["kill", &again, "--master", &cluster.url]).expect(0);
    let summary = count.end().expect(1).json();
    assert_eq!(each(&summary, "tasks", "launches"), [1, 2, 1], "{summary:#}");
    assert_eq!(summary["totals"]["succeeded"], 2, "{summary:#}");
}
