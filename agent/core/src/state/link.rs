//! How the agent stands with its master.

/// How the agent stands with its master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// No stream.
    Down,
    /// A stream, on which Register is said once it is on disk that tasks have ended whose resources are not there any more: a master takes nobody who
    /// has less than its tasks.
    Opened,
    /// A stream, on which Register has been said.
    Registering,
    /// A stream, on which Registered has been heard.
    Registered,
    /// A stream that the agent has given up; nothing more is said or heard on it.
    Closing,
}

/// How far a shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// Launches are waited for; tasks will run on.
    Settling,
    /// Tasks are being killed, for the agent is gone by the word of an operator.
    Gone,
    /// Tasks are being killed.
    Ending,
    /// Tasks are being killed, and the master has removed the agent already: it is said to nobody.
    Leaving,
    /// The master has been told; its end of the stream is awaited.
    Unregistering,
    /// Nothing is left to do.
    Done,
}
