//! Ways out of a container, tried by a task or laid into an image: none may lead out.
//!
//! What an attempt would have reached is a file or folder of the host made for it, or the host's own state; each attempt says by
//! its output that it was made, and how it ended.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{self, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::ExitCode,
};

use apportion_containerizer::{ContainerSpec, LaunchError, Mount, MountSource, SANDBOX_IN_IMAGE};
use apportion_types::container::Exit;

use crate::{
    Scenario,
    bench::{
        Bench, Mode,
        Mode::{Mapped, Oci, Root, User},
    },
    images::{busybox, folder, output, refusal, script},
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { name: "escape_by_kernel_files", modes: &[Root, Mapped, User, Oci], run: kernel_files },
        Scenario { name: "escape_by_devices", modes: &[Root, Mapped, User, Oci], run: devices },
        Scenario { name: "escape_by_other_processes", modes: &[Root, Mapped, User, Oci], run: processes },
        Scenario { name: "escape_by_the_runners_program", modes: &[Root, Mapped, User, Oci], run: program },
        Scenario { name: "escape_by_set_uid", modes: &[Root, Mapped, User, Oci], run: set_uid },
        Scenario { name: "escape_by_chroot", modes: &[Root, Mapped, Oci], run: chroot },
        Scenario {
            name: "escape_by_links_in_a_sandbox",
            modes: &[Root, Mapped, User, Oci],
            run: links_in_sandbox,
        },
        Scenario { name: "escape_by_account_files", modes: &[Root, Mapped, User, Oci], run: account_files },
        Scenario {
            name: "escape_by_folders_of_an_image",
            modes: &[Root, Mapped, User, Oci],
            run: own_folders,
        },
        Scenario { name: "escape_by_mount_targets", modes: &[Root, Mapped, User, Oci], run: targets },
        Scenario { name: "escape_by_working_directory", modes: &[Root, Mapped, User, Oci], run: working_dir },
        Scenario { name: "escape_by_descriptors", modes: &[Root, Mapped, User, Oci], run: descriptors },
    ]
}

/// Both kinds of root: each script is tried in the host's and in an image.
fn both(bench: &Bench, text: &str) -> Vec<ContainerSpec> {
    let image = busybox(bench).map(|layer| script(bench, &[layer], text));
    image.into_iter().chain([bench.sh(text)]).collect()
}

/// Lines that begin with `tried`, and none that begins with `OUT`.
fn fails(bench: &Bench, spec: &ContainerSpec, attempts: usize) {
    let (end, output) = bench.run(spec);
    assert_eq!(end.exit, Some(Exit::Code(0)), "{output}");
    assert!(!output.contains("OUT"), "{output}");
    let tried = output.lines().filter(|line| line.starts_with("tried")).count();
    assert!(tried >= attempts, "{tried} of {attempts} attempts:\n{output}");
}

fn kernel_files(bench: &Bench) {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    // What is not there cannot be written to; what is, is tried also after it was opened for appending, and by its bytes.
    let text = "for file in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/vm/panic_on_oom \
            /sys/kernel/uevent_helper /sys/fs/cgroup/release_agent /sys/fs/cgroup/memory/release_agent /sys/fs/cgroup/*/cgroup.procs \
            /sys/fs/cgroup/*/tasks /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/power/state \
            /proc/1/oom_score_adj /proc/1/mem /proc/kcore /proc/sys/kernel/ns_last_pid; do
            [ -e $file ] || continue
            echo tried $file
            # Its own process 1 may be made likelier to be killed, which is what it has already.
            case $file in /proc/1/oom*) ;; *) (cat $file >copy && cat copy >>$file) 2>/dev/null && [ -s copy ] && echo OUT $file;; esac
            (echo -1000 >$file) 2>/dev/null && case $file in /proc/kcore) ;; *) echo OUT $file;; esac
        done
        mkdir /sys/fs/cgroup/new /sys/fs/cgroup/memory/new 2>/dev/null && echo OUT cgroup
        head -c 1 /proc/kcore 2>/dev/null | grep -q . && echo OUT kcore
        exit 0";
    for spec in both(bench, text) {
        fails(bench, &spec, 6);
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), pattern);
}

