//! Volumes: folders of the host that several tasks read and write, and whatever else a task is shown.

use std::{
    fs,
    io::Read,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{PermissionsExt, symlink},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use apportion_containerizer::{
    AGENT_FOLDER, ContainerSpec, Containerizer, LaunchError, Mount, MountSource, Native, NativeConfig,
    PersistentVolume, SANDBOX_IN_IMAGE,
};
use apportion_types::container::Exit;

use crate::{
    Scenario,
    bench::{
        Bench,
        Mode::{Bare, Mapped, Oci, OldKernel, Root, Runsc, User},
        block,
    },
    images,
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "a_volume_shared_by_two",
            modes: &[Root, Mapped, OldKernel, User, Oci],
            run: shared,
        },
        Scenario { name: "a_volume_within_a_volume", modes: &[Root, Mapped, User, Oci], run: nested },
        Scenario {
            name: "a_volume_takes_no_power",
            modes: &[Root, Mapped, OldKernel, User, Oci],
            run: flags,
        },
        Scenario { name: "no_volume_behind_a_link", modes: &[Root, Mapped, User, Oci], run: link },
        Scenario { name: "no_volume_without_namespaces", modes: &[Bare], run: refused },
        Scenario { name: "host_volumes", modes: &[Root, Mapped, OldKernel, User, Oci], run: host },
        Scenario { name: "host_volumes_refused", modes: &[Root, Mapped, User, Oci], run: host_refused },
        Scenario {
            name: "volumes_of_every_kind",
            modes: &[Root, Mapped, OldKernel, User, Oci],
            run: every_kind,
        },
        Scenario { name: "a_folder_of_the_agent", modes: &[Root, Mapped, OldKernel, User, Oci], run: agents },
        Scenario { name: "a_folder_of_the_agent_in_a_kernel", modes: &[Runsc], run: agents_to_own_kernel },
        Scenario {
            name: "a_folder_of_the_agent_in_an_image",
            modes: &[Root, Mapped, User, Oci],
            run: agents_in_image,
        },
        Scenario { name: "volumes_in_an_image", modes: &[Root, Mapped, User, Oci], run: in_image },
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

fn mount(source: MountSource, target: &str, writable: bool) -> Mount {
    Mount { source, target: PathBuf::from(target), writable }
}

fn host(bench: &Bench) {
    let (read, write) = (volume(bench, "read"), volume(bench, "lent/write"));
    fs::write(read.join("file"), "seen\n").unwrap();
    fs::set_permissions(&write, fs::Permissions::from_mode(0o777)).unwrap();
    let lent = bench.dir.join("volumes/lent");
    let script = "cat data/file /tmp/there/file one; touch data/x 2>/dev/null && echo wrote; echo w >out/w; ls -d /tmp/deep/er";
    let mut spec = bench.sh(script);
    spec.mounts = vec![
        mount(MountSource::Host(read.clone()), "data", false),
        mount(MountSource::Host(read.clone()), "/tmp/there", false),
        mount(MountSource::Host(read.join("file")), "one", false),
        mount(MountSource::Host(write.clone()), "out", true),
        mount(MountSource::Host(read.clone()), "/tmp/deep/er", false),
    ];
    let mut config = bench.config.clone();
    config.lendable = vec![lent];
    let native = block(Native::probe(config)).unwrap();
    block(native.launch(spec.clone())).unwrap();
    assert_eq!(block(native.wait(&spec.id)).unwrap().exit, Some(Exit::Code(0)));
    let output = fs::read_to_string(spec.sandbox.join("stdout")).unwrap();
    assert_eq!(output, "seen\nseen\nseen\n/tmp/deep/er\n");
    assert_eq!(fs::read_to_string(write.join("w")).unwrap(), "w\n");
    assert!(!read.join("x").exists());
    block(native.remove(&spec.id)).unwrap();
}

fn host_refused(bench: &Bench) {
    let data = volume(bench, "data");
    let sandbox = bench.sh("true").sandbox;
    symlink("/dev", bench.dir.join("devices")).unwrap();
    for (source, target, writable, what) in [
        (data.clone(), "data", true, "--lend-host-path"),
        (bench.dir.join("devices"), "data", false, "leads into /dev"),
        (bench.dir.join("none"), "data", false, "does not exist"),
        (bench.config.state_dir.clone(), "data", false, "a folder of the agent"),
        (data.clone(), "/no/such/place", false, "read-only to tasks"),
        (data.clone(), "/proc/acpi", false, "/proc or /sys"),
        (data.clone(), "/sys/kernel", false, "/proc or /sys"),
        (data, sandbox.parent().unwrap().to_str().unwrap(), false, "over the sandbox"),
    ] {
        let mut spec = bench.sh("true");
        spec.mounts = vec![mount(MountSource::Host(source), target, writable)];
        let message = refusal(bench, &spec);
        assert!(message.contains(what), "{target}: {message}");
    }
    assert!(!Path::new("/no/such/place").exists());
}

fn every_kind(bench: &Bench) {
    let layer = images::folder(bench, "layer");
    fs::write(layer.join("file"), "of an image\n").unwrap();
    let script = "cat image/file; (echo x >image/new) 2>/dev/null && echo wrote; echo changed >changeable/file; cat changeable/file
        head -c 2000000 /dev/zero >memory/x 2>/dev/null || echo full; grep -c ' [^ ]*/memory rw,nosuid,nodev' /proc/self/mountinfo
        echo x >from/x; cat seen/x; (echo y >seen/y) 2>/dev/null && echo wrote; exit 0";
    let mut spec = bench.sh(script);
    spec.mounts = vec![
        mount(MountSource::Image(images::image(bench, std::slice::from_ref(&layer))), "image", false),
        mount(MountSource::Image(images::image(bench, std::slice::from_ref(&layer))), "changeable", true),
        mount(MountSource::Tmpfs { bytes: 1 << 20 }, "memory", true),
        mount(MountSource::Sandbox("from".into()), "seen", false),
    ];
    let output = images::output(bench, &spec);
    assert_eq!(output, "of an image\nchanged\nfull\n1\nx\n");
    assert_eq!(fs::read_to_string(layer.join("file")).unwrap(), "of an image\n");
}

/// What an agent gives a container: a secret, and a socket that it listens on.
fn given(bench: &Bench) -> (PathBuf, UnixListener) {
    let folder = volume(bench, "given");
    fs::write(folder.join("token"), "secret\n").unwrap();
    fs::set_permissions(folder.join("token"), fs::Permissions::from_mode(0o400)).unwrap();
    let open = fs::File::open(&folder).unwrap();
    // By the open folder: a socket's path must be short.
    let path = format!("/proc/self/fd/{}/socket", open.as_raw_fd());
    let socket = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    (folder, socket)
}

fn agents(bench: &Bench) {
    let (folder, socket) = given(bench);
    let spec = connects(bench, &bench.native, &folder, &socket);
    assert_eq!(fs::metadata(folder.join("token")).unwrap().permissions().mode() & 0o777, 0o400);
    // What comes into the folder later is seen too, such as the socket of the next agent.
    let mut again = bench.sh("until [ -e /run/apportion/later ]; do sleep 0.01; done");
    again.mounts = spec.mounts;
    bench.launch(&again);
    fs::write(folder.join("later"), "").unwrap();
    assert_eq!(bench.wait(&again).exit, Some(Exit::Code(0)));
}

/// A kernel of its own has to be told that sockets of the machine may be connected to.
fn agents_to_own_kernel(bench: &Bench) {
    let runtime = "runsc --platform=ptrace --network=host --host-uds=open".parse().unwrap();
    let native = block(Native::probe(NativeConfig { runtime, ..bench.config.clone() })).unwrap();
    let (folder, socket) = given(bench);
    connects(bench, &native, &folder, &socket);
}

/// Has a container of another user than the agent's see the folder, which is not to write to, and connect.
fn connects(bench: &Bench, native: &Native, folder: &Path, socket: &UnixListener) -> ContainerSpec {
    let script = "cd /run/apportion && cat token; (echo x >new) 2>/dev/null && echo wrote; rm -f token 2>/dev/null && echo removed; TASK connect socket";
    let mut spec = bench.sh(&script.replace("TASK", &bench.task(&[]).argv.join(" ")));
    spec.mounts = vec![mount(MountSource::Agent(folder.to_owned()), AGENT_FOLDER, false)];
    // An ordinary user's agent has no other.
    spec.user = (bench.mode != User).then(|| "nobody".to_owned());
    block(native.launch(spec.clone())).unwrap();
    let exit = block(native.wait(&spec.id)).unwrap().exit;
    let output = fs::read_to_string(spec.sandbox.join("stdout")).unwrap();
    assert_eq!((exit, &*output), (Some(Exit::Code(0)), "secret\n"));
    let mut said = String::new();
    socket.accept().unwrap().0.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
    block(native.remove(&spec.id)).unwrap();
    spec
}

fn agents_in_image(bench: &Bench) {
    let Some(layer) = images::busybox(bench) else { return };
    let (folder, _socket) = given(bench);
    let script = "cd /run/apportion && cat token; test -S socket && echo socket; (echo x >new) 2>/dev/null && echo wrote; true";
    let mut spec = images::script(bench, std::slice::from_ref(&layer), script);
    spec.user = (bench.mode != User).then(|| "4321".to_owned());
    spec.mounts = vec![mount(MountSource::Agent(folder), AGENT_FOLDER, false)];
    assert_eq!(images::output(bench, &spec), "secret\nsocket\n");
}

fn in_image(bench: &Bench) {
    let Some(layer) = images::busybox(bench) else { return };
    symlink("/root", layer.join("link")).unwrap();
    let (data, kept) = (volume(bench, "data"), volume(bench, "kept"));
    fs::write(data.join("file"), "seen\n").unwrap();
    let script = "cat /a/b/file /root/in/file /etc/one; echo x >kept/x; ls -A; touch /a/b/x 2>/dev/null && echo wrote; df /dev/shm | grep -c 1024";
    let mut spec = images::script(bench, std::slice::from_ref(&layer), script);
    spec.mounts = vec![
        mount(MountSource::Host(data.clone()), "/a/b", false),
        mount(MountSource::Host(data.clone()), "/link/in", false),
        mount(MountSource::Host(data.join("file")), "/etc/one", false),
        mount(MountSource::Tmpfs { bytes: 1 << 20 }, "/dev/shm", true),
    ];
    spec.persistent = vec![PersistentVolume { source: kept.clone(), path: "kept".into() }];
    assert_eq!(images::output(bench, &spec), "seen\nseen\nseen\nkept\nstderr\nstdout\n1\n");
    assert_eq!(fs::read_to_string(kept.join("x")).unwrap(), "x\n");
    assert!(!layer.join("a").exists());
    for (target, what) in [
        ("/mnt", "over the sandbox"),
        (SANDBOX_IN_IMAGE, "over the sandbox"),
        ("/bin/sh/x", "no mount point"),
    ] {
        let mut spec = images::script(bench, std::slice::from_ref(&layer), "true");
        spec.mounts = vec![mount(MountSource::Host(data.clone()), target, false)];
        let message = refusal(bench, &spec);
        assert!(message.contains(what), "{target}: {message}");
    }
}
