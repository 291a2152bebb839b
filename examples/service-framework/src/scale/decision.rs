//! What was decided, and why.

use std::{collections::VecDeque, fmt, time::Duration};

use apportion_sdk::Time;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// How many decisions are remembered: six hours of one each 15 seconds.
pub const DECISIONS_MAX: usize = 1440;

/// What one rule said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// Its metric and aim, such as `requests, 100 for each`.
    pub rule: String,
    /// What was measured, for each replica that is ready; none when it is not known.
    pub value: Option<f64>,
    /// What it aims at.
    pub aim: f64,
    /// How many it would have; none when nothing was measured.
    pub replicas: Option<u32>,
    /// Why; or why nothing is known.
    pub why: String,
}

/// What a number of replicas follows from, beside what the rules said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Because {
    /// It is what the rule with this place proposes, which proposes the most.
    Rule {
        /// Its place in what was said.
        place: usize,
    },
    /// Nothing is measured, and so nothing is changed.
    Unmeasured,
    /// It would be fewer; but not while a rule does not know.
    PartlyUnmeasured,
    /// Another number was proposed a moment ago; it must stand for so long.
    Stabilising {
        /// How long.
        #[serde(serialize_with = "seconds", deserialize_with = "from_seconds")]
        window: Duration,
    },
    /// No more are added, or removed, within a minute.
    Step {
        /// How many.
        a_minute: u32,
    },
    /// No fewer are allowed.
    Min,
    /// No more are allowed.
    Max,
    /// It would be fewer; but not while replicas are being replaced.
    Updating,
    /// An operator has scaled it to none, though at least one is to be there: that is left so until one scales it up.
    Paused,
    /// Nothing was asked of the service for so long.
    Idle {
        /// How long.
        #[serde(serialize_with = "seconds", deserialize_with = "from_seconds")]
        after: Duration,
    },
    /// There is none, and nothing is asked.
    Asleep,
    /// There is none, and something is asked.
    Woken,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn from_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// How many replicas there are to be, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When, in microseconds since the epoch.
    #[serde(serialize_with = "micros", deserialize_with = "from_micros")]
    pub at: Time,
    /// How many were wanted.
    pub from: u32,
    /// Of which so many did their work.
    pub ready: u32,
    /// How many are wanted now.
    pub to: u32,
    /// What each rule said.
    pub said: Vec<Said>,
    /// What it follows from.
    #[serde(flatten)]
    pub because: Because,
}

fn micros<S: serde::Serializer>(at: &Time, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(at.as_micros())
}

fn from_micros<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    u64::deserialize(deserializer).map(Time::from_micros)
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.value, self.replicas) {
            (Some(value), Some(replicas)) => {
                write!(f, "{}: is {}, {}: {replicas}", self.rule, short(value), self.why)
            }
            _ => write!(f, "{}: not known: {}", self.rule, self.why),
        }
    }
}

/// In one line. The alternate form leaves out what all rules said, for those who tell that beside it.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from == self.to {
            true => write!(f, "{} replicas stay", self.to)?,
            false => write!(f, "{} -> {} replicas", self.from, self.to)?,
        }
        match self.because {
            Because::Rule { place } => match self.said.get(place) {
                Some(said) => return write!(f, ": {said}"),
                None => return Ok(()),
            },
            Because::Unmeasured => f.write_str(": nothing is measured")?,
            Because::PartlyUnmeasured => f.write_str(": no fewer while something is not known")?,
            Because::Stabilising { window } => {
                write!(f, ": a change must stand for {}", humantime::format_duration(window))?;
            }
            Because::Step { a_minute } => write!(f, ": no more than {a_minute} change within a minute")?,
            Because::Min => f.write_str(": no fewer are allowed")?,
            Because::Max => f.write_str(": no more are allowed")?,
            Because::Idle { after } => {
                return write!(f, ": nothing was asked for {}", humantime::format_duration(after));
            }
            Because::Updating => f.write_str(": no fewer while replicas are being replaced")?,
            Because::Paused => {
                return f.write_str(": it was scaled to none by order, and waits to be scaled up");
            }
            Because::Asleep => return f.write_str(": nothing is asked"),
            Because::Woken => return f.write_str(": something is asked"),
        }
        match f.alternate() {
            true => Ok(()),
            false => self.said.iter().try_for_each(|said| write!(f, "; {said}")),
        }
    }
}

/// With as many digits as a person needs.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        small if small < 10.0 => format!("{value:.2}"),
        medium if medium < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The last decisions, oldest first.
#[derive(Debug, Clone, Default)]
pub struct History(VecDeque<Decision>);

impl History {
    /// Remembers one more, and forgets the oldest of too many.
    pub fn push(&mut self, decision: Decision) {
        if self.0.len() == DECISIONS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(decision);
    }

    /// All that are remembered.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Decision> + ExactSizeIterator {
        self.0.iter()
    }

    /// Those that changed something, and the last: what `explain` shows.
    pub fn changes(&self) -> impl Iterator<Item = &Decision> {
        let last = self.0.len().saturating_sub(1);
        let shown =
            move |(place, decision): &(usize, &Decision)| decision.from != decision.to || *place == last;
        self.0.iter().enumerate().filter(shown).map(|(_, decision)| decision)
    }
}
