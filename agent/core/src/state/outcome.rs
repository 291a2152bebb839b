//! What became of an operation that its framework named, until that is acknowledged.

use apportion_types::{FrameworkId, OperationId, OperationStatus, UpdateId};

use super::repeat::Repeat;

/// Who asked for an operation, and how it named it.
pub(crate) type OperationKey = (FrameworkId, OperationId);

/// What became of an operation.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The status; its update id is always there.
    pub(crate) status: OperationStatus,
    /// True once it is on disk: it may be sent.
    pub(crate) durable: bool,
    /// True once its acknowledgement is on its way to the disk.
    pub(crate) acknowledged: bool,
    /// The pauses between its sendings.
    pub(crate) repeat: Repeat,
}

impl Outcome {
    /// Its name.
    pub(crate) fn id(&self) -> UpdateId {
        self.status.update_id.expect("every update of an agent has an id")
    }

    /// True while it is to be told.
    pub(crate) fn is_open(&self) -> bool {
        self.durable && !self.acknowledged
    }
}
