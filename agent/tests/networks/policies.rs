//! What a policy denies a task stays denied, whatever the task does.

use std::{env, fs, process::ExitCode};

use apportion_types::{
    Network, TaskState,
    network::{Direction, Rule, Verdict},
};
use rustix::net::{AddressFamily, SocketType, ipproto, socket};

use super::{Process, folder, greets, kill, listener, support::*};

/// A task that has what filters do not see, if it may.
pub(crate) fn raw() -> ExitCode {
    let kinds = [(AddressFamily::PACKET, None), (AddressFamily::INET, Some(ipproto::ICMP))];
    let made = |(family, protocol)| socket(family, SocketType::RAW, protocol).is_ok();
    if kinds.into_iter().any(made) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A task that talks to a server, if it can.
pub(crate) fn connect(address: &str) -> ExitCode {
    let address: std::net::SocketAddr = address.parse().unwrap();
    if greets(address) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(crate) async fn held() {
    let folder = folder();
    let mut master = Master::start().await;
    let process = Process::start(folder.path(), &master);
    let (mut stream, ..) = master.registered().await;
    let mut server = listener("server", 80, "cpus:0.1;mem:64");
    server.container.network = Some(Box::new(Network::new("blue")));
    stream.run(vec![server]).await;
    let address = stream.until("server", TaskState::Running).await.addresses[0];
    while !greets((address, 80)) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let program = env::current_exe().unwrap();
    let program = program.display();
    let script = format!(
        "for try in 'nft flush ruleset' 'nft delete table inet apportion' 'ip link set eth0 down' 'ip link add x type dummy' \\
            'unshare --net true' 'unshare --user --net true' 'nsenter --net=/proc/1/ns/net true' '{program} raw'; do
            $try 2>/dev/null && echo \"$try\"
        done
        {program} connect {address}:80 && echo connected"
    );
    // The same with nothing denied: what is tried is what a policy is to stand.
    for denied in [false, true] {
        let rule = Rule {
            verdict: Verdict::Deny,
            direction: Direction::Out,
            peer: None,
            ports: None,
            protocol: None,
        };
        let id = if denied { "denied" } else { "free" };
        let mut tries = task(id, &["sh", "-c", &script]);
        let policy = if denied { vec![rule] } else { Vec::new() };
        tries.container.network = Some(Box::new(Network { policy, ..Network::new("blue") }));
        stream.run(vec![tries]).await;
        let end = match denied {
            true => stream.until(id, TaskState::Failed).await,
            false => stream.until(id, TaskState::Finished).await,
        };
        let stdout = folder.path().join("work/sandboxes/f1").join(id).join("latest/stdout");
        let done = fs::read_to_string(stdout).unwrap();
        let expected = if denied { String::new() } else { format!("{program} raw\nconnected\n") };
        assert_eq!(done, expected, "{end:?}");
    }
    stream.say(kill("server")).await;
    stream.until("server", TaskState::Killed).await;
    drop(process);
}
