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

/// Refused with `EPERM`, whatever their arguments.
const DENIED: &[libc::c_long] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // Opens any file of a file system that the container sees a part of.
    libc::SYS_open_by_handle_at,
    // Where memory lies, which is the machine's to decide.
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
    libc::SYS_set_mempolicy_home_node,
    libc::SYS_get_mempolicy,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Namespaces; `clone` is looked into below.
    libc::SYS_setns,
    libc::SYS_unshare,
    // The kernel itself.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_lookup_dcookie,
    libc::SYS_fanotify_init,
    libc::SYS_kcmp,
    // Keys are not kept apart by namespaces.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Large sources of kernel bugs, denied by Docker for that.
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // The clock (reading it by `adjtimex` is fine), the accounting and the name of the machine.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_acct,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
];

/// The same, on machines that have them.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS__sysctl,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[libc::c_long] = &[];

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

/// Personalities that Docker allows: Linux, BSD, with the old `uname`, and the question for the current one.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

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
    let mut rules: BTreeMap<i64, Vec<Rule>> =
        DENIED.iter().chain(DENIED_HERE).map(|number| (*number, Vec::new())).collect();
    let clone = NAMESPACES.iter().map(|flag| {
        let flag = *flag as u64;
        Rule::new(vec![Condition::new(0, Length::Qword, Is::MaskedEq(flag), flag)?])
    });
    rules.insert(libc::SYS_clone, clone.collect::<Result<_, _>>()?);
    let odd = PERSONALITIES.iter().map(|p| Condition::new(0, Length::Dword, Is::Ne, *p));
    rules.insert(libc::SYS_personality, vec![Rule::new(odd.collect::<Result<_, _>>()?)?]);
    // Types into a terminal, which may be another's.
    let typing = [libc::TIOCSTI, libc::TIOCLINUX]
        .map(|request| Rule::new(vec![Condition::new(1, Length::Dword, Is::Eq, request)?]));
    rules.insert(libc::SYS_ioctl, typing.into_iter().collect::<Result<_, _>>()?);
    // Sockets to the hypervisor reach services that trust whoever gets through.
    let vsock = Condition::new(0, Length::Dword, Is::Eq, libc::AF_VSOCK as u64)?;
    rules.insert(libc::SYS_socket, vec![Rule::new(vec![vsock])?]);
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
}
