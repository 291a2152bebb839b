//! One more command in a running container.
//!
//! The agent starts this process, with its end of a socket pair as standard input, and says on it what to execute. This process
//! enters the container's cgroups and namespaces, but for the process namespace, which only a copy of it is in: the *keeper*. The
//! keeper confines itself as the container's process 1 did, starts the command, hands the agent the other ends of its input and
//! output, and ends everything below itself when the command has ended, when the agent lets go of the socket, or when the container
//! ends.

use std::{
    env, fs,
    io::{self, stdin},
    os::fd::{AsFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::ExitCode,
};

use apportion_types::container::Exit;
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode, OFlags, open},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, pidfd_open, set_child_subreaper},
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
    thread::{ThreadNameSpaceType, move_into_thread_name_spaces},
};

use super::{
    EXEC_BYTES_MAX, init, read, resolve,
    sys::{self, Copy},
    task::{self, Standard},
    tree, users,
    wire::{self, Word},
};
use crate::{
    exec::{ExecSpec, TerminalSize},
    folder::{self, Failure, Order, Pids, Process},
};

/// The namespaces that a container may have of its own, by their names in `/proc/PID/ns`.
const NAMESPACES: [(&str, libc::c_int); 8] = [
    ("user", libc::CLONE_NEWUSER),
    ("mnt", libc::CLONE_NEWNS),
    ("pid", libc::CLONE_NEWPID),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("net", libc::CLONE_NEWNET),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("time", libc::CLONE_NEWTIME),
];

/// The helper's whole life; returns when the command has ended.
pub(super) fn main(folder: &Path) -> ExitCode {
    let Ok(agent) = sys::duplicate(stdin().as_fd()) else { return ExitCode::FAILURE };
    match start(folder, &agent) {
        Ok(keeper) => {
            // The agent takes the end of the socket for the command's; only the keeper may hold it open.
            drop(agent);
            if let Ok(null) = fs::File::open("/dev/null") {
                let _ = sys::replace_standard(null.as_fd(), 0);
            }
            sys::reap(keeper, true);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = Word::Failed(failure).send(agent.as_fd());
            ExitCode::FAILURE
        }
    }
}

/// Enters the container and starts the keeper; returns its number.
fn start(folder: &Path, agent: &OwnedFd) -> Result<i32, Failure> {
    // Out of the agent's session, so that what ends its terminal ends no command.
    rustix::process::setsid().map_err(|e| Failure::setup("starting a session", e))?;
    let wanted = wire::receive_bytes(agent, EXEC_BYTES_MAX)
        .and_then(|bytes| Ok(serde_json::from_slice::<ExecSpec>(&bytes)?));
    let wanted = wanted.map_err(|e| Failure::setup("hearing what to execute", e))?;
    env::set_current_dir(folder).map_err(|e| Failure::state(folder, &e))?;
    let mut order: Order = read(folder::SPEC)?;
    let sandbox = resolve(&order.spec.sandbox)?;
    let container = find(&order)?;
    let terminal = wanted.terminal;
    merge(&mut order, wanted);

    sys::block_signals();
    // While the hierarchies can be seen and written to.
    order.layout.driver().enter(&order.group, false)?;
    init::spare_nobody();
    if order.isolation.namespaces() {
        join(&container)?;
        if order.users.is_some() {
            users::become_root()?;
        }
    }
    match sys::copy(0).map_err(|e| Failure::setup("starting the command's keeper", e))? {
        Copy::Parent { child } => Ok(child),
        Copy::Child => {
            // A panic must not unwind into code that belongs to the parent.
            let kept =
                catch_unwind(AssertUnwindSafe(|| keep(&order, &sandbox, terminal, agent, &container.init)));
            sys::exit_now(match kept {
                Ok(Ok(())) => 0,
                Ok(Err(failure)) => {
                    let _ = Word::Failed(failure).send(agent.as_fd());
                    1
                }
                Err(_) => 70,
            })
        }
    }
}

/// What the container is known by: its process 1, which is its life, and its task, which is in all of its namespaces.
struct Known {
    init: OwnedFd,
    task: OwnedFd,
    task_pid: i32,
}

fn find(order: &Order) -> Result<Known, Failure> {
    let gone = || Failure::setup("finding the container's processes", rustix::io::Errno::SRCH);
    let pids: Pids = read(folder::PIDS)?;
    if let Some(runtime) = order.runtime.as_ref().filter(|runtime| runtime.own_kernel) {
        let why = "runs containers on a kernel of its own, in which the agent cannot execute commands; run what needs them on an agent with another runtime";
        return Err(Failure::Runtime { what: format!("{} {why}", runtime.name()) });
    }
    let same_boot = pids.are_of_this_boot().map_err(|e| Failure::setup("reading which boot this is", e))?;
    let pidfd = |process: Option<Process>| {
        let process = process.filter(|_| same_boot)?;
        let pidfd = pidfd_open(Pid::from_raw(process.pid)?, PidfdFlags::empty()).ok()?;
        // Looked at after the opening: if it is the right one now, the descriptor is the right one's.
        process.runs().is_ok_and(|runs| runs).then_some((pidfd, process.pid))
    };
    let (init, _) = pidfd(pids.init).ok_or_else(gone)?;
    let (task, task_pid) = pidfd(pids.task).ok_or_else(gone)?;
    Ok(Known { init, task, task_pid })
}

