//! What a framework wishes of offers.

use apportion_types::{
    Capability, FrameworkOptions, Place, Resources, Role,
    constraints::{self, OfferConstraints, Pattern, PatternError, Predicate, Selector},
};

/// One thing that must be true of an agent before the framework is made offers of it. The master judges it, so that what is of no use
/// is offered to others at once.
///
/// ```
/// use apportion_sdk::{Constraint, Options, Role};
///
/// let eng = Role::new("eng")?;
/// let options = Options::new()
///     .constrain(&eng, [Constraint::zone().is("a"), Constraint::attribute("rack").matches("r[0-9]+")?])
///     .constrain(&eng, [Constraint::hostname().is("spare")]) // or this one
///     .offers_max(100)
///     .build();
/// assert_eq!(options.constraints[&eng].groups.len(), 2);
/// let not = Constraint::attribute("gpu").exists().not();
/// assert_eq!(not.to_string(), "attribute `gpu` does not exist");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint(constraints::Constraint);

/// Something of an agent about which a [`Constraint`] is made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "say what is to be true of it"]
pub struct Property(Selector);

impl Constraint {
    /// About an attribute.
    pub fn attribute(name: impl Into<String>) -> Property {
        Property(Selector::Attribute(name.into()))
    }

    /// About the host's name.
    pub fn hostname() -> Property {
        Property(Selector::Hostname)
    }

    /// About the region in which the agent stands.
    pub fn region() -> Property {
        Property(Selector::Region)
    }

    /// About the zone in which the agent stands.
    pub fn zone() -> Property {
        Property(Selector::Zone)
    }

    /// True when it holds of an agent that stands there.
    pub fn holds(&self, place: &Place) -> bool {
        self.0.holds(place)
    }

    /// The opposite.
    #[allow(clippy::should_implement_trait, reason = "it reads as the sentence that it is")]
    pub fn not(mut self) -> Constraint {
        self.0.negated = !self.0.negated;
        self
    }
}

impl Property {
    /// It is this text.
    pub fn is(self, text: impl Into<String>) -> Constraint {
        self.holds(Predicate::Equals(text.into()))
    }

    /// The whole of it matches a regular expression (syntax of the crate `regex`).
    pub fn matches(self, pattern: impl Into<String>) -> Result<Constraint, PatternError> {
        Pattern::new(pattern).map(|pattern| self.holds(Predicate::Matches(pattern)))
    }

    /// The agent has it.
    pub fn exists(self) -> Constraint {
        self.holds(Predicate::Exists)
    }

    /// Its text at an agent that stands there; none when the agent lacks it.
    pub fn of<'a>(&self, place: &'a Place) -> Option<&'a str> {
        self.0.select(place)
    }

    fn holds(self, predicate: Predicate) -> Constraint {
        Constraint(constraints::Constraint { selector: self.0, predicate, negated: false })
    }
}

impl From<Constraint> for constraints::Constraint {
    fn from(constraint: Constraint) -> Self {
        constraint.0
    }
}

impl std::fmt::Display for Property {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Builds [`FrameworkOptions`] step by step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "options are made by `build`"]
pub struct Options(FrameworkOptions);

impl Options {
    /// No wishes.
    pub fn new() -> Self {
        Self::default()
    }

    /// It can deal with this, and is offered it.
    pub fn capability(mut self, capability: Capability) -> Self {
        self.0.capabilities.insert(capability);
        self
    }

    /// Only agents of which all of these hold are offered to it for the role. Given again for the same role, it is an alternative:
    /// agents of which one group holds.
    pub fn constrain(mut self, role: &Role, all: impl IntoIterator<Item = Constraint>) -> Self {
        let OfferConstraints { groups } = self.0.constraints.entry(role.clone()).or_default();
        groups.push(all.into_iter().map(Into::into).collect());
        self
    }

    /// Only offers that hold this whole, or another minimum given for the role, are made to it for the role; without any the
    /// master's own minimum counts.
    pub fn min_allocatable(mut self, role: &Role, resources: Resources) -> Self {
        self.0.min_allocatable.entry(role.clone()).or_default().push(resources);
        self
    }

    /// The most offers that it wants to hold at once.
    pub fn offers_max(mut self, offers: u32) -> Self {
        self.0.offers_max = Some(offers);
        self
    }

    /// The options.
    pub fn build(self) -> FrameworkOptions {
        self.0
    }
}
