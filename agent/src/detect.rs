//! What this machine is and has, where the operator does not say.

use std::{
    collections::BTreeMap,
    fs, io,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
};

use apportion_containerizer::huge_pages;
use apportion_types::{
    CpuSet, Resources,
    huge_pages::resource_name,
    resources::{Name, Ranges, Value, bytes_to_milli_mib},
};
use rustix::{
    fs::statvfs,
    system::{sysinfo, uname},
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Ports that no system service and no kernel default for outgoing connections uses.
const PORTS: (u64, u64) = (31000, 32000);

/// Why something cannot be detected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetectError {
    /// The number of processors.
    #[error("the number of processors cannot be detected; give `cpus` in `resources`")]
    Cpus {
        /// What the system said.
        source: io::Error,
    },
    /// The free space of the work directory's file system.
    #[error("the free space of {path:?} cannot be detected; give `disk` in `resources`")]
    Disk {
        /// The work directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to offer.
    #[error("`resources` {resources} holds no cpus or no mem; an agent without them is offered to nobody")]
    Nothing {
        /// What there is.
        resources: Box<Resources>,
    },
}

/// The machine's name, as the kernel knows it.
pub(crate) fn hostname() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

/// Names the life of the machine since it was switched on, where the kernel says so.
pub(crate) fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

/// The cores that are online of those that this process may run on, where the kernel says so: those of its own cgroup, or fewer.
pub(crate) fn cores() -> Option<CpuSet> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    // A kernel that does not say which are online cannot switch them off.
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    usable(&status, &online)
}

/// The cores that a process with this status may run on, of those that are online. Many that are not there are allowed where more could be plugged in.
fn usable(status: &str, online: &str) -> Option<CpuSet> {
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let allowed: CpuSet = allowed.trim().parse().ok()?;
    let offline = online.trim().parse().ok().and_then(|online| allowed.without(&online));
    offline.map_or(Some(allowed.clone()), |offline| allowed.without(&offline))
}

/// What is set, and for each of cpus, mem, disk, ports and huge pages that is not, what the machine has.
///
/// Of cpus it has as many as there are in `cpuset`, where tasks are confined to that; of huge pages those that are set apart, where tasks are held
/// to what they are given of them (`holds_huge_pages`).
pub fn resources(
    set: Option<Resources>,
    cpuset: Option<&CpuSet>,
    holds_huge_pages: bool,
    work_dir: &Path,
) -> Result<Resources, DetectError> {
    beside(set, cpuset, (&huge_pages(), holds_huge_pages), work_dir)
}

/// The same, with these huge pages: bytes by the size of a page.
fn beside(
    set: Option<Resources>,
    cpuset: Option<&CpuSet>,
    (huge_pages, holds_huge_pages): (&BTreeMap<u64, u64>, bool),
    work_dir: &Path,
) -> Result<Resources, DetectError> {
    let mut resources = set.unwrap_or_default();
    let missing = |resources: &Resources, name: Name| resources.iter().all(|(there, _)| *there != name);
    if missing(&resources, Name::Cpus) {
        let machines = || thread::available_parallelism().map_err(|source| DetectError::Cpus { source });
        let count = cpuset.map_or_else(|| machines().map(NonZero::get), |cpuset| Ok(cpuset.count()))?;
        resources.insert(Name::Cpus, Value::Scalar(i64::try_from(count).unwrap_or(i64::MAX / 1000) * 1000));
    }
    if missing(&resources, Name::Mem) {
        let info = sysinfo();
        let total = info.totalram.saturating_mul(u64::from(info.mem_unit));
        // What is set apart is no other memory any more.
        let apart = huge_pages.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        resources.insert(Name::Mem, whole_mib(offered_memory(total.saturating_sub(apart))));
    }
    for (page_bytes, bytes) in huge_pages.iter().filter(|_| holds_huge_pages) {
        if let Some(name) = resource_name(*page_bytes).filter(|name| missing(&resources, name.clone())) {
            resources.insert(name, Value::Scalar(bytes_to_milli_mib(*bytes)));
        }
    }
    if missing(&resources, Name::Disk) {
        let space = statvfs(work_dir)
            .map_err(|errno| DetectError::Disk { path: work_dir.to_owned(), source: errno.into() })?;
        resources.insert(Name::Disk, whole_mib(offered_disk(space.f_bavail.saturating_mul(space.f_frsize))));
    }
    if missing(&resources, Name::Ports) {
        resources.insert(Name::Ports, Value::Ranges(Ranges::single(PORTS.0, PORTS.1)));
    }
    if resources.cpus_milli() == 0 || resources.mem_milli() == 0 {
        return Err(DetectError::Nothing { resources: Box::new(resources) });
    }
    Ok(resources)
}

