//! Version 2: one hierarchy, whose controllers are handed down from parent to child.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use apportion_types::{CpuSet, IoLimits, container::Control, pressure::Pressure};

use super::{
    CgroupDriver, CgroupError, Controller, Disk, Measured, MemoryEvents, MemoryWatch,
    files::{Root, both, kill_all},
    values,
};
use crate::spec::Limits;

/// The kernel's name of a controller that is handed down, and the controls that are lost without it.
fn known(controller: Controller) -> Option<(&'static str, &'static [Control])> {
    match controller {
        Controller::Cpu => Some(("cpu", &[Control::CpuWeight, Control::CpuQuota])),
        Controller::Memory => Some(("memory", &[Control::Memory, Control::Swap])),
        Controller::Pids => Some(("pids", &[Control::Pids])),
        Controller::Cpuset => Some(("cpuset", &[Control::Cpuset])),
        Controller::Io => Some(("io", &[Control::Io])),
        Controller::Hugetlb => Some(("hugetlb", &[Control::HugePages])),
        Controller::Cpuacct | Controller::Freezer => None,
    }
}

/// The driver of the version 2 hierarchy.
///
/// Works without any controller too, as on hybrid machines: a group still can be killed at once and counts processor time.
#[derive(Debug)]
pub struct V2 {
    root: Root,
    controllers: BTreeSet<Controller>,
    off: BTreeSet<Control>,
    cpus: Option<CpuSet>,
    disk: Option<Disk>,
}

impl V2 {
    /// For this hierarchy and these of its controllers, never setting the controls that are off.
    pub fn new(mount: PathBuf, controllers: BTreeSet<Controller>, off: BTreeSet<Control>) -> Self {
        V2 { root: Root(mount), controllers, off, cpus: None, disk: None }
    }

    /// With groups that are confined to these processors.
    pub fn confined_to(self, cpus: Option<CpuSet>) -> Self {
        V2 { cpus, ..self }
    }

    /// With groups whose use of this disk is limited.
    pub fn limiting(self, disk: Option<Disk>) -> Self {
        V2 { disk, ..self }
    }

    /// Hands the controllers down to the children of `folder`, as far as they are not yet.
    fn hand_down(&self, folder: &Path) -> Result<(), CgroupError> {
        if self.controllers.is_empty() {
            return Ok(());
        }
        let now = self.root.read(folder, "cgroup.subtree_control").unwrap_or_default();
        let handed = |name: &str| now.split_whitespace().any(|n| n == name);
        for controller in &self.controllers {
            let Some((name, controls)) = known(*controller) else { continue };
            // Each write fails for its own controller alone: where an ordinary user is given some, others are not among them.
            let lost = controls.iter().copied().find(|control| !self.off.contains(control));
            if lost.is_some() && !handed(name) {
                self.root.write(folder, "cgroup.subtree_control", &format!("+{name}"), lost)?;
            }
        }
        Ok(())
    }

    fn wants(&self, controller: Controller, control: Control) -> bool {
        self.controllers.contains(&controller) && !self.off.contains(&control)
    }

    fn limit_io(&self, group: &Path, io: &IoLimits) -> Result<(), CgroupError> {
        let Some(disk) = self.disk.filter(|_| self.wants(Controller::Io, Control::Io)) else { return Ok(()) };
        self.root.write(group, "io.max", &format!("{disk} {}", values::io_max(io)), Some(Control::Io))
    }

    /// Has the kernel take back what it can of what the group holds above this; an error when that is not enough. `memory.max` below what is
    /// held would end who holds it.
    fn take_back(&self, group: &Path, limit: u64) -> Result<(), CgroupError> {
        let control = Some(Control::Memory);
        let above = || self.root.read_u64(group, "memory.current").is_some_and(|held| held > limit);
        if !above() {
            return Ok(());
        }
        self.root.write(group, "memory.high", &limit.to_string(), control)?;
        if !above() {
            return Ok(());
        }
        self.give_way(group)?;
        Err(self.root.busy(group, "memory.max", limit, control))
    }

    /// Ends what [`V2::take_back`] began, also in an agent that ended meanwhile: nobody is to be throttled for ever.
    fn give_way(&self, group: &Path) -> Result<(), CgroupError> {
        match self.root.read(group, "memory.high") {
            Some(high) if high.trim() != "max" => {
                self.root.write(group, "memory.high", "max", Some(Control::Memory))
            }
            _ => Ok(()),
        }
    }

