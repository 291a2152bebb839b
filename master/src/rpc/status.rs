//! Every gRPC status that the master answers with, and when.

use std::fmt::Display;

use apportion_master_core::OperatorError;
use tonic::{Code, Status};

use crate::ask::AskError;

/// A field of a request breaks its rule.
pub(super) fn invalid(error: impl Display) -> Status {
    Status::invalid_argument(error.to_string())
}

/// What was named does not exist.
pub(super) fn missing(what: &str, name: impl Display) -> Status {
    Status::not_found(format!("{what} `{name}` does not exist"))
}

/// An operator has no answer.
pub(super) fn ask(error: &AskError) -> Status {
    let code = match error {
        AskError::Ending => Code::Unavailable,
        AskError::Refused(OperatorError::NotFound { .. }) => Code::NotFound,
        AskError::Refused(OperatorError::Ambiguous { .. } | OperatorError::Invalid { .. }) => {
            Code::InvalidArgument
        }
        AskError::Refused(_) => Code::FailedPrecondition,
    };
    Status::new(code, error.to_string())
}

/// What a peer is told whose stream of messages broke off.
pub(super) fn broken(status: &Status, message_bytes_max: usize, remedy: &str) -> Status {
    match status.code() {
        // The transport's word for a message above the limit.
        Code::OutOfRange | Code::ResourceExhausted => Status::resource_exhausted(format!(
            "a message is larger than the most that is taken, {message_bytes_max} bytes; {remedy}"
        )),
        // The transport's word for bytes that are no message; also for a lost connection, where nobody hears it.
        _ => Status::invalid_argument(format!(
            "the stream of messages could not be read: {}",
            status.message()
        )),
    }
}

/// An answer that no client could take in.
pub(super) fn answer_too_large(bytes: usize, bytes_max: usize) -> Status {
    Status::resource_exhausted(format!(
        "the answer of {bytes} bytes is larger than the most that is sent, {bytes_max}; name a framework or a task, or use \
         the JSON pages under /api/v1/"
    ))
}
