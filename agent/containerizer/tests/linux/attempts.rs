//! What a task must not be able to do, tried; and kernels that lack something, imitated.

// The calls have no safe form, because nobody should want to make them.
#![allow(unsafe_code)]

use std::{collections::BTreeMap, ffi::OsString, io, process::ExitCode, ptr};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// Attempts that must have been made.
pub(crate) const NAMES: [&str; 6] =
    ["mount", "unshare", "ptrace-outside", "keyctl", "clone-newuser", "clone3"];

/// Tries everything and prints each result: 0, or the number of the error.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let outside: libc::pid_t = args[0].parse().unwrap();
    let mut results = calls();
    let zero = ptr::null_mut::<libc::c_void>();
    // SAFETY: integers and null pointers; attaching harms nobody, and this process ends at once.
    unsafe {
        use libc::*;
        results.push(("ptrace-outside", errno(syscall(SYS_ptrace, PTRACE_SEIZE, outside, zero, zero))));
        results.push(("kill-outside", errno(syscall(SYS_kill, outside, 0))));
        #[cfg(target_arch = "x86_64")]
        results.push(("x32", errno(syscall(SYS_mount | 0x4000_0000, zero, zero, zero, 0, zero))));
    }
    results.iter().for_each(|(name, errno)| println!("{name} {errno}"));
    ExitCode::SUCCESS
}

/// Maps so many bytes of huge pages and touches each of them; returns the error of the mapping, 0 for none.
pub(crate) fn map_huge(bytes: usize) -> u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
    // SAFETY: a new mapping, of which nobody else knows.
    let start =
        unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return std::io::Error::last_os_error().raw_os_error().unwrap_or_default() as u8;
    }
    for at in (0..bytes).step_by(1 << 20) {
        // SAFETY: within the mapping.
        unsafe { start.cast::<u8>().add(at).write_volatile(1) };
    }
    0
}

/// What a call that returned this has said: 0, or the number of the error.
fn errno(result: libc::c_long) -> i32 {
    if result < 0 { io::Error::last_os_error().raw_os_error().unwrap() } else { 0 }
}

