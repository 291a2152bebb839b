//! Emptying and removing groups, for the runner at its container's end and for the agent after a killed runner.

use std::{
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{CgroupDriver, CgroupError};

/// How long a group without processes may refuse to go; the kernel needs a moment after the last one.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Kills whatever is left in the group, and returns when nothing is, or it cannot be seen what is. Blocks.
pub(crate) fn kill_group(driver: &dyn CgroupDriver, group: &Path) -> io::Result<()> {
    let mut pause = Duration::from_millis(1);
    while !driver.processes(group)?.is_empty() {
        // Tried again for as long as there is a process: giving up would leave it running unknown to all.
        let _ = driver.kill(group);
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    Ok(())
}

/// Removes the group, trying again while the kernel still counts something that has ended. Blocks; false if it never went.
pub(crate) fn remove_group(driver: &dyn CgroupDriver, group: &Path) -> Result<bool, CgroupError> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    while !driver.remove(group)? {
        if start.elapsed() > REMOVAL_TIMEOUT {
            return Ok(false);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    Ok(true)
}

/// Removes the group's parents as far as they are empty; others may still use them, so that nothing of it is an error.
///
/// Groups below them are left alone even when empty: another container may just have made its group and not entered it yet.
pub(crate) fn remove_empty_parents(driver: &dyn CgroupDriver, group: &Path) {
    for parent in group.ancestors().skip(1).take_while(|p| !p.as_os_str().is_empty()) {
        if !driver.remove_if_empty(parent) {
            return;
        }
    }
}
