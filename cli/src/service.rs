//! `apportion service run|serve|apply|…`: the bundled service framework.

use std::process::ExitCode;

use apportion_service::{Command as Order, Format as Events, RunArgs, ServeArgs};

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
    /// Keep many services running, which are given by `apply`, until Ctrl-C, which leaves their replicas running
    Serve {
        #[command(flatten)]
        services: ServeArgs,
        #[command(flatten)]
        settings: SettingsArgs,
    },
    #[command(flatten)]
    Order(Order),
}

pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let code = match command {
        Command::Run { service, settings } => {
            let Some(client) = settings.start(format(service.output))? else { return Ok(ExitCode::SUCCESS) };
            apportion_service::run(service, &client.master.places()).await?
        }
        Command::Serve { services, settings } => {
            let Some(client) = settings.start(format(services.output))? else { return Ok(ExitCode::SUCCESS) };
            apportion_service::serve(services, &client.master.places()).await?
        }
        Command::Order(order) => tokio::select! {
            done = apportion_service::command(order) => done?,
            _ = tokio::signal::ctrl_c() => crate::INTERRUPTED,
        },
    };
    Ok(ExitCode::from(code))
}

fn format(events: Events) -> Format {
    match events {
        Events::Text => Format::Text,
        Events::Json => Format::Json,
    }
}
