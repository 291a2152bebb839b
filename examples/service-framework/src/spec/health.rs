//! How it is found out whether a replica does its work.

use std::{collections::BTreeMap, time::Duration};

use apportion_sdk::{Command, HealthCheck, Probe, Schedule};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{
    Source, SpecError,
    fault::{Fault, Way},
};

/// When a replica without a word is asked first: what starts fast is used at once.
const DELAY: Duration = Duration::from_secs(1);

/// From one question to the next without a word.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long an answer is awaited without a word.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a replica may take to do its work without a word.
const GRACE: Duration = Duration::from_secs(60);

/// Failures in a row that end a replica without a word.
const FAILURES_MAX: u32 = 3;

/// How it is found out whether a replica does its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is asked.
    pub asked: Asked,
    /// When.
    pub schedule: Schedule,
    /// How long it may take before failures count.
    pub grace: Duration,
    /// So many failures in a row end it; none end it when 0.
    pub failures_max: u32,
}

/// What is asked of a replica. Ports are named by their places among its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// A command in its container, with variables; 0 is good.
    Command(Vec<String>),
    /// A path by HTTP; 200 to 399 is good.
    Http {
        /// Which port.
        port: usize,
        /// Begins with a slash.
        path: String,
    },
    /// A connection.
    Tcp {
        /// Which port.
        port: usize,
    },
    /// `grpc.health.v1.Health`.
    Grpc {
        /// Which port.
        port: usize,
        /// The service; empty for the server as a whole.
        service: String,
    },
}

impl Health {
    /// With what is usual without a word.
    pub fn new(asked: Asked) -> Health {
        let schedule = Schedule { delay: DELAY, interval: INTERVAL, timeout: TIMEOUT };
        Health { asked, schedule, grace: GRACE, failures_max: FAILURES_MAX }
    }

    /// As it is asked of a replica with these ports.
    pub(super) fn check(&self, ports: &[u16], render: impl Fn(&String) -> String) -> HealthCheck {
        let probe = match &self.asked {
            Asked::Command(argv) => {
                Probe::Command(Command { argv: argv.iter().map(render).collect(), env: BTreeMap::new() })
            }
            Asked::Http { port, path } => {
                Probe::Http { port: ports[*port], path: path.clone(), headers: BTreeMap::new() }
            }
            Asked::Tcp { port } => Probe::Tcp { port: ports[*port] },
            Asked::Grpc { port, service } => Probe::Grpc { port: ports[*port], service: service.clone() },
        };
        HealthCheck { probe, schedule: self.schedule, grace: self.grace, failures_max: self.failures_max }
    }

    /// The texts that may hold variables.
    pub(super) fn templates(&self) -> &[String] {
        match &self.asked {
            Asked::Command(argv) => argv,
            Asked::Http { .. } | Asked::Tcp { .. } | Asked::Grpc { .. } => &[],
        }
    }

    /// Says what is wrong, for a replica of so many ports.
    pub(super) fn fault(&self, ports: usize) -> Option<Fault> {
        match &self.asked {
            Asked::Command(argv) if argv.first().is_none_or(String::is_empty) => {
                Some(Fault::new(Way::to("health.command"), "health: command names no program"))
            }
            Asked::Command(_) => None,
            Asked::Http { port, .. } | Asked::Tcp { port } | Asked::Grpc { port, .. } if *port >= ports => {
                let what = format!(
                    "health: port {port} is asked, and a replica has {ports} ports, counted from 0; say how many with `ports = 1`"
                );
                Some(Fault::new(Way::to("health.port"), what))
            }
            Asked::Http { .. } | Asked::Tcp { .. } | Asked::Grpc { .. } => None,
        }
    }
}

/// `[health]`: one of `command`, `http`, `tcp` and `grpc`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthTable {
    command: Option<Vec<String>>,
    http: Option<String>,
    tcp: Option<bool>,
    grpc: Option<String>,
    #[serde(default)]
    port: usize,
    delay: Option<Spanned<String>>,
    interval: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
    grace: Option<Spanned<String>>,
    failures: Option<u32>,
}

impl Source<'_> {
    pub(super) fn health(self, table: Spanned<HealthTable>, ports: usize) -> Result<Health, SpecError> {
        let span = table.span();
        let table = table.into_inner();
        let port = table.port;
        let asked = match (table.command, table.http, table.tcp, table.grpc) {
            (Some(argv), None, None, None) => Asked::Command(argv),
            (None, Some(path), None, None) => Asked::Http { port, path },
            (None, None, Some(true), None) => Asked::Tcp { port },
            (None, None, None, Some(service)) => Asked::Grpc { port, service },
            _ => {
                let what = "health: one of `command = [\"check\"]`, `http = \"/health\"`, `tcp = true` and `grpc = \"\"` says what is asked";
                return Err(self.refuse(span, what.to_owned()));
            }
        };
        let usual = Health::new(asked);
        let health = Health {
            schedule: Schedule {
                delay: self.duration("health.delay", table.delay)?.unwrap_or(DELAY),
                interval: self.duration("health.interval", table.interval)?.unwrap_or(INTERVAL),
                timeout: self.duration("health.timeout", table.timeout)?.unwrap_or(TIMEOUT),
            },
            grace: self.duration("health.grace", table.grace)?.unwrap_or(GRACE),
            failures_max: table.failures.unwrap_or(FAILURES_MAX),
            ..usual
        };
        match health.fault(ports) {
            None => Ok(health),
            Some(fault) => Err(self.told(fault)),
        }
    }
}
