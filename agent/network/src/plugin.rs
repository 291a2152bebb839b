//! One call of a plugin: a program that is told what to do by its environment and its input, and answers on its output.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time::timeout,
};

use crate::processes::Mark;

/// The interface that every owner has in its network.
const INTERFACE: &str = "eth0";

/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Bytes of what a plugin says beside its answer that are told.
const SAID_BYTES_MAX: usize = 512;

/// Why a plugin did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("plugin `{plugin}` {problem}")]
pub struct PluginError {
    /// Its type.
    pub plugin: String,
    /// What happened.
    pub problem: Problem,
}

/// What happened with a plugin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// There is no such program.
    #[error(
        "is not installed: no program of that name in {searched}; install it (Debian: containernetworking-plugins), or set where plugins are"
    )]
    NotFound {
        /// Where it was looked for.
        searched: String,
    },
    /// It could not be started, or talked to.
    #[error("cannot be run: {0}")]
    NotRun(io::Error),
    /// It was killed.
    #[error("did not answer within {after:?} and was killed")]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// It says why it did not.
    #[error("refused: {message} (code {code})")]
    Refused {
        /// By the specification of the interface; from 100 on by the plugin's own.
        code: u32,
        /// As it says it, with details.
        message: String,
    },
    /// It failed without saying why as it should.
    #[error("failed with {status}: {said}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it wrote.
        said: String,
    },
    /// It answered something that is no answer.
    #[error("gave no result: {what}")]
    Garbled {
        /// What is wrong with it.
        what: String,
    },
}

/// What is asked of plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
}

impl Verb {
    /// What tells a plugin what it is asked for.
    pub(crate) const VARIABLE: &str = "CNI_COMMAND";

    pub(crate) fn word(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
        }
    }
}

/// Whom plugins are asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) owner: &'a str,
    /// What finds the plugins again that are asked about it.
    pub(crate) mark: &'a Mark,
    /// None when it has no namespace any more.
    pub(crate) namespace: Option<&'a Path>,
}

/// Where plugins are, and how long they may take.
#[derive(Debug, Clone)]
pub(crate) struct Plugins {
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) timeout: Duration,
}

/// As a plugin says why it failed.
#[derive(Debug, Deserialize)]
struct Refusal {
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

impl Plugins {
    /// Calls a plugin and returns what it answers; null when it answers nothing. Nothing of the call runs any more afterwards.
    pub(crate) async fn call(
        &self,
        verb: Verb,
        kind: &str,
        subject: Subject<'_>,
        request: &Value,
    ) -> Result<Value, PluginError> {
        let failed = |problem| PluginError { plugin: kind.to_owned(), problem };
        let program = self.find(kind).map_err(failed)?;
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()))
            .env(Verb::VARIABLE, verb.word())
            .env("CNI_CONTAINERID", subject.owner)
            .env("CNI_NETNS", subject.namespace.unwrap_or(Path::new("")))
            .env("CNI_IFNAME", INTERFACE)
            .env("CNI_PATH", env::join_paths(&self.folders).unwrap_or_default())
            .envs([subject.mark.of_plugin()])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        match timeout(self.timeout, talk(command, request)).await {
            Ok(Ok(spoken)) => spoken.answer().map_err(failed),
            Ok(Err(error)) => Err(failed(Problem::NotRun(error))),
            Err(_) => {
                subject.mark.end(subject.owner, Some(verb)).await;
                Err(failed(Problem::TimedOut { after: self.timeout }))
            }
        }
    }

    /// Says whether there is such a plugin.
    pub(crate) fn check(&self, kind: &str) -> Result<(), PluginError> {
        self.find(kind).map(drop).map_err(|problem| PluginError { plugin: kind.to_owned(), problem })
    }

    fn find(&self, kind: &str) -> Result<PathBuf, Problem> {
        let runs = |path: &PathBuf| {
            fs::metadata(path).is_ok_and(|of| of.is_file() && of.permissions().mode() & 0o111 != 0)
        };
        self.folders.iter().map(|folder| folder.join(kind)).find(runs).ok_or_else(|| {
            let folders: Vec<_> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
            Problem::NotFound { searched: folders.join(", ") }
        })
    }
}

/// What a plugin has said until its end.
struct Spoken {
    status: ExitStatus,
    output: Vec<u8>,
    errors: Vec<u8>,
}

async fn talk(mut command: Command, request: &Value) -> io::Result<Spoken> {
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().expect("it was asked for");
    let output = child.stdout.take().expect("it was asked for");
    let errors = child.stderr.take().expect("it was asked for");
    let text = request.to_string();
    let told = async move {
        // One that does not listen to the end says why by itself.
        let _ = input.write_all(text.as_bytes()).await;
    };
    let ((), output, errors) = tokio::join!(told, read(output), read(errors));
    Ok(Spoken { status: child.wait().await?, output: output?, errors: errors? })
}

/// All that is said, of which no more is kept than may be.
async fn read(mut from: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    (&mut from).take(ANSWER_BYTES_MAX).read_to_end(&mut text).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(text)
}

impl Spoken {
    fn answer(self) -> Result<Value, Problem> {
        if !self.status.success() {
            return Err(match serde_json::from_slice::<Refusal>(&self.output) {
                Ok(Refusal { code, msg, details }) => {
                    let joined = [msg.trim(), details.trim()].map(cut).join(": ");
                    Problem::Refused { code, message: joined.trim_end_matches(": ").to_owned() }
                }
                Err(_) => Problem::Failed { status: self.status, said: self.said() },
            });
        }
        if self.output.trim_ascii().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.output)
            .map_err(|error| Problem::Garbled { what: format!("{error}: {}", self.said()) })
    }

    fn said(&self) -> String {
        let parts = [&self.output, &self.errors].map(|text| cut(String::from_utf8_lossy(text).trim()));
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if parts.is_empty() { "it said nothing".to_owned() } else { parts.join("; ") }
    }
}

/// The start of a text, printable, on one line.
fn cut(text: &str) -> String {
    let text = apportion_types::text::cut(text.to_owned(), SAID_BYTES_MAX);
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
