use tonic::{Code, ConnectError, Status};

/// Why etcd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// None of its members answers.
    #[error(
        "etcd does not answer at {endpoints}; see that it runs, has a leader, and is reached from this machine"
    )]
    Unreachable {
        /// All that were asked.
        endpoints: String,
        /// What the last one said.
        source: Box<Status>,
    },
    /// A write was sent and not answered: it may be done, now or later.
    #[error("etcd at {endpoint} did not say whether it did {what}")]
    Unknown {
        /// What was to be written.
        what: String,
        /// The member that was asked.
        endpoint: String,
        /// How it failed.
        source: Box<Status>,
    },
    /// Its disk quota is used up; it takes no more writes.
    #[error(
        "etcd at {endpoint} is out of space and takes no writes; compact and defragment it or raise its --quota-backend-bytes, \
         then `etcdctl alarm disarm`"
    )]
    NoSpace {
        /// The member that was asked.
        endpoint: String,
    },
    /// What was to be read has been compacted meanwhile.
    #[error("etcd at {endpoint} has compacted the revision that was read; try again")]
    Compacted {
        /// The member that was asked.
        endpoint: String,
    },
    /// More was to be written than it takes at once.
    #[error("{what} is more than etcd at {endpoint} takes at once ({says}); raise its --max-request-bytes")]
    TooLarge {
        /// What was to be written.
        what: String,
        /// The member that was asked.
        endpoint: String,
        /// What it says.
        says: String,
    },
    /// It wants to know who asks.
    #[error(
        "etcd at {endpoint} asks for a user ({says}), which is not supported yet; give Apportion an etcd without authentication, \
         reachable by the masters alone"
    )]
    Denied {
        /// The member that was asked.
        endpoint: String,
        /// What it says.
        says: String,
    },
    /// It refuses for another reason.
    #[error("etcd at {endpoint} refuses {what}: {says}")]
    Refused {
        /// What was asked.
        what: String,
        /// The member that was asked.
        endpoint: String,
        /// What it says.
        says: String,
    },
}

/// What is known of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was not sent.
    Unsent,
    /// It may be done, or not.
    Open,
    /// It was judged, and not done.
    Refused,
}

pub(super) fn fate(status: &Status) -> Fate {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return Fate::Unsent;
        }
        source = error.source();
    }
    match status.code() {
        // The code of what is no answer of etcd's but a connection that broke is one of these.
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal
        | Code::Aborted
        | Code::DataLoss
        | Code::Ok => Fate::Open,
        _ => Fate::Refused,
    }
}

/// What a refusal means.
pub(super) fn refused(what: &str, endpoint: &str, status: &Status) -> Error {
    let (what, endpoint, says) = (what.to_owned(), endpoint.to_owned(), status.message().to_owned());
    match status.code() {
        Code::ResourceExhausted if says.contains("space exceeded") => Error::NoSpace { endpoint },
        Code::OutOfRange if says.contains("compacted") => Error::Compacted { endpoint },
        // The second is the word of the transport, for a message above the most that etcd reads.
        Code::InvalidArgument if says.contains("too large") => Error::TooLarge { what, endpoint, says },
        Code::ResourceExhausted if says.contains("larger than max") => {
            Error::TooLarge { what, endpoint, says }
        }
        // etcd says with the code of any bad argument that no user was named.
        Code::Unauthenticated | Code::PermissionDenied => Error::Denied { endpoint, says },
        Code::InvalidArgument if says.contains("user name") => Error::Denied { endpoint, says },
        _ => Error::Refused { what, endpoint, says },
    }
}
