//! The commands that talk to `apportion batch serve`: what they ask, and how it is shown.

mod logs;
mod show;
mod submit;

use std::{io::Write as _, path::PathBuf};

use serde::Serialize;

use self::show::{details, list};
pub use self::{
    logs::{LogsArgs, LogsError},
    submit::SubmitArgs,
};
use crate::{
    client::Client,
    queue::JobId,
    report::Report,
    run::{BatchError, Format, SUCCEEDED},
    serve::{
        SOCKET, Target,
        view::{Details, Overview},
    },
    summary,
};

/// Which queue, and how to show what it says.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Which queue.
    #[command(flatten)]
    pub target: Target,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

impl Common {
    fn client(&self) -> Client {
        Client::new(self.target.folder().join(SOCKET))
    }
}

/// Something that is asked of `apportion batch serve`.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Put a job into the queue
    Submit(submit::SubmitArgs),
    /// List jobs, and the users whose they are
    Ls {
        /// Those too that have ended
        #[arg(long)]
        all: bool,
        /// Which queue.
        #[command(flatten)]
        common: Common,
    },
    /// Show a job and its tasks
    Show {
        /// Its number
        job: JobId,
        /// Every task, however many there are
        #[arg(long)]
        all: bool,
        /// Draw who ran where and when into this file (SVG)
        #[arg(long, value_name = "FILE.svg")]
        timeline: Option<PathBuf>,
        /// Which queue.
        #[command(flatten)]
        common: Common,
    },
    /// Show what the tasks of a job have written
    Logs(logs::LogsArgs),
    /// End a job: kill what runs, launch nothing more of it
    Cancel {
        /// Its number
        job: JobId,
        /// Which queue.
        #[command(flatten)]
        common: Common,
    },
    /// Run again what did not succeed of a job that has ended; what succeeded stays
    Retry {
        /// Its number
        job: JobId,
        /// Which queue.
        #[command(flatten)]
        common: Common,
    },
}

/// Asks, and shows what is answered. Gives the exit code.
pub async fn command(command: Command) -> Result<u8, BatchError> {
    match command {
        Command::Submit(args) => return submit::submit(args).await,
        Command::Logs(args) => return logs::logs(args).await,
        Command::Ls { all, common } => {
            let overview: Overview = common.client().get("/v1/queue").await?;
            show(common.output, &overview, || list(&overview, all))?;
        }
        Command::Show { job, all, timeline, common } => {
            let client = common.client();
            let of_job: Details = client.get(&format!("/v1/jobs/{job}")).await?;
            // What became of a job that is over is told as `run` does.
            let report: Option<Report> = match of_job.job.state.is_over() {
                true => Some(client.get(&format!("/v1/jobs/{job}/report")).await?),
                false => None,
            };
            if let Some(file) = timeline {
                let picture = client.bytes(&format!("/v1/jobs/{job}/timeline.svg")).await?;
                std::fs::write(&file, picture).map_err(|source| BatchError::Timeline { file, source })?;
            }
            let width = comfy_table::Table::new().width();
            let ended = || report.as_ref().map(|report| summary::render(report, all, width));
            show(common.output, &of_job, || details(&of_job, all, ended()))?;
        }
        Command::Cancel { job, common } => {
            let done: serde_json::Value =
                common.client().post(&format!("/v1/jobs/{job}/cancel"), Vec::new()).await?;
            show(common.output, &done, || format!("job {job} is being cancelled"))?;
        }
        Command::Retry { job, common } => {
            let done: serde_json::Value =
                common.client().post(&format!("/v1/jobs/{job}/retry"), Vec::new()).await?;
            show(common.output, &done, || {
                let (tasks, outputs) = (&done["tasks"], &done["outputs"]);
                format!("job {job}: {tasks} tasks run again, {outputs} outputs are fetched again")
            })?;
        }
    }
    Ok(SUCCEEDED)
}

/// Writes an answer to standard output, with a line's end.
fn show(format: Format, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), BatchError> {
    let text = match format {
        Format::Text => text(),
        Format::Json => {
            serde_json::to_string_pretty(value).expect("answers have texts as keys and finite numbers")
        }
    };
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        // Whoever has closed the pipe has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(BatchError::Stdout),
    }
}
