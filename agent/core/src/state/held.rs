//! What a container is held to.

use apportion_types::{CpuSet, TaskInfo, resources::Ranges};

use super::task::Task;
use crate::container::{Ceilings, ports};

/// What a container is held to, or was asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) ceilings: Ceilings,
    pub(crate) ports: Ranges,
    /// The cores that it may run on; none when it can be held to none.
    pub(crate) cores: Option<CpuSet>,
}

impl Held {
    /// What the container of a task has, when all others share these cores.
    pub(crate) fn of(task: &Task, pids_default: u64, shared: Option<CpuSet>) -> Self {
        let info = &task.record.info;
        let cores = task.record.cores.clone().or(shared);
        Self { ceilings: Ceilings::of(info, pids_default), ports: ports(info), cores }
    }

    /// The same, with what a task brings that is run in it.
    pub(crate) fn add(&mut self, info: &TaskInfo, pids_default: u64) {
        self.ceilings.add(&Ceilings::asked(info, pids_default));
        self.ports.add(&ports(info));
    }
}
