//! One bundle in `runc` and in a container of ours: what a task sees is the same, but for what is listed here with its reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use apportion_containerizer::{ContainerSpec, SANDBOX_IN_IMAGE};
use apportion_types::container::Exit;
use serde_json::{Value, json};

use crate::{
    Scenario,
    bench::{Bench, Mode::Root, cgroups_of},
    escapes::with_this_binary,
    facts,
    images::{folder, script, skipped},
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario { name: "the_same_as_in_runc", modes: &[Root], run: compare }]
}

/// What is meant to differ, and why.
const INTENDED: [(&str, &str); 9] = [
    ("process number", "process 1 is ours, so that signals do to the task what they do elsewhere"),
    ("status NSpid", "for the same reason"),
    ("processes", "for the same reason"),
    ("mount /", "an overlay; device files and set-uid bits in it mean nothing"),
    ("mount /dev", "device files that root makes there mean nothing; runc has a device cgroup for that"),
    ("mount /sys/fs/cgroup", "nobody is to make folders there either"),
    ("writable /sys/fs/cgroup", "for the same reason"),
    ("call vsock", "a socket to the hypervisor reaches services that trust whoever gets through"),
    ("call TIOCSTI", "refused also where the terminal would allow it"),
];

/// What Docker's documentation lists as blocked by its default profile, and `io_uring`, which it blocks since 2023.
const BLOCKED: &[&str] = &[
    "acct",
    "add_key",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "create_module",
    "delete_module",
    "finit_module",
    "get_kernel_syms",
    "get_mempolicy",
    "init_module",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mbind",
    "mount",
    "move_pages",
    "migrate_pages",
    "nfsservctl",
    "open_by_handle_at",
    "perf_event_open",
    "pivot_root",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "set_mempolicy",
    "setns",
    "settimeofday",
    "stime",
    "swapon",
    "swapoff",
    "sysfs",
    "_sysctl",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "move_mount",
    "open_tree",
    "mount_setattr",
    "fanotify_init",
    "sethostname",
    "setdomainname",
    "syslog",
    "vhangup",
];

const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Docker's default, as `runc` is given it.
fn config(spec: &ContainerSpec, sandbox: &Path, cgroups: &str) -> Value {
    let own = |resource| rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit =
        |name: &str, soft: u64, hard: u64| json!({"type": name, "soft": soft.min(hard), "hard": hard});
    let mount = |path: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": path, "type": kind, "source": source, "options": options});
    let inert = ["nosuid", "noexec", "nodev"];
    let errno =
        |names: &[&str], errno: i32| json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno});
    let mut calls = vec![errno(BLOCKED, libc::EPERM), errno(&["clone3"], libc::ENOSYS)];
    for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNET, libc::CLONE_NEWNS, libc::CLONE_NEWPID] {
        calls.push(json!({"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM,
            "args": [{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}]}));
    }
    calls.push(json!({"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM,
        "args": [{"index": 0, "value": libc::ADDR_NO_RANDOMIZE, "op": "SCMP_CMP_EQ"}]}));
    let namespaces = ["pid", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": spec.argv,
            "env": spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
            "cwd": SANDBOX_IN_IMAGE,
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
            "rlimits": [
                limit("RLIMIT_NOFILE", 1024, own(rustix::process::Resource::Nofile)),
                limit("RLIMIT_CORE", 0, own(rustix::process::Resource::Core)),
                limit("RLIMIT_STACK", 8 << 20, own(rustix::process::Resource::Stack)),
            ],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": spec.id.0,
        "mounts": [
            mount("/proc", "proc", "proc", &inert),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &inert),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]),
            mount(SANDBOX_IN_IMAGE, "bind", sandbox.to_str().unwrap(), &["bind", "nosuid", "nodev"]),
        ],
        "linux": {
            "cgroupsPath": cgroups,
            "namespaces": namespaces,
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "maskedPaths": facts::MASKED,
            "readonlyPaths": facts::READ_ONLY,
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": calls},
        },
    })
}

fn facts_of(output: &str) -> BTreeMap<&str, &str> {
    output.lines().filter_map(|line| line.split_once('\t')).collect()
}

fn compare(bench: &Bench) {
    if Command::new("runc").arg("--version").output().is_err() {
        return skipped("needs the package runc");
    }
    let Some(layer) = with_this_binary(bench) else { return };
    let mut spec = script(bench, std::slice::from_ref(&layer), "");
    spec.argv = ["/task", "task", "facts"].map(str::to_owned).to_vec();
    let host =
        |name: &&str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_str().unwrap().to_owned();
    spec.argv.extend(facts::NAMESPACES.iter().map(host));
    // runc adds it where it is missing; here the agent does.
    spec.env.insert("HOME".into(), "/root".into());
    let (end, ours) = bench.run(&spec);
    assert_eq!(end.exit, Some(Exit::Code(0)), "{ours}");

    let (bundle, sandbox) = (folder(bench, "bundle"), folder(bench, "bundle/sandbox"));
    let copied = Command::new("cp").arg("-a").arg(&layer).arg(bundle.join("rootfs")).status().unwrap();
    assert!(copied.success());
    // runc makes folders in hierarchies that we do not use, and leaves the parents.
    let parent = format!("apportion-runc-{}", std::process::id());
    let group = format!("/{parent}/c");
    fs::write(bundle.join("config.json"), config(&spec, &sandbox, &group).to_string()).unwrap();
    let ran = Command::new("runc")
        .arg("--root")
        .arg(folder(bench, "bundle/state"))
        .args(["run", "--bundle"])
        .arg(&bundle)
        .arg(format!("apportion-{}", std::process::id()))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    for left in cgroups_of(&parent) {
        let _ = fs::remove_dir(left);
    }
    let theirs = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{:?}: {theirs}{}", ran.status, String::from_utf8_lossy(&ran.stderr));

    assert!(cgroups_of(&parent).is_empty());

    let (ours, theirs) = (facts_of(&ours), facts_of(&theirs));
    assert!(ours.len() >= 100, "{} facts", ours.len());
    let names: BTreeSet<&str> = ours.keys().chain(theirs.keys()).copied().collect();
    let differ: BTreeSet<&str> =
        names.into_iter().filter(|name| ours.get(name) != theirs.get(name)).collect();
    let intended: BTreeSet<&str> = INTENDED.iter().map(|(name, _)| *name).collect();
    let show = |name: &&str| format!("{name}: {:?}, runc {:?}\n", ours.get(name), theirs.get(name));
    let unintended: String = differ.difference(&intended).map(show).collect();
    let stale: Vec<&&str> = intended.difference(&differ).collect();
    assert!(
        unintended.is_empty() && stale.is_empty(),
        "{} facts; these differ:\n{unintended}these do not: {stale:?}",
        ours.len()
    );
}
