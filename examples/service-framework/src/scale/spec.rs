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

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{
    Policy,
    season::{Season, Seasonal},
    track::{Target, Threshold},
};
use crate::spec::value;
pub use crate::spec::value::Problem;

/// Rules of one service.
pub const RULES_MAX: usize = 8;

/// How long fewer replicas must have been enough before there are fewer, unless said otherwise (Kubernetes: 5 min).
const DOWN_AFTER: Duration = Duration::from_secs(300);

/// How long nothing must be asked of a service before it has no replica, unless said otherwise.
const IDLE_AFTER: Duration = Duration::from_secs(900);

/// Between two measurements, unless said otherwise (Kubernetes: 15 s).
const INTERVAL: Duration = Duration::from_secs(15);

/// The shortest and the longest interval: what is measured over less is mostly chance, and over more it is late.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The longest of any time here: what was recommended is remembered for as long.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The shortest and the longest period of a forecast.
const PERIODS: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(31 * 24 * 3600));

/// The most replicas that a rule with `over` adds at once.
const STEP_MAX: u32 = 1000;

/// How a service is scaled: made by [`ScaleTable::checked`], or by a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// Between two measurements.
    pub interval: Duration,
    /// At least one.
    pub rules: Vec<Rule>,
}

/// What is measured, and what it is to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predict {
    /// After so long the load is alike.
    pub period: Duration,
    /// As long as a replica takes until it does its work.
    pub lead: Duration,
}

impl Scale {
    /// The bounds, with one replica at least: only idleness leads to none.
    pub fn bounds(&self) -> std::ops::RangeInclusive<u32> {
        self.min.max(1)..=self.max
    }

    /// What is wrong with one that a program made, for a service that may have so many replicas at most.
    pub fn problem(&self, replicas_max: u32) -> Option<String> {
        let Self { min, max, up_step, down_step, .. } = *self;
        for (key, given) in [("max", max), ("up_step", up_step), ("down_step", down_step)] {
            if !(1..=replicas_max).contains(&given) {
                return Some(format!("scale.{key}: {given} is not from 1 to {replicas_max}"));
            }
        }
        if min > max {
            return Some(crossed(min, max));
        }
        if self.rules.is_empty() {
            return Some(NO_RULE.to_owned());
        }
        if self.rules.len() > RULES_MAX {
            return Some(too_many_rules());
        }
        let windows =
            [("up_after", self.up_after), ("down_after", self.down_after), ("idle_after", self.idle_after)];
        if let Some((key, _)) = windows.into_iter().find(|(_, window)| *window > LONGEST) {
            return Some(too_long(&format!("scale.{key}")));
        }
        interval_problem(self.interval).or_else(|| self.rules.iter().find_map(Rule::problem))
    }
}

impl Scale {
    /// What of it there is only with a balancer.
    pub fn needs_balancer(&self) -> Option<String> {
        let counted = self.rules.iter().find(|rule| rule.metric.is_counted());
        let counted = counted.map(|rule| counted_by_balancer(&rule.metric.to_string()));
        (self.min == 0).then(sleeps_behind_balancer).or(counted)
    }
}

impl Metric {
    /// Whether a balancer counts it.
    fn is_counted(&self) -> bool {
        matches!(self, Metric::Requests | Metric::Latency | Metric::Queue)
    }
}

fn sleeps_behind_balancer() -> String {
    "scale.min: is 0, and without a [balancer] nobody would notice that somebody wants it; give it one, or write min = 1".to_owned()
}

fn counted_by_balancer(metric: &str) -> String {
    format!("scale.rule.metric: {metric} is counted by a balancer, and it has none; give it a [balancer]")
}

impl Rule {
    /// The rule at work, with what it learned before.
    pub(super) fn policy(&self, learned: Option<&Season>) -> Box<dyn Policy> {
        match (self.aim, self.predict) {
            (Aim::Over { over, step }, _) => Box::new(Threshold { over, step }),
            (Aim::Target(target), None) => Box::new(Target { target }),
            (Aim::Target(target), Some(Predict { period, lead })) => {
                let season = learned.filter(|season| season.fits(period)).cloned();
                let season = season.unwrap_or_else(|| Season::new(period));
                Box::new(Seasonal { target: Target { target }, lead, season })
            }
        }
    }

    /// What a season is kept under: what was to be borne does not depend on what each is to bear.
    pub(super) fn learns(&self) -> String {
        self.metric.to_string()
    }

    fn problem(&self) -> Option<String> {
        if let Metric::Prometheus { url, .. } = &self.metric
            && let Some(what) = url_problem(url)
        {
            return Some(what);
        }
        if let Aim::Over { step: 0, .. } = self.aim {
            return Some(format!("scale.rule.step: 0 is not from 1 to {STEP_MAX}"));
        }
        let value = self.aim.value();
        not_positive("scale.rule", value)
            .or_else(|| self.predict.and_then(|predict| predict.problem()).map(|(_, what)| what))
    }
}

