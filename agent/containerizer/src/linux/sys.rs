//! The unsafe code of the runner: system calls that no safe crate offers in the form needed here.
//!
//! Everything here relies on one fact, checked by [`single_threaded`] at the runner's start: the runner has one thread. A copy
//! of a process with one thread may do whatever its parent may.

#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString},
    fs, io,
    mem::{MaybeUninit, size_of, size_of_val},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use apportion_types::container::{Exit, Usage};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Which side of a [`copy`] the caller is on.
pub(super) enum Copy {
    Parent { child: i32 },
    Child,
}

/// True while this process has one thread.
pub(super) fn single_threaded() -> bool {
    let me = crate::procfs::stat(std::process::id() as i32);
    me.is_ok_and(|me| me.is_some_and(|me| me.threads == 1))
}

/// Copies this process, the copy in the new namespaces of `flags` (`CLONE_NEW*`).
///
/// The copy must end with [`exit_now`] and never return into its parent's code. Its memory is its own, but its descriptors
/// are copies of the parent's.
pub(super) fn copy(flags: libc::c_int) -> io::Result<Copy> {
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with a null stack this is a fork: the child goes on on its own copy of the stack. The
    // process has one thread, so that no lock of the allocator or of std is held by a thread that the copy lacks. Zeros are
    // valid for the remaining arguments on every architecture, whatever their order.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Copy::Child),
        child => Ok(Copy::Parent { child: child as i32 }),
    }
}

/// The same as [`copy`], the copy in the cgroup (version 2) whose folder this is; since Linux 5.7.
pub(super) fn copy_into(flags: libc::c_int, cgroup: BorrowedFd<'_>) -> io::Result<Copy> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // The kernel's `clone_args`: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    // set_tid_size, cgroup.
    let mut args = [0_u64; 11];
    args[0] = flags as u64 | CLONE_INTO_CGROUP;
    args[4] = libc::SIGCHLD as u64;
    args[10] = cgroup.as_raw_fd() as u64;
    // SAFETY: as for `copy`; the kernel reads the given number of bytes.
    match unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Copy::Child),
        child => Ok(Copy::Parent { child: child as i32 }),
    }
}

/// Ends this process at once: no destructors, no flushing, nothing that belongs to the parent of a copy.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Takes one of the three standard descriptors as an owned one.
///
/// Returns a duplicate, closed on exec, so that std's own idea of who owns the standard descriptors stays true.
pub(super) fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    fd.try_clone_to_owned()
}

/// Makes descriptor number `to` a copy of `from`, kept over exec. Only for the standard descriptors 0, 1 and 2.
pub(super) fn replace_standard(from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    assert!((0..=2).contains(&to), "only standard descriptors are replaced by number");
    // SAFETY: both are plain integers; numbers 0 to 2 are owned by nobody in std, which only ever borrows them.
    if unsafe { libc::dup2(from.as_raw_fd(), to) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every descriptor but the standard ones and those in `keep`.
///
/// Callers are a copy that never returns to code which owns the closed descriptors, or a process that has not opened any.
pub(super) fn close_all_but(keep: &[RawFd]) {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).chain([0, 1, 2]).collect();
    keep.sort_unstable();
    keep.push(u32::MAX);
    let mut first = 0;
    for fd in keep {
        if fd > first {
            close_range(first, fd - 1, 0, |fd| {
                // SAFETY: see the function's contract: nobody will use this descriptor again in this process.
                unsafe { libc::close(fd) };
            });
        }
        first = fd.saturating_add(1);
    }
}

/// Marks every descriptor but the standard ones to be closed on exec.
pub(super) fn close_all_on_exec() {
    close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC, |fd| {
        // SAFETY: setting a flag on a descriptor does not affect its owner.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    });
}

/// `close_range`, or `one` for each open descriptor in the range where the kernel is older than 5.11.
fn close_range(first: u32, last: u32, flags: libc::c_uint, one: impl Fn(RawFd)) {
    // SAFETY: the arguments are integers; which descriptors may be closed is the callers' contract.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } == 0 {
        return;
    }
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    // Collected first: the listing itself is an open descriptor, closed before `one` sees its number.
    let open: Vec<RawFd> = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    for fd in open {
        if u32::try_from(fd).is_ok_and(|fd| (first..=last).contains(&fd)) {
            one(fd);
        }
    }
}

/// The set of all signals, or of these.
fn signal_set(signals: Option<&[libc::c_int]>) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset and sigemptyset initialise the whole set; sigaddset gets an initialised one.
    unsafe {
        match signals {
            None => {
                libc::sigfillset(set.as_mut_ptr());
            }
            Some(signals) => {
                libc::sigemptyset(set.as_mut_ptr());
                for signal in signals {
                    libc::sigaddset(set.as_mut_ptr(), *signal);
                }
            }
        }
        set.assume_init()
    }
}

