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

use crate::folder::{Failure, Isolation, Order};

/// What Docker and the OCI runtimes leave to root in a container.
const ROOT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// What of them an OCI runtime is to leave, as the kernel shows them.
pub(crate) const OCI: u64 = ROOT.difference(CapabilitySet::MKNOD).bits();

/// What of it a task of this order may have.
///
/// `MKNOD` is harmless here, because no mount of the container honours device files but those bound into its `/dev`. Of mounts that an
/// OCI runtime makes that is not known: there it is left out.
pub(super) fn allowed(order: &Order) -> CapabilitySet {
    let mut without = CapabilitySet::empty();
    without.set(CapabilitySet::MKNOD, order.runtime.is_some());
    // By which a task would get around what filters its connections.
    without.set(CapabilitySet::NET_RAW, order.spec.network.as_ref().is_some_and(|network| network.filtered));
    of(order.isolation).difference(without)
}

/// Their names, as an OCI runtime is told them.
pub(super) fn names(capabilities: CapabilitySet) -> Vec<String> {
    capabilities.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

fn of(isolation: Isolation) -> CapabilitySet {
    if isolation == Isolation::UserNamespaces || !rustix::process::geteuid().is_root() {
        return CapabilitySet::empty();
    }
    ROOT
}

/// Gives up everything that is not [`allowed`], for this process and all that it will start.
pub(super) fn reduce(order: &Order) -> Result<(), Failure> {
    let failed = |step: &str, error: Errno| Failure::Setup {
        step: step.to_owned(),
        control: Some(Control::Capabilities),
        errno: error.raw_os_error(),
    };
    set_no_new_privs(true).map_err(|e| failed("setting no_new_privs", e))?;
    let keep = allowed(order);
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
        assert!(of(Isolation::UserNamespaces).is_empty());
        if rustix::process::geteuid().is_root() {
            assert_eq!(of(Isolation::Namespaces).iter().count(), 14);
        }
        assert!((30..=63).contains(&last_capability()));
    }
}
