//! Version 1: one hierarchy for each controller, or for a few mounted together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use apportion_types::{CpuSet, IoLimits, container::Control, pressure::Pressure};
use rustix::event::{EventfdFlags, eventfd};

use super::{
    CgroupDriver, CgroupError, Controller, Disk, Measured, MemoryEvents, MemoryWatch,
    files::{Root, both, kill_all},
    values,
};
use crate::spec::Limits;

const LIMIT: &str = "memory.limit_in_bytes";
const LIMIT_WITH_SWAP: &str = "memory.memsw.limit_in_bytes";

/// The driver of version 1 hierarchies.
#[derive(Debug)]
pub struct V1 {
    roots: Vec<(Root, BTreeSet<Controller>)>,
    off: BTreeSet<Control>,
    cpus: Option<CpuSet>,
    disk: Option<Disk>,
}

impl V1 {
    /// For these hierarchies, never setting the controls that are off.
    pub fn new(mounts: BTreeMap<PathBuf, BTreeSet<Controller>>, off: BTreeSet<Control>) -> Self {
        V1 {
            roots: mounts.into_iter().map(|(mount, c)| (Root(mount), c)).collect(),
            off,
            cpus: None,
            disk: None,
        }
    }

    /// With groups that are confined to these processors.
    pub fn confined_to(self, cpus: Option<CpuSet>) -> Self {
        V1 { cpus, ..self }
    }

    /// With groups whose use of this disk is limited.
    pub fn limiting(self, disk: Option<Disk>) -> Self {
        V1 { disk, ..self }
    }

    fn root(&self, controller: Controller) -> Option<&Root> {
        self.roots.iter().find(|(_, c)| c.contains(&controller)).map(|(root, _)| root)
    }

    fn peak(&self, group: &Path) -> Option<u64> {
        self.root(Controller::Memory)?.read_u64(group, "memory.max_usage_in_bytes")
    }

    fn limit_cpu(&self, root: &Root, group: &Path, limits: &Limits) -> Result<(), CgroupError> {
        if !self.off.contains(&Control::CpuWeight) {
            let shares = values::cpu_shares(limits).to_string();
            root.write(group, "cpu.shares", &shares, Some(Control::CpuWeight))?;
        }
        if let Some(quota) = values::cpu_quota_us(limits).filter(|_| !self.off.contains(&Control::CpuQuota)) {
            let control = Some(Control::CpuQuota);
            root.write(group, "cpu.cfs_period_us", &values::CPU_PERIOD_US.to_string(), control)?;
            root.write(group, "cpu.cfs_quota_us", &quota.to_string(), control)?;
        }
        Ok(())
    }

    /// All four of them, where there is something to limit: one that is not given is taken away.
    fn limit_io(&self, group: &Path, io: &IoLimits) -> Result<(), CgroupError> {
        let (Some(root), Some(disk), false) =
            (self.root(Controller::Io), self.disk, self.off.contains(&Control::Io))
        else {
            return Ok(());
        };
        values::blkio(io).into_iter().try_for_each(|(file, limit)| {
            root.write(group, file, &format!("{disk} {limit}"), Some(Control::Io))
        })
    }

    fn limit_memory(&self, root: &Root, group: &Path, limits: &Limits) -> Result<(), CgroupError> {
        if self.off.contains(&Control::Memory) {
            return Ok(());
        }
        let control = Some(Control::Memory);
        if let Some(memory_limit) = limits.memory_limit_bytes {
            let limit = values::memory_bytes(memory_limit).to_string();
            let both = values::memory_and_swap_bytes(memory_limit, limits.swap_max_bytes);
            let swap = !self.off.contains(&Control::Swap);
            let write_both = || root.write(group, LIMIT_WITH_SWAP, &both.to_string(), Some(Control::Swap));
            // That of memory and swap together must never be below that of memory: it goes first when it rises.
            let rises = swap && root.read_u64(group, LIMIT_WITH_SWAP).is_some_and(|now| both > now);
            if rises {
                write_both()?;
            }
            root.write(group, LIMIT, &limit, control)?;
            if swap && !rises {
                write_both()?;
            }
        }
        // A hint to the kernel, absent on real-time kernels: worth trying, not worth failing for.
        if limits.memory_request_bytes > 0 {
            let soft = values::memory_bytes(limits.memory_request_bytes).to_string();
            let _ = root.write(group, "memory.soft_limit_in_bytes", &soft, control);
        }
        Ok(())
    }
}

