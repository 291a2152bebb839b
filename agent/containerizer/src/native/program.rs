//! The runner's program, so that no container can change it.

use std::{
    ffi::OsString,
    fs, io,
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

/// The mount that it is executed from. Where there can be none, that is said, for it is a risk that whoever runs the agent takes.
fn mount(program: &Path) -> Option<OwnedFd> {
    match read_only_program(program) {
        Ok(mount) => Some(mount),
        Err(error) => {
            let file = fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
            tracing::warn!(?file, %error, "the runner's program cannot be mounted read-only: a task that runs as the owner of its file can change it, and with it \
                 what the agent executes; have the agent run where it may mount, or make the file one that nobody may write to");
            None
        }
    }
}

impl Program {
    /// The program of this command. What later comes to be at its path is another one.
    pub(super) fn of(words: &[OsString]) -> Program {
        let program = words.first().filter(|program| program.as_bytes().contains(&b'/'));
        let mount = program.and_then(|program| mount(Path::new(program))).map(Arc::new);
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
