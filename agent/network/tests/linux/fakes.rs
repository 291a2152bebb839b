//! Plugins that misbehave, as shell scripts.

use std::{
    collections::BTreeSet, fs, io::ErrorKind, os::unix::fs::PermissionsExt as _, process::Command,
    time::Duration,
};

use apportion_containerizer::NetworkNamespaces;
use apportion_network::{AttachError, Networks, NetworksConfig, Problem};
use apportion_types::{
    Network,
    network::{Direction, Peer, Verdict},
};
use libtest_mimic::Trial;

use crate::{
    bench::{Bench, block, config, spawn, until, wanted},
    plugins::rule,
    test,
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("a_plugins_own_words_are_told", refusals),
        test("what_is_no_answer_is_told", garbage),
        test("a_plugin_that_hangs_is_killed_with_its_children", hangs),
        test("what_is_not_there_is_told", missing),
        test("what_cannot_be_detached_is_tried_again", tried_again),
        test("nobody_waits_for_what_an_earlier_agent_has_left", nobody_waits_for_leftovers),
        test("a_launch_that_is_cancelled_cuts_off_no_plugin", cut_off),
        test("nobody_passes_for_a_plugin", forged),
        test("what_a_plugin_left_to_run_for_its_owner_runs_until_a_plugin_ends_it", left_to_run),
        test("a_helper_of_a_killed_agent_does_nothing_late", late_helper),
        test("a_namespace_that_is_never_made_is_waited_for_no_longer_than_a_plugin", no_namespace),
        test("a_port_is_nobodys_while_it_leads_elsewhere", ports_held),
        test("results_go_from_plugin_to_plugin", passed_on),
    ]
}

