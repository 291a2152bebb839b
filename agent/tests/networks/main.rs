//! Tasks in networks, and held to their ports, with real containers. Everything happens in a network namespace of the test's own.
//!
//! The test program is its own runner, an agent that is killed, and the tasks, so it has no harness.

// All of this is test code.
#![allow(clippy::unwrap_used)]

#[path = "../../network/tests/support/own_network.rs"]
mod own_network;

mod groups;
mod policies;
mod ports;
mod slow;
#[path = "../support/mod.rs"]
mod support;

use std::{
    env,
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitCode},
    time::Duration,
};

use apportion_agent::{Agent, Config};
use apportion_containerizer::runner_main;
use apportion_types::{
    HealthCheck, Network, Probe, Reason, TaskId, TaskInfo, TaskState,
    network::{PortMapping, Protocol},
    probe::Schedule,
    protocol::agent::MasterMessage,
};
use libtest_mimic::{Arguments, Failed, Trial};
use support::*;

const GREETING: &[u8] = b"hello";

/// The file that says how many milliseconds a plugin may take, where a test says that.
pub(crate) const PATIENCE: &str = "patience";

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    match arguments.next().unwrap_or_default().to_str() {
        Some("runner") => return runner_main(arguments),
        Some("agent") => return agent(arguments),
        Some("listen") => listen(&arguments.next().unwrap().into_string().unwrap()),
        Some("raw") => return policies::raw(),
        Some("connect") => return policies::connect(&arguments.next().unwrap().into_string().unwrap()),
        _ => {}
    }
    if let Some(code) = own_network::enter() {
        return code;
    }
    let tests = vec![
        Trial::test("a_task_in_a_network_outlives_its_agent_and_leaves_nothing", || block_on(outlives())),
        Trial::test("tasks_of_a_group_share_a_network_that_outlives_their_agent", || {
            block_on(groups::shared())
        }),
        Trial::test("a_task_ends_as_it_did_however_long_its_network_takes", || block_on(slow::ends())),
        Trial::test("an_end_waits_for_a_network_no_longer_than_for_one_plugin", || {
            block_on(slow::told_in_time())
        }),
        Trial::test("what_could_not_be_detached_waits_for_no_framework", || {
            block_on(slow::waits_for_nobody())
        }),
        Trial::test("a_port_that_leads_elsewhere_is_no_tasks", || block_on(slow::port_held())),
        Trial::test("a_network_that_is_not_there_is_told", || block_on(unknown())),
        Trial::test("a_task_cannot_undo_its_policy", || block_on(policies::held())),
        Trial::test("a_task_listens_on_ports_that_it_holds", || block_on(ports::held())),
    ];
    let mut arguments = Arguments::from_args();
    // They share the namespace.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, tests).exit_code()
}

fn block_on(test: impl Future<Output = ()>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(test);
    Ok(())
}

/// A task that says something to everybody who connects to a port, for ever.
fn listen(port: &str) -> ! {
    let listener = TcpListener::bind(("0.0.0.0", port.parse().unwrap())).unwrap();
    loop {
        let _ = listener.accept().unwrap().0.write_all(GREETING);
    }
}

pub(crate) fn listener(id: &str, port: u16, resources: &str) -> TaskInfo {
    let program = env::current_exe().unwrap();
    let info = task(id, &[program.to_str().unwrap(), "listen", &port.to_string()]);
    TaskInfo { resources: resources.parse().unwrap(), ..info }
}

/// A work directory, cgroups and a bridge of its own.
pub(crate) fn settings(folder: &Path, master: &str) -> Config {
    let name = folder.file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned();
    // For this program as an agent of its own.
    let patience = fs::read_to_string(folder.join(PATIENCE));
    Config {
        cgroup_parent: format!("apportion-test/{name}"),
        cni_config_dir: folder.join("net.d"),
        cni_plugin_dirs: vec![folder.join("plugins"), "/usr/lib/cni".into()],
        enforce_ports: true,
        ports_check_interval_ms: 10,
        cni_timeout_ms: patience.ok().and_then(|text| text.parse().ok()).unwrap_or(30_000),
        ..config(&folder.join("work"), master)
    }
}

/// A folder with the network `blue` configured, and a work directory to be.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("net.d")).unwrap();
    let leases = folder.path().join("leases");
    let list = format!(
        r#"{{"cniVersion":"1.0.0","name":"blue","plugins":[
            {{"type":"bridge","bridge":"blue0","isGateway":true,"hairpinMode":true,"ipMasq":true,
              "ipam":{{"type":"host-local","dataDir":{leases:?},"ranges":[[{{"subnet":"10.97.0.0/24"}}]],"routes":[{{"dst":"0.0.0.0/0"}}]}},
              "dns":{{"nameservers":["10.97.0.1"]}}}},
            {{"type":"portmap","capabilities":{{"portMappings":true}}}}]}}"#
    );
    fs::write(folder.path().join("net.d/blue.conflist"), list).unwrap();
    folder
}

/// This program as an agent: its folder and its master.
fn agent(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut next = || arguments.next().unwrap().into_string().unwrap();
    let (folder, master) = (next(), next());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let agent = Agent::native(settings(folder.as_ref(), &master)).await.unwrap();
        agent.run(std::future::pending()).await.unwrap();
    });
    ExitCode::SUCCESS
}