fn whole_mib(bytes: u64) -> Value {
    Value::Scalar(bytes_to_milli_mib(bytes / MIB * MIB))
}

/// A tenth is left to the system and the agent: half a GiB at least, four at most, but never more than half of all.
fn offered_memory(total: u64) -> u64 {
    total - (total / 10).clamp(GIB / 2, 4 * GIB).min(total / 2)
}

/// Five GiB are left to the system and the agent's log, but never more than half of what is free. Whole GiB, so that an agent that is
/// started again mostly offers the same.
fn offered_disk(free: u64) -> u64 {
    let offered = free - (5 * GIB).min(free / 2);
    if offered < GIB { offered } else { offered / GIB * GIB }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_no_other_memory_and_offered_where_tasks_are_held_to_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let none = BTreeMap::new();
        let apart = BTreeMap::from([(2 << 20, 64 * MIB), (64 << 10, 128 << 10)]);
        let detected =
            |set: &str, pages| beside(Some(set.parse().unwrap()), None, pages, folder.path()).unwrap();
        let milli = |all: &Resources, name: &str| all.milli(&Name::new(name).unwrap());
        let (without, with) = (detected("cpus:1", (&none, true)), detected("cpus:1", (&apart, true)));
        assert!(with.mem_milli() < without.mem_milli());
        assert_eq!((milli(&with, "hugepages-2MiB"), milli(&with, "hugepages-64KiB")), (64_000, 125));
        let set = detected("cpus:1;hugepages-2MiB:10", (&apart, true));
        assert_eq!(milli(&set, "hugepages-2MiB"), 10_000);
        let unheld = detected("cpus:1", (&apart, false));
        assert_eq!((milli(&unheld, "hugepages-2MiB"), unheld.mem_milli()), (0, with.mem_milli()));
    }

    #[test]
    fn cores_that_are_not_online_are_nobodys() {
        let cores = |allowed: &str, online| {
            usable(&format!("Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed}\n"), online)
        };
        let of = |text: &str| Some(text.parse::<CpuSet>().unwrap());
        assert_eq!(cores("0-7", "0-2,5\n"), of("0-2,5"));
        assert_eq!(cores("1,3", "0-7\n"), of("1,3"));
        assert_eq!(cores("0-7", ""), of("0-7"), "nobody says which are");
        assert_eq!((cores("4-7", "0-3\n"), cores("none", "0-3\n"), usable("", "0\n")), (None, None, None));
    }

    #[test]
    fn something_is_left_to_the_system() {
        for (total, left) in
            [(GIB / 2, GIB / 4), (GIB, GIB / 2), (8 * GIB, 8 * GIB / 10), (256 * GIB, 4 * GIB), (0, 0)]
        {
            assert_eq!(offered_memory(total), total - left, "{total}");
        }
        assert_eq!(offered_disk(100 * GIB), 95 * GIB);
        assert_eq!(offered_disk(4 * GIB), 2 * GIB);
        assert_eq!(offered_disk(100 * GIB + 17 * MIB), 95 * GIB);
        assert_eq!(offered_disk(GIB), GIB / 2);
        assert_eq!(offered_disk(0), 0);
    }

    #[test]
    fn what_is_not_set_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let all = resources(None, None, true, folder.path()).unwrap();
        let cpus = thread::available_parallelism().unwrap().get();
        assert_eq!(all.cpus_milli(), 1000 * i64::try_from(cpus).unwrap());
        assert!(
            all.mem_milli() > 0 && all.mem_milli() % 1000 == 0 && all.milli(&Name::Disk) % 1000 == 0,
            "{all}"
        );
        assert_eq!(all.ports().unwrap().to_string(), "[31000-32000]");
        assert!(!hostname().is_empty());
        assert_eq!(cores().unwrap().count(), cpus, "as many as may be used");
    }

    #[test]
    fn what_is_set_stays() {
        let set: Resources = "cpus:1.5;mem:100;disk:7;ports:[1-2];gpus:1;licences:{a}".parse().unwrap();
        assert_eq!(resources(Some(set.clone()), None, false, Path::new("/nowhere")).unwrap(), set);
        let some =
            resources(Some("mem:100;licences:{a}".parse().unwrap()), None, false, Path::new("/")).unwrap();
        assert_eq!(some.mem_milli(), 100_000);
        assert!(some.cpus_milli() > 0 && some.ports().is_some(), "{some}");
        let missing = resources(Some("mem:100".parse().unwrap()), None, false, Path::new("/nowhere/at/all"))
            .unwrap_err();
        assert!(missing.to_string().contains("/nowhere/at/all"), "{missing}");
    }
}
