//! What a task sees of its container, as one line for each fact.

// System calls as a task would make them that has no library for it.
#![allow(unsafe_code)]

use std::{
    env, fs,
    io::{self, Write},
    os::unix::fs::{FileTypeExt, MetadataExt},
    process::ExitCode,
    ptr,
};

use crate::attempts;

/// Which namespaces a process has.
pub(crate) const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Paths that Docker hides.
pub(crate) const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that Docker makes read-only.
pub(crate) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const MOUNTS: [&str; 9] = [
    "/",
    "/proc",
    "/dev",
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
    "/sys",
    "/sys/fs/cgroup",
    "/mnt/apportion/sandbox",
];

/// Prints `name value` for each fact; `args` are the namespaces of the host, in the order of [`NAMESPACES`].
pub(crate) fn main(args: &[String]) -> ExitCode {
    let mut lines = Vec::new();
    let mut fact = |name: String, value: String| lines.push(format!("{name}\t{value}\n"));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    for line in status.lines() {
        let (name, value) = line.split_once(':').unwrap();
        let wanted =
            ["Cap", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Umask", "Sig", "Threads", "NSpid"];
        // What is ignored goes through runc from its caller; ours starts with nothing ignored.
        let left_out = ["Seccomp_filters", "SigQ", "SigIgn"].contains(&name);
        if wanted.iter().any(|wanted| name.starts_with(wanted)) && !left_out {
            fact(format!("status {name}"), value.trim().to_owned());
        }
    }
    for (name, host) in NAMESPACES.iter().zip(args) {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let kind = if own.to_str().unwrap() == host { "the host's" } else { "its own" };
        fact(format!("namespace {name}"), kind.to_owned());
    }
    MASKED.iter().for_each(|path| fact(format!("masked {path}"), content(path)));
    for path in READ_ONLY.iter().chain(&["/sys", "/sys/fs/cgroup", "/proc/self"]) {
        fact(format!("writable {path}"), said(rustix::fs::access(*path, rustix::fs::Access::WRITE_OK).err()));
    }
    mounts(&mut fact);
    devices(&mut fact);
    limits(&mut fact);
    process(&mut fact);
    for (name, errno) in attempts::calls().into_iter().chain(attempts::more_calls()) {
        fact(format!("call {name}"), errno.to_string());
    }
    lines.sort();
    io::stdout().write_all(lines.concat().as_bytes()).unwrap();
    ExitCode::SUCCESS
}

fn said(error: Option<rustix::io::Errno>) -> String {
    error.map_or_else(|| "yes".to_owned(), |errno| errno.to_string())
}

/// Whether there is anything to be read.
fn content(path: &str) -> String {
    match fs::metadata(path) {
        Err(e) => e.to_string(),
        Ok(found) if found.is_dir() => fs::read_dir(path)
            .map_or_else(|e| e.to_string(), |entries| format!("folder of {}", entries.count())),
        Ok(_) => match fs::read(path) {
            Ok(bytes) if bytes.is_empty() => "empty".to_owned(),
            Ok(_) => "something".to_owned(),
            Err(e) => e.to_string(),
        },
    }
}

fn mounts(fact: &mut impl FnMut(String, String)) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for point in MOUNTS {
        // The last one lies on top.
        let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(point));
        let value = line.map_or("none".to_owned(), |line| {
            let (left, right) = line.split_once(" - ").unwrap();
            let options: Vec<&str> = left.split(' ').nth(5).unwrap().split(',').collect();
            let kept: Vec<&str> = ["ro", "rw", "nosuid", "nodev", "noexec"]
                .into_iter()
                .filter(|o| options.contains(o))
                .collect();
            format!("{} {}", right.split(' ').next().unwrap(), kept.join(","))
        });
        fact(format!("mount {point}"), value);
    }
}

fn devices(fact: &mut impl FnMut(String, String)) {
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let path = format!("/dev/{name}");
        let value = fs::metadata(&path).map_or_else(
            |e| e.to_string(),
            |found| {
                let opened = fs::File::options().read(true).write(true).open(&path).err();
                let opened = opened.map_or("opens".to_owned(), |e| e.to_string());
                let device = found.rdev();
                format!(
                    "{} {}:{} {:o} {}:{} {opened}",
                    if found.file_type().is_char_device() { "c" } else { "?" },
                    rustix::fs::major(device),
                    rustix::fs::minor(device),
                    found.mode() & 0o7777,
                    found.uid(),
                    found.gid()
                )
            },
        );
        fact(format!("device {name}"), value);
    }
    for name in ["fd", "stdin", "stdout", "stderr", "ptmx", "core"] {
        let value = fs::read_link(format!("/dev/{name}"));
        fact(format!("link {name}"), value.map_or_else(|e| e.to_string(), |to| to.display().to_string()));
    }
    let mut names: Vec<String> = fs::read_dir("/dev")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    fact("devices".to_owned(), names.join(" "));
    let terminal = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR);
    fact("terminal".to_owned(), said(terminal.err()));
}

