//! Checks of running tasks: what is asked, how often, and what was answered.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::task::Command;

/// One question to a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Runs a command in the task's container, with its environment; 0 is good.
    Command(Command),
    /// Asks by HTTP/1.1 for a path on the task's own address; 200 to 399 is good.
    Http {
        /// The port.
        port: u16,
        /// Begins with a slash.
        path: String,
        /// Beside `Host`.
        headers: BTreeMap<String, String>,
    },
    /// Opens a TCP connection to the task's own address.
    Tcp {
        /// The port.
        port: u16,
    },
    /// Asks `grpc.health.v1.Health`; `SERVING` is good.
    Grpc {
        /// The port.
        port: u16,
        /// The service asked for; empty for the server as a whole.
        service: String,
    },
}

/// When a probe is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// From the task's start to the first one.
    pub delay: Duration,
    /// From the end of one to the next.
    pub interval: Duration,
    /// How long an answer is awaited.
    pub timeout: Duration,
}

/// As in Mesos (docs/health-checks.md).
impl Default for Schedule {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(15),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(20),
        }
    }
}

/// Tells whether a task does its work, and ends it when it does not.
///
/// Failures within the grace do not count until the first success, which ends the grace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// When.
    pub schedule: Schedule,
    /// From the task's start.
    pub grace: Duration,
    /// So many failures in a row end the task; none end it when 0.
    pub failures_max: u32,
}

impl HealthCheck {
    /// With Mesos' constants: three failures in a row, ten seconds of grace.
    pub fn new(probe: Probe) -> HealthCheck {
        HealthCheck { probe, schedule: Schedule::default(), grace: Duration::from_secs(10), failures_max: 3 }
    }
}

/// Tells of a task what its framework alone can judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is asked.
    pub probe: Probe,
    /// When.
    pub schedule: Schedule,
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// The command returned this; a signal that ended it counts as 128 and its number.
    Exit(i32),
    /// The server answered with this status.
    HttpStatus(u16),
    /// The port took the connection, or did not.
    Connected(bool),
    /// The server says that it serves, or that it does not.
    Serving(bool),
    /// No answer came in time, or none that could be understood.
    Unanswered,
}

impl CheckResult {
    /// True when it counts as healthy.
    pub fn is_good(self) -> bool {
        match self {
            CheckResult::Exit(code) => code == 0,
            CheckResult::HttpStatus(status) => (200..400).contains(&status),
            CheckResult::Connected(good) | CheckResult::Serving(good) => good,
            CheckResult::Unanswered => false,
        }
    }
}

impl fmt::Display for CheckResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckResult::Exit(code) => write!(f, "exit code {code}"),
            CheckResult::HttpStatus(status) => write!(f, "HTTP status {status}"),
            CheckResult::Connected(true) => f.write_str("connected"),
            CheckResult::Connected(false) => f.write_str("not connected"),
            CheckResult::Serving(true) => f.write_str("serving"),
            CheckResult::Serving(false) => f.write_str("not serving"),
            CheckResult::Unanswered => f.write_str("no answer"),
        }
    }
}

/// What is asked of a task while it runs, and how long it may.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Supervision {
    /// Ends it when it does not do its work.
    pub health_check: Option<Box<HealthCheck>>,
    /// Tells its framework what it answers.
    pub check: Option<Box<Check>>,
    /// From its start; then it is killed without a grace and has failed.
    pub max_completion: Option<Duration>,
}

/// What is known of a task's checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Findings {
    /// What its health check says; none before the first answer that counts.
    pub healthy: Option<bool>,
    /// What its check found last.
    pub check: Option<CheckResult>,
}
