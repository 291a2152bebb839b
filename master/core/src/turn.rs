//! One turn of the machine: the time of an event, and where its actions go.

use apportion_types::{
    Time,
    protocol::{
        agent::{MasterMessage, RefuseCode},
        scheduler::{ErrorCode, Event as SchedulerEvent},
    },
};

use crate::{
    action::{Action, Actions, OperatorError, OperatorReply},
    event::{ConnId, RequestId},
};

/// Handed through everything that handles an event.
pub(crate) struct Turn<'a> {
    /// When the event happened.
    pub(crate) now: Time,
    /// What is to be done about it, in order.
    pub(crate) actions: &'a mut Actions,
}

impl Turn<'_> {
    pub(crate) fn tell_scheduler(&mut self, conn: ConnId, event: SchedulerEvent) {
        self.actions.push(Action::ToScheduler { conn, event });
    }

    pub(crate) fn tell_agent(&mut self, conn: ConnId, message: MasterMessage) {
        self.actions.push(Action::ToAgent { conn, message });
    }

    /// Says why a scheduler's stream ends, and ends it.
    pub(crate) fn end_scheduler(&mut self, conn: ConnId, code: ErrorCode, message: impl Into<String>) {
        self.tell_scheduler(conn, SchedulerEvent::Error { code, message: message.into() });
        self.actions.push(Action::CloseScheduler { conn });
    }

    /// Ends an agent's stream without a word: it is to open another.
    pub(crate) fn close_agent(&mut self, conn: ConnId) {
        self.actions.push(Action::CloseAgent { conn });
    }

    /// Says why an agent's stream ends, and ends it.
    pub(crate) fn refuse_agent(&mut self, conn: ConnId, code: RefuseCode, message: impl Into<String>) {
        self.tell_agent(conn, MasterMessage::Refuse { code, message: message.into() });
        self.close_agent(conn);
    }

    pub(crate) fn reply(&mut self, request: RequestId, result: Result<OperatorReply, OperatorError>) {
        self.actions.push(Action::Reply { request, result });
    }
}
