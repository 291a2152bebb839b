//! The table `[scale]` of a description.
//!
//! ```toml
//! [scale]
//! min = 1
//! max = 20
//!
//! [[scale.rule]]
//! metric = "utilisation"     # the mean of cpu and memory, as parts of what a replica asked for
//! over = 0.8                 # one more above, one fewer below half of it
//!
//! [[scale.rule]]
//! metric = "requests"        # each second, for each replica
//! target = 100
//! predict = { period = "1d", lead = "5m" }
//! ```

use std::{fmt, ops::Range, time::Duration};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{
    Policy,
    season::{Season, Seasonal},
    track::{Target, Threshold},
};

/// Rules of one service.
pub const RULES_MAX: usize = 8;

/// How long fewer replicas must have been enough before there are fewer, unless said otherwise (Kubernetes: 5 min).
const DOWN_AFTER: Duration = Duration::from_secs(300);

/// How long nothing must be asked of a service before it has no replica, unless said otherwise.
const IDLE_AFTER: Duration = Duration::from_secs(900);

/// The longest of any time here: what was recommended is remembered for as long.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The key that alone may be longer.
const PERIOD: &str = "scale.rule.predict.period";

/// The shortest and the longest period of a forecast.
const PERIODS: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(31 * 24 * 3600));

/// How a service is scaled: made by [`ScaleTable::checked`].
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// No fewer replicas; with 0 there are none while nothing is asked.
    pub min: u32,
    /// No more.
    pub max: u32,
    /// How many are added within a minute at most.
    pub up_step: u32,
    /// How many are taken away within a minute at most.
    pub down_step: u32,
    /// How long more must have been needed.
    pub up_after: Duration,
    /// How long fewer must have been enough.
    pub down_after: Duration,
    /// How long nothing must have been asked before there is none.
    pub idle_after: Duration,
    /// At least one.
    pub rules: Vec<Rule>,
}

/// What is measured, and what it is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// What is measured.
    pub metric: Metric,
    /// What it is to be.
    pub aim: Aim,
    /// Whether what is to come is looked at, too.
    pub predict: Option<Predict>,
}

/// What is measured of a service: the mean over the replicas that are ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Processor time, as a part of what was asked for.
    Cpu,
    /// Memory, as a part of what was asked for.
    Memory,
    /// The mean of both.
    Utilisation,
    /// Requests each second.
    Requests,
    /// The time within which 99 of 100 requests are answered, in seconds.
    Latency,
    /// Requests that wait or are worked on.
    Queue,
    /// What a Prometheus server answers to a query, over the number of replicas.
    Prometheus {
        /// Where it is.
        url: String,
        /// What it is asked; its answer is one number.
        query: String,
    },
}

/// What a metric is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aim {
    /// So much for each replica.
    Target(f64),
    /// At most so much, and at least half of it.
    Over {
        /// So much.
        over: f64,
        /// How many replicas more above it.
        step: u32,
    },
}

impl Aim {
    /// What is compared with.
    pub fn value(&self) -> f64 {
        match self {
            Aim::Target(value) | Aim::Over { over: value, .. } => *value,
        }
    }
}

/// How far it is looked ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predict {
    /// After so long the load is alike.
    pub period: Duration,
    /// As long as a replica takes until it does its work.
    pub lead: Duration,
}

