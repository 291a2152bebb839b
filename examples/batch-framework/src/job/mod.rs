//! A job file, or the description of a program, to a [`Job`] in which everything is checked.
//!
//! All that can be wrong with a job is found here, before the framework meets a master: a scheduler that fails half-way
//! through a thousand tasks because of a typing error has wasted a cluster.

mod array;
mod builder;
mod dag;
mod file;
mod inputs;
mod retry;
mod source;
mod speculate;
mod stage;
mod stages;
mod submission;
mod table;
mod template;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use apportion_sdk::{Artifact, limits, network::is_network_name};

pub use self::{
    array::{Axis, Elements, TASKS_MAX},
    builder::Builder,
    stage::Stage,
    submission::Submission,
};
use self::{file::JobFile, source::Source, submission::Files, template::Scope};

/// Bytes of a job's name. The ids of its tasks are made from it and may have 200: this leaves room for the number and for
/// the suffix of an attempt.
pub const NAME_BYTES_MAX: usize = 160;

/// Bytes of a job file: a list of [`TASKS_MAX`] paths fits; a disk image named by mistake is not read into memory.
pub const FILE_BYTES_MAX: u64 = 32 << 20;

/// The most retries: a task that failed so often will fail again.
pub const RETRIES_MAX: u32 = 100;

/// The most stages: each costs the scheduler a look now and then, and nobody can read more.
pub const STAGES_MAX: usize = 200;

/// A job that can be run: its stages, one after the other; most jobs have one. Its tasks are numbered through: the first stage has the
/// first positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Names the framework and, with a number, each task.
    pub name: String,
    /// The folder for the standard output of each task, and for what else is kept of it, absolute.
    pub output: Option<PathBuf>,
    /// Whether more elements may come while it runs. A job file is never open: it says all.
    pub open: bool,
    stages: Vec<Stage>,
    /// The position of the first task of each stage.
    firsts: Vec<usize>,
}

/// A place in a job file; lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// Why a job file is no job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The file could not be read.
    #[error("cannot read the job file {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is longer than any job.
    #[error("{} has {bytes} bytes, more than the {FILE_BYTES_MAX} that a job file may have; is it one?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Something in it is wrong.
    #[error("{place}: {what}")]
    Invalid {
        /// Where.
        place: Place,
        /// The key, what is wrong with it, and what is expected.
        what: String,
    },
    /// A program described no job, or would make it too large.
    #[error("job `{job}`: {what}")]
    Refused {
        /// The job.
        job: String,
        /// What is wrong with it, and what is expected.
        what: String,
    },
    /// A `--set` that does not fit the file.
    #[error("--set {setting}: {what}")]
    Setting {
        /// As given.
        setting: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Job {
    /// Begins a job that a program describes. Tasks are named after it.
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder::new(name.into())
    }

    /// Reads and checks a job file. `settings` are `name=value` and override `[params]`; relative patterns and the output
    /// folder are taken from `folder`.
    pub fn load(file: &Path, settings: &[String], folder: &Path) -> Result<Job, JobError> {
        Submission::load(file, settings, folder).map(|(_, job)| job)
    }

    /// Checks the text of a job file; `file` only names it in errors. Globs read the file system.
    pub fn parse(file: &Path, text: &str, settings: &[String], folder: &Path) -> Result<Job, JobError> {
        Job::of_text(file, text, settings, Files::Look { folder, found: &RefCell::default() })
    }

    fn of_text(file: &Path, text: &str, settings: &[String], files: Files<'_>) -> Result<Job, JobError> {
        let source = Source { file, text };
        let raw: JobFile = toml::from_str(text)
            .map_err(|error| source.refuse(error.span().unwrap_or(0..0), error.message().to_owned()))?;

        let name = raw.name.ok_or_else(|| source.missing(0..0, "name", "name = \"checksum\""))?;
        check_name(name.get_ref()).map_err(|what| source.refuse(name.span(), format!("name: {what}")))?;
        let params = source.params(raw.params, settings)?;
        let scope = Scope::params(&params);
        let output = raw.output.map(|output| {
            let path = scope.expand(output.get_ref()).map_err(|error| source.at("output", &output, error))?;
            Ok(files.folder().join(path))
        });
        let output = output.transpose()?;
        let tables = stages::Tables {
            task: raw.task,
            array: raw.array,
            stage: raw.stage,
            retry: raw.retry,
            speculate: raw.speculate,
        };
        let stages = source.stages(tables, (name.get_ref(), output.is_some()), scope, files)?;
        Ok(Job::of(name.into_inner(), output, stages))
    }

    /// A job of these stages, which are checked.
    fn of(name: String, output: Option<PathBuf>, stages: Vec<Stage>) -> Job {
        let firsts = stages.iter().scan(0, |next, stage| {
            let first = *next;
            *next += stage.tasks();
            Some(first)
        });
        Job { name, output, open: false, firsts: firsts.collect(), stages }
    }

    /// Has every task run as this user of its agent, whatever the file says.
    pub fn run_as(&mut self, user: &str) {
        for stage in &mut self.stages {
            stage.user = Some(user.to_owned());
        }
    }

    /// One more task for each of these, behind those that are there. Files stay files: to a job of files only absolute paths are
    /// added. Refused as a whole when it would be too large.
    pub fn extend(&mut self, elements: Vec<String>) -> Result<(), JobError> {
        let refuse =
            |error: array::ArrayError| JobError::Refused { job: self.name.clone(), what: error.to_string() };
        let last = self.stages.last_mut().expect("a job has a stage");
        last.elements.extend(elements).map_err(refuse)
    }

    /// Its stages, in the order of the file; at least one.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// How many tasks it has; at least one, unless it is open.
    pub fn tasks(&self) -> usize {
        self.stages.iter().map(Stage::tasks).sum()
    }

    /// The stage of a task.
    pub fn stage_of(&self, position: usize) -> &Stage {
        self.find(position).0
    }

    /// The stage of a task, and which one of it this is.
    fn find(&self, position: usize) -> (&Stage, usize) {
        // The last stage that begins no later; a stage without tasks there is only in an open job, which has no other.
        let stage = self.firsts.partition_point(|first| *first <= position) - 1;
        (&self.stages[stage], position - self.firsts[stage])
    }

    /// The name of a task, counted from 0: `checksum-0001` is the first, or `checksum-fetch-0001` of a stage with a name. Names sort
    /// as their numbers do, and do not change when an open job grows.
    pub fn task_name(&self, position: usize) -> String {
        let (stage, at) = self.find(position);
        let most = if self.open { TASKS_MAX } else { stage.tasks() };
        let digits = most.to_string().len().max(4);
        let number = at + 1;
        match stage.name.as_str() {
            "" => format!("{}-{number:0digits$}", self.name),
            stage => format!("{}-{stage}-{number:0digits$}", self.name),
        }
    }

    /// The element of a task, for people; empty when there is no array.
    pub fn item(&self, position: usize) -> String {
        let (stage, at) = self.find(position);
        stage.elements.item(at)
    }

    /// The files that a task is about, when its element is one, or is made of some.
    pub fn files(&self, position: usize) -> Vec<&str> {
        let (stage, at) = self.find(position);
        stage.elements.files(at)
    }

    /// The program and arguments of a task.
    pub fn argv(&self, position: usize) -> Vec<String> {
        let (stage, at) = self.find(position);
        let values = stage.values(at);
        stage.argv.iter().map(|template| template.render(&values)).collect()
    }

    /// What is fetched into the sandbox of a task before it starts.
    pub fn artifacts(&self, position: usize) -> Vec<Artifact> {
        let (stage, at) = self.find(position);
        let values = stage.values(at);
        stage.inputs.iter().map(|input| input.render(&values)).collect()
    }

    /// The environment of a task.
    pub fn env(&self, position: usize) -> BTreeMap<String, String> {
        let (stage, at) = self.find(position);
        let values = stage.values(at);
        stage.env.iter().map(|(name, template)| (name.clone(), template.render(&values))).collect()
    }
}

