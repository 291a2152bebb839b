//! Why the program around a scheduler ends, or a command does nothing.

use std::path::PathBuf;

use apportion_sdk::{BuildError, DriverError};

use crate::{
    client::ClientError,
    command::LogsError,
    job::JobError,
    keep::KeepError,
    queue::JobId,
    run::{FAILED, USAGE},
};

/// Why a job could not be run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The job file is wrong.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The folder in which the command was given is gone.
    #[error("cannot tell the current folder, from which relative paths are taken: {0}")]
    Folder(std::io::Error),
    /// The folder for the outputs could not be made.
    #[error("cannot make the folder {} for the outputs: {source}", folder.display())]
    Output {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Where the job is cannot be written down, or read.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// The master's address or the role is wrong.
    #[error(transparent)]
    Usage(#[from] BuildError),
    /// The master could not be reached, or ended the framework.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The master does not take the framework of the earlier run.
    #[error(
        "{source}; is this the master of the earlier run? if that one is gone for good, name another --state to begin anew"
    )]
    Stranger {
        /// The master's words.
        source: DriverError,
    },
    /// The picture could not be written.
    #[error("cannot write the timeline to {}: {source}; give another --timeline", file.display())]
    Timeline {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Nobody served a queue, or what was asked for was refused.
    #[error(transparent)]
    Client(Box<ClientError>),
    /// The end of a job was waited for, and it is not known any more.
    #[error(
        "job {job} is not known any more: it ended and was forgotten (--keep-jobs, --keep-for), or the queue was begun anew"
    )]
    Forgotten {
        /// Which.
        job: JobId,
    },
    /// What tasks have written cannot be shown.
    #[error(transparent)]
    Logs(#[from] LogsError),
    /// Orders cannot be taken.
    #[error(
        "cannot listen at {place}: {source}; name another --http, or another --state, whose path is shorter than 100 bytes, on a local disk"
    )]
    Listen {
        /// Where.
        place: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Signals could not be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(std::io::Error),
    /// What happens cannot be told.
    #[error(
        "cannot begin a thread that writes what happens: {0}; raise the limit on threads (ulimit -u, pids of its cgroup)"
    )]
    Lines(std::io::Error),
    /// What a queue keeps was removed while it was served.
    #[error(
        "what was kept in {} is gone, so that nobody can go on: tasks run on until the failover time-out ends; put it back before you serve \
         again, or end them with `apportion teardown {framework_id}`",
        folder.display()
    )]
    Gone {
        /// Where it was.
        folder: PathBuf,
        /// Whose tasks they are.
        framework_id: String,
    },
    /// The summary could not be written.
    #[error("cannot write the summary to standard output: {0}")]
    Stdout(std::io::Error),
}

impl BatchError {
    /// The exit code for it: [`USAGE`] when what was asked for is wrong, otherwise [`FAILED`].
    pub fn exit_code(&self) -> u8 {
        match self {
            BatchError::Job(_)
            | BatchError::Usage(_)
            | BatchError::Output { .. }
            | BatchError::Timeline { .. }
            | BatchError::Keep(_) => USAGE,
            _ => FAILED,
        }
    }
}
