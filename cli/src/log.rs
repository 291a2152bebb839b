//! What the program says of its own work, on standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::{
    settings::{Settings, SettingsError},
    value::{self, Value},
};

/// What is logged, such as `info` or `warn,apportion_master=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter(pub(crate) String);

impl Value for Filter {
    fn parse(text: &str) -> Result<Self, String> {
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(Filter(text.to_owned())),
            Err(e) => Err(format!(
                "`{text}` is not a log filter such as `info` or `warn,apportion_master=debug`: {e}"
            )),
        }
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Value for LogFormat {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("`{text}` is neither `text` nor `json`")),
        }
    }

    fn text(&self) -> String {
        match self {
            LogFormat::Text => "text".to_owned(),
            LogFormat::Json => "json".to_owned(),
        }
    }
}

/// The flags of every command that logs.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// What to log to standard error, such as `warn,apportion_master=debug` [default: `info` for daemons, else `warn`]
    #[arg(long, value_name = "FILTER", value_parser = value::flag::<Filter>, help_heading = "Log")]
    log: Option<Filter>,
    /// `text` or `json`, an object in each line [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = value::flag::<LogFormat>, help_heading = "Log")]
    log_format: Option<LogFormat>,
}

/// What is logged, and how.
#[derive(Debug)]
pub(crate) struct Log {
    filter: Filter,
    format: LogFormat,
}

impl Args {
    /// The log's settings, with the default filter of the command.
    pub(crate) fn resolve(self, settings: &mut Settings<'_>, default: &str) -> Result<Log, SettingsError> {
        Ok(Log {
            filter: settings.value("log", self.log, || Filter(default.to_owned()))?,
            format: settings.value("log_format", self.log_format, || LogFormat::Text)?,
        })
    }
}

impl Log {
    /// Begins to log; called once, by a command that is about to work.
    pub(crate) fn start(&self) {
        let filter = EnvFilter::new(&self.filter.0);
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
        match self.format {
            LogFormat::Json => builder.json().flatten_event(true).init(),
            LogFormat::Text => {
                let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
                builder.with_ansi(colour).init();
            }
        }
    }
}
