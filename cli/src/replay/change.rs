//! A setting of the allocator that is tried out.

use std::fmt;

use apportion_master::{
    QuotaLimit, Weight,
    replay::{HierarchicalConfig, SorterKind},
};
use apportion_types::Role;

/// A setting that is to be another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// How much a role counts.
    Weight(Role, Weight),
    /// The most that a role may have; whatever there is when none.
    Quota(Role, Option<QuotaLimit>),
    /// Who is asked first.
    Allocator(SorterKind),
}

/// Where chance begins that is tried out: one answer is as good as another, but it must be the same each time.
const SEED: u64 = 0;

impl Change {
    /// Reads it, for clap's `value_parser`.
    pub(super) fn parse(text: &str) -> Result<Change, String> {
        // A role may hold `=`, a value does not.
        let (key, value) = text.rsplit_once('=').ok_or_else(|| unknown(text))?;
        let role = |text: &str| text.parse::<Role>().map_err(|error| error.to_string());
        if let Some(name) = key.strip_prefix("weight.") {
            let weight = value.parse::<Weight>().map_err(|error| error.to_string())?;
            return Ok(Change::Weight(role(name)?, weight));
        }
        if let Some(name) = key.strip_prefix("quota.") {
            let limit = match value {
                "none" => None,
                _ => Some(value.parse::<QuotaLimit>().map_err(|error| error.to_string())?),
            };
            return Ok(Change::Quota(role(name)?, limit));
        }
        match (key, value) {
            ("allocator", "drf") => Ok(Change::Allocator(SorterKind::Drf)),
            ("allocator", "random") => Ok(Change::Allocator(SorterKind::Random { seed: SEED })),
            ("allocator", other) => {
                Err(format!("`{other}` is not an allocator; there are `drf` and `random`"))
            }
            _ => Err(unknown(text)),
        }
    }

    /// Makes it.
    pub(super) fn make(&self, settings: &mut HierarchicalConfig) {
        match self {
            Change::Weight(role, weight) => {
                settings.weights.insert(role.clone(), *weight);
            }
            Change::Quota(role, Some(limit)) => {
                settings.quotas.entry(role.clone()).or_default().limit = Some(limit.clone());
            }
            Change::Quota(role, None) => {
                settings.quotas.remove(role);
            }
            Change::Allocator(sorter) => settings.sorter = *sorter,
        }
    }
}

fn unknown(text: &str) -> String {
    format!(
        "`{text}` is no setting that can be tried out; there are weight.ROLE=2, quota.ROLE=cpus:4 and allocator=random"
    )
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Weight(role, weight) => write!(f, "weight.{role}={weight}"),
            Change::Quota(role, Some(limit)) => write!(f, "quota.{role}={limit}"),
            Change::Quota(role, None) => write!(f, "quota.{role}=none"),
            Change::Allocator(SorterKind::Drf) => write!(f, "allocator=drf"),
            Change::Allocator(SorterKind::Random { .. }) => write!(f, "allocator=random"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back_and_made() {
        let mut settings = HierarchicalConfig::default();
        for text in
            ["weight.etl/a=2", "weight.a=b=0.5", "quota.*=cpus:4;gpus:0", "quota.x=none", "allocator=random"]
        {
            let change = Change::parse(text).unwrap();
            assert_eq!(change.to_string(), text);
            change.make(&mut settings);
        }
        let (weights, limits) = (&settings.weights, &settings.quotas);
        assert_eq!((weights.len(), limits.len()), (2, 1));
        assert_eq!(weights[&"a=b".parse().unwrap()].milli(), 500);
        assert_eq!(settings.sorter, SorterKind::Random { seed: SEED });
        Change::parse("quota.*=none").unwrap().make(&mut settings);
        Change::parse("allocator=drf").unwrap().make(&mut settings);
        assert!(settings.quotas.is_empty() && settings.sorter == SorterKind::Drf);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, what) in [
            ("weight.a", "there are weight.ROLE=2"),
            ("offer_timeout=1s", "there are weight.ROLE=2"),
            ("weight.a=0", "it is zero"),
            ("weight.a//b=1", "role `a//b`"),
            ("quota.a=cpus", "is not a quota limit"),
            ("allocator=fifo", "there are `drf` and `random`"),
        ] {
            let error = Change::parse(text).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }
}
