//! `service serve` and those who look at it, while what they rely on goes away for a while or for good.

use std::{fs, net::TcpListener};

use rustix::process::Signal;

use super::{Cluster, is_root};
use crate::support::{Place, Running, until};

const RESOURCES: &str = "cpus:2;mem:1GiB";

/// A service that writes numbers, and goes on when it is told to.
const COUNTS: &str = "name = 'counts'\ncpus = 0.5\nmemory = '64MiB'\n\
                      command = '''seq 1 9; until [ -e go ]; do sleep 0.05; done; seq 10 19; until [ -e end ]; do sleep 0.05; done'''\n";

struct Services {
    cluster: Cluster,
    serve: Running,
    state: String,
}

impl Services {
    /// With an agent that listens there.
    fn start(listen: &str) -> Services {
        let mut cluster = Cluster::start(&[]);
        cluster.start_agent_at(listen, "a", RESOURCES);
        let state = cluster.place.path().join("services").to_str().unwrap().to_owned();
        let args = ["service", "serve", "--state", &state, "--master", &cluster.url];
        let mut serve = cluster.place.start(&args);
        serve.line_with("subscribed");
        let services = Services { cluster, serve, state };
        let counts = services.place().file("counts.toml", COUNTS);
        until("it takes orders", || services.order(&["ls"]).then_some(()));
        assert!(services.order(&["apply", counts.to_str().unwrap()]));
        services
    }

    fn place(&self) -> &Place {
        &self.cluster.place
    }

    /// Whether an order was taken.
    fn order(&self, args: &[&str]) -> bool {
        let args = [&["service"], args, &["--state", &self.state]].concat();
        self.place().run(&args).status.success()
    }
}

/// An address that is still free after a restart: none that the kernel gives to whoever asks for any.
fn address() -> String {
    let first = std::process::id() as usize % 10_000;
    let mut ports = (20_000..30_000).cycle().skip(first).map(|port: u16| format!("127.0.0.1:{port}"));
    ports.find(|address| TcpListener::bind(address).is_ok()).unwrap()
}

#[test]
fn a_log_of_a_service_is_followed_over_its_agents_restart() {
    if !is_root("a_log_of_a_service_is_followed_over_its_agents_restart") {
        return;
    }
    let listen = address();
    let mut services = Services::start(&listen);
    services.serve.line_with("running");
    let mut log =
        services.place().start(&["service", "logs", "counts", "--follow", "--state", &services.state]);
    log.line_with("counts.0.1: 9\n");
    let agent = services.cluster.agents.remove("a").unwrap();
    agent.signal(Signal::KILL);
    agent.end();
    log.error_with("it goes on when the agent is there again");
    let sandbox = services.cluster.sandboxes("a").remove(0);
    fs::write(sandbox.join("go"), "").unwrap();
    services.cluster.start_agent_at(&listen, "a", RESOURCES);
    log.line_with("counts.0.1: 19\n");
    log.signal(Signal::INT);
    let said = log.end().expect(130).stdout;
    let numbers: String = (1..=19).map(|number| format!("counts.0.1: {number}\n")).collect();
    assert_eq!(said, numbers, "nothing twice, and nothing left out");
}

#[test]
fn services_whose_state_is_removed_say_so_at_once() {
    let mut services = Services::start("127.0.0.1:0");
    services.serve.line_with("running");
    let socket = format!("{}/api.sock", services.state);
    fs::remove_file(&socket).unwrap();
    services.serve.error_with("api.sock was removed, and is made anew");
    assert!(services.order(&["ls"]));

    let aside = format!("{}.aside", services.state);
    fs::rename(&services.state, &aside).unwrap();
    let said = services.serve.error_with("was removed or replaced while this runs");
    let framework_id = services.cluster.ask(&["frameworks"])["frameworks"][0]["framework_id"].clone();
    let remedy = format!("`apportion teardown {}`", framework_id.as_str().unwrap());
    assert!(said.contains(&remedy), "{said}");
    fs::rename(&aside, &services.state).unwrap();
    services.serve.error_with("is there again");
    until("it takes orders again", || services.order(&["ls"]).then_some(()));

    fs::remove_dir_all(&services.state).unwrap();
    services.serve.error_with("was removed or replaced while this runs");
    services.serve.signal(Signal::TERM);
    let ended = services.serve.end().expect(1);
    let said = "is gone, so that nothing can take over: 1 replicas run on for 1h";
    assert!(ended.stderr.contains(said) && ended.stderr.contains(&remedy), "{ended:?}");
    assert!(!ended.stderr.contains("run again to take over"), "{ended:?}");
    services
        .cluster
        .place
        .run(&["teardown", framework_id.as_str().unwrap(), "--master", &services.cluster.url])
        .expect(0);
}
