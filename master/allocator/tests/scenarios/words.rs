//! The words of a command.

use std::{collections::BTreeMap, time::Duration};

use apportion_types::{
    Capability, OfferConstraints, Operation, Resources, Role,
    constraints::{Constraint, Pattern, Predicate, Selector},
};

/// What stands between spaces; a volume's brackets hold their own together.
pub(crate) fn split(line: &str) -> Vec<String> {
    let (mut words, mut depth) = (vec![String::new()], 0);
    for c in line.chars() {
        match c {
            ' ' if depth == 0 => words.push(String::new()),
            _ => {
                depth += i32::from(c == '[') - i32::from(c == ']');
                words.last_mut().expect("there is one").push(c);
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `name=value` words by their names; several of one name are kept in order.
#[derive(Debug, Default)]
pub(crate) struct Settings(BTreeMap<String, Vec<String>>);

impl Settings {
    pub(crate) fn new(words: &[&str]) -> Self {
        let mut settings = Self::default();
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or_else(|| panic!("`{word}` is not name=value"));
            settings.0.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        settings
    }

    pub(crate) fn all(&mut self, name: &str) -> Vec<String> {
        self.0.remove(name).unwrap_or_default()
    }

    pub(crate) fn one(&mut self, name: &str) -> Option<String> {
        let mut all = self.all(name);
        assert!(all.len() < 2, "{name} is given twice");
        all.pop()
    }

    /// Those that have not been used yet.
    pub(crate) fn rest(&mut self) -> BTreeMap<String, String> {
        let names: Vec<String> = self.0.keys().cloned().collect();
        names.into_iter().map(|name| (name.clone(), self.one(&name).expect("it is there"))).collect()
    }

    /// All of them have been used.
    pub(crate) fn end(self) {
        assert!(self.0.is_empty(), "settings that nothing knows: {:?}", self.0);
    }
}

pub(crate) fn duration(text: &str) -> Duration {
    let (number, unit) =
        text.split_at(text.find(|c: char| c.is_alphabetic()).expect("a duration has a unit"));
    let number: u64 = number.parse().unwrap();
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "h" => Duration::from_secs(3600 * number),
        _ => panic!("unit `{unit}`"),
    }
}

pub(crate) fn role(text: &str) -> Role {
    Role::new(text).unwrap()
}

pub(crate) fn roles(text: &str) -> Vec<Role> {
    text.split(',').filter(|name| !name.is_empty()).map(role).collect()
}

pub(crate) fn resources(text: &str) -> Resources {
    text.parse().unwrap()
}

/// `ROLE:VALUE`
pub(crate) fn of_role(text: &str) -> (Role, &str) {
    let (name, value) = text.split_once(':').unwrap_or_else(|| panic!("`{text}` is not ROLE:VALUE"));
    (role(name), value)
}

/// `cpus:1|mem:64`; nothing is none.
pub(crate) fn alternatives(text: &str) -> Vec<Resources> {
    text.split('|').filter(|part| !part.is_empty()).map(resources).collect()
}

pub(crate) fn capability(text: &str) -> Capability {
    let named = |capability: &&Capability| {
        let name = format!("{capability:?}").to_lowercase();
        name == text.replace('_', "")
    };
    *Capability::ALL.iter().find(named).unwrap_or_else(|| panic!("capability `{text}`"))
}

/// `hostname=h1&zone!=b|rack~r.*|rack?|rack!?`: groups are set apart by `|`, what must hold together by `&`.
pub(crate) fn constraints(text: &str) -> OfferConstraints {
    let group = |text: &str| text.split('&').map(constraint).collect();
    OfferConstraints { groups: text.split('|').map(group).collect() }
}

fn constraint(text: &str) -> Constraint {
    let at = text.find(['=', '!', '~', '?']).unwrap_or_else(|| panic!("`{text}` has no operator"));
    let (name, rest) = text.split_at(at);
    let selector = match name {
        "hostname" => Selector::Hostname,
        "region" => Selector::Region,
        "zone" => Selector::Zone,
        name => Selector::Attribute(name.to_owned()),
    };
    let (negated, rest) = rest.strip_prefix('!').map_or((false, rest), |rest| (true, rest));
    let predicate = match rest.split_at(1) {
        ("=", value) => Predicate::Equals(value.to_owned()),
        ("~", pattern) => Predicate::Matches(Pattern::new(pattern).unwrap()),
        ("?", "") => Predicate::Exists,
        _ => panic!("`{text}`"),
    };
    Constraint { selector, predicate, negated }
}

/// `reserve RESOURCES`, …; `grow VOLUME ADDITION`, `shrink VOLUME MIB`.
pub(crate) fn operation(words: &[&str]) -> Operation {
    match *words {
        ["reserve", what] => Operation::Reserve { resources: resources(what) },
        ["unreserve", what] => Operation::Unreserve { resources: resources(what) },
        ["create", what] => Operation::Create { volumes: resources(what) },
        ["destroy", what] => Operation::Destroy { volumes: resources(what) },
        ["grow", volume, addition] => {
            Operation::Grow { volume: resources(volume), addition: resources(addition) }
        }
        ["shrink", volume, mib] => Operation::Shrink {
            volume: resources(volume),
            subtract_milli: 1000 * mib.parse::<i64>().unwrap(),
        },
        _ => panic!("operation {words:?}"),
    }
}
