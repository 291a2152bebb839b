//! What every command that asks a master has in common.

use std::{path::PathBuf, time::Duration};

use anyhow::bail;
use apportion_sdk::operator::{Operator, OperatorError, TaskFilter, TaskSummary};
use apportion_types::{FrameworkId, TaskId};

use crate::{
    log,
    output::{self, Format},
    settings::{Settings, process_environment},
    value::{self, Url, Urls, Value as _},
};

/// The keys of `[client]`.
pub(crate) const KEYS: &[&str] = &["master", "timeout", "log", "log_format"];

/// Where a master is when nothing else is said: that of `apportion dev` and of `apportion master` without settings.
pub(crate) const MASTER_DEFAULT: &str = "http://127.0.0.1:5050";

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The flags of every command that asks a master and answers.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// The flags of every command that goes to a master.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct SettingsArgs {
    /// The master to ask, or several with commas between them, of which the one that leads is asked [default: http://127.0.0.1:5050]
    #[arg(long, value_name = "URLS", value_parser = value::flag::<Urls>, help_heading = "Settings")]
    master: Option<Urls>,
    /// How long an answer may take [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    timeout: Option<Duration>,
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    log: log::Args,
}

/// Which settings file is read, and whether the settings are only shown.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct FileArgs {
    /// The settings file [default: /etc/apportion/apportion.toml if it is there]
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    pub(crate) config: Option<PathBuf>,
    /// Show each setting and where it came from, then end
    #[arg(long, help_heading = "Settings")]
    pub(crate) print_config: bool,
}

/// What a command that asks a master goes by.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) master: Urls,
    pub(crate) timeout: Duration,
    pub(crate) output: Format,
}

impl Args {
    /// Resolves the settings and begins to log; none when they were only to be shown, which is done.
    pub(crate) fn start(self) -> anyhow::Result<Option<Client>> {
        self.settings.start(self.output)
    }
}

impl SettingsArgs {
    /// The same, for a command with its own `--output`.
    pub(crate) fn start(self, output: Format) -> anyhow::Result<Option<Client>> {
        let mut settings = Settings::read("client", self.file.config.as_deref(), &process_environment)?;
        let client = Client {
            master: settings.value("master", self.master, || Urls(vec![Url(MASTER_DEFAULT.to_owned())]))?,
            timeout: settings.value("timeout", self.timeout, || TIMEOUT_DEFAULT)?,
            output,
        };
        let log = self.log.resolve(&mut settings, "warn")?;
        if self.file.print_config {
            output::answer(output, &settings.shown(), ToString::to_string)?;
            return Ok(None);
        }
        log.start();
        Ok(Some(client))
    }
}

impl Client {
    /// Connects to the master, or says that none is there.
    pub(crate) async fn connect(&self) -> anyhow::Result<Master> {
        let operator = self.answered(Operator::connect(&self.master.places())).await?;
        Ok(Master { operator, client: self.clone() })
    }

    async fn answered<T>(&self, call: impl Future<Output = Result<T, OperatorError>>) -> anyhow::Result<T> {
        let url = &self.master.text();
        match tokio::time::timeout(self.timeout, call).await {
            Err(_) => bail!("{}", late(url, self.timeout)),
            Ok(Err(OperatorError::Connect { why, .. })) => bail!("{}", absent(url, &why)),
            Ok(answer) => Ok(answer?),
        }
    }
}

/// The remedy for the commonest trouble of all; how it failed is said only when it is not that nobody listens there.
fn absent(url: &str, why: &str) -> String {
    let why = if why.contains("Connection refused") { String::new() } else { format!(" ({why})") };
    format!(
        "no master answers at {url}{why}: is one running? start it with `apportion master` or `apportion dev`"
    )
}

/// An answer that did not come in time.
pub(crate) fn late(who: &str, timeout: Duration) -> String {
    format!("{who} did not answer within {}; wait longer with --timeout", humantime::format_duration(timeout))
}

/// A connected master.
#[derive(Debug)]
pub(crate) struct Master {
    operator: Operator,
    client: Client,
}

impl Master {
    /// What the master answers, if it does in time.
    pub(crate) async fn ask<'a, T, F: Future<Output = Result<T, OperatorError>>>(
        &'a self,
        call: impl FnOnce(&'a Operator) -> F,
    ) -> anyhow::Result<T> {
        self.client.answered(call(&self.operator)).await
    }

    /// Tasks: those that have not ended first.
    pub(crate) async fn tasks(&self, filter: &TaskFilter) -> anyhow::Result<Vec<TaskSummary>> {
        self.ask(|operator| operator.tasks(filter)).await
    }

    /// Asks for a task to end, and says whose it is.
    pub(crate) async fn kill(
        &self,
        framework: Option<&FrameworkId>,
        task: &TaskId,
        grace: Option<Duration>,
    ) -> anyhow::Result<FrameworkId> {
        self.client.answered(self.operator.kill(framework, task, grace)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_master_is_absent_is_said_unless_it_is_plain() {
        let plain =
            absent("http://a:1", "transport error: tcp connect error: Connection refused (os error 111)");
        assert!(plain.starts_with("no master answers at http://a:1: is one running?"), "{plain}");
        let other = absent("http://a:1", "dns error");
        assert!(other.starts_with("no master answers at http://a:1 (dns error): is one running?"), "{other}");
    }
}
