//! A job file, or the description of a program, to a [`Job`] in which everything is checked.
//!
//! All that can be wrong with a job is found here, before the framework meets a master: a scheduler that fails half-way
//! through a thousand tasks because of a typing error has wasted a cluster.

mod array;
mod builder;
mod file;
mod template;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use apportion_sdk::{
    ImageReference, IoLimits, Resources,
    image::ImageError,
    network::is_network_name,
    resources::{Name, Value, parse_scalar},
};
use toml::Spanned;

pub use self::{
    array::{Elements, TASKS_MAX},
    builder::Builder,
};
use self::{
    file::{ArrayTable, CommandLine, JobFile, Scalar, TaskTable},
    template::{Scope, Template},
};

/// Bytes of a job's name. The ids of its tasks are made from it and may have 200: this leaves room for the number and for
/// the suffix of an attempt.
pub const NAME_BYTES_MAX: usize = 160;

/// Bytes of a job file: a list of [`TASKS_MAX`] paths fits; a disk image named by mistake is not read into memory.
pub const FILE_BYTES_MAX: u64 = 32 << 20;

/// The most retries: a task that failed so often will fail again.
pub const RETRIES_MAX: u32 = 100;

/// Processors of a task without a word, in thousandths: with the memory below enough for most programs, small enough to fit.
const CPUS_MILLI_DEFAULT: i64 = 1_000;

/// Memory of a task without a word, in thousandths of a MiB.
const MEM_MILLI_DEFAULT: i64 = 128_000;