impl Rule {
    /// The rule at work.
    pub(super) fn policy(&self) -> Box<dyn Policy> {
        match (self.aim, self.predict) {
            (Aim::Over { over, step }, _) => Box::new(Threshold { over, step }),
            (Aim::Target(target), None) => Box::new(Target { target }),
            (Aim::Target(target), Some(Predict { period, lead })) => {
                Box::new(Seasonal { target: Target { target }, lead, season: Season::new(period) })
            }
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Metric::Cpu => "cpu",
            Metric::Memory => "memory",
            Metric::Utilisation => "utilisation",
            Metric::Requests => "requests",
            Metric::Latency => "latency",
            Metric::Queue => "queue",
            Metric::Prometheus { query, .. } => return write!(f, "`{query}`"),
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.aim {
            Aim::Target(target) => write!(f, "{} at {target} for each", self.metric),
            Aim::Over { over, .. } => write!(f, "{} at most {over}", self.metric),
        }
    }
}

/// The table as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleTable {
    min: Option<Spanned<i64>>,
    max: Option<Spanned<i64>>,
    up_step: Option<Spanned<i64>>,
    down_step: Option<Spanned<i64>>,
    up_after: Option<Spanned<String>>,
    down_after: Option<Spanned<String>>,
    idle_after: Option<Spanned<String>>,
    #[serde(default)]
    rule: Vec<Spanned<RuleTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    metric: Spanned<String>,
    url: Option<Spanned<String>>,
    query: Option<Spanned<String>>,
    target: Option<Spanned<Number>>,
    over: Option<Spanned<Number>>,
    step: Option<Spanned<i64>>,
    predict: Option<Spanned<PredictTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PredictTable {
    period: Spanned<String>,
    lead: Spanned<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected a number")]
enum Number {
    Integer(i64),
    Float(f64),
}

/// What is wrong with a table, and where in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The bytes of the text that are about it; empty when it is something that is missing.
    pub span: Range<usize>,
    /// The key, what is wrong with it, and what is expected.
    pub what: String,
}

impl Problem {
    fn at<T>(value: &Spanned<T>, what: impl Into<String>) -> Problem {
        Problem { span: value.span(), what: what.into() }
    }
}

impl ScaleTable {
    /// Checks it, for a service that may have so many replicas at most.
    pub fn checked(self, replicas_max: u32) -> Result<Scale, Problem> {
        let most = i64::from(replicas_max);
        let nowhere = |what: &str| Problem { span: 0..0, what: what.to_owned() };
        let max = self.max.ok_or_else(|| nowhere("scale.max: is missing; write for example\nmax = 10"))?;
        let (min, min_at) = match self.min {
            Some(min) => (within("scale.min", &min, 0, most)?, min.span()),
            None => (1, max.span()),
        };
        let max = within("scale.max", &max, 1, most)?;
        if min > max {
            let what = format!("scale.min: is {min}, more than scale.max, {max}; no number is between them");
            return Err(Problem { span: min_at, what });
        }
        if self.rule.is_empty() {
            return Err(nowhere(
                "scale: has no rule; write for example\n[[scale.rule]]\nmetric = \"cpu\"\ntarget = 0.7",
            ));
        }
        if let Some(surplus) = self.rule.get(RULES_MAX) {
            return Err(Problem::at(surplus, format!("scale.rule: there are more than {RULES_MAX}")));
        }
        let step = |key: &str, step: Option<Spanned<i64>>, usual: u32| match step {
            Some(step) => within(key, &step, 1, most),
            None => Ok(usual),
        };
        let rules = self.rule.into_iter().map(RuleTable::checked).collect::<Result<Vec<_>, _>>()?;
        Ok(Scale {
            min,
            max,
            up_step: step("scale.up_step", self.up_step, max)?,
            down_step: step("scale.down_step", self.down_step, max)?,
            up_after: duration("scale.up_after", self.up_after)?.unwrap_or(Duration::ZERO),
            down_after: duration("scale.down_after", self.down_after)?.unwrap_or(DOWN_AFTER),
            idle_after: duration("scale.idle_after", self.idle_after)?.unwrap_or(IDLE_AFTER),
            rules,
        })
    }
}

impl RuleTable {
    fn checked(rule: Spanned<RuleTable>) -> Result<Rule, Problem> {
        let span = rule.span();
        let rule = rule.into_inner();
        let missing = |what: &str| Problem { span: span.clone(), what: what.to_owned() };
        let metric = match (rule.metric.get_ref().as_str(), rule.url, rule.query) {
            ("prometheus", Some(url), Some(query)) => {
                if !url.get_ref().starts_with("http://") {
                    let what = "scale.rule.url: begins with `http://`, such as \"http://prometheus:9090\"";
                    return Err(Problem::at(&url, what));
                }
                Metric::Prometheus { url: url.into_inner(), query: query.into_inner() }
            }
            ("prometheus", _, _) => {
                return Err(missing(
                    "scale.rule: one by prometheus has a url and a query, such as\nurl = \"http://prometheus:9090\"\nquery = \
                     \"sum(jobs_waiting)\"",
                ));
            }
            (_, Some(key), _) | (_, None, Some(key)) => {
                return Err(Problem::at(&key, "scale.rule: only one by prometheus has a url and a query"));
            }
            ("cpu", ..) => Metric::Cpu,
            ("memory", ..) => Metric::Memory,
            ("utilisation", ..) => Metric::Utilisation,
            ("requests", ..) => Metric::Requests,
            ("latency", ..) => Metric::Latency,
            ("queue", ..) => Metric::Queue,
            (other, ..) => {
                let what = format!(
                    "scale.rule.metric: `{other}` is none of cpu, memory, utilisation, requests, latency, queue and prometheus"
                );
                return Err(Problem::at(&rule.metric, what));
            }
        };
        let aim = match (rule.target, rule.over, rule.step) {
            (Some(target), None, None) => Aim::Target(positive("scale.rule.target", &target)?),
            (Some(_), None, Some(step)) => {
                return Err(Problem::at(&step, "scale.rule.step: only a rule with `over` goes by steps"));
            }
            (None, Some(over), step) => Aim::Over {
                over: positive("scale.rule.over", &over)?,
                step: step.map_or(Ok(1), |step| within("scale.rule.step", &step, 1, 1000))?,
            },
            (Some(target), Some(_), _) => {
                return Err(Problem::at(&target, "scale.rule: has a target or an `over`, not both"));
            }
            (None, None, _) => {
                return Err(missing(
                    "scale.rule: aims at nothing; write target = 0.7, or over = 0.8 for one more above it and one fewer below half of it",
                ));
            }
        };
        let predict = match (rule.predict, aim) {
            (None, _) => None,
            (Some(predict), Aim::Over { .. }) => {
                return Err(Problem::at(
                    &predict,
                    "scale.rule.predict: only a rule with a target looks ahead",
                ));
            }
            (Some(predict), Aim::Target(_)) => Some(predict.into_inner().checked()?),
        };
        Ok(Rule { metric, aim, predict })
    }
}

impl PredictTable {
    fn checked(self) -> Result<Predict, Problem> {
        let (shortest, longest) = PERIODS;
        let (period_at, lead_at) = (self.period.span(), self.lead.span());
        let period = duration(PERIOD, Some(self.period))?.unwrap_or_default();
        let lead = duration("scale.rule.predict.lead", Some(self.lead))?.unwrap_or_default();
        if !(shortest..=longest).contains(&period) {
            let what = "scale.rule.predict.period: is not from 10m to 31d; loads come again after 1d, or 7d";
            return Err(Problem { span: period_at, what: what.to_owned() });
        }
        if lead >= period / 2 {
            let what = "scale.rule.predict.lead: is as long as a replica takes to start, and less than half of the period";
            return Err(Problem { span: lead_at, what: what.to_owned() });
        }
        Ok(Predict { period, lead })
    }
}

fn within(key: &str, number: &Spanned<i64>, least: i64, most: i64) -> Result<u32, Problem> {
    let given = *number.get_ref();
    let fits = (least..=most).contains(&given).then(|| u32::try_from(given).ok()).flatten();
    fits.ok_or_else(|| Problem::at(number, format!("{key}: {given} is not from {least} to {most}")))
}

fn positive(key: &str, number: &Spanned<Number>) -> Result<f64, Problem> {
    let value = match *number.get_ref() {
        Number::Integer(value) => value as f64,
        Number::Float(value) => value,
    };
    match value.is_finite() && value > 0.0 {
        true => Ok(value),
        false => Err(Problem::at(number, format!("{key}: {value} is not above 0"))),
    }
}

fn duration(key: &str, text: Option<Spanned<String>>) -> Result<Option<Duration>, Problem> {
    let Some(text) = text else { return Ok(None) };
    match humantime::parse_duration(text.get_ref()) {
        // A period has bounds of its own.
        Ok(duration) if duration > LONGEST && key != PERIOD => {
            Err(Problem::at(&text, format!("{key}: is longer than a day")))
        }
        Ok(duration) => Ok(Some(duration)),
        Err(error) => {
            let shown: String = text.get_ref().chars().take(40).collect();
            let what =
                format!("{key}: `{shown}` is not a duration such as \"90s\", \"5m\" or \"1h 30m\": {error}");
            Err(Problem::at(&text, what))
        }
    }
}
