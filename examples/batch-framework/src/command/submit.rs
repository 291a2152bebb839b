//! `apportion batch submit`: a job goes into the queue, and perhaps its end is waited for.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;
use serde_json::json;

use super::{Common, show};
use crate::{
    client::{Client, ClientError},
    job::Submission,
    progress::{self, Progress},
    queue::JobId,
    report::Report,
    run::{self, BatchError, Format, SUCCEEDED},
    serve::{
        Wanted,
        entry::Phase,
        view::{Details, Overview},
    },
    summary,
};

/// Between two looks at a job whose end is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long whoever serves may be away meanwhile.
const AWAY_MAX: Duration = Duration::from_secs(300);

/// What to submit.
#[derive(Debug, Clone, clap::Args)]
pub struct SubmitArgs {
    /// The job file (TOML)
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// Another value for a parameter that the job file declares
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Whose job it is; only root and the user who serves may name another than themselves
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Before your jobs of a lower number, after those of a greater one
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i32,
    /// Wait for its end and show what became of it, with the exit code of `batch run`; Ctrl-C leaves the job in the queue
    #[arg(long)]
    pub wait: bool,
    /// Let it wait when no agent is large enough for a task, instead of failing
    #[arg(long)]
    pub wait_for_agents: bool,
    /// Show every task in the summary, however many there are
    #[arg(long, requires = "wait")]
    pub all: bool,
    /// Which queue.
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Deserialize)]
struct Taken {
    job: JobId,
}

pub(super) async fn submit(args: SubmitArgs) -> Result<u8, BatchError> {
    let folder = std::env::current_dir().map_err(BatchError::Folder)?;
    let (file, settings) = (args.job.clone(), args.set.clone());
    // Said here, where the file is, whatever is wrong with it. A glob over a large folder takes a while.
    let loaded = tokio::task::spawn_blocking(move || Submission::load(&file, &settings, &folder));
    let (submission, job) = loaded.await.expect("reading a job file does not panic")?;
    let client = args.common.client();
    let wanted = Wanted { submission, user: args.user, priority: args.priority, waits: args.wait_for_agents };
    let body = serde_json::to_vec(&wanted).expect("a submission has texts as keys");
    let Taken { job: id } = client.post("/v1/jobs", body).await?;
    if args.wait {
        return wait(&client, id, (&job.name, job.tasks()), args.all, args.common.output).await;
    }
    let tasks = job.tasks();
    show(args.common.output, &json!({ "job": id, "tasks": tasks }), || {
        format!("{} is job {id}: {tasks} tasks", job.name)
    })?;
    Ok(SUCCEEDED)
}

/// Waits for the end of a job, over restarts of whoever serves.
async fn wait(
    client: &Client,
    id: JobId,
    (name, tasks): (&str, usize),
    all: bool,
    output: Format,
) -> Result<u8, BatchError> {
    let mut progress = Progress::new(&format!("{name} (job {id})"), tasks);
    let mut lines = tokio::time::interval(progress::LINES_EVERY);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut away = Duration::ZERO;
    let mut note = None;
    let phase = loop {
        tokio::select! {
            _ = lines.tick() => progress.tick(),
            _ = looks.tick() => match client.get::<Overview>("/v1/queue").await {
                Ok(overview) => {
                    away = Duration::ZERO;
                    let Some(job) = overview.jobs.into_iter().find(|job| job.id == id) else {
                        return Err(BatchError::Forgotten { job: id });
                    };
                    progress.moved(job.tasks);
                    if note != job.note {
                        job.note.iter().for_each(|why| progress.say(why));
                        note = job.note;
                    }
                    if job.state.is_over() {
                        break job.state;
                    }
                }
                Err(error) if error.may_pass() && away < AWAY_MAX => {
                    if away.is_zero() {
                        progress.say(&format!("{error}; waiting for it"));
                    }
                    away += LOOK_EVERY;
                }
                Err(error) => return Err(error.into()),
            },
        }
    };
    progress.finish().await;
    let report: Report = client.get(&format!("/v1/jobs/{id}/report")).await?;
    show(output, &report, || summary::render(&report, all, comfy_table::Table::new().width()))?;
    let has_output = client.get::<Details>(&format!("/v1/jobs/{id}")).await?.output.is_some();
    Ok(match phase {
        Phase::Cancelled => run::INTERRUPTED,
        _ => run::exit_code(&report, has_output),
    })
}

impl From<ClientError> for BatchError {
    fn from(error: ClientError) -> Self {
        BatchError::Client(Box::new(error))
    }
}