impl Predict {
    /// What is wrong: with the lead, when that is said, otherwise with the period.
    fn problem(&self) -> Option<(bool, String)> {
        let (shortest, longest) = PERIODS;
        if !(shortest..=longest).contains(&self.period) {
            let what = "scale.rule.predict.period: is not from 10m to 31d; loads come again after 1d, or 7d";
            return Some((false, what.to_owned()));
        }
        (self.lead >= self.period / 2).then(|| {
            let what = "scale.rule.predict.lead: is as long as a replica takes to start, and less than half of the period";
            (true, what.to_owned())
        })
    }
}

const NO_RULE: &str = "scale: has no rule; write for example\n[[scale.rule]]\nmetric = \"cpu\"\ntarget = 0.7";

fn too_many_rules() -> String {
    format!("scale.rule: there are more than {RULES_MAX}")
}

fn crossed(min: u32, max: u32) -> String {
    format!(
        "scale.min: is {min}, more than scale.max, {max}; no number is between them: lower min, or raise max"
    )
}

fn too_long(key: &str) -> String {
    format!("{key}: is longer than a day")
}

fn interval_problem(interval: Duration) -> Option<String> {
    let (shortest, longest) = INTERVALS;
    let outside = !(shortest..=longest).contains(&interval);
    outside.then(|| "scale.interval: is not from 1s to 5m".to_owned())
}

fn url_problem(url: &str) -> Option<String> {
    let authority = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    let what = "scale.rule.url: begins with `http://` and a host, such as \"http://prometheus:9090\"";
    authority
        .is_none_or(|authority| authority.parse::<hyper::http::uri::Authority>().is_err())
        .then(|| what.to_owned())
}

fn not_positive(key: &str, value: f64) -> Option<String> {
    let positive = value.is_finite() && value > 0.0;
    (!positive).then(|| format!("{key}: {value} is not above 0"))
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
    interval: Option<Spanned<String>>,
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

impl ScaleTable {
    /// What of it there is only with a balancer, and where.
    pub(crate) fn needs_balancer(&self) -> Option<Problem> {
        let counted = ["requests", "latency", "queue"];
        let mut metrics = self.rule.iter().map(|rule| &rule.get_ref().metric);
        let metric = metrics.find(|metric| counted.contains(&metric.get_ref().as_str()));
        let counted = metric.map(|metric| Problem::at(metric, counted_by_balancer(metric.get_ref())));
        let min = self.min.as_ref().filter(|min| *min.get_ref() == 0);
        min.map(|min| Problem::at(min, sleeps_behind_balancer())).or(counted)
    }

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
            return Err(Problem { span: min_at, what: crossed(min, max) });
        }
        if self.rule.is_empty() {
            return Err(nowhere(NO_RULE));
        }
        if let Some(surplus) = self.rule.get(RULES_MAX) {
            return Err(Problem::at(surplus, too_many_rules()));
        }
        let step = |key: &str, step: Option<Spanned<i64>>, usual: u32| match step {
            Some(step) => within(key, &step, 1, most),
            None => Ok(usual),
        };
        let interval = match &self.interval {
            None => INTERVAL,
            Some(text) => {
                let interval = value::duration("scale.interval", text)?;
                interval_problem(interval).map_or(Ok(interval), |what| Err(Problem::at(text, what)))?
            }
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
            interval,
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
                if let Some(what) = url_problem(url.get_ref()) {
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
                step: step.map_or(Ok(1), |step| within("scale.rule.step", &step, 1, i64::from(STEP_MAX)))?,
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
        let period = value::duration("scale.rule.predict.period", &self.period)?;
        let lead = value::duration("scale.rule.predict.lead", &self.lead)?;
        let predict = Predict { period, lead };
        match predict.problem() {
            None => Ok(predict),
            Some((lead, what)) => Err(Problem::at(if lead { &self.lead } else { &self.period }, what)),
        }
    }
}

fn within(key: &str, given: &Spanned<i64>, least: i64, most: i64) -> Result<u32, Problem> {
    let number = value::number(key, given, least..=most)?;
    Ok(u32::try_from(number).expect("bounds are those of numbers of replicas"))
}

fn positive(key: &str, number: &Spanned<Number>) -> Result<f64, Problem> {
    let value = match *number.get_ref() {
        Number::Integer(value) => value as f64,
        Number::Float(value) => value,
    };
    not_positive(key, value).map_or(Ok(value), |what| Err(Problem::at(number, what)))
}

fn duration(key: &str, text: Option<Spanned<String>>) -> Result<Option<Duration>, Problem> {
    let Some(text) = text else { return Ok(None) };
    match value::duration(key, &text)? {
        duration if duration > LONGEST => Err(Problem::at(&text, too_long(key))),
        duration => Ok(Some(duration)),
    }
}
