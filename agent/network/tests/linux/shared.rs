//! Networks of owners that are several containers.

use std::{collections::BTreeSet, fs, time::Duration};

use apportion_containerizer::NetworkNamespaces;
use apportion_network::{AttachError, Networks, NetworksConfig};
use apportion_types::{
    Network,
    network::{Direction, Peer, Verdict},
};
use libtest_mimic::Trial;

use crate::{
    bench::{Bench, block, config, spawn, until, wanted},
    fakes::plugin,
    plugins::rule,
    test,
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("an_owner_that_is_several_containers_is_attached_once", once),
        test("what_the_machine_has_forgotten_is_attached_anew", anew),
        test("nobody_shares_what_is_being_detached", leaving),
        test("a_launch_that_is_cancelled_cuts_off_no_plugin_of_what_is_shared", cut_off),
        test("what_was_detached_in_part_is_not_found_again", in_part),
        test("nobody_shares_what_has_no_fence", no_fence),
        test("a_port_is_waited_for_until_its_holder_leaves", port_waited_for),
    ]
}

/// Makes a network that writes down what is asked of it.
fn counted(bench: &Bench) -> impl Fn(&str) -> usize {
    let asked = bench.folder().join("asked");
    plugin(bench, "counted", &format!("cat >/dev/null; echo $CNI_COMMAND >>{asked:?}"));
    // A rule of the host's tables would only go with the machine itself when the namespace is gone.
    let bridge = bench.bridge().replace(r#""ipMasq":true,"#, "");
    bench.list("counted", &format!(r#"{{"type":"counted"}},{bridge}"#));
    move |verb| fs::read_to_string(&asked).unwrap_or_default().lines().filter(|line| *line == verb).count()
}

fn once(bench: &Bench) {
    let asked = counted(bench);
    let pod = || wanted("pod", "eng", bench.mapped("counted", 31_000, 80));
    let sharing: Vec<_> = (0..4)
        .map(|_| {
            let (networks, pod) = (bench.networks.clone(), pod());
            spawn(async move { networks.share(pod).await })
        })
        .collect();
    let attached: Vec<_> = sharing.into_iter().map(|one| block(one).unwrap().unwrap()).collect();
    assert!(attached.iter().all(|one| *one == attached[0]), "{attached:?}");
    assert_eq!(attached[0].addresses.len(), 1);
    let owners = ["pod".to_owned()].into();
    let next = block(Networks::open(config(bench.folder(), Duration::from_secs(60)), &owners)).unwrap();
    assert_eq!(block(next.share(pod())).unwrap(), attached[0], "as an earlier process has attached it");
    assert_eq!(asked("ADD"), 1);
    block(next.detach("pod")).unwrap();
    assert_eq!(asked("DEL"), 1);
}

fn anew(bench: &Bench) {
    let asked = counted(bench);
    let pod = || wanted("pod", "eng", bench.mapped("counted", 31_000, 80));
    let before = block(bench.networks.share(pod())).unwrap();
    NetworkNamespaces::remove(&before.namespace).unwrap();
    let owners = ["pod".to_owned()].into();
    let next = block(Networks::open(config(bench.folder(), Duration::from_secs(60)), &owners)).unwrap();
    assert_eq!((next.attached("pod"), next.knows("pod")), (None, true));
    let after = block(next.share(pod())).unwrap();
    assert!(NetworkNamespaces::is_one(&after.namespace));
    assert_eq!((asked("ADD"), asked("DEL")), (2, 1), "it was detached in between");
    block(next.detach("pod")).unwrap();
}

/// What an attaching that failed has left is detached in the background: also from under whoever attached by its name.
fn leaving(bench: &Bench) {
    let file = |name: &str| bench.folder().join(name);
    let (refusing, broken) = (file("refusing"), file("broken"));
    let script = format!(
        "cat >/dev/null; [ $CNI_COMMAND = DEL ] && {{ [ ! -e {broken:?} ]; exit; }}
        [ ! -e {refusing:?} ] && echo '{{}}'"
    );
    plugin(bench, "moody", &script);
    bench.list("moody", r#"{"type":"moody"}"#);
    let share = || block(bench.networks.share(wanted("pod", "eng", Network::new("moody"))));
    fs::write(&refusing, "").unwrap();
    fs::write(&broken, "").unwrap();
    assert!(matches!(share(), Err(AttachError::Plugin(_))));
    fs::remove_file(&refusing).unwrap();
    let refused = share();
    assert!(matches!(refused, Err(AttachError::Leaving)), "{refused:?}");
    fs::remove_file(&broken).unwrap();
    until("what is left is detached", || !bench.networks.knows("pod"));
    share().unwrap();
    bench.detach("pod");
}

/// Whoever comes after a launch that was cancelled waits for the plugin that takes away what the machine has forgotten.
fn cut_off(bench: &Bench) {
    let file = |name: &str| bench.folder().join(name);
    let (busy, twice, go) = (file("busy"), file("twice"), file("go"));
    let script = format!(
        "cat >/dev/null; [ $CNI_COMMAND = ADD ] && exec echo '{{}}'
        mkdir {busy:?} || >{twice:?}
        until [ -e {go:?} ]; do sleep 0.01; done; rmdir {busy:?}"
    );
    plugin(bench, "slow", &script);
    bench.list("slow", r#"{"type":"slow"}"#);
    let pod = || wanted("pod", "eng", Network::new("slow"));
    let before = block(bench.networks.share(pod())).unwrap();
    NetworkNamespaces::remove(&before.namespace).unwrap();
    let owners = ["pod".to_owned()].into();
    let next = block(Networks::open(config(bench.folder(), Duration::from_secs(60)), &owners)).unwrap();
    let sharing = spawn({
        let (next, pod) = (next.clone(), pod());
        async move { next.share(pod).await }
    });
    until("it is being detached", || busy.exists());
    sharing.abort();
    assert!(block(sharing).unwrap_err().is_cancelled());
    let detaching = spawn({
        let next = next.clone();
        async move { next.detach("pod").await }
    });
    // Now it is the other's turn, if nobody is at it.
    bench.attach("other", "eng", Network::new("blue"));
    bench.detach("other");
    fs::write(&go, "").unwrap();
    block(detaching).unwrap().unwrap();
    assert!(!next.knows("pod") && !twice.exists(), "two plugins were at it");
}

fn in_part(bench: &Bench) {
    let broken = bench.folder().join("broken");
    plugin(bench, "moody", &format!("[ $CNI_COMMAND = ADD ] && exec echo '{{}}'\n[ ! -e {broken:?} ]"));
    bench.list("moody", r#"{"type":"moody"}"#);
    bench.attach("pod", "eng", Network::new("moody"));
    let owners: BTreeSet<String> = ["pod".to_owned()].into();
    let open = || block(Networks::open(config(bench.folder(), Duration::from_secs(60)), &owners)).unwrap();
    assert!(open().attached("pod").is_some());
    fs::write(&broken, "").unwrap();
    block(bench.networks.detach("pod")).unwrap_err();
    let next = open();
    assert_eq!((next.attached("pod"), next.knows("pod")), (None, true));
    fs::remove_file(&broken).unwrap();
    until("the rest is detached", || !next.knows("pod"));
}

fn no_fence(bench: &Bench) {
    let policy = vec![rule(Verdict::Allow, Direction::In, Some(Peer::Role("eng".parse().unwrap())))];
    let pod = || wanted("pod", "eng", Network { policy: policy.clone(), ..Network::new("blue") });
    block(bench.networks.share(pod())).unwrap();
    let runner = ["sh", "-c", "exit 1"].map(Into::into).to_vec();
    let helpless = NetworksConfig {
        namespaces: NetworkNamespaces::new(runner),
        ..config(bench.folder(), Duration::from_secs(60))
    };
    let owners = ["pod".to_owned()].into();
    let next = block(Networks::open(helpless, &owners)).unwrap();
    assert!(next.attached("pod").is_some());
    let refused = block(next.share(pod()));
    assert!(matches!(refused, Err(AttachError::Policy { .. })), "{refused:?}");
    block(next.detach("pod")).unwrap();
}

fn port_waited_for(bench: &Bench) {
    bench.attach("one", "eng", bench.mapped("blue", 31_000, 80));
    let attaching = spawn({
        let (networks, other) =
            (bench.networks.clone(), wanted("other", "eng", bench.mapped("blue", 31_000, 80)));
        async move { networks.attach(other).await }
    });
    // Long enough to be refused, or attached.
    bench.attach("beside", "eng", bench.mapped("blue", 31_001, 80));
    bench.detach("beside");
    assert!(!attaching.is_finished() && !bench.networks.knows("other"), "it waits");
    bench.networks.leaves("one");
    bench.detach("one");
    block(attaching).unwrap().unwrap();
    bench.detach("other");
}
