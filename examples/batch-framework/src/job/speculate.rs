//! `[speculate]`: when a task that takes long gets a second copy.

use std::time::Duration;

use toml::Spanned;

use super::{
    JobError,
    file::{Scalar, SpeculateTable},
    table::Table,
};
use crate::state::Speculate;

/// Less would copy half of the tasks.
const AFTER_MIN: f64 = 1.1;

/// How much of a stage must have ended, unless the job says otherwise.
const SHARE_DEFAULT: f64 = 0.75;

/// What runs for a shorter time is not copied, unless the job says otherwise.
const AT_LEAST_DEFAULT: Duration = Duration::from_secs(10);

impl Table<'_> {
    /// Of the stage's own `speculate`, and `[speculate]` for all, what is nearer counts.
    pub(super) fn speculate(
        &self,
        own: Option<&Spanned<SpeculateTable>>,
        common: Option<&Spanned<SpeculateTable>>,
    ) -> Result<Option<Speculate>, JobError> {
        let own_key = format!("{}.speculate", self.key);
        let (key, table) = match (own, common) {
            (Some(own), _) => (own_key.as_str(), own),
            (None, Some(common)) => ("speculate", common),
            (None, None) => return Ok(None),
        };
        let inner = Table { source: self.source, key };
        let SpeculateTable { after, share, at_least } = table.get_ref().clone();
        let Some(after) = after else {
            return Err(self.source.missing(table.span(), &format!("{key}.after"), "after = 1.5"));
        };
        let number = |key: &str, given: &Spanned<Scalar>, least: f64, most: f64, expected: &str| match given
            .get_ref()
            .to_string()
            .parse::<f64>()
        {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(inner.at(key, given, format!("`{}` is not {expected}", given.get_ref()))),
        };
        Ok(Some(Speculate {
            after: number(
                "after",
                &after,
                AFTER_MIN,
                1e6,
                "how many times the median, from 1.1, such as 1.5",
            )?,
            share: match share {
                Some(share) => {
                    number("share", &share, 0.1, 1.0, "a share of the stage, from 0.1 to 1.0, such as 0.75")?
                }
                None => SHARE_DEFAULT,
            },
            at_least: inner.duration("at_least", at_least)?.unwrap_or(AT_LEAST_DEFAULT),
        }))
    }
}