/// Gives a group the processors and the memory of its parent, if it is of the hierarchy of these and has none yet: nobody could enter it.
fn fill_cpuset(root: &Root, group: &Path) -> Result<(), CgroupError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if root.read(group, name).is_some_and(|text| text.trim().is_empty())
            && let Some(parents) = group.parent().and_then(|parent| root.read(parent, name))
        {
            root.write(group, name, parents.trim(), None)?;
        }
    }
    Ok(())
}

impl CgroupDriver for V1 {
    fn name(&self) -> &'static str {
        "v1"
    }

    fn make(&self, group: &Path) -> Result<(), CgroupError> {
        for (made, (root, controllers)) in self.roots.iter().enumerate() {
            // It is among those that we have no use for, or is used.
            let cpuset = controllers.is_empty() || controllers.contains(&Controller::Cpuset);
            let fill = |folder: &Path| if cpuset { fill_cpuset(root, folder) } else { Ok(()) };
            let filled = root.make(group, fill).map_err(|e| (made, e));
            let filled = filled.and_then(|()| fill(group).map_err(|e| (made + 1, e)));
            if let Err((made, error)) = filled {
                self.roots[..made].iter().for_each(|(root, _)| _ = root.remove_if_empty(group));
                return Err(error);
            }
        }
        Ok(())
    }

    fn limit(&self, group: &Path, limits: &Limits) -> Result<(), CgroupError> {
        if let Some(root) = self.root(Controller::Cpu) {
            self.limit_cpu(root, group, limits)?;
        }
        if let (Some(root), Some(max), false) =
            (self.root(Controller::Pids), values::pids_max(limits), self.off.contains(&Control::Pids))
        {
            root.write(group, "pids.max", &max.to_string(), Some(Control::Pids))?;
        }
        let cores = limits.cores.as_ref().or(self.cpus.as_ref());
        if let (Some(root), Some(cores), false) =
            (self.root(Controller::Cpuset), cores, self.off.contains(&Control::Cpuset))
        {
            root.write(group, "cpuset.cpus", &cores.to_string(), Some(Control::Cpuset))?;
        }
        if !limits.io.is_empty() {
            self.limit_io(group, &limits.io)?;
        }
        // Last, those that may be refused for what the group holds; neither for the other's sake.
        let memory = match self.root(Controller::Memory) {
            Some(root) => self.limit_memory(root, group, limits),
            None => Ok(()),
        };
        let huge_pages = match self.root(Controller::Hugetlb) {
            Some(root) if !self.off.contains(&Control::HugePages) => {
                root.limit_huge_pages(group, ".limit_in_bytes", &limits.huge_pages)
            }
            _ => Ok(()),
        };
        both(memory, huge_pages)
    }

    fn release_io(&self, group: &Path) {
        // Of a group that is gone there is nothing to end.
        let _ = self.limit_io(group, &IoLimits::NONE);
    }

    fn birthplace(&self, _: &Path) -> Option<OwnedFd> {
        None
    }

    fn enter(&self, group: &Path, _: bool) -> Result<(), CgroupError> {
        // 0 is the writer, and `tasks` moves one thread.
        self.roots.iter().try_for_each(|(root, controllers)| match root.write(group, "tasks", "0", None) {
            // A cpuset that nobody has filled, because nobody uses it.
            Err(e) if controllers.is_empty() && e.source.raw_os_error() == Some(libc::ENOSPC) => Ok(()),
            other => other,
        })
    }

    fn adopt(&self, group: &Path, pid: i32) -> Result<(), CgroupError> {
        let used = self.roots.iter().filter(|(_, controllers)| !controllers.is_empty());
        used.filter(|(root, _)| !root.processes(group).is_ok_and(|all| all.contains(&pid)))
            .try_for_each(|(root, _)| root.write(group, "cgroup.procs", &pid.to_string(), None))
    }

    fn processes(&self, group: &Path) -> io::Result<Vec<i32>> {
        // A process may be in some of the hierarchies only, because it is just entering them.
        let mut all = BTreeSet::new();
        for (root, _) in &self.roots {
            all.extend(root.processes(group)?);
        }
        Ok(all.into_iter().collect())
    }

    fn kill(&self, group: &Path) -> Result<(), CgroupError> {
        let Some(freezer) = self.root(Controller::Freezer) else {
            kill_all(&self.processes(group).unwrap_or_default());
            return Ok(());
        };
        // Frozen processes cannot fork away from the list; they die when thawed.
        let _ = freezer.write(group, "freezer.state", "FROZEN", None);
        kill_all(&self.processes(group).unwrap_or_default());
        let _ = freezer.write(group, "freezer.state", "THAWED", None);
        Ok(())
    }

    fn measured(&self, group: &Path) -> Measured {
        let nanos = self.root(Controller::Cpuacct).and_then(|root| root.read_u64(group, "cpuacct.usage"));
        let read = |controller, file| self.root(controller).and_then(|root| root.read_u64(group, file));
        Measured {
            cpu_us: nanos.map(|n| n / 1000),
            memory_peak_bytes: self.peak(group),
            memory_bytes: read(Controller::Memory, "memory.usage_in_bytes"),
            pids: read(Controller::Pids, "pids.current"),
        }
    }

    fn memory_limit(&self, group: &Path) -> Option<u64> {
        self.root(Controller::Memory)?.read_u64(group, LIMIT)
    }

    fn pressure(&self, _: &Path) -> Pressure {
        // The kernel counts it for version 2 alone.
        Pressure::default()
    }

    fn memory_events(&self, group: &Path, limit_bytes: u64) -> MemoryEvents {
        let Some(root) = self.root(Controller::Memory) else { return MemoryEvents::default() };
        let text = root.read(group, "memory.oom_control").unwrap_or_default();
        MemoryEvents {
            kills: values::flat_keyed(&text, "oom_kill").unwrap_or(0),
            // `memory.failcnt` stays 0 when the limit on memory and swap was the one that stopped it.
            limit_reached: values::peak_reached(self.peak(group), limit_bytes),
        }
    }

    fn watch_memory(&self, group: &Path) -> Option<MemoryWatch> {
        let root = self.root(Controller::Memory)?;
        let fd: OwnedFd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
        let control = File::open(root.0.join(group).join("memory.oom_control")).ok()?;
        let request = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
        root.write(group, "cgroup.event_control", &request, None).ok()?;
        Some(MemoryWatch { fd, priority: false })
    }

    fn remove(&self, group: &Path) -> Result<bool, CgroupError> {
        let mut gone = true;
        for (root, _) in &self.roots {
            gone &= root.remove(group)?;
        }
        Ok(gone)
    }

    fn remove_if_empty(&self, group: &Path) -> bool {
        // Each hierarchy is tried, whatever the others say.
        self.roots.iter().fold(true, |gone, (root, _)| root.remove_if_empty(group) && gone)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use apportion_types::HugePages;

    use super::*;

    /// A tree with one group, whose files exist as they would after mkdir on the real file system.
    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, V1, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let group = PathBuf::from("a/b");
        let mut mounts = BTreeMap::new();
        for (hierarchy, controller) in [
            ("cpu", Controller::Cpu),
            ("cpuacct", Controller::Cpuacct),
            ("memory", Controller::Memory),
            ("pids", Controller::Pids),
        ] {
            fs::create_dir_all(dir.path().join(hierarchy).join(&group)).unwrap();
            mounts.insert(dir.path().join(hierarchy), [controller].into());
        }
        for (file, text) in files {
            let (hierarchy, name) = file.split_once('/').unwrap();
            fs::write(dir.path().join(hierarchy).join(&group).join(name), text).unwrap();
        }
        (dir, V1::new(mounts, BTreeSet::new()), group)
    }

    const LIMITS: Limits = Limits {
        cpus_request_milli: 500,
        cpus_limit_milli: Some(1_500),
        memory_request_bytes: 1 << 20,
        memory_limit_bytes: Some(2 << 20),
        swap_max_bytes: 512 << 10,
        pids_max: Some(9),
        io: apportion_types::IoLimits::NONE,
        cores: None,
        huge_pages: apportion_types::HugePages::NONE,
    };

    #[test]
    fn limits_go_into_their_files() {
        let files = [
            "cpu/cpu.shares",
            "cpu/cpu.cfs_period_us",
            "cpu/cpu.cfs_quota_us",
            "memory/memory.limit_in_bytes",
            "memory/memory.memsw.limit_in_bytes",
            "memory/memory.soft_limit_in_bytes",
            "pids/pids.max",
        ];
        let (dir, driver, group) = tree(&files.map(|f| (f, "")));
        driver.limit(&group, &LIMITS).unwrap();
        let written = files.map(|file| {
            let (hierarchy, name) = file.split_once('/').unwrap();
            fs::read_to_string(dir.path().join(hierarchy).join(&group).join(name)).unwrap()
        });
        assert_eq!(written, ["512", "100000", "150000", "2097152", "2621440", "1048576", "10"]);
    }

    /// The kernel refuses a limit of memory above that of memory and swap, whichever of them is written.
    #[test]
    fn the_limit_with_swap_goes_first_when_it_rises() {
        let (dir, driver, group) = tree(&[
            ("memory/memory.limit_in_bytes", "1048576\n"),
            ("memory/memory.memsw.limit_in_bytes", "1048576\n"),
        ]);
        let memory = dir.path().join("memory").join(&group);
        let root = driver.root(Controller::Memory).unwrap();
        // Here nothing refuses: what cannot be written shows what is written before it.
        let limit = memory.join(LIMIT);
        fs::remove_file(&limit).unwrap();
        driver.limit_memory(root, &group, &LIMITS).unwrap_err();
        assert_eq!(root.read_u64(&group, LIMIT_WITH_SWAP), Some(2_621_440));
        fs::write(memory.join(LIMIT_WITH_SWAP), "9000000\n").unwrap();
        driver.limit_memory(root, &group, &LIMITS).unwrap_err();
        assert_eq!(root.read_u64(&group, LIMIT_WITH_SWAP), Some(9_000_000));
    }

    #[test]
    fn a_cpuset_is_filled_on_the_way_down_and_then_narrowed() {
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path().to_owned();
        let driver = |cpus: Option<&str>| {
            let mounts = [(mount.clone(), [Controller::Cpuset].into())].into();
            V1::new(mounts, BTreeSet::new()).confined_to(cpus.map(|cpus| cpus.parse().unwrap()))
        };
        let group = Path::new("p/c");
        for (folder, cpus) in [("", "0-3\n"), ("p", "\n"), ("p/c", "\n")] {
            fs::create_dir_all(mount.join(folder)).unwrap();
            fs::write(mount.join(folder).join("cpuset.cpus"), cpus).unwrap();
            fs::write(mount.join(folder).join("cpuset.mems"), cpus.replace("0-3", "0")).unwrap();
        }
        let root = Root(mount.clone());
        ["p", "p/c"].iter().for_each(|folder| fill_cpuset(&root, Path::new(folder)).unwrap());
        let read = |name| fs::read_to_string(mount.join(group).join(name)).unwrap();
        assert_eq!((read("cpuset.cpus").as_str(), read("cpuset.mems").as_str()), ("0-3", "0"));
        driver(None).limit(group, &LIMITS).unwrap();
        assert_eq!(read("cpuset.cpus"), "0-3");
        driver(Some("1-2")).limit(group, &LIMITS).unwrap();
        assert!(read("cpuset.cpus").starts_with("1-2"));
        let own = Limits { cores: Some("0,3".parse().unwrap()), ..LIMITS };
        driver(Some("0-3")).limit(group, &own).unwrap();
        assert!(read("cpuset.cpus").starts_with("0,3"), "those of the container alone");
    }

    #[test]
    fn the_use_of_a_disk_is_limited_until_the_group_is_to_end() {
        let dir = tempfile::tempdir().unwrap();
        let group = Path::new("g");
        fs::create_dir(dir.path().join(group)).unwrap();
        let files = values::blkio(&IoLimits::NONE).map(|(file, _)| dir.path().join(group).join(file));
        let empty = || files.iter().for_each(|file| fs::write(file, "").unwrap());
        let read = || files.each_ref().map(|file| fs::read_to_string(file).unwrap());
        let driver = |off: &[Control]| {
            let mounts = [(dir.path().to_owned(), [Controller::Io].into())].into();
            let disk = Some(Disk { major: 8, minor: 16 });
            V1::new(mounts, off.iter().copied().collect()).limiting(disk)
        };
        let io = IoLimits {
            read_bytes_per_second: Some(1 << 20),
            write_ops_per_second: Some(50),
            ..IoLimits::NONE
        };
        empty();
        driver(&[]).limit(group, &LIMITS).unwrap();
        driver(&[Control::Io]).limit(group, &Limits { io, ..LIMITS }).unwrap();
        assert_eq!(read(), [""; 4], "nothing is asked for, or nothing is to be had");
        driver(&[]).limit(group, &Limits { io, ..LIMITS }).unwrap();
        assert_eq!(read(), ["8:16 1048576", "8:16 0", "8:16 0", "8:16 50"]);
        empty();
        driver(&[]).release_io(group);
        assert_eq!(read(), ["8:16 0"; 4]);
        fs::remove_file(&files[0]).unwrap();
        let error = driver(&[]).limit(group, &Limits { io, ..LIMITS }).unwrap_err();
        assert_eq!(error.control, Some(Control::Io));
    }

    #[test]
    fn huge_pages_are_given_to_those_who_hold_them_alone() {
        let dir = tempfile::tempdir().unwrap();
        let group = Path::new("g");
        fs::create_dir(dir.path().join(group)).unwrap();
        let files =
            ["2MB.limit_in_bytes", "2MB.rsvd.limit_in_bytes", "1GB.limit_in_bytes", "2MB.usage_in_bytes"];
        let files = files.map(|name| dir.path().join(group).join(format!("hugetlb.{name}")));
        let limited = |huge_pages| {
            files.iter().for_each(|file| fs::write(file, "").unwrap());
            let driver =
                V1::new([(dir.path().to_owned(), [Controller::Hugetlb].into())].into(), BTreeSet::new());
            driver.limit(group, &Limits { huge_pages, ..LIMITS }).unwrap();
            files.each_ref().map(|file| fs::read_to_string(file).unwrap())
        };
        let mut huge_pages = HugePages::NONE;
        huge_pages.add(2 << 20, 6 << 20);
        assert_eq!(limited(huge_pages), ["6291456", "6291456", "0", ""]);
        assert_eq!(limited(HugePages::NONE), ["0", "0", "0", ""], "nobody takes what another was promised");
    }

    #[test]
    fn huge_pages_that_are_refused_keep_nothing_else_from_being_written() {
        let dir = tempfile::tempdir().unwrap();
        let group = Path::new("g");
        let names = ["hugetlb.1GB.limit_in_bytes", "memory.limit_in_bytes"];
        // Nobody can write into a folder, as into a limit below what is in use.
        for name in ["hugetlb.2MB.limit_in_bytes", "hugetlb.64KB.limit_in_bytes"] {
            fs::create_dir_all(dir.path().join(group).join(name)).unwrap();
        }
        names.iter().for_each(|name| fs::write(dir.path().join(group).join(name), "").unwrap());
        let controllers = [Controller::Hugetlb, Controller::Memory].into();
        let driver = V1::new([(dir.path().to_owned(), controllers)].into(), [Control::Swap].into());
        let error = driver.limit(group, &LIMITS).unwrap_err();
        assert_eq!(error.control, Some(Control::HugePages));
        let written = names.map(|name| fs::read_to_string(dir.path().join(group).join(name)).unwrap());
        assert_eq!(written, ["0", "2097152"]);
    }

    #[test]
    fn a_missing_quota_file_names_the_control_that_is_lost() {
        let (_dir, driver, group) = tree(&[("cpu/cpu.shares", "")]);
        let error = driver.limit(&group, &LIMITS).unwrap_err();
        assert_eq!(error.control, Some(Control::CpuQuota));
        assert!(error.file.ends_with("cpu/a/b/cpu.cfs_period_us"), "{error}");
    }

    #[test]
    fn usage_and_memory_events() {
        let (_dir, driver, group) = tree(&[
            ("cpuacct/cpuacct.usage", "5000999\n"),
            ("memory/memory.max_usage_in_bytes", "67108000\n"),
            ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        ]);
        assert_eq!(
            driver.measured(&group),
            Measured { cpu_us: Some(5000), memory_peak_bytes: Some(67_108_000), ..Measured::default() }
        );
        assert_eq!(driver.memory_events(&group, 64 << 20), MemoryEvents { kills: 3, limit_reached: true });
        assert!(!driver.memory_events(&group, 1 << 30).limit_reached, "somebody else's limit");
    }

    #[test]
    fn make_enter_remove() {
        let (dir, driver, _) = tree(&[]);
        let group = Path::new("x/y");
        driver.make(group).unwrap();
        assert!(dir.path().join("pids/x/y").is_dir());
        assert!(driver.make(group).is_err(), "an existing group is not taken over");
        fs::remove_dir(dir.path().join("cpu/x/y")).unwrap();
        assert!(driver.make(group).is_err());
        assert!(
            !dir.path().join("cpu/x/y").exists() && dir.path().join("pids/x/y").exists(),
            "only ours is undone"
        );
        assert!(driver.enter(group, false).is_err(), "here the kernel made no files");
        fs::write(dir.path().join("pids/x/y/cgroup.procs"), "7\n0\n9\n").unwrap();
        assert_eq!(driver.processes(group).unwrap(), [7, 9]);
        assert!(!driver.remove(group).unwrap(), "not empty");
        fs::remove_file(dir.path().join("pids/x/y/cgroup.procs")).unwrap();
        assert!(driver.remove(group).unwrap());
        assert!(driver.remove(group).unwrap(), "a second time is no error");
        super::super::remove_empty_parents(&driver, group);
        assert!(!dir.path().join("cpu/x").exists());
    }
}