/// Calls that a container must refuse, but for those named `allowed`.
pub(crate) fn calls() -> Vec<(&'static str, i32)> {
    let zero = ptr::null_mut::<libc::c_void>();
    let path = c"/proc".as_ptr();
    let mut results = Vec::new();
    let mut attempt = |name, result| results.push((name, errno(result)));
    // SAFETY: all arguments are integers, null pointers or C strings that live as long as the program. Should one of the
    // calls succeed, the test fails, and the harm is confined to what the container was meant to be confined to.
    unsafe {
        use libc::*;
        attempt("allowed", syscall(SYS_getpid).min(0));
        attempt("mount", syscall(SYS_mount, c"none".as_ptr(), c".".as_ptr(), c"tmpfs".as_ptr(), 0, zero));
        attempt("remount", syscall(SYS_mount, zero, c"/".as_ptr(), zero, MS_REMOUNT | MS_BIND, zero));
        attempt("umount", syscall(SYS_umount2, path, MNT_DETACH));
        attempt("pivot_root", syscall(SYS_pivot_root, path, path));
        attempt("mount_setattr", syscall(SYS_mount_setattr, AT_FDCWD, path, 0, zero, 0));
        attempt("open_tree", syscall(SYS_open_tree, AT_FDCWD, path, 0));
        attempt("fsopen", syscall(SYS_fsopen, c"tmpfs".as_ptr(), 0));
        attempt("unshare", syscall(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS));
        attempt("setns", syscall(SYS_setns, 0, 0));
        attempt("clone-newuser", clone_and_end(CLONE_NEWUSER | SIGCHLD));
        attempt("clone-newnet", clone_and_end(CLONE_NEWNET | SIGCHLD));
        attempt("allowed", clone_and_end(SIGCHLD).min(0));
        attempt("clone3", syscall(SYS_clone3, zero, 0));
        attempt("keyctl", syscall(SYS_keyctl, 0, 0, 0, 0, 0));
        attempt("add_key", syscall(SYS_add_key, c"user".as_ptr(), c"x".as_ptr(), c"y".as_ptr(), 1, -4));
        attempt("request_key", syscall(SYS_request_key, c"user".as_ptr(), c"x".as_ptr(), zero, 0));
        attempt("bpf", syscall(SYS_bpf, 0, zero, 0));
        attempt("perf_event_open", syscall(SYS_perf_event_open, zero, 0, 0, 0, 0));
        attempt("io_uring", syscall(SYS_io_uring_setup, 1, zero));
        attempt("userfaultfd", syscall(SYS_userfaultfd, 0));
        attempt("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, zero, 0));
        attempt("kexec", syscall(SYS_kexec_load, 0, 0, zero, 0));
        attempt("init_module", syscall(SYS_init_module, zero, 0, zero));
        attempt("delete_module", syscall(SYS_delete_module, zero, 0));
        attempt("reboot", syscall(SYS_reboot, 0, 0, 0, zero));
        attempt("swapon", syscall(SYS_swapon, zero, 0));
        attempt("settimeofday", syscall(SYS_settimeofday, zero, zero));
        attempt("clock_settime", syscall(SYS_clock_settime, CLOCK_REALTIME, zero));
        attempt("sethostname", syscall(SYS_sethostname, path, 1));
        attempt("acct", syscall(SYS_acct, zero));
        attempt("syslog", syscall(SYS_syslog, 3, zero, 0));
        attempt("quotactl", syscall(SYS_quotactl, 0, zero, 0, zero));
        attempt("personality", syscall(SYS_personality, ADDR_NO_RANDOMIZE));
        attempt("TIOCSTI", syscall(SYS_ioctl, 0, TIOCSTI, c"x".as_ptr()));
        attempt("vsock", syscall(SYS_socket, AF_VSOCK, SOCK_STREAM, 0));
    }
    results
}

/// Calls of which a container refuses some, and others only for lack of a capability.
pub(crate) fn more_calls() -> Vec<(&'static str, i32)> {
    let zero = ptr::null_mut::<libc::c_void>();
    let mut results = Vec::new();
    let mut attempt = |name, result| results.push((name, errno(result)));
    // SAFETY: as above. What succeeds concerns this process alone.
    unsafe {
        use libc::*;
        attempt("adjtimex", syscall(SYS_adjtimex, zero));
        attempt("clock_adjtime", syscall(SYS_clock_adjtime, CLOCK_REALTIME, zero));
        attempt("name_to_handle_at", syscall(SYS_name_to_handle_at, AT_FDCWD, zero, zero, zero, 0));
        attempt("kcmp", syscall(SYS_kcmp, 1, 1, 0, 0, 0));
        attempt("mbind", syscall(SYS_mbind, zero, 0, 0, zero, 0, 0));
        attempt("get_mempolicy", syscall(SYS_get_mempolicy, zero, zero, 0, zero, 0));
        attempt("set_mempolicy", syscall(SYS_set_mempolicy, 0, zero, 0));
        attempt("move_pages", syscall(SYS_move_pages, 0, 0, zero, zero, zero, 0));
        attempt("migrate_pages", syscall(SYS_migrate_pages, 0, 0, zero, zero));
        attempt("process_vm_readv", syscall(SYS_process_vm_readv, 1, zero, 0, zero, 0, 0));
        attempt("ptrace-process-1", syscall(SYS_ptrace, PTRACE_SEIZE, 1, zero, zero));
        attempt("pidfd_open", syscall(SYS_pidfd_open, getpid(), 0));
        attempt("mknod", syscall(SYS_mknodat, AT_FDCWD, c"node".as_ptr(), S_IFCHR | 0o666, makedev(1, 3)));
        attempt("open-mknod", syscall(SYS_openat, AT_FDCWD, c"node".as_ptr(), O_RDWR));
        attempt(
            "mknod-disk",
            syscall(SYS_mknodat, AT_FDCWD, c"disk".as_ptr(), S_IFBLK | 0o666, makedev(254, 0)),
        );
        attempt("open-disk", syscall(SYS_openat, AT_FDCWD, c"disk".as_ptr(), O_RDONLY));
        attempt("chown", syscall(SYS_fchownat, AT_FDCWD, c"node".as_ptr(), 1, 1, 0));
        attempt("packet-socket", syscall(SYS_socket, AF_PACKET, SOCK_RAW, 0));
        attempt("raw-socket", syscall(SYS_socket, AF_INET, SOCK_RAW, IPPROTO_ICMP));
        attempt("netlink-audit", syscall(SYS_socket, AF_NETLINK, SOCK_RAW, 9));
        attempt("nice", syscall(SYS_setpriority, PRIO_PROCESS, 0, -1));
        let priority = [1];
        attempt("realtime", syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, priority.as_ptr()));
        attempt("mlock", syscall(SYS_mlockall, MCL_FUTURE));
        attempt("unlock", syscall(SYS_munlockall));
        attempt("setgid", syscall(SYS_setgid, 0));
        attempt("prctl-securebits", syscall(SYS_prctl, PR_SET_SECUREBITS, 1, 0, 0, 0));
        attempt("prctl-ambient", syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0));
        attempt("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
        attempt("swapoff", syscall(SYS_swapoff, zero));
        attempt("vhangup", syscall(SYS_vhangup));
        attempt("quotactl_fd", syscall(SYS_quotactl_fd, 0, 0, 0, zero));
        attempt("setdomainname", syscall(SYS_setdomainname, zero, 0));
        attempt("finit_module", syscall(SYS_finit_module, 0, zero, 0));
        attempt("kexec_file_load", syscall(SYS_kexec_file_load, 0, 0, 0, zero, 0));
        attempt("move_mount", syscall(SYS_move_mount, -1, zero, -1, zero, 0));
        attempt("fsmount", syscall(SYS_fsmount, -1, 0, 0));
        attempt("fspick", syscall(SYS_fspick, -1, zero, 0));
        attempt("fsconfig", syscall(SYS_fsconfig, -1, 0, zero, zero, 0));
        attempt("memfd_create", syscall(SYS_memfd_create, c"x".as_ptr(), 0));
        attempt("inotify", syscall(SYS_inotify_init1, 0));
        attempt("getrandom", syscall(SYS_getrandom, zero, 0, 0));
        attempt("landlock", syscall(SYS_landlock_create_ruleset, zero, 0, 1));
        attempt("seccomp", syscall(SYS_seccomp, 1, 0, zero));
        attempt("chroot", syscall(SYS_chroot, c"/".as_ptr()));
        #[cfg(target_arch = "x86_64")]
        {
            attempt("iopl", syscall(SYS_iopl, 3));
            attempt("ioperm", syscall(SYS_ioperm, 0, 1, 1));
            attempt("modify_ldt", syscall(SYS_modify_ldt, 0, zero, 0));
            attempt("sysfs", syscall(SYS_sysfs, 3));
            attempt("ustat", syscall(SYS_ustat, 0, zero));
            attempt("uselib", syscall(SYS_uselib, zero));
        }
    }
    results
}