/// A job that can be run: one task for each element, all of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Names the framework and, with a number, each task.
    pub name: String,
    /// What each task asks for.
    pub resources: Resources,
    /// What each task sees as its root; its command may then be empty, for the image's own.
    pub image: Option<ImageReference>,
    /// Who each task runs as; the image's, else the agent's own user, when none.
    pub user: Option<String>,
    /// The network of each task; the host's when none.
    pub network: Option<String>,
    /// How long one attempt may run.
    pub timeout: Option<Duration>,
    /// From TERM to KILL; the agent's default when none.
    pub kill_grace: Option<Duration>,
    /// Whether its cpus, a whole number of them, are cores that nothing else runs on which the agent runs.
    pub exclusive_cpus: bool,
    /// How many processes and threads one attempt may have; the agent's default when none.
    pub pids_max: Option<u64>,
    /// What one attempt may do with the disk of its agent; as much as that gives when none.
    pub io: Option<IoLimits>,
    /// How often a task that failed is tried again.
    pub retries: u32,
    /// The folder for the standard output of each task, absolute.
    pub output: Option<PathBuf>,
    /// Whether more elements may come while it runs. A job file is never open: it says all.
    pub open: bool,
    elements: Elements,
    argv: Vec<Template>,
    env: BTreeMap<String, Template>,
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
        let unreadable = |source| JobError::Unreadable { file: file.to_owned(), source };
        let bytes = std::fs::metadata(file).map_err(unreadable)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(JobError::TooLarge { file: file.to_owned(), bytes });
        }
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        Job::parse(file, &text, settings, folder)
    }

    /// Checks the text of a job file; `file` only names it in errors. Globs read the file system.
    pub fn parse(file: &Path, text: &str, settings: &[String], folder: &Path) -> Result<Job, JobError> {
        let source = Source { file, text };
        let raw: JobFile = toml::from_str(text)
            .map_err(|error| source.refuse(error.span().unwrap_or(0..0), error.message().to_owned()))?;

        let name = raw.name.ok_or_else(|| source.missing(0..0, "name", "name = \"checksum\""))?;
        check_name(name.get_ref()).map_err(|what| source.refuse(name.span(), format!("name: {what}")))?;
        let params = source.params(raw.params, settings)?;
        let scope = Scope::params(&params);
        let output = raw.output.map(|output| {
            let path = scope.expand(output.get_ref()).map_err(|error| source.at("output", &output, error))?;
            Ok(folder.join(path))
        });
        let elements = match raw.array {
            None => Elements::Single,
            Some(array) => source.elements(array, scope, folder)?,
        };

        let example = "[task]\ncommand = [\"/bin/echo\", \"hello\"]";
        let task = raw.task.ok_or_else(|| source.missing(0..0, "task", example))?;
        let scope = Scope { params: &params, index: true, item: elements != Elements::Single };
        let resources = source.resources(task.get_ref())?;
        let (span, task) = (task.span(), task.into_inner());
        let exclusive_cpus = source.exclusive_cpus(task.exclusive_cpus, &resources)?;
        Ok(Job {
            name: name.into_inner(),
            resources,
            exclusive_cpus,
            timeout: source.timeout(task.timeout)?,
            kill_grace: source.duration("task.kill_grace", task.kill_grace)?,
            pids_max: source.pids_max(task.pids_max)?,
            io: source.io(task.io)?,
            retries: source.retries(task.retries)?,
            output: output.transpose()?,
            open: false,
            elements,
            argv: source.argv(span, task.command, task.image.is_some(), scope)?,
            image: source.image(task.image)?,
            user: task.user,
            network: source.network(task.network)?,
            env: source.env(task.env, scope)?,
        })
    }

    /// One more task for each of these, behind those that are there. Files stay files: to a job of files only absolute paths are
    /// added. Refused as a whole when it would be too large.
    pub fn extend(&mut self, elements: Vec<String>) -> Result<(), JobError> {
        let refuse =
            |error: array::ArrayError| JobError::Refused { job: self.name.clone(), what: error.to_string() };
        self.elements.extend(elements).map_err(refuse)
    }

    /// How many tasks it has; at least one, unless it is open.
    pub fn tasks(&self) -> usize {
        self.elements.count()
    }

    /// The name of a task, counted from 0: `checksum-0001` is the first. Names sort as their numbers do, and do not change when an
    /// open job grows.
    pub fn task_name(&self, position: usize) -> String {
        let most = if self.open { TASKS_MAX } else { self.tasks() };
        let digits = most.to_string().len().max(4);
        format!("{}-{:0digits$}", self.name, position + 1)
    }

    /// The element of a task, for people; empty when there is no array.
    pub fn item(&self, position: usize) -> String {
        self.elements.item(position)
    }

    /// The file that a task is about, when its element is one.
    pub fn file(&self, position: usize) -> Option<&str> {
        self.elements.file(position)
    }

    /// The program and arguments of a task.
    pub fn argv(&self, position: usize) -> Vec<String> {
        let item = self.elements.item(position);
        self.argv.iter().map(|template| template.render(&item, position + 1)).collect()
    }

    /// The environment of a task.
    pub fn env(&self, position: usize) -> BTreeMap<String, String> {
        let item = self.elements.item(position);
        self.env.iter().map(|(name, template)| (name.clone(), template.render(&item, position + 1))).collect()
    }
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

