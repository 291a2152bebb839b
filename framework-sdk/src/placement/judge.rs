//! Whether rules hold of machines: what they need to know of neighbours is counted once for all machines.

use std::collections::BTreeMap;

use super::{Demand, Machine, Rule, Running, Scope};

/// The rules of one demand, beside what runs now.
pub(super) struct Judge<'a> {
    must: Vec<Prepared<'a>>,
    prefer: Vec<Prepared<'a>>,
}

enum Prepared<'a> {
    /// It asks for nothing but the machine.
    Alone(&'a Rule),
    /// It holds where the count of neighbours is within these bounds.
    Beside { scope: &'a Scope, counts: BTreeMap<&'a str, u32>, least: u32, most: u32, nowhere: bool },
}

impl<'a> Judge<'a> {
    pub(super) fn new(demand: &'a Demand, machines: &'a [Machine], running: &'a Running) -> Judge<'a> {
        let prepare = |rule| Prepared::new(rule, demand, machines, running);
        Judge {
            must: demand.must.iter().map(prepare).collect(),
            prefer: demand.prefer.iter().map(prepare).collect(),
        }
    }

    /// True when everything that must hold does.
    pub(super) fn admits(&self, machine: &Machine) -> bool {
        self.must.iter().all(|rule| rule.holds(machine))
    }

    /// The place in the demand's list of the first rule that must hold and does not.
    pub(super) fn broken_must(&self, machine: &Machine) -> Option<usize> {
        self.must.iter().position(|rule| !rule.holds(machine))
    }

    /// How many wishes are not fulfilled.
    pub(super) fn broken_wishes(&self, machine: &Machine) -> u32 {
        self.prefer.iter().map(|rule| u32::from(!rule.holds(machine))).sum()
    }
}

impl<'a> Prepared<'a> {
    fn new(
        rule: &'a Rule,
        demand: &'a Demand,
        machines: &'a [Machine],
        running: &'a Running,
    ) -> Prepared<'a> {
        let beside = |label: &str, scope: &'a Scope, least, most, nowhere| {
            let counts = running.by_place(label, scope);
            Prepared::Beside { scope, counts, least, most, nowhere }
        };
        match rule {
            Rule::Require(_) | Rule::InTime { .. } => Prepared::Alone(rule),
            Rule::Near { label, scope } => {
                let first = demand.labels.contains(label) && !running.is_anywhere(label);
                beside(label, scope, u32::from(!first), u32::MAX, first)
            }
            Rule::Apart { label, scope } => beside(label, scope, 0, 0, true),
            Rule::Spread { label, scope, max_skew, places } => {
                let counts = running.by_place(label, scope);
                let count = |place: &str| counts.get(place).copied().unwrap_or(0);
                let allowed = machines.iter().filter(|machine| demand.allows(machine));
                let at_hand = allowed.filter_map(|machine| scope.of(&machine.agent_id, &machine.place));
                let fewest = at_hand.chain(places.iter().map(String::as_str)).map(count).min();
                // With one more it is to be at most `max_skew` above the fewest.
                let most = fewest.unwrap_or(0).saturating_add(max_skew - 1);
                Prepared::Beside { scope, counts, least: 0, most, nowhere: false }
            }
        }
    }

    fn holds(&self, machine: &Machine) -> bool {
        match self {
            Prepared::Alone(rule) => rule.allows(machine),
            Prepared::Beside { scope, counts, least, most, nowhere } => {
                match scope.of(&machine.agent_id, &machine.place) {
                    None => *nowhere,
                    Some(place) => (*least..=*most).contains(&counts.get(place).copied().unwrap_or(0)),
                }
            }
        }
    }
}

impl Demand {
    /// True when every rule holds that asks for nothing but the machine: whatever runs there, only these may be chosen.
    pub(super) fn allows(&self, machine: &Machine) -> bool {
        self.must.iter().all(|rule| rule.allows(machine))
    }
}

impl Rule {
    /// False when it cannot hold of the machine whatever runs there.
    pub(super) fn allows(&self, machine: &Machine) -> bool {
        match self {
            Rule::Require(constraint) => constraint.holds(&machine.place),
            Rule::InTime { now, longest } => {
                machine.unavailability.is_none_or(|window| !window.cuts_off(*now, *longest))
            }
            Rule::Near { .. } | Rule::Apart { .. } | Rule::Spread { .. } => true,
        }
    }
}
