//! The last steps of a process before it becomes the task.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    thread,
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags, open},
    process::{Signal, chdir, fchdir, ioctl_tiocsctty, set_parent_process_death_signal, setsid, umask},
};

use super::{
    accounts, image,
    output::{STDERR, STDOUT},
    place::{self, Links},
    rlimits, root, sys,
    wire::Word,
};
use crate::{
    folder::{Failure, Order},
    runtime::DEFAULT_PATH,
};

/// How often a program that is open for writing is tried again, twice as long apart each time.
///
/// Whoever wrote it has closed it; but while the agent starts other processes, these hold copies of its descriptors for a moment.
const BUSY_TRIES: u32 = 8;

/// What a program has for its input, output and errors.
pub(super) enum Standard {
    /// Nothing to read, and files of the sandbox to append to.
    Sandbox,
    /// Nothing to read, and these for its output and its errors, which the runner reads.
    Runner([OwnedFd; 2]),
    /// These, in this order. The program ends with its parent.
    Pipes([OwnedFd; 3]),
    /// This one for all three, and for its session. The program ends with its parent.
    Terminal(OwnedFd),
}

impl Standard {
    /// The descriptors that it holds.
    pub(super) fn descriptors(&self) -> &[OwnedFd] {
        match self {
            Standard::Sandbox => &[],
            Standard::Runner(pipes) => pipes,
            Standard::Pipes(pipes) => pipes,
            Standard::Terminal(terminal) => std::slice::from_ref(terminal),
        }
    }

    /// True for a command beside a task, which ends with its parent.
    fn is_beside(&self) -> bool {
        matches!(self, Standard::Pipes(_) | Standard::Terminal(_))
    }
}

/// Becomes the task; returns only with the reason why not. `report` is closed by the `execve` that succeeds.
pub(super) fn become_task(
    order: &Order,
    sandbox: &Path,
    standard: &Standard,
    report: BorrowedFd<'_>,
) -> Failure {
    match prepare(order, sandbox, standard, report) {
        Ok(Some(command)) => execute(&command),
        // A trial ends here, as if its program had returned 0.
        Ok(None) => sys::exit_now(0),
        Err(failure) => failure,
    }
}

/// What is to be executed, in the form in which the kernel takes it.
struct Command {
    argv: Vec<CString>,
    env: Vec<CString>,
    path: String,
}

impl Command {
    fn new(order: &Order) -> Result<Command, Failure> {
        // Checked when the container was asked for, and checked again here because it came off a disk.
        let string = |text: String| CString::new(text).map_err(|e| Failure::setup("reading the command", e));
        let spec = &order.spec;
        Ok(Command {
            argv: spec.argv.iter().cloned().map(string).collect::<Result<_, _>>()?,
            env: spec.env.iter().map(|(k, v)| string(format!("{k}={v}"))).collect::<Result<_, _>>()?,
            path: spec.env.get("PATH").cloned().unwrap_or_else(|| DEFAULT_PATH.to_owned()),
        })
    }
}

fn prepare(
    order: &Order,
    sandbox: &Path,
    standard: &Standard,
    report: BorrowedFd<'_>,
) -> Result<Option<Command>, Failure> {
    let command = if order.trial { None } else { Some(Command::new(order)?) };
    setsid().map_err(|e| Failure::setup("starting a session", e))?;
    umask(Mode::WGRP | Mode::WOTH);
    let sandbox = image::sandbox_inside(order, sandbox);
    connect(standard, sandbox)?;
    // Late, because a limit may leave no room for what comes before.
    rlimits::set(&order.spec.rlimits)?;
    accounts::enter(order)?;
    // A change of the user takes this away.
    if standard.is_beside() {
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|e| Failure::setup("tying the command to its parent", e))?;
    }
    enter_working_dir(order, sandbox)?;
    sys::close_all_on_exec();
    // From here on it counts as the task: its number is what the runner learns from this message.
    Word::Executing.send(report).map_err(|e| Failure::setup("reporting to the runner", e))?;
    sys::reset_signals();
    Ok(command)
}

fn connect(standard: &Standard, sandbox: &Path) -> Result<(), Failure> {
    let setup = |e: io::Error| Failure::setup("redirecting input and output", e);
    let (nothing, opened);
    let [input, output, errors] = match standard {
        Standard::Sandbox => {
            opened = sandbox_files(sandbox)?;
            opened.each_ref()
        }
        Standard::Runner([output, errors]) => {
            nothing = nothing_to_read()?;
            [&nothing, output, errors]
        }
        Standard::Pipes(pipes) => pipes.each_ref(),
        Standard::Terminal(terminal) => {
            ioctl_tiocsctty(terminal).map_err(|e| Failure::setup("taking the terminal", e))?;
            [terminal; 3]
        }
    };
    for (from, to) in [(input, 0), (output, 1), (errors, 2)] {
        sys::replace_standard(from.as_fd(), to).map_err(setup)?;
    }
    Ok(())
}

