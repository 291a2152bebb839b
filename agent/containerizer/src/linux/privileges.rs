//! What the task may do beyond an ordinary process: the OCI default capabilities for root, nothing for others.

use std::{fs, io};

use apportion_types::container::Control;
use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
        set_capabilities, set_no_new_privs,
    },
};

use crate::folder::{Failure, Isolation};

/// What Docker and the OCI runtimes leave to root in a container.
///
/// `MKNOD` is harmless here, because no mount of the container honours device files but those bound into its `/dev`.
pub(super) fn allowed(isolation: Isolation, raw_sockets: bool) -> CapabilitySet {
    if isolation == Isolation::UserNamespaces || !rustix::process::geteuid().is_root() {
        return CapabilitySet::empty();
    }
    let raw = if raw_sockets { CapabilitySet::NET_RAW } else { CapabilitySet::empty() };
    raw | CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FSETID
        | CapabilitySet::FOWNER
        | CapabilitySet::MKNOD
        | CapabilitySet::SETGID
        | CapabilitySet::SETUID
        | CapabilitySet::SETFCAP
        | CapabilitySet::SETPCAP
        | CapabilitySet::NET_BIND_SERVICE
        | CapabilitySet::SYS_CHROOT
        | CapabilitySet::KILL
        | CapabilitySet::AUDIT_WRITE
}

/// Gives up everything that is not [`allowed`], for this process and all that it will start.
pub(super) fn reduce(isolation: Isolation, raw_sockets: bool) -> Result<(), Failure> {
    let failed = |step: &str, error: Errno| Failure::Setup {
        step: step.to_owned(),
        control: Some(Control::Capabilities),
        errno: error.raw_os_error(),
    };
    set_no_new_privs(true).map_err(|e| failed("setting no_new_privs", e))?;
    let keep = allowed(isolation, raw_sockets);
    drop_from_bounding_set(keep).map_err(|e| failed("dropping capabilities from the bounding set", e))?;
    // Absent before Linux 4.3, where there is no ambient set to clear.
    let _ = clear_ambient_capability_set();
    let held = rustix::thread::capabilities(None).map_err(|e| failed("reading capabilities", e))?.permitted;
    let keep = keep & held;
    // Nothing inheritable: what a file grants must not depend on who starts it.
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(|e| failed("setting capabilities", e))
}

fn drop_from_bounding_set(keep: CapabilitySet) -> Result<(), Errno> {
    // A process without CAP_SETPCAP cannot, and need not: with no_new_privs no program gives it more than it has.
    for number in 0..=last_capability() {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if !keep.contains(capability) {
            match remove_capability_from_bounding_set(capability) {
                Ok(()) | Err(Errno::INVAL) => {}
                Err(Errno::PERM) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

/// The highest capability of this kernel, which may be newer than we are.
fn last_capability() -> u32 {
    let read = || -> io::Result<String> { fs::read_to_string("/proc/sys/kernel/cap_last_cap") };
    read().ok().and_then(|text| text.trim().parse().ok()).unwrap_or(40).min(63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_keeps_nothing() {
        assert!(allowed(Isolation::UserNamespaces, true).is_empty());
        if rustix::process::geteuid().is_root() {
            assert_eq!(allowed(Isolation::Namespaces, true).iter().count(), 14);
            assert!(!allowed(Isolation::Namespaces, false).contains(CapabilitySet::NET_RAW));
        }
        assert!((30..=63).contains(&last_capability()));
    }
}
