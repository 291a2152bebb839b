//! Bridges, mapped ports and policies, with the plugins that everybody has.

use std::{collections::BTreeSet, fs, net::SocketAddr};

use apportion_network::Networks;
use apportion_types::{
    Network,
    network::{Direction, Peer, PortRange, Protocol, Rule, Verdict},
};
use libtest_mimic::Trial;

use crate::{
    bench::{Bench, block, config, namespaces, wanted},
    talk::{Server, reaches, reaches_from},
    test,
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("an_owner_has_an_address_and_names", names),
        test("two_owners_talk_and_the_host_with_both", talk),
        test("ports_of_the_host_lead_to_an_owner", ports),
        test("what_a_policy_denies_is_denied", policy),
        test("a_policy_knows_who_has_which_role", roles),
        test("an_owner_is_found_again_or_detached", found_again),
        test("after_a_start_of_the_machine_leases_end", rebooted),
    ]
}

fn names(bench: &Bench) {
    let attached = bench.attach("c-1", "eng", Network::new("blue"));
    let [address] = attached.addresses[..] else { panic!("{attached:?}") };
    assert!(address.to_string().starts_with(&bench.gateway().to_string()[..8]));
    let read = |name: &str| fs::read_to_string(&attached.etc[name]).unwrap();
    assert!(read("hosts").contains(&format!("{address} c-1\n")), "{}", read("hosts"));
    assert_eq!(read("resolv.conf"), format!("nameserver {}\n", bench.gateway()));
    assert!(!attached.filtered);
    assert_eq!(bench.networks.attached("c-1"), Some(attached.clone()));
    let seen = block(namespaces().run_in(&attached.namespace, &["ip", "-o", "-4", "addr"], "")).unwrap();
    let seen = String::from_utf8(seen.stdout).unwrap();
    assert!(seen.contains("127.0.0.1") && seen.contains(&address.to_string()), "{seen}");
    // An owner is not disturbed by who takes its name.
    assert!(bench.try_attach("c-1", "eng", Network::new("blue")).is_err());
    assert_eq!(bench.networks.attached("c-1"), Some(attached.clone()));
    assert!(attached.etc["hosts"].exists());
    bench.detach("c-1");
    assert_eq!(bench.networks.attached("c-1"), None);
    bench.detach("c-1");
}

fn talk(bench: &Bench) {
    let (one, other) = (
        bench.attach("one", "eng", Network::new("blue")),
        bench.attach("other", "eng", Network::new("blue")),
    );
    let _server = Server::start(&one.namespace, 80);
    let address = SocketAddr::new(one.addresses[0], 80);
    assert!(reaches_from(&other.namespace, address));
    assert!(reaches(address), "the host reaches it");
    bench.detach("other");
    assert!(reaches(address), "who is left goes on");
    bench.detach("one");
}

fn ports(bench: &Bench) {
    let attached = bench.attach("web", "eng", bench.mapped("blue", 31_000, 80));
    let server = Server::start(&attached.namespace, 80);
    let at = |port| SocketAddr::new(bench.gateway(), port);
    assert!(reaches(at(31_000)), "by the host's address");
    assert!(reaches(SocketAddr::from(([127, 0, 0, 1], 31_000))), "by the host's loopback");
    assert!(!reaches(at(31_001)));
    drop(server);
    bench.detach("web");
    // The port is the next one's at once.
    let attached = bench.attach("next", "eng", bench.mapped("blue", 31_000, 8080));
    let _server = Server::start(&attached.namespace, 8080);
    assert!(reaches(at(31_000)));
    bench.detach("next");
    assert!(!reaches(at(31_000)));
}

pub(crate) fn rule(verdict: Verdict, direction: Direction, peer: Option<Peer>) -> Rule {
    Rule { verdict, direction, peer, ports: None, protocol: None }
}

fn ruled(policy: Vec<Rule>) -> Network {
    Network { policy, ..Network::new("blue") }
}

