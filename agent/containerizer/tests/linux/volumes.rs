//! Persistent volumes: folders of the host that several tasks read and write.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use apportion_containerizer::{ContainerSpec, Containerizer, LaunchError, PersistentVolume};
use apportion_types::container::Exit;

use crate::{
    Scenario,
    bench::{
        Bench,
        Mode::{Bare, OldKernel, Root, User},
        block,
    },
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { name: "a_volume_shared_by_two", modes: &[Root, OldKernel, User], run: shared },
        Scenario { name: "a_volume_within_a_volume", modes: &[Root, User], run: nested },
        Scenario { name: "a_volume_takes_no_power", modes: &[Root, OldKernel, User], run: flags },
        Scenario { name: "no_volume_behind_a_link", modes: &[Root, User], run: link },
        Scenario { name: "no_volume_without_namespaces", modes: &[Bare], run: refused },
    ]
}

fn volume(bench: &Bench, name: &str) -> PathBuf {
    let path = bench.dir.join("volumes").join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A script that sees these folders at these places.
fn with(bench: &Bench, script: &str, volumes: &[(&PathBuf, &str)]) -> ContainerSpec {
    let persistent = volumes
        .iter()
        .map(|(source, path)| PersistentVolume { source: (*source).clone(), path: PathBuf::from(path) });
    ContainerSpec { persistent: persistent.collect(), ..bench.sh(script) }
}

fn refusal(bench: &Bench, spec: &ContainerSpec) -> String {
    match block(bench.native.launch(spec.clone())) {
        Err(error @ LaunchError::Volume { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn shared(bench: &Bench) {
    let data = volume(bench, "data");
    fs::write(data.join("before"), "was here\n").unwrap();
    let wait = |name: &str| format!("until [ -e {name} ]; do sleep 0.01; done");
    let first = format!("cat var/lib/data/before; echo one >var/lib/data/one; {}", wait("var/lib/data/two"));
    let second = format!("{}; echo two >data/two", wait("data/one"));
    let first = with(bench, &first, &[(&data, "var/lib/data")]);
    let second = with(bench, &second, &[(&data, "data")]);
    bench.launch(&first);
    bench.launch(&second);
    for spec in [&first, &second] {
        assert_eq!(bench.wait(spec).exit, Some(Exit::Code(0)));
    }
    assert_eq!(fs::read_to_string(first.sandbox.join("stdout")).unwrap(), "was here\n");
    assert_eq!(fs::read_to_string(data.join("two")).unwrap(), "two\n");
    // What is stored there is no part of a sandbox.
    assert_eq!(fs::read_dir(first.sandbox.join("var/lib/data")).unwrap().count(), 0);
}

fn nested(bench: &Bench) {
    let (outer, inner) = (volume(bench, "outer"), volume(bench, "inner"));
    let spec = with(bench, "echo o >a/x; echo i >a/b/x", &[(&inner, "a/b"), (&outer, "a")]);
    let (end, output) = bench.run(&spec);
    assert_eq!((end.exit, &*output), (Some(Exit::Code(0)), ""));
    assert_eq!(fs::read_to_string(outer.join("x")).unwrap(), "o\n");
    assert_eq!(fs::read_to_string(inner.join("x")).unwrap(), "i\n");
    assert_eq!(fs::read_dir(outer.join("b")).unwrap().count(), 0);
}

fn flags(bench: &Bench) {
    let data = volume(bench, "data");
    let script = "grep ' [^ ]*/data rw,' /proc/self/mountinfo | grep nosuid | grep -c nodev";
    let (_, output) = bench.run(&with(bench, script, &[(&data, "data")]));
    assert_eq!(output, "1\n");
}

fn link(bench: &Bench) {
    let (outer, inner) = (volume(bench, "outer"), volume(bench, "inner"));
    symlink("/etc", outer.join("b")).unwrap();
    let message = refusal(bench, &with(bench, "true", &[(&outer, "a"), (&inner, "a/b")]));
    assert!(message.contains("\"a/b\" has no mount point"), "{message}");
    symlink("/etc", bench.dir.join("link")).unwrap();
    let message = refusal(bench, &with(bench, "true", &[(&bench.dir.join("link"), "a")]));
    assert!(message.contains("cannot be opened"), "{message}");
}

fn refused(bench: &Bench) {
    let data = volume(bench, "data");
    let message = refusal(bench, &with(bench, "true", &[(&data, "data")]));
    assert!(message.contains("no namespaces") && message.contains("run the agent as root"), "{message}");
}
