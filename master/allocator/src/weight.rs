//! How much one role counts beside another.

use std::{fmt, num::NonZeroU32, str::FromStr};

use apportion_types::resources::{Name, Value, parse_scalar};
use serde::{Deserialize, Serialize};

/// A positive number of at most three decimals, kept exactly. A role of weight 2 is given twice as much as one of weight 1
/// before the two count as equal.
///
/// ```
/// use apportion_allocator::Weight;
///
/// let weight: Weight = "1.5".parse()?;
/// assert_eq!((weight.milli(), weight.to_string()), (1500, "1.5".to_owned()));
/// assert_eq!(Weight::default().milli(), 1000);
/// # Ok::<(), apportion_allocator::WeightError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Weight(NonZeroU32);

/// Why a text is not a weight.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a weight: {what}; give a number from 0.001 to {max}, such as `2` or `0.5`", max = Weight::MAX)]
pub struct WeightError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub what: String,
}

impl Weight {
    /// The greatest.
    pub const MAX: Weight = Weight(NonZeroU32::MAX);

    /// So many thousandths; none when that is zero.
    pub fn from_milli(milli: u32) -> Option<Weight> {
        NonZeroU32::new(milli).map(Weight)
    }

    /// It in thousandths.
    pub fn milli(self) -> u32 {
        self.0.get()
    }
}

/// One.
impl Default for Weight {
    fn default() -> Self {
        Self(NonZeroU32::new(1000).expect("a thousand is not zero"))
    }
}

impl FromStr for Weight {
    type Err = WeightError;

    fn from_str(text: &str) -> Result<Self, WeightError> {
        let error = |what: &str| WeightError { text: text.to_owned(), what: what.to_owned() };
        let name = Name::new("weight").expect("it is a name");
        let milli = parse_scalar(&name, text.trim()).map_err(|what| error(&what))?;
        let milli = u32::try_from(milli).map_err(|_| error("it is too large"))?;
        Weight::from_milli(milli).ok_or_else(|| error("it is zero"))
    }
}

impl TryFrom<String> for Weight {
    type Error = WeightError;

    fn try_from(text: String) -> Result<Self, WeightError> {
        text.parse()
    }
}

impl From<Weight> for String {
    fn from(weight: Weight) -> String {
        weight.to_string()
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Value::Scalar(i64::from(self.milli())).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_exactly_or_refused() {
        for (text, milli, shown) in [
            ("1", 1000, "1"),
            ("0.001", 1, "0.001"),
            (" 2.50 ", 2500, "2.5"),
            ("4294967.295", u32::MAX, "4294967.295"),
        ] {
            let weight: Weight = text.parse().unwrap();
            assert_eq!((weight.milli(), weight.to_string().as_str()), (milli, shown));
        }
        for (text, what) in [
            ("0", "it is zero"),
            ("-1", "negative"),
            ("x", "not a number"),
            ("1.0001", "thousandth"),
            ("5000000", "too large"),
        ] {
            let error = text.parse::<Weight>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{text}` is not a weight: ")) && error.contains(what),
                "{error}"
            );
        }
    }
}
