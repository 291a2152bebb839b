//! Why offers are given back.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use apportion_types::{
    Resources,
    protocol::scheduler::{self, DeclineCode},
    resources::Name,
};

use crate::DoesNotFit;

/// Why an offer is given back: a code, and a word more for people.
///
/// The master counts declines by their codes, [`DeclineCode::Other`] by its words too, and keeps the newest of each as samples; its
/// `explain` shows them. Offers that are declined for the same reason go back in one call, so words should be few: no ids.
///
/// ```
/// use apportion_sdk::{DeclineReason, protocol::DeclineCode};
///
/// let reason = DeclineReason::too_small(&"cpus:2;gpus:1".parse()?);
/// assert_eq!(reason.code(), DeclineCode::TooSmall);
/// assert_eq!(reason.to_string(), "too small: cpus:2;gpus:1");
/// assert_eq!(DeclineReason::SPREAD.with("two per rack").to_string(), "spread: two per rack");
/// assert_eq!(DeclineReason::from("the moon is full").code(), DeclineCode::Other);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeclineReason {
    code: DeclineCode,
    detail: Cow<'static, str>,
}

impl DeclineReason {
    /// Nothing waits to be placed.
    pub const NO_WORK: DeclineReason = Self::new(DeclineCode::NoWork);
    /// Nothing that waits fits in.
    pub const TOO_SMALL: DeclineReason = Self::new(DeclineCode::TooSmall);
    /// The agent is not what is wanted.
    pub const CONSTRAINT: DeclineReason = Self::new(DeclineCode::Constraint);
    /// There are enough tasks on this agent.
    pub const SPREAD: DeclineReason = Self::new(DeclineCode::Spread);
    /// It waits for something better, such as more agents at once.
    pub const WAITING: DeclineReason = Self::new(DeclineCode::Waiting);
    /// It was dropped without a reason.
    pub const NOT_SAID: DeclineReason = Self::new(DeclineCode::NotSaid);

    const fn new(code: DeclineCode) -> Self {
        Self { code, detail: Cow::Borrowed("") }
    }

    /// Nothing that waits fits in: this is missing.
    pub fn too_small(missing: &Resources) -> Self {
        Self::TOO_SMALL.with(missing.to_string())
    }

    /// Nothing that waits fits in: too little of each of these is left.
    pub(crate) fn too_little_of(names: &BTreeSet<Name>) -> Self {
        let names: Vec<&str> = names.iter().map(Name::as_str).collect();
        Self::TOO_SMALL.with(names.join(", "))
    }

    /// The same with other words.
    #[must_use]
    pub fn with(self, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// For programs.
    pub fn code(&self) -> DeclineCode {
        self.code
    }

    /// The words; may be empty.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// What a task was too large for.
impl From<&DoesNotFit> for DeclineReason {
    fn from(error: &DoesNotFit) -> Self {
        Self::too_small(&error.missing)
    }
}

impl From<&'static str> for DeclineReason {
    fn from(text: &'static str) -> Self {
        Self::new(DeclineCode::Other).with(text)
    }
}

impl From<String> for DeclineReason {
    fn from(text: String) -> Self {
        Self::new(DeclineCode::Other).with(text)
    }
}

impl From<scheduler::DeclineReason> for DeclineReason {
    fn from(scheduler::DeclineReason { code, detail }: scheduler::DeclineReason) -> Self {
        Self::new(code).with(detail)
    }
}

impl From<DeclineReason> for scheduler::DeclineReason {
    fn from(DeclineReason { code, detail }: DeclineReason) -> Self {
        Self { code, detail: detail.into_owned() }
    }
}

impl fmt::Display for DeclineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, &*self.detail) {
            (code, "") => f.write_str(code.as_str()),
            (DeclineCode::Other, detail) => f.write_str(detail),
            (code, detail) => write!(f, "{}: {detail}", code.as_str()),
        }
    }
}
