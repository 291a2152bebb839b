//! Control groups: which hierarchies this machine has, and one driver for each way of having them.
//!
//! A group is named by its path below the hierarchies' roots, such as `apportion/agent-1/task-7`, never relative to the
//! group of the calling process: a container must not end up inside whatever group the agent was started in.

mod clear;
mod disk;
mod files;
mod hybrid;
mod mounts;
mod none;
mod v1;
mod v2;
pub mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use apportion_types::{CpuSet, container::Control, pressure::Pressure};
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    clear::{kill_group, remove_empty_parents, remove_group},
    mounts::points as mount_points,
};
pub use self::{
    disk::{Disk, NoDisk},
    hybrid::Hybrid,
    none::None,
    v1::V1,
    v2::V2,
};
use crate::{huge_pages::huge_pages, spec::Limits};

/// What a hierarchy can do to the processes in its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    /// Weights and quota of processor time.
    Cpu,
    /// Counts processor time (version 1 only; version 2 always counts).
    Cpuacct,
    /// Limits and counts memory.
    Memory,
    /// Limits the number of processes and threads.
    Pids,
    /// Confines to some processors.
    Cpuset,
    /// Limits what is read from disks and written to them (`blkio` in version 1).
    Io,
    /// Limits memory in huge pages.
    Hugetlb,
    /// Stops all processes at once (version 1 only, used to kill without a race).
    Freezer,
}

/// Where this machine's control groups are, and what of them is to be used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Layout {
    /// Version 1 hierarchies: mount point, and the controllers of ours that it holds, which may be none.
    pub v1: BTreeMap<PathBuf, BTreeSet<Controller>>,
    /// The version 2 hierarchy: mount point, and the controllers of ours that it offers (none on most hybrid layouts).
    pub v2: Option<(PathBuf, BTreeSet<Controller>)>,
    /// Controls not to be set, because a trial failed.
    pub off: BTreeSet<Control>,
    /// The processors to which all groups are confined, as far as there is a controller for that; all when none.
    #[serde(default)]
    pub cpus: Option<CpuSet>,
    /// The disk whose use is limited; none that can be when none.
    #[serde(default)]
    pub disk: Option<Disk>,
}

impl Layout {
    /// Reads what is mounted, for groups that are confined to these processors, or to none, and limited in their use of this disk, or of none; a
    /// machine without control groups gives an empty layout.
    pub fn detect(cpus: Option<CpuSet>, disk: Option<Disk>) -> io::Result<Layout> {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")?;
        let mut layout = mounts::layout(&mountinfo, |mount| {
            std::fs::read_to_string(mount.join("cgroup.controllers")).ok()
        });
        if cpus.is_none() {
            // Each further hierarchy costs every launch a move.
            layout.leave_out(Controller::Cpuset);
        }
        if disk.is_none() {
            layout.leave_out(Controller::Io);
        }
        if huge_pages().is_empty() {
            layout.leave_out(Controller::Hugetlb);
        }
        layout.cpus = cpus;
        layout.disk = disk;
        Ok(layout)
    }

    /// Forgets a controller, and a version 1 hierarchy that has no other of ours.
    pub(crate) fn leave_out(&mut self, controller: Controller) {
        self.v1.retain(|_, controllers| !controllers.remove(&controller) || !controllers.is_empty());
        if let Some((_, controllers)) = &mut self.v2 {
            controllers.remove(&controller);
        }
    }

    /// The same, with those version 1 hierarchies too that we have no use for, but into which an OCI runtime puts its containers: what
    /// it makes there is then made and removed with the rest.
    pub(crate) fn with_all_hierarchies(mut self) -> io::Result<Layout> {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")?;
        for mount in mounts::others(&mountinfo, &self) {
            self.v1.insert(mount, BTreeSet::new());
        }
        Ok(self)
    }

    /// The driver for this layout.
    pub fn driver(&self) -> Box<dyn CgroupDriver> {
        let v1 =
            || V1::new(self.v1.clone(), self.off.clone()).confined_to(self.cpus.clone()).limiting(self.disk);
        let v2 = |(mount, controllers): &(PathBuf, BTreeSet<Controller>)| {
            let v2 = V2::new(mount.clone(), controllers.clone(), self.off.clone());
            v2.confined_to(self.cpus.clone()).limiting(self.disk)
        };
        match (self.v1.is_empty(), &self.v2) {
            (true, Option::None) => Box::new(None),
            (true, Some(unified)) => Box::new(v2(unified)),
            (false, Option::None) => Box::new(v1()),
            (false, Some(unified)) => Box::new(Hybrid::new(v1(), v2(unified))),
        }
    }

    /// True when some hierarchy has this controller.
    pub fn has(&self, controller: Controller) -> bool {
        self.v1.values().any(|c| c.contains(&controller))
            || self.v2.as_ref().is_some_and(|(_, c)| c.contains(&controller))
    }

    /// True when some hierarchy has this controller, and the control is set there.
    pub(crate) fn sets(&self, controller: Controller, control: Control) -> bool {
        self.has(controller) && !self.off.contains(&control)
    }

