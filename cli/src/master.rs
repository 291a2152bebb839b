//! `apportion master`: knows every agent and decides who is offered what.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use apportion_master::{
    Config, QuotaLimit, RateLimit, Server, Weight,
    etcd::{Cluster, Endpoints},
};
use apportion_types::Resources;

use crate::{
    Usage,
    client::FileArgs,
    log,
    output::{self, Format},
    settings::{Settings, process_environment},
    signals::Signals,
    value::{self, AnyOf, ByRole, Names, RateLimits},
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
    "quota_guarantees",
    "allocatable_min",
    "fairness_excluded",
    "filter_gpus",
    "region",
    "offers_per_framework_max",
    "rate_limits",
    "rate_limit_default",
    "preemption_grace",
    "journal",
    "work_dir",
    "etcd",
    "cluster",
    "advertise",
    "leader_lease",
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
    /// What a role is sure of, such as `eng=cpus:4;mem:1024`; may be repeated [default: nothing]
    #[arg(
        long, visible_alias = "quota-guarantee", value_name = "ROLE=RESOURCES",
        value_parser = value::flag::<ByRole<Resources>>, help_heading = "Settings"
    )]
    quota_guarantees: Vec<ByRole<Resources>>,
    /// The least that is offered, alternatives with `|` between them; `none` for no least [default: cpus:0.01|mem:32]
    #[arg(long, value_name = "RESOURCES", value_parser = value::flag::<AnyOf>, help_heading = "Settings")]
    allocatable_min: Option<AnyOf>,
    /// Resources that do not count for fairness, such as `gpus`, with commas between them [default: none]
    #[arg(long, value_name = "NAMES", value_parser = value::flag::<Names>, help_heading = "Settings")]
    fairness_excluded: Option<Names>,
    /// Offer agents with gpus only to frameworks that say that they can use some [default: false]
    #[arg(long, value_name = "BOOL", value_parser = value::flag::<bool>, num_args = 0..=1, default_missing_value = "true", require_equals = true, help_heading = "Settings")]
    filter_gpus: Option<bool>,
    /// The master's own region: agents of others are offered only to frameworks that are aware of regions [default: none]
    #[arg(long, value_name = "NAME", value_parser = value::flag::<String>, help_heading = "Settings")]
    region: Option<String>,
    /// The most offers that one framework may hold [default: 10000]
    #[arg(long, value_name = "NUMBER", value_parser = value::flag::<u32>, help_heading = "Settings")]
    offers_per_framework_max: Option<u32>,
    /// How many calls each second the frameworks of a principal may make, and how many at once, such as `ann=100:500`; may be
    /// repeated [default: no limits]
    #[arg(
        long, visible_alias = "rate-limit", value_name = "PRINCIPAL=QPS[:CAPACITY]",
        value_parser = value::flag::<RateLimits>, help_heading = "Settings"
    )]
    rate_limits: Vec<RateLimits>,
    /// The same for every principal that is not named [default: no limit]
    #[arg(long, value_name = "QPS[:CAPACITY]", value_parser = value::flag::<RateLimit>, help_heading = "Settings")]
    rate_limit_default: Option<RateLimit>,
    /// From the notice of a preemption to the kill [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    preemption_grace: Option<Duration>,
    /// Record what happens to this file, for `apportion replay`; it tells what tasks are given, so only its owner may read it
    #[arg(long, value_name = "FILE", value_parser = value::flag::<PathBuf>, help_heading = "Settings")]
    journal: Option<PathBuf>,
    /// Where it keeps what must outlive it; its alone, on a local disk [default: nowhere, it lasts as long as the process]
    #[arg(long, value_name = "FOLDER", value_parser = value::flag::<PathBuf>, help_heading = "Settings")]
    work_dir: Option<PathBuf>,
    /// Where etcd is, several with commas between them: it elects the one of several masters that leads, and keeps what must outlive it
    /// [default: this master is alone]
    #[arg(long, value_name = "HOST:PORT", value_parser = value::flag::<Endpoints>, help_heading = "Settings")]
    etcd: Option<Endpoints>,
    /// Which cluster this is a master of, in etcd [default: default]
    #[arg(long, value_name = "NAME", value_parser = value::flag::<Cluster>, help_heading = "Settings")]
    cluster: Option<Cluster>,
    /// As what others reach this master when it leads [default: where it listens]
    #[arg(long, value_name = "HOST:PORT", value_parser = value::flag::<String>, help_heading = "Settings")]
    advertise: Option<String>,
    /// How long after etcd last heard of a leader another master may lead, in whole seconds [default: 3s]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    leader_lease: Option<Duration>,
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
        quota_guarantees: settings
            .value("quota_guarantees", joined("--quota-guarantee", args.quota_guarantees)?, ByRole::default)?
            .0,
        allocatable_min: settings
            .value("allocatable_min", args.allocatable_min, || AnyOf(default.allocatable_min))?
            .0,
        fairness_excluded: settings.value("fairness_excluded", args.fairness_excluded, Names::default)?.0,
        filter_gpus: settings.value("filter_gpus", args.filter_gpus, || default.filter_gpus)?,
        region: settings.optional("region", args.region)?,
        offers_per_framework_max: settings.value(
            "offers_per_framework_max",
            args.offers_per_framework_max,
            || default.offers_per_framework_max,
        )?,
        rate_limits: settings.value("rate_limits", all_limits(args.rate_limits)?, RateLimits::default)?.0,
        rate_limit_default: settings.optional("rate_limit_default", args.rate_limit_default)?,
        preemption_grace: settings
            .value("preemption_grace", args.preemption_grace, || default.preemption_grace)?,
        journal: settings.optional("journal", args.journal)?,
        work_dir: settings.optional("work_dir", args.work_dir)?,
        etcd: settings.optional("etcd", args.etcd)?,
        cluster: settings.value("cluster", args.cluster, Cluster::default)?,
        advertise: settings.optional("advertise", args.advertise)?,
        leader_lease: settings.value("leader_lease", args.leader_lease, || default.leader_lease)?,
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

/// What `--rate-limit` says in all.
fn all_limits(parts: Vec<RateLimits>) -> Result<Option<RateLimits>, Usage> {
    RateLimits::joined(parts).map_err(|what| Usage(format!("--rate-limit: {what}")))
}

/// What a flag that may be repeated says in all.
fn joined<T>(flag: &str, parts: Vec<ByRole<T>>) -> Result<Option<ByRole<T>>, Usage> {
    ByRole::joined(parts).map_err(|what| Usage(format!("{flag}: {what}")))
}
