//! Process 1 of the container: sets it up, starts the task, reaps orphans, and ends with the task.
//!
//! The task is not process 1 itself, because the kernel gives that process no default actions: a program without a handler
//! for TERM could not be asked to end. When process 1 ends, the kernel kills whatever is left in its namespace.
//!
//! Without namespaces this is an ordinary process that adopts orphans and does the kernel's part by descent.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use apportion_types::container::{Control, Exit};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    process::{
        DumpableBehavior, Signal, set_child_subreaper, set_dumpable_behavior,
        set_parent_process_death_signal, umask,
    },
};

use super::{
    accounts, netns, privileges, root,
    sys::{self, Copy},
    syscalls,
    task::{self, Standard},
    tree,
    users::Users,
    wire::Word,
};
use crate::{
    cgroup::CgroupError,
    folder::{Failure, Order},
};

/// This process's ends of what connects it to the runner.
pub(super) struct Ends {
    /// One byte comes when the runner has made the cgroups and mapped the user; the end means that the runner died.
    pub(super) go: OwnedFd,
    /// Setup failures and the start of the task; closed on exec.
    pub(super) report: OwnedFd,
    /// How the task ended.
    pub(super) status: OwnedFd,
    /// What the task has for its input, output and errors.
    pub(super) standard: Standard,
    /// The container's own users, if it has some.
    pub(super) users: Option<Users>,
}

/// The longest host name of the kernel.
const HOST_NAME_BYTES_MAX: usize = 64;

/// Runs to the end of the container, in a copy of the runner's process in which all signals are blocked.
pub(super) fn run(
    order: &Order,
    sandbox: &Path,
    ends: Ends,
    enter_groups: impl FnOnce() -> Result<(), CgroupError>,
) -> ! {
    // A panic must not unwind into code that belongs to the runner.
    let code = catch_unwind(AssertUnwindSafe(|| match set_up(order, sandbox, &ends, enter_groups) {
        Ok(task) => {
            let Ends { go, report, status, standard, users } = ends;
            // The runner takes the end of the reports for the task's `execve`, and that of its output for the end of all who had it.
            drop((go, report, standard, users));
            attend(order, task, &status)
        }
        Err(failure) => {
            let _ = Word::Failed(failure).send(ends.report.as_fd());
            1
        }
    }));
    sys::exit_now(code.unwrap_or(70))
}

/// Does everything up to starting the task's process; returns that process's number.
fn set_up(
    order: &Order,
    sandbox: &Path,
    ends: &Ends,
    enter_groups: impl FnOnce() -> Result<(), CgroupError>,
) -> Result<i32, Failure> {
    let own = [&ends.go, &ends.report, &ends.status].into_iter().chain(ends.standard.descriptors());
    let users = ends.users.as_ref().map(Users::descriptor);
    let own: Vec<RawFd> = own.map(AsRawFd::as_raw_fd).chain(users).collect();
    detach(order, &own)?;
    await_go(&ends.go)?;
    // Before anything is allocated for the task, and while the hierarchies are still writable here.
    enter_groups()?;
    // Folders that are made here are for everybody to read.
    umask(Mode::WGRP | Mode::WOTH);
    spare_nobody();
    if let Some(network) = &order.spec.network {
        netns::enter(network)?;
        if ends.users.is_some() {
            netns::open_to_all();
        }
    }
    if order.isolation.namespaces() {
        let namespaces = |failure| match failure {
            Failure::Setup { step, errno, .. } => {
                Failure::Setup { step, control: Some(Control::Namespaces), errno }
            }
            other => other,
        };
        // After its groups were entered: they become the roots of what it sees.
        sys::leave_group_namespace();
        sys::leave_session_keys();
        root::set_up(order, sandbox, ends.users.as_ref()).map_err(namespaces)?;
        rustix::system::sethostname(host_name(order.spec.hostname()).as_bytes())
            .map_err(|e| namespaces(Failure::setup("setting the host name", e)))?;
        if let Some(users) = &ends.users {
            ends.standard.descriptors().iter().try_for_each(|output| users.own(output))?;
            users.enter()?;
            tie_to_runner(order, &ends.go)?;
        }
    } else {
        set_child_subreaper(rustix::process::Pid::from_raw(1))
            .map_err(|e| Failure::setup("adopting orphans", e))?;
    }
    accounts::give_sandbox(order, sandbox)?;
    confine(order)?;
    match sys::copy(0).map_err(|e| Failure::setup("starting the task's process", e))? {
        Copy::Parent { child } => Ok(child),
        Copy::Child => {
            let failure = task::become_task(order, sandbox, &ends.standard, ends.report.as_fd());
            let _ = Word::Failed(failure).send(ends.report.as_fd());
            sys::exit_now(127)
        }
    }
}

/// An agent that the kernel spares when memory is short must not make its tasks so.
pub(super) fn spare_nobody() {
    if is_spared() {
        let _ = fs::write("/proc/self/oom_score_adj", "0");
    }
}

/// True when the kernel spares this process, and what it starts, when memory is short.
pub(super) fn is_spared() -> bool {
    fs::read_to_string("/proc/self/oom_score_adj").is_ok_and(|text| text.starts_with('-'))
}

