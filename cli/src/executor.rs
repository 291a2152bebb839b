//! `apportion executor`: the bundled executor.

use std::process::ExitCode;

use crate::signals::Signals;

/// Run the commands of tasks as plain processes of one container (started by an agent, as a task that is an executor)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run() -> anyhow::Result<ExitCode> {
    let signals = Signals::listen()?;
    apportion_command_executor::run(signals.asked()).await?;
    Ok(ExitCode::SUCCESS)
}
