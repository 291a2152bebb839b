//! Policies that speak of roles, where the program that fills them does not do what it should.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, time::Duration};

use apportion_containerizer::NetworkNamespaces;
use apportion_network::{Networks, NetworksConfig};
use apportion_types::{
    Network,
    network::{Direction, Peer, Verdict},
};
use libtest_mimic::Trial;

use crate::{
    bench::{Bench, block, config, namespaces, spawn, until, wanted},
    fakes::plugin,
    plugins::rule,
    test,
};

/// More than are attached at once.
const OWNERS: usize = 20;

pub(crate) fn tests() -> Vec<Trial> {
    vec![test("a_policy_that_is_not_filled_holds_up_nobody", held_up)]
}

/// Networks whose `nft` notes when it is to fill sets, does it once there is no file `hold`, and fails while there is a file `broken`.
fn moody(bench: &Bench) -> NetworksConfig {
    let folder = bench.folder();
    let programs = folder.join("programs");
    fs::create_dir(&programs).unwrap();
    let script = format!(
        "#!/bin/sh\ninput=$(cat)\ncase $input in flush*)\n echo fill >>{:?}; while [ -e {:?} ]; do sleep 0.01; done\n [ -e {:?} ] && exit 1\nesac\n\
         echo \"$input\" | /usr/sbin/nft \"$@\"\n",
        folder.join("fills"),
        folder.join("hold"),
        folder.join("broken")
    );
    fs::write(programs.join("nft"), script).unwrap();
    fs::set_permissions(programs.join("nft"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("PATH={}:{}", programs.display(), std::env::var("PATH").unwrap());
    let runner = vec!["env".into(), path.into(), std::env::current_exe().unwrap().into(), "runner".into()];
    NetworksConfig { namespaces: NetworkNamespaces::new(runner), ..config(folder, Duration::from_secs(60)) }
}

fn held_up(bench: &Bench) {
    let networks = block(Networks::open(moody(bench), &BTreeSet::new())).unwrap();
    let answer = r#"{"cniVersion":"1.0.0","ips":[{"address":"10.9.8.'${CNI_CONTAINERID#c-}'/24"}]}"#;
    plugin(bench, "brief", &format!("cat >/dev/null; echo '{answer}'"));
    bench.list("brief", r#"{"type":"brief"}"#);
    let eng = Some(Peer::Role("eng".parse().unwrap()));
    let policy = vec![rule(Verdict::Allow, Direction::In, eng), rule(Verdict::Deny, Direction::In, None)];
    let server = wanted("c-200", "ops", Network { policy, ..Network::new("brief") });
    let server = block(networks.attach(server)).unwrap();
    let fills = || fs::read_to_string(bench.folder().join("fills")).unwrap().lines().count();
    assert_eq!(fills(), 1);

    let file = |name: &str| bench.folder().join(name);
    fs::write(file("hold"), "").unwrap();
    let owners: Vec<String> = (1..=OWNERS).map(|number| format!("c-{number}")).collect();
    let attaching: Vec<_> = owners
        .iter()
        .map(|owner| {
            let (networks, wanted) = (networks.clone(), wanted(owner, "eng", Network::new("brief")));
            spawn(async move { networks.attach(wanted).await })
        })
        .collect();
    until("the policy is being filled", || fills() == 2);
    until("all are attached", || owners.iter().all(|owner| networks.attached(owner).is_some()));
    assert_eq!(fills(), 2, "it is still being filled");
    assert!(attaching.iter().all(|attaching| !attaching.is_finished()), "whom it is to let in waits for it");
    fs::write(file("broken"), "").unwrap();
    fs::remove_file(file("hold")).unwrap();
    // It is one of another, and said.
    attaching.into_iter().for_each(|attaching| _ = block(attaching).unwrap().unwrap());
    fs::remove_file(file("broken")).unwrap();
    let knows = |address: &str| {
        let rules = block(namespaces().run_in(&server.namespace, &["nft", "list", "ruleset"], "")).unwrap();
        String::from_utf8(rules.stdout).unwrap().contains(address)
    };
    until("it is filled again", || knows(&format!("10.9.8.{OWNERS}")));
    for owner in owners {
        block(networks.detach(&owner)).unwrap();
    }
    assert!(!knows("10.9.8."), "an address that is free is nobody's");
    block(networks.detach("c-200")).unwrap();
}
