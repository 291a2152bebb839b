//! Runs a whole test program where nothing of the machine's network is changed: in namespaces of its own.

use std::{
    env,
    path::Path,
    process::{Command, ExitCode},
};

/// Set in the namespaces of the test's own.
const INSIDE: &str = "APPORTION_TEST_INSIDE";

/// What the tests need of this machine, and the Debian package that has it.
const NEEDED: [(&str, &str); 5] = [
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/usr/sbin/nft", "nftables"),
    ("/usr/sbin/iptables", "iptables"),
    ("/bin/ip", "iproute2"),
    ("/usr/bin/unshare", "util-linux"),
];

/// Returns the code to end with, once everything has run in there; none when this is in there already.
pub(crate) fn enter() -> Option<ExitCode> {
    if env::var_os(INSIDE).is_none() {
        return Some(outside());
    }
    let raised = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(raised.success());
    None
}

/// Skips, or runs all of it where nothing of the machine's is changed.
fn outside() -> ExitCode {
    let lacking: Vec<&str> =
        NEEDED.iter().filter(|(path, _)| !Path::new(path).exists()).map(|(_, package)| *package).collect();
    let root = rustix::process::geteuid().is_root();
    if !root || !lacking.is_empty() {
        let lacks = if root { format!("the packages {}", lacking.join(", ")) } else { "root".to_owned() };
        eprintln!("skipped: networks need {lacks}");
        let required = env::var_os("APPORTION_NO_SKIP").is_some_and(|value| value != "0");
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let ran = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private"])
        .arg(env::current_exe().unwrap())
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()
        .unwrap();
    if ran.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