/// Nothing to read, and pipes to the runner or the files of the sandbox to append to.
pub(super) fn standard_files(sandbox: &Path, pipes: Option<[OwnedFd; 2]>) -> Result<[OwnedFd; 3], Failure> {
    match pipes {
        Some([output, errors]) => Ok([nothing_to_read()?, output, errors]),
        None => sandbox_files(sandbox),
    }
}

fn sandbox_files(sandbox: &Path) -> Result<[OwnedFd; 3], Failure> {
    let folder = root::open_folder(sandbox)?;
    let stdout = root::open_output(folder.as_fd(), sandbox, STDOUT)?;
    let stderr = root::open_output(folder.as_fd(), sandbox, STDERR)?;
    Ok([nothing_to_read()?, stdout, stderr])
}

fn nothing_to_read() -> Result<OwnedFd, Failure> {
    let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    null.map_err(|e| Failure::setup("opening /dev/null", e))
}

/// Links are followed, but not those of `/proc`, which could lead out of the container's root.
fn enter_working_dir(order: &Order, sandbox: &Path) -> Result<(), Failure> {
    let Some(path) = &order.spec.working_dir else {
        return chdir(sandbox).map_err(|e| Failure::sandbox(sandbox, "entering it", e));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let entered = open("/", flags, Mode::empty())
        .and_then(|root| place::open_as(&root, &sandbox.join(path), Links::Inside, flags))
        .and_then(fchdir);
    entered.map_err(|e| Failure::working_dir(path, e))
}

fn execute(command: &Command) -> Failure {
    let Some(program) = command.argv.first() else {
        return Failure::setup("reading the command", io::Error::from_raw_os_error(libc::EINVAL));
    };
    let name = String::from_utf8_lossy(program.as_bytes()).into_owned();
    if name.contains('/') {
        return explain(&name, &name, try_one(program, command));
    }
    let mut denied = None;
    for folder in command.path.split(':') {
        // An empty entry means the working directory, by old custom.
        let path = Path::new(if folder.is_empty() { "." } else { folder }).join(&name);
        let Ok(candidate) = CString::new(path.as_os_str().as_bytes()) else { continue };
        let error = try_one(&candidate, command);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG) if !path.exists() => {}
            Some(libc::EACCES) => {
                // A folder that cannot be searched may hold anything; only what can be seen there is worth a word.
                if fs::symlink_metadata(&path).is_ok() {
                    denied.get_or_insert_with(|| path.display().to_string());
                }
            }
            _ => return explain(&name, &path.display().to_string(), error),
        }
    }
    match denied {
        Some(program) => Failure::PermissionDenied { program },
        None => Failure::CommandNotFound { command: name, searched: format!("PATH={}", command.path) },
    }
}

fn try_one(program: &CString, command: &Command) -> io::Error {
    let mut tries = 0;
    loop {
        let error = sys::execute(program, &command.argv, &command.env);
        if error.raw_os_error() != Some(libc::ETXTBSY) || tries == BUSY_TRIES {
            return error;
        }
        thread::sleep(Duration::from_millis(1 << tries));
        tries += 1;
    }
}

fn explain(command: &str, program: &str, error: io::Error) -> Failure {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let hint = match errno {
        libc::ENOENT | libc::ENOTDIR | libc::ELOOP if fs::symlink_metadata(program).is_err() => {
            return Failure::CommandNotFound {
                command: command.to_owned(),
                searched: "the file system".to_owned(),
            };
        }
        libc::EACCES => return Failure::PermissionDenied { program: program.to_owned() },
        errno => hint(errno),
    };
    Failure::NotExecutable { program: program.to_owned(), hint: hint.to_owned(), errno }
}

/// What probably is wrong with a program that the kernel does not execute.
pub(super) fn hint(errno: i32) -> &'static str {
    match errno {
        libc::ENOENT => "the interpreter that its first line or its header names does not exist",
        libc::ENOEXEC => "it is no program for this machine; a script needs a first line such as #!/bin/sh",
        libc::E2BIG => "arguments and environment are too large; pass them in a file",
        libc::ETXTBSY => "it is still open for writing; close it before launching",
        libc::ENOMEM => "there is not enough memory for it under its limit; raise the limit",
        _ => "the kernel refused it",
    }
}