/// Makes a plugin of a script, and a network of the same name with it behind a bridge.
pub(crate) fn plugin(bench: &Bench, name: &str, script: &str) {
    let path = bench.folder().join("plugins").join(name);
    fs::write(&path, format!("#!/bin/sh\n# {}\n{script}\n", bench.folder().display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let bridge = bench.bridge();
    bench.list(name, &format!(r#"{bridge},{{"type":"{name}"}}"#));
}

fn failure(bench: &Bench, name: &str) -> (String, Problem) {
    match bench.try_attach("c-1", "eng", Network::new(name)) {
        Err(AttachError::Plugin(error)) => (error.to_string(), error.problem),
        other => panic!("{other:?}"),
    }
}

fn refusals(bench: &Bench) {
    let refusal = r#"cat >/dev/null; echo '{"cniVersion":"1.0.0","code":11,"msg":"try again later","details":"no lease"}'"#;
    plugin(bench, "refusing", &format!("[ $CNI_COMMAND = DEL ] && exit 0; {refusal}; exit 1"));
    let (text, problem) = failure(bench, "refusing");
    assert!(matches!(problem, Problem::Refused { code: 11, .. }), "{problem:?}");
    assert_eq!(text, "plugin `refusing` refused: try again later: no lease (code 11)");
}

fn garbage(bench: &Bench) {
    let cases = [
        ("words", "echo 'hello'", "hello"),
        ("numbers", r#"echo '{"ips":7}'"#, "a sequence"),
        ("address", r#"echo '{"ips":[{"address":"nowhere/8"}]}'"#, "`nowhere/8`"),
        ("endless", "head -c 5000000 /dev/zero | tr '\\0' x", "xxx"),
        ("silent", "exit 7", "exit status: 7: it said nothing"),
        ("loud", "echo 'no such thing' >&2; exit 1", "no such thing"),
    ];
    for (name, script, word) in cases {
        plugin(bench, name, &format!("[ $CNI_COMMAND = DEL ] && exit 0\n{script}"));
        let (text, problem) = failure(bench, name);
        assert!(matches!(problem, Problem::Garbled { .. } | Problem::Failed { .. }), "{name}: {problem:?}");
        assert!(text.contains(word), "{name}: {text}");
        assert!(text.len() < 1500, "{name}: {}", text.len());
    }
}

fn hangs(bench: &Bench) {
    plugin(bench, "hanging", "[ $CNI_COMMAND = DEL ] && exit 0\nsleep 1000 & sleep 1000");
    let impatient = config(bench.folder(), Duration::from_millis(300));
    let networks = block(Networks::open(impatient, &BTreeSet::new())).unwrap();
    let error = block(networks.attach(wanted("c-1", "eng", Network::new("hanging")))).unwrap_err();
    assert!(error.to_string().contains("did not answer within 300ms and was killed"), "{error}");
}

fn missing(bench: &Bench) {
    let error = |network: Network| bench.try_attach("c-1", "eng", network).unwrap_err().to_string();
    let unknown = error(Network::new("red"));
    assert!(unknown.contains("not configured on this agent"), "{unknown}");
    bench.list("red", r#"{"type":"no-such-plugin"}"#);
    let not_installed = error(Network::new("red"));
    assert!(not_installed.contains("plugin `no-such-plugin` is not installed"), "{not_installed}");
    let no_ports = error(bench.mapped("red", 31_000, 80));
    assert!(no_ports.contains("`portmap`"), "{no_ports}");
    let text = r#"{"cniVersion":"9.0.0","name":"red","plugins":[{"type":"bridge"}]}"#;
    fs::write(bench.folder().join("net.d/red.conflist"), text).unwrap();
    let version = error(Network::new("red"));
    assert!(version.contains("`9.0.0`") && version.contains("1.0.0"), "{version}");
}

fn tried_again(bench: &Bench) {
    let before = bench.traces();
    let broken = bench.folder().join("broken");
    plugin(
        bench,
        "moody",
        &format!(
            "[ $CNI_COMMAND = ADD ] && exec cat {:?}\n[ ! -e {broken:?} ]",
            bench.folder().join("answer")
        ),
    );
    fs::write(bench.folder().join("answer"), "{}").unwrap();
    let attached = bench.attach("c-1", "eng", Network::new("moody"));
    fs::write(&broken, "").unwrap();
    let error = block(bench.networks.detach("c-1")).unwrap_err();
    assert_eq!(error.to_string(), "network `moody` cannot be detached");
    assert!(bench.folder().join("networks/c-1/record.json").exists(), "what is known stays");
    assert!(attached.namespace.exists(), "and with it what plugins need to find the rest");
    fs::remove_file(&broken).unwrap();
    bench.clean_up(Duration::from_secs(60), &before, "what could not be detached");
}

/// Who waits for a port waits for the plugin that takes it away, and may cease to.
fn cut_off(bench: &Bench) {
    let file = |name: &str, owner: &str| bench.folder().join(format!("{name}-{owner}"));
    let (folder, owner) = (bench.folder().display(), "$CNI_CONTAINERID");
    let script = format!(
        "cat >/dev/null; [ $CNI_COMMAND = ADD ] && exec echo '{{}}'
        mkdir {folder}/busy-{owner} || >{folder}/twice-{owner}
        until [ -e {folder}/go-{owner} ]; do sleep 0.01; done; rmdir {folder}/busy-{owner}"
    );
    plugin(bench, "slow", &script);
    bench.list("slow", r#"{"type":"slow","capabilities":{"portMappings":true}}"#);
    // Of leftovers four are detached at once.
    let owners: Vec<String> = (0..5).map(|number| format!("left-{number}")).collect();
    for (owner, port) in owners.iter().zip(31_000..) {
        bench.attach(owner, "eng", bench.mapped("slow", port, 80));
    }
    let next =
        block(Networks::open(config(bench.folder(), Duration::from_secs(60)), &BTreeSet::new())).unwrap();
    let begun = |owner: &&String| file("busy", owner).exists();
    until("four are being detached", || owners.iter().filter(begun).count() == 4);
    let (number, last) = owners.iter().enumerate().find(|(_, owner)| !begun(owner)).unwrap();
    let port = 31_000 + u16::try_from(number).unwrap();
    let (waiting, wanted) = (next.clone(), wanted("c-1", "eng", bench.mapped("slow", port, 80)));
    let attaching = spawn(async move { waiting.attach(wanted).await });
    until("it is waited for", || begun(&last));
    attaching.abort();
    assert!(block(attaching).unwrap_err().is_cancelled());
    for owner in owners.iter().filter(|owner| *owner != last) {
        fs::write(file("go", owner), "").unwrap();
        until("it is gone", || !next.knows(owner));
    }
    // Now it is the last one's turn, if nobody is at it.
    bench.attach("other", "eng", Network::new("blue"));
    bench.detach("other");
    fs::write(file("go", last), "").unwrap();
    until("it is gone", || !next.knows(last));
    assert!(!file("twice", last).exists(), "two plugins were at it");
}

/// A process that has in its environment what plugins have, as far as a task knows it.
fn forged(bench: &Bench) {
    let before = bench.traces();
    plugin(bench, "telling", &format!("cat >/dev/null; env >{:?}; echo '{{}}'", bench.folder().join("env")));
    bench.attach("c-1", "eng", Network::new("telling"));
    let told = fs::read_to_string(bench.folder().join("env")).unwrap();
    let known =
        told.lines().filter_map(|line| line.split_once('=')).filter(|(name, _)| name.starts_with("CNI_"));
    let mut process = Command::new("sleep").arg("1000").envs(known).spawn().unwrap();
    bench.clean_up(Duration::from_millis(300), &before, "what was attached");
    assert_eq!(process.try_wait().unwrap(), None, "it was no plugin");
    process.kill().unwrap();
    process.wait().unwrap();
}

/// Its plugin has something run for each owner, as a client of DHCP does, and ends it itself: also after a restart of the agent.
fn left_to_run(bench: &Bench) {
    let (pid, lost) = (bench.folder().join("pid"), bench.folder().join("lost"));
    let script = format!(
        "cat >/dev/null
        [ $CNI_COMMAND = DEL ] || {{ sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >{pid:?}; echo '{{}}'; exit; }}
        [ ! -e {pid:?} ] || {{ kill $(cat {pid:?}) || >{lost:?}; rm {pid:?}; }}"
    );
    plugin(bench, "lasting", &script);
    bench.attach("c-1", "eng", Network::new("lasting"));
    let owners = ["c-1".to_owned()].into();
    let next = block(Networks::open(config(bench.folder(), Duration::from_secs(1)), &owners)).unwrap();
    block(next.detach("c-1")).unwrap();
    assert!(!pid.exists(), "the plugin was asked");
    assert!(!lost.exists(), "it was ended by somebody else");
}

/// The agent was killed while a helper of its own was at work for an owner that goes on.
fn late_helper(bench: &Bench) {
    let told = bench.folder().join("told");
    let script = format!("env >>{told:?}; exec \"$@\"");
    let program = std::env::current_exe().unwrap();
    let runner = ["sh", "-c", &script, "sh", program.to_str().unwrap(), "runner"];
    let telling = NetworksConfig {
        namespaces: NetworkNamespaces::new(runner.map(Into::into).to_vec()),
        ..config(bench.folder(), Duration::from_secs(60))
    };
    let networks = block(Networks::open(telling, &BTreeSet::new())).unwrap();
    let policy = vec![rule(Verdict::Allow, Direction::In, Some(Peer::Role("eng".parse().unwrap())))];
    block(networks.attach(wanted("c-1", "eng", Network { policy, ..Network::new("blue") }))).unwrap();
    let told = fs::read_to_string(told).unwrap();
    let mut marks = told.lines().filter_map(|line| line.strip_prefix("APPORTION_HELPER_MARK="));
    let mark = marks.next().expect("a helper can be found again");
    // The namespace, its tables, and their filling.
    assert_eq!(marks.filter(|other| *other == mark).count(), 2);
    let mut late = Command::new("sleep").arg("1000").env("APPORTION_HELPER_MARK", mark).spawn().unwrap();
    let owners = ["c-1".to_owned()].into();
    let next = block(Networks::open(config(bench.folder(), Duration::from_secs(60)), &owners)).unwrap();
    assert!(late.try_wait().unwrap().is_some(), "it is gone before anything is done for its owner");
    block(next.detach("c-1")).unwrap();
}

fn nobody_waits_for_leftovers(bench: &Bench) {
    let go = bench.folder().join("go");
    let until_told = format!("until [ -e {go:?} ]; do sleep 0.01; done");
    plugin(bench, "slow", &format!("[ $CNI_COMMAND = ADD ] && exec echo '{{}}'\n{until_told}"));
    bench.list("slow", r#"{"type":"slow","capabilities":{"portMappings":true}}"#);
    for number in 0..20 {
        bench.attach(&format!("left-{number}"), "eng", bench.mapped("slow", 31_000 + number, 80));
    }
    let patient = config(bench.folder(), Duration::from_secs(60));
    let next = block(Networks::open(patient, &BTreeSet::new())).unwrap();
    block(next.attach(wanted("c-1", "eng", bench.mapped("blue", 32_000, 80)))).unwrap();
    // What a leftover holds is waited for.
    let (waiting, wanted) = (next.clone(), wanted("c-2", "eng", bench.mapped("slow", 31_000, 80)));
    let attaching = spawn(async move { waiting.attach(wanted).await });
    fs::write(go, "").unwrap();
    block(attaching).unwrap().unwrap();
    until("leftovers are gone", || (0..20).all(|number| !next.knows(&format!("left-{number}"))));
    block(next.detach("c-1")).unwrap();
    block(next.detach("c-2")).unwrap();
}

fn no_namespace(bench: &Bench) {
    let runner = ["sh", "-c", "exec sleep 1000"].map(Into::into).to_vec();
    let namespaces = NetworkNamespaces::new(runner);
    let stuck = NetworksConfig { namespaces, ..config(bench.folder(), Duration::from_millis(300)) };
    let networks = block(Networks::open(stuck, &BTreeSet::new())).unwrap();
    let error = block(networks.attach(wanted("c-1", "eng", Network::new("blue")))).unwrap_err();
    assert!(
        matches!(&error, AttachError::Namespace { source, .. } if source.kind() == ErrorKind::TimedOut),
        "{error:?}"
    );
}

fn ports_held(bench: &Bench) {
    let broken = bench.folder().join("broken");
    plugin(bench, "moody", &format!("[ $CNI_COMMAND = ADD ] && exec echo '{{}}'\n[ ! -e {broken:?} ]"));
    bench.list("moody", r#"{"type":"moody","capabilities":{"portMappings":true}}"#);
    let refused =
        |owner: &str| bench.try_attach(owner, "eng", bench.mapped("moody", 31_000, 80)).unwrap_err();
    bench.attach("old", "eng", bench.mapped("moody", 31_000, 80));
    let owners = ["old".to_owned()].into();
    let impatient =
        block(Networks::open(config(bench.folder(), Duration::from_millis(300)), &owners)).unwrap();
    let new = wanted("new", "eng", bench.mapped("moody", 31_000, 80));
    let error = block(impatient.attach(new)).unwrap_err().to_string();
    assert!(
        error.starts_with("port 31000 (tcp) of the host still leads to `old`, which is attached"),
        "{error}"
    );
    fs::write(&broken, "").unwrap();
    block(bench.networks.detach("old")).unwrap_err();
    let error = refused("new").to_string();
    assert!(error.contains("cannot be detached yet: network `moody` cannot be detached: plugin"), "{error}");
    bench.attach("elsewhere", "eng", bench.mapped("moody", 31_001, 80));
    // Another process of the agent knows it too.
    let owners = ["elsewhere".to_owned()].into();
    let next = block(Networks::open(config(bench.folder(), Duration::from_secs(60)), &owners)).unwrap();
    let attach = || block(next.attach(wanted("new", "eng", bench.mapped("moody", 31_000, 80))));
    let error = attach().unwrap_err();
    assert!(matches!(error, AttachError::PortHeld { port: 31_000, .. }), "{error}");
    // It is tried again without anybody's asking.
    fs::remove_file(&broken).unwrap();
    until("the port is free", || attach().is_ok());
    block(next.detach("new")).unwrap();
    bench.detach("elsewhere");
}

fn passed_on(bench: &Bench) {
    let seen = bench.folder().join("seen");
    plugin(
        bench,
        "watching",
        &format!(
            "cat >{0:?}.$CNI_COMMAND\n[ $CNI_COMMAND = DEL ] || echo '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"10.9.8.7/24\"}}]}}'",
            seen
        ),
    );
    let attached = bench.attach("c-1", "eng", bench.mapped("watching", 31_000, 80));
    assert_eq!(
        attached.addresses,
        ["10.9.8.7".parse::<std::net::IpAddr>().unwrap()],
        "the last result counts"
    );
    bench.detach("c-1");
    let read = |verb: &str| fs::read_to_string(format!("{}.{verb}", seen.display())).unwrap();
    assert!(read("ADD").contains("prevResult") && read("ADD").contains("eth0"), "{}", read("ADD"));
    assert!(!read("ADD").contains("runtimeConfig"), "only who has the capability is told of ports");
    assert!(read("DEL").contains("10.9.8.7"), "{}", read("DEL"));
}