fn devices(bench: &Bench) {
    // The disk that the bench is on, or any other.
    let device = rustix::fs::stat(&bench.dir).unwrap().st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = format!(
        "for device in /dev/mem /dev/kmsg /dev/kvm /dev/fuse /dev/loop-control /dev/net/tun; do [ -e $device ] && echo OUT $device; done
        for place in . /tmp /dev /dev/shm /run; do
            [ -d $place ] || continue
            echo tried $place; mknod $place/disk b {major} {minor} 2>/dev/null
            [ -e $place/disk ] && (head -c 512 $place/disk >/dev/null) 2>/dev/null && echo OUT read $place/disk
            mknod $place/kmsg c 1 11 2>/dev/null; (echo x >$place/kmsg) 2>/dev/null && [ -c $place/kmsg ] && echo OUT kmsg
        done
        exit 0"
    );
    for spec in both(bench, &text) {
        fails(bench, &spec, 4);
    }
}

fn processes(bench: &Bench) {
    let secret = bench.dir.join("secrets/key");
    let text = format!(
        "for way in /proc/1/root /proc/1/cwd /proc/self/root /proc/self/cwd /proc/1/root/proc/1/root; do
            echo tried $way; [ -e $way{secret} ] && echo OUT $way
        done
        for way in /proc/1/fd/*; do echo tried $way; (cat <$way) 2>/dev/null | grep -q . && echo OUT $way; done
        kill -0 {me} 2>/dev/null && echo OUT signal
        kill -STOP 1; kill -KILL 1; echo tried to kill process 1
        exit 0",
        secret = secret.display(),
        me = std::process::id()
    );
    for spec in both(bench, &text) {
        fails(bench, &spec, 7);
    }
}

/// The files that this process has loaded beside its own.
fn libraries() -> BTreeSet<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])));
    paths.filter(|path| path.to_string_lossy().contains(".so")).collect()
}

/// A layer in which this binary can be executed.
pub(crate) fn with_this_binary(bench: &Bench) -> Option<PathBuf> {
    let layer = busybox(bench)?;
    let exe = env::current_exe().unwrap();
    if !layer.join("task").exists() {
        fs::copy(&exe, layer.join("task")).unwrap();
        for library in libraries() {
            // Where it was found, and the loader also where programs name it.
            for folder in [library.parent().unwrap(), Path::new("/lib64"), Path::new("/lib")] {
                let place = layer.join(folder.strip_prefix("/").unwrap());
                fs::create_dir_all(&place).unwrap();
                fs::copy(&library, place.join(library.file_name().unwrap())).unwrap();
            }
        }
    }
    Some(layer)
}

fn program(bench: &Bench) {
    let Some(layer) = with_this_binary(bench) else { return };
    // The program that is executed is the runner's own: the host's file, whatever the image holds.
    let before = fs::metadata(env::current_exe().unwrap()).unwrap().modified().unwrap();
    symlink("/proc/self/exe", layer.join("entry")).unwrap();
    fs::write(layer.join("script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(layer.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    // Nothing of /proc is a program to an OCI runtime.
    let runs = bench.mode != Oci;
    for argv in
        [&["/proc/self/exe", "task", "escape", "program"][..], &["/entry", "task", "escape", "program"]]
    {
        let mut spec = script(bench, std::slice::from_ref(&layer), "");
        spec.argv = argv.iter().map(|word| (*word).to_owned()).collect();
        if runs {
            fails(bench, &spec, 3);
        } else {
            assert!(matches!(refusal(bench, &spec), LaunchError::CommandNotFound { .. }), "{argv:?}");
        }
    }
    let mut spec = script(
        bench,
        &[layer],
        "/task task escape program; ls -l /proc/1/exe 2>/dev/null | grep -q '>.*linux' && echo OUT link; echo tried",
    );
    fails(bench, &spec, 3);
    spec = bench.task(&["escape", "program"]);
    fails(bench, &spec, 3);
    assert_eq!(fs::metadata(env::current_exe().unwrap()).unwrap().modified().unwrap(), before);
}

fn set_uid(bench: &Bench) {
    let Some(layer) = busybox(bench) else { return };
    let program = layer.join("bin/set-uid");
    fs::copy(layer.join("bin/busybox"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).unwrap();
    let text = "echo tried; case \"$(/bin/set-uid id -u)\" in 0) echo OUT;; esac
        cp /bin/set-uid own; chmod 6755 own; case \"$(./own id -u)\" in 0) echo OUT own;; esac; echo tried; exit 0";
    let spec = ContainerSpec { user: Some("web".into()), ..script(bench, &[layer], text) };
    fails(bench, &spec, 2);
}

fn chroot(bench: &Bench) {
    let Some(layer) = with_this_binary(bench) else { return };
    let mut spec = script(bench, &[layer], "");
    spec.argv = ["/task", "task", "escape", "chroot", bench.dir.join("secrets/key").to_str().unwrap()]
        .map(str::to_owned)
        .to_vec();
    fails(bench, &spec, 1);
}

fn links_in_sandbox(bench: &Bench) {
    let outside = folder(bench, "outside");
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).unwrap();
    for name in ["stdout", "stderr", ".tmp", "volume"] {
        let mut spec = bench.sh("echo text; echo text >&2; touch /tmp/x volume/x");
        symlink(&outside, spec.sandbox.join(name)).unwrap();
        spec.mounts = vec![Mount {
            source: MountSource::Sandbox("volume".into()),
            target: "volume/deeper".into(),
            writable: true,
        }];
        let error = refusal(bench, &spec);
        assert!(
            matches!(&error, LaunchError::Sandbox { .. } | LaunchError::Volume { .. }),
            "{name}: {error:?}"
        );
    }
    // Under the eyes of the fetcher's successor: whose the sandbox becomes, what it links to does not.
    if matches!(bench.mode, Mode::Root | Mode::Mapped) {
        let mut spec = bench.sh("ls -ln link; true");
        let victim = outside.join("victim");
        fs::write(&victim, "").unwrap();
        symlink(&victim, spec.sandbox.join("link")).unwrap();
        spec.user = Some("nobody".into());
        output(bench, &spec);
        assert_eq!(rustix::fs::stat(&victim).unwrap().st_uid, 0);
    }
    assert!(fs::read_dir(&outside).unwrap().all(|entry| entry.unwrap().file_name() == "victim"));
}

fn account_files(bench: &Bench) {
    let Some(base) = busybox(bench) else { return };
    let outside = folder(bench, "outside");
    fs::write(outside.join("passwd"), "web:x:4242:4242::/:/bin/sh\n").unwrap();
    let run = |layer: &Path, user: &str| ContainerSpec {
        user: Some(user.into()),
        ..script(bench, &[base.clone(), layer.to_owned()], "id -u")
    };
    let absolute = folder(bench, "absolute");
    fs::create_dir(absolute.join("etc")).unwrap();
    symlink(outside.join("passwd"), absolute.join("etc/passwd")).unwrap();
    let through = folder(bench, "through");
    fs::create_dir(through.join("etc")).unwrap();
    symlink(format!("../../../../../../../../../..{}/passwd", outside.display()), through.join("etc/passwd"))
        .unwrap();
    let magic = folder(bench, "magic");
    fs::create_dir(magic.join("etc")).unwrap();
    symlink(format!("/proc/self/root{}/passwd", outside.display()), magic.join("etc/passwd")).unwrap();
    for layer in [&absolute, &through] {
        // The ordinary user's account is looked up layer by layer; below the link lies the one of the base.
        match bench.mode {
            Mode::User => {
                let (_, output) = bench.run(&run(layer, "web"));
                assert_eq!(output, "33\n");
            }
            _ => {
                let error = refusal(bench, &run(layer, "web"));
                assert!(matches!(&error, LaunchError::User { .. }), "{error:?}");
            }
        }
    }
    let tricky = run(&magic, "web");
    match bench.mode {
        Mode::User => assert_ne!(bench.run(&tricky).1, "4242\n"),
        _ => assert!(matches!(refusal(bench, &tricky), LaunchError::User { .. })),
    }
    // What would block the reader, or fill its memory.
    let blocking = folder(bench, "blocking");
    fs::create_dir(blocking.join("etc")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, blocking.join("etc/passwd"), rustix::fs::FileType::Fifo, mode, 0)
        .unwrap();
    let endless = folder(bench, "endless");
    fs::create_dir(endless.join("etc")).unwrap();
    fs::File::create(endless.join("etc/passwd")).unwrap().set_len(1 << 40).unwrap();
    for layer in [&blocking, &endless] {
        assert!(matches!(refusal(bench, &run(layer, "web")), LaunchError::User { .. }));
    }
}

fn own_folders(bench: &Bench) {
    let Some(base) = busybox(bench) else { return };
    let outside = folder(bench, "outside");
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).unwrap();
    let mut number = 0;
    for path in ["dev", "proc", "sys", "mnt", "mnt/apportion", SANDBOX_IN_IMAGE.trim_start_matches('/')] {
        for kind in ["absolute", "relative", "proc", "file"] {
            number += 1;
            let layer = folder(bench, &format!("crafted-{number}"));
            let place = layer.join(path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            match kind {
                "absolute" => symlink(&outside, &place).unwrap(),
                "relative" => {
                    symlink(format!("../../../../../../../..{}", outside.display()), &place).unwrap()
                }
                "proc" => symlink(format!("/proc/self/root{}", outside.display()), &place).unwrap(),
                _ => fs::write(&place, "").unwrap(),
            }
            let error = refusal(bench, &script(bench, &[base.clone(), layer], "true"));
            assert!(matches!(&error, LaunchError::Image { .. }), "{path} {kind}: {error:?}");
            assert!(error.to_string().contains("plain folder"), "{error}");
        }
    }
    // Here the image's own links are as good as folders; nothing is written outside of it.
    for path in ["etc", "tmp"] {
        for (kind, link) in [("there", outside.display().to_string()), ("not", "/none/of/this".to_owned())] {
            let layer = folder(bench, &format!("crafted-{path}-{kind}"));
            fs::create_dir(layer.join("bin")).unwrap();
            fs::copy(base.join("bin/busybox"), layer.join("bin/sh")).unwrap();
            symlink(link, layer.join(path)).unwrap();
            let _ = bench_run(bench, &script(bench, &[layer], "touch /tmp/x /etc/x; true"));
        }
    }
    for name in ["resolv.conf", "hosts", "hostname"] {
        let layer = folder(bench, &format!("crafted-{name}"));
        fs::create_dir(layer.join("etc")).unwrap();
        fs::write(outside.join(name), "the host's\n").unwrap();
        symlink(outside.join(name), layer.join("etc").join(name)).unwrap();
        output(bench, &script(bench, &[base.clone(), layer], &format!("echo x >>/etc/{name}")));
        assert_eq!(fs::read_to_string(outside.join(name)).unwrap(), "the host's\n");
        fs::remove_file(outside.join(name)).unwrap();
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

/// Runs what may as well be refused.
fn bench_run(bench: &Bench, spec: &ContainerSpec) -> Result<(), LaunchError> {
    use apportion_containerizer::Containerizer;
    crate::bench::block(bench.native.launch(spec.clone()))?;
    bench.wait(spec);
    Ok(())
}

fn targets(bench: &Bench) {
    let Some(base) = busybox(bench) else { return };
    let (outside, data) = (folder(bench, "outside"), folder(bench, "data"));
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).unwrap();
    let layer = folder(bench, "crafted");
    symlink(&outside, layer.join("absolute")).unwrap();
    symlink(format!("../../../../../../../../..{}", outside.display()), layer.join("relative")).unwrap();
    symlink(format!("/proc/self/root{}", outside.display()), layer.join("magic")).unwrap();
    symlink("/proc", layer.join("kernel")).unwrap();
    for target in
        ["/absolute", "/relative", "/magic", "/absolute/made", "/magic/made", "/kernel/sys", "/kernel/made"]
    {
        let mut spec = script(bench, &[base.clone(), layer.clone()], "true");
        spec.mounts =
            vec![Mount { source: MountSource::Host(data.clone()), target: target.into(), writable: false }];
        let error = refusal(bench, &spec);
        assert!(matches!(&error, LaunchError::Volume { .. }), "{target}: {error:?}");
    }
    // Found inside the image, and only there, they do no harm.
    fs::create_dir_all(layer.join(outside.strip_prefix("/").unwrap())).unwrap();
    let mut spec = script(bench, &[base, layer], "ls /absolute");
    spec.mounts =
        vec![Mount { source: MountSource::Host(data), target: "/absolute/made".into(), writable: false }];
    assert_eq!(output(bench, &spec), "made\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

fn working_dir(bench: &Bench) {
    let Some(base) = busybox(bench) else { return };
    let outside = folder(bench, "outside");
    let layer = folder(bench, "crafted");
    symlink(&outside, layer.join("absolute")).unwrap();
    symlink("/proc/self/fd", layer.join("descriptors")).unwrap();
    let start_in = |path: &str| ContainerSpec {
        working_dir: Some(path.into()),
        ..script(bench, &[base.clone(), layer.clone()], "pwd")
    };
    let mut paths: Vec<String> = (3..20).map(|number| format!("/proc/self/fd/{number}")).collect();
    paths.extend(
        ["/absolute", "/descriptors/3", "/proc/1/root", "/proc/1/cwd", "/proc/self/cwd"].map(str::to_owned),
    );
    for path in paths {
        let error = refusal(bench, &start_in(&path));
        assert!(matches!(&error, LaunchError::WorkingDir { .. }), "{path}: {error:?}");
    }
}

fn descriptors(bench: &Bench) {
    let text = "for fd in /proc/self/fd/*; do
            case $(readlink $fd) in ''|/proc/*|*/stdout|*/stderr|/dev/null|pipe:*) ;; *) echo OUT $fd $(readlink $fd);; esac
        done; echo tried; exit 0";
    for spec in both(bench, text) {
        fails(bench, &spec, 1);
    }
    let text =
        "for name in /proc/*/fd/*; do [ -e $name/etc/passwd ] && echo OUT $name; done; echo tried; exit 0";
    for spec in both(bench, text) {
        fails(bench, &spec, 1);
    }
}

