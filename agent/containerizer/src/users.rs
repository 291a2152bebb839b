//! Which ids of the machine stand for the users of containers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Ids of the machine, of users and of groups alike, that stand for 0 to 65,535 in containers.
///
/// None of them should be anybody's on the machine: see `/etc/passwd`, `/etc/subuid` and `/etc/subgid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserRange {
    first: u32,
}

/// Text that names no range of users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no range of users: give the first of {} ids that nobody on this machine has, {} to {}, such as 1000000",
    UserRange::COUNT,
    UserRange::FIRST_MIN,
    UserRange::FIRST_MAX
)]
pub struct UserRangeError {
    text: String,
}

impl UserRange {
    /// How many there are: as many as a container may expect, with 65,534 for nobody.
    pub const COUNT: u32 = 1 << 16;

    /// Lower ones are people's and the machine's own.
    const FIRST_MIN: u32 = 1 << 16;

    /// The kernel lets no group from 2^31 on send pings.
    const FIRST_MAX: u32 = (1 << 31) - Self::COUNT;

    /// The id of the container's root.
    pub fn first(self) -> u32 {
        self.first
    }
}

impl FromStr for UserRange {
    type Err = UserRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = text.parse().ok().filter(|first| (Self::FIRST_MIN..=Self::FIRST_MAX).contains(first));
        first.map(|first| Self { first }).ok_or_else(|| UserRangeError { text: text.to_owned() })
    }
}

impl fmt::Display for UserRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_named_by_its_first() {
        for good in ["65536", "1000000", "2147418112"] {
            let range: UserRange = good.parse().unwrap();
            assert_eq!(range.to_string(), good);
            assert!(range.first().checked_add(UserRange::COUNT).is_some());
        }
        for bad in ["", "0", "65535", "2147418113", "-1", "auto", "1000000:10"] {
            let error = bad.parse::<UserRange>().unwrap_err().to_string();
            assert!(error.contains("such as 1000000"), "{error}");
        }
    }
}
