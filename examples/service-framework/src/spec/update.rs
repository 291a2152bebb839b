//! How replicas are replaced, when the description changes and when a machine is to be left.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{
    REPLICAS_MAX, Source, SpecError,
    fault::{Fault, Way},
};

/// How replicas are replaced: the words, and what they mean, are those of a Deployment of Kubernetes and of Nomad's `update`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// How many tasks may live beyond the replicas that are wanted: a new one is launched before the old one is killed.
    pub max_surge: Share,
    /// How many replicas may be missing: an old one is killed before the new one is launched.
    pub max_unavailable: Share,
    /// For how long a new replica must run, and be healthy, before it counts.
    pub min_healthy: Duration,
    /// An update that has not come any further for so long has failed.
    pub progress_deadline: Duration,
    /// Whether one that has failed is rolled back to the last revision that was complete.
    pub auto_rollback: bool,
    /// How many of the new revision are tried beside the old ones first; none when zero. All of them is blue-green.
    pub canary: Share,
    /// Canaries that were healthy for so long are promoted; by command only when none.
    pub promote_after: Option<Duration>,
}

/// A number of replicas, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// So many.
    Count(u32),
    /// Of a hundred.
    Percent(u32),
}

impl Share {
    /// All replicas.
    pub const ALL: Share = Share::Percent(100);

    /// Of so many, with what a percentage leaves over counted as one more.
    pub fn up(self, of: u32) -> u32 {
        match self {
            Share::Count(count) => count,
            Share::Percent(percent) => (u64::from(percent) * u64::from(of)).div_ceil(100) as u32,
        }
    }

    /// Of so many, with what a percentage leaves over not counted.
    pub fn down(self, of: u32) -> u32 {
        match self {
            Share::Count(count) => count,
            Share::Percent(percent) => (u64::from(percent) * u64::from(of) / 100) as u32,
        }
    }

    fn is_zero(self) -> bool {
        matches!(self, Share::Count(0) | Share::Percent(0))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Share::Count(count) => count.fmt(f),
            Share::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Default for Update {
    /// One after the other, the new one first; and back when that leads nowhere.
    fn default() -> Self {
        Self {
            max_surge: Share::Count(1),
            max_unavailable: Share::Count(0),
            min_healthy: Duration::from_secs(10),
            progress_deadline: Duration::from_secs(600),
            auto_rollback: true,
            canary: Share::Count(0),
            promote_after: None,
        }
    }
}

impl Update {
    /// How many tasks may live beyond so many replicas.
    pub fn surge(&self, replicas: u32) -> u32 {
        self.max_surge.up(replicas)
    }

    /// How many of so many replicas may be missing. Shares that come to nothing on both sides would never begin: then it is one.
    pub fn unavailable(&self, replicas: u32) -> u32 {
        let unavailable = self.max_unavailable.down(replicas).min(replicas);
        if unavailable == 0 && self.surge(replicas) == 0 { 1 } else { unavailable }
    }

    /// Says what is wrong.
    pub(super) fn fault(&self, replicas_max: u32) -> Option<Fault> {
        let Self { max_surge, max_unavailable, min_healthy, progress_deadline, .. } = *self;
        let counts =
            [("max_surge", max_surge), ("max_unavailable", max_unavailable), ("canary", self.canary)];
        let beyond = counts
            .into_iter()
            .find(|(_, share)| matches!(share, Share::Count(count) if *count > REPLICAS_MAX));
        if let Some((key, share)) = beyond {
            let what = format!("{share} is more than a service can have, {REPLICAS_MAX}");
            return Some(Fault::at(&format!("update.{key}"), what));
        }
        if max_surge.is_zero() && max_unavailable.is_zero() {
            let what = "max_surge and max_unavailable are both 0, so that no replica could ever be replaced; give one of them at least 1";
            return Some(Fault::at("update", what));
        }
        // One of which none is to run now may be scaled up to whatever it tries then.
        if let Share::Count(canary) = self.canary
            && canary > replicas_max
            && replicas_max > 0
        {
            let what = format!(
                "{canary} are to be tried, and it has {replicas_max} replicas at most; give at most as many, or \"all\""
            );
            return Some(Fault::at("update.canary", what));
        }
        (progress_deadline <= min_healthy).then(|| {
            let [deadline, healthy] = [progress_deadline, min_healthy].map(humantime::format_duration);
            let what = format!("update: progress_deadline ({deadline}) is not above min_healthy ({healthy}), so that every update would fail; make it longer");
            Fault::new(Way::to("update.progress_deadline"), what)
        })
    }
}

/// `[update]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateTable {
    max_surge: Option<Spanned<ShareText>>,
    max_unavailable: Option<Spanned<ShareText>>,
    min_healthy: Option<Spanned<String>>,
    progress_deadline: Option<Spanned<String>>,
    auto_rollback: Option<bool>,
    canary: Option<Spanned<ShareText>>,
    promote_after: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a number such as 1, or a share such as \"25%\"")]
enum ShareText {
    Count(i64),
    Text(String),
}

impl Source<'_> {
    pub(super) fn update(self, table: Option<Spanned<UpdateTable>>) -> Result<Update, SpecError> {
        let Some(table) = table else { return Ok(Update::default()) };
        let table = table.into_inner();
        let usual = Update::default();
        let canary = match &table.canary {
            Some(text) if matches!(text.get_ref(), ShareText::Text(text) if text == "all") => Share::ALL,
            _ => self.share("update.canary", table.canary, usual.canary)?,
        };
        // Zero is a duration that makes sense here, and here alone.
        let at_once = table.min_healthy.as_ref().is_some_and(|text| text.get_ref() == "0s");
        let min_healthy = match at_once {
            true => Duration::ZERO,
            false => self.duration("update.min_healthy", table.min_healthy)?.unwrap_or(usual.min_healthy),
        };
        let deadline = self.duration("update.progress_deadline", table.progress_deadline)?;
        Ok(Update {
            max_surge: self.share("update.max_surge", table.max_surge, usual.max_surge)?,
            max_unavailable: self.share(
                "update.max_unavailable",
                table.max_unavailable,
                usual.max_unavailable,
            )?,
            min_healthy,
            progress_deadline: deadline.unwrap_or(usual.progress_deadline),
            auto_rollback: table.auto_rollback.unwrap_or(usual.auto_rollback),
            canary,
            promote_after: self.duration("update.promote_after", table.promote_after)?,
        })
    }

    fn share(self, key: &str, given: Option<Spanned<ShareText>>, usual: Share) -> Result<Share, SpecError> {
        let Some(given) = given else { return Ok(usual) };
        let share = match given.get_ref() {
            ShareText::Count(count) => u32::try_from(*count).ok().map(Share::Count),
            ShareText::Text(text) => {
                let percent = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
                percent.filter(|percent| *percent <= 100).map(Share::Percent)
            }
        };
        let shown = match given.get_ref() {
            ShareText::Count(count) => count.to_string(),
            ShareText::Text(text) => text.chars().take(40).collect(),
        };
        let what = "is neither a number of replicas such as 1 nor a share of them from \"0%\" to \"100%\"";
        share.ok_or_else(|| self.at(key, &given, format!("`{shown}` {what}")))
    }
}
