//! `apportion service run SPEC.toml`: the bundled service framework.

use std::process::ExitCode;

use apportion_service::{Format as Events, RunArgs};

use crate::{client::SettingsArgs, output::Format};

/// What can be done with services.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Keep a service running on a cluster until Ctrl-C, which leaves its replicas running; with --stop, end it
    Run {
        #[command(flatten)]
        service: RunArgs,
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

pub(crate) async fn run(Command::Run { service, settings }: Command) -> anyhow::Result<ExitCode> {
    let format = match service.output {
        Events::Text => Format::Text,
        Events::Json => Format::Json,
    };
    let Some(client) = settings.start(format)? else { return Ok(ExitCode::SUCCESS) };
    Ok(ExitCode::from(apportion_service::run(service, &client.master.places()).await?))
}