/// An agent that is killed when dropped.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Process {
    pub(crate) fn start(folder: &Path, master: &Master) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg("agent").arg(folder).arg(&master.address);
        Self(command.spawn().unwrap())
    }
}

pub(crate) fn kill(task_id: &str) -> MasterMessage {
    MasterMessage::KillTask {
        framework_id: framework_id(),
        task_id: TaskId::new(task_id).unwrap(),
        grace: Some(Duration::ZERO),
        reason: Reason::KilledByFramework,
    }
}

pub(crate) fn greets(address: impl Into<SocketAddr>) -> bool {
    let mut heard = Vec::new();
    let stream = TcpStream::connect_timeout(&address.into(), Duration::from_secs(5));
    stream.is_ok_and(|mut stream| stream.read_to_end(&mut heard).is_ok() && heard == GREETING)
}

pub(crate) fn mapped(port: u16) -> Option<Box<Network>> {
    let mapping = PortMapping { host_port: 31_000, container_port: port, protocol: Protocol::Tcp };
    Some(Box::new(Network { ports: vec![mapping], ..Network::new("blue") }))
}

async fn outlives() {
    let folder = folder();
    let mut master = Master::start().await;
    let process = Process::start(folder.path(), &master);
    let (mut stream, ..) = master.registered().await;
    // It is asked how it is at its own address: on the host's nobody listens there.
    let mut web = listener("web", 80, "cpus:0.1;mem:64;ports:[31000-31000]");
    web.container.network = mapped(80);
    let soon = Schedule {
        delay: Duration::ZERO,
        interval: Duration::from_millis(100),
        ..HealthCheck::new(Probe::Tcp { port: 80 }).schedule
    };
    let health = HealthCheck { schedule: soon, ..HealthCheck::new(Probe::Tcp { port: 80 }) };
    web.supervision.health_check = Some(Box::new(health));
    stream.run(vec![web]).await;
    let running = stream.until("web", TaskState::Running).await;
    let [address] = running.addresses[..] else { panic!("{running:?}") };
    assert!(address.to_string().starts_with("10.97.0."), "{address}");
    let healthy = stream.until("web", TaskState::Running).await;
    assert_eq!(
        (healthy.findings.healthy, &healthy.addresses),
        (Some(true), &running.addresses),
        "{healthy:?}"
    );
    assert!(greets((address, 80)) && greets((IpAddr::from([127, 0, 0, 1]), 31_000)));

    let mut look = task(
        "look",
        &["sh", "-c", "echo $APPORTION_IP; hostname; cat /etc/resolv.conf /etc/hosts; ls /sys/class/net"],
    );
    look.container.network = Some(Box::new(Network::new("blue")));
    let mut alone = task("alone", &["sh", "-c", "echo $APPORTION_IP; ls /sys/class/net"]);
    alone.container.network = Some(Box::new(Network::new(Network::NONE)));
    stream.run(vec![look, alone]).await;
    let ends = stream.all_until(&["look", "alone"], TaskState::Finished).await;
    let sandboxes = folder.path().join("work/sandboxes/f1");
    let said = |task: &str| fs::read_to_string(sandboxes.join(task).join("latest/stdout")).unwrap();
    let own = ends[0].addresses[0].to_string();
    let (text, name) = (said("look"), fs::read_link(sandboxes.join("look/latest")).unwrap());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], [&*own, name.to_str().unwrap(), "nameserver 10.97.0.1"], "{text}");
    assert!(text.contains(&format!("{own} {}\n", name.display())), "{text}");
    assert!(text.ends_with("\neth0\nlo\n"), "{text}");
    assert_eq!((said("alone").as_str(), ends[1].addresses.len()), ("\nlo\n", 0));

    drop(process);
    drop(stream);
    let process = Process::start(folder.path(), &master);
    let (mut stream, ..) = master.registered().await;
    assert!(greets((address, 80)) && greets((IpAddr::from([127, 0, 0, 1]), 31_000)), "it has gone on");
    stream.say(kill("web")).await;
    assert_eq!(stream.until("web", TaskState::Killed).await.addresses, running.addresses);
    // Its port is the next one's as soon as its end is told.
    let mut next = listener("next", 81, "cpus:0.1;mem:64;ports:[31000-31000]");
    next.container.network = mapped(81);
    stream.run(vec![next]).await;
    let address = stream.until("next", TaskState::Running).await.addresses[0];
    while !greets((address, 81)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(greets((IpAddr::from([127, 0, 0, 1]), 31_000)));
    stream.say(kill("next")).await;
    stream.until("next", TaskState::Killed).await;
    let left: Vec<_> = fs::read_dir(folder.path().join("work/networks")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("work/networks"));
    drop(process);
}

async fn unknown() {
    let folder = folder();
    let mut master = Master::start().await;
    let process = Process::start(folder.path(), &master);
    let (mut stream, ..) = master.registered().await;
    let mut lost = task("lost", &["true"]);
    lost.container.network = Some(Box::new(Network::new("red")));
    stream.run(vec![lost]).await;
    let end = stream.until("lost", TaskState::Failed).await;
    assert_eq!(end.reason, Some(Reason::NetworkNotAvailable));
    assert!(
        end.message.starts_with("network `red` is not available: it is not configured on this agent"),
        "{}",
        end.message
    );
    drop(process);
}
