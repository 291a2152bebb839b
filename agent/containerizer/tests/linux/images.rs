//! Images as roots and as volumes, and who runs in them.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use apportion_containerizer::{ContainerSpec, Containerizer, ImageRoot, LaunchError, SANDBOX_IN_IMAGE};
use apportion_types::{
    container::Exit,
    container_info::{Rlimit, RlimitResource},
};
use rustix::fs::{CWD, FileType, Mode as Permissions, mknodat};

use crate::{
    Scenario,
    bench::{
        Bench, Mode,
        Mode::{Bare, Mapped, Oci, OldKernel, Root, User},
        block,
    },
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "an_image_is_the_root",
            modes: &[Root, Mapped, OldKernel, User, Oci],
            run: root_of_its_own,
        },
        Scenario {
            name: "nothing_of_an_image_is_changed",
            modes: &[Root, Mapped, User, Oci],
            run: unchanged,
        },
        Scenario { name: "a_hundred_layers", modes: &[Root, Mapped, User, Oci], run: many_layers },
        Scenario { name: "an_image_without_files", modes: &[Root, Mapped, User, Oci], run: empty },
        Scenario { name: "users_of_an_image", modes: &[Root, Mapped, User, Oci], run: users },
        Scenario { name: "users_of_the_host", modes: &[Root, Mapped, Oci], run: host_users },
        Scenario { name: "no_other_user_for_an_ordinary_one", modes: &[Bare], run: only_itself },
        Scenario { name: "working_directories", modes: &[Root, Mapped, User, Oci], run: working_dirs },
        Scenario { name: "limits_of_the_kernel", modes: &[Root, Mapped, User, Bare, Oci], run: rlimits },
        Scenario { name: "no_image_without_namespaces", modes: &[Bare], run: no_namespaces },
    ]
}

/// What says that a test cannot be run here, unless skipping is forbidden.
pub(crate) fn skipped(what: &str) {
    assert!(env::var_os("APPORTION_NO_SKIP").is_none_or(|value| value == "0"), "{what}");
    eprintln!("skipped: {what}");
}

