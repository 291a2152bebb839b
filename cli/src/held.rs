//! `apportion reserve`, `unreserve`, `reservations`, `volumes`: what agents keep for roles.

use apportion_sdk::operator::Operator;
use apportion_types::{
    AgentId, Operation, Resources,
    document::{ReservationState, VolumeState},
    resources::{Name, parse_scalar},
};
use serde::Serialize;

use crate::{
    Usage, client,
    list::{self, List},
    output::answer,
    value,
};

/// An agent, and resources of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent, as `apportion agents` shows it
    agent: AgentId,
    /// What is reserved on its terms, such as `cpus(+eng):2` or `disk(+eng@ann):100GiB`
    #[arg(value_parser = value::flag::<Resources>)]
    resources: Resources,
    #[command(flatten)]
    client: client::Args,
}

/// Keeps resources for a role: they are what they become.
pub(crate) async fn reserve(args: Args) -> anyhow::Result<()> {
    operate(args.client, &args.agent, Operation::Reserve { resources: args.resources }).await
}

/// Ends the last reservation of each.
pub(crate) async fn unreserve(args: Args) -> anyhow::Result<()> {
    operate(args.client, &args.agent, Operation::Unreserve { resources: args.resources }).await
}

/// List the persistent volumes, or make, resize and end them
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct VolumeArgs {
    #[command(subcommand)]
    command: Option<VolumeCommand>,
    #[command(flatten)]
    list: list::Args,
}

#[derive(Debug, clap::Subcommand)]
enum VolumeCommand {
    /// Make volumes of reserved disk, such as `disk(+eng)[data=var/data]:10GiB`
    Create(Args),
    /// End volumes; what is stored in them is deleted
    Destroy(Args),
    /// Add disk of the same reservation to a volume
    Grow(ResizeArgs),
    /// Take disk from a volume
    Shrink(ResizeArgs),
}

#[derive(Debug, clap::Args)]
struct ResizeArgs {
    /// The agent, as `apportion volumes` shows it
    agent: AgentId,
    /// The volume as it is, as `apportion volumes` shows it
    #[arg(value_parser = value::flag::<Resources>)]
    volume: Resources,
    /// How much, such as `10GiB`; in MiB when no unit is given
    size: String,
    #[command(flatten)]
    client: client::Args,
}

const VOLUMES: List<'static, VolumeState, 8> = List {
    name: "volumes",
    heads: ["AGENT", "HOST", "ROLE", "VOLUME", "PATH", "PRINCIPAL", "USED", "RESOURCES"],
    empty: "no volumes; make one with `apportion volumes create AGENT 'disk(+ROLE)[ID=PATH]:SIZE'`\n",
    row: |volume| {
        [
            volume.agent_id.to_string(),
            volume.hostname.clone(),
            volume.role.to_string(),
            volume.volume_id.to_string(),
            volume.path.clone(),
            dash(&volume.principal),
            if volume.used { "yes" } else { "no" }.to_owned(),
            volume.resources.0.to_string(),
        ]
    },
};

const RESERVATIONS: List<'static, ReservationState, 6> = List {
    name: "reservations",
    heads: ["AGENT", "HOST", "ROLE", "MADE BY", "PRINCIPAL", "RESOURCES"],
    empty: "nothing is reserved; do so with `apportion reserve AGENT 'cpus(+ROLE):2'`\n",
    row: |reservation| {
        [
            reservation.agent_id.to_string(),
            reservation.hostname.clone(),
            reservation.role.to_string(),
            if reservation.dynamic { "operation" } else { "agent's settings" }.to_owned(),
            dash(&reservation.principal),
            reservation.resources.0.to_string(),
        ]
    },
};

fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

pub(crate) async fn volumes(args: VolumeArgs) -> anyhow::Result<()> {
    match args.command {
        None => {
            let Some(client) = args.list.client.start()? else { return Ok(()) };
            let master = client.connect().await?;
            let fetch = async |size, after: Option<&str>| master.ask(|it| it.volumes_page(size, after)).await;
            VOLUMES.print(client.output, args.list.limit, fetch, |volume| volume).await.map(|_| ())
        }
        Some(VolumeCommand::Create(args)) => {
            operate(args.client, &args.agent, Operation::Create { volumes: args.resources }).await
        }
        Some(VolumeCommand::Destroy(args)) => {
            operate(args.client, &args.agent, Operation::Destroy { volumes: args.resources }).await
        }
        Some(VolumeCommand::Grow(args)) => {
            let milli = size(&args.size)?;
            let addition = addition(&args.volume, milli);
            operate(args.client, &args.agent, Operation::Grow { volume: args.volume, addition }).await
        }
        Some(VolumeCommand::Shrink(args)) => {
            let subtract_milli = size(&args.size)?;
            operate(args.client, &args.agent, Operation::Shrink { volume: args.volume, subtract_milli }).await
        }
    }
}

pub(crate) async fn reservations(args: list::Args) -> anyhow::Result<()> {
    let Some(client) = args.client.start()? else { return Ok(()) };
    let master = client.connect().await?;
    let fetch = async |size, after: Option<&str>| master.ask(|it| it.reservations_page(size, after)).await;
    RESERVATIONS.print(client.output, args.limit, fetch, |reservation| reservation).await.map(|_| ())
}

fn size(text: &str) -> Result<i64, Usage> {
    parse_scalar(&Name::Disk, text).map_err(Usage)
}

/// So much disk with the reservation of a volume.
fn addition(volume: &Resources, milli: i64) -> Resources {
    let mut addition = Resources::new();
    if let Some(entry) = volume.without_volumes().entries().next() {
        let terms = entry.terms().cloned().map(std::sync::Arc::new);
        addition.insert_on(Name::Disk, terms, apportion_types::resources::Value::Scalar(milli));
    }
    addition
}

/// What `-o json` gives.
#[derive(Debug, Serialize)]
struct Done {
    agent_id: AgentId,
    operation: String,
}

async fn operate(client: client::Args, agent: &AgentId, operation: Operation) -> anyhow::Result<()> {
    if let Err(what) = operation.conversion() {
        return Err(Usage(what).into());
    }
    let Some(client) = client.start()? else { return Ok(()) };
    let master = client.connect().await?;
    master.ask(|it: &Operator| it.operate(agent, &operation)).await?;
    let done = Done { agent_id: agent.clone(), operation: operation.to_string() };
    answer(client.output, &done, |done| format!("sent to agent {}: {}\n", done.agent_id, done.operation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_grows_by_disk_of_its_reservation() {
        let volume: Resources = "disk(+eng@ann)[data=data]:10".parse().unwrap();
        assert_eq!(addition(&volume, size("1GiB").unwrap()).to_string(), "disk(+eng@ann):1024");
        assert!(addition(&Resources::new(), 1).is_empty());
        assert!(size("-1").unwrap_err().to_string().contains("negative"));
    }
}
