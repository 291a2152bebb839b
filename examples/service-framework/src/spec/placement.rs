//! On which machines replicas may be, and how they are shared out among them: the rules are the SDK's own (`apportion_sdk::placement`).

use std::collections::BTreeSet;

use apportion_sdk::{
    Constraint, FaultDomain, Place,
    constraints::PatternError,
    placement::{Demand, Rule, Scope},
};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{
    Source, Spec, SpecError,
    fault::{Fault, Way},
};

/// Values of other agents that are told to whoever asks for one that there is not.
const VALUES_SHOWN: usize = 10;

/// `[placement]`: what must hold of a replica's machine, or is wished.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// What its agent must be like.
    pub require: Vec<Require>,
    /// Over what the replicas are shared out evenly.
    pub spread: Vec<Spread>,
    /// Whom it may not share a place with.
    pub apart: Vec<Apart>,
}

/// Something of an agent, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Require {
    /// `hostname`, `region`, `zone`, or the name of an attribute.
    pub on: String,
    /// It is this text.
    #[serde(default)]
    pub is: Option<String>,
    /// The whole of it matches this regular expression.
    #[serde(default)]
    pub matches: Option<String>,
    /// The opposite. With neither a text nor an expression the agent must not have it.
    #[serde(default)]
    pub not: bool,
    /// It need not be so, but had better be.
    #[serde(default)]
    pub wish: bool,
}

/// Replicas are shared out evenly: with one more in a place it has at most so many more than the place that has the fewest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// What a place is: `agent`, `hostname`, `region`, `zone`, or all agents with the same value of this attribute.
    pub over: String,
    /// So many more.
    #[serde(default = "one")]
    pub max_skew: u32,
    /// Places that count although no machine of theirs is at hand, such as zones of which no offer came.
    #[serde(default)]
    pub places: Vec<String>,
    /// It need not be so, but had better be.
    #[serde(default)]
    pub wish: bool,
}

/// No two in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apart {
    /// The service to keep apart from; from other replicas of this one when none.
    #[serde(default)]
    pub from: Option<String>,
    /// What a place is, as for a spread.
    #[serde(default = "agent")]
    pub on: String,
    /// It need not be so, but had better be.
    #[serde(default)]
    pub wish: bool,
}

fn one() -> u32 {
    1
}

fn agent() -> String {
    "agent".to_owned()
}

fn property(name: &str) -> apportion_sdk::Property {
    match name {
        "hostname" => Constraint::hostname(),
        "region" => Constraint::region(),
        "zone" => Constraint::zone(),
        attribute => Constraint::attribute(attribute),
    }
}

fn scope(name: &str) -> Scope {
    if name == "agent" { Scope::AGENT } else { property(name).into() }
}

impl Require {
    fn constraint(&self) -> Result<Constraint, PatternError> {
        let constraint = match (&self.is, &self.matches) {
            (Some(text), _) => property(&self.on).is(text),
            (None, Some(pattern)) => property(&self.on).matches(pattern)?,
            (None, None) => property(&self.on).exists(),
        };
        Ok(if self.not { constraint.not() } else { constraint })
    }
}

impl Require {
    /// What an agent has there.
    fn of<'a>(&self, place: &'a Place) -> Option<&'a str> {
        let domain = place.domain.as_ref();
        match self.on.as_str() {
            "hostname" => Some(&place.hostname),
            "region" => domain.map(|domain| domain.region.as_str()),
            "zone" => domain.map(|domain| domain.zone.as_str()),
            attribute => place.attributes.get(attribute).map(String::as_str),
        }
    }

    /// What is wrong with the rule at this place.
    fn fault(&self, place: usize, what: &str) -> Fault {
        let way = Way::to("placement.require").at(place);
        Fault::new(way, format!("placement.require: {}: {what}", self.on))
    }

    /// An agent that has this text there.
    fn agent_with(&self, text: &str) -> Place {
        let text = || text.to_owned();
        Place {
            hostname: text(),
            domain: Some(FaultDomain { region: text(), zone: text() }),
            attributes: [(self.on.clone(), text())].into(),
            ..Place::default()
        }
    }
}

impl Placement {
    /// What must hold of an agent, whatever runs there.
    fn musts(&self) -> impl Iterator<Item = (&Require, Constraint)> {
        self.placed_musts().map(|(_, require, must)| (require, must))
    }

    /// The same, with where they are described.
    fn placed_musts(&self) -> impl Iterator<Item = (usize, &Require, Constraint)> {
        let must = self.require.iter().enumerate().filter(|(_, require)| !require.wish);
        must.filter_map(|(place, require)| Some((place, require, require.constraint().ok()?)))
    }

