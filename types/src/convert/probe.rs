//! Checks of running tasks.

use std::time::Duration;

use apportion_proto::v1;

use super::{ConvertError, from_ref, message, millis, optional_duration, required};
use crate::{
    limits,
    probe::{Check, CheckResult, HealthCheck, Probe, Schedule},
};

fn wire(probe: Probe, schedule: Schedule) -> v1::Probe {
    use v1::probe::Probe as Wire;
    let probe = match probe {
        Probe::Command(command) => Wire::Command(command.into()),
        Probe::Http { port, path, headers } => {
            Wire::Http(v1::HttpProbe { port: port.into(), path, headers: headers.into_iter().collect() })
        }
        Probe::Tcp { port } => Wire::Tcp(v1::TcpProbe { port: port.into() }),
        Probe::Grpc { port, service } => Wire::Grpc(v1::GrpcProbe { port: port.into(), service }),
    };
    v1::Probe {
        probe: Some(probe),
        delay_ms: Some(millis(schedule.delay)),
        interval_ms: Some(millis(schedule.interval)),
        timeout_ms: Some(millis(schedule.timeout)),
    }
}

fn port(port: u32) -> Result<u16, ConvertError> {
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(ConvertError::new("port", format_args!("{port} is not from 1 to 65535"))),
    }
}

fn probe(wire: v1::Probe) -> Result<(Probe, Schedule), ConvertError> {
    use v1::probe::Probe as Wire;
    let asked =
        match required("probe", wire.probe)? {
            Wire::Command(command) if command.argv.is_empty() => {
                return Err(ConvertError::new("command.argv", "names no program"));
            }
            Wire::Command(command) => Probe::Command(message("command", Some(command))?),
            Wire::Http(http) => {
                let path = if http.path.is_empty() { "/".to_owned() } else { http.path };
                let visible = |text: &str| text.bytes().all(|byte| (0x21..0x7f).contains(&byte));
                if !path.starts_with('/') || !visible(&path) {
                    return Err(ConvertError::new("http.path", "must begin with a slash and hold no space"));
                }
                let value = |text: &str| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
                if http.headers.iter().any(|(name, text)| {
                    name.is_empty() || name.contains(':') || !visible(name) || !value(text)
                }) {
                    return Err(ConvertError::new(
                        "http.headers",
                        "hold a name or a value that no header can have",
                    ));
                }
                Probe::Http {
                    port: port(http.port).map_err(|error| error.within("http"))?,
                    path,
                    headers: http.headers.into_iter().collect(),
                }
            }
            Wire::Tcp(tcp) => Probe::Tcp { port: port(tcp.port).map_err(|error| error.within("tcp"))? },
            Wire::Grpc(grpc) => {
                let port = port(grpc.port).map_err(|error| error.within("grpc"))?;
                Probe::Grpc { port, service: grpc.service }
            }
        };
    let usual = Schedule::default();
    let at_least = |field: &str, millis: Option<u64>, usual: Duration| match optional_duration(
        field,
        millis,
        limits::PROBE_TIME_MAX,
    )? {
        Some(short) if short < limits::PROBE_INTERVAL_MIN => {
            let least = limits::PROBE_INTERVAL_MIN.as_millis();
            Err(ConvertError::new(field, format_args!("is less than {least} ms")))
        }
        given => Ok(given.unwrap_or(usual)),
    };
    let schedule = Schedule {
        delay: optional_duration("delay_ms", wire.delay_ms, limits::PROBE_TIME_MAX)?.unwrap_or(usual.delay),
        interval: at_least("interval_ms", wire.interval_ms, usual.interval)?,
        timeout: at_least("timeout_ms", wire.timeout_ms, usual.timeout)?,
    };
    Ok((asked, schedule))
}

impl From<HealthCheck> for v1::HealthCheck {
    fn from(check: HealthCheck) -> Self {
        Self {
            probe: Some(wire(check.probe, check.schedule)),
            grace_ms: Some(millis(check.grace)),
            failures_max: Some(check.failures_max),
        }
    }
}

/// Absent times are Mesos'. Refuses ports that are none, times above a day, and pauses below [`limits::PROBE_INTERVAL_MIN`].
impl TryFrom<v1::HealthCheck> for HealthCheck {
    type Error = ConvertError;

    fn try_from(wire: v1::HealthCheck) -> Result<Self, ConvertError> {
        let (asked, schedule) =
            probe(required("probe", wire.probe)?).map_err(|error| error.within("probe"))?;
        let usual = HealthCheck::new(Probe::Tcp { port: 1 });
        let grace = optional_duration("grace_ms", wire.grace_ms, limits::PROBE_TIME_MAX)?;
        Ok(Self {
            probe: asked,
            schedule,
            grace: grace.unwrap_or(usual.grace),
            failures_max: wire.failures_max.unwrap_or(usual.failures_max),
        })
    }
}

impl From<Check> for v1::Check {
    fn from(check: Check) -> Self {
        Self { probe: Some(wire(check.probe, check.schedule)) }
    }
}

impl TryFrom<v1::Check> for Check {
    type Error = ConvertError;

    fn try_from(wire: v1::Check) -> Result<Self, ConvertError> {
        let (probe, schedule) =
            probe(required("probe", wire.probe)?).map_err(|error| error.within("probe"))?;
        Ok(Self { probe, schedule })
    }
}

impl From<CheckResult> for v1::CheckResult {
    fn from(result: CheckResult) -> Self {
        use v1::check_result::Result as Wire;
        let result = match result {
            CheckResult::Exit(code) => Wire::ExitCode(code),
            CheckResult::HttpStatus(status) => Wire::HttpStatus(status.into()),
            CheckResult::Connected(good) => Wire::Connected(good),
            CheckResult::Serving(good) => Wire::Serving(good),
            CheckResult::Unanswered => Wire::Unanswered(true),
        };
        Self { result: Some(result) }
    }
}

impl TryFrom<v1::CheckResult> for CheckResult {
    type Error = ConvertError;

    fn try_from(wire: v1::CheckResult) -> Result<Self, ConvertError> {
        use v1::check_result::Result as Wire;
        Ok(match required("result", wire.result)? {
            Wire::ExitCode(code) => CheckResult::Exit(code),
            Wire::HttpStatus(status) => CheckResult::HttpStatus(
                u16::try_from(status).map_err(|_| ConvertError::new("http_status", "is not a status"))?,
            ),
            Wire::Connected(good) => CheckResult::Connected(good),
            Wire::Serving(good) => CheckResult::Serving(good),
            Wire::Unanswered(_) => CheckResult::Unanswered,
        })
    }
}

from_ref!(HealthCheck => v1::HealthCheck, Check => v1::Check);
