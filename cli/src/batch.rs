//! `apportion batch run|serve|submit|…`: the bundled batch framework.

use std::{path::PathBuf, process::ExitCode};

use apportion_batch::{BatchError, Command as Order, Format as Summary, RunArgs, ServeArgs, job::Job};

use crate::{client::SettingsArgs, output::Format, value::Url};

/// What can be done with batch jobs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Run a job on a cluster until all of its tasks have ended
    Run {
        #[command(flatten)]
        job: RunArgs,
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Run the jobs of many users, which are given by `submit`, until Ctrl-C, which leaves their tasks running
    Serve {
        #[command(flatten)]
        queue: Box<ServeArgs>,
        #[command(flatten)]
        settings: SettingsArgs,
    },
    #[command(flatten)]
    Order(Order),
}

pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run { job, settings } => {
            let Some(client) = settings.start(format(job.output))? else { return Ok(ExitCode::SUCCESS) };
            execute(job, &client.master.places()).await
        }
        Command::Serve { queue, settings } => {
            let Some(client) = settings.start(format(queue.output))? else { return Ok(ExitCode::SUCCESS) };
            Ok(ExitCode::from(apportion_batch::serve(*queue, &client.master.places()).await?))
        }
        // The job that is waited for, if one is, stays in its queue.
        Command::Order(order) => tokio::select! {
            done = apportion_batch::command(order) => Ok(ExitCode::from(done?)),
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(crate::INTERRUPTED)),
        },
    }
}

fn format(summary: Summary) -> Format {
    match summary {
        Summary::Text => Format::Text,
        Summary::Json => Format::Json,
    }
}

/// Runs a job on the cluster of these masters; listens to Ctrl-C meanwhile.
async fn execute(job: RunArgs, master: &str) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::from(apportion_batch::run(job, master).await?))
}

/// How a job of `apportion dev --run` is run and shown.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct JobArgs {
    /// Another value for a parameter of the job file, one of its `params`
    #[arg(long = "set", value_name = "NAME=VALUE", requires = "run", help_heading = "Job")]
    set: Vec<String>,
    /// Show every task in the summary, however many there are
    #[arg(long, requires = "run", help_heading = "Job")]
    all: bool,
    /// Draw who ran where and when into this file (SVG) when the job has ended
    #[arg(long, value_name = "FILE.svg", requires = "run", help_heading = "Job")]
    timeline: Option<PathBuf>,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// A job without an evident mistake.
#[derive(Debug)]
pub(crate) struct Checked(RunArgs);

impl Checked {
    /// Reads the job, so that whatever is wrong with it is said before anything is started for it.
    pub(crate) fn read(job: PathBuf, args: &JobArgs) -> anyhow::Result<Checked> {
        let folder = std::env::current_dir().map_err(BatchError::Folder)?;
        Job::load(&job, &args.set, &folder).map_err(BatchError::Job)?;
        let output = match args.output {
            Format::Text => Summary::Text,
            Format::Json => Summary::Json,
        };
        let timeline = args.timeline.clone();
        Ok(Checked(RunArgs { set: args.set.clone(), all: args.all, output, timeline, ..RunArgs::new(job) }))
    }

    /// Runs it, as [`execute`].
    pub(crate) async fn run(self, master: &Url) -> anyhow::Result<ExitCode> {
        execute(self.0, master.place()).await
    }
}
