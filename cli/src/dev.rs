//! `apportion dev`: a whole cluster in this process, gone when it ends.

mod cluster;
mod share;
mod work_folder;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use apportion_types::Resources;
use serde::Serialize;

use self::{
    cluster::{Cluster, Plan},
    work_folder::WorkFolder,
};
use crate::{
    batch,
    client::{FileArgs, MASTER_DEFAULT},
    log,
    output::{self, Format, say},
    settings::{Settings, process_environment},
    signals::Signals,
    table::count,
    value::{self, Value as _},
};

/// The keys of `[dev]`.
pub(crate) const KEYS: &[&str] =
    &["agents", "resources", "listen", "work_dir", "journal", "log", "log_format"];

/// Run a master and agents in this process, for trying things out; nothing is left when it ends
///
/// Without --run they stay up until Ctrl-C. With --run they take ports that are free, run one batch job, and end with its exit
/// code. Everything is on the loopback interface. Tasks are real processes in containers, held to what this user may enforce.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many agents; they share the machine's resources in equal parts [default: 2]
    #[arg(long, value_name = "NUMBER", value_parser = value::flag::<u32>, help_heading = "Settings")]
    agents: Option<u32>,
    /// What each agent has to offer, such as `cpus:4;mem:8GiB` [default: its part of what the machine has]
    #[arg(long, value_name = "RESOURCES", value_parser = value::flag::<Resources>, help_heading = "Settings")]
    resources: Option<Resources>,
    /// Where the master listens [default: 127.0.0.1:5050; with --run a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = value::flag::<SocketAddr>, help_heading = "Settings")]
    listen: Option<SocketAddr>,
    /// A folder to work in and to keep, with what the tasks wrote [default: a fresh one in TMPDIR, removed at the end]
    #[arg(long, value_name = "FOLDER", value_parser = value::flag::<PathBuf>, help_heading = "Settings")]
    work_dir: Option<PathBuf>,
    /// Record what happens to the master to this file, for `apportion replay`
    #[arg(long, value_name = "FILE", value_parser = value::flag::<PathBuf>, help_heading = "Settings")]
    journal: Option<PathBuf>,
    /// Run this batch job, then take everything down
    #[arg(long, value_name = "JOB.toml")]
    run: Option<PathBuf>,
    #[command(flatten)]
    job: batch::JobArgs,
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    log: log::Args,
}

/// What the agents cannot enforce is said once for all of them, so it need not be logged by each.
const LOG_DEFAULT: &str = "warn,apportion_agent::agent=error";

/// What a second Ctrl-C still leaves for taking everything down in order.
const HASTE: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut settings = Settings::read("dev", args.file.config.as_deref(), &process_environment)?;
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let plan = Plan {
        agents: settings.value("agents", args.agents, || 2)?,
        resources: settings.optional("resources", args.resources)?,
        listen: settings.value("listen", args.listen, || local(if args.run.is_some() { 0 } else { 5050 }))?,
        journal: settings.optional("journal", args.journal)?,
    };
    let work_dir: Option<PathBuf> = settings.optional("work_dir", args.work_dir)?;
    let log = args.log.resolve(&mut settings, LOG_DEFAULT)?;
    if args.file.print_config {
        output::answer(args.job.output, &settings.shown(), ToString::to_string)?;
        return Ok(ExitCode::SUCCESS);
    }
    plan.check()?;
    log.start();
    // Whatever is wrong with the job is said before anything is started for it.
    let job = match &args.run {
        Some(path) => Some(batch::Checked::read(path.clone(), &args.job)?),
        None => None,
    };
    let signals = Signals::listen().context("listening for Ctrl-C")?;
    let folder = match work_dir {
        Some(path) => WorkFolder::kept(&path)?,
        None => WorkFolder::fresh(&std::env::temp_dir())?,
    };
    let done = in_folder(&plan, job, args.job.output, &folder, &signals).await;
    if let Err(e) = folder.close() {
        // The job's end is what counts; the folder is somebody's no more, so it is found again.
        say(&format!("{:#}; the next `apportion dev` tries again", anyhow::Error::new(e)));
    }
    done
}

