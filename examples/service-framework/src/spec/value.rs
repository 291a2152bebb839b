//! Numbers and durations of a description, checked where they stand.

use std::{ops::RangeInclusive, time::Duration};

use toml::Spanned;

/// What is wrong with a description, and where in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The bytes of the text that are about it; empty when it is something that is missing.
    pub span: std::ops::Range<usize>,
    /// The key, what is wrong with it, and what is expected.
    pub what: String,
}

impl Problem {
    /// A problem with a value.
    pub(crate) fn at<T>(value: &Spanned<T>, what: impl Into<String>) -> Problem {
        Problem { span: value.span(), what: what.into() }
    }
}

/// A number within bounds.
pub(crate) fn number(key: &str, given: &Spanned<i64>, allowed: RangeInclusive<i64>) -> Result<i64, Problem> {
    match *given.get_ref() {
        number if allowed.contains(&number) => Ok(number),
        number => {
            let what = format!("{key}: {number} is not from {} to {}", allowed.start(), allowed.end());
            Err(Problem::at(given, what))
        }
    }
}

/// A duration as people write it, which may be zero.
pub(crate) fn duration(key: &str, text: &Spanned<String>) -> Result<Duration, Problem> {
    humantime::parse_duration(text.get_ref()).map_err(|error| {
        let shown: String = text.get_ref().chars().take(40).collect();
        let what =
            format!("{key}: `{shown}` is not a duration such as \"90s\", \"5m\" or \"1h 30m\": {error}");
        Problem::at(text, what)
    })
}