    fn limit_memory(&self, group: &Path, limits: &Limits) -> Result<(), CgroupError> {
        let control = Some(Control::Memory);
        // First, and no request too: what is protected is not taken back.
        if self.root.exists(group, "memory.low") {
            let low = values::memory_bytes(limits.memory_request_bytes).to_string();
            self.root.write(group, "memory.low", &low, control)?;
        }
        if let Some(limit) = limits.memory_limit_bytes {
            let limit = values::memory_bytes(limit);
            self.take_back(group, limit)?;
            self.root.write(group, "memory.max", &limit.to_string(), control)?;
            self.give_way(group)?;
            // The kernel then kills the whole group at once; where it is absent, the runner does it.
            if self.root.exists(group, "memory.oom.group") {
                self.root.write(group, "memory.oom.group", "1", control)?;
            }
        }
        Ok(())
    }
}

impl CgroupDriver for V2 {
    fn name(&self) -> &'static str {
        "v2"
    }

    fn make(&self, group: &Path) -> Result<(), CgroupError> {
        self.root.make(group, |parent| self.hand_down(parent))
    }

    fn limit(&self, group: &Path, limits: &Limits) -> Result<(), CgroupError> {
        if self.wants(Controller::Cpu, Control::CpuWeight) {
            let weight = values::cpu_weight(limits).to_string();
            self.root.write(group, "cpu.weight", &weight, Some(Control::CpuWeight))?;
        }
        if let Some(quota) =
            values::cpu_quota_us(limits).filter(|_| self.wants(Controller::Cpu, Control::CpuQuota))
        {
            let max = format!("{quota} {}", values::CPU_PERIOD_US);
            self.root.write(group, "cpu.max", &max, Some(Control::CpuQuota))?;
        }
        if self.wants(Controller::Memory, Control::Swap) {
            let max = values::memory_bytes(limits.swap_max_bytes).to_string();
            self.root.write(group, "memory.swap.max", &max, Some(Control::Swap))?;
        }
        if let Some(max) = values::pids_max(limits).filter(|_| self.wants(Controller::Pids, Control::Pids)) {
            self.root.write(group, "pids.max", &max.to_string(), Some(Control::Pids))?;
        }
        let cores = limits.cores.as_ref().or(self.cpus.as_ref());
        if let Some(cores) = cores.filter(|_| self.wants(Controller::Cpuset, Control::Cpuset)) {
            self.root.write(group, "cpuset.cpus", &cores.to_string(), Some(Control::Cpuset))?;
        }
        if !limits.io.is_empty() {
            self.limit_io(group, &limits.io)?;
        }
        // Last, those that may be refused for what the group holds; neither for the other's sake.
        let memory = match self.wants(Controller::Memory, Control::Memory) {
            true => self.limit_memory(group, limits),
            false => Ok(()),
        };
        let huge_pages = match self.wants(Controller::Hugetlb, Control::HugePages) {
            true => self.root.limit_huge_pages(group, ".max", &limits.huge_pages),
            false => Ok(()),
        };
        both(memory, huge_pages)
    }

    fn release_io(&self, group: &Path) {
        // Of a group that is gone there is nothing to end.
        let _ = self.limit_io(group, &IoLimits::NONE);
    }

    fn birthplace(&self, group: &Path) -> Option<OwnedFd> {
        File::open(self.root.0.join(group)).ok().map(OwnedFd::from)
    }

    fn enter(&self, group: &Path, born_inside: bool) -> Result<(), CgroupError> {
        if born_inside {
            return Ok(());
        }
        self.root.write(group, "cgroup.procs", "0", None)
    }

    fn adopt(&self, group: &Path, pid: i32) -> Result<(), CgroupError> {
        match self.root.processes(group).is_ok_and(|all| all.contains(&pid)) {
            true => Ok(()),
            false => self.root.write(group, "cgroup.procs", &pid.to_string(), None),
        }
    }

    fn processes(&self, group: &Path) -> io::Result<Vec<i32>> {
        self.root.processes(group)
    }

    fn kill(&self, group: &Path) -> Result<(), CgroupError> {
        // Since Linux 5.14; it reaches processes that are just being forked.
        if self.root.exists(group, "cgroup.kill") {
            return self.root.write(group, "cgroup.kill", "1", None);
        }
        let _ = self.root.write(group, "cgroup.freeze", "1", None);
        kill_all(&self.processes(group).unwrap_or_default());
        let _ = self.root.write(group, "cgroup.freeze", "0", None);
        Ok(())
    }

    fn measured(&self, group: &Path) -> Measured {
        let stat = self.root.read(group, "cpu.stat");
        Measured {
            cpu_us: stat.and_then(|text| values::flat_keyed(&text, "usage_usec")),
            memory_peak_bytes: self.root.read_u64(group, "memory.peak"),
            memory_bytes: self.root.read_u64(group, "memory.current"),
            pids: self.root.read_u64(group, "pids.current"),
        }
    }

    fn memory_limit(&self, group: &Path) -> Option<u64> {
        // The word `max` is no number.
        self.root.read_u64(group, "memory.max")
    }

    fn pressure(&self, group: &Path) -> Pressure {
        // Not there, or not to be read, where the kernel was started without counting it.
        let stalls = |name| values::stalls(&self.root.read(group, name)?);
        Pressure { cpu: stalls("cpu.pressure"), memory: stalls("memory.pressure"), io: stalls("io.pressure") }
    }

    fn memory_events(&self, group: &Path, _: u64) -> MemoryEvents {
        let text = self.root.read(group, "memory.events").unwrap_or_default();
        MemoryEvents {
            kills: values::flat_keyed(&text, "oom_kill").unwrap_or(0),
            limit_reached: values::flat_keyed(&text, "oom").is_some_and(|n| n > 0),
        }
    }

    fn watch_memory(&self, group: &Path) -> Option<MemoryWatch> {
        // A poll for POLLPRI, not inotify: the kernel grants few inotify instances to one user.
        let mut file = File::open(self.root.0.join(group).join("memory.events")).ok()?;
        // Only what happens after the first read is signalled.
        file.read_to_end(&mut Vec::new()).ok()?;
        Some(MemoryWatch { fd: file.into(), priority: true })
    }

    fn remove(&self, group: &Path) -> Result<bool, CgroupError> {
        self.root.remove(group)
    }

    fn remove_if_empty(&self, group: &Path) -> bool {
        self.root.remove_if_empty(group)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use apportion_types::HugePages;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, V2, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let group = PathBuf::from("a/b");
        fs::create_dir_all(dir.path().join(&group)).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(&group).join(name), text).unwrap();
        }
        let controllers = [Controller::Cpu, Controller::Memory, Controller::Pids].into();
        let driver = V2::new(dir.path().to_owned(), controllers, BTreeSet::new());
        (dir, driver, group)
    }

    const LIMITS: Limits = Limits {
        cpus_request_milli: 1_000,
        cpus_limit_milli: Some(200),
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
            "cpu.weight",
            "cpu.max",
            "memory.max",
            "memory.swap.max",
            "memory.oom.group",
            "memory.low",
            "pids.max",
        ];
        let (dir, driver, group) = tree(&files.map(|f| (f, "")));
        driver.limit(&group, &LIMITS).unwrap();
        let written = files.map(|name| fs::read_to_string(dir.path().join(&group).join(name)).unwrap());
        assert_eq!(written, ["39", "20000 100000", "2097152", "524288", "1", "1048576", "10"]);
    }

    #[test]
    fn a_ceiling_below_what_is_held_kills_nobody() {
        let files = [("memory.max", "4194304"), ("memory.high", ""), ("memory.current", "3145728\n")];
        let (dir, driver, group) = tree(&files);
        assert_eq!(driver.memory_limit(&group), Some(4 << 20));
        let error = driver.limit_memory(&group, &LIMITS).unwrap_err();
        assert_eq!(error.source.kind(), std::io::ErrorKind::ResourceBusy);
        let read = |name| fs::read_to_string(dir.path().join(&group).join(name)).unwrap();
        assert_eq!(read("memory.max"), "4194304");
        assert!(read("memory.high").starts_with("max"), "it is not throttled for ever");
        // One that was cut off in between is mended by the next.
        for (name, text) in [("memory.high", "1048576\n"), ("memory.current", "4096\n")] {
            fs::write(dir.path().join(&group).join(name), text).unwrap();
        }
        driver.limit_memory(&group, &LIMITS).unwrap();
        assert!(read("memory.high").starts_with("max"), "nor when its agent has ended");
        fs::write(dir.path().join(&group).join("memory.max"), "max\n").unwrap();
        assert_eq!(driver.memory_limit(&group), None);
    }

    #[test]
    fn protection_goes_with_its_request_and_before_memory_is_taken_back() {
        let files = [
            ("memory.max", "max"),
            ("memory.high", ""),
            ("memory.current", "3145728\n"),
            ("memory.low", "9"),
        ];
        let (dir, driver, group) = tree(&files);
        let error = driver.limit_memory(&group, &Limits { memory_request_bytes: 0, ..LIMITS }).unwrap_err();
        assert_eq!(error.source.kind(), std::io::ErrorKind::ResourceBusy);
        assert_eq!(fs::read_to_string(dir.path().join(&group).join("memory.low")).unwrap(), "0");
    }

    #[test]
    fn a_control_that_is_off_is_not_written() {
        let (dir, _, group) = tree(&[("cpu.weight", ""), ("pids.max", "")]);
        let off = [Control::CpuQuota, Control::Memory, Control::Swap].into();
        let driver = V2::new(
            dir.path().to_owned(),
            [Controller::Cpu, Controller::Memory, Controller::Pids].into(),
            off,
        );
        driver.limit(&group, &LIMITS).unwrap();
        let cpuset = V2::new(dir.path().to_owned(), [Controller::Cpuset].into(), BTreeSet::new())
            .confined_to(Some("0-1".parse().unwrap()));
        fs::write(dir.path().join(&group).join("cpuset.cpus"), "").unwrap();
        cpuset.limit(&group, &LIMITS).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(&group).join("cpuset.cpus")).unwrap(), "0-1");
        cpuset.limit(&group, &Limits { cores: Some("2,4-5".parse().unwrap()), ..LIMITS }).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(&group).join("cpuset.cpus")).unwrap(), "2,4-5");
        let bare = V2::new(dir.path().to_owned(), BTreeSet::new(), BTreeSet::new());
        bare.limit(Path::new("nowhere"), &LIMITS).unwrap();
    }

    #[test]
    fn the_use_of_a_disk_is_limited_until_the_group_is_to_end() {
        let (dir, memory, group) = tree(&[("io.max", ""), ("memory.max", "")]);
        let io = IoLimits { write_bytes_per_second: Some(1 << 20), ..IoLimits::NONE };
        let driver = V2::new(dir.path().to_owned(), [Controller::Io].into(), BTreeSet::new())
            .limiting(Some(Disk { major: 8, minor: 16 }));
        let read = || fs::read_to_string(dir.path().join(&group).join("io.max")).unwrap();
        driver.limit(&group, &LIMITS).unwrap();
        memory.release_io(&group);
        assert_eq!(read(), "", "nothing is asked for, or nothing is to be had");
        driver.limit(&group, &Limits { io, ..LIMITS }).unwrap();
        assert_eq!(read(), "8:16 rbps=max wbps=1048576 riops=max wiops=max");
        fs::write(dir.path().join(&group).join("io.max"), "").unwrap();
        driver.release_io(&group);
        assert_eq!(read(), "8:16 rbps=max wbps=max riops=max wiops=max");
    }

    #[test]
    fn huge_pages_are_given_to_those_who_hold_them_alone() {
        let files = ["2MB.max", "2MB.rsvd.max", "1GB.max", "2MB.events", "1GB.current"];
        let names = files.map(|name| format!("hugetlb.{name}"));
        let (dir, _, group) = tree(&names.each_ref().map(|name| (name.as_str(), "")));
        let read =
            || names.each_ref().map(|name| fs::read_to_string(dir.path().join(&group).join(name)).unwrap());
        let driver = |off| V2::new(dir.path().to_owned(), [Controller::Hugetlb].into(), off);
        let mut huge_pages = HugePages::NONE;
        huge_pages.add(2 << 20, 6 << 20);
        let limits = Limits { huge_pages, ..LIMITS };
        driver([Control::HugePages].into()).limit(&group, &limits).unwrap();
        assert_eq!(read(), [""; 5]);
        driver(BTreeSet::new()).limit(&group, &limits).unwrap();
        assert_eq!(read(), ["6291456", "6291456", "0", "", ""]);
        names.iter().for_each(|name| fs::write(dir.path().join(&group).join(name), "").unwrap());
        driver(BTreeSet::new()).limit(&group, &LIMITS).unwrap();
        assert_eq!(read(), ["0", "0", "0", "", ""], "nobody takes what another was promised");
        let error = driver(BTreeSet::new()).limit(Path::new("nowhere"), &limits).unwrap_err();
        assert_eq!(error.control, Some(Control::HugePages));
    }

    #[test]
    fn huge_pages_that_are_refused_keep_nothing_else_from_being_written() {
        let files = ["hugetlb.1GB.max", "hugetlb.1GB.rsvd.max", "memory.max"];
        let (dir, _, group) = tree(&files.map(|name| (name, "")));
        let controllers = [Controller::Hugetlb, Controller::Memory].into();
        let driver = V2::new(dir.path().to_owned(), controllers, [Control::Swap].into());
        // Nobody can write into a folder, as into a limit below what is in use.
        for name in ["hugetlb.2MB.max", "hugetlb.64KB.max"] {
            fs::create_dir(dir.path().join(&group).join(name)).unwrap();
        }
        let error = driver.limit(&group, &LIMITS).unwrap_err();
        assert_eq!(error.control, Some(Control::HugePages));
        let written = files.map(|name| fs::read_to_string(dir.path().join(&group).join(name)).unwrap());
        assert_eq!(written, ["0", "0", "2097152"]);
        // Nor the other way about.
        fs::write(dir.path().join(&group).join("memory.current"), "3145728").unwrap();
        ["memory.high", "hugetlb.1GB.max"]
            .iter()
            .for_each(|name| fs::write(dir.path().join(&group).join(name), "").unwrap());
        driver.limit(&group, &LIMITS).unwrap_err();
        assert_eq!(fs::read_to_string(dir.path().join(&group).join("hugetlb.1GB.max")).unwrap(), "0");
    }

    #[test]
    fn controllers_are_handed_down_from_the_root_to_the_parent() {
        let (dir, driver, _) = tree(&[]);
        fs::write(dir.path().join("cgroup.subtree_control"), "cpuset cpu memory pids\n").unwrap();
        fs::create_dir(dir.path().join("p")).unwrap();
        fs::write(dir.path().join("p/cgroup.subtree_control"), "cpu memory").unwrap();
        driver.make(Path::new("p/c")).unwrap();
        // What a real file would execute, this one keeps: only the missing one was written.
        assert!(
            fs::read_to_string(dir.path().join("p/cgroup.subtree_control")).unwrap().starts_with("+pids")
        );
        assert!(!dir.path().join("p/c/cgroup.subtree_control").exists());
    }

    #[test]
    fn a_controller_that_is_not_handed_down_is_lost_alone() {
        let (dir, ..) = tree(&[]);
        let lost = |controller, off: &[Control]| {
            let off = off.iter().copied().collect();
            let made = V2::new(dir.path().to_owned(), [controller].into(), off).make(Path::new("p/c"));
            // Without the file nothing can be handed down.
            made.err().map(|error| error.control)
        };
        for (controller, controls) in [
            (Controller::Io, &[Control::Io][..]),
            (Controller::Hugetlb, &[Control::HugePages]),
            (Controller::Cpuset, &[Control::Cpuset]),
            (Controller::Pids, &[Control::Pids]),
            (Controller::Cpu, &[Control::CpuWeight, Control::CpuQuota]),
            (Controller::Memory, &[Control::Memory, Control::Swap]),
        ] {
            for (already, control) in controls.iter().enumerate() {
                assert_eq!(lost(controller, &controls[..already]), Some(Some(*control)), "{controller:?}");
            }
            assert_eq!(lost(controller, controls), None, "{controller:?}: what is off is not needed");
            fs::remove_dir(dir.path().join("p/c")).unwrap();
        }
    }

    #[test]
    fn a_process_born_inside_need_not_move() {
        let (dir, driver, group) = tree(&[("cgroup.procs", "")]);
        assert!(driver.birthplace(&group).is_some());
        driver.enter(&group, true).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(&group).join("cgroup.procs")).unwrap(), "");
        driver.enter(&group, false).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(&group).join("cgroup.procs")).unwrap(), "0");
    }

    #[test]
    fn kill_prefers_the_kernels_own() {
        let (dir, driver, group) = tree(&[("cgroup.kill", ""), ("cgroup.procs", "1\n")]);
        driver.kill(&group).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(&group).join("cgroup.kill")).unwrap(), "1");
    }

    #[test]
    fn usage_and_memory_events() {
        let (_dir, driver, group) = tree(&[
            ("cpu.stat", "usage_usec 5245589\nuser_usec 5000000\n"),
            ("memory.peak", "1048576\n"),
            ("memory.events", "low 0\nhigh 0\nmax 35\noom 1\noom_kill 1\noom_group_kill 0\n"),
            ("cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\n"),
            ("io.pressure", ""),
        ]);
        let pressure = driver.pressure(&group);
        assert_eq!(pressure.cpu.unwrap().some.avg10_basis_points, 150);
        assert_eq!((pressure.memory, pressure.io), (None, None), "absent, not zero");
        assert_eq!(
            driver.measured(&group),
            Measured { cpu_us: Some(5_245_589), memory_peak_bytes: Some(1 << 20), ..Measured::default() }
        );
        assert_eq!(driver.memory_events(&group, 1), MemoryEvents { kills: 1, limit_reached: true });
        assert_eq!(driver.measured(Path::new("gone")), Measured::default());
        assert_eq!(driver.memory_events(Path::new("gone"), 1), MemoryEvents::default());
    }
}
