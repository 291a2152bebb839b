//! Processors of a machine, by their numbers.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Resources, TaskInfo, resources::Name};

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

    /// True when all of `others` are among them.
    pub fn contains(&self, others: &CpuSet) -> bool {
        others.0.is_subset(&self.0)
    }

    /// These and `others`.
    #[must_use]
    pub fn with(&self, others: &CpuSet) -> CpuSet {
        CpuSet(self.0.union(&others.0).copied().collect())
    }

    /// Those with the lowest numbers, so many; none when there are not as many, or none is asked for.
    pub fn lowest(&self, count: usize) -> Option<CpuSet> {
        (1..=self.0.len()).contains(&count).then(|| CpuSet(self.0.iter().take(count).copied().collect()))
    }
}

impl Resources {
    /// How many cores of its own a task can ask for with these; or why it cannot.
    pub fn exclusive_cores(&self) -> Result<usize, String> {
        let milli = usize::try_from(self.cpus_milli()).unwrap_or(0);
        if milli == 0 || milli % 1000 != 0 {
            let cpus = Resources::scalar(Name::Cpus, self.cpus_milli());
            return Err(format!(
                "cores of its own are whole ones, at least one; ask for that many cpus, not `{cpus}`"
            ));
        }
        if self.revocable().cpus_milli() > 0 {
            return Err(
                "what is lent cannot be cores of its own; ask for cpus that are not revocable".to_owned()
            );
        }
        Ok(milli / 1000)
    }
}

impl TaskInfo {
    /// How many cores are to be its own; none when it asks for none.
    pub fn exclusive_cores(&self) -> Option<usize> {
        self.resources.exclusive_cores().ok().filter(|_| self.container.exclusive_cpus)
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

    #[test]
    fn some_of_them() {
        assert!(of("0-3").contains(&of("1,3")) && !of("0-3").contains(&of("3-4")));
        assert_eq!(of("0,2").with(&of("1-2")), of("0-2"));
        assert_eq!(of("1,3,5").lowest(2), Some(of("1,3")));
        assert_eq!((of("1,3").lowest(3), of("1").lowest(0)), (None, None));
    }
}
