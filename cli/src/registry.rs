//! `apportion registry`: what a master keeps in its work directory.

use std::path::{Path, PathBuf};

use apportion_master::registry::{self, Backup, Contents, Embedded};

use crate::{
    output::{self, Format},
    table::Table,
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
    /// Take an export on in a work directory in which nothing is kept; no master may run there
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
    #[arg(long, value_name = "FOLDER")]
    work_dir: PathBuf,
}

pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Inspect { place, output } => {
            let contents = registry::read(&place.work_dir)?;
            output::answer(output, &contents.to_json(), |_| table(&contents))
        }
        Command::Export { file, place } => {
            let contents = registry::read(&place.work_dir)?;
            registry::export(&contents, &file)?;
            done("exported", &contents, &file)
        }
        Command::Import { file, place } => {
            let backup = Backup::read(&file)?;
            let registry = Embedded::open(&place.work_dir)?;
            let contents = backup.import(&registry).await?;
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
        row("agent", id.as_str(), format!("{} at {}{unreachable}", agent.info.hostname, agent.info.address));
    }
    for id in &contents.recovered.removed_agents {
        row("agent", id.as_str(), "removed".to_owned());
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
    table.to_string()
}
