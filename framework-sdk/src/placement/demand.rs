//! What is to be placed.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use apportion_types::{Resources, TaskInfo};

use super::Rule;

/// What a task asks of the machine on which it is placed.
///
/// ```
/// use apportion_sdk::{Constraint, placement::{Demand, Rule, Scope}};
///
/// let database = Demand::new("cpus:2;mem:4096;disk:10000")
///     .label("db")
///     .must(Rule::require(Constraint::attribute("disk").is("ssd")))
///     .must(Rule::apart("db", Scope::AGENT))
///     .priority(10);
/// assert_eq!(database.must.len(), 2);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Demand {
    /// How much, on terms as [`Offer::launch`](crate::Offer::launch) takes them.
    pub resources: Resources,
    /// As what it counts, once it is placed, for rules about neighbours: the name of its app, for one.
    pub labels: BTreeSet<Arc<str>>,
    /// What must hold of a machine.
    pub must: Vec<Rule>,
    /// What should hold of it: the machine of which most of these hold is taken, and the policy chooses between equals.
    pub prefer: Vec<Rule>,
    /// Who is placed first: the greater number.
    pub priority: i32,
}

impl Demand {
    /// A demand for resources alone, written as in tests and examples.
    ///
    /// # Panics
    ///
    /// When they are not such; [`Demand::of`] takes a value that is.
    pub fn new(resources: &str) -> Demand {
        Demand::of(resources.parse().expect("resources such as `cpus:1;mem:64`"))
    }

    /// A demand for resources alone.
    pub fn of(resources: Resources) -> Demand {
        Demand { resources, ..Demand::default() }
    }

    /// Counts as this.
    #[must_use]
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Demand {
        self.labels.insert(label.into());
        self
    }

    /// Only where this holds.
    #[must_use]
    pub fn must(mut self, rule: Rule) -> Demand {
        self.must.push(rule);
        self
    }

    /// Rather where this holds.
    #[must_use]
    pub fn prefer(mut self, rule: Rule) -> Demand {
        self.prefer.push(rule);
        self
    }

    /// Before those of a smaller number, after those of a greater one; 0 unless said.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Demand {
        self.priority = priority;
        self
    }

    /// True when what is placed beside it may change where it can go.
    #[cfg(feature = "planner")]
    pub(super) fn minds_neighbours(&self) -> bool {
        self.must.iter().chain(&self.prefer).any(Rule::minds_neighbours)
    }
}

/// A demand for what the task asks for.
impl From<&TaskInfo> for Demand {
    fn from(task: &TaskInfo) -> Demand {
        Demand::of(task.resources.clone())
    }
}

/// The order in which a queue is served: by priority, of equals whoever stands before.
///
/// ```
/// use apportion_sdk::placement::{Demand, in_order};
///
/// let queue = [1, 5, 1, 5].map(|priority| Demand::new("cpus:1").priority(priority));
/// assert_eq!(in_order(&queue), [1, 3, 0, 2]);
/// ```
pub fn in_order(queue: &[Demand]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..queue.len()).collect();
    order.sort_by_key(|index| Reverse(queue[*index].priority));
    order
}