    /// Two rules that no agent can obey.
    fn contradiction(&self) -> Option<(usize, &Require, Constraint)> {
        self.placed_musts().find_map(|(place, require, _)| {
            let text = require.is.as_deref().filter(|_| !require.not)?;
            let agent = require.agent_with(text);
            let broken = self.musts().find(|(other, it)| other.on == require.on && !it.holds(&agent))?;
            Some((place, require, broken.1))
        })
    }

    /// Says what is wrong, and with which of the keys.
    pub(super) fn fault(&self) -> Option<Fault> {
        for (place, require) in self.require.iter().enumerate() {
            let wrong = |what: String| Some(require.fault(place, &what));
            if require.on.is_empty() {
                return wrong("`on` names nothing; give zone, region, hostname or an attribute".to_owned());
            }
            if require.is.is_some() && require.matches.is_some() {
                return wrong(
                    "is to be a text and to match an expression; keep one of `is` and `matches`".to_owned(),
                );
            }
            if let Err(error) = require.constraint() {
                return wrong(format!("{error}; write an expression such as \"r[0-9]+\""));
            }
        }
        if let Some((place, require, other)) = self.contradiction() {
            let is = require.is.as_deref().unwrap_or_default();
            let what = format!("is to be `{is}`, and another rule asks that {other}; take one of them out");
            return Some(require.fault(place, &what));
        }
        let none = |spread: &Spread| spread.over.is_empty() || spread.max_skew == 0;
        if let Some(place) = self.spread.iter().position(none) {
            let what = "`over` names what is shared out over, such as \"zone\", and max_skew is at least 1";
            return Some(Fault::new(
                Way::to("placement.spread").at(place),
                format!("placement.spread: {what}"),
            ));
        }
        let nowhere = self.apart.iter().position(|apart| apart.on.is_empty())?;
        let what = "placement.apart: `on` names what a place is, such as \"agent\"";
        Some(Fault::new(Way::to("placement.apart").at(nowhere), what))
    }

    /// True when nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Placement::default()
    }
}

impl Spec {
    /// The rule that keeps replicas off an agent, whatever runs there.
    pub fn shut_out(&self, place: &Place) -> Option<Constraint> {
        self.placement.musts().map(|(_, must)| must).find(|must| !must.holds(place))
    }

    /// Rules that hold of none of these agents, each with what they have instead.
    pub fn holds_nowhere(&self, places: &[&Place]) -> Vec<String> {
        let broken = self.placement.musts().filter(|(_, must)| !places.iter().any(|place| must.holds(place)));
        let told = broken.map(|(require, must)| {
            let has: BTreeSet<&str> = places.iter().filter_map(|place| require.of(place)).collect();
            let first: Vec<&str> = has.iter().copied().take(VALUES_SHOWN).collect();
            let more = if has.len() > first.len() { ", …" } else { "" };
            match first.is_empty() {
                true => format!("there is no agent where {must}; none has a {}", require.on),
                false => format!("there is no agent where {must}; there are {}{more}", first.join(", ")),
            }
        });
        told.collect()
    }

    /// What a replica asks of its machine, labelled as one of this service.
    pub fn demand(&self) -> Demand {
        let Placement { require, spread, apart } = &self.placement;
        let mut demand = Demand::of(self.needs()).label(self.name.as_str());
        let mut add = |wish: bool, rule: Rule| {
            let rules = if wish { &mut demand.prefer } else { &mut demand.must };
            rules.push(rule);
        };
        for require in require {
            let constraint = require.constraint().expect("it was checked when it was read");
            add(require.wish, Rule::require(constraint));
        }
        for spread in spread {
            let places = spread.places.iter().map(String::as_str);
            let rule = Rule::spread_over(self.name.as_str(), scope(&spread.over), spread.max_skew, places);
            add(spread.wish, rule);
        }
        for apart in apart {
            let from = apart.from.as_deref().unwrap_or(&self.name);
            add(apart.wish, Rule::apart(from, scope(&apart.on)));
        }
        // Losing an agent is to cost little, as for services that ask nothing.
        demand.prefer(Rule::spread(self.name.as_str(), Scope::AGENT, 1))
    }
}

impl Source<'_> {
    pub(super) fn placement(self, table: Option<Spanned<Placement>>) -> Result<Placement, SpecError> {
        let Some(table) = table else { return Ok(Placement::default()) };
        match table.get_ref().fault() {
            None => Ok(table.into_inner()),
            Some(fault) => Err(self.told(fault)),
        }
    }
}
