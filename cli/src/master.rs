//! `apportion master`: knows every agent and decides who is offered what.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use apportion_master::{Config, QuotaLimit, Server, Weight};

use crate::{
    Usage,
    client::FileArgs,
    log,
    output::{self, Format},
    settings::{Settings, process_environment},
    signals::Signals,
    value::{self, ByRole},
};

/// The keys of `[master]`.
pub(crate) const KEYS: &[&str] = &[
    "listen",
    "offer_timeout",
    "allocation_coalesce",
    "agent_ping_interval",
    "agent_pings_missed_max",
    "agent_reregister_timeout",
    "scheduler_heartbeat",
    "weights",
    "quota_limits",
    "journal",
    "log",
    "log_format",
];

/// Run a master
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to serve agents, frameworks, operators and the web [default: 127.0.0.1:5050; whoever can reach it may use it]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = value::flag::<SocketAddr>, help_heading = "Settings")]
    listen: Option<SocketAddr>,
    /// How long an offer may be held before it is taken back [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    offer_timeout: Option<Duration>,
    /// How long changes are gathered before offers are made [default: 2ms]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    allocation_coalesce: Option<Duration>,
    /// Between pings of an agent [default: 15s]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    agent_ping_interval: Option<Duration>,
    /// Pings that may go unanswered before an agent is unreachable [default: 5]
    #[arg(long, value_name = "NUMBER", value_parser = value::flag::<u32>, help_heading = "Settings")]
    agent_pings_missed_max: Option<u32>,
    /// How long a disconnected agent may take to return before it is unreachable [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    agent_reregister_timeout: Option<Duration>,
    /// Between heartbeats to a framework [default: 15s]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    scheduler_heartbeat: Option<Duration>,
    /// How much a role counts beside others, such as `eng=2`; may be repeated [default: 1 for each role]
    #[arg(
        long, visible_alias = "weight", value_name = "ROLE=WEIGHT",
        value_parser = value::flag::<ByRole<Weight>>, help_heading = "Settings"
    )]
    weights: Vec<ByRole<Weight>>,
    /// The most that a role may have offered and used, such as `eng=cpus:4;mem:1024`; may be repeated [default: no limits]
    #[arg(
        long, visible_alias = "quota-limit", value_name = "ROLE=RESOURCES",
        value_parser = value::flag::<ByRole<QuotaLimit>>, help_heading = "Settings"
    )]
    quota_limits: Vec<ByRole<QuotaLimit>>,
    /// Record what happens to this file, for `apportion replay`; it tells what tasks are given, so only its owner may read it
    #[arg(long, value_name = "FILE", value_parser = value::flag::<PathBuf>, help_heading = "Settings")]
    journal: Option<PathBuf>,
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    log: log::Args,
    /// The form of `--print-config`
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut settings = Settings::read("master", args.file.config.as_deref(), &process_environment)?;
    // A master trusts whoever reaches it, so by default only this machine does.
    let default = Config::default();
    let config = Config {
        listen: settings.value("listen", args.listen, || default.listen)?,
        offer_timeout: settings.value("offer_timeout", args.offer_timeout, || default.offer_timeout)?,
        allocation_coalesce: settings
            .value("allocation_coalesce", args.allocation_coalesce, || default.allocation_coalesce)?,
        agent_ping_interval: settings
            .value("agent_ping_interval", args.agent_ping_interval, || default.agent_ping_interval)?,
        agent_pings_missed_max: settings.value(
            "agent_pings_missed_max",
            args.agent_pings_missed_max,
            || default.agent_pings_missed_max,
        )?,
        agent_reregister_timeout: settings.value(
            "agent_reregister_timeout",
            args.agent_reregister_timeout,
            || default.agent_reregister_timeout,
        )?,
        scheduler_heartbeat: settings
            .value("scheduler_heartbeat", args.scheduler_heartbeat, || default.scheduler_heartbeat)?,
        weights: settings.value("weights", joined("--weight", args.weights)?, ByRole::default)?.0,
        quota_limits: settings
            .value("quota_limits", joined("--quota-limit", args.quota_limits)?, ByRole::default)?
            .0,
        journal: settings.optional("journal", args.journal)?,
    };
    let log = args.log.resolve(&mut settings, "info")?;
    if args.file.print_config {
        output::answer(args.output, &settings.shown(), ToString::to_string)?;
        return Ok(ExitCode::SUCCESS);
    }
    config.check().map_err(|e| Usage(e.to_string()))?;
    log.start();
    let signals = Signals::listen()?;
    let server = Server::bind(config).await?;
    tokio::select! {
        ended = server.run(signals.asked()) => ended?,
        () = signals.hastened() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// What a flag that may be repeated says in all.
fn joined<T>(flag: &str, parts: Vec<ByRole<T>>) -> Result<Option<ByRole<T>>, Usage> {
    ByRole::joined(parts).map_err(|what| Usage(format!("{flag}: {what}")))
}
