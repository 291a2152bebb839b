//! The runner's program, so that no container can change it.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::Arc,
};

use tokio::process::Command;

use crate::{error::LaunchError, linux::read_only_program};

/// The program of all runners of this agent process.
///
/// Where the agent may mount, it is executed from a mount of its own that nobody can write through: root in a container
/// could else have it executed as `/proc/self/exe`, and write to the file behind that when nobody executes it any more
/// (CVE-2019-5736). So it must be a binary; a script could not be read by its interpreter. There is one mount for all of them, since the
/// kernel makes whoever lets go of one wait.
#[derive(Debug, Clone)]
pub(super) struct Program {
    words: Vec<OsString>,
    mount: Option<Arc<OwnedFd>>,
}

impl Program {
    /// The program of this command. What later comes to be at its path is another one.
    pub(super) fn of(words: &[OsString]) -> Program {
        let program = words.first().filter(|program| program.as_bytes().contains(&b'/'));
        let mount = program.and_then(|program| read_only_program(Path::new(program))).map(Arc::new);
        Program { words: words.to_vec(), mount }
    }

    /// The command of a runner, without the last arguments.
    pub(super) fn command(&self) -> io::Result<Command> {
        let (program, args) = self.words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = match &self.mount {
            Some(mount) => Command::new(format!("/proc/self/fd/{}", mount.as_raw_fd())),
            None => Command::new(program),
        };
        command.arg0(program).args(args);
        Ok(command)
    }

    /// That it could not be started.
    pub(super) fn failed(&self, source: io::Error) -> LaunchError {
        LaunchError::Spawn { command: format!("{:?}", self.words), source }
    }
}