/// Blocks every signal that can be blocked; they stay pending until waited for.
pub(super) fn block_signals() {
    let all = signal_set(None);
    // SAFETY: the set is initialised, and no old set is asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut()) };
}

/// Gives a new program the signal state that programs expect: default dispositions, nothing blocked.
pub(super) fn reset_signals() {
    // The kernel's own form of the call: libc hides two signals that whoever started the agent may have had ignored. A
    // default disposition without flags and mask is all zeros, and the structure is shorter than this on every architecture.
    let default = [0_u64; 16];
    const KERNEL_SIGSET_BYTES: usize = 8;
    for signal in 1..=64 {
        // SAFETY: the kernel reads a structure of zeros; numbers that cannot be set are refused without effect.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                KERNEL_SIGSET_BYTES,
            );
        }
    }
    let none = signal_set(Some(&[]));
    // SAFETY: the set is initialised, and no old set is asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
}

/// A signal that was waited for.
pub(super) struct Received {
    pub(super) signal: libc::c_int,
    /// Sent with plain `kill` from a process namespace above this one.
    pub(super) from_above: bool,
}

/// Waits for one of these signals, which must be blocked.
pub(super) fn wait_for_signal(signals: &[libc::c_int]) -> io::Result<Received> {
    let set = signal_set(Some(signals));
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the set is initialised, and `info` has room for what the kernel writes.
    let signal = unsafe { libc::sigwaitinfo(&raw const set, info.as_mut_ptr()) };
    if signal == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed above and then filled in by the kernel; all bit patterns are valid.
    let info = unsafe { info.assume_init() };
    // SAFETY: the pid field is valid for SI_USER; for other codes it is an integer that is not used.
    let from_above = info.si_code == libc::SI_USER && unsafe { info.si_pid() } == 0;
    Ok(Received { signal, from_above })
}