fn policy(bench: &Bench) {
    let client = bench.attach("client", "eng", Network::new("blue"));
    let of_client = Some(Peer::Cidr(client.addresses[0].to_string().parse().unwrap()));
    let ports = Some(PortRange { begin: 81, end: 82 });
    // The first rule that fits decides: port 81 is open to the client, all else is closed to it, and open to others.
    let policy = vec![
        Rule { ports, ..rule(Verdict::Allow, Direction::In, of_client.clone()) },
        rule(Verdict::Deny, Direction::In, of_client),
    ];
    let server = bench.attach("server", "eng", ruled(policy));
    assert!(server.filtered);
    let _one = Server::start(&server.namespace, 80);
    let _other = Server::start(&server.namespace, 81);
    let at = |port| SocketAddr::new(server.addresses[0], port);
    assert!(!reaches_from(&client.namespace, at(80)));
    assert!(reaches_from(&client.namespace, at(81)));
    assert!(reaches(at(80)), "others are not meant");
    assert!(reaches_from(&server.namespace, at(80)), "itself is not meant");

    let to_80 = Some(PortRange { begin: 80, end: 80 });
    let deny =
        Rule { ports: to_80, protocol: Some(Protocol::Tcp), ..rule(Verdict::Deny, Direction::Out, None) };
    let shut_in = bench.attach("shut-in", "eng", ruled(vec![deny, rule(Verdict::Deny, Direction::In, None)]));
    assert!(!reaches_from(&shut_in.namespace, at(80)));
    assert!(reaches_from(&shut_in.namespace, at(81)), "answers to what it begins come in");
    let udp = Rule { protocol: Some(Protocol::Udp), ..rule(Verdict::Deny, Direction::Out, None) };
    let quiet = bench.attach("quiet", "eng", ruled(vec![udp]));
    assert!(reaches_from(&quiet.namespace, at(80)), "another protocol is not meant");
    for owner in ["client", "server", "shut-in", "quiet"] {
        bench.detach(owner);
    }
}

fn roles(bench: &Bench) {
    let policy = vec![
        rule(Verdict::Allow, Direction::In, Some(Peer::Role("eng".parse().unwrap()))),
        rule(Verdict::Deny, Direction::In, None),
    ];
    let early = bench.attach("early", "eng", Network::new("blue"));
    let server = bench.attach("server", "ops", ruled(policy));
    let late = bench.attach("late", "eng/ads", Network::new("blue"));
    let stranger = bench.attach("stranger", "ops", Network::new("blue"));
    let _server = Server::start(&server.namespace, 80);
    let at = SocketAddr::new(server.addresses[0], 80);
    assert!(reaches_from(&early.namespace, at), "who was there before");
    assert!(reaches_from(&late.namespace, at), "who came later, in a role below");
    assert!(!reaches_from(&stranger.namespace, at));
    bench.detach("late");
    let rules = block(namespaces().run_in(&server.namespace, &["nft", "list", "ruleset"], "")).unwrap();
    let rules = String::from_utf8(rules.stdout).unwrap();
    assert!(rules.contains(&early.addresses[0].to_string()), "{rules}");
    assert!(!rules.contains(&late.addresses[0].to_string()), "an address that is free is nobody's: {rules}");

    // Another process of the agent knows it too.
    let owners: BTreeSet<String> = ["early", "server", "stranger"].map(str::to_owned).into();
    let next =
        block(Networks::open(config(bench.folder(), std::time::Duration::from_secs(60)), &owners)).unwrap();
    let new = block(next.attach(wanted("new", "eng", Network::new("blue")))).unwrap();
    assert!(reaches_from(&new.namespace, at));
    for owner in ["early", "server", "stranger", "new"] {
        block(next.detach(owner)).unwrap();
        bench.detach(owner);
    }
}

fn found_again(bench: &Bench) {
    let kept = bench.attach("kept", "eng", bench.mapped("blue", 31_000, 80));
    bench.attach("left", "eng", bench.mapped("blue", 31_001, 80));
    let before = config(bench.folder(), std::time::Duration::from_secs(60));
    // What an operator changes meanwhile is for those who come later: these are detached as they were attached.
    fs::remove_file(bench.folder().join("net.d/blue.conflist")).unwrap();
    let next = block(Networks::open(before, &["kept".to_owned()].into())).unwrap();
    assert_eq!(next.attached("kept"), Some(kept.clone()));
    assert_eq!(next.attached("left"), None);
    block(next.detach("left")).unwrap();
    assert!(!bench.folder().join("networks/left").exists());
    let server = Server::start(&kept.namespace, 80);
    assert!(reaches(SocketAddr::new(bench.gateway(), 31_000)));
    drop(server);
    block(next.detach("kept")).unwrap();
    bench.detach("kept");
    bench.detach("left");
}

fn rebooted(bench: &Bench) {
    // Nor are there rules that the kernel had for it, which a plugin does not find without an interface.
    bench.list("blue", &bench.bridge().replace("\"ipMasq\":true,", ""));
    let attached = bench.attach("c-1", "eng", bench.mapped("blue", 31_000, 80));
    // As after the machine was started again: files are there, the namespace and its interfaces are not.
    let gone = std::process::Command::new("umount").arg(&attached.namespace).status().unwrap();
    assert!(gone.success() && attached.namespace.exists());
    let next = block(Networks::open(
        config(bench.folder(), std::time::Duration::from_secs(60)),
        &["c-1".to_owned()].into(),
    ))
    .unwrap();
    assert_eq!(next.attached("c-1"), None, "its addresses are nobody's any more");
    block(next.detach("c-1")).unwrap();
    bench.detach("c-1");
}