/// The text of a job file.
fn read(file: &Path) -> Result<String, JobError> {
    let unreadable = |source| JobError::Unreadable { file: file.to_owned(), source };
    let bytes = std::fs::metadata(file).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(JobError::TooLarge { file: file.to_owned(), bytes });
    }
    std::fs::read_to_string(file).map_err(unreadable)
}

fn check_variable(name: &str) -> Result<(), &'static str> {
    match name.is_empty() || name.contains(['=', '\0']) {
        true => Err("is not a name of a variable: not empty, no `=`"),
        false => Ok(()),
    }
}

fn check_network(name: &str) -> Result<(), String> {
    match is_network_name(name) {
        true => Ok(()),
        false => Err(format!("`{}` names no network", name.escape_default())),
    }
}

fn check_timeout(timeout: Duration) -> Result<(), String> {
    let most = limits::MAX_COMPLETION_MAX;
    match timeout {
        Duration::ZERO => Err("is zero; leave it out for none".to_owned()),
        timeout if timeout > most => {
            Err(format!("is longer than {} days; leave it out for none", most.as_secs() / 86_400))
        }
        _ => Ok(()),
    }
}

fn check_kill_grace(grace: Duration) -> Result<(), String> {
    let most = limits::KILL_GRACE_MAX;
    match grace > most {
        true => Err(format!("is longer than {} hours, the most that an agent waits", most.as_secs() / 3_600)),
        false => Ok(()),
    }
}

/// Refuses what ids of tasks and names of files cannot begin with.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "{} bytes long; at most {NAME_BYTES_MAX} leave room for the ids of tasks",
            name.len()
        ));
    }
    // The rule of ids is the SDK's to know; a name that passes it makes good ids with any number behind it.
    apportion_sdk::TaskId::new(name).map(|_| ()).map_err(|_| {
        format!(
            "`{}` cannot begin a task id: no `/`, no white space, not empty, no `-` in front",
            name.escape_default()
        )
    })
}