/// The attempts that no script can make.
pub(crate) fn main(args: &[String]) -> ExitCode {
    match args[0].as_str() {
        "program" => overwrite_program(),
        "chroot" => break_out(&args[1]),
        other => panic!("no attempt {other}"),
    }
    ExitCode::SUCCESS
}

/// Writes to the programs of this process and of process 1, as the host's files behind them.
fn overwrite_program() {
    let mut out = io::stdout();
    let append = |path: &str| fs::File::options().append(true).open(path).map(drop);
    let readable = fs::File::open("/proc/self/exe").unwrap();
    let through = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&readable));
    for path in ["/proc/self/exe", "/proc/1/exe", &through] {
        // In an image of one's own, one's own program may be written to, but not while it is executed.
        let said = match append(path) {
            Ok(()) => "OUT".to_owned(),
            Err(e) => format!("tried: {e}"),
        };
        writeln!(out, "{said} {path}").unwrap();
    }
}

/// The old way out of a changed root: keep a folder of the old one as the working directory, and go up from there.
fn break_out(secret: &str) {
    fs::create_dir("jail").unwrap();
    rustix::process::chroot("jail").unwrap();
    for _ in 0..64 {
        rustix::process::chdir("..").unwrap();
    }
    rustix::process::chroot(".").unwrap();
    let out = if Path::new(secret).exists() { "OUT" } else { "tried" };
    println!("{out}: at the top there is {:?}", fs::read_dir("/").unwrap().count());
}
