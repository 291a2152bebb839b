//! One more command in a container that runs: what is asked for, and what one holds of it.

use std::{collections::BTreeMap, fmt, io, path::PathBuf};

use apportion_types::container::Exit;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    sync::{oneshot, watch},
};

use crate::{
    error::{ContainerError, LaunchError},
    spec::ContainerId,
};

/// What is to be executed beside a container's task, in all that the task is in and held to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The program and its arguments; the program is looked up in the `PATH` of its environment when it holds no slash.
    pub argv: Vec<String>,
    /// Beside the task's environment, and over it.
    pub env: BTreeMap<String, String>,
    /// `USER[:GROUP]` as the container has them; the task's own when none.
    pub user: Option<String>,
    /// Where it is started; absolute as the container sees it, or relative to the sandbox. The task's own when none.
    pub working_dir: Option<PathBuf>,
    /// Gives it a terminal of the container, of this size, instead of three pipes.
    pub terminal: Option<TerminalSize>,
}

/// How large a terminal is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// What a command reads.
pub type ExecInput = Box<dyn AsyncWrite + Send + Unpin>;

/// What a command writes.
pub type ExecOutput = Box<dyn AsyncRead + Send + Unpin>;

/// A command that was executed. Dropping [`Exec::process`] ends it, with everything that it has started.
pub struct Exec {
    /// Its standard input. Dropping it ends that, but not a terminal's, which has no end but what one types for it.
    pub input: ExecInput,
    /// Its standard output; with a terminal also its standard error. Ends when nobody can write to it any more.
    pub output: ExecOutput,
    /// Its standard error; none with a terminal.
    pub errors: Option<ExecOutput>,
    /// The command itself.
    pub process: ExecProcess,
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Exec {
    /// Ends the input and waits for the end: how that was, and the first bytes of output and errors, at most so many of each. What is
    /// more than that is read and forgotten.
    pub async fn finish(self, bytes_max: usize) -> io::Result<Finished> {
        let Exec { input, output, errors, mut process } = self;
        drop(input);
        let (output, errors, exit) =
            tokio::join!(first(Some(output), bytes_max), first(errors, bytes_max), process.wait());
        Ok(Finished { exit, output: output?, errors: errors? })
    }
}

/// How a command ended, and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub exit: Exit,
    /// The first bytes of its standard output.
    pub output: Vec<u8>,
    /// The first bytes of its standard error.
    pub errors: Vec<u8>,
}

async fn first(from: Option<ExecOutput>, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(mut from) = from else { return Ok(bytes) };
    (&mut from).take(bytes_max as u64).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(bytes)
}

type Resize = Box<dyn Fn(TerminalSize) -> io::Result<()> + Send + Sync>;

/// The process of an executed command. Dropped, it is ended with everything that it has started.
pub struct ExecProcess {
    pub(crate) exit: watch::Receiver<Option<Exit>>,
    pub(crate) resize: Option<Resize>,
    /// Never sent to: whoever looks after the process sees it closed.
    pub(crate) _held: oneshot::Sender<()>,
}

impl fmt::Debug for ExecProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecProcess")
            .field("exit", &*self.exit.borrow())
            .field("terminal", &self.resize.is_some())
            .finish()
    }
}

impl ExecProcess {
    /// Waits for its end. What it started and left has ended too, then; what it wrote can still be read.
    ///
    /// One that ended with its container, or was killed with whatever looked after it, counts as ended by `KILL`.
    pub async fn wait(&mut self) -> Exit {
        match self.exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::Signal(libc::SIGKILL)),
            Err(_) => Exit::Signal(libc::SIGKILL),
        }
    }

    /// Tells its terminal a new size, and whoever reads from there; without a terminal nothing happens.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        self.resize.as_ref().map_or(Ok(()), |resize| resize(size))
    }
}

/// Why a command was not executed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The container is not known, or its folder cannot be used.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// It has ended, or is just ending.
    #[error("container {id} does not run any more; a command can only be executed beside a task that runs")]
    NotRunning {
        /// The container.
        id: ContainerId,
    },
    /// Command and environment together are too long.
    #[error("the command takes {bytes} bytes, more than {bytes_max}; pass what is long in a file")]
    TooLong {
        /// What it takes.
        bytes: usize,
        /// What it may take.
        bytes_max: usize,
    },
    /// It was not started; the reasons are those that a task is not started for.
    #[error(transparent)]
    Start(#[from] LaunchError),
    /// A descriptor of it cannot be used.
    #[error("the command was started, but cannot be talked to")]
    Talk {
        /// What the system said.
        #[from]
        source: io::Error,
    },
}

impl ExecError {
    /// What a shell would return in its place: 127 when there is no such program, 126 when it cannot be executed.
    pub fn exit_code(&self) -> Option<u8> {
        match self {
            ExecError::Start(LaunchError::CommandNotFound { .. }) => Some(127),
            ExecError::Start(LaunchError::PermissionDenied { .. } | LaunchError::NotExecutable { .. }) => {
                Some(126)
            }
            _ => None,
        }
    }
}
