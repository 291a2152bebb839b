//! The most that a role may have.

use std::{collections::BTreeMap, fmt, str::FromStr};

use apportion_types::resources::{Name, Value, parse_scalar};
use serde::{Deserialize, Serialize};

/// The most of some scalars that a role may have allocated, that is offered and used, over the whole cluster. What is not
/// named is not limited; a limit of zero forbids. At least one is named.
///
/// Not `Resources`, for there an amount of zero is no amount.
///
/// ```
/// use apportion_allocator::QuotaLimit;
///
/// let limit: QuotaLimit = "cpus:4;mem:1GiB;gpus:0".parse()?;
/// assert_eq!(limit.to_string(), "cpus:4;mem:1024;gpus:0");
/// # Ok::<(), apportion_allocator::QuotaLimitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QuotaLimit(BTreeMap<Name, i64>);

/// Why a text is not a quota limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a quota limit: {what}; name scalars and the most of each, such as `cpus:4;mem:1024`"
)]
pub struct QuotaLimitError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub what: String,
}

impl QuotaLimit {
    /// Each scalar that is limited and its most in thousandths, in the order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Name, i64)> {
        self.0.iter().map(|(name, &milli)| (name, milli))
    }
}

impl FromStr for QuotaLimit {
    type Err = QuotaLimitError;

    fn from_str(text: &str) -> Result<Self, QuotaLimitError> {
        let error = |what: String| QuotaLimitError { text: text.to_owned(), what };
        let mut limits = BTreeMap::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) =
                part.split_once(':').ok_or_else(|| error(format!("`{part}` is not `name:value`")))?;
            let name =
                Name::new(name.trim()).ok_or_else(|| error(format!("`{}` is not a name", name.trim())))?;
            if name == Name::Ports {
                return Err(error("ports of different agents do not add up".to_owned()));
            }
            let milli = parse_scalar(&name, value.trim()).map_err(error)?;
            if limits.contains_key(&name) {
                return Err(error(format!("{name} is given twice")));
            }
            limits.insert(name, milli);
        }
        if limits.is_empty() { Err(error("it names nothing".to_owned())) } else { Ok(Self(limits)) }
    }
}

impl TryFrom<String> for QuotaLimit {
    type Error = QuotaLimitError;

    fn try_from(text: String) -> Result<Self, QuotaLimitError> {
        text.parse()
    }
}

impl From<QuotaLimit> for String {
    fn from(limit: QuotaLimit) -> String {
        limit.to_string()
    }
}

impl fmt::Display for QuotaLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, &milli)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ";" };
            write!(f, "{separator}{name}:{}", Value::Scalar(milli))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_limit_is_refused_by_name() {
        for (text, what) in [
            ("", "it names nothing"),
            ("cpus", "`cpus` is not `name:value`"),
            ("1:2", "`1` is not a name"),
            ("ports:[1-2]", "ports of different agents"),
            ("zone:{a}", "is not a number"),
            ("cpus:1;cpus:2", "cpus is given twice"),
        ] {
            let error = text.parse::<QuotaLimit>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is not a quota limit: ")), "{error}");
            assert!(error.contains(what), "{error}");
        }
        assert_eq!("mem:1; cpus:2.5 ;".parse::<QuotaLimit>().unwrap().to_string(), "cpus:2.5;mem:1");
    }
}