/// What the task was started with, changed to what the command is to be started with.
fn merge(order: &mut Order, wanted: ExecSpec) {
    let spec = &mut order.spec;
    spec.argv = wanted.argv;
    spec.env.extend(wanted.env);
    spec.user = wanted.user.or(spec.user.take());
    spec.working_dir = wanted.working_dir.or(spec.working_dir.take());
}

/// Moves this process, and of the process namespace its future children, into those namespaces that the container does not share
/// with the machine.
///
/// By the task, because process 1 lets no ordinary user look at it.
fn join(container: &Known) -> Result<(), Failure> {
    let failed = |e: io::Error| {
        Failure::setup("entering the container's namespaces (Linux 5.8 or later is needed)", e)
    };
    let mut flags = 0;
    for (name, flag) in NAMESPACES {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{name}"));
        match (of(&container.task_pid.to_string()), of("self")) {
            (Ok(its), Ok(ours)) if its != ours => flags |= flag,
            (Err(e), Ok(_)) => return Err(failed(e)),
            // The same, or a kernel without this kind.
            _ => {}
        }
    }
    move_into_thread_name_spaces(container.task.as_fd(), ThreadNameSpaceType::from_bits_retain(flags as u32))
        .map_err(|e| failed(e.into()))
}

/// The keeper: starts the command, and sees to the end of it and of all that it leaves.
fn keep(
    order: &Order,
    sandbox: &Path,
    terminal: Option<TerminalSize>,
    agent: &OwnedFd,
    container: &OwnedFd,
) -> Result<(), Failure> {
    let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let null = null.map_err(|e| Failure::setup("opening /dev/null", e))?;
    sys::replace_standard(null.as_fd(), 0).map_err(|e| Failure::setup("detaching from the agent", e))?;
    set_child_subreaper(Pid::from_raw(1)).map_err(|e| Failure::setup("adopting orphans", e))?;
    init::confine(order)?;
    let signals = sys::signal_fd(&[libc::SIGCHLD]).map_err(|e| Failure::setup("watching for signals", e))?;
    let setup = |e: io::Error| Failure::setup("making the command's input and output", e);
    let (standard, ours) = match terminal {
        Some(size) => terminal_of(size).map_err(setup)?,
        None => pipes().map_err(setup)?,
    };
    let (report, report_in) = wire::pair().map_err(setup)?;
    let command = match sys::copy(0).map_err(|e| Failure::setup("starting the command's process", e))? {
        Copy::Parent { child } => child,
        Copy::Child => {
            let failure = task::become_task(order, sandbox, &standard, report_in.as_fd());
            let _ = Word::Failed(failure).send(report_in.as_fd());
            sys::exit_now(127)
        }
    };
    // What the agent has of them ends when nobody else has the other ends.
    drop((standard, report_in));
    // The stream ends with `execve`, or with the process.
    let mut executed = false;
    while let Some(heard) =
        wire::hear(&report, true).map_err(|e| Failure::setup("listening to the command", e))?
    {
        match heard.word {
            Word::Failed(failure) => return Err(failure),
            word => executed = matches!(word, Word::Executing),
        }
    }
    if !executed {
        return Err(Failure::setup("starting the command: its process died", rustix::io::Errno::SRCH));
    }
    let with: Vec<_> = ours.iter().map(AsFd::as_fd).collect();
    let told = Word::Executing.send_with(agent.as_fd(), &with);
    drop(ours);
    // An agent that has gone meanwhile is seen below.
    let exit = told.ok().and_then(|()| attend(command, agent, &signals, container));
    tree::end_all_below_me();
    let _ = Word::Ended(exit.unwrap_or(Exit::Signal(libc::SIGKILL))).send(agent.as_fd());
    Ok(())
}

/// The command's side of three pipes, and the agent's.
fn pipes() -> io::Result<(Standard, Vec<OwnedFd>)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let ((stdin, input), (output, stdout), (errors, stderr)) = (pipe()?, pipe()?, pipe()?);
    Ok((Standard::Pipes([stdin, stdout, stderr]), vec![input, output, errors]))
}

/// The command's side of a terminal of the container, and the agent's.
fn terminal_of(size: TerminalSize) -> io::Result<(Standard, Vec<OwnedFd>)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    // Not by its name, which the container could have changed.
    let terminal = ioctl_tiocgptpeer(&master, flags)?;
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size)?;
    Ok((Standard::Terminal(terminal), vec![master]))
}

/// Reaps until the command has ended, and returns how; none when the agent or the container is gone before.
fn attend(command: i32, agent: &OwnedFd, signals: &OwnedFd, container: &OwnedFd) -> Option<Exit> {
    loop {
        while let Some((pid, exit)) = sys::reap(-1, false) {
            if pid == command {
                return Some(exit);
            }
        }
        let mut fds =
            [signals, agent, container].map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN));
        if poll(&mut fds, None).is_err() {
            continue;
        }
        // The agent says nothing more: what there is to read is the end.
        if fds[1..].iter().any(|fd| !fd.revents().is_empty()) {
            return None;
        }
        sys::drain_signals(signals.as_fd());
    }
}
