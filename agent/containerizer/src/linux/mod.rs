//! The runner: the process beside each container, and what it starts. Linux only, and all unsafe code is here, in `sys.rs`,
//! `pidfd.rs` and `stream.rs`.
//!
//! One thread, no runtime, no logging framework: it lives as long as its container, and there is one for each.

mod accounts;
mod bare;
mod birth;
mod devices;
mod exec;
mod image;
mod init;
mod kernel;
mod mounts;
mod netns;
mod oci;
mod output;
pub(crate) mod pidfd;
mod place;
mod privileges;
mod rlimits;
mod root;
mod server;
pub(crate) mod stream;
mod sys;
mod syscalls;
mod task;
mod tree;
mod users;
mod volumes;
mod watch;
pub(crate) mod wire;

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
};

pub use bare::bare_loop;
pub(crate) use mounts::read_only_program;
pub(crate) use netns::NETNS;
pub use pidfd::ended as process_ended;
pub(crate) use privileges::OCI as CAPABILITIES;
use rustix::{fs::Mode, process::umask};
use serde::de::DeserializeOwned;

use crate::folder::{self, Failure, Order, Pids, Process, ReadError, Report};

/// The word before the folder that has a command executed.
pub(crate) const EXEC: &str = "exec";

/// The most that an [`crate::ExecSpec`] takes on its way: what a socket passes on at once, with room for the kernel's own.
pub(crate) const EXEC_BYTES_MAX: usize = 160 << 10;

/// Runs a container's runner: what a binary does when its first argument is `runner`, before anything else.
///
/// `args` are the arguments behind that word: the container's folder. Must be called before any thread is started. Returns
/// when the container has ended and its cgroups are gone. A failure to start it goes to standard output, for the agent. With `exec`
/// before the folder it executes one more command in the container instead, and returns when that has ended.
pub fn runner_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let (folder, executes) = match args.as_slice() {
        [word, rest @ ..] if word == NETNS => return netns::main(rest),
        [folder] => (folder, false),
        [word, folder] if word == EXEC => (folder, true),
        _ => {
            note("usage: runner [exec] FOLDER (the agent starts this by itself, for each container)");
            return ExitCode::from(2);
        }
    };
    let _ = rustix::thread::set_name(c"runner");
    if !sys::single_threaded() {
        note("the runner must be started before any thread");
        return ExitCode::from(2);
    }
    // Whatever the agent's process leaked to us must not reach a container, nor stay open for its life.
    sys::close_all_but(&[]);
    if executes {
        return exec::main(Path::new(folder));
    }
    match run(Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            note(format_args!("not started: {failure:?}"));
            report(&Report::Failed(failure));
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path) -> Result<(), Failure> {
    // Out of the agent's session, so that what ends its terminal does not end the container.
    rustix::process::setsid().map_err(|e| Failure::setup("starting a session", e))?;
    // Output files of the task are made here too, for its user to read.
    umask(Mode::WGRP | Mode::WOTH);
    // Into the folder: a socket's path must be short, and the folder's may be long.
    env::set_current_dir(folder).map_err(|e| Failure::state(folder, &e))?;
    let order: Order = read(folder::SPEC)?;
    let sandbox = resolve(&order.spec.sandbox)?;
    let me = std::process::id() as i32;
    let me = Process::find(me)
        .and_then(|me| me.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(|e| Failure::setup("looking at /proc", e))?;
    let pids = claim(me)?;
    let (container, server) = birth::start(order, &sandbox, pids, me)?;
    report(&Report::Ready);
    container.watch(server);
    Ok(())
}

/// Reads a file of the container's folder, which this process is in and which must have it.
fn read<T: DeserializeOwned>(name: &str) -> Result<T, Failure> {
    match folder::read(Path::new(name)) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(Failure::state(Path::new(name), &io::ErrorKind::NotFound.into())),
        Err(ReadError::Io(e)) => Err(Failure::state(Path::new(name), &e)),
        Err(ReadError::Damaged(e)) => Err(Failure::setup(format!("reading {name}: {e}"), e)),
    }
}

/// Says something in the runner's log. One that cannot be written, as on a full disk, keeps nobody from what is to be done.
fn note(what: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// The sandbox without symbolic links, as mounts are told apart.
fn resolve(sandbox: &Path) -> Result<PathBuf, Failure> {
    let path = fs::canonicalize(sandbox).map_err(|e| Failure::sandbox(sandbox, "looking for it", e))?;
    if path == Path::new("/") || !path.is_dir() {
        let error = io::Error::from_raw_os_error(libc::ENOTDIR);
        return Err(Failure::sandbox(sandbox, "using it as a folder of its own", error));
    }
    Ok(path)
}

/// Takes the folder for this runner, unless an agent has declared the launch dead.
fn claim(me: Process) -> Result<Pids, Failure> {
    let path = Path::new(folder::PIDS);
    let boot_id = crate::procfs::boot_id().map_err(|e| Failure::setup("reading which boot this is", e))?;
    let pids = Pids { boot_id: boot_id.to_owned(), runner: Some(me), ..Pids::default() };
    match folder::write_once(path, &pids) {
        Ok(true) => {
            let kept = folder::keep_room(Path::new("."));
            kept.map(|()| pids).map_err(|e| Failure::state(Path::new(folder::EXIT), &e))
        }
        Ok(false) => Err(Failure::Claimed),
        Err(e) => Err(Failure::state(path, &e)),
    }
}

/// Tells the agent, if it still lives, and lets go of the pipe to it.
fn report(report: &Report) {
    let mut out = io::stdout().lock();
    let line = serde_json::to_string(report).unwrap_or_default();
    // A dead agent is no error: its successor reads the folder.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
    if let Ok(null) = fs::File::options().write(true).open("/dev/null") {
        let _ = sys::replace_standard(null.as_fd(), 1);
    }
}
