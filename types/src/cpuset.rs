//! Processors of a machine, by their numbers.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Numbers are below this: more than any kernel is built for.
const NUMBERS_MAX: u32 = 8192;

/// Some processors of a machine; at least one.
///
/// Written as the kernel does: `0-3,6`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet(BTreeSet<u32>);

/// A text names no processors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{start}` names no processors; give numbers below {NUMBERS_MAX} and ranges of them, such as `0-3,6`"
)]
pub struct CpuSetError {
    /// Its first characters.
    pub start: String,
}

impl CpuSet {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Those that are not among `others`; none when all of them are.
    pub fn without(&self, others: &CpuSet) -> Option<CpuSet> {
        let rest: BTreeSet<u32> = self.0.difference(&others.0).copied().collect();
        (!rest.is_empty()).then_some(CpuSet(rest))
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        let number = |text: &str| -> Option<u32> {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| digits && *number < NUMBERS_MAX)
        };
        let range = |part: &str| match part.split_once('-') {
            Some((first, last)) => Some(number(first)?..=number(last)?).filter(|range| !range.is_empty()),
            None => number(part).map(|number| number..=number),
        };
        let ranges: Option<Vec<_>> = text.split(',').map(|part| range(part.trim())).collect();
        let refuse = || CpuSetError { start: text.chars().take(64).flat_map(char::escape_default).collect() };
        Ok(CpuSet(ranges.ok_or_else(refuse)?.into_iter().flatten().collect()))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while numbers.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

impl TryFrom<String> for CpuSet {
    type Error = CpuSetError;

    fn try_from(text: String) -> Result<Self, CpuSetError> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> String {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    #[test]
    fn texts() {
        for (text, shown, count) in [
            ("0", "0", 1),
            ("3,1,2", "1-3", 3),
            ("0-1,1-4,6", "0-4,6", 6),
            ("0, 2", "0,2", 2),
            ("8191", "8191", 1),
        ] {
            assert_eq!((of(text).to_string().as_str(), of(text).count()), (shown, count), "{text}");
            assert_eq!(of(shown), of(text));
        }
        for text in ["", ",", "0,", "-1", "1-", "3-1", "a", "0-8192", "4294967296", "1-2-3", "+1", "\n"] {
            assert!(text.parse::<CpuSet>().is_err(), "{text:?}");
        }
        assert!(
            "x\n".parse::<CpuSet>().unwrap_err().to_string().starts_with("`x\\n` names no processors; give")
        );
    }

    #[test]
    fn what_is_missing() {
        assert_eq!(of("0-3").without(&of("1-2")), Some(of("0,3")));
        assert_eq!(of("0-3").without(&of("0-7")), None);
    }
}
