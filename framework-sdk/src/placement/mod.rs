//! Choosing where a task goes: policies, rules, and what keeps them fast. Pure: equal input gives equal output.
//!
//! A [`Packing`] holds the [machines](Machine) at hand, made of offers or of anything else. It places [demands](Demand) on them by
//! a [`Policy`], never more than there is and never against a [`Rule`]:
//!
//! ```
//! use apportion_sdk::{Constraint, placement::{BestFit, Demand, Machine, Packing, Rule, Scope}};
//!
//! let machine = |id: &str, zone: &str| Machine::new(id, "cpus:4;mem:8192").attribute("zone", zone);
//! let mut packing = Packing::new([machine("m1", "a"), machine("m2", "a"), machine("m3", "b")]);
//!
//! let web = Demand::new("cpus:1;mem:512")
//!     .label("web")
//!     .must(Rule::spread("web", Constraint::attribute("zone"), 1))
//!     .prefer(Rule::apart("web", Scope::AGENT));
//! let placed: Vec<_> = (0..4).map(|_| packing.place(&web, &BestFit)).collect();
//! assert_eq!(placed, [Some(0), Some(2), Some(1), Some(2)]); // two in each zone, on different machines while there are some
//! ```
//!
//! | policy | takes the machine | so that |
//! |---|---|---|
//! | [`FirstFit`] | that comes first | it is known before which one it will be |
//! | [`BestFit`] | with the least left | large tasks still find room |
//! | [`WorstFit`] | with the most left | load is spread |
//! | [`DotProduct`] | whose rest points least where the task does | what is scarce for the task is kept |
//! | [`Fragmentation`] | whose rest stays of use to the tasks that usually come | gpus are not stranded |
//!
//! With the feature `planner` a whole queue is placed at once by integer programming (`plan`).
//!
//! For a single task on a handful of offers there are [`first_fit`], [`best_fit`] and [`worst_fit`].

mod demand;
mod fragmentation;
mod grid;
mod judge;
mod machine;
mod offers;
mod packing;
#[cfg(feature = "planner")]
mod planner;
mod policy;
mod refusals;
mod rule;
mod running;
mod tree;

#[cfg(feature = "planner")]
pub use self::planner::{Budget, Fallback, Level, Method, Plan, plan};
pub use self::{
    demand::{Demand, in_order},
    fragmentation::Fragmentation,
    machine::Machine,
    offers::{best_fit, ends_in_time, first_fit, fits, worst_fit},
    packing::Packing,
    policy::{BestFit, Candidate, Cost, DotProduct, FirstFit, Policy, Wanted, WorstFit},
    refusals::Refusals,
    rule::{Rule, Scope},
    running::Running,
};

#[cfg(test)]
mod tests;
