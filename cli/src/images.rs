//! `apportion images`: what agents keep of images.

use std::fmt::Write as _;

use anyhow::{anyhow, bail};
use apportion_sdk::sandbox::{self, CachedImage, ImageCache};
use serde::Serialize;

use crate::{
    agents::named,
    client::{self, Client},
    files::within,
    output,
    table::{Table, age, bytes},
};

/// Show or clear what an agent keeps of images
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: AgentArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the images that an agent keeps, what they take on disk, and when they were last used
    Ls(AgentArgs),
    /// Delete what no container of an agent uses, and say how much that was
    Prune(AgentArgs),
}

#[derive(Debug, clap::Args)]
#[group(skip)]
struct AgentArgs {
    /// The agent: its id as `apportion agents` shows it, or its host's name where one agent has that; needed only when there are several
    #[arg(long)]
    agent: Option<String>,
    #[command(flatten)]
    client: client::Args,
}

/// What an agent keeps.
#[derive(Debug, Serialize)]
struct Cache {
    images: Vec<Image>,
    /// Each layer once, however many images have it.
    total_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Image {
    name: String,
    digest: String,
    size_bytes: u64,
    used_at_us: u64,
    in_use: bool,
}

#[derive(Debug, Serialize)]
struct Freed {
    freed_bytes: u64,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let (args, prunes) = match args.command {
        None => (args.list, false),
        Some(Command::Ls(args)) => (args, false),
        Some(Command::Prune(args)) => (args, true),
    };
    let Some(client) = args.client.start()? else { return Ok(()) };
    let address = address(&client, args.agent).await?;
    if prunes {
        let freed_bytes = within(&client, async { Ok(sandbox::prune_images(&address).await?) }).await?;
        let freed = Freed { freed_bytes };
        return output::answer(client.output, &freed, |freed| {
            format!("freed {}\n", bytes(freed.freed_bytes))
        });
    }
    let cache = within(&client, async { Ok(sandbox::images(&address).await?) }).await?;
    output::answer(client.output, &Cache::from(cache), text)
}

/// Where the agent that is meant is reached.
async fn address(client: &Client, agent: Option<String>) -> anyhow::Result<String> {
    let master = client.connect().await?;
    if let Some(text) = agent {
        return Ok(named::find_listed(&master, &text).await?.info.address);
    }
    let mut agents = master.ask(|operator| operator.agents()).await?.into_iter();
    let one = agents.next().ok_or_else(|| anyhow!("no agent is registered"))?;
    if let Some(other) = agents.next() {
        bail!(
            "there are several agents: say which with `--agent {}` or `--agent {}`, …",
            one.agent_id,
            other.agent_id
        );
    }
    Ok(one.info.address)
}

impl From<ImageCache> for Cache {
    fn from(cache: ImageCache) -> Self {
        let image = |image: CachedImage| Image {
            name: image.name,
            digest: image.digest,
            size_bytes: image.size_bytes,
            used_at_us: image.used_at.as_micros(),
            in_use: image.in_use,
        };
        Cache { images: cache.images.into_iter().map(image).collect(), total_bytes: cache.total_bytes }
    }
}

fn text(cache: &Cache) -> String {
    if cache.images.is_empty() && cache.total_bytes == 0 {
        return "no images are kept\n".to_owned();
    }
    let mut table = Table::new(&["IMAGE", "DIGEST", ">SIZE", "USED", "STATE"]);
    for image in &cache.images {
        let digest =
            image.digest.split_once(':').map_or(&*image.digest, |(_, hex)| hex).chars().take(12).collect();
        let state = if image.in_use { "in use" } else { "unused" };
        let used = age(apportion_types::Time::from_micros(image.used_at_us));
        table.row([
            image.name.clone(),
            digest,
            bytes(image.size_bytes),
            format!("{used} ago"),
            state.to_owned(),
        ]);
    }
    let mut text = table.to_string();
    // Writing to a text does not fail.
    let _ = writeln!(text, "{} in all; layers that images share count once", bytes(cache.total_bytes));
    text
}
