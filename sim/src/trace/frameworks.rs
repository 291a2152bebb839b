//! What a replay must know of the frameworks that it replays with.

use std::num::NonZeroU32;

use apportion_sdk::Scheduler;

use super::Group;

/// A kind of framework: makes one for each group of tasks, and tells it as tasks come and go.
///
/// ```
/// use apportion_sdk::{Context, Offer, Scheduler, TaskStatus, async_trait};
/// use apportion_sim::trace::{Change, Ends, Frameworks, Group};
///
/// /// Takes any task, and never runs it.
/// struct Idle;
///
/// #[async_trait]
/// impl Scheduler for Idle {
///     type Message = Change;
///     async fn offers(&mut self, _: &mut Context<'_>, _: Vec<Offer>) {}
///     async fn update(&mut self, _: &mut Context<'_>, _: TaskStatus) {}
/// }
///
/// struct Idles;
///
/// impl Frameworks for Idles {
///     type Scheduler = Idle;
///     fn ends(&self) -> Ends {
///         Ends::Itself
///     }
///     fn scheduler(&mut self, _group: &Group) -> Result<Idle, String> {
///         Ok(Idle)
///     }
///     fn order(&self, change: Change) -> Change {
///         change
///     }
/// }
/// ```
pub trait Frameworks {
    /// The framework of one group.
    type Scheduler: Scheduler;

    /// How a task of these frameworks comes to its end.
    fn ends(&self) -> Ends;

    /// The framework of a group, with nothing to run before it is told. Called once for each group, when its first task comes.
    ///
    /// Its tasks must ask for exactly the group's resources, run only on the models that it allows, and be launched in the order
    /// in which they were asked for: a replay gives the nth launch the nth task's duration. Says for people what it cannot
    /// do of this; the replay then ends.
    fn scheduler(&mut self, group: &Group) -> Result<Self::Scheduler, String>;

    /// What tells a framework that its group wants more tasks, or fewer.
    fn order(&self, change: Change) -> <Self::Scheduler as Scheduler>::Message;
}

/// How a task comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// By itself, when it has run for as long as in the trace, however long it waited before: a job's task. Its framework is never
    /// told [`Change::Fewer`].
    Itself,
    /// It runs until it is asked to end; the framework is told [`Change::Fewer`] so long after the task came as it ran in the trace,
    /// whether it has been placed by then or not: a service's replica.
    WhenTold,
}

/// How the number of tasks that a group wants changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// So many more.
    More(NonZeroU32),
    /// So many fewer, never more than are wanted.
    Fewer(NonZeroU32),
}
