//! The runner's command, so that no container can change the program that it is.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use tokio::process::Command;

use crate::linux::read_only_program;

/// A command, and what must live until it is spawned.
pub(super) struct Runner {
    pub(super) command: Command,
    _program: Option<OwnedFd>,
}

/// The command of a runner, without the last arguments.
///
/// Where the agent may mount, the program is executed from a mount of its own that nobody can write through: root in a container
/// could else have it executed as `/proc/self/exe`, and write to the file behind that when nobody executes it any more
/// (CVE-2019-5736). So it must be a binary; a script could not be read by its interpreter.
pub(super) fn runner(words: &[OsString]) -> io::Result<Runner> {
    let (program, args) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let plain = program.as_bytes().contains(&b'/');
    let mount = if plain { read_only_program(Path::new(program)) } else { None };
    let mut command = match &mount {
        Some(mount) => Command::new(format!("/proc/self/fd/{}", mount.as_raw_fd())),
        None => Command::new(program),
    };
    command.arg0(program).args(args);
    Ok(Runner { command, _program: mount })
}
