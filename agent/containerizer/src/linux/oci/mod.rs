//! A container made by an OCI runtime: runc, crun, youki, runsc.
//!
//! The runner does what it does for a native container, but for what lies between the cgroups and the task's `execve`: that is the
//! runtime's, told by `config.json`. The runner lays the root in a mount namespace of its own, so that no mount outlives it; it holds the
//! container's process namespace open by a process 1 of ours, so that the kernel ends everything with the runner, and that TERM does to a
//! program what it does elsewhere. What the runtime starts becomes a child of the runner, which reaps it.
//!
//! A runtime with a kernel of its own (runsc) joins no process namespace: its first process then stands for the container.

mod call;
mod config;
mod program;
mod wait;

use std::{
    fs,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    slice,
    time::Instant,
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, set_child_subreaper},
};

pub(super) use self::{call::Runtime, config::is_runtimes};
use super::{
    accounts,
    birth::{Life, Started, explain},
    init, mounts, netns,
    output::Outputs,
    root,
    sys::{self, Copy},
    task,
    watch::End,
    wire::{self, Heard, Word},
};
use crate::{
    cgroup::CgroupDriver,
    folder::{Failure, Order, Process},
    runtime::OciRuntime,
};

/// Where in the runtime's folder the host's root is laid.
const ROOT: &str = "root";

/// Starts the container of this order, whose groups are made; on error none of its processes is left.
pub(super) fn bring_up(
    order: &Order,
    runtime: &OciRuntime,
    sandbox: &Path,
    (outputs, pipes): (&mut Outputs, Option<[OwnedFd; 2]>),
    driver: &dyn CgroupDriver,
    runner: Process,
) -> Result<(Life, Started), Failure> {
    let runtime = Runtime::new(runtime, runner)?;
    let place = runtime.place();
    fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(place.join(ROOT))
        .map_err(|e| Failure::state(&place, &e))?;
    // Orphans of the runtime's program: the container's first process.
    set_child_subreaper(Pid::from_raw(1)).map_err(|e| Failure::setup("adopting orphans", e))?;

    let root = root::lay(order, sandbox, &place.join(ROOT))?;
    // Left to lay an image.
    runtime.return_to_folder()?;
    let account = accounts::of(order, slice::from_ref(&root))?;
    if let Some(account) = &account {
        accounts::give(order, account, sandbox)?;
    }
    let at = fs::read_link(mounts::by_descriptor(&root))
        .map_err(|e| Failure::setup("finding where the root was laid", e))?;
    program::check(order, &root, &at, sandbox)?;
    drop(root);

    let holder = Holder::start(order)?;
    let config = config::text(order, account.as_ref(), &at, sandbox, |kind| holder.namespace(kind));
    let path = place.join("config.json");
    fs::write(&path, config).map_err(|e| Failure::state(&path, &e))?;
    let standard = task::standard_files(sandbox, pipes)?;
    let created = runtime.create(&standard, outputs);
    // The end of an output is that nobody has it any more.
    drop(standard);
    let first = match created {
        Ok(first) => first,
        Err(failure) => {
            // Before the group goes with what the runtime may have left.
            let failure = explain(failure, order, driver);
            runtime.delete();
            return Err(failure);
        }
    };
    let pid = Pid::from_raw(first).ok_or(rustix::io::Errno::SRCH);
    let open = || pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let (pidfd, own) = match open().and_then(|pidfd| Ok((pidfd, open()?))) {
        Ok(opened) => opened,
        Err(e) => {
            runtime.delete();
            return Err(Failure::setup("opening a pidfd of the runtime's first process", e));
        }
    };
    let started = settle(order, driver, &holder, first).and_then(|joined| {
        // One that nobody has joined is of no use. It ends here, before anything that it could reap.
        let holder = joined.then_some(holder);
        runtime.start()?;
        Ok((holder, Started::new(first, Instant::now())))
    });
    let end = End::Reaped { task: first, pidfd };
    match started {
        Ok((Some(holder), started)) => {
            let (init, pidfd) = holder.keep();
            Ok((Life { init, pidfd, end, runtime: Some(runtime), own_kernel: false }, started))
        }
        Ok((None, started)) => {
            let life = Life { init: first, pidfd: own, end, runtime: Some(runtime), own_kernel: true };
            Ok((life, started))
        }
        Err(failure) => {
            let failure = explain(failure, order, driver);
            // Unless it went with the holder.
            let _ = pidfd_send_signal(own, Signal::KILL);
            sys::reap(first, true);
            runtime.delete();
            Err(failure)
        }
    }
}

/// Sees to it that the container's first process is where it belongs; true when it is in the holder's process namespace.
fn settle(order: &Order, driver: &dyn CgroupDriver, holder: &Holder, first: i32) -> Result<bool, Failure> {
    // Whatever the runtime made of the group's path: what it starts from here on is where its first process is.
    driver.adopt(&order.group, first)?;
    let namespace = |pid: i32| {
        fs::read_link(format!("/proc/{pid}/ns/pid"))
            .map_err(|e| Failure::setup("looking at the runtime's first process", e))
    };
    Ok(namespace(first)? == namespace(holder.init)?)
}

/// Process 1 of the container's process namespace, which is in its network too; killed when dropped, with all that is in there.
struct Holder {
    init: i32,
    /// Taken by whoever keeps it.
    pidfd: Option<OwnedFd>,
}

impl Holder {
    fn start(order: &Order) -> Result<Holder, Failure> {
        let pipes = |e: std::io::Error| Failure::setup("making pipes to the container", e);
        let (go_out, go) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| pipes(e.into()))?;
        let (report, report_in) = wire::pair().map_err(pipes)?;
        let copied = sys::copy(libc::CLONE_NEWPID | netns::birth_flags(order));
        let init = match copied.map_err(|e| Failure::setup("making namespaces", e))? {
            Copy::Child => {
                drop((go, report));
                init::hold_namespaces(order, go_out, report_in)
            }
            Copy::Parent { child } => child,
        };
        drop(report_in);
        let pid = Pid::from_raw(init).ok_or(rustix::io::Errno::SRCH);
        let pidfd = match pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            Ok(pidfd) => pidfd,
            Err(e) => {
                // It ends by itself when it finds nobody at the other end of `go`.
                drop(go);
                sys::reap(init, true);
                return Err(Failure::setup("opening a pidfd (Linux 5.3 or later is needed)", e));
            }
        };
        let holder = Holder { init, pidfd: Some(pidfd) };
        rustix::io::write(&go, b"!").map_err(|e| Failure::setup("waking the container", e))?;
        match wire::hear(&report, true).map_err(|e| Failure::setup("listening to the container", e))? {
            Some(Heard { word: Word::Failed(failure), .. }) => Err(failure),
            _ => Ok(holder),
        }
    }

    /// What the runtime is to join.
    fn namespace(&self, kind: &str) -> PathBuf {
        format!("/proc/{}/ns/{kind}", self.init).into()
    }

    /// From here on it lives as long as the container: its number and a descriptor for it.
    fn keep(mut self) -> (i32, OwnedFd) {
        (self.init, self.pidfd.take().expect("it is taken here alone, from a value that is gone then"))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let Some(pidfd) = &self.pidfd else { return };
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
        // What is in the namespace is this process's child too, and keeps it from ending until it is reaped.
        while sys::reap(-1, true).is_some_and(|(pid, _)| pid != self.init) {}
    }
}
