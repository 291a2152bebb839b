//! `apportion registry`: what a master keeps in its work directory, or several in etcd.

use std::path::{Path, PathBuf};

use anyhow::bail;
use apportion_master::{
    etcd::{Client, Cluster, Endpoints},
    registry::{self, Backup, BackupError, Contents, Embedded, Etcd, Registry},
};
use apportion_types::Activation;

use crate::{
    output::{self, Format},
    table::Table,
    value,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show what is kept; also while the master runs
    Inspect {
        #[command(flatten)]
        place: Place,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Write what is kept to a file, which only its owner may read; also while the master runs
    Export {
        /// The file; an export that is there is replaced
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Take an export on where nothing is kept; no master may run there
    Import {
        /// What `apportion registry export` wrote
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Place {
    /// The master's work directory
    #[arg(long, value_name = "FOLDER", required_unless_present = "etcd", conflicts_with = "etcd")]
    work_dir: Option<PathBuf>,
    /// Where etcd is, when the masters keep it there: one or more, with commas between them
    #[arg(long, value_name = "HOST:PORT", value_parser = value::flag::<Endpoints>)]
    etcd: Option<Endpoints>,
    /// Which cluster it is in etcd [default: default]
    #[arg(long, value_name = "NAME", value_parser = value::flag::<Cluster>, conflicts_with = "work_dir")]
    cluster: Option<Cluster>,
}

impl Place {
    async fn read(&self) -> anyhow::Result<Contents> {
        Ok(match (&self.work_dir, &self.etcd) {
            (Some(work_dir), _) => registry::read(work_dir)?,
            (None, Some(etcd)) => registry::read_etcd(&Client::new(etcd), &self.cluster()).await?,
            (None, None) => bail!("name the registry with --work-dir or --etcd"),
        })
    }

    /// The registry itself, while no master has it.
    async fn open(&self) -> anyhow::Result<Box<dyn Registry>> {
        Ok(match (&self.work_dir, &self.etcd) {
            (Some(work_dir), _) => Box::new(Embedded::open(work_dir)?),
            (None, Some(etcd)) => {
                Box::new(Etcd::open_without_master(Client::new(etcd), &self.cluster()).await?)
            }
            (None, None) => bail!("name the registry with --work-dir or --etcd"),
        })
    }

    fn cluster(&self) -> Cluster {
        self.cluster.clone().unwrap_or_default()
    }
}

pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Inspect { place, output } => {
            let contents = place.read().await?;
            output::answer(output, &contents.to_json(), |_| table(&contents))
        }
        Command::Export { file, place } => {
            let contents = place.read().await?;
            registry::export(&contents, &file)?;
            done("exported", &contents, &file)
        }
        Command::Import { file, place } => {
            let backup = Backup::read(&file)?;
            let registry = place.open().await?;
            let contents = match backup.import(registry.as_ref()).await {
                Err(BackupError::NotEmpty) if place.etcd.is_some() => {
                    let cluster = place.cluster();
                    bail!(
                        "the registry of the cluster {cluster} in etcd is not empty, and nothing was imported; name another cluster \
                         with --cluster, or stop every master and remove it with `etcdctl del --prefix /apportion/{cluster}/`"
                    )
                }
                imported => imported?,
            };
            done("imported", &contents, &file)
        }
    }
}

fn done(what: &str, contents: &Contents, file: &Path) -> anyhow::Result<()> {
    let Contents { recovered, roles } = contents;
    let text = format!(
        "{what} {} agents, {} frameworks, {} roles, {} removed ids: {}\n",
        recovered.agents.len(),
        recovered.frameworks.len(),
        roles.len(),
        recovered.removed_agents.len() + recovered.removed_frameworks.len(),
        file.display(),
    );
    output::write(text.as_bytes())
}

fn table(contents: &Contents) -> String {
    let mut table = Table::new(&["KIND", "NAME", "WHAT"]);
    let mut row = |kind: &str, name: &str, what: String| table.row([kind.to_owned(), name.to_owned(), what]);
    for (id, agent) in &contents.recovered.agents {
        let unreachable = if agent.unreachable { ", unreachable" } else { "" };
        let activation = match agent.activation {
            Activation::Active => String::new(),
            activation => format!(", {}", activation.name()),
        };
        let place = format!("{} at {}", agent.info.hostname, agent.info.address);
        row("agent", id.as_str(), format!("{place}{unreachable}{activation}"));
    }
    for (id, removed) in &contents.recovered.removed_agents {
        row("agent", id.as_str(), removed.cause.name().to_owned());
    }
    for (id, info) in &contents.recovered.frameworks {
        let roles: Vec<&str> = info.roles.iter().map(|role| role.as_str()).collect();
        row("framework", id.as_str(), format!("{} in {}", info.name, roles.join(", ")));
    }
    for id in &contents.recovered.removed_frameworks {
        row("framework", id.as_str(), "removed".to_owned());
    }
    for (role, settings) in &contents.roles {
        let quota = &settings.quota;
        let guarantee =
            if quota.guarantee.is_empty() { "none".to_owned() } else { quota.guarantee.to_string() };
        let limit = quota.limit.as_ref().map_or("none".to_owned(), ToString::to_string);
        let (weight, priority) = (settings.weight, settings.priority);
        let what = format!("weight {weight}, priority {priority}, guarantee {guarantee}, limit {limit}");
        row("role", role.as_str(), what);
    }
    let maintenance = &contents.recovered.maintenance;
    for (machine, windows) in maintenance.by_machine() {
        let windows: Vec<String> = windows.iter().map(ToString::to_string).collect();
        let mode = maintenance.mode(&machine);
        row("machine", machine.as_str(), format!("{mode}, maintenance {}", windows.join(", ")));
    }
    table.to_string()
}
