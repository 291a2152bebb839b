//! What users hold, and how much of a cluster that is.

use apportion_sdk::{
    Resources,
    resources::{Name, Value},
};

/// What the tasks of a user hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Held {
    /// All together.
    pub resources: Resources,
    /// How many tasks these are.
    pub tasks: usize,
}

impl Held {
    /// One task more.
    pub fn add(&mut self, resources: &Resources) {
        self.resources += resources;
        self.tasks += 1;
    }

    /// So many tasks of one size more.
    pub fn add_many(&mut self, resources: &Resources, count: usize) {
        for (name, value) in resources.iter() {
            // Sets and ranges are of single tasks; nobody is told by them to have had enough.
            if let Value::Scalar(milli) = value {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.resources.insert(name.clone(), Value::Scalar(milli.saturating_mul(count)));
            }
        }
        self.tasks += count;
    }
}

/// The part of a cluster that a user holds, of what they hold most of, for their weight: in parts of a thousand million. A whole number, so
/// that it compares the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Share(pub u64);

/// The whole cluster.
const WHOLE: i128 = 1_000_000_000;

impl Share {
    /// The dominant share. What nobody is known to have counts for nothing: it would be all of it for whoever holds the least.
    pub fn of(held: &Resources, total: &Resources, weight: u32) -> Share {
        let part = |name: &Name| match (held.milli(name), total.milli(name)) {
            (held, total) if total > 0 => i128::from(held) * WHOLE / i128::from(total),
            _ => 0,
        };
        let dominant = held.iter().map(|(name, _)| part(name)).max().unwrap_or(0);
        Share(u64::try_from(dominant / i128::from(weight.max(1))).unwrap_or(0))
    }

    /// As a fraction of the cluster, for people.
    pub fn fraction(self) -> f64 {
        self.0 as f64 / WHOLE as f64
    }
}

/// Makes a total at least as large as what was seen of it.
pub(crate) fn at_least(total: &mut Resources, seen: &Resources) {
    for (name, value) in seen.iter() {
        let more = seen.milli(name) - total.milli(name);
        if matches!(value, Value::Scalar(_)) && more > 0 {
            total.insert(name.clone(), Value::Scalar(more));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_part_counts_for_the_weight() {
        let total: Resources = "cpus:9;mem:18".parse().unwrap();
        let share = |held: &str, weight| Share::of(&held.parse().unwrap(), &total, weight).0;
        assert_eq!(share("cpus:3;mem:12", 1), 666_666_666, "12 of 18, not 3 of 9");
        assert_eq!(share("cpus:3;mem:12", 2), 333_333_333);
        assert_eq!(share("gpus:4;cpus:1", 1), 111_111_111, "nobody has gpus as far as is known");
        assert_eq!(share("", 1), 0);
    }

    #[test]
    fn many_are_as_much_as_each_after_the_other() {
        let one: Resources = "cpus:0.5;mem:64".parse().unwrap();
        let (mut each, mut many) = (Held::default(), Held::default());
        (0..7).for_each(|_| each.add(&one));
        many.add_many(&one, 3);
        many.add_many(&one, 4);
        assert_eq!(each, many);
    }
}
