//! What the kernel asks for a container without anything around it: the measure that benchmarks hold the runner against.

use std::{ffi::CString, io, path::Path};

use super::sys::{self, Copy};
use crate::{
    cgroup::{CgroupDriver, Layout, remove_empty_parents, remove_group},
    spec::Limits,
};

/// Runs `/bin/true` so many times, one after the other, each in cgroups with these limits and in namespaces of its own: clone, enter,
/// execute, wait, remove. No mounts, no privileges dropped, no filter, nobody to talk to. Needs root.
///
/// Must be called before any thread is started, since the copies run on in this process's memory image.
pub fn bare_loop(count: u32, cgroup_parent: &str, limits: &Limits) -> io::Result<()> {
    if !sys::single_threaded() {
        return Err(io::Error::other("the bare loop must run before any thread is started"));
    }
    let driver = Layout::detect()?.driver();
    let parent = Path::new(cgroup_parent);
    for number in 0..count {
        let group = parent.join(number.to_string());
        driver.make(&group).map_err(io::Error::other)?;
        let ran =
            driver.limit(&group, limits).map_err(io::Error::other).and_then(|()| run_one(&*driver, &group));
        remove_group(&*driver, &group).map_err(io::Error::other)?;
        remove_empty_parents(&*driver, &group);
        ran?;
    }
    Ok(())
}

fn run_one(driver: &dyn CgroupDriver, group: &Path) -> io::Result<()> {
    let program = CString::new("/bin/true")?;
    let spaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    match sys::copy(spaces)? {
        Copy::Child => {
            if driver.enter(group, false).is_ok() {
                sys::execute(&program, std::slice::from_ref(&program), &[]);
            }
            sys::exit_now(127)
        }
        Copy::Parent { child } => match sys::reap(child, true) {
            Some((_, exit)) if exit.success() => Ok(()),
            ended => Err(io::Error::other(format!("/bin/true ended with {ended:?}"))),
        },
    }
}
