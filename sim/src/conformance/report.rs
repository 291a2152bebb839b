//! What was found, for people.

use std::{fmt, time::Duration};

use super::Promise;

/// A promise that a scheduler breaks, with the shortest history found in which it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub promise: Promise,
    /// How, in a sentence.
    pub what: String,
    /// When, from the start of the history.
    pub at: Duration,
    /// The seed of the whole run.
    pub seed: u64,
    /// The number of the history under this seed.
    pub history: u64,
    /// How many of the histories played break it, this one included.
    pub times: u64,
    /// How many agents the shortest history found needs.
    pub agents: usize,
    /// What goes wrong in it; often nothing has to.
    pub troubles: Vec<String>,
    /// What happens in it, a line each: those that concern what the sentence names, and the last ones.
    pub trace: Vec<String>,
}

impl Broken {
    /// How to play this history alone.
    pub fn replay(&self) -> String {
        format!("run the same kit with `.seed({}).only({})`", self.seed, self.history)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.promise, self.what)?;
        writeln!(f, "  remedy: {}", self.promise.remedy())?;
        let (history, seed, at) = (self.history, self.seed, self.at.as_secs_f64());
        let times = Count(self.times, "history", "histories");
        writeln!(
            f,
            "  in {times}, the first of them number {history} of seed {seed}; shortened, it is broken at {at:.3} s"
        )?;
        let agents = Count(self.agents as u64, "agent", "agents");
        if self.troubles.is_empty() {
            writeln!(f, "  it takes {agents}, and nothing that goes wrong")?;
        } else {
            writeln!(f, "  it takes {agents}, and:")?;
        }
        self.troubles.iter().try_for_each(|trouble| writeln!(f, "    {trouble}"))?;
        writeln!(f, "  what led to it:")?;
        self.trace.iter().try_for_each(|line| writeln!(f, "    {line}"))?;
        write!(f, "  again: {}", self.replay())
    }
}

/// So many of something.
struct Count(u64, &'static str, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count(count, one, several) = self;
        write!(f, "{count} {}", if *count == 1 { one } else { several })
    }
}

/// What came of all histories.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a report says nothing by itself; see `assert_ok`"]
pub struct Report {
    /// The promises that are broken, each once.
    pub broken: Vec<Broken>,
    /// Histories played. Fewer than asked for when enough of them broke something.
    pub histories: u64,
    /// Tasks launched in them.
    pub launches: u64,
    /// The seed of the run.
    pub seed: u64,
}

impl Report {
    /// Whether every promise was kept, and there was something to keep it by.
    pub fn is_ok(&self) -> bool {
        self.broken.is_empty() && self.launches > 0
    }

    /// Whether this promise is broken.
    pub fn breaks(&self, promise: Promise) -> bool {
        self.broken.iter().any(|broken| broken.promise == promise)
    }

    /// Fails the test with the whole report unless every promise was kept.
    ///
    /// # Panics
    ///
    /// When one was not, and when no task was launched in any history: then nothing was tried.
    #[track_caller]
    pub fn assert_ok(&self) {
        assert!(self.is_ok(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { broken, histories, launches, seed } = self;
        if broken.is_empty() {
            write!(
                f,
                "no promise is broken in {histories} histories of seed {seed}, with {launches} tasks launched"
            )?;
            if *launches == 0 {
                write!(
                    f,
                    "; but nothing was tried: the scheduler launches nothing; tell it by `messages` what its program would, and give it \
                     the role and the `agents` that it needs"
                )?;
            }
            return Ok(());
        }
        let count = Count(broken.len() as u64, "promise is", "promises are");
        writeln!(f, "{count} broken, in {histories} histories of seed {seed}")?;
        broken.iter().try_for_each(|broken| write!(f, "\n{broken}\n"))
    }
}
