//! A range of seeds.

use std::{fmt, ops::Range, str::FromStr};

/// `A..B`: from A and below B, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seeds(pub(crate) Range<u64>);

impl Seeds {
    pub(crate) fn count(&self) -> u64 {
        self.0.end - self.0.start
    }
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not A..B, such as `0..1000`: two whole numbers, the first included, the second not"
            )
        };
        let (from, to) = text.split_once("..").ok_or_else(wrong)?;
        let range: Range<u64> = from.parse().map_err(|_| wrong())?..to.parse().map_err(|_| wrong())?;
        if range.is_empty() {
            Err(format!("there is no seed in `{text}`; the second number is larger"))
        } else {
            Ok(Seeds(range))
        }
    }
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.0.start, self.0.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_a_first_and_no_last() {
        let seeds: Seeds = "3..10".parse().unwrap();
        assert_eq!((seeds.count(), seeds.to_string().as_str()), (7, "3..10"));
        for wrong in ["", "3", "3..", "..3", "3..3", "4..3", "-1..3", "3...5", "0..99999999999999999999"] {
            assert!(wrong.parse::<Seeds>().is_err(), "{wrong}");
        }
    }
}
