//! The moment up to which is replayed.

use std::time::{Duration, SystemTime};

use apportion_types::Time;

use crate::Usage;

/// A moment, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// So long after the start.
    After(Duration),
    /// A time of the day.
    At(Time),
}

impl Until {
    /// Reads it, for clap's `value_parser`. A bare number counts seconds.
    pub(super) fn parse(text: &str) -> Result<Until, String> {
        let seconds = text.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
        if let Some(after) = seconds.or_else(|| humantime::parse_duration(text).ok()) {
            return Ok(Until::After(after));
        }
        let since_epoch = humantime::parse_rfc3339_weak(text)
            .ok()
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let wrong = || {
            format!(
                "`{text}` is neither a duration since the start, such as `90s`, nor a time, such as `2026-01-31T12:00:00Z`"
            )
        };
        since_epoch.map(|since| Until::At(Time::ZERO + since)).ok_or_else(wrong)
    }

    /// The moment in a run that started then; refuses one before it.
    pub(super) fn time(self, start: Time) -> Result<Time, Usage> {
        match self {
            Until::After(after) => Ok(start + after),
            Until::At(at) if at >= start => Ok(at),
            Until::At(_) => {
                let start = super::show::time(start);
                Err(Usage(format!("--until is before the start of the journal, {start}; give a later time")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_durations_or_times() {
        let start = Time::from_micros(1_000_000);
        let of = |text: &str| Until::parse(text).unwrap().time(start).map_err(|error| error.to_string());
        assert_eq!(of("90s"), Ok(Time::from_micros(91_000_000)));
        assert_eq!(of("0.5"), Ok(Time::from_micros(1_500_000)));
        assert_eq!(of("1970-01-01T00:00:02Z"), Ok(Time::from_micros(2_000_000)));
        assert_eq!(of("1970-01-01 00:00:02.5"), Ok(Time::from_micros(2_500_000)));
        let before = of("1970-01-01T00:00:00Z").unwrap_err();
        assert!(before.contains("before the start of the journal, 1970-01-01T00:00:01.000000Z"), "{before}");
        for bad in ["soon", "-1", "1960-01-01T00:00:00Z", "inf", "NaN", ""] {
            let error = Until::parse(bad).unwrap_err();
            assert!(error.contains("neither a duration") && error.contains(bad), "{error}");
        }
    }
}
