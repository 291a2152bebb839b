//! `apportion`: master, agents, the bundled frameworks, and what operators ask them, in one binary.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (arguments, settings, a job's or service's description), 130 interrupted; `exec` and `attach`
//! pass on that of their command or task.

mod agent;
mod agents;
mod attach;
mod batch;
mod client;
mod cp;
mod dev;
mod exec;
mod executor;
mod explain;
mod files;
mod frameworks;
mod held;
mod images;
mod kill;
mod list;
mod log;
mod logs;
mod maintenance;
mod master;
mod offers;
mod output;
mod registry;
mod relay;
mod replay;
mod roles;
mod service;
mod settings;
mod signals;
mod sim;
mod table;
mod tasks;
mod teardown;
mod terminal;
mod top;
mod unenforced;
mod value;
mod version;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The exit code of a command that was interrupted, as a shell would give it.
const INTERRUPTED: u8 = 130;

const AFTER_HELP: &str = "\
Start with `apportion dev`: a master and two agents on this machine, gone when it ends.

Settings of `master`, `agent`, `dev` and every command that asks a master: a flag wins over the environment (--listen of \
`master` is APPORTION_MASTER_LISTEN, --timeout of `tasks` is APPORTION_CLIENT_TIMEOUT), which wins over the file named by \
--config or APPORTION_CONFIG (default /etc/apportion/apportion.toml; sections [master], [agent], [dev], [client]). \
`--print-config` shows each value and where it came from.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted; `exec` and `attach` pass on that of their command or task.";

/// Shares out a cluster by offers: a master, agents, frameworks
#[derive(Debug, Parser)]
#[command(name = "apportion", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Args),
    Master(Box<master::Args>),
    Agent(Box<agent::Args>),
    /// Run batch jobs, alone or in a queue of several users
    #[command(subcommand)]
    Batch(batch::Command),
    /// Run services
    #[command(subcommand)]
    Service(service::Command),
    Executor(executor::Args),
    Agents(agents::Args),
    /// List the frameworks, what they have and wish, and why they declined offers
    Frameworks(list::Args),
    Tasks(tasks::Args),
    /// List the outstanding offers
    Offers(list::Args),
    Roles(roles::Args),
    /// Keep resources of an agent for a role
    Reserve(held::Args),
    /// End reservations of an agent's resources
    Unreserve(held::Args),
    /// List what is reserved on agents
    Reservations(list::Args),
    Volumes(held::VolumeArgs),
    /// Say why something is, or is not, offered
    #[command(subcommand)]
    Explain(explain::Command),
    Watch(watch::Args),
    Logs(logs::Args),
    Attach(attach::Args),
    Exec(exec::Args),
    Files(files::Args),
    Cp(cp::Args),
    Top(top::Args),
    Images(images::Args),
    Kill(kill::Args),
    /// Plan maintenance of machines, take them down, and let them be up again
    #[command(subcommand)]
    Maintenance(maintenance::Command),
    Teardown(teardown::Args),
    /// Look into what a master keeps in its work directory, and back it up
    #[command(subcommand)]
    Registry(registry::Command),
    Replay(replay::Args),
    Sim(sim::Args),
    Version(version::Args),
}

/// Somebody asked for what makes no sense; the message says what does.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

fn main() -> ExitCode {
    // A runner is this same binary. It must stay single-threaded and small, so nothing stands before this.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "runner") {
        return apportion_containerizer::runner_main(args);
    }
    let command = Cli::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return report(&anyhow::Error::new(e).context("starting threads")),
    };
    let done = runtime.block_on(run(command));
    // Nothing that matters is left in the background; a thread that blocks on a slow disk must not keep us.
    runtime.shutdown_background();
    done.unwrap_or_else(|e| report(&e))
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        // These have something to take down, so they listen to signals themselves.
        Command::Dev(args) => dev::run(args).await,
        Command::Master(args) => master::run(*args).await,
        Command::Agent(args) => agent::run(*args).await,
        Command::Batch(command) => batch::run(command).await,
        Command::Service(command) => service::run(command).await,
        Command::Executor(_) => executor::run().await,
        Command::Agents(args) => ask(agents::run(args)).await,
        Command::Frameworks(args) => ask(frameworks::run(args)).await,
        Command::Tasks(args) => ask(tasks::run(args)).await,
        Command::Offers(args) => ask(offers::run(args)).await,
        Command::Roles(args) => ask(roles::run(args)).await,
        Command::Reserve(args) => ask(held::reserve(args)).await,
        Command::Unreserve(args) => ask(held::unreserve(args)).await,
        Command::Reservations(args) => ask(held::reservations(args)).await,
        Command::Volumes(args) => ask(held::volumes(args)).await,
        Command::Explain(command) => ask(explain::run(command)).await,
        Command::Watch(args) => ask(watch::run(args)).await,
        Command::Logs(args) => ask(logs::run(args)).await,
        // It listens to signals itself, too: a terminal must be given back.
        Command::Exec(args) => exec::run(args).await,
        Command::Attach(args) => attach::run(args).await,
        Command::Files(args) => ask(files::run(args)).await,
        Command::Cp(args) => ask(cp::run(args)).await,
        Command::Top(args) => ask(top::run(args)).await,
        Command::Images(args) => ask(images::run(args)).await,
        Command::Kill(args) => ask(kill::run(args)).await,
        Command::Maintenance(command) => ask(maintenance::run(command)).await,
        Command::Teardown(args) => ask(teardown::run(args)).await,
        Command::Registry(command) => ask(registry::run(command)).await,
        Command::Replay(args) => ask(replay::run(args)).await,
        Command::Sim(args) => sim::run(args).await,
        Command::Version(args) => version::run(&args).map(|()| ExitCode::SUCCESS),
    }
}

/// Runs a command that leaves nothing behind wherever it stops.
async fn ask(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    tokio::select! {
        done = command => done.map(|()| ExitCode::SUCCESS),
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

/// Says an error once, as a chain from what was wanted to what went wrong, and chooses the exit code.
fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<output::Closed>() {
        return ExitCode::SUCCESS;
    }
    output::say(&format!("error: {}", chain(error)));
    ExitCode::from(exit_code(error))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let usage = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<Usage>() || cause.is::<settings::SettingsError>()
    };
    if let Some(error) = error.downcast_ref::<apportion_batch::BatchError>() {
        return error.exit_code();
    }
    if let Some(error) = error.downcast_ref::<apportion_service::ServiceError>() {
        return error.exit_code();
    }
    if error.chain().any(usage) { 2 } else { 1 }
}

/// The causes in order, without those whose text the one before already holds.
fn chain(error: &anyhow::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if texts.last().is_none_or(|last| !last.contains(&cause)) {
            texts.push(cause);
        }
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_cause_is_said_once() {
        let inner = anyhow::anyhow!("no such file");
        let error = inner.context("reading x: no such file").context("starting");
        assert_eq!(chain(&error), "starting: reading x: no such file");
    }
}
