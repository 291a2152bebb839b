//! The job file as it is written: what serde reads, before anything is checked.
//!
//! Every value keeps its [`Spanned`] position, because a person with a wrong file wants the line, not a guess. Fields that
//! must be there are options all the same: serde's own "missing field" knows neither a remedy nor an example.

use std::collections::BTreeMap;

use apportion_sdk::IoLimits;
use serde::Deserialize;
use toml::Spanned;

/// The whole file. Keys that are not known are refused: a misspelt `retires = 3` that is silently ignored costs a night.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobFile {
    pub name: Option<Spanned<String>>,
    pub output: Option<Spanned<String>>,
    #[serde(default)]
    pub params: BTreeMap<Spanned<String>, Scalar>,
    pub task: Option<Spanned<TaskTable>>,
    pub array: Option<Spanned<ArrayTable>>,
    #[serde(default)]
    pub stage: BTreeMap<Spanned<String>, Spanned<TaskTable>>,
    pub retry: Option<Spanned<RetryTable>>,
    pub speculate: Option<Spanned<SpeculateTable>>,
}

/// `[task]`, or `[stage.NAME]`: one task of the job, or of one of its stages. The last few keys are of stages alone; one type for
/// both, so that whoever puts them into `[task]` hears where they belong.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskTable {
    pub command: Option<Spanned<CommandLine>>,
    #[serde(default)]
    pub env: BTreeMap<String, Spanned<String>>,
    pub image: Option<Spanned<String>>,
    pub user: Option<String>,
    pub network: Option<Spanned<String>>,
    pub cpus: Option<Spanned<Scalar>>,
    pub memory: Option<Spanned<Scalar>>,
    pub disk: Option<Spanned<Scalar>>,
    pub resources: Option<Spanned<String>>,
    pub exclusive_cpus: Option<Spanned<bool>>,
    pub pids_max: Option<Spanned<i64>>,
    pub io: Option<Spanned<IoLimits>>,
    pub timeout: Option<Spanned<String>>,
    pub kill_grace: Option<Spanned<String>>,
    pub retries: Option<Spanned<i64>>,
    pub retry: Option<Spanned<RetryTable>>,
    pub speculate: Option<Spanned<SpeculateTable>>,
    #[serde(default)]
    pub artifacts: Vec<Spanned<ArtifactTable>>,
    #[serde(default)]
    pub collect: Vec<Spanned<String>>,
    #[serde(default)]
    pub after: Vec<Spanned<String>>,
    #[serde(default)]
    pub after_each: Vec<Spanned<String>>,
    pub if_failed: Option<Spanned<String>>,
    pub gang: Option<Spanned<bool>>,
    pub array: Option<Spanned<ArrayTable>>,
}

/// `[retry]`, for all stages, or `retry` of one: which failures are worth another attempt.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryTable {
    pub limit: Option<Spanned<i64>>,
    pub backoff: Option<Spanned<String>>,
    pub backoff_max: Option<Spanned<String>>,
    pub only_on: Option<Spanned<Vec<Spanned<Scalar>>>>,
    pub never_on: Option<Spanned<Vec<Spanned<Scalar>>>>,
    pub memory_growth: Option<Spanned<Scalar>>,
    pub memory_max: Option<Spanned<Scalar>>,
}

/// `[speculate]`, for all stages, or `speculate` of one: when a second copy of a task is worth it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpeculateTable {
    pub after: Option<Spanned<Scalar>>,
    pub share: Option<Spanned<Scalar>>,
    pub at_least: Option<Spanned<String>>,
}

/// `artifacts`: something that is fetched before the start.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArtifactTable {
    pub uri: String,
    pub sha256: Option<String>,
    pub path: Option<String>,
    #[serde(default)]
    pub extract: bool,
    #[serde(default)]
    pub executable: bool,
    #[serde(default)]
    pub cache: bool,
}

/// `[array]`: one task for each element.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArrayTable {
    pub glob: Option<Spanned<String>>,
    #[serde(default)]
    pub exclude: Vec<Spanned<String>>,
    pub list: Option<Spanned<Vec<Spanned<String>>>>,
    pub range: Option<Spanned<Vec<i64>>>,
    #[serde(default)]
    pub axes: BTreeMap<Spanned<String>, Spanned<ArrayTable>>,
}

/// A program with its arguments, or a line for the shell.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected an array such as [\"/bin/sort\", \"-u\"], or one string for /bin/sh -c"
)]
pub(super) enum CommandLine {
    Shell(String),
    Argv(Vec<String>),
}

/// A number or a text: `cpus = 0.5` and `memory = "64MiB"` are both natural to write.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a number, or a text such as \"64MiB\"")]
pub(super) enum Scalar {
    Integer(i64),
    Float(f64),
    Text(String),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scalar::Integer(number) => number.fmt(f),
            Scalar::Float(number) => number.fmt(f),
            Scalar::Text(text) => f.write_str(text),
        }
    }
}
