//! The updates of one task that are not yet acknowledged, in order; only the head is ever under way.

use std::collections::VecDeque;

use apportion_types::{TaskState, TaskStatus, UpdateId};

use super::repeat::Repeat;

/// The update stream of one task.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The head is the one that is sent and acknowledged.
    pub(crate) pending: VecDeque<Update>,
    /// The newest state that is on disk: the newest that may be told.
    pub(crate) durable_state: Option<TaskState>,
    /// The pauses between the sendings of the head.
    pub(crate) repeat: Repeat,
    /// True once the end has been told, beside the head or as the head.
    pub(crate) end_told: bool,
    /// True once nobody will acknowledge it.
    pub(crate) dropped: bool,
}

/// One update.
#[derive(Debug)]
pub(crate) struct Update {
    /// The status; its update id is always there.
    pub(crate) status: TaskStatus,
    /// True once it is on disk: it may be sent.
    pub(crate) durable: bool,
    /// True once it has been sent.
    pub(crate) sent: bool,
    /// True once its acknowledgement is on its way to the disk.
    pub(crate) acknowledged: bool,
}

impl Update {
    /// Its name.
    pub(crate) fn id(&self) -> UpdateId {
        self.status.update_id.expect("every update of an agent has an id")
    }
}

impl Stream {
    /// A stream without updates.
    pub(crate) fn new(repeat: Repeat) -> Self {
        Self { pending: VecDeque::new(), durable_state: None, repeat, end_told: false, dropped: false }
    }

    /// The head, if it is on disk.
    pub(crate) fn durable_head(&self) -> Option<&Update> {
        self.pending.front().filter(|update| update.durable)
    }

    /// Marks an update as being on disk. Updates get there in order.
    pub(crate) fn mark_durable(&mut self, update_id: UpdateId) {
        let update = self.pending.iter_mut().find(|update| update.id() == update_id);
        let update = update.expect("an update stays in its stream until it is on disk and acknowledged");
        update.durable = true;
        self.durable_state = Some(update.status.state);
    }

    /// True when nothing is left of it but to write that its end is acknowledged.
    pub(crate) fn is_over(&self) -> bool {
        self.has_ended() && self.pending.iter().all(|update| update.acknowledged)
    }

    /// True when the newest state is terminal and on disk.
    pub(crate) fn has_ended(&self) -> bool {
        self.durable_state.is_some_and(TaskState::is_terminal)
    }
}
