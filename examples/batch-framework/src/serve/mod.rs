//! `apportion batch serve`: one framework for the jobs of many users, which are given to it while it runs.
//!
//! - [`scheduler`] is the framework; [`keep`] writes it down; [`entry`] is one job of it.
//! - [`order`] is what may be asked of it, by users through the `api`, and by the program.
//! - `program` fetches outputs, looks at the agents and listens to signals, as [`run`](mod@crate::run) does for one job.
//! - [`view`] and [`event`] tell of it.

mod api;
pub mod entry;
pub mod event;
pub mod keep;
mod metrics;
pub mod order;
pub mod peer;
mod program;
pub mod scheduler;
pub mod view;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use apportion_sdk::{Capability, Driver, DriverError, Options, store::Embedded};

pub(crate) use self::api::Failure;
pub use self::api::{SOCKET, Wanted};
use self::{keep::QueueKeeper, program::Program, scheduler::Keeping};
use crate::{
    job::check_name,
    keep::KeepError,
    queue::Settings,
    run::{BatchError, Format, SUCCEEDED, wall_clock},
};

/// What the framework is called unless said otherwise.
pub const NAME: &str = "batch";

/// Which queue is meant.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// The name of the queue, which is that of its framework
    #[arg(long, value_name = "NAME", default_value = NAME, value_parser = name)]
    pub name: String,
    /// Where it remembers its jobs and takes orders [default: apportion/batch/NAME in the user's state folder]
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
}

impl Target {
    /// Its folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| state_folder(&self.name))
    }
}

/// What to serve, and how to tell of it.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Which queue.
    #[command(flatten)]
    pub target: Target,
    /// The role for which to take offers
    #[arg(long, default_value = "*")]
    pub role: String,
    /// How long tasks run on without this framework
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "1h")]
    pub failover_timeout: Duration,
    /// So many times as much as others for this user; may be given several times
    #[arg(long = "weight", value_name = "USER=NUMBER", value_parser = weight)]
    pub weights: Vec<(String, u32)>,
    /// Jobs that have not ended, of all users
    #[arg(long, value_name = "JOBS", default_value_t = Settings::default().jobs_max)]
    pub jobs_max: usize,
    /// Of these, of one user
    #[arg(long, value_name = "JOBS", default_value_t = Settings::default().jobs_per_user)]
    pub user_jobs_max: usize,
    /// Tasks that have not ended, waiting or running, of all users
    #[arg(long, value_name = "TASKS", default_value_t = Settings::default().queued_tasks_max)]
    pub queued_tasks_max: usize,
    /// Of these, of one user
    #[arg(long, value_name = "TASKS", default_value_t = Settings::default().queued_tasks_per_user)]
    pub user_queued_tasks_max: usize,
    /// Tasks of one user that are on agents at a time
    #[arg(long, value_name = "TASKS", default_value_t = Settings::default().tasks_per_user)]
    pub user_tasks_max: usize,
    /// How long a job that finds no room may be overtaken by smaller ones
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "5m")]
    pub patience: Duration,
    /// Jobs that have ended are kept, so many of them
    #[arg(long, value_name = "JOBS", default_value_t = Keeping::default().jobs)]
    pub keep_jobs: usize,
    /// And for so long
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "7d")]
    pub keep_for: Duration,
    /// Let every user of this machine submit jobs; their tasks run as themselves
    #[arg(long)]
    pub shared: bool,
    /// Let anybody look who reaches this address: JSON for pages, and /metrics for Prometheus
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<String>,
    /// The form of the events on standard output: lines for people, or one JSON object for each
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// A name that is one part of a path: the queue's folder is called so.
fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

fn weight(text: &str) -> Result<(String, u32), String> {
    let (user, weight) = text.split_once('=').ok_or("expected USER=NUMBER, such as ann=3")?;
    match weight.parse() {
        Ok(weight @ 1..=1_000_000) => Ok((user.to_owned(), weight)),
        _ => Err("a weight is a whole number from 1 to 1000000".to_owned()),
    }
}

impl ServeArgs {
    fn settings(&self) -> Settings {
        Settings {
            jobs_max: self.jobs_max,
            jobs_per_user: self.user_jobs_max,
            queued_tasks_max: self.queued_tasks_max,
            queued_tasks_per_user: self.user_queued_tasks_max,
            tasks_per_user: self.user_tasks_max,
            weights: self.weights.iter().cloned().collect::<BTreeMap<_, _>>(),
            patience: self.patience,
        }
    }

    fn keeping(&self) -> Keeping {
        Keeping { jobs: self.keep_jobs, time: self.keep_for, ..Keeping::default() }
    }
}

/// Runs the jobs that are submitted on the cluster of the master at `master` (`host:port`), until Ctrl-C or SIGTERM, which leave their tasks
/// running: served again, the queue goes on where it was. Gives the exit code.
pub async fn serve(args: ServeArgs, master: &str) -> Result<u8, BatchError> {
    let folder = args.target.folder();
    let owner = format!("batch queue {}", args.target.name);
    let options = Options::new().capability(Capability::InverseOffers).build();
    let builder = Driver::builder(&args.target.name).role(&args.role).master(master).options(options);
    loop {
        let store = Embedded::open(&folder, &owner).map_err(KeepError::Store)?;
        let (mut keeper, kept) = QueueKeeper::open(store, wall_clock())?;
        let known = kept.framework_id.clone();
        let builder = builder.clone().failover_timeout(args.failover_timeout);
        let driver = builder.framework_id(known.clone()).build()?;
        let mut program = Program::new(&args, master, driver.handle())?;
        for (id, why) in &kept.aside {
            program
                .say(&format!("job {id} is set aside, and what runs of it is killed: {why}; submit it anew"));
        }
        let scheduler = program.scheduler((args.settings(), args.keeping()), (keeper, kept));
        match program.drive(driver, scheduler, &folder).await {
            // It stayed away for too long, or was torn down meanwhile: what ran is gone with its framework. Not so when that happens before
            // our eyes: then somebody has just ended it, and means it.
            Err(BatchError::Driver(error @ DriverError::Removed { .. }))
                if known.is_some() && !program.is_subscribed() =>
            {
                program.say(&format!(
                    "{error}; what ran is gone with it and runs again, what has ended is kept"
                ));
                let store = Embedded::open(&folder, &owner).map_err(KeepError::Store)?;
                let kept;
                (keeper, kept) = QueueKeeper::open(store, wall_clock())?;
                let begun = kept.begin_anew(&mut keeper, "its framework was removed", wall_clock());
                begun.map_err(KeepError::Store)?;
            }
            Err(BatchError::Driver(source @ DriverError::Refused { .. }))
                if known.is_some() && !program.is_subscribed() =>
            {
                return Err(BatchError::Stranger { source });
            }
            Err(error) => return Err(error),
            Ok(()) => return Ok(SUCCEEDED),
        }
    }
}

/// Where a queue is kept unless said otherwise: in the user's state folder, or here when there is none.
fn state_folder(name: &str) -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    user.unwrap_or_else(|| Path::new(".").join(".apportion")).join("apportion/batch").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_called_what_a_folder_may_be() {
        assert_eq!(name("batch-2"), Ok("batch-2".to_owned()));
        for bad in ["", ".", "..", "../batch", "a/b", "/tmp", "-o"] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
