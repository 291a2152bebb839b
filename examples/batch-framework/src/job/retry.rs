//! `retries` and `[retry]`: which failures are worth another attempt.

use std::{collections::BTreeSet, time::Duration};

use apportion_sdk::{
    Resources,
    resources::{Name, parse_scalar},
};
use toml::Spanned;

use super::{
    JobError, RETRIES_MAX,
    file::{RetryTable, Scalar},
    table::Table,
};
use crate::state::{Cause, On, PAUSE_MAX, Retry};

/// Steps of memory: doubled so often, one MiB is more than any machine has.
const STEPS_MAX: usize = 40;

/// The least growth; less would be out of memory again and again.
const GROWTH_MIN: f64 = 1.1;

impl Table<'_> {
    /// Of `retries`, the stage's own `retry`, and `[retry]` for all, what is nearest counts.
    pub(super) fn retry(
        &self,
        retries: Option<Spanned<i64>>,
        own: Option<&Spanned<RetryTable>>,
        common: Option<&Spanned<RetryTable>>,
        resources: &Resources,
    ) -> Result<Retry, JobError> {
        let own_key = format!("{}.retry", self.key);
        let (key, table) = match (own, common) {
            (Some(own), _) => (own_key.as_str(), own),
            (None, Some(common)) => ("retry", common),
            (None, None) => {
                let limit = retries.map(|limit| self.limit("retries", &limit)).transpose()?;
                return Ok(Retry::times(limit.unwrap_or(0)));
            }
        };
        let inner = Table { source: self.source, key };
        let RetryTable { limit, backoff, backoff_max, only_on, never_on, memory_growth, memory_max } =
            table.get_ref().clone();
        let limit = match (retries, limit) {
            (Some(retries), Some(_)) if own.is_some() => {
                let what = format!("stands beside {key}.limit, which says the same; keep one");
                return Err(self.at("retries", &retries, what));
            }
            (Some(retries), _) => self.limit("retries", &retries)?,
            (None, Some(limit)) => inner.limit("limit", &limit)?,
            (None, None) => {
                return Err(self.source.missing(table.span(), &format!("{key}.limit"), "limit = 3"));
            }
        };
        let backoff = match backoff {
            None => Retry::default().backoff,
            Some(text) => match inner.duration("backoff", Some(text.clone()))? {
                Some(Duration::ZERO) | None => {
                    return Err(inner.at(
                        "backoff",
                        &text,
                        "is zero; a task that fails at once would never rest",
                    ));
                }
                Some(backoff) => backoff,
            },
        };
        let most = match backoff_max {
            None => PAUSE_MAX.max(backoff),
            Some(text) => {
                let most = inner.duration("backoff_max", Some(text.clone()))?.unwrap_or(PAUSE_MAX);
                if most < backoff {
                    let what =
                        format!("is shorter than the first pause, {}", humantime::format_duration(backoff));
                    return Err(inner.at("backoff_max", &text, what));
                }
                most
            }
        };
        let on = match (only_on, never_on) {
            (Some(_), Some(never)) => {
                let what = "stands beside only_on; keep one: what is not in only_on is never tried again";
                return Err(inner.at("never_on", &never, what));
            }
            (Some(only), None) => On::Only(inner.causes("only_on", &only)?),
            (None, Some(never)) => On::Never(inner.causes("never_on", &never)?),
            (None, None) => On::Any,
        };
        let memory_milli = inner.memory(memory_growth, memory_max, resources)?;
        Ok(Retry { limit, backoff, backoff_max: most, on, memory_milli })
    }

    fn limit(&self, key: &str, given: &Spanned<i64>) -> Result<u32, JobError> {
        match u32::try_from(*given.get_ref()) {
            Ok(limit) if limit <= RETRIES_MAX => Ok(limit),
            _ => Err(self.at(key, given, format!("{} is not from 0 to {RETRIES_MAX}", given.get_ref()))),
        }
    }

    fn causes(&self, key: &str, given: &Spanned<Vec<Spanned<Scalar>>>) -> Result<BTreeSet<Cause>, JobError> {
        if given.get_ref().is_empty() {
            return Err(self.at(key, given, "is empty; name exit codes or reasons, or leave it out"));
        }
        let cause = |value: &Spanned<Scalar>| match value.get_ref() {
            Scalar::Integer(code @ 1..=255) => Ok(Cause::Code(*code as i32)),
            other => {
                let text = other.to_string();
                let named = Cause::NAMED.iter().find(|(name, _)| *name == text).map(|(_, cause)| *cause);
                named.ok_or_else(|| {
                    let names: Vec<_> = Cause::NAMED.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                    let shown: String = text.chars().take(40).collect();
                    let what = format!(
                        "`{shown}` is neither an exit code from 1 to 255 nor one of {}",
                        names.join(", ")
                    );
                    self.at(key, value, what)
                })
            }
        };
        given.get_ref().iter().map(cause).collect()
    }

    /// How much memory each attempt gets that comes after one which had too little.
    fn memory(
        &self,
        growth: Option<Spanned<Scalar>>,
        most: Option<Spanned<Scalar>>,
        resources: &Resources,
    ) -> Result<Vec<i64>, JobError> {
        let (growth, most) = match (growth, most) {
            (None, None) => return Ok(Vec::new()),
            (Some(growth), Some(most)) => (growth, most),
            (Some(growth), None) => {
                let key = format!("{}.memory_max", self.key);
                return Err(self.source.missing(growth.span(), &key, "memory_max = \"8GiB\""));
            }
            (None, Some(most)) => {
                let what =
                    "says how far memory may grow, but not how fast; add for example memory_growth = 2.0";
                return Err(self.at("memory_max", &most, what));
            }
        };
        let factor = match growth.get_ref().to_string().parse::<f64>() {
            Ok(factor) if factor.is_finite() && factor >= GROWTH_MIN => factor,
            _ => {
                let what = format!("`{}` is not a number from {GROWTH_MIN}, such as 2.0", growth.get_ref());
                return Err(self.at("memory_growth", &growth, what));
            }
        };
        let most_milli = parse_scalar(&Name::Mem, &most.get_ref().to_string())
            .map_err(|what| self.at("memory_max", &most, what))?;
        let first = resources.milli(&Name::Mem);
        if first == 0 || most_milli <= first {
            let what = format!("is not more than the memory that a task begins with, {} MiB", first / 1000);
            return Err(self.at("memory_max", &most, what));
        }
        // Whole MiB, and the last step is the most: it is not left unused because no multiple hits it.
        let grown = |milli: &i64| {
            let next = (*milli as f64 * factor / 1000.0).ceil() * 1000.0;
            (*milli < most_milli).then(|| (next as i64).min(most_milli))
        };
        Ok(std::iter::successors(Some(first), grown).take(STEPS_MAX).collect())
    }
}
