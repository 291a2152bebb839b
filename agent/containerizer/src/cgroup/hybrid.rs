//! Both versions side by side: limits where their controllers are, mostly version 1, and version 2 to kill a group at once.

use std::{io, os::fd::OwnedFd, path::Path};

use apportion_types::pressure::Pressure;

use super::{CgroupDriver, CgroupError, Measured, MemoryEvents, MemoryWatch, V1, V2, files::both};
use crate::spec::Limits;

/// The driver of machines that mount version 1 controllers beside a version 2 hierarchy.
#[derive(Debug)]
pub struct Hybrid {
    v1: V1,
    v2: V2,
}

impl Hybrid {
    /// Joins the two; a controller is in one of them only.
    pub fn new(v1: V1, v2: V2) -> Self {
        Hybrid { v1, v2 }
    }
}

impl CgroupDriver for Hybrid {
    fn name(&self) -> &'static str {
        "hybrid"
    }

    fn make(&self, group: &Path) -> Result<(), CgroupError> {
        self.v1.make(group)?;
        self.v2.make(group).inspect_err(|_| _ = self.v1.remove_if_empty(group))
    }

    fn limit(&self, group: &Path, limits: &Limits) -> Result<(), CgroupError> {
        both(self.v1.limit(group, limits), self.v2.limit(group, limits))
    }

    fn release_io(&self, group: &Path) {
        self.v1.release_io(group);
        self.v2.release_io(group);
    }

    fn birthplace(&self, group: &Path) -> Option<OwnedFd> {
        self.v2.birthplace(group)
    }

    fn enter(&self, group: &Path, born_inside: bool) -> Result<(), CgroupError> {
        self.v1.enter(group, born_inside)?;
        self.v2.enter(group, born_inside)
    }

    fn adopt(&self, group: &Path, pid: i32) -> Result<(), CgroupError> {
        self.v1.adopt(group, pid)?;
        self.v2.adopt(group, pid)
    }

    fn processes(&self, group: &Path) -> io::Result<Vec<i32>> {
        let mut all = self.v2.processes(group)?;
        all.extend(self.v1.processes(group)?);
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    fn kill(&self, group: &Path) -> Result<(), CgroupError> {
        self.v2.kill(group)?;
        // A process that is in version 1 only, because it was killed in between.
        self.v1.kill(group)
    }

    fn measured(&self, group: &Path) -> Measured {
        let (v1, v2) = (self.v1.measured(group), self.v2.measured(group));
        Measured {
            cpu_us: v1.cpu_us.or(v2.cpu_us),
            memory_peak_bytes: v1.memory_peak_bytes.or(v2.memory_peak_bytes),
            memory_bytes: v1.memory_bytes.or(v2.memory_bytes),
            pids: v1.pids.or(v2.pids),
        }
    }

    fn memory_limit(&self, group: &Path) -> Option<u64> {
        self.v1.memory_limit(group).or_else(|| self.v2.memory_limit(group))
    }

    fn pressure(&self, group: &Path) -> Pressure {
        self.v2.pressure(group)
    }

    fn memory_events(&self, group: &Path, limit_bytes: u64) -> MemoryEvents {
        let v1 = self.v1.memory_events(group, limit_bytes);
        if v1.kills > 0 || v1.limit_reached { v1 } else { self.v2.memory_events(group, limit_bytes) }
    }

    fn watch_memory(&self, group: &Path) -> Option<MemoryWatch> {
        self.v1.watch_memory(group).or_else(|| self.v2.watch_memory(group))
    }

    fn remove(&self, group: &Path) -> Result<bool, CgroupError> {
        let v1 = self.v1.remove(group)?;
        Ok(self.v2.remove(group)? && v1)
    }

    fn remove_if_empty(&self, group: &Path) -> bool {
        let v1 = self.v1.remove_if_empty(group);
        self.v2.remove_if_empty(group) && v1
    }
}
