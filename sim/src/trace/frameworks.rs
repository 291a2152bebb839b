//! What a replay must know of the frameworks that it replays with.

use apportion_sdk::Scheduler;

use super::Group;

/// A kind of framework: makes one for each group of tasks, and tells it how many tasks are wanted.
///
/// A replay takes it at its word: the tasks that its frameworks launch must ask for exactly their group's resources, run only on
/// models of gpu that the group allows, and have ids that begin with the group's name. What breaks this ends the replay.
pub trait Frameworks {
    /// The framework of one group.
    type Scheduler: Scheduler<Message: 'static> + 'static;

    /// What it is called in reports, such as `batch`.
    fn kind(&self) -> &'static str;

    /// How a task of these frameworks comes to its end.
    fn ends(&self) -> Ends;

    /// The most tasks that one framework can be wanted to have, as [`Wanted`] counts them.
    fn wanted_max(&self) -> u32;

    /// The framework of a group, which wants nothing before it is told. Called once for each group that can run somewhere.
    ///
    /// Says for people what it cannot do of what the group asks for; the replay is not begun then.
    fn scheduler(&mut self, group: &Group) -> Result<Self::Scheduler, String>;

    /// What tells a framework that from now on other tasks are wanted.
    fn order(&self, wanted: Wanted) -> <Self::Scheduler as Scheduler>::Message;
}

/// How a task comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// By itself, when it has run for as long as in the trace, however long it waited before: a job's task. All that have come
    /// are wanted, so it only grows.
    Itself,
    /// When it is no longer wanted, which is so long after it came as it ran in the trace, whether it has been placed by then or
    /// not: a service's replica.
    WhenTold,
}

/// How many tasks of a group are wanted. Never the same as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Until now.
    pub before: u32,
    /// From now on.
    pub now: u32,
}