fn limits(fact: &mut impl FnMut(String, String)) {
    let table = fs::read_to_string("/proc/self/limits").unwrap();
    for line in table.lines().skip(1) {
        let (name, values) = line.split_at(26);
        let values: Vec<&str> = values.split_whitespace().take(2).collect();
        fact(format!("limit {}", name.trim()), values.join(" "));
    }
}

fn process(fact: &mut impl FnMut(String, String)) {
    let read =
        |path: &str| fs::read_to_string(path).map_or_else(|e| e.to_string(), |text| text.trim().to_owned());
    fact("working directory".to_owned(), env::current_dir().unwrap().display().to_string());
    let mut environment: Vec<String> = env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    environment.sort();
    fact("environment".to_owned(), environment.join(" "));
    fact("arguments".to_owned(), env::args().take(3).collect::<Vec<_>>().join(" "));
    fact("oom_score_adj".to_owned(), read("/proc/self/oom_score_adj"));
    fact("setgroups".to_owned(), read("/proc/self/setgroups"));
    fact("uid_map".to_owned(), read("/proc/self/uid_map").split_whitespace().collect::<Vec<_>>().join(" "));
    fact("host name".to_owned(), read("/proc/sys/kernel/hostname"));
    fact("domain name".to_owned(), read("/proc/sys/kernel/domainname"));
    let groups = read("/proc/self/cgroup");
    let paths: Vec<&str> = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
    fact(
        "control groups".to_owned(),
        if paths.iter().all(|path| *path == "/") { "all at the top" } else { &groups }.to_owned(),
    );
    let pid = std::process::id();
    fact("process number".to_owned(), pid.to_string());
    fact(
        "leads its session".to_owned(),
        (read("/proc/self/stat").split(' ').nth(5) == Some(&pid.to_string())).to_string(),
    );
    fact(
        "group".to_owned(),
        (read("/proc/self/stat").split(' ').nth(4) == Some(&pid.to_string())).to_string(),
    );
    let numbers = fs::read_dir("/proc")
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().parse::<u32>().is_ok());
    fact("processes".to_owned(), numbers.count().to_string());
    let mut open: Vec<u32> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().ok())
        .collect();
    open.sort_unstable();
    // The last one is the listing's own.
    fact("descriptors".to_owned(), format!("{:?}", &open[..open.len() - 1]));
    let value = |option: libc::c_int| {
        // SAFETY: these options take no pointer and only return a number.
        unsafe { libc::prctl(option, 0, 0, 0, 0) }.to_string()
    };
    fact("dumpable".to_owned(), value(libc::PR_GET_DUMPABLE));
    fact("secure bits".to_owned(), value(libc::PR_GET_SECUREBITS));
    fact("keeps capabilities".to_owned(), value(libc::PR_GET_KEEPCAPS));
    fact("no new privileges".to_owned(), value(libc::PR_GET_NO_NEW_PRIVS));
    fact("timer slack".to_owned(), value(libc::PR_GET_TIMERSLACK));
    fact("huge pages disabled".to_owned(), value(libc::PR_GET_THP_DISABLE));
    // SAFETY: neither call takes a pointer.
    let (nice, personality, policy) = unsafe {
        (
            libc::getpriority(libc::PRIO_PROCESS, 0),
            libc::personality(0xffff_ffff),
            libc::sched_getscheduler(0),
        )
    };
    fact("nice".to_owned(), nice.to_string());
    fact("personality".to_owned(), personality.to_string());
    fact("scheduling policy".to_owned(), policy.to_string());
    let mut signal = 0;
    // SAFETY: the kernel writes one integer to where the pointer points.
    unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) };
    fact("signal when the parent dies".to_owned(), signal.to_string());
    // SAFETY: a null pointer asks for nothing but the errors of the call's earlier checks.
    let unknown = unsafe { libc::syscall(9999, ptr::null::<u8>()) };
    fact(
        "unknown call".to_owned(),
        if unknown == -1 { io::Error::last_os_error().to_string() } else { "?".into() },
    );
}
