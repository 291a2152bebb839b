//! Which agents a framework wants offers of: judged by the master before an offer is made.

use std::{fmt, sync::Arc};

use crate::{Place, limits};

/// Alternatives: an agent passes when it passes every constraint of at least one group. Without a group every agent passes.
///
/// Follows Mesos' `OfferConstraints` (include/mesos/v1/scheduler/scheduler.proto), for agents whose attributes are all texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OfferConstraints {
    /// Each the constraints that must hold together.
    pub groups: Vec<Vec<Constraint>>,
}

/// One thing that must be true of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// Of what.
    pub selector: Selector,
    /// What.
    pub predicate: Predicate,
    /// The opposite must be true.
    pub negated: bool,
}

/// Something of an agent that has a text, or none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// Its host name.
    Hostname,
    /// The region of its fault domain.
    Region,
    /// The zone of its fault domain.
    Zone,
    /// One of its attributes.
    Attribute(String),
}

/// What may be true of a text. None is true of a text that is missing, but that it does not exist.
#[derive(Debug, Clone)]
pub enum Predicate {
    /// There is one.
    Exists,
    /// It is this one.
    Equals(String),
    /// The whole of it matches.
    Matches(Pattern),
}

/// A regular expression over a whole text, of bounded size, that takes time linear in the text.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    compiled: Arc<regex::Regex>,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{start}` is not a pattern that can be used: {what}")]
pub struct PatternError {
    /// The text's start.
    pub start: String,
    /// What is wrong with it.
    pub what: String,
}

