//! `apportion agent`: offers a machine's resources and runs tasks on it.

mod content;
mod network;
mod sandboxes;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use apportion_agent::{Agent, Config, Estimator};
use apportion_containerizer::{Runtime, UserRange, UserRangeError};
use apportion_types::{CpuSet, FaultDomain, Resources};

use crate::{
    Usage,
    client::{FileArgs, MASTER_DEFAULT},
    log,
    output::{self, Format},
    settings::{Settings, process_environment},
    signals::Signals,
    value::{self, Attributes, Folders, Url, Urls, Value},
};

/// The keys of `[agent]`.
pub(crate) const KEYS: &[&str] = &[
    "master",
    "listen",
    "advertise",
    "hostname",
    "work_dir",
    "resources",
    "attributes",
    "domain",
    "estimator",
    "oversubscription_interval",
    "pids_default",
    "kill_tasks_on_exit",
    "exit_grace_max",
    "cgroup_parent",
    "cpuset",
    "userns",
    "runtime",
    "lend_host_path",
    "enforce_disk",
    "disk_check_interval",
    "sandbox_keep",
    "disk_headroom",
    "sandbox_collect_interval",
    "log_max_bytes",
    "log_files_max",
    "registry",
    "registry_config",
    "registry_insecure",
    "image_cache_max",
    "image_max",
    "image_layers_max",
    "artifact_cache_max",
    "artifact_max",
    "cni_config_dir",
    "cni_plugin_dir",
    "cni_timeout",
    "enforce_ports",
    "ports_check_interval",
    "log",
    "log_format",
];

/// Where a daemon of a system keeps what must outlive it.
const WORK_DIR_DEFAULT: &str = "/var/lib/apportion/agent";

