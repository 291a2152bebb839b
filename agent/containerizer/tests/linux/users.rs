//! Users of a container's own: root inside is nobody on the machine, and files keep their owners.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use apportion_containerizer::{
    ContainerSpec, Containerizer, ImageRoot, Mount, MountSource, Native, NativeConfig, PersistentVolume,
    ProbeError, Signal, UserRange,
};
use apportion_types::container::Exit;

use crate::{
    Scenario,
    bench::{
        Bench,
        Mode::{Mapped, Oci, User},
        USERS_FIRST, block,
    },
    images::{busybox, folder, output, script},
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { name: "root_is_nobody_outside", modes: &[Mapped], run: nobody },
        Scenario { name: "files_keep_their_owners", modes: &[Mapped], run: owners },
        Scenario { name: "what_the_host_shows_is_read_as_nobody", modes: &[Mapped], run: shown },
        Scenario { name: "an_image_keeps_its_owners", modes: &[Mapped], run: image },
        Scenario { name: "no_users_of_their_own", modes: &[User, Oci], run: refused },
    ]
}

fn nobody(bench: &Bench) {
    let secret = bench.dir.join("of-root");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "echo $(id -u):$(id -g) $(cat /proc/self/uid_map); cat {} 2>/dev/null && echo read it; echo told >told; sleep 1000",
        secret.display()
    );
    let spec = bench.sh(&text);
    bench.launch(&spec);
    let first = USERS_FIRST;
    assert_eq!(bench.line(&spec, "told"), "told");
    assert_eq!(bench.line(&spec, "stdout"), format!("0:0 0 {first} {}", UserRange::COUNT));
    // Its process 1 is no more than it is.
    let pids = bench.pids(&spec);
    for process in ["init", "task"] {
        let pid = pids[process]["pid"].as_i64().unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for ids in ["Uid", "Gid"] {
            let line = status.lines().find(|line| line.starts_with(ids)).unwrap();
            assert_eq!(line, format!("{ids}:\t{first}\t{first}\t{first}\t{first}"), "{process}");
        }
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"));
    }
    block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Signal(9)));
    assert_eq!(fs::metadata(spec.sandbox.join("told")).unwrap().uid(), 0, "on disk it is root's");
}

/// What is written by one user is that user's on disk, and again to whoever finds it there.
fn owners(bench: &Bench) {
    let (kept, lent) = (folder(bench, "kept"), folder(bench, "lent"));
    chown(&kept, Some(1000), Some(1001)).unwrap();
    fs::write(lent.join("old"), "").unwrap();
    chown(lent.join("old"), Some(33), Some(34)).unwrap();
    let config = NativeConfig {
        lendable: vec![lent.clone()],
        state_dir: bench.dir.join("other"),
        ..bench.config.clone()
    };
    let native = block(Native::probe(config)).unwrap();
    let text = "stat -c '%u:%g' kept data/old . /tmp memory
        touch data/new own kept/new /tmp/x memory/x /dev/shm/x || echo cannot write
        chown 33:34 own && chown 70000 own 2>/dev/null && echo gave it to nobody";
    let spec = ContainerSpec {
        persistent: vec![PersistentVolume { source: kept.clone(), path: "kept".into() }],
        mounts: vec![
            Mount { source: MountSource::Host(lent.clone()), target: "data".into(), writable: true },
            Mount { source: MountSource::Tmpfs { bytes: 1 << 20 }, target: "memory".into(), writable: true },
        ],
        ..bench.sh(text)
    };
    block(native.launch(spec.clone())).unwrap();
    block(native.wait(&spec.id)).unwrap();
    block(native.remove(&spec.id)).unwrap();
    let read = |name| fs::read_to_string(spec.sandbox.join(name)).unwrap();
    assert_eq!(read("stdout") + &read("stderr"), "1000:1001\n33:34\n0:0\n0:0\n0:0\n");
    let ids = |path: &Path| fs::metadata(path).map(|file| (file.uid(), file.gid())).unwrap();
    assert_eq!(ids(&lent.join("new")), (0, 0));
    assert_eq!(ids(&kept.join("new")), (0, 0));
    assert_eq!(ids(&spec.sandbox.join("own")), (33, 34));
    block(native.close());
}

/// Only what is lent is the container's: what is merely shown, its root reads as anybody does.
fn shown(bench: &Bench) {
    let host = folder(bench, "host");
    for (name, mode) in [("secret", 0o600), ("open", 0o644)] {
        fs::write(host.join(name), name).unwrap();
        fs::set_permissions(host.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let text = "cat data/secret 2>/dev/null; cat data/open; stat -c ' %u' data/open";
    let mount = Mount { source: MountSource::Host(host), target: "data".into(), writable: false };
    let spec = ContainerSpec { mounts: vec![mount], ..bench.sh(text) };
    assert_eq!(output(bench, &spec), "open 65534\n");
}

fn image(bench: &Bench) {
    let Some(base) = busybox(bench) else { return };
    let layer = folder(bench, "layer");
    for (name, uid, mode) in [("of-root", 0, 0o600), ("of-web", 33, 0o600), ("of-nobody", 70_000, 0o644)] {
        let path = layer.join(name);
        fs::write(&path, name).unwrap();
        chown(&path, Some(uid), Some(uid)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let text = "stat -c %u / /etc/hosts /of-root /of-web /of-nobody; cat /of-root; echo; echo x >>/of-root; chown 33 /of-root; stat -c %u /of-root
        id -u; echo y >/etc/own && stat -c %u /etc/own";
    let spec = script(bench, &[base.clone(), layer.clone()], text);
    assert_eq!(output(bench, &spec), "0\n0\n0\n33\n65534\nof-root\n33\n0\n0\n");
    // The same layers as a root and as a volume are translated once; another user sees the owners too.
    let again = ImageRoot {
        layers: vec![base.clone(), layer.clone()],
        scratch: folder(bench, "scratch-of-a-volume"),
    };
    let volume = Mount { source: MountSource::Image(again), target: "/volume".into(), writable: true };
    let text = "cat /of-web /volume/of-web; cat /of-root /volume/of-root 2>/dev/null || true";
    let spec = ContainerSpec {
        user: Some("33".to_owned()),
        mounts: vec![volume],
        ..script(bench, &[base, layer.clone()], text)
    };
    assert_eq!(output(bench, &spec), "of-webof-web");
    assert_eq!(fs::metadata(layer.join("of-root")).unwrap().uid(), 0, "the layer is as it was");
}

fn refused(bench: &Bench) {
    let users = Some(USERS_FIRST.to_string().parse().unwrap());
    let config = NativeConfig { users, state_dir: bench.dir.join("other"), ..bench.config.clone() };
    let error = block(Native::probe(config)).unwrap_err();
    let why = if bench.mode == User { "run the agent as root" } else { "leave the runtime `native`" };
    assert!(matches!(error, ProbeError::Users { .. }) && error.to_string().contains(why), "{error}");
}
