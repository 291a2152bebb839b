//! What a task sees and may do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use apportion_containerizer::{Containerizer, Signal};
use apportion_types::container::Exit;

use crate::{
    Scenario, attempts,
    bench::{
        Bench, Mode,
        Mode::{Bare, Mapped, Oci, OldKernel, Root, Runsc, User},
        block,
    },
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "only_the_sandbox_is_writable",
            modes: &[Root, Mapped, OldKernel, User, Oci, Runsc],
            run: writable,
        },
        Scenario {
            name: "sandbox_is_the_working_directory",
            modes: &[Root, Mapped, User, Bare, Oci],
            run: working_directory,
        },
        Scenario {
            name: "sandbox_behind_a_link",
            modes: &[Root, Mapped, User, Oci],
            run: sandbox_behind_a_link,
        },
        Scenario {
            name: "the_agents_folders_are_hidden",
            modes: &[Root, Mapped, OldKernel, User, Oci],
            run: hidden,
        },
        Scenario {
            name: "sandbox_inside_a_hidden_folder",
            modes: &[Root, Mapped, User, Oci],
            run: sandbox_in_hidden,
        },
        Scenario { name: "processes_of_its_own", modes: &[Root, Mapped, User, Oci], run: processes },
        Scenario { name: "host_name_of_its_own", modes: &[Root, Mapped, User, Oci], run: host_name },
        Scenario { name: "devices", modes: &[Root, Mapped, User, Oci], run: devices },
        Scenario { name: "proc_and_sys", modes: &[Root, Mapped, OldKernel, User, Oci], run: proc_and_sys },
        Scenario {
            name: "capabilities_and_flags",
            modes: &[Root, Mapped, User, Bare, Oci],
            run: capabilities,
        },
        Scenario { name: "forbidden_calls", modes: &[Root, Mapped, User, Bare, Oci], run: forbidden_calls },
        Scenario { name: "set_uid_gains_nothing", modes: &[User, Bare], run: set_uid },
        Scenario { name: "no_mount_shows_outside", modes: &[Root, Mapped, User, Oci], run: mounts },
    ]
}

/// Runs a script that reports every line it does not like.
fn quiet(bench: &Bench, script: &str) {
    let (end, output) = bench.run(&bench.sh(script));
    assert_eq!((end.exit, output.as_str()), (Some(Exit::Code(0)), ""), "{script}");
}

fn writable(bench: &Bench) {
    let other = bench.sh("exit 0");
    let dir = bench.dir.display();
    // A name that nobody else on this machine has given to a file.
    let mine = bench.dir.file_name().unwrap().to_str().unwrap();
    quiet(
        bench,
        &format!(
            "touch here && mkdir sub && touch sub/x || echo sandbox
            touch /tmp/{mine} /var/tmp/{mine} /dev/shm/{mine} /run/{mine} || echo temporary
            for path in / /etc /usr /usr/bin /var /var/log /home /root /opt /mnt /sys /proc \
                /sys/fs/cgroup/pids /sys/kernel {dir} {other}; do
                (echo x >$path/apportion-was-here) 2>/dev/null && echo wrote into $path
            done
            (echo x >>/etc/passwd) 2>/dev/null && echo wrote into a file
            rm -f /etc/hostname 2>/dev/null && [ ! -e /etc/hostname ] && echo removed a file
            exit 0",
            other = other.sandbox.display()
        ),
    );
    assert!(!other.sandbox.join("apportion-was-here").exists());
    for folder in ["/tmp", "/var/tmp", "/dev/shm", "/run"] {
        assert!(!std::path::Path::new(folder).join(mine).exists(), "{folder}");
    }
}

fn working_directory(bench: &Bench) {
    let spec = bench.sh("pwd; echo hello >made; cat given");
    fs::write(spec.sandbox.join("given"), "given\n").unwrap();
    let (_, output) = bench.run(&spec);
    assert_eq!(output, format!("{}\ngiven\n", spec.sandbox.display()));
    assert_eq!(fs::read_to_string(spec.sandbox.join("made")).unwrap(), "hello\n");
}

fn sandbox_behind_a_link(bench: &Bench) {
    let mut spec = bench.sh("pwd -P; touch x");
    let real = spec.sandbox.clone();
    spec.sandbox = bench.dir.join("link");
    std::os::unix::fs::symlink(&real, &spec.sandbox).unwrap();
    assert_eq!(bench.run(&spec).1, format!("{}\n", real.display()));
    assert!(real.join("x").exists());
}

fn hidden(bench: &Bench) {
    let state = bench.config.state_dir.display().to_string();
    let secrets = bench.dir.join("secrets").display().to_string();
    quiet(bench, &format!("ls -A {state} {secrets} 2>/dev/null | grep -v ':$' | grep .; exit 0"));
    // But for what `/etc/resolv.conf` may point to.
    let (_, output) =
        bench.run(&bench.sh("ls -A /run /tmp | grep -vxE '/run:|/tmp:|systemd|resolvconf|NetworkManager'"));
    assert_eq!(output.trim(), "");
}

fn sandbox_in_hidden(bench: &Bench) {
    let mut spec = bench.sh("touch x && ls -A ../..");
    spec.sandbox = bench.dir.join("secrets/deep/sandbox");
    fs::create_dir_all(&spec.sandbox).unwrap();
    assert_eq!(bench.run(&spec).1, "deep\n", "but not the key beside it");
    assert!(spec.sandbox.join("x").exists());
}