impl Pattern {
    /// Takes a regular expression (syntax of the `regex` crate; no look-around, no back-references). One that needs more than
    /// [`limits::PATTERN_BYTES_MAX`] once compiled is refused.
    pub fn new(text: impl Into<String>) -> Result<Self, PatternError> {
        let text = text.into();
        let error = |what: String| PatternError {
            start: text.chars().take(64).flat_map(char::escape_debug).collect(),
            what,
        };
        if text.len() > limits::PATTERN_TEXT_BYTES_MAX {
            let (bytes, most) = (text.len(), limits::PATTERN_TEXT_BYTES_MAX);
            return Err(error(format!("it is {bytes} bytes long; at most {most} are allowed")));
        }
        // By itself first, so that no parenthesis of it closes the group around it.
        let alone = compile(&text);
        let built = alone.and_then(|_| compile(&format!(r"\A(?:{text})\z")));
        match built {
            Ok(compiled) => Ok(Self { compiled: Arc::new(compiled), text }),
            Err(regex::Error::CompiledTooBig(most)) => {
                Err(error(format!("it needs more than {most} bytes once compiled; use a simpler one")))
            }
            // The whole text, many lines; its last says what is wrong.
            Err(other) => {
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                Err(error(crate::text::cut(last.to_owned(), 256)))
            }
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }
}

fn compile(text: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(text)
        .size_limit(limits::PATTERN_BYTES_MAX)
        .dfa_size_limit(limits::PATTERN_BYTES_MAX)
        .nest_limit(limits::PATTERN_DEPTH_MAX)
        .build()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}

impl PartialEq for Predicate {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Predicate::Exists, Predicate::Exists) => true,
            (Predicate::Equals(a), Predicate::Equals(b)) => a == b,
            (Predicate::Matches(a), Predicate::Matches(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Predicate {}

impl OfferConstraints {
    /// True when an agent that is there passes.
    pub fn admit(&self, agent: &Place) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|group| group.iter().all(|one| one.holds(agent)))
    }

    /// The first constraint that does not hold of the agent in each group; none when the agent passes.
    pub fn failing(&self, agent: &Place) -> Option<Vec<&Constraint>> {
        if self.groups.is_empty() {
            return None;
        }
        self.groups.iter().map(|group| group.iter().find(|one| !one.holds(agent))).collect()
    }
}

impl Constraint {
    /// True when it holds of the agent.
    pub fn holds(&self, agent: &Place) -> bool {
        let text = self.selector.select(agent);
        let holds = match &self.predicate {
            Predicate::Exists => text.is_some(),
            Predicate::Equals(wanted) => text == Some(wanted),
            Predicate::Matches(pattern) => text.is_some_and(|text| pattern.matches(text)),
        };
        holds != self.negated
    }
}

impl Selector {
    /// The text, if the agent has one.
    pub fn select<'a>(&self, agent: &'a Place) -> Option<&'a str> {
        match self {
            Selector::Hostname => Some(&agent.hostname),
            Selector::Region => agent.domain.as_ref().map(|domain| domain.region.as_str()),
            Selector::Zone => agent.domain.as_ref().map(|domain| domain.zone.as_str()),
            Selector::Attribute(name) => agent.attributes.get(name).map(String::as_str),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Hostname => f.write_str("hostname"),
            Selector::Region => f.write_str("region"),
            Selector::Zone => f.write_str("zone"),
            Selector::Attribute(name) => write!(f, "attribute `{name}`"),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Constraint { selector, predicate, negated } = self;
        match (predicate, negated) {
            (Predicate::Exists, false) => write!(f, "{selector} exists"),
            (Predicate::Exists, true) => write!(f, "{selector} does not exist"),
            (Predicate::Equals(text), false) => write!(f, "{selector} is `{text}`"),
            (Predicate::Equals(text), true) => write!(f, "{selector} is not `{text}`"),
            (Predicate::Matches(pattern), false) => write!(f, "{selector} matches {pattern:?}"),
            (Predicate::Matches(pattern), true) => write!(f, "{selector} does not match {pattern:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::FaultDomain;

    fn agent(attributes: &[(&str, &str)]) -> Place {
        Place {
            hostname: "node-7".to_owned(),
            address: "node-7:5051".to_owned(),
            attributes: attributes
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect::<BTreeMap<_, _>>(),
            domain: Some(FaultDomain { region: "eu".to_owned(), zone: "eu-1".to_owned() }),
        }
    }

    fn one(selector: Selector, predicate: Predicate, negated: bool) -> Constraint {
        Constraint { selector, predicate, negated }
    }

    #[test]
    fn a_constraint_holds_of_texts_that_are_there() {
        let agent = agent(&[("rack", "r1")]);
        let rack = || Selector::Attribute("rack".to_owned());
        let gpu = || Selector::Attribute("gpu".to_owned());
        let matches = |text: &str| Predicate::Matches(Pattern::new(text).unwrap());
        for (constraint, holds) in [
            (one(rack(), Predicate::Exists, false), true),
            (one(gpu(), Predicate::Exists, false), false),
            (one(gpu(), Predicate::Exists, true), true),
            (one(rack(), Predicate::Equals("r1".to_owned()), false), true),
            (one(gpu(), Predicate::Equals("r1".to_owned()), true), true),
            (one(rack(), matches("r[0-9]"), false), true),
            // The whole text, however the pattern is written.
            (one(Selector::Hostname, matches("node"), false), false),
            (one(Selector::Hostname, matches("node|x-7"), false), false),
            (one(Selector::Hostname, matches("x|node-.*"), false), true),
            (one(Selector::Region, Predicate::Equals("eu".to_owned()), false), true),
            (one(Selector::Zone, matches("us-.*"), true), true),
        ] {
            assert_eq!(constraint.holds(&agent), holds, "{constraint}");
        }
    }

    #[test]
    fn one_group_is_enough_and_none_admits_all() {
        let agent = agent(&[("rack", "r1")]);
        let is = |text: &str| {
            one(Selector::Attribute("rack".to_owned()), Predicate::Equals(text.to_owned()), false)
        };
        let far = one(Selector::Region, Predicate::Equals("us".to_owned()), false);
        let constraints = |groups| OfferConstraints { groups };
        assert!(constraints(Vec::new()).admit(&agent));
        assert!(constraints(vec![vec![is("r2")], vec![is("r1")]]).admit(&agent));
        let none = constraints(vec![vec![is("r2")], vec![is("r1"), far.clone()]]);
        assert!(!none.admit(&agent));
        assert_eq!(none.failing(&agent), Some(vec![&is("r2"), &far]));
        assert_eq!(constraints(vec![vec![is("r1")]]).failing(&agent), None);
    }

    #[test]
    fn a_pattern_that_would_cost_too_much_or_is_none_is_refused() {
        let deep = format!("{}a{}", "(".repeat(100), ")".repeat(100));
        for (text, what) in [
            ("(a", "unclosed group"),
            ("a)|(b", "unopened group"),
            (r"(?=a)b", "look-around"),
            ("(((a{1,100}){1,100}){1,100}){1,100}", "bytes once compiled"),
            (deep.as_str(), "nest"),
            (&"a".repeat(5000), "5000 bytes long"),
        ] {
            let error = Pattern::new(text).unwrap_err().to_string();
            assert!(error.contains(what) && error.len() < 500, "{error}");
        }
    }

    /// A pattern over which others backtrack for ever.
    #[test]
    fn matching_takes_time_linear_in_the_text() {
        let pattern = Pattern::new("(a+)+b").unwrap();
        assert!(!pattern.matches(&"a".repeat(100_000)));
    }
}
