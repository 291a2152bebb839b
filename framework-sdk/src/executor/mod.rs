//! Executors: tasks that run other tasks of their framework, inside their own container.
//!
//! A scheduler launches an executor as it launches any task, built with [`Task::executor`](crate::Task::executor), and then tasks that it
//! runs, built with [`Task::run_by`](crate::Task::run_by). To the master, the agent and the scheduler each of these is a task like any
//! other, with resources and statuses of its own; to the machine it is whatever the executor makes of it: a process, a thread, a request
//! to something that is warm already. Its resources are added to what the executor's container is held to while it runs.
//!
//! The program of an executor says how one task is run, and leaves the rest to [`run`]:
//!
//! ```no_run
//! use apportion_sdk::{async_trait, executor::{self, End, Executor, ExecutorError, Launched}};
//!
//! struct Commands;
//!
//! #[async_trait]
//! impl Executor for Commands {
//!     async fn run(&self, task: &Launched) -> End {
//!         let argv = &task.info().command.argv;
//!         let command = tokio::process::Command::new(&argv[0]).args(&argv[1..]).kill_on_drop(true).spawn();
//!         let mut process = match command {
//!             Ok(process) => process,
//!             Err(error) => return End::Failed(format!("{:?} cannot be executed: {error}", argv[0])),
//!         };
//!         task.running("").await;
//!         tokio::select! {
//!             ended = process.wait() => match ended {
//!                 Ok(status) if status.success() => End::Finished(String::new()),
//!                 Ok(status) => End::Failed(status.to_string()),
//!                 Err(error) => End::Failed(error.to_string()),
//!             },
//!             _ = task.killed() => End::Killed(String::new()), // the process is killed when it is dropped
//!         }
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), ExecutorError> {
//!     executor::run(Commands).await
//! }
//! ```
//!
//! # What is taken off an executor's hands
//!
//! **Each task is run once**, however often the agent says that it is to be launched. **What is told of it is repeated** until the agent has
//! it on disk, over lost connections and restarts of the agent, in order for each task. **A task that panics has failed**, and the others
//! run on. **Lost connections are opened again** after a jittered pause that grows from 0.1 to at most 5 seconds; tasks run on meanwhile.
//!
//! # How an executor ends
//!
//! When its task is killed, its tasks are to end too, and every process of its container gets TERM; after the grace KILL. A program that lives
//! on until its tasks have ended takes TERM as the end of [`Runner::run_until`]; of one that dies of it they end with it. Dropping a run
//! drops what [`Executor::run`] does for each task at once. An executor whose agent has been away for [15 minutes](AWAY_MAX) ends by itself.

mod link;
mod run;
mod state;
mod task;

use std::{io, path::PathBuf, time::Duration};

use async_trait::async_trait;

pub use self::{
    run::Runner,
    task::{Launched, Wish},
};

/// How long an agent may be away before its executors end, unless they say otherwise: long enough for it to be upgraded or mended by hand.
pub const AWAY_MAX: Duration = Duration::from_secs(15 * 60);

/// The variable that names the socket of the agent.
pub const SOCKET_VARIABLE: &str = "APPORTION_EXECUTOR_SOCKET";

/// The variable that names the file with the token that the agent knows the executor by.
pub const TOKEN_FILE_VARIABLE: &str = "APPORTION_EXECUTOR_TOKEN_FILE";

/// How tasks are run.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Runs a task to its end, and says how it ended. Called once for each task, for many at a time.
    ///
    /// It is for the executor to say when the task [runs](Launched::running), and to heed the [wish](Launched::killed) that it ends: one that
    /// has not ended with its grace takes the whole executor with it.
    async fn run(&self, task: &Launched) -> End;
}

/// How a task has ended, with a message for people, of which 4 KiB are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It did what it was to do.
    Finished(String),
    /// It did not.
    Failed(String),
    /// It ended because it was to end.
    Killed(String),
}

/// Why an executor cannot be run any longer. Its program is to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutorError {
    /// The program was not started as an executor.
    #[error(
        "{variable} is not set; an executor is started by an agent, as a task that was built with `executor`"
    )]
    Environment {
        /// What an agent would have set.
        variable: &'static str,
    },
    /// The token cannot be read.
    #[error(
        "the token of this executor cannot be read from {path:?}; run the executor as the user of its task"
    )]
    Token {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The agent will not have it.
    #[error("the agent refused this executor: {message}")]
    Refused {
        /// The agent's words.
        message: String,
    },
    /// Another process with the same token has taken its place.
    #[error("another process has subscribed as this executor; start the program once in a container")]
    Replaced,
    /// The agent was away for too long.
    #[error("the agent was away from {socket:?} for {away:?}, lastly because {why}")]
    Away {
        /// Where it should have been.
        socket: PathBuf,
        /// For how long.
        away: Duration,
        /// How the last try failed.
        why: String,
    },
}

/// Runs what the agent launches on this executor, as its environment says, until the agent says that it is over: [`Runner::from_env`] and
/// [`Runner::run`].
///
/// Must be called within a tokio runtime.
pub async fn run(executor: impl Executor) -> Result<(), ExecutorError> {
    Runner::from_env()?.run(executor).await
}
