//! The values of `[task]`, or of one `[stage.NAME]`: each checked where it stands.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use apportion_sdk::{
    ImageReference, IoLimits, Resources,
    image::ImageError,
    resources::{Name, Value, parse_scalar},
};
use toml::Spanned;

use super::{
    JobError, check_kill_grace, check_network, check_timeout, check_variable,
    file::{CommandLine, TaskTable},
    source::Source,
    template::{Scope, Template},
};

/// Processors of a task without a word, in thousandths: with the memory below enough for most programs, small enough to fit.
pub(super) const CPUS_MILLI_DEFAULT: i64 = 1_000;

/// Memory of a task without a word, in thousandths of a MiB.
pub(super) const MEM_MILLI_DEFAULT: i64 = 128_000;

/// A table of the file, by its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    pub source: Source<'a>,
    pub key: &'a str,
}

impl Table<'_> {
    /// An error about one of its values.
    pub(super) fn at<T>(&self, key: &str, value: &Spanned<T>, what: impl std::fmt::Display) -> JobError {
        self.source.at(&format!("{}.{key}", self.key), value, what)
    }

    /// What each task asks for.
    pub(super) fn resources(&self, task: &TaskTable) -> Result<Resources, JobError> {
        let mut resources = Resources::new();
        if let Some(more) = &task.resources {
            resources = more.get_ref().parse().map_err(|error| self.at("resources", more, error))?;
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
                    let what = format!("is given, and {name} stands in {}.resources too; keep one", self.key);
                    return Err(self.at(key, text, what));
                }
                Some(text) => parse_scalar(&name, &text.get_ref().to_string())
                    .map_err(|what| self.at(key, text, what))?,
            };
            resources.insert(name, Value::Scalar(milli));
        }
        Ok(resources)
    }

    pub(super) fn image(&self, text: Option<Spanned<String>>) -> Result<Option<ImageReference>, JobError> {
        let parsed = |text: Spanned<String>| {
            text.get_ref().parse().map_err(|error: ImageError| self.at("image", &text, error))
        };
        text.map(parsed).transpose()
    }

    pub(super) fn network(&self, name: Option<Spanned<String>>) -> Result<Option<String>, JobError> {
        if let Some(name) = &name {
            check_network(name.get_ref()).map_err(|what| self.at("network", name, what))?;
        }
        Ok(name.map(Spanned::into_inner))
    }

    pub(super) fn timeout(&self, text: Option<Spanned<String>>) -> Result<Option<Duration>, JobError> {
        self.checked("timeout", text, check_timeout)
    }

    pub(super) fn kill_grace(&self, text: Option<Spanned<String>>) -> Result<Option<Duration>, JobError> {
        self.checked("kill_grace", text, check_kill_grace)
    }

    fn checked(
        &self,
        key: &str,
        text: Option<Spanned<String>>,
        check: impl Fn(Duration) -> Result<(), String>,
    ) -> Result<Option<Duration>, JobError> {
        let duration = self.duration(key, text.clone())?;
        if let (Some(text), Some(Err(what))) = (text, duration.map(check)) {
            return Err(self.at(key, &text, what));
        }
        Ok(duration)
    }

    pub(super) fn duration(
        &self,
        key: &str,
        text: Option<Spanned<String>>,
    ) -> Result<Option<Duration>, JobError> {
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

    pub(super) fn exclusive_cpus(
        &self,
        given: Option<Spanned<bool>>,
        resources: &Resources,
    ) -> Result<bool, JobError> {
        let Some(given) = given.filter(|given| *given.get_ref()) else { return Ok(false) };
        let cores = resources.exclusive_cores();
        cores.map(|_| true).map_err(|what| self.at("exclusive_cpus", &given, what))
    }

    pub(super) fn pids_max(&self, given: Option<Spanned<i64>>) -> Result<Option<u64>, JobError> {
        let Some(given) = given else { return Ok(None) };
        match u64::try_from(*given.get_ref()) {
            Ok(pids @ 1..) => Ok(Some(pids)),
            _ => Err(self.at("pids_max", &given, format!("{} is less than 1", given.get_ref()))),
        }
    }

    pub(super) fn io(&self, given: Option<Spanned<IoLimits>>) -> Result<Option<IoLimits>, JobError> {
        match given.as_ref().map(|io| (io, io.get_ref().refusal())) {
            Some((io, Some((field, what)))) => Err(self.at(&format!("io.{field}"), io, what)),
            _ => Ok(given.map(Spanned::into_inner)),
        }
    }

    pub(super) fn argv(
        &self,
        task: Range<usize>,
        command: Option<Spanned<CommandLine>>,
        image: bool,
        scope: Scope<'_>,
    ) -> Result<Vec<Template>, JobError> {
        if command.is_none() && image {
            return Ok(Vec::new());
        }
        const EXAMPLE: &str = "command = [\"/bin/sh\", \"-c\", \"sha256sum \\\"$FILE\\\"\"]";
        let command =
            command.ok_or_else(|| self.source.missing(task, &format!("{}.command", self.key), EXAMPLE))?;
        let argv = match command.get_ref() {
            CommandLine::Shell(line) if line.trim().is_empty() => Vec::new(),
            CommandLine::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
            CommandLine::Argv(argv) => argv.clone(),
        };
        if argv.first().is_none_or(String::is_empty) {
            return Err(self.at(
                "command",
                &command,
                format!("names no program; write for example\n{EXAMPLE}"),
            ));
        }
        let template =
            |text: &String| Template::parse(text, scope).map_err(|error| self.at("command", &command, error));
        argv.iter().map(template).collect()
    }

    pub(super) fn env(
        &self,
        env: BTreeMap<String, Spanned<String>>,
        scope: Scope<'_>,
    ) -> Result<BTreeMap<String, Template>, JobError> {
        let check = |(name, value): (String, Spanned<String>)| {
            let key = format!("env.{}", name.escape_default());
            check_variable(&name).map_err(|what| self.at(&key, &value, what))?;
            let template =
                Template::parse(value.get_ref(), scope).map_err(|error| self.at(&key, &value, error))?;
            Ok((name, template))
        };
        env.into_iter().map(check).collect()
    }
}