/// Gives up, for this process and those that it will start, whatever a task must not have.
pub(super) fn confine(order: &Order) -> Result<(), Failure> {
    // Keeps the task from opening this process's executable, which is the agent's own file outside of the container.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|e| Failure::setup("protecting the container's process 1", e))?;
    if order.wants(Control::Capabilities) {
        privileges::reduce(order)?;
    }
    if order.wants(Control::Seccomp) {
        syscalls::filter()?;
    }
    Ok(())
}

/// Process 1 of a process namespace in which an OCI runtime starts the container: reaps orphans and passes on signals until it is killed.
/// It is in the container's network too.
///
/// `go` and `report` are as in [`Ends`]; the report ends when everything is ready.
pub(super) fn hold_namespaces(order: &Order, go: OwnedFd, report: OwnedFd) -> ! {
    let code = catch_unwind(AssertUnwindSafe(|| {
        let ready = detach(order, &[go.as_raw_fd(), report.as_raw_fd()])
            .and_then(|()| await_go(&go))
            .and_then(|()| order.spec.network.as_ref().map_or(Ok(()), netns::enter))
            .and_then(|()| confine(order));
        if let Err(failure) = ready {
            let _ = Word::Failed(failure).send(report.as_fd());
            return 1;
        }
        drop((go, report));
        loop {
            while sys::reap(-1, false).is_some() {}
            let received = sys::wait_for_signal(&[libc::SIGCHLD, libc::SIGTERM]);
            if received.is_ok_and(|received| received.signal == libc::SIGTERM && received.from_above) {
                sys::signal_all_others(libc::SIGTERM);
            }
        }
    }));
    sys::exit_now(code.unwrap_or(70))
}

/// Lets go of all that is the runner's but these descriptors, and ties this process's life to it.
fn detach(order: &Order, keep: &[RawFd]) -> Result<(), Failure> {
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let null = null.map_err(|e| Failure::setup("opening /dev/null", e))?;
    for number in [0, 1] {
        sys::replace_standard(null.as_fd(), number)
            .map_err(|e| Failure::setup("detaching from the runner", e))?;
    }
    drop(null);
    sys::close_all_but(keep);
    end_with_runner(order)
}

fn end_with_runner(order: &Order) -> Result<(), Failure> {
    // With a process namespace, killing process 1 ends everything; without, it must do so itself.
    let signal = if order.isolation.namespaces() { Signal::KILL } else { Signal::USR1 };
    set_parent_process_death_signal(Some(signal))
        .map_err(|e| Failure::setup("tying the container to its runner", e))
}

/// Ties this process's life to the runner's again, which a change of the user has untied. The runner may have died in between.
fn tie_to_runner(order: &Order, go: &OwnedFd) -> Result<(), Failure> {
    end_with_runner(order)?;
    let mut fds = [PollFd::new(go, PollFlags::empty())];
    match poll(&mut fds, Some(&Timespec::default())) {
        Ok(0) => Ok(()),
        // Its end of the pipe is closed: there is nobody to tell.
        _ => sys::exit_now(1),
    }
}

fn await_go(go: &OwnedFd) -> Result<(), Failure> {
    let mut byte = [0];
    match rustix::io::retry_on_intr(|| rustix::io::read(go, &mut byte)) {
        Ok(1) => Ok(()),
        // The runner died or gave up, perhaps before its death could be signalled: there is nobody to tell.
        _ => sys::exit_now(1),
    }
}

/// As much of what the container calls itself as fits.
pub(super) fn host_name(name: &str) -> &str {
    let mut end = name.len().min(HOST_NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// Reaps and passes on signals until the task has ended; returns this process's exit code.
fn attend(order: &Order, task: i32, status: &OwnedFd) -> i32 {
    let namespaces = order.isolation.namespaces();
    loop {
        while let Some((pid, exit)) = sys::reap(-1, false) {
            if pid == task {
                return end(namespaces, exit, status);
            }
        }
        match sys::wait_for_signal(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGUSR1]) {
            // The runner asks for TERM to all; a process of the container has no business to.
            Ok(received) if received.signal == libc::SIGTERM && namespaces && received.from_above => {
                sys::signal_all_others(libc::SIGTERM);
            }
            // The runner has died.
            Ok(received) if received.signal == libc::SIGUSR1 && !namespaces => {
                tree::end_all_below_me();
                return 1;
            }
            Ok(_) | Err(_) => {}
        }
    }
}

fn end(namespaces: bool, exit: Exit, status: &OwnedFd) -> i32 {
    let _ = Word::Ended(exit).send(status.as_fd());
    if namespaces {
        // The kernel would do it, but only what is reaped here is counted where there are no cgroups.
        sys::signal_all_others(libc::SIGKILL);
        while sys::reap(-1, true).is_some() {}
    } else {
        tree::end_all_below_me();
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_cut_between_characters() {
        assert_eq!(host_name("web-1"), "web-1");
        assert_eq!(host_name(&"x".repeat(70)).len(), 64);
        assert_eq!(host_name(&"ü".repeat(40)).len(), 64);
        assert_eq!(host_name(&format!("x{}", "ü".repeat(40))).len(), 63);
    }
}