/// A copy of this process with these flags, which ends at once.
fn clone_and_end(flags: libc::c_int) -> libc::c_long {
    // SAFETY: a fork of a process with one thread; the child does nothing but end.
    unsafe {
        let result = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0);
        if result == 0 {
            libc::_exit(0);
        }
        result
    }
}

fn refuse(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) {
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let action = SeccompAction::Errno(errno as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
}

/// The runner as on a kernel before 5.9 in these respects: no `mount_setattr`, no `close_range`.
pub(crate) fn without_new_calls(args: impl Iterator<Item = OsString>) -> ExitCode {
    let calls = [libc::SYS_mount_setattr, libc::SYS_close_range];
    refuse(calls.map(|call| (call, Vec::new())).into(), libc::ENOSYS);
    apportion_containerizer::runner_main(args)
}

/// The runner where the administrator has forbidden user namespaces.
pub(crate) fn without_namespaces(args: impl Iterator<Item = OsString>) -> ExitCode {
    let flag = libc::CLONE_NEWUSER as u64;
    let condition =
        SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag).unwrap();
    let rule = SeccompRule::new(vec![condition]).unwrap();
    refuse(BTreeMap::from([(libc::SYS_clone, vec![rule])]), libc::EPERM);
    apportion_containerizer::runner_main(args)
}
