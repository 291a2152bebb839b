//! `apportion service serve`: one framework for many services, which are given to it while it runs.

use std::{path::PathBuf, time::Duration};

use apportion_sdk::{Capability, Driver, Options};

use crate::{
    front::Answers,
    keep::Folder,
    run::{Format, Program, ServiceError, state_folder, stop},
    spec::FAILOVER_TIMEOUT,
};

/// What the framework is called unless said otherwise.
pub const NAME: &str = "services";

/// Which framework is meant.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// The name of the framework
    #[arg(long, value_name = "NAME", default_value = NAME, value_parser = checked_name)]
    pub name: String,
    /// Where it remembers its services and takes orders [default: apportion/services/NAME in the user's state folder]
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
}

/// The name of a framework, which names a folder too.
fn checked_name(name: &str) -> Result<String, String> {
    match name.is_empty() || name.starts_with('.') || name.contains('/') {
        true => Err("is to name a folder: not empty, no `/`, no `.` in front".to_owned()),
        false => Ok(name.to_owned()),
    }
}

impl Target {
    pub(crate) fn folder(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| state_folder(&self.name))
    }
}

/// What to serve, and how to tell of it.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Which framework.
    #[command(flatten)]
    pub target: Target,
    /// A role for whose services offers are taken; may be given several times
    #[arg(long = "role", value_name = "ROLE", default_value = "*")]
    pub roles: Vec<String>,
    /// How long replicas run on without this framework
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "1h")]
    pub failover_timeout: Duration,
    /// End the framework and all its services for good
    #[arg(long)]
    pub stop: bool,
    /// Begin anew: forget the services of an earlier run, descriptions too; their replicas end after the failover time-out
    #[arg(long, conflicts_with = "stop")]
    pub forget: bool,
    /// Wait while another run of this framework is connected, and take its place when that one ends: on machines that share the --state
    #[arg(long, conflicts_with_all = ["stop", "forget"])]
    pub stand_by: bool,
    /// Where others may ask for replicas.
    #[command(flatten)]
    pub answers: Answers,
    /// The form of the events on standard output: lines for people, or one JSON object for each
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

impl Default for ServeArgs {
    fn default() -> Self {
        Self {
            target: Target { name: NAME.to_owned(), state: None },
            roles: vec!["*".to_owned()],
            failover_timeout: FAILOVER_TIMEOUT,
            stop: false,
            forget: false,
            stand_by: false,
            answers: Answers::default(),
            output: Format::Text,
        }
    }
}

/// Keeps services running on the cluster of the master at `master` (`host:port`) until Ctrl-C or SIGTERM, which leave their replicas
/// running. Gives the exit code.
pub async fn serve(args: ServeArgs, master: &str) -> Result<u8, ServiceError> {
    let name = args.target.name.clone();
    let folder = Folder::of_services(args.target.folder(), &name);
    if args.stop {
        return stop(&name, &folder, master).await;
    }
    if args.forget {
        folder.forget()?;
    }
    let driver = Driver::builder(&name)
        .failover_timeout(args.failover_timeout)
        .options(Options::new().capability(Capability::InverseOffers).build())
        .master(master);
    let driver = args.roles.iter().fold(driver, |driver, role| driver.role(role));
    let program = Program {
        framework: name,
        master: master.to_owned(),
        failover_timeout: args.failover_timeout,
        specs: Vec::new(),
        folder,
        takes_orders: true,
        answers: args.answers,
        output: args.output,
    };
    program.run(|| driver.clone(), args.stand_by).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_no_other_folder() {
        for wrong in ["../../x", "a/b", "..", ""] {
            assert!(checked_name(wrong).is_err(), "{wrong}");
        }
        assert_eq!(checked_name("team-a.services").unwrap(), "team-a.services");
    }
}