fn check_name(name: &str) -> Result<(), String> {
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

/// The text of the file, to point into.
#[derive(Clone, Copy)]
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn refuse(self, span: Range<usize>, what: String) -> JobError {
        let before = &self.text[..span.start.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        JobError::Invalid { place: Place { file: self.file.to_owned(), line, column }, what }
    }

    fn at<T>(self, key: &str, value: &Spanned<T>, what: impl fmt::Display) -> JobError {
        self.refuse(value.span(), format!("{key}: {what}"))
    }

    fn missing(self, span: Range<usize>, key: &str, example: &str) -> JobError {
        self.refuse(span, format!("{key} is missing; write for example\n{example}"))
    }

    fn params(
        self,
        raw: BTreeMap<Spanned<String>, Scalar>,
        settings: &[String],
    ) -> Result<BTreeMap<String, String>, JobError> {
        let mut params = BTreeMap::new();
        for (name, value) in raw {
            if ["item", "index"].contains(&name.get_ref().as_str()) {
                return Err(self.at(
                    "params",
                    &name,
                    format!("`{}` is the array's own; choose another name", name.get_ref()),
                ));
            }
            params.insert(name.into_inner(), value.to_string());
        }
        for setting in settings {
            let refuse = |what| JobError::Setting { setting: setting.clone(), what };
            let (name, value) = setting
                .split_once('=')
                .ok_or_else(|| refuse("expected name=value, such as folder=/usr/share".to_owned()))?;
            // Only what the file declares can be set: a misspelt name must not leave the default in force unseen.
            let Some(param) = params.get_mut(name) else {
                let known: Vec<_> = params.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "no parameter".to_owned() } else { known.join(", ") };
                return Err(refuse(format!(
                    "{} declares no `{name}`; it declares {known}",
                    self.file.display()
                )));
            };
            value.clone_into(param);
        }
        Ok(params)
    }

    fn elements(
        self,
        array: Spanned<ArrayTable>,
        scope: Scope<'_>,
        folder: &Path,
    ) -> Result<Elements, JobError> {
        let span = array.span();
        let ArrayTable { glob, exclude, list, range } = array.into_inner();
        let given = [glob.is_some(), list.is_some(), range.is_some()].iter().filter(|given| **given).count();
        if given != 1 {
            let what = format!(
                "array: {given} of glob, list and range are given; give exactly one, it says which tasks there are"
            );
            return Err(self.refuse(span, what));
        }
        if let (None, Some(first)) = (&glob, exclude.first()) {
            return Err(self.at("array.exclude", first, "takes files out of a glob, but there is no glob"));
        }
        if let Some(glob) = glob {
            let refuse = |error| self.at("array.glob", &glob, error);
            let pattern =
                scope.expand(glob.get_ref()).map_err(|error| self.at("array.glob", &glob, error))?;
            let exclude = exclude.iter().map(|text| {
                scope.expand(text.get_ref()).map_err(|error| self.at("array.exclude", text, error))
            });
            return Elements::glob(folder, &pattern, &exclude.collect::<Result<Vec<_>, _>>()?)
                .map_err(refuse);
        }
        if let Some(list) = list {
            let texts = list
                .get_ref()
                .iter()
                .map(|text| scope.expand(text.get_ref()).map_err(|error| self.at("array.list", text, error)));
            let texts = texts.collect::<Result<Vec<_>, _>>()?;
            return Elements::list(texts).map_err(|error| self.at("array.list", &list, error));
        }
        let range = range.expect("one of three is given, and two are not");
        Elements::range(range.get_ref()).map_err(|error| self.at("array.range", &range, error))
    }

    /// What each task asks for.
    fn resources(self, task: &TaskTable) -> Result<Resources, JobError> {
        let mut resources = Resources::new();
        if let Some(more) = &task.resources {
            resources = more.get_ref().parse().map_err(|error| self.at("task.resources", more, error))?;
        }
        let scalars = [
            ("cpus", Name::Cpus, &task.cpus, CPUS_MILLI_DEFAULT),
            ("memory", Name::Mem, &task.memory, MEM_MILLI_DEFAULT),
            ("disk", Name::Disk, &task.disk, 0),
        ];
        for (key, name, given, default) in scalars {
            let twice = resources.milli(&name) > 0;
            let milli = match given {
                None if twice => continue,
                None => default,
                Some(text) if twice => {
                    let what = format!("is given, and {name} stands in task.resources too; keep one");
                    return Err(self.at(&format!("task.{key}"), text, what));
                }
                Some(text) => parse_scalar(&name, &text.get_ref().to_string())
                    .map_err(|what| self.at(&format!("task.{key}"), text, what))?,
            };
            resources.insert(name, Value::Scalar(milli));
        }
        Ok(resources)
    }

    fn image(self, text: Option<Spanned<String>>) -> Result<Option<ImageReference>, JobError> {
        let parsed = |text: Spanned<String>| {
            text.get_ref().parse().map_err(|error: ImageError| self.at("task.image", &text, error))
        };
        text.map(parsed).transpose()
    }

    fn network(self, name: Option<Spanned<String>>) -> Result<Option<String>, JobError> {
        if let Some(name) = &name {
            check_network(name.get_ref()).map_err(|what| self.at("task.network", name, what))?;
        }
        Ok(name.map(Spanned::into_inner))
    }

    fn timeout(self, text: Option<Spanned<String>>) -> Result<Option<Duration>, JobError> {
        let Some(text) = text else { return Ok(None) };
        match self.duration("task.timeout", Some(text.clone()))? {
            Some(Duration::ZERO) => Err(self.at("task.timeout", &text, "is zero; leave it out for none")),
            timeout => Ok(timeout),
        }
    }

    fn duration(self, key: &str, text: Option<Spanned<String>>) -> Result<Option<Duration>, JobError> {
        let Some(text) = text else { return Ok(None) };
        match humantime::parse_duration(text.get_ref()) {
            Ok(duration) => Ok(Some(duration)),
            Err(error) => {
                let shown: String = text.get_ref().chars().take(40).collect();
                let what =
                    format!("`{shown}` is not a duration such as \"90s\", \"5m\" or \"1h 30m\": {error}");
                Err(self.at(key, &text, what))
            }
        }
    }

    fn exclusive_cpus(self, given: Option<Spanned<bool>>, resources: &Resources) -> Result<bool, JobError> {
        let Some(given) = given.filter(|given| *given.get_ref()) else { return Ok(false) };
        let cores = resources.exclusive_cores();
        cores.map(|_| true).map_err(|what| self.at("task.exclusive_cpus", &given, what))
    }

    fn pids_max(self, given: Option<Spanned<i64>>) -> Result<Option<u64>, JobError> {
        let Some(given) = given else { return Ok(None) };
        match u64::try_from(*given.get_ref()) {
            Ok(pids @ 1..) => Ok(Some(pids)),
            _ => Err(self.at("task.pids_max", &given, format!("{} is less than 1", given.get_ref()))),
        }
    }

    fn io(self, given: Option<Spanned<IoLimits>>) -> Result<Option<IoLimits>, JobError> {
        match given.as_ref().map(|io| (io, io.get_ref().refusal())) {
            Some((io, Some((field, what)))) => Err(self.at(&format!("task.io.{field}"), io, what)),
            _ => Ok(given.map(Spanned::into_inner)),
        }
    }

    fn retries(self, given: Option<Spanned<i64>>) -> Result<u32, JobError> {
        let Some(given) = given else { return Ok(0) };
        match u32::try_from(*given.get_ref()) {
            Ok(retries) if retries <= RETRIES_MAX => Ok(retries),
            _ => Err(self.at(
                "task.retries",
                &given,
                format!("{} is not from 0 to {RETRIES_MAX}", given.get_ref()),
            )),
        }
    }

    fn argv(
        self,
        task: Range<usize>,
        command: Option<Spanned<CommandLine>>,
        image: bool,
        scope: Scope<'_>,
    ) -> Result<Vec<Template>, JobError> {
        if command.is_none() && image {
            return Ok(Vec::new());
        }
        const EXAMPLE: &str = "command = [\"/bin/sh\", \"-c\", \"sha256sum \\\"$FILE\\\"\"]";
        let command = command.ok_or_else(|| self.missing(task, "task.command", EXAMPLE))?;
        let argv = match command.get_ref() {
            CommandLine::Shell(line) if line.trim().is_empty() => Vec::new(),
            CommandLine::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
            CommandLine::Argv(argv) => argv.clone(),
        };
        if argv.first().is_none_or(String::is_empty) {
            return Err(self.at(
                "task.command",
                &command,
                format!("names no program; write for example\n{EXAMPLE}"),
            ));
        }
        let template = |text: &String| {
            Template::parse(text, scope).map_err(|error| self.at("task.command", &command, error))
        };
        argv.iter().map(template).collect()
    }

    fn env(
        self,
        env: BTreeMap<String, Spanned<String>>,
        scope: Scope<'_>,
    ) -> Result<BTreeMap<String, Template>, JobError> {
        let check = |(name, value): (String, Spanned<String>)| {
            let key = format!("task.env.{}", name.escape_default());
            check_variable(&name).map_err(|what| self.at(&key, &value, what))?;
            let template =
                Template::parse(value.get_ref(), scope).map_err(|error| self.at(&key, &value, error))?;
            Ok((name, template))
        };
        env.into_iter().map(check).collect()
    }
}
