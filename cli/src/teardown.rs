//! `apportion teardown FRAMEWORK`.

use apportion_types::FrameworkId;
use serde::Serialize;

use crate::{client, output::answer};

/// End a framework for ever: its tasks are killed, its scheduler is told, its id is of no use afterwards
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The framework's id, as `apportion frameworks` shows it
    framework: FrameworkId,
    #[command(flatten)]
    client: client::Args,
}

/// What `-o json` gives.
#[derive(Debug, Serialize)]
struct Answer {
    framework_id: String,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Some(client) = args.client.start()? else { return Ok(()) };
    client.connect().await?.ask(|operator| operator.teardown(&args.framework)).await?;
    let answered = Answer { framework_id: args.framework.to_string() };
    answer(client.output, &answered, |a| format!("framework {} is torn down\n", a.framework_id))
}
