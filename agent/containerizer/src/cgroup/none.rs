//! No control groups: nothing is limited, nothing is counted.

use std::{io, os::fd::OwnedFd, path::Path};

use apportion_types::pressure::Pressure;

use super::{CgroupDriver, CgroupError, Measured, MemoryEvents, MemoryWatch};
use crate::spec::Limits;

/// The driver of a machine, or a user, without control groups.
#[derive(Debug, Clone, Copy)]
pub struct None;

impl CgroupDriver for None {
    fn name(&self) -> &'static str {
        "none"
    }

    fn make(&self, _: &Path) -> Result<(), CgroupError> {
        Ok(())
    }

    fn limit(&self, _: &Path, _: &Limits) -> Result<(), CgroupError> {
        Ok(())
    }

    fn release_io(&self, _: &Path) {}

    fn birthplace(&self, _: &Path) -> Option<OwnedFd> {
        Option::None
    }

    fn enter(&self, _: &Path, _: bool) -> Result<(), CgroupError> {
        Ok(())
    }

    fn adopt(&self, _: &Path, _: i32) -> Result<(), CgroupError> {
        Ok(())
    }

    fn processes(&self, _: &Path) -> io::Result<Vec<i32>> {
        Ok(Vec::new())
    }

    fn kill(&self, _: &Path) -> Result<(), CgroupError> {
        Ok(())
    }

    fn measured(&self, _: &Path) -> Measured {
        Measured::default()
    }

    fn memory_limit(&self, _: &Path) -> Option<u64> {
        Option::None
    }

    fn pressure(&self, _: &Path) -> Pressure {
        Pressure::default()
    }

    fn memory_events(&self, _: &Path, _: u64) -> MemoryEvents {
        MemoryEvents::default()
    }

    fn watch_memory(&self, _: &Path) -> Option<MemoryWatch> {
        Option::None
    }

    fn remove(&self, _: &Path) -> Result<bool, CgroupError> {
        Ok(true)
    }

    fn remove_if_empty(&self, _: &Path) -> bool {
        true
    }
}