fn processes(bench: &Bench) {
    let me = std::process::id();
    let script =
        format!("echo $$; set -- /proc/[0-9]*; echo $#; kill -0 {me} 2>/dev/null && echo reached; exit 0");
    let (_, output) = bench.run(&bench.sh(&script));
    assert_eq!(output, "2\n2\n", "process 1 and the shell");
}

fn host_name(bench: &Bench) {
    let spec = bench.spec(&["cat", "/proc/sys/kernel/hostname"]);
    assert_eq!(bench.run(&spec).1, format!("{}\n", spec.id));
}

fn devices(bench: &Bench) {
    quiet(
        bench,
        "echo x >/dev/null || echo null
        [ \"$(head -c 3 /dev/zero | tr '\\0' z)\" = zzz ] || echo zero
        [ \"$(head -c 8 /dev/urandom | wc -c)\" = 8 ] || echo random
        (echo x >/dev/full) 2>/dev/null && echo full
        echo via link >/dev/stdout | cat >/dev/null
        [ -c /dev/pts/ptmx ] && [ -L /dev/ptmx ] && [ -d /dev/mqueue ] || echo pts
        ls /dev | grep -vxE 'null|zero|full|random|urandom|tty|fd|stdin|stdout|stderr|core|ptmx|pts|shm|mqueue'
        exit 0",
    );
    // A device made in the sandbox is none.
    if bench.mode == Mode::Root {
        quiet(bench, "mknod zero c 1 5 && (head -c 1 zero >/dev/null) 2>/dev/null && echo opened it; exit 0");
    }
}

fn proc_and_sys(bench: &Bench) {
    quiet(
        bench,
        "for file in /proc/sys/kernel/panic /proc/sys/vm/swappiness /proc/sysrq-trigger /proc/irq/default_smp_affinity \
            /sys/power/state /sys/kernel/mm/transparent_hugepage/enabled; do
            [ -e $file ] && (echo 0 >$file) 2>/dev/null && echo wrote $file
        done
        for file in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do
            [ -e $file ] && [ -n \"$(head -c 1 $file 2>/dev/null | tr '\\0' x)\" ] && echo read $file
        done
        for folder in /proc/acpi /proc/scsi /sys/firmware /sys/kernel/debug /sys/kernel/tracing; do
            [ -d $folder ] && [ -n \"$(ls -A $folder 2>/dev/null)\" ] && echo listed $folder
        done
        exit 0",
    );
}

fn capabilities(bench: &Bench) {
    let (_, output) = bench.run(&bench.spec(&["cat", "/proc/self/status"]));
    let fields: BTreeMap<&str, &str> = output.lines().filter_map(|l| l.split_once(":\t")).collect();
    assert_eq!((fields["NoNewPrivs"], fields["Seccomp"]), ("1", "2"));
    // Docker's default set.
    let allowed = match bench.mode {
        Mode::Root | Mode::OldKernel | Mode::Mapped => "00000000a80425fb",
        // Without the making of device files.
        Mode::Oci | Mode::Runsc => "00000000a00425fb",
        Mode::User | Mode::Bare => "0000000000000000",
    };
    assert_eq!((fields["CapEff"], fields["CapPrm"]), (allowed, allowed));
    // Without namespaces an ordinary user cannot reduce this one, and with no_new_privs need not.
    if bench.mode.namespaces() {
        assert_eq!(fields["CapBnd"], allowed);
    }
    assert_eq!((fields["CapInh"], fields["CapAmb"]), ("0000000000000000", "0000000000000000"));
}

fn forbidden_calls(bench: &Bench) {
    let me = std::process::id().to_string();
    let (end, output) = bench.run(&bench.task(&["attempts", &me]));
    assert_eq!(end.exit, Some(Exit::Code(0)), "{output}");
    let results: Vec<(&str, i32)> = output
        .lines()
        .map(|line| line.split_once(' ').map(|(n, e)| (n, e.parse().unwrap())).unwrap())
        .collect();
    assert!(results.len() > 20);
    for (name, errno) in results {
        let expected: &[i32] = match name {
            // A runtime's filter knows the calls of that kind too.
            "x32" if bench.mode == Oci => &[libc::ENOSYS, libc::EPERM],
            "clone3" | "x32" => &[libc::ENOSYS],
            // With namespaces there is no such process; without, it is a process of the same user like any other.
            "ptrace-outside" | "kill-outside" if bench.mode.namespaces() => &[libc::ESRCH, libc::EPERM],
            "ptrace-outside" | "kill-outside" => &[0, libc::ESRCH, libc::EPERM],
            "allowed" => &[0],
            _ => &[libc::EPERM],
        };
        assert!(expected.contains(&errno), "{name}: {errno}\n{output}");
    }
    assert!(attempts::NAMES.iter().all(|name| output.contains(name)), "{output}");
}

fn set_uid(bench: &Bench) {
    // Any set-uid program will do; where there is none, there is nothing to gain.
    let Some(su) = ["/usr/bin/su", "/bin/su", "/usr/bin/mount"].into_iter().find(|p| fs::metadata(p).is_ok())
    else {
        return;
    };
    let (_, output) = bench.run(&bench.sh(&format!("{su} --version >/dev/null 2>&1; id -u")));
    assert_ne!(output, "0\n");
    let (_, output) = bench.run(&bench.sh("cp /bin/sh own && chmod u+s own && ./own -p -c 'id -u'"));
    assert_eq!(output, format!("{}\n", rustix::process::geteuid().as_raw()));
}

fn mounts(bench: &Bench) {
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let spec = bench.sh("echo >up; sleep 1000");
    bench.launch(&spec);
    bench.line(&spec, "up");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let now = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(lines(&now), lines(&before));
    block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
    bench.wait(&spec);
}
