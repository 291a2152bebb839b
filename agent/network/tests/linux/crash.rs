//! Whatever an agent was doing when it was killed, the next one leaves nothing of it.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use apportion_network::Networks;
use libtest_mimic::Trial;

use crate::{
    bench::{Bench, block, config, until, wanted},
    fakes::plugin,
    test,
};

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("an_agent_killed_between_plugins_leaves_nothing", between_plugins),
        test("an_agent_killed_at_any_moment_leaves_nothing", at_any_moment),
    ]
}

/// An agent that attaches and detaches owners of a network, one after the other, until it is killed.
pub(crate) fn agent(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|arg| arg.into_string().unwrap()).collect();
    let (folder, network) = (PathBuf::from(&args[0]), &args[1]);
    let networks = block(Networks::open(config(&folder, PATIENCE), &BTreeSet::new())).unwrap();
    for number in 0.. {
        let owner = format!("c-{number}");
        let mapping = apportion_types::network::PortMapping {
            host_port: 31_000,
            container_port: 80,
            protocol: apportion_types::network::Protocol::Tcp,
        };
        let network =
            apportion_types::Network { ports: vec![mapping], ..apportion_types::Network::new(network) };
        let _ = block(networks.attach(wanted(&owner, "eng", network)));
        block(networks.detach(&owner)).unwrap();
    }
    ExitCode::SUCCESS
}

struct Killed(std::process::Child);

impl Killed {
    fn start(bench: &Bench, network: &str) -> Killed {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["agent".as_ref(), bench.folder().as_os_str(), network.as_ref()]);
        Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A plugin that stands still in each place of the list, at each verb.
fn between_plugins(bench: &Bench) {
    let before = bench.traces();
    let here = bench.folder().join("here");
    let bridge = bench.bridge();
    let (first, second) = bridge.split_at(bridge.rfind(r#"{"type":"portmap""#).unwrap());
    let gate = r#"{"type":"gate"}"#;
    let lists = [format!("{gate},{bridge}"), format!("{first}{gate},{second}"), format!("{bridge},{gate}")];
    for verb in ["ADD", "DEL"] {
        let script = format!(
            "cat >{0:?}; [ $CNI_COMMAND = {verb} ] && [ ! -e {1:?} ] && {{ >{1:?}; sleep 1000 & wait; }}
            [ $CNI_COMMAND = DEL ] || sed 's/.*\"prevResult\":\\({{.*}}\\),\"type\".*/\\1/; t; d' {0:?}",
            bench.folder().join("input"),
            here
        );
        plugin(bench, "gate", &script);
        for list in &lists {
            bench.list("gate", list);
            let agent = Killed::start(bench, "gate");
            until("the plugin is called", || here.exists());
            agent.kill();
            assert_ne!(bench.traces(), before, "something was to be left");
            bench.clean_up(Duration::from_millis(300), &before, &format!("{verb} {list}"));
            fs::remove_file(&here).unwrap();
        }
    }
}

/// Something of an owner that is seen from outside while it is attached or detached.
type Moment = (&'static str, fn(&Bench) -> bool);

const MOMENTS: [Moment; 6] = [
    ("it has a folder", |bench| !bench.owners().is_empty()),
    ("it is on disk", |bench| bench.some_owner_has("record.json")),
    ("it has a namespace", |bench| bench.some_owner_has("ns")),
    ("it has an address", |bench| bench.leases() > 0),
    ("it is attached", |bench| bench.some_owner_has("resolv.conf")),
    ("its address is free again", |bench| bench.some_owner_has("resolv.conf") && bench.leases() == 0),
];

/// How often an agent is killed at a moment that may be over just then.
const KILLS_MAX: usize = 20;

fn at_any_moment(bench: &Bench) {
    let before = bench.traces();
    for (what, is) in MOMENTS {
        let interrupted = (0..KILLS_MAX).any(|_| {
            let agent = Killed::start(bench, "blue");
            until(what, || is(bench));
            agent.kill();
            let left = bench.traces() != before;
            bench.clean_up(PATIENCE, &before, what);
            left
        });
        assert!(interrupted, "{what}: the agent was never killed in time");
    }
}
