//! How a run ends badly.

use std::time::Duration;

/// How a run ends when neither the scheduler nor its program ended it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// No master took the first subscription in time.
    #[error(
        "no master answered at {addresses} within {timeout:?} ({last}); is a master running there? \
         `apportion dev` starts one"
    )]
    Connect {
        /// Where it was looked for.
        addresses: String,
        /// How long.
        timeout: Duration,
        /// How the last attempt failed.
        last: String,
    },
    /// Another scheduler has subscribed with the framework's id. Running on would fight it.
    #[error("another scheduler has taken over framework `{framework_id}`: {message}")]
    FailedOver {
        /// The framework; `(new)` when it had no id yet.
        framework_id: String,
        /// The master's words.
        message: String,
    },
    /// The framework was torn down or stayed away for longer than its failover time-out. Its id is of no use any more:
    /// forget it, and subscribe as a new framework.
    #[error("framework `{framework_id}` was removed: {message}")]
    Removed {
        /// The framework; `(new)` when it had no id yet.
        framework_id: String,
        /// The master's words.
        message: String,
    },
    /// The subscription was refused, and would be again.
    #[error("the master refused the subscription of framework `{framework_id}`: {message}")]
    Refused {
        /// The framework; `(new)` when it had no id yet.
        framework_id: String,
        /// The master's words.
        message: String,
    },
    /// The framework was to be torn down, but no master confirmed it in time.
    #[error(
        "the teardown of framework `{framework_id}` was not confirmed within {timeout:?}; its tasks may run on until its \
         failover time-out; `apportion frameworks` lists it"
    )]
    TeardownUnconfirmed {
        /// The framework; `(new)` when it had no id yet.
        framework_id: String,
        /// How long it was waited.
        timeout: Duration,
    },
}
