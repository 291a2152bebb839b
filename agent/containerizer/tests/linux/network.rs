//! Networks that are not the host's.

use std::fs;

use apportion_containerizer::{Containerizer, NetworkNamespaces, NetworkSpec};
use apportion_types::container::Exit;

use crate::{
    Scenario,
    bench::{
        Bench,
        Mode::{Bare, Mapped, Oci, Root, User},
        block, until,
    },
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { name: "a_network_with_nobody_in_it", modes: &[Root, Mapped, User, Oci], run: nobody },
        Scenario { name: "no_network_without_namespaces", modes: &[Bare], run: refused },
        Scenario { name: "two_containers_in_one_network", modes: &[Root, Mapped, Oci], run: joined },
        Scenario { name: "a_network_that_is_gone", modes: &[Root, Mapped, Oci], run: gone },
    ]
}

const CAP_NET_RAW: u64 = 1 << 13;

fn nobody(bench: &Bench) {
    let mut spec = bench
        .sh("cat /proc/net/dev | tail -n +3 | cut -d: -f1; ls /sys/class/net; cat /sys/class/net/lo/flags");
    spec.network = Some(NetworkSpec::default());
    let (end, output) = bench.run(&spec);
    let words: Vec<&str> = output.split_whitespace().collect();
    // IFF_UP | IFF_LOOPBACK
    assert_eq!((end.exit, words), (Some(Exit::Code(0)), vec!["lo", "lo", "0x9"]), "{output}");
}

fn refused(bench: &Bench) {
    let mut spec = bench.sh("true");
    spec.network = Some(NetworkSpec::default());
    let error = block(bench.native.launch(spec)).unwrap_err().to_string();
    assert!(error.contains("network") && error.contains("namespaces"), "{error}");
}

fn joined(bench: &Bench) {
    let namespaces = NetworkNamespaces::new(bench.config.runner.clone());
    let file = bench.dir.join("netns");
    assert!(!NetworkNamespaces::is_one(&file));
    NetworkNamespaces::remove(&file).unwrap();
    block(namespaces.make(&file)).unwrap();
    assert!(NetworkNamespaces::is_one(&file));
    assert!(block(namespaces.make(&file)).is_err(), "what is there is not overwritten");

    let hosts = bench.dir.join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n127.0.0.1 neighbour\n").unwrap();
    let network = |filtered| {
        let etc = [("hosts".to_owned(), hosts.clone())].into();
        Some(NetworkSpec { namespace: Some(file.clone()), etc, filtered, hostname: None })
    };
    let mut server = bench.sh("readlink /proc/self/ns/net; grep CapEff /proc/self/status; exec sleep 1000");
    server.network = network(true);
    bench.launch(&server);
    let mut client = bench
        .sh("readlink /proc/self/ns/net; grep CapEff /proc/self/status; cat /etc/hosts; touch /etc/hosts");
    client.network = network(false);
    let (_, output) = bench.run(&client);
    let seen: Vec<&str> = output.lines().collect();
    until("the server has said where it is", || {
        fs::read_to_string(server.sandbox.join("stdout")).unwrap().lines().count() == 2
    });
    let said = fs::read_to_string(server.sandbox.join("stdout")).unwrap();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(seen[0], said[0], "both are in the one network");
    assert_ne!(seen[0], fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
    let raw = |line: &str| {
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap() & CAP_NET_RAW != 0
    };
    assert_eq!((raw(seen[1]), raw(said[1])), (true, false), "{seen:?} {said:?}");
    assert_eq!(seen[2..4], ["127.0.0.1 localhost", "127.0.0.1 neighbour"]);
    // Its root is nobody to a file of the machine's root.
    let why = if bench.mode == Mapped { "Permission denied" } else { "Read-only" };
    assert!(seen[4].contains(why), "{seen:?}");

    // What is executed beside the task is where the task is.
    let ran = block(namespaces.run_in(&file, &["readlink", "/proc/self/ns/net"], "")).unwrap();
    assert_eq!(String::from_utf8(ran.stdout).unwrap().trim(), said[0]);
    let echoed = block(namespaces.run_in(&file, &["cat"], "input")).unwrap();
    assert_eq!(echoed.stdout, b"input");

    NetworkNamespaces::remove(&file).unwrap();
    assert!(!file.exists());
    NetworkNamespaces::remove(&file).unwrap();
    block(bench.native.signal(&server.id, apportion_containerizer::Signal::Kill)).unwrap();
    bench.wait(&server);
    block(bench.native.remove(&server.id)).unwrap();
}

fn gone(bench: &Bench) {
    let mut spec = bench.sh("true");
    let file = bench.dir.join("netns");
    // As after the machine was started again: the file is there, and nothing is mounted on it.
    fs::write(&file, "").unwrap();
    spec.network = Some(NetworkSpec { namespace: Some(file.clone()), ..NetworkSpec::default() });
    let error = block(bench.native.launch(spec)).unwrap_err().to_string();
    assert!(error.contains("its network") && error.contains("netns"), "{error}");
    NetworkNamespaces::remove(&file).unwrap();
    assert!(!file.exists());
}