    /// Forgets the hierarchy mounted at `mount`.
    pub fn drop_hierarchy(&mut self, mount: &Path) {
        self.v1.remove(mount);
        if self.v2.as_ref().is_some_and(|(m, _)| m == mount) {
            self.v2 = Option::None;
        }
    }
}

/// A file or folder of a hierarchy could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cgroup file {file:?}: {what} failed")]
pub struct CgroupError {
    /// The root of the hierarchy.
    pub mount: PathBuf,
    /// The file or folder.
    pub file: PathBuf,
    /// What was done to it, with the value written.
    pub what: String,
    /// The control that is lost without it; none when the whole hierarchy is.
    pub control: Option<Control>,
    /// What the kernel said.
    pub source: io::Error,
}

/// What a group has used so far; each value where something counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// Processor time, user and system.
    pub cpu_us: Option<u64>,
    /// The most memory held at once.
    pub memory_peak_bytes: Option<u64>,
    /// The memory that is charged now, with what is cached of files.
    pub memory_bytes: Option<u64>,
    /// Processes and threads now.
    pub pids: Option<u64>,
}

/// What the kernel counted of a group's lack of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryEvents {
    /// Processes of the group that the kernel killed for want of memory, under whatever limit.
    pub kills: u64,
    /// True when the group's own limit was reached, as far as can be known.
    pub limit_reached: bool,
}

/// Becomes ready when the kernel may have counted a new [`MemoryEvents`].
#[derive(Debug)]
pub struct MemoryWatch {
    /// The descriptor to poll.
    pub fd: OwnedFd,
    /// Poll for `POLLPRI` (version 2) instead of `POLLIN` (version 1).
    pub priority: bool,
}

/// One way of having control groups.
///
/// Used by the runner for its container, and by the agent to clear away what a killed runner left. A control that the layout
/// lacks is skipped without an error: the agent says at registration what it cannot enforce.
pub trait CgroupDriver: fmt::Debug + Send + Sync {
    /// The name of the layout, for people: `v1`, `v2`, `hybrid`, `none`.
    fn name(&self) -> &'static str;

    /// Makes the group and its missing parents in every hierarchy; a group that exists is an error, and left alone.
    ///
    /// On error no group of that name is left that was not there before.
    fn make(&self, group: &Path) -> Result<(), CgroupError>;

    /// Writes the limits into a group; into one that was limited before they go in an order in which none is ever in the way of another.
    ///
    /// A ceiling of memory, or of huge pages, below what the group holds is an error, after the kernel has taken back what it can and all else is
    /// written: nobody is killed by it.
    fn limit(&self, group: &Path, limits: &Limits) -> Result<(), CgroupError>;

    /// Ends what [`CgroupDriver::limit`] set for the use of disks, in a group that is to end: a process that was killed is not gone before the
    /// kernel has done what it had asked for, which under a limit can take days.
    fn release_io(&self, group: &Path);

    /// The folder into which a process can be cloned, so that it need not move there; none in version 1.
    fn birthplace(&self, group: &Path) -> Option<OwnedFd>;

    /// Moves the calling process, which must have one thread, into the group in every hierarchy, but for the one of its
    /// [`CgroupDriver::birthplace`] if it was born there. What it starts from then on is in the group too.
    ///
    /// It moves itself and is not moved by another, because only that does not make the kernel wait, for milliseconds, until
    /// no process of the machine is just being forked.
    fn enter(&self, group: &Path, born_inside: bool) -> Result<(), CgroupError>;

    /// Moves another process into the group in every hierarchy that has a use here and in which it is not there yet.
    fn adopt(&self, group: &Path, pid: i32) -> Result<(), CgroupError>;

    /// The processes of the group, as seen from the caller's process namespace; none when there is no such group. An error, of a
    /// machine short of something, says nothing of any.
    fn processes(&self, group: &Path) -> io::Result<Vec<i32>>;

    /// Kills every process of the group once; a process forked meanwhile may escape where neither `cgroup.kill` nor a freezer
    /// exists, so callers repeat it until [`CgroupDriver::processes`] is empty.
    fn kill(&self, group: &Path) -> Result<(), CgroupError>;

    /// What the group has used.
    fn measured(&self, group: &Path) -> Measured;

    /// The ceiling of memory that it is held to now, in whole pages; none where it has none.
    fn memory_limit(&self, group: &Path) -> Option<u64>;

    /// How much the group waits for what it lacks. Apart from what it has used, because it is not asked for at each end.
    fn pressure(&self, group: &Path) -> Pressure;

    /// What the kernel counted of its lack of memory, given its limit.
    fn memory_events(&self, group: &Path, limit_bytes: u64) -> MemoryEvents;

    /// Watches for lack of memory; none where nothing can be watched.
    fn watch_memory(&self, group: &Path) -> Option<MemoryWatch>;

    /// Removes the group everywhere, with empty groups that the container made inside; false while any of them holds
    /// processes. A missing group is no error.
    fn remove(&self, group: &Path) -> Result<bool, CgroupError>;

    /// Removes the group where it holds neither processes nor groups, not even empty ones; true when it is gone everywhere.
    fn remove_if_empty(&self, group: &Path) -> bool;
}
