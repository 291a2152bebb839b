//! What may be asked of a machine beside room.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use apportion_types::{AgentId, Place, Time};

use crate::{Constraint, Property};

/// Something that is to hold of a machine for a [`Demand`](super::Demand), as a must or as a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// A constraint, as it may also be sent with the subscription ([`Options`](crate::Options)); here it is for one task.
    Require(Constraint),
    /// Nothing is cut off by maintenance: what begins now and takes so long at the most (for ever, when none) is over before.
    InTime {
        /// The time of the decision.
        now: Time,
        /// How long it takes.
        longest: Option<Duration>,
    },
    /// Affinity: something of this label is there already. The first of a label may go anywhere, when it carries the label itself.
    Near {
        /// Whom to be near to.
        label: Arc<str>,
        /// How near.
        scope: Scope,
    },
    /// Anti-affinity: nothing of this label is there yet.
    Apart {
        /// Whom to be apart from.
        label: Arc<str>,
        /// How far.
        scope: Scope,
    },
    /// Those of a label are shared out evenly: with one more here, this place has at most so many more of them than the place that has
    /// the fewest. Places are those of the machines at hand that fulfil the demand's constraints, and those named. A machine
    /// that is in no place is of no use.
    Spread {
        /// Who is shared out.
        label: Arc<str>,
        /// Over what.
        scope: Scope,
        /// The greatest difference; at least 1.
        max_skew: u32,
        /// Places that count although no machine of theirs is at hand, such as zones of which no offer came this time.
        places: BTreeSet<String>,
    },
}

/// What counts as one place: a single agent, or all machines that share something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(Option<Property>);

impl Scope {
    /// An agent.
    pub const AGENT: Scope = Scope(None);

    /// The name of the place in which a machine is; none when it lacks the attribute.
    pub(super) fn of<'a>(&self, agent_id: &'a AgentId, place: &'a Place) -> Option<&'a str> {
        match &self.0 {
            None => Some(agent_id.as_str()),
            Some(property) => property.of(place),
        }
    }
}

/// All machines of which this is the same text: a zone, a rack, a host.
impl From<Property> for Scope {
    fn from(property: Property) -> Scope {
        Scope(Some(property))
    }
}

impl Rule {
    /// [`Rule::Require`].
    pub fn require(constraint: Constraint) -> Rule {
        Rule::Require(constraint)
    }

    /// [`Rule::InTime`].
    pub fn in_time(now: Time, longest: Option<Duration>) -> Rule {
        Rule::InTime { now, longest }
    }

    /// [`Rule::Near`].
    pub fn near(label: impl Into<Arc<str>>, scope: impl Into<Scope>) -> Rule {
        Rule::Near { label: label.into(), scope: scope.into() }
    }

    /// [`Rule::Apart`].
    pub fn apart(label: impl Into<Arc<str>>, scope: impl Into<Scope>) -> Rule {
        Rule::Apart { label: label.into(), scope: scope.into() }
    }

    /// [`Rule::Spread`] over the places at hand.
    pub fn spread(label: impl Into<Arc<str>>, scope: impl Into<Scope>, max_skew: u32) -> Rule {
        Rule::spread_over(label, scope, max_skew, [])
    }

    /// [`Rule::Spread`], also over places of which nothing is at hand.
    pub fn spread_over<'a>(
        label: impl Into<Arc<str>>,
        scope: impl Into<Scope>,
        max_skew: u32,
        places: impl IntoIterator<Item = &'a str>,
    ) -> Rule {
        let places = places.into_iter().map(str::to_owned).collect();
        Rule::Spread { label: label.into(), scope: scope.into(), max_skew: max_skew.max(1), places }
    }

    /// True when what is placed beside it may change whether it holds.
    #[cfg(feature = "planner")]
    pub(super) fn minds_neighbours(&self) -> bool {
        !matches!(self, Rule::Require(_) | Rule::InTime { .. })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("agent"),
            Some(property) => property.fmt(f),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Require(constraint) => constraint.fmt(f),
            Rule::InTime { .. } => f.write_str("ends before maintenance"),
            Rule::Near { label, scope } => write!(f, "near `{label}` by {scope}"),
            Rule::Apart { label, scope } => write!(f, "apart from `{label}` by {scope}"),
            Rule::Spread { label, scope, max_skew, .. } => {
                write!(f, "`{label}` spread over {scope} within {max_skew}")
            }
        }
    }
}