/// Run an agent
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The masters, separated by commas; tried in turn until one leads, or names the one that does [default: http://127.0.0.1:5050]
    #[arg(long, value_name = "URL,…", value_parser = value::flag::<Urls>, help_heading = "Settings")]
    master: Option<Urls>,
    /// Where to serve its tasks' files, its health and its metrics [default: 127.0.0.1:5051]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = value::flag::<SocketAddr>, help_heading = "Settings")]
    listen: Option<SocketAddr>,
    /// Where others reach it, if not where it listens
    #[arg(long, value_name = "HOST:PORT", help_heading = "Settings")]
    advertise: Option<String>,
    /// The name of this machine, for people and placement [default: the machine's own]
    #[arg(long, value_name = "NAME", help_heading = "Settings")]
    hostname: Option<String>,
    /// Where it keeps what must outlive it, and its tasks' files; its alone, on a local disk [default: /var/lib/apportion/agent]
    #[arg(long, value_name = "FOLDER", value_parser = value::flag::<PathBuf>, help_heading = "Settings")]
    work_dir: Option<PathBuf>,
    /// What it has to offer, such as `cpus:4;mem:8GiB`, with `cpus(eng):2` reserved for a role; of cpus, mem, disk and ports, what is not named is detected
    #[arg(long, value_name = "RESOURCES", value_parser = value::flag::<Resources>, help_heading = "Settings")]
    resources: Option<Resources>,
    /// What frameworks may place by, such as `rack=a,zone=b`
    #[arg(long, value_name = "NAME=VALUE,…", value_parser = value::flag::<Attributes>, help_heading = "Settings")]
    attributes: Option<Attributes>,
    /// Where this machine stands, for frameworks that spread or gather their tasks, such as `eu/eu-1a`
    #[arg(long, value_name = "REGION/ZONE", value_parser = value::flag::<FaultDomain>, help_heading = "Settings")]
    domain: Option<FaultDomain>,
    /// What says how much of what tasks hold is idle and can be lent: `none`, `usage`, or `fixed:RESOURCES` [default: none]
    #[arg(long, value_name = "ESTIMATOR", value_parser = value::flag::<Estimator>, help_heading = "Settings")]
    estimator: Option<Estimator>,
    /// Between two estimates [default: 15s]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    oversubscription_interval: Option<Duration>,
    /// Processes and threads of a task that does not say [default: 1024]
    #[arg(long, value_name = "NUMBER", value_parser = value::flag::<u64>, help_heading = "Settings")]
    pids_default: Option<u64>,
    /// Whether to kill the tasks and leave the cluster when asked to end; else they run on for the next agent [default: false]
    #[arg(
        long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = value::flag::<bool>, help_heading = "Settings"
    )]
    kill_tasks_on_exit: Option<bool>,
    /// The longest grace that a task is given by that [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    exit_grace_max: Option<Duration>,
    /// The parent of its containers' cgroups; each agent of a machine needs its own [default: apportion]
    #[arg(long, value_name = "PATH", help_heading = "Settings")]
    cgroup_parent: Option<String>,
    /// The processors that tasks may run on, such as `2-7`; others are left to the rest of the machine [default: all]
    #[arg(long, value_name = "CPUS", value_parser = value::flag::<CpuSet>, help_heading = "Settings")]
    cpuset: Option<CpuSet>,
    /// Gives tasks users of their own: the first of 65536 ids of this machine that stand for theirs, such as `1000000` [default: none]
    #[arg(long, value_name = "FIRST", value_parser = value::flag::<UserRange>, help_heading = "Settings")]
    userns: Option<UserRange>,
    /// What makes containers: `native`, or an OCI runtime with its options, such as `runc` or `runsc --network=host` [default: native]
    #[arg(long, value_name = "native|RUNTIME", value_parser = value::flag::<Runtime>, help_heading = "Settings")]
    runtime: Option<Runtime>,
    /// Folders of this machine below which tasks may be given volumes to write to, separated by commas [default: none]
    #[arg(long, value_name = "FOLDER,…", value_parser = value::flag::<Folders>, help_heading = "Settings")]
    lend_host_path: Option<Folders>,
    #[command(flatten)]
    sandboxes: sandboxes::Args,
    #[command(flatten)]
    content: content::Args,
    #[command(flatten)]
    network: network::Args,
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    log: log::Args,
    /// The form of `--print-config`
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut settings = Settings::read("agent", args.file.config.as_deref(), &process_environment)?;
    let default = Config::default();
    let masters = settings.value("master", args.master, || Urls(vec![Url(MASTER_DEFAULT.to_owned())]))?;
    let mut config = Config {
        master: masters.0.iter().map(|url| url.place().to_owned()).collect(),
        listen: settings.value("listen", args.listen, || default.listen)?,
        advertise: settings.optional("advertise", args.advertise)?,
        hostname: settings.optional("hostname", args.hostname)?,
        work_dir: settings.value("work_dir", args.work_dir, || PathBuf::from(WORK_DIR_DEFAULT))?,
        resources: settings.optional("resources", args.resources)?,
        attributes: settings.value("attributes", args.attributes, Attributes::default)?.0,
        domain: settings.optional("domain", args.domain)?,
        estimator: settings.value("estimator", args.estimator, || default.estimator.clone())?,
        oversubscription_interval_ms: {
            let default = || Duration::from_millis(default.oversubscription_interval_ms);
            millis(settings.value("oversubscription_interval", args.oversubscription_interval, default)?)
        },
        pids_default: settings.value("pids_default", args.pids_default, || default.pids_default)?,
        kill_tasks_on_exit: settings
            .value("kill_tasks_on_exit", args.kill_tasks_on_exit, || default.kill_tasks_on_exit)?,
        exit_grace_max_ms: {
            let default = || Duration::from_millis(default.exit_grace_max_ms);
            millis(settings.value("exit_grace_max", args.exit_grace_max, default)?)
        },
        cgroup_parent: settings
            .value("cgroup_parent", args.cgroup_parent, || default.cgroup_parent.clone())?,
        cpuset: settings.optional("cpuset", args.cpuset)?,
        userns: settings.optional("userns", args.userns)?,
        runtime: settings.value("runtime", args.runtime, || default.runtime.clone())?,
        lend_host_paths: settings.value("lend_host_path", args.lend_host_path, Folders::default)?.0,
        ..default
    };
    args.sandboxes.resolve(&mut settings, &mut config)?;
    args.content.resolve(&mut settings, &mut config)?;
    args.network.resolve(&mut settings, &mut config)?;
    let log = args.log.resolve(&mut settings, "info")?;
    if args.file.print_config {
        output::answer(args.output, &settings.shown(), ToString::to_string)?;
        return Ok(ExitCode::SUCCESS);
    }
    config.check().map_err(|e| Usage(e.to_string()))?;
    log.start();
    let signals = Signals::listen()?;
    let agent = Agent::native(config).await?;
    tokio::select! {
        ended = agent.run(signals.asked()) => ended?,
        // Tasks are left as they are; the next agent of this work folder finds them.
        () = signals.hastened() => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Value for CpuSet {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: apportion_types::cpuset::CpuSetError| e.to_string())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for UserRange {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: UserRangeError| e.to_string())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for Estimator {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: apportion_agent::EstimatorError| e.to_string())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}
