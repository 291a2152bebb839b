//! Everything that the agent waits for by the clock.

use super::outcome::OperationKey;
use crate::event::{ProbeKind, TaskKey};

/// Something that is due at a time; each at most once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The master has not answered a registration, or has been silent.
    Link,
    /// A task's grace is over, or a KILL is to be repeated.
    Kill(TaskKey),
    /// The time that a task was given to complete is over.
    Completion(TaskKey),
    /// A task is to be asked something.
    Probe(TaskKey, ProbeKind),
    /// An executor has tasks and has not subscribed.
    Subscribe(TaskKey),
    /// The head of an update stream is to be sent again.
    Retry(TaskKey),
    /// What became of an operation is to be sent again.
    RetryOperation(OperationKey),
    /// The master has not ended the stream after Unregister.
    Shutdown,
}