async fn in_folder(
    plan: &Plan,
    job: Option<batch::Checked>,
    output: Format,
    folder: &WorkFolder,
    signals: &Signals,
) -> anyhow::Result<ExitCode> {
    cluster::remove_stale(folder).await;
    let mut cluster = Cluster::start(plan).await?;
    let used = tokio::select! {
        started = cluster.start_agents(plan, folder) => started.map(|()| None),
        () = signals.asked() => Ok(Some(ExitCode::from(crate::INTERRUPTED))),
    };
    let used = match used {
        Ok(None) => use_cluster(job, output, folder, signals, &mut cluster).await,
        Ok(Some(code)) => Ok(code),
        Err(e) => Err(e),
    };
    let hastened = async {
        signals.hastened().await;
        tokio::time::sleep(HASTE).await;
    };
    tokio::select! {
        () = cluster.stop() => {}
        // Whatever is still alive is tethered to this process, and ends with it.
        () = hastened => {}
    }
    used
}

async fn use_cluster(
    job: Option<batch::Checked>,
    format: Format,
    folder: &WorkFolder,
    signals: &Signals,
    cluster: &mut Cluster,
) -> anyhow::Result<ExitCode> {
    for line in cluster.not_enforced() {
        say(line);
    }
    if let Some(job) = job {
        let url = cluster.url().clone();
        return tokio::select! {
            done = job.run(&url) => done,
            failed = cluster.failed() => Err(failed),
        };
    }
    let up = Up::new(cluster, folder);
    match format {
        Format::Json => {
            let line = serde_json::to_string(&up).expect("texts only");
            output::write(format!("{line}\n").as_bytes())?;
        }
        Format::Text => output::write(up.text().as_bytes())?,
    }
    tokio::select! {
        () = signals.asked() => Ok(ExitCode::SUCCESS),
        failed = cluster.failed() => Err(failed),
    }
}

/// A cluster that is up: what `-o json` says in one line.
#[derive(Debug, Serialize)]
struct Up {
    master: String,
    agents: Vec<UpAgent>,
    work_dir: String,
    work_dir_is_kept: bool,
}

#[derive(Debug, Serialize)]
struct UpAgent {
    address: String,
    resources: String,
}

impl Up {
    fn new(cluster: &Cluster, folder: &WorkFolder) -> Up {
        let agents = cluster.agents().iter();
        Up {
            master: cluster.url().0.clone(),
            agents: agents
                .map(|agent| UpAgent {
                    address: agent.address.to_string(),
                    resources: agent.resources.text(),
                })
                .collect(),
            work_dir: folder.path().display().to_string(),
            work_dir_is_kept: folder.is_kept(),
        }
    }

    fn text(&self) -> String {
        let agents = count(self.agents.len() as u64, "agent");
        let mut text =
            format!("A master and {agents} are up on this machine.\n\n  master   {}\n", self.master);
        for (at, UpAgent { address, resources }) in self.agents.iter().enumerate() {
            text += &format!("  agent {}  {address}  {resources}\n", at + 1);
        }
        let fate = if self.work_dir_is_kept { "kept" } else { "removed at the end" };
        text += &format!("  files    {} ({fate})\n\nIn another terminal:\n", self.work_dir);
        let master =
            if self.master == MASTER_DEFAULT { String::new() } else { format!(" --master {}", self.master) };
        for command in ["agents", "batch run JOB.toml", "tasks --all"] {
            text += &format!("  apportion {command}{master}\n");
        }
        text + "\nStop it, and every task, with Ctrl-C.\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_to_paste_name_a_master_only_where_it_is_not_the_default() {
        let agent = UpAgent { address: "127.0.0.1:2".into(), resources: "cpus:1".into() };
        let mut up = Up {
            master: MASTER_DEFAULT.into(),
            agents: vec![agent],
            work_dir: "/w".into(),
            work_dir_is_kept: false,
        };
        let text = up.text();
        assert!(text.starts_with("A master and 1 agent are up"), "{text}");
        assert!(
            text.contains("  agent 1  127.0.0.1:2  cpus:1\n") && text.contains("/w (removed at the end)"),
            "{text}"
        );
        assert!(text.contains("  apportion agents\n"), "{text}");
        (up.master, up.work_dir_is_kept) = ("http://127.0.0.1:9".into(), true);
        let text = up.text();
        assert!(
            text.contains("  apportion tasks --all --master http://127.0.0.1:9\n") && text.contains("(kept)"),
            "{text}"
        );
    }
}
