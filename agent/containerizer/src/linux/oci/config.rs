//! `config.json`: what the runtime is told of a container.
//!
//! The root is laid already, with the sandbox and all volumes in it: by descriptors, so that no link in an image or a volume leads
//! elsewhere, which paths in this file could not say. The groups are made and their limits are written: the runtime only moves the
//! container there. What the container may do comes from where native containers have it.

use std::path::{Path, PathBuf};

use apportion_types::{container::Control, container_info::RlimitResource};
use rustix::process::{getgid, getuid};
use serde_json::{Value, json};

use super::{
    super::{accounts::Account, init, kernel, privileges, rlimits, syscalls},
    program,
};
use crate::{
    folder::Order,
    runtime::DEFAULT_PATH,
    spec::{Mount, MountSource},
};

/// The text as JSON, for a root laid at `root`, the sandbox at `sandbox` outside; `held` gives the namespaces to join, by their names in `/proc`.
pub(super) fn text(
    order: &Order,
    account: Option<&Account>,
    root: &Path,
    sandbox: &Path,
    held: impl Fn(&str) -> PathBuf,
) -> String {
    let spec = &order.spec;
    let own_kernel = order.runtime.as_ref().is_some_and(|runtime| runtime.own_kernel);
    let mut namespaces = vec![json!({"type": "pid", "path": held("pid")})];
    namespaces.extend(spec.network.iter().map(|_| json!({"type": "network", "path": held("net")})));
    namespaces.extend(["mount", "ipc", "uts", "cgroup"].map(|kind| json!({"type": kind})));
    let mut linux = json!({
        "cgroupsPath": Path::new("/").join(&order.group),
        "namespaces": namespaces,
        // Nothing but the devices that every runtime adds. All other limits are in the group already.
        "resources": {"devices": [{"allow": false, "access": "rwm"}]},
        "maskedPaths": kernel::MASKED,
        "readonlyPaths": kernel::READ_ONLY,
    });
    if order.wants(Control::Seccomp)
        && let Some(profile) = seccomp()
    {
        linux["seccomp"] = profile;
    }
    json!({
        "ociVersion": "1.0.2",
        "process": process(order, account, sandbox),
        // The host's is read-only already, but some runtimes (crun) forget that; those with a kernel of their own would take what is mounted
        // in it for read-only too.
        "root": {"path": root, "readonly": spec.root.is_none() && !own_kernel},
        "hostname": init::host_name(spec.hostname()),
        "mounts": mounts(order),
        "linux": linux,
    })
    .to_string()
}

fn process(order: &Order, account: Option<&Account>, sandbox: &Path) -> Value {
    let spec = &order.spec;
    let mut env: Vec<String> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !spec.env.contains_key("PATH") {
        // Runtimes look the program up in the container's own.
        env.push(format!("PATH={DEFAULT_PATH}"));
    }
    let (uid, gid) =
        account.map_or((getuid().as_raw(), getgid().as_raw()), |account| (account.uid, account.gid));
    let groups = account.map(|account| account.groups.as_slice()).unwrap_or_default();
    let allowed = if order.wants(Control::Capabilities) {
        json!(privileges::names(privileges::allowed(order)))
    } else {
        json!([])
    };
    // Who is not root has them only to be bounded by, as after a native change of the user.
    let held = if uid == 0 { allowed.clone() } else { json!([]) };
    let mut process = json!({
        "terminal": false,
        "user": {"uid": uid, "gid": gid, "additionalGids": groups, "umask": 0o022},
        "args": spec.argv,
        "env": env,
        "cwd": program::working_dir(order, sandbox),
        "capabilities": {"bounding": allowed, "effective": held, "permitted": held},
        "rlimits": rlimits::wanted(&spec.rlimits).into_iter().map(|(resource, limit)| json!({
            "type": rlimit_name(resource),
            "soft": limit.current.unwrap_or(u64::MAX),
            "hard": limit.maximum.unwrap_or(u64::MAX),
        })).collect::<Vec<_>>(),
        "noNewPrivileges": true,
    });
    if init::is_spared() {
        process["oomScoreAdj"] = json!(0);
    }
    process
}

fn rlimit_name(resource: RlimitResource) -> String {
    format!("RLIMIT_{}", resource.name().to_ascii_uppercase())
}

/// What the kernel shows, and devices.
fn mounts(order: &Order) -> Value {
    let mount = |path: &str, kind: &str, options: &str| json!({"destination": path, "type": kind, "source": kind, "options": options.split(',').collect::<Vec<_>>()});
    // Charged to the task as memory; without a limit the kernel's own bound of half the machine's holds.
    let size = order.spec.limits.memory_limit_bytes.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
    let mut mounts = vec![
        mount("/proc", "proc", "nosuid,nodev,noexec"),
        mount("/dev", "tmpfs", "nosuid,noexec,strictatime,mode=755,size=64k"),
        mount("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
        mount("/dev/shm", "tmpfs", &format!("nosuid,nodev,noexec,mode=1777{size}")),
        mount("/dev/mqueue", "mqueue", "nosuid,nodev,noexec"),
        mount("/sys", "sysfs", "nosuid,nodev,noexec,ro"),
        mount("/sys/fs/cgroup", "cgroup", "nosuid,nodev,noexec,ro"),
    ];
    mounts.extend(order.spec.mounts.iter().filter(|mount| is_runtimes(mount)).filter_map(|volume| {
        let MountSource::Tmpfs { bytes } = volume.source else { return None };
        let options = format!("nosuid,nodev,mode=1777,size={bytes}");
        Some(mount(volume.target.to_str()?, "tmpfs", &options))
    }));
    json!(mounts)
}

/// True for what lies in a folder that the runtime lays over the root, so that it must mount it itself.
pub(in crate::linux) fn is_runtimes(mount: &Mount) -> bool {
    mount.target.starts_with("/dev")
}

/// The calls that are refused; none on processors whose name is not known.
fn seccomp() -> Option<Value> {
    let arch = match std::env::consts::ARCH {
        // The second kind too, or libseccomp ends who calls it; the kernel mostly lacks it.
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"][..],
        "aarch64" => &["SCMP_ARCH_AARCH64"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        _ => return None,
    };
    let refuse =
        |name: &str, errno: i32| json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno});
    let mut calls = vec![refuse(syscalls::UNSEEN.0, syscalls::UNSEEN.1)];
    for denial in syscalls::denied() {
        let mut call = refuse(denial.name, libc::EPERM);
        if let Some(when) = denial.when {
            call["args"] = json!([{
                "index": when.argument, "value": when.mask, "valueTwo": when.value, "op": "SCMP_CMP_MASKED_EQ",
            }]);
        }
        calls.push(call);
    }
    Some(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": arch, "syscalls": calls}))
}
