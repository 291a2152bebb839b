//! The system calls that a task may not make.
//!
//! Docker's default profile lists what is allowed; this lists what is not, so that a program using calls newer than this
//! list still runs. What it forbids is what lets a root user without most capabilities still reach the kernel's or the host's
//! inner parts: mounts, namespaces, modules, tracing of the kernel, keys, clocks, swap.

use std::{collections::BTreeMap, io};

use apportion_types::container::Control;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition as Condition,
    SeccompFilter, SeccompRule as Rule, TargetArch, apply_filter, sock_filter,
};

use crate::folder::Failure;

/// Calls by their names, which an OCI runtime is told, with their numbers, which the kernel is.
macro_rules! calls {
    ($($(#[$meta:meta])* $name:ident),* $(,)?) => {
        &[$($(#[$meta])* (stringify!($name), libc::$name)),*]
    };
}

/// Refused with `EPERM`, whatever their arguments.
const DENIED: &[(&str, libc::c_long)] = calls![
    // Mounts and roots.
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_mount_setattr,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_quotactl,
    SYS_quotactl_fd,
    SYS_swapon,
    SYS_swapoff,
    // Opens any file of a file system that the container sees a part of.
    SYS_open_by_handle_at,
    // Where memory lies, which is the machine's to decide.
    SYS_mbind,
    SYS_set_mempolicy,
    SYS_set_mempolicy_home_node,
    SYS_get_mempolicy,
    SYS_migrate_pages,
    SYS_move_pages,
    // Namespaces; `clone` is looked into below.
    SYS_setns,
    SYS_unshare,
    // The kernel itself.
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_reboot,
    SYS_syslog,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_lookup_dcookie,
    SYS_fanotify_init,
    SYS_kcmp,
    // Keys are not kept apart by namespaces.
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    // Large sources of kernel bugs, denied by Docker for that.
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    // The clock (reading it by `adjtimex` is fine), the accounting and the name of the machine.
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_acct,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_vhangup,
    SYS_nfsservctl,
];

/// The same, on machines that have them.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[(&str, libc::c_long)] =
    calls![SYS_iopl, SYS_ioperm, SYS__sysctl, SYS_uselib, SYS_ustat, SYS_sysfs,];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[(&str, libc::c_long)] = &[];

/// Flags of `clone` that make namespaces.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Bits of a personality that Docker allows beside none and all, which is the question for the current one: BSD, the old `uname`.
const PERSONALITY: [u32; 2] = [1 << 3, 1 << 17];

/// A call that is refused with `EPERM`.
pub(super) struct Denial {
    pub(super) name: &'static str,
    number: libc::c_long,
    /// None: always.
    pub(super) when: Option<When>,
}

/// Of an argument these bits have this value. All that is looked at is of this form, because it is what both a runtime's profile and a
/// filter of the kernel can say.
pub(super) struct When {
    pub(super) argument: u8,
    pub(super) mask: u64,
    pub(super) value: u64,
}

/// Everything that is refused with `EPERM`; what [`UNSEEN`] names is beside it.
pub(super) fn denied() -> Vec<Denial> {
    let plain = |call: &(&'static str, libc::c_long)| (*call, None);
    let when = |call, argument, mask, value| (call, Some(When { argument, mask, value }));
    let [clone, personality, ioctl, socket] = [
        ("SYS_clone", libc::SYS_clone),
        ("SYS_personality", libc::SYS_personality),
        ("SYS_ioctl", libc::SYS_ioctl),
        ("SYS_socket", libc::SYS_socket),
    ];
    let flags = NAMESPACES.map(|flag| flag as u64);
    let low = u64::from(u32::MAX);
    DENIED
        .iter()
        .chain(DENIED_HERE)
        .map(plain)
        .chain(flags.map(|flag| when(clone, 0, flag, flag)))
        .chain(odd_personalities().into_iter().map(|(mask, value)| when(personality, 0, mask, value)))
        // Types into a terminal, which may be another's.
        .chain([libc::TIOCSTI, libc::TIOCLINUX].map(|request| when(ioctl, 1, low, request)))
        // Sockets to the hypervisor reach services that trust whoever gets through.
        .chain([when(socket, 0, low, libc::AF_VSOCK as u64)])
        .map(|((name, number), when)| Denial { name: name.trim_start_matches("SYS_"), number, when })
        .collect()
}

/// The call of which a filter cannot see the flags, and that answers `ENOSYS` therefore; libraries then use `clone`.
pub(super) const UNSEEN: (&str, i32) = ("clone3", libc::ENOSYS);

/// Masks and values that together tell each personality with an odd bit from the one of all bits.
///
/// One that has some odd bits and not all has one that is set before one that is not, when they are laid in a ring.
fn odd_personalities() -> Vec<(u64, u64)> {
    let odd: Vec<u32> = (0..32).map(|bit| 1 << bit).filter(|bit| !PERSONALITY.contains(bit)).collect();
    let pair = |set: u32, clear: u32| (u64::from(set | clear), u64::from(set));
    let ring = (0..odd.len()).map(|at| pair(odd[at], odd[(at + 1) % odd.len()]));
    // All odd ones, but not all.
    ring.chain(PERSONALITY.map(|clear| pair(odd[0], clear))).collect()
}

/// Installs the filters for this process and all that it will start; `no_new_privs` must be set.
pub(super) fn filter() -> Result<(), Failure> {
    let failed = |step: String, errno: i32| Failure::Setup { step, control: Some(Control::Seccomp), errno };
    let denials =
        denials().map_err(|e| failed(format!("compiling the system call filter: {e}"), libc::EINVAL))?;
    for program in [&denials, &unknown()] {
        apply_filter(program).map_err(|e| {
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
            failed(format!("installing the system call filter: {e}"), errno)
        })?;
    }
    Ok(())
}

fn denials() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<Rule>> = BTreeMap::new();
    for Denial { number, when, .. } in denied() {
        let of_call = rules.entry(number).or_default();
        if let Some(When { argument, mask, value }) = when {
            of_call.push(Rule::new(vec![Condition::new(
                argument,
                Length::Qword,
                Is::MaskedEq(mask),
                value,
            )?])?);
        }
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32), arch)?
        .try_into()
}

/// Answers `ENOSYS`, as a kernel does that lacks the call, to `clone3`, whose flags a filter cannot see (libraries then use
/// `clone`), and on x86-64 to all calls of the x32 kind, which would go past a filter by number.
fn unknown() -> BpfProgram {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const X32: u32 = 0x4000_0000;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        // The number is the first field of the kernel's `seccomp_data`.
        step(LOAD, 0, 0, 0),
        step(IF_EQUAL, 2, 0, libc::SYS_clone3 as u32),
        // No other architecture has numbers this high.
        step(IF_AT_LEAST, 1, 0, X32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_within_the_kernels_bound() {
        let program = denials().unwrap();
        assert!(program.len() > DENIED.len() && program.len() < 4096, "{}", program.len());
        assert_eq!(unknown().len(), 5);
    }

    #[test]
    fn odd_personalities_are_told() {
        let refused = |personality: u32| {
            odd_personalities().iter().any(|(mask, value)| u64::from(personality) & mask == *value)
        };
        for usual in [0, 8, 0x2_0000, 0x2_0008, u32::MAX] {
            assert!(!refused(usual), "{usual:#x}");
        }
        let odd = (0..32).map(|bit| 1_u32 << bit).filter(|bit| !PERSONALITY.contains(bit));
        for bit in odd {
            for personality in [bit, bit | 8, bit | 0x2_0008, !bit] {
                assert!(refused(personality), "{personality:#x}");
            }
        }
        assert!(refused(!8) && refused(!0x2_0000) && refused(!0x2_0008));
    }
}