/// A descriptor that becomes readable when one of these signals, which must be blocked, is pending.
pub(super) fn signal_fd(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    let set = signal_set(Some(signals));
    // SAFETY: the set is initialised; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes everything that is pending from a [`signal_fd`].
pub(super) fn drain_signals(fd: BorrowedFd<'_>) {
    let mut buffer = [0; size_of::<libc::signalfd_siginfo>()];
    while rustix::io::read(fd, &mut buffer).is_ok_and(|n| n > 0) {}
}

/// The number of a process that was reaped, and how it ended.
pub(super) type Reaped = (i32, Exit);

/// Waits for a child to end (-1: any child) and reaps it; none when there is no such child.
pub(super) fn reap(pid: i32, block: bool) -> Option<Reaped> {
    let mut status = 0;
    let options = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    loop {
        // SAFETY: `status` is a valid place for the result.
        let reaped = unsafe { libc::waitpid(pid, &raw mut status, options) };
        match reaped {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 | 0 => return None,
            pid if libc::WIFEXITED(status) => return Some((pid, Exit::Code(libc::WEXITSTATUS(status)))),
            pid => return Some((pid, Exit::Signal(libc::WTERMSIG(status)))),
        }
    }
}

/// What all children that were reaped have used, with all that they reaped in turn; the peak is that of the largest one.
pub(super) fn children_usage() -> Usage {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` has room for what the kernel writes; all zeros is a valid value should it refuse.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    let micros = |t: libc::timeval| u64::try_from(t.tv_sec * 1_000_000 + t.tv_usec).unwrap_or(0);
    Usage {
        cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
        memory_peak_bytes: u64::try_from(usage.ru_maxrss).ok().map(|kib| kib * 1024),
    }
}

/// Sends a signal to every process of this process namespace but its process 1, which is the caller.
pub(super) fn signal_all_others(signal: libc::c_int) {
    assert!(
        std::process::id() == 1,
        "outside of a process namespace of its own this would reach the whole machine"
    );
    // SAFETY: `kill` has no memory effects; the assertion above says whom -1 can reach.
    unsafe { libc::kill(-1, signal) };
}

/// Executes a program; returns only if that failed.
pub(super) fn execute(program: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: all strings end with a zero byte and both lists with a null pointer, and they outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Makes all mounts below and at `/` read-only, without set-uid and without devices, in one step.
///
/// Fails with `ENOSYS` before Linux 5.12.
pub(super) fn restrict_all_mounts() -> io::Result<()> {
    let flags = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    set_mount_attributes(libc::AT_FDCWD, c"/", flags, true)
}

/// Gives a mount these attributes beside those that it has; `recursive` also to those below it.
///
/// Fails with `ENOSYS` before Linux 5.12.
pub(super) fn restrict_mounts(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    if attributes == 0 {
        return Ok(());
    }
    set_mount_attributes(mount.as_raw_fd(), c"", attributes, recursive)
}

/// Has a mount show the owners that they are to users of a user namespace. It must be attached to nothing, and translate nothing yet.
///
/// Fails with `ENOSYS` before Linux 5.12, with `EINVAL` where its file system cannot.
pub(super) fn translate_owners(mount: BorrowedFd<'_>, users: BorrowedFd<'_>) -> io::Result<()> {
    let userns_fd = users.as_raw_fd() as u64;
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    change_mount(mount.as_raw_fd(), c"", &attributes, false)
}

fn set_mount_attributes(below: RawFd, path: &CStr, attributes: u64, recursive: bool) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    change_mount(below, path, &attributes, recursive)
}

fn change_mount(below: RawFd, path: &CStr, attributes: &libc::mount_attr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string, and the kernel reads as many bytes of `attributes` as it is long.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            below,
            path.as_ptr(),
            flags,
            ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has files that this process makes belong to this user and group, and its access to others be judged as theirs.
pub(super) fn make_files_as(id: u32) {
    // SAFETY: both take an integer and change nothing but what files are made as; who may not change it is answered by no change.
    unsafe {
        libc::setfsgid(id);
        libc::setfsuid(id);
    }
}

/// Leaves the keys of the session that the agent was started in, which its descendants else possess.
///
/// Where the user's quota of keys is used up, or the kernel has none, the filter of system calls alone keeps a task from them.
pub(super) fn leave_session_keys() {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null pointer asks for a keyring without a name; nothing is written.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>()) };
}

/// Makes the control groups of this process the roots of those that it and its descendants see.
///
/// Before Linux 4.6 they see where in the host's they are, which is no more than untidy.
pub(super) fn leave_group_namespace() {
    // SAFETY: concerns nothing but what is seen in `/proc`; the process has one thread.
    unsafe { libc::unshare(libc::CLONE_NEWCGROUP) };
}

/// Brings up the loopback of this process's network namespace.
pub(super) fn raise_loopback() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all zeros is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the kernel reads an `ifreq`, whose name ends with a zero.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Moves this process into a network namespace of its own.
pub(super) fn leave_network() -> io::Result<()> {
    // SAFETY: concerns sockets that are made later and what is seen in `/proc`; the process has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives this process a mount namespace of its own, which is gone with it and with what it starts from here on.
pub(super) fn own_mounts() -> io::Result<()> {
    // SAFETY: concerns nothing but what is mounted where; the process has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
