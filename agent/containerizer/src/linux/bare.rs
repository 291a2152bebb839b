//! What the kernel asks for a container without anything around it: the measure that benchmarks hold the runner against.

use std::{ffi::CString, io, path::Path};

use super::{
    root,
    sys::{self, Copy},
};
use crate::{
    cgroup::{CgroupDriver, Layout, remove_empty_parents, remove_group},
    folder::{Isolation, Order},
    spec::ContainerSpec,
};

/// Runs the program of each, one after the other, in cgroups with its limits and in namespaces of its own: clone, enter, execute, wait,
/// remove. With a folder to be hidden each has the very root that the runner would give it there; without, the host's as it is. No
/// privileges dropped, no filter, no environment, nothing on disk but what an overlay needs, nobody to talk to. Needs root.
///
/// Must be called before any thread is started, since the copies run on in this process's memory image.
pub fn bare_loop(
    specs: impl IntoIterator<Item = io::Result<ContainerSpec>>,
    cgroup_parent: &str,
    hidden: Option<&Path>,
) -> io::Result<()> {
    if !sys::single_threaded() {
        return Err(io::Error::other("the bare loop must run before any thread is started"));
    }
    let layout = Layout::detect(None, None)?;
    let driver = layout.driver();
    for spec in specs {
        let spec = spec?;
        let order = Order {
            group: Path::new(cgroup_parent).join(&spec.id.0),
            isolation: Isolation::Namespaces,
            layout: layout.clone(),
            hidden: hidden.map(Path::to_owned).into_iter().collect(),
            lendable: Vec::new(),
            runtime: None,
            users: None,
            trial: false,
            spec,
        };
        driver.make(&order.group).map_err(io::Error::other)?;
        let limited = driver.limit(&order.group, &order.spec.limits).map_err(io::Error::other);
        let ran = limited.and_then(|()| run_one(&*driver, &order));
        remove_group(&*driver, &order.group).map_err(io::Error::other)?;
        ran?;
    }
    remove_empty_parents(&*driver, &Path::new(cgroup_parent).join("-"));
    Ok(())
}

fn run_one(driver: &dyn CgroupDriver, order: &Order) -> io::Result<()> {
    let argv: Vec<CString> =
        order.spec.argv.iter().map(|word| CString::new(word.as_str())).collect::<Result<_, _>>()?;
    let program = argv.first().ok_or(io::ErrorKind::InvalidInput)?;
    let spaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    match sys::copy(spaces)? {
        Copy::Child => {
            let entered = driver.enter(&order.group, false).is_ok();
            if entered && (order.hidden.is_empty() || root::set_up(order, &order.spec.sandbox, None).is_ok())
            {
                sys::execute(program, &argv, &[]);
            }
            sys::exit_now(127)
        }
        Copy::Parent { child } => match sys::reap(child, true) {
            Some((_, exit)) if exit.success() => Ok(()),
            ended => Err(io::Error::other(format!("{program:?} ended with {ended:?}"))),
        },
    }
}
