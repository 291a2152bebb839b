//! From an order to a running task, or to nothing at all.

use std::{
    fs,
    io::{self, stdin},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use apportion_types::{container::Control, time::Time};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, Signal, getgid, getuid, pidfd_open, pidfd_send_signal, set_child_subreaper},
};

use super::{
    accounts,
    init::{self, Ends},
    netns, note, oci,
    output::Outputs,
    server::Server,
    sys::{self, Copy},
    task::Standard,
    tree,
    users::Users,
    watch::{Container, End},
    wire::{self, Word},
};
use crate::{
    cgroup::{CgroupDriver, MemoryWatch, kill_group, remove_empty_parents, remove_group},
    folder::{self, Failure, Isolation, Order, Pids, Process},
};

/// Signals that would end the runner and with it the container; it takes them as a request to end the task.
const STOPPING: [libc::c_int; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// Starts the container of this order; on error nothing is left of it.
pub(super) fn start(
    order: Order,
    sandbox: &Path,
    pids: Pids,
    runner: Process,
) -> Result<(Container, Server), Failure> {
    let driver = order.layout.driver();
    // On error there is none of ours, and one that somebody else has made is not ours to remove.
    driver.make(&order.group)?;
    let limited = driver.limit(&order.group, &order.spec.limits).map_err(Failure::from);
    match limited.and_then(|()| bring_up(&order, sandbox, &*driver, pids, runner)) {
        Ok((life, parts, server)) => Ok((Container::new(order, driver, life, parts), server)),
        Err(failure) => {
            let failure = explain(failure, &order, &*driver);
            let _ = fs::remove_file(folder::SOCKET);
            clear(&order, &*driver);
            Err(failure)
        }
    }
}

/// From groups that are made to a task that runs; on error none of its processes is left.
fn bring_up(
    order: &Order,
    sandbox: &Path,
    driver: &dyn CgroupDriver,
    mut pids: Pids,
    runner: Process,
) -> Result<(Life, Parts, Server), Failure> {
    // For the copies, which wait for signals, and for this process, which polls for them.
    sys::block_signals();
    let memory = order.spec.limits.memory_limit_bytes.and_then(|_| driver.watch_memory(&order.group));
    let server = Server::listen(Path::new(folder::SOCKET))
        .map_err(|e| Failure::state(Path::new(folder::SOCKET), &e))?;
    let signals = sys::signal_fd(&STOPPING).map_err(|e| Failure::setup("watching for signals", e))?;
    let tether = if order.spec.tethered {
        Some(sys::duplicate(stdin().as_fd()).map_err(|e| Failure::setup("holding the agent's tether", e))?)
    } else {
        None
    };
    let (mut outputs, pipes) = match order.spec.output {
        Some(bounds) if !order.trial => {
            let (outputs, pipes) = Outputs::open(sandbox, bounds)?;
            (outputs, Some(pipes))
        }
        _ => (Outputs::none(), None),
    };
    let (life, started) = match &order.runtime {
        Some(runtime) => oci::bring_up(order, runtime, sandbox, (&mut outputs, pipes), driver, runner)?,
        None => native(order, sandbox, pipes, driver)?,
    };
    let path = Path::new(folder::PIDS);
    let written = Process::find(life.init).and_then(|init| {
        pids.init = init;
        pids.task = Process::find(started.task)?;
        pids.started_at = Some(started.at);
        folder::replace(path, &pids)
    });
    if let Err(e) = written {
        life.end(order.isolation);
        return Err(Failure::state(path, &e));
    }
    let Started { at: started_at, instant: started, .. } = started;
    Ok((life, Parts { signals, tether, memory, outputs, started_at, started }, server))
}

/// A container of this crate's own making.
fn native(
    order: &Order,
    sandbox: &Path,
    pipes: Option<[OwnedFd; 2]>,
    driver: &dyn CgroupDriver,
) -> Result<(Life, Started), Failure> {
    let standard = pipes.map_or(Standard::Sandbox, Standard::Runner);
    let Newborn { life, go, report } = Newborn::clone(order, sandbox, standard, driver)?;
    match Newborn::bring_up(order, life.init, &go, &report) {
        Ok(started) => Ok((life, started)),
        Err(failure) => {
            life.end(order.isolation);
            Err(failure)
        }
    }
}

fn clear(order: &Order, driver: &dyn CgroupDriver) {
    // Of a runtime that failed half-way something may be left.
    if let Err(e) = kill_group(driver, &order.group) {
        note(format_args!("cannot see what is left in the cgroup: {e}"));
    }
    match remove_group(driver, &order.group) {
        Ok(true) => {}
        Ok(false) => note(format_args!("cgroup {} is still busy", order.group.display())),
        Err(e) => note(format_args!("{e}: {}", e.source)),
    }
    if order.spec.tethered {
        remove_empty_parents(driver, &order.group);
    }
}

/// A death during setup that the kernel's memory count explains.
pub(super) fn explain(failure: Failure, order: &Order, driver: &dyn CgroupDriver) -> Failure {
    match order.spec.limits.memory_limit_bytes {
        Some(limit_bytes) if driver.memory_events(&order.group, limit_bytes).kills > 0 => {
            Failure::MemoryTooSmall { limit_bytes }
        }
        _ => failure,
    }
}

/// What a container has beyond its processes.
pub(super) struct Parts {
    pub(super) signals: OwnedFd,
    pub(super) tether: Option<OwnedFd>,
    pub(super) memory: Option<MemoryWatch>,
    pub(super) outputs: Outputs,
    pub(super) started_at: Time,
    pub(super) started: Instant,
}

/// The process that the rest of a container lives and dies with.
pub(super) struct Life {
    pub(super) init: i32,
    pub(super) pidfd: OwnedFd,
    /// How the task's end is learned.
    pub(super) end: End,
    pub(super) runtime: Option<oci::Runtime>,
    /// True when `init` is the runtime's kernel, and not process 1 of a process namespace.
    pub(super) own_kernel: bool,
}

impl Life {
    fn end(self, isolation: Isolation) {
        if isolation == Isolation::Descent {
            tree::end_all_below_me();
        }
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        if let End::Reaped { task, .. } = self.end {
            sys::reap(task, true);
        }
        sys::reap(self.init, true);
        if let Some(runtime) = self.runtime {
            runtime.delete();
        }
    }
}

/// That a task has executed its program.
pub(super) struct Started {
    task: i32,
    at: Time,
    instant: Instant,
}

impl Started {
    /// At this instant, or at one not long ago.
    pub(super) fn new(task: i32, instant: Instant) -> Started {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Started { task, at: Time::ZERO + now.saturating_sub(instant.elapsed()), instant }
    }
}

/// A native container's process 1, which waits to be told to go on.
struct Newborn {
    life: Life,
    go: OwnedFd,
    report: OwnedFd,
}

impl Newborn {
    fn clone(
        order: &Order,
        sandbox: &Path,
        standard: Standard,
        driver: &dyn CgroupDriver,
    ) -> Result<Newborn, Failure> {
        let pipes = |e: io::Error| Failure::setup("making pipes to the container", e);
        let (go_out, go) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| pipes(e.into()))?;
        let (report, report_in) = wire::pair().map_err(pipes)?;
        let (status, status_in) = wire::pair().map_err(pipes)?;
        let users = Users::of(order)?;
        if order.isolation == Isolation::Descent {
            set_child_subreaper(Pid::from_raw(1)).map_err(|e| Failure::setup("adopting orphans", e))?;
        }
        let spaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        let flags = match order.isolation {
            Isolation::Namespaces => spaces,
            Isolation::UserNamespaces => spaces | libc::CLONE_NEWUSER,
            Isolation::Descent => 0,
        };
        let flags = flags | netns::birth_flags(order);
        let birthplace = driver.birthplace(&order.group);
        let born = birthplace.as_ref().and_then(|cgroup| sys::copy_into(flags, cgroup.as_fd()).ok());
        let born_inside = born.is_some();
        // Where that is not possible, for whatever reason, it moves there by itself.
        let copied = born.map_or_else(|| sys::copy(flags), Ok).map_err(|e| Failure::Setup {
            step: "making namespaces".into(),
            control: Some(Control::Namespaces),
            errno: e.raw_os_error().unwrap_or(libc::EIO),
        })?;
        let init = match copied {
            Copy::Child => {
                let ends = Ends { go: go_out, report: report_in, status: status_in, standard, users };
                init::run(order, sandbox, ends, || driver.enter(&order.group, born_inside))
            }
            Copy::Parent { child } => child,
        };
        let pidfd = Pid::from_raw(init).ok_or(io::ErrorKind::NotFound.into()).and_then(|pid| {
            // Not reaped yet, so that the number is still its own.
            pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from)
        });
        match pidfd {
            Ok(pidfd) => {
                let life = Life { init, pidfd, end: End::Told(status), runtime: None, own_kernel: false };
                Ok(Newborn { life, go, report })
            }
            Err(e) => {
                // It ends by itself when it finds nobody at the other end of `go`.
                drop(go);
                sys::reap(init, true);
                Err(Failure::setup("opening a pidfd (Linux 5.3 or later is needed)", e))
            }
        }
    }

    /// Sees process 1 through to the task's `execve`.
    fn bring_up(order: &Order, init: i32, go: &OwnedFd, report: &OwnedFd) -> Result<Started, Failure> {
        if order.isolation == Isolation::UserNamespaces {
            Self::map_user(order, init)?;
        }
        rustix::io::write(go, b"!").map_err(|e| Failure::setup("waking the container", e))?;
        Self::await_task(order, report)
    }

    /// Lets the one user and group that process 1 has outside be those inside that are asked for, or the same.
    fn map_user(order: &Order, init: i32) -> Result<(), Failure> {
        let write = |file: &str, text: String| {
            fs::write(format!("/proc/{init}/{file}"), text).map_err(|e| Failure::Setup {
                step: format!("writing {file} of the user namespace"),
                control: Some(Control::Namespaces),
                errno: e.raw_os_error().unwrap_or(libc::EIO),
            })
        };
        let (user, group) = (getuid().as_raw(), getgid().as_raw());
        // The kernel's condition for mapping a group without privilege.
        write("setgroups", "deny".into())?;
        let (inside_user, inside_group) =
            accounts::outside(order)?.map_or((user, group), |account| (account.uid, account.gid));
        write("uid_map", format!("{inside_user} {user} 1"))?;
        write("gid_map", format!("{inside_group} {group} 1"))
    }

    /// Waits until the task has executed its program.
    fn await_task(order: &Order, report: &OwnedFd) -> Result<Started, Failure> {
        let mut task = None;
        while let Some(heard) =
            wire::hear(report, true).map_err(|e| Failure::setup("listening to the container", e))?
        {
            match heard.word {
                Word::Executing => task = heard.pid.map(|pid| Started::new(pid, Instant::now())),
                Word::Failed(failure) => return Err(failure),
                Word::Ended(_) => {}
            }
        }
        // The stream ends with the last process that has not executed anything: by `execve`, or by its death.
        task.ok_or_else(|| {
            let step = format!("the first process of container {} died", order.spec.id);
            Failure::Setup { step, control: None, errno: libc::ESRCH }
        })
    }
}