/// A new folder of this bench.
pub(crate) fn folder(bench: &Bench, name: &str) -> PathBuf {
    let path = bench.dir.join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A layer with the static busybox of Debian under every name that it has; none where it is not installed.
pub(crate) fn busybox(bench: &Bench) -> Option<PathBuf> {
    let layer = bench.dir.join("busybox");
    if layer.exists() {
        return Some(layer);
    }
    let Ok(program) = fs::canonicalize("/bin/busybox") else {
        skipped("needs the package busybox-static");
        return None;
    };
    for name in ["bin", "etc", "tmp", "root", "home"] {
        fs::create_dir_all(layer.join(name)).unwrap();
    }
    fs::set_permissions(layer.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy(&program, layer.join("bin/busybox")).unwrap();
    let names = Command::new(program).arg("--list").output().unwrap().stdout;
    for name in String::from_utf8(names).unwrap().lines().filter(|name| *name != "busybox") {
        symlink("busybox", layer.join("bin").join(name)).unwrap();
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/home:/bin/sh\n").unwrap();
    fs::write(layer.join("etc/group"), "root:x:0:\nwww:x:34:\nlogs:x:40:web\n").unwrap();
    Some(layer)
}

/// These layers with a new place for what is changed.
pub(crate) fn image(bench: &Bench, layers: &[PathBuf]) -> ImageRoot {
    let scratch = tempfile::Builder::new().prefix("scratch-").tempdir_in(&bench.dir).unwrap();
    ImageRoot { layers: layers.to_vec(), scratch: scratch.keep() }
}

/// A script in a root of these layers.
pub(crate) fn script(bench: &Bench, layers: &[PathBuf], script: &str) -> ContainerSpec {
    let env = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into();
    ContainerSpec { root: Some(image(bench, layers)), env, ..bench.spec(&["sh", "-c", script]) }
}

/// What a script of a good image prints, and nothing else than that.
pub(crate) fn output(bench: &Bench, spec: &ContainerSpec) -> String {
    let (end, output) = bench.run(spec);
    assert_eq!(end.exit, Some(Exit::Code(0)), "{output}");
    output
}

pub(crate) fn refusal(bench: &Bench, spec: &ContainerSpec) -> LaunchError {
    match block(bench.native.launch(spec.clone())) {
        Err(error) => error,
        Ok(()) => {
            let end = bench.wait(spec);
            panic!("it was launched and ended with {end:?}");
        }
    }
}

fn root_of_its_own(bench: &Bench) {
    let Some(layer) = busybox(bench) else { return };
    let me = bench.dir.display();
    let spec = script(
        bench,
        &[layer],
        &format!(
            "pwd; echo made >here; cat /etc/hostname; ls -d /etc/passwd {me} /usr 2>/dev/null
            grep -c localhost /etc/hosts
            set -- /proc/[0-9]*; echo $# processes; [ -d /sys/kernel ] && echo sys; echo x >/dev/null && echo dev
            touch /tmp/x /etc/x /dev/shm/x && echo writable; grep -c . /proc/self/cgroup >/dev/null && echo groups
            ls -A /mnt /mnt/apportion"
        ),
    );
    let output = output(bench, &spec);
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default().matches("localhost").count();
    let expected = format!(
        "{SANDBOX_IN_IMAGE}\n{}\n/etc/passwd\n{}\n2 processes\nsys\ndev\nwritable\ngroups\n/mnt:\napportion\n\n/mnt/apportion:\nsandbox\n",
        spec.id,
        output.lines().nth(3).unwrap(),
    );
    assert_eq!(output, expected);
    assert!(hosts == 0 || output.lines().nth(3).unwrap().parse::<usize>().unwrap() >= 1);
    assert_eq!(fs::read_to_string(spec.sandbox.join("here")).unwrap(), "made\n");
}

fn unchanged(bench: &Bench) {
    let Some(layer) = busybox(bench) else { return };
    let layers = [layer];
    let change = "echo x >>/etc/passwd; rm /etc/group; mkdir /new; mv /home /elsewhere; ls /";
    output(bench, &script(bench, &layers, change));
    let seen = output(
        bench,
        &script(bench, &layers, "cat /etc/group; grep -c x: /etc/passwd; ls -d /new /home 2>/dev/null; true"),
    );
    assert_eq!(seen, "root:x:0:\nwww:x:34:\nlogs:x:40:web\n2\n/home\n");
    assert!(!layers[0].join("new").exists());
}

fn many_layers(bench: &Bench) {
    let Some(base) = busybox(bench) else { return };
    let mut layers = vec![base];
    for number in 0..99 {
        let layer = folder(
            bench,
            &format!("layers/with-a-rather-long-name-so-that-no-page-holds-them-all-{number:03}"),
        );
        fs::create_dir(layer.join("data")).unwrap();
        fs::write(layer.join(format!("data/{number}")), "").unwrap();
        fs::write(layer.join("data/last"), format!("{number}\n")).unwrap();
        if number == 50 {
            mknodat(CWD, layer.join("data/7"), FileType::CharacterDevice, Permissions::empty(), 0).unwrap();
        }
        layers.push(layer);
    }
    // One that comes twice counts where it comes last.
    layers.push(layers[60].clone());
    let seen = output(
        bench,
        &script(bench, &layers, "ls /data | wc -l; cat /data/last; [ -e /data/7 ] || echo gone"),
    );
    assert_eq!(seen, "99\n59\ngone\n");
    layers.extend((0..500).map(|number| folder(bench, &format!("more/{number}"))));
    let error = refusal(bench, &script(bench, &layers, "true")).to_string();
    assert!(error.contains("600 layers") && error.contains("squash"), "{error}");
}

fn empty(bench: &Bench) {
    let mut spec = script(bench, &[], "true");
    let error = refusal(bench, &spec);
    assert!(matches!(&error, LaunchError::CommandNotFound { command, .. } if command == "sh"), "{error:?}");
    // A program alone is an image.
    let Some(base) = busybox(bench) else { return };
    let layer = folder(bench, "alone");
    fs::copy(base.join("bin/busybox"), layer.join("sh")).unwrap();
    spec = script(bench, &[layer], "echo *; echo /etc/*; echo x >/tmp/x && echo tmp");
    spec.argv[0] = "/sh".to_owned();
    spec.working_dir = Some("/".into());
    assert_eq!(
        output(bench, &spec),
        "dev etc mnt proc sh sys tmp\n/etc/hostname /etc/hosts /etc/resolv.conf\ntmp\n"
    );
}

fn users(bench: &Bench) {
    let Some(layer) = busybox(bench) else { return };
    let layers = [layer];
    let run_as = |user: &str| {
        let line = "echo $(id -u):$(id -g):$(id -G); touch own; grep CapEff /proc/self/status | tr -d '\\t'";
        ContainerSpec { user: Some(user.to_owned()), ..script(bench, &layers, line) }
    };
    for (user, ids, groups) in [
        ("web", "33:34", "34 40"),
        ("33", "33:34", "34 40"),
        ("web:logs", "33:40", "40"),
        ("1234", "1234:0", "0"),
        ("1234:5678", "1234:5678", "5678"),
    ] {
        let spec = run_as(user);
        // An ordinary user has no supplementary groups to give.
        let groups = if bench.mode == Mode::User { ids.split(':').nth(1).unwrap() } else { groups };
        let output = output(bench, &spec);
        let first = output.lines().next().unwrap();
        let expected = format!("{ids}:{groups}");
        if bench.mode == Mode::User {
            assert!(first.starts_with(&expected), "{user}: {output}");
        } else {
            assert_eq!(first, expected, "{user}");
        }
        assert!(output.contains("CapEff:0000000000000000"), "{output}");
        assert!(spec.sandbox.join("own").exists());
    }
    assert!(output(bench, &script(bench, &layers, "id -u")).starts_with('0'), "root when nobody is named");
    for (user, what) in
        [("nobody", "has no \"nobody\""), ("web:none", "has no \"none\""), (":", "is not USER")]
    {
        let error = refusal(bench, &run_as(user));
        assert!(matches!(&error, LaunchError::User { user: named, .. } if named == user), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

fn host_users(bench: &Bench) {
    let mut spec =
        bench.sh("id -u; touch own /tmp/own; echo again >>/dev/stdout; cat given/file; rm given/file");
    let given = spec.sandbox.join("given");
    fs::create_dir(&given).unwrap();
    fs::write(given.join("file"), "fetched\n").unwrap();
    spec.user = Some("nobody".to_owned());
    assert_eq!(output(bench, &spec), "65534\nagain\nfetched\n");
    assert_eq!(fs::read_dir(&given).unwrap().count(), 0);
    spec = bench.sh("true");
    spec.user = Some("no-such-user".to_owned());
    let error = refusal(bench, &spec).to_string();
    assert!(error.contains("no-such-user") && error.contains("/etc/passwd"), "{error}");
}

fn only_itself(bench: &Bench) {
    let mut spec = bench.sh("id -u");
    spec.user = Some("65534:65534".to_owned());
    assert_eq!(output(bench, &spec), "65534\n");
    spec = bench.sh("id -u");
    spec.user = Some("root".to_owned());
    let error = refusal(bench, &spec);
    assert!(
        matches!(&error, LaunchError::User { .. }) && error.to_string().contains("run the agent as root"),
        "{error:?}"
    );
}

fn working_dirs(bench: &Bench) {
    let Some(layer) = busybox(bench) else { return };
    symlink("/root", layer.join("link")).unwrap();
    let layers = [layer];
    let start_in = |path: &str| ContainerSpec {
        working_dir: Some(path.into()),
        ..script(bench, &layers, "mkdir -p sub; pwd -P")
    };
    for (path, seen) in
        [("/root", "/root"), ("/made/just/now", "/made/just/now"), ("/link", "/root"), ("/", "/")]
    {
        assert_eq!(output(bench, &start_in(path)), format!("{seen}\n"));
    }
    let spec = start_in("sub");
    fs::create_dir(spec.sandbox.join("sub")).unwrap();
    assert_eq!(output(bench, &spec), format!("{SANDBOX_IN_IMAGE}/sub\n"));
    for path in ["none", "/etc/passwd"] {
        let error = refusal(bench, &start_in(path));
        assert!(
            matches!(&error, LaunchError::WorkingDir { path: named, .. } if named == Path::new(path)),
            "{error:?}"
        );
    }
    let host = ContainerSpec { working_dir: Some("/usr/bin".into()), ..bench.sh("pwd") };
    assert_eq!(output(bench, &host), "/usr/bin\n");
    let host = ContainerSpec { working_dir: Some("/no/such".into()), ..bench.sh("pwd") };
    assert!(matches!(refusal(bench, &host), LaunchError::WorkingDir { .. }));
}

fn rlimits(bench: &Bench) {
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap();
    let mut spec = bench.sh("ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hs; ulimit -Ss");
    let limit = |resource, soft, hard| Rlimit { resource, soft, hard };
    spec.rlimits = vec![
        limit(RlimitResource::Nofile, Some(100), Some(own + 1000)),
        limit(RlimitResource::Core, Some(0), Some(0)),
        limit(RlimitResource::Stack, Some(4 << 20), Some(4 << 20)),
    ];
    assert_eq!(output(bench, &spec), format!("100\n{own}\n0\n4096\n4096\n"));
    assert_eq!(output(bench, &bench.sh("ulimit -Sn; ulimit -Sc")), format!("{}\n0\n", own.min(1024)));
}

fn no_namespaces(bench: &Bench) {
    let error = refusal(bench, &script(bench, &[], "true"));
    assert!(matches!(&error, LaunchError::Image { .. }), "{error:?}");
    assert!(error.to_string().contains("run the agent as root"), "{error}");
}
